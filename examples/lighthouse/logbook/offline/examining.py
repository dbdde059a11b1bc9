"""The examiner: what in a log contradicts itself, worked out from the notes on it."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from difflib import SequenceMatcher
from itertools import pairwise

from pydantic import TypeAdapter

from logbook.offline import language
from logbook.offline.model import Call, Reply, Talk
from logbook.records import Evidence, Finding, Findings, Note
from logbook.source import Passage

NOTES = TypeAdapter(list[Note])
STRINGS = TypeAdapter(list[str])
PASSAGES = TypeAdapter(list[Passage])
ALIKE = 0.9
OFTEN = 3


def examiner(talk: Talk) -> Reply:
    """Get the notes, ask the calendar, suspect, read the passages, and keep what they confirm."""
    if not talk.answers("list_notes"):
        return [Call("list_notes", {})]
    notes = NOTES.validate_json(talk.answers("list_notes")[-1])
    events = sorted((n for n in notes if n.kind == "event"), key=lambda note: note.passage)
    if not talk.answers("weekdays"):
        return [Call("weekdays", {"dates": [event.subject for event in events]})]
    calendar_days = STRINGS.validate_json(talk.answers("weekdays")[-1])
    suspicions = [
        *_measures(notes),
        *_recollections(notes),
        *_days(events, calendar_days),
        *_dead_references(notes),
        *_misspelt_names(notes),
    ]
    suspicions.sort(key=lambda finding: max(e.passage for e in finding.evidence))
    numbers = sorted({e.passage for finding in suspicions for e in finding.evidence})
    if numbers and not talk.answers("read_passages"):
        return [Call("read_passages", {"first": n, "last": n}) for n in numbers]
    read = [p for text in talk.answers("read_passages") for p in PASSAGES.validate_json(text)]
    return Findings(findings=[finding for finding in suspicions if _confirmed(finding, read)])


def _confirmed(finding: Finding, read: list[Passage]) -> bool:
    return all(
        any(e.quote in passage.text for passage in read if passage.number == e.passage)
        for e in finding.evidence
    )


def _evidence(*notes: Note) -> list[Evidence]:
    return [Evidence(passage=note.passage, quote=note.quote) for note in notes]


def _cited(notes: list[Note]) -> str:
    return ", ".join(f"[{note.passage}]" for note in notes)


def _measures(notes: list[Note]) -> Iterator[Finding]:
    """Find lasting things with more than one value."""
    things: dict[str, dict[str, list[Note]]] = defaultdict(lambda: defaultdict(list))
    for note in notes:
        if note.kind == "measure":
            unit = note.value.split()[-1]
            things[f"{note.subject} ({unit})"][note.value].append(note)
    for values in things.values():
        if len(values) > 1:
            parts = [f"{value} in {_cited(found)}" for value, found in values.items()]
            every = [note for found in values.values() for note in found]
            yield Finding(
                kind="measure",
                title=f"The {every[0].subject}: {' or '.join(values)}",
                explanation=f"The log gives {'; but '.join(parts)}.",
                evidence=_evidence(*every),
            )


def _recollections(notes: list[Note]) -> Iterator[Finding]:
    """Find numbers recalled from another day on which they were written otherwise."""
    for note in notes:
        if note.kind != "reference" or note.cites is None:
            continue
        recalled: dict[str, list[str]] = defaultdict(list)
        for number in language.numbers(note.quote):
            recalled[number.unit].append(number.value)
        first = [n for n in notes if n.passage == note.cites and n.kind in {"measure", "count"}]
        for unit, values in recalled.items():
            written = [n for n in first if n.value.split()[-1] == unit]
            if written and not {n.value for n in written} & set(values):
                yield Finding(
                    kind="recollection",
                    title=f"The {unit} of {note.subject}",
                    explanation=(
                        f"[{note.passage}] looks back at {note.subject} with "
                        f"{' and '.join(values)}; {_cited(written)}, of that day, has "
                        f"{' and '.join(n.value for n in written)}."
                    ),
                    evidence=_evidence(written[0], note),
                )


def _days(events: list[Note], calendar_days: list[str]) -> Iterator[Finding]:
    """Find days with the wrong weekday, and days that stand before the day above them."""
    dates = [_day_of_year(event.subject) for event in events]
    before = [False, *(later < earlier for earlier, later in pairwise(dates))]
    for event, weekday, early in zip(events, calendar_days, before, strict=True):
        faults = []
        if not event.subject.startswith(weekday):
            faults.append(f"the calendar makes it a {weekday}")
        if early:
            faults.append("it stands behind a later day")
        if faults:
            yield Finding(
                kind="date",
                title=f"The date {event.subject}",
                explanation=f"[{event.passage}] is dated {event.subject}; {', and '.join(faults)}.",
                evidence=_evidence(event),
            )


def _day_of_year(day: str) -> int:
    # A leap year, in which every day that a log may name exists.
    return datetime.strptime(f"{day} 2000", "%A %d %B %Y").timetuple().tm_yday  # noqa: DTZ007


def _dead_references(notes: list[Note]) -> Iterator[Finding]:
    """Find references to days on which nothing was written."""
    for note in notes:
        if note.kind == "reference" and note.cites is None:
            yield Finding(
                kind="reference",
                title=f"The reference to {note.subject}",
                explanation=f"[{note.passage}] refers to {note.subject}. {note.value}",
                evidence=_evidence(note),
            )


def _misspelt_names(notes: list[Note]) -> Iterator[Finding]:
    """Find names written once that are nearly those written often."""
    names: dict[str, list[Note]] = defaultdict(list)
    for note in notes:
        if note.kind == "name":
            names[note.subject].append(note)
    for name, found in names.items():
        for other, often in names.items():
            if len(found) == 1 and len(often) >= OFTEN and _nearly(name, other):
                yield Finding(
                    kind="name",
                    title=f"The name {name}",
                    explanation=f"[{found[0].passage}] alone has {name}; it is {other} elsewhere.",
                    evidence=_evidence(often[0], found[0]),
                )


def _nearly(name: str, other: str) -> bool:
    last, other_last = (text.split()[-1] for text in (name, other))
    return last != other_last and SequenceMatcher(None, last, other_last).ratio() >= ALIKE
