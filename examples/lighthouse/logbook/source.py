"""The log as it was written: passages, each with a number and a date."""

import calendar
import re
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Self

from pydantic import BaseModel

MONTHS = list(calendar.month_name)
DATE = re.compile(rf"\b(\d{{1,2}}) ({'|'.join(MONTHS[1:])})\b")
_PASSAGE = re.compile(r"\[(\d+)\] (\w+ \d+ \w+)\. (.+)")


class Passage(BaseModel, frozen=True):
    """One entry of the log; `day` is its date as written, such as "Tuesday 3 January"."""

    number: int
    chapter: str
    day: str
    text: str


class Chapter(BaseModel, frozen=True):
    """A chapter and the numbers of its first and last passages."""

    title: str
    first: int
    last: int


class Logbook:
    """The passages of one year's log, in the order in which they stand."""

    def __init__(self, title: str, passages: Iterable[Passage]) -> None:
        """Keep the passages; the title ends with the year."""
        self.title = title
        self.year = int(title[-4:])
        self.passages = list(passages)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a log from its Markdown: `# title`, `## chapter`, `[number] day. text`."""
        title, chapter, passages = "", "", []
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("# "):
                title = line[2:]
            elif line.startswith("## "):
                chapter = line[3:]
            elif match := _PASSAGE.fullmatch(line):
                number, day, text = match.groups()
                passages.append(Passage(number=int(number), chapter=chapter, day=day, text=text))
        return cls(title, passages)

    def bind(self, leaf: Path) -> "Logbook":
        """Return the log with a loose leaf bound in, each passage behind its namesake."""
        passages = list(self.passages)
        for line in leaf.read_text(encoding="utf-8").splitlines():
            if match := _PASSAGE.fullmatch(line):
                number, day, text = match.groups()
                place = next(i for i, p in enumerate(passages) if p.number == int(number))
                leaf_passage = passages[place].model_copy(update={"day": day, "text": text})
                passages.insert(place + 1, leaf_passage)
        return Logbook(self.title, passages)

    def first_chapters(self, count: int) -> "Logbook":
        """Return the log cut off behind its first chapters."""
        kept = {chapter.title for chapter in self.chapters()[:count]}
        return Logbook(self.title, (p for p in self.passages if p.chapter in kept))

    def chapters(self) -> list[Chapter]:
        """List the chapters in order."""
        titles = dict.fromkeys(p.chapter for p in self.passages)
        numbers = {t: [p.number for p in self.passages if p.chapter == t] for t in titles}
        return [Chapter(title=t, first=min(n), last=max(n)) for t, n in numbers.items()]

    def between(self, first: int, last: int) -> list[Passage]:
        """Return the passages numbered `first` to `last`."""
        return [p for p in self.passages if first <= p.number <= last]

    def on(self, day: date) -> list[Passage]:
        """Return the passages of a day."""
        return [p for p in self.passages if self.when(p.day) == day]

    def nearest(self, day: date) -> list[Passage]:
        """Return the last passage before a day and the first one after it."""
        dated = [(d, p) for p in self.passages if (d := self.when(p.day))]
        before = max((pair for pair in dated if pair[0] < day), key=lambda x: x[0], default=None)
        after = min((pair for pair in dated if pair[0] > day), key=lambda x: x[0], default=None)
        return [pair[1] for pair in (before, after) if pair]

    def when(self, text: str) -> date | None:
        """Read the first date in a text; None where the calendar has no such day."""
        match = DATE.search(text)
        if not match:
            return None
        try:
            return date(self.year, MONTHS.index(match[2]), int(match[1]))
        except ValueError:
            return None

    def quotes(self, number: int, quote: str) -> bool:
        """Tell whether a passage of this number contains the quote, letter by letter."""
        return any(quote in passage.text for passage in self.between(number, number))
