"""The finished work: an index, a timeline, the contradictions and a digest of each chapter."""

import re
from collections import Counter, defaultdict

from pydantic import BaseModel

from logbook.records import Evidence, Finding, Note
from logbook.source import Logbook

_CITATION = re.compile(r"\[(\d+)\]")


class Entry(BaseModel):
    """A line of the index: a name, with the words of each passage that mentions it."""

    name: str
    mentions: list[Evidence]


class Event(BaseModel):
    """A line of the timeline; `date` is ISO 8601."""

    date: str
    day: str
    event: Evidence


class Digest(BaseModel):
    """A chapter in a few sentences, each with the number of its passage."""

    chapter: str
    text: str


class Book(BaseModel):
    """All that is delivered."""

    title: str
    passages: int
    index: list[Entry]
    timeline: list[Event]
    findings: list[Finding]
    digests: list[Digest]

    def evidence(self) -> list[Evidence]:
        """List all words that the book quotes."""
        mentions = [e for entry in self.index for e in entry.mentions]
        events = [event.event for event in self.timeline]
        return mentions + events + [e for finding in self.findings for e in finding.evidence]

    def counts(self) -> dict[str, int]:
        """Count what is in the book."""
        parts = ("index", "timeline", "findings", "digests")
        return {part: len(getattr(self, part)) for part in parts} | {"quotes": len(self.evidence())}

    def faults(self, log: Logbook) -> list[str]:
        """List what in the book does not stand in the log."""
        faults = [
            f'passage {e.passage} has no words "{e.quote}"'
            for e in self.evidence()
            if not log.quotes(e.passage, e.quote)
        ]
        uncovered = {p.number for p in log.passages} - {e.event.passage for e in self.timeline}
        faults += [f"passage {number} is not in the timeline" for number in sorted(uncovered)]
        chapters = {chapter.title: chapter for chapter in log.chapters()}
        for digest in self.digests:
            chapter = chapters[digest.chapter]
            cited = [int(number) for number in _CITATION.findall(digest.text)]
            strays = [n for n in cited if not chapter.first <= n <= chapter.last]
            faults += [f"the digest of {digest.chapter} cites passage {n}" for n in strays]
            if not cited:
                faults.append(f"the digest of {digest.chapter} cites nothing")
        return faults

    def markdown(self) -> str:
        """Render the book."""
        lines = [f"# {self.title}: index, timeline and contradictions", ""]
        lines += ["Numbers in square brackets are passages of the log.", "", "## Digest", ""]
        for digest in self.digests:
            lines += [f"### {digest.chapter}", "", digest.text, ""]
        lines += ["## Contradictions and misprints", ""]
        for number, finding in enumerate(self.findings, 1):
            lines += [f"{number}. **{finding.title}.** {finding.explanation}"]
            lines += [f"   - “{e.quote}” [{e.passage}]" for e in finding.evidence]
        lines += ["", "## Timeline", ""]
        lines += [f"- {e.day}: “{e.event.quote}” [{e.event.passage}]" for e in self.timeline]
        lines += ["", "## Index", ""]
        for entry in self.index:
            numbers = dict.fromkeys(f"[{e.passage}]" for e in entry.mentions)
            lines.append(f"- {entry.name}: {', '.join(numbers)}")
        return "\n".join(lines) + "\n"


def bind(log: Logbook, notes: list[Note], findings: list[Finding], digests: list[Digest]) -> Book:
    """Make the book of the approved notes."""
    events = [note for note in notes if note.kind == "event"]
    timeline = [
        Event(date=str(log.when(n.subject)), day=n.subject, event=_evidence(n)) for n in events
    ]
    return Book(
        title=log.title,
        passages=len(log.passages),
        index=_index([note for note in notes if note.kind == "name"]),
        timeline=sorted(timeline, key=lambda event: (event.date, event.event.passage)),
        findings=findings,
        digests=digests,
    )


def _index(notes: list[Note]) -> list[Entry]:
    """Sort the names; a last name joins the full name, if only one full name ends so."""
    names = {note.subject for note in notes}
    lasts = Counter(name.split()[-1] for name in names if " " in name)
    full = {n.split()[-1]: n for n in names if " " in n and lasts[n.split()[-1]] == 1}
    entries: dict[str, list[Evidence]] = defaultdict(list)
    for note in notes:
        entries[full.get(note.subject, note.subject)].append(_evidence(note))
    return [Entry(name=name, mentions=entries[name]) for name in sorted(entries, key=str.lower)]


def _evidence(note: Note) -> Evidence:
    return Evidence(passage=note.passage, quote=note.quote)
