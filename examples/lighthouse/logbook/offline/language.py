"""What can be read off plain sentences: names, numbers, dates, and quotes that fit."""

import calendar
import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from logbook.source import DATE, MONTHS

LONGEST_QUOTE = 160
SHORT_SENTENCE = 30
INSTRUMENTS = (
    "barometer", "chronometer", "clockwork", "fog bell", "heliograph", "lens", "rain gauge",
    "telescope", "tide gauge",
)  # fmt: skip
_CALENDAR = {*MONTHS, *calendar.day_name, *(f"{day}s" for day in calendar.day_name)}
_CAPITALS = re.compile(r"[A-Z][a-z]+(?: [A-Z][a-z]+)*")
_COUNT = re.compile(r"\b(\d+) ([a-z]{3,})")
_MEASURE = re.compile(r"[Tt]he ([a-z]+(?: [a-z]+)?) (?:stands|has|weighs|holds) (\d+ [a-z]+)")


class Number(NamedTuple):
    """A number with its unit, such as "412 gallons", and what it is the measure of, if anything."""

    value: str
    unit: str
    thing: str = ""


def sentences(text: str) -> list[str]:
    """Split a text into its sentences."""
    return re.findall(r"\S[^.!?]*[.!?]", text)


def opening(text: str) -> str:
    """Return the first sentence of a text, or the first two if the first says little."""
    first, *rest = sentences(text)
    return f"{first} {rest[0]}" if rest and len(first) < SHORT_SENTENCE else first


def numbers(sentence: str) -> list[Number]:
    """Find the numbers with a unit; those of lasting things first name the thing."""
    measures = {value: thing for thing, value in _MEASURE.findall(sentence)}
    found = [(f"{count} {unit}", unit) for count, unit in _COUNT.findall(sentence)]
    return [Number(value, unit, measures.get(value, "")) for value, unit in found]


def dates(sentence: str) -> list[str]:
    """Find the dates, such as "14 March"."""
    return [match[0] for match in DATE.finditer(sentence)]


def proper_names(texts: Iterable[str]) -> list[str]:
    """Collect the names in some texts, longest first: words with a capital inside a sentence."""
    names = set()
    for sentence in (s for text in texts for s in sentences(text)):
        for match in _CAPITALS.finditer(sentence):
            words = match[0].split()[0 if match.start() else 1 :]
            names.add(" ".join(word for word in words if word not in _CALENDAR))
    return sorted(names - {""}, key=lambda name: (-len(name), name))


def mentions(text: str, names: list[str]) -> dict[str, str]:
    """Map each known name or instrument in a text to the words that mention it.

    A last name alone counts as the full name, if only one full name ends so.
    """
    lasts = Counter(name.split()[-1] for name in names if " " in name)
    forms = {name: name for name in names}
    forms |= {n.split()[-1]: n for n in names if " " in n and lasts[n.split()[-1]] == 1}
    forms |= {instrument: instrument for instrument in INSTRUMENTS}
    found: dict[str, str] = {}
    for form, name in sorted(forms.items(), key=lambda pair: -len(pair[0])):
        text, count = re.subn(rf"\b{form}\b", "", text)
        if count:
            found.setdefault(name, form)
    return found


def excerpt(sentence: str, around: str = "") -> str:
    """Cut a long sentence down to whole clauses, word for word, from the one with `around` on."""
    if len(sentence) <= LONGEST_QUOTE:
        return sentence
    clauses = re.findall(r"[^,;]+[,;.]?", sentence)
    start = next((i for i, clause in enumerate(clauses) if around in clause), 0)
    quote = str(clauses[start]).lstrip()
    for clause in clauses[start + 1 :]:
        if len(quote + clause) > LONGEST_QUOTE:
            break
        quote += clause
    return quote.rstrip(",;")


def common_words(first: str, second: str) -> int:
    """Count the longer words that two texts share."""
    return len(set(_long_words(first)) & set(_long_words(second)))


def most_telling(lines: list[str], count: int) -> list[int]:
    """Choose the lines whose longer words turn up most often in all of them, in their order."""
    weight = Counter(word for line in lines for word in set(_long_words(line)))

    def score(index: int) -> float:
        words = _long_words(lines[index])
        return sum(weight[word] - 1 for word in words) / (len(words) + 3)

    return sorted(sorted(range(len(lines)), key=score, reverse=True)[:count])


def _long_words(text: str) -> list[str]:
    return re.findall(r"[a-z]{5,}", text.lower())
