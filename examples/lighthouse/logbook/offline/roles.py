"""The six roles, each a function from what the agent was told to what it does next.

They are not clever, and their mistakes are honest ones: the planner does not know how much a
reader can take until it is told, and the reader passes over quiet entries, shortens long quotes
and misses unusual references until the critic points at them.
"""

import re
from collections.abc import Callable
from itertools import pairwise

from pydantic import TypeAdapter

from logbook.offline import examining, language
from logbook.offline.model import Call, Reply, Talk
from logbook.records import (
    Assignment,
    DigestOrder,
    Draft,
    Handover,
    Note,
    Outline,
    Plan,
    Problem,
    Query,
    Reference,
    Submission,
    Verdict,
    WorkItem,
)
from logbook.source import Passage

PASSAGES = TypeAdapter(list[Passage])
DIGEST_SENTENCES = 4
HASTY_QUOTE = 120

Told = set[tuple[int, str]]


def planner(talk: Talk) -> Reply:
    """Plan an item for each chapter, split evenly once it is said how much a reader takes."""
    outline = Outline.model_validate_json(talk.prompt)
    limits = [int(re.findall(r"\d+", refusal)[-1]) for refusal in talk.refusals()]
    items: list[WorkItem] = []
    for chapter in outline.chapters:
        size = chapter.last - chapter.first + 1
        shares = -(-size // min([size, *limits]))
        edges = [chapter.first + size * share // shares for share in range(shares + 1)]
        for first, end in pairwise(edges):
            name = f"item-{len(items) + 1:02}"
            items.append(WorkItem(id=name, chapter=chapter.title, first=first, last=end - 1))
    return Plan(items=items)


def reader(talk: Talk) -> Reply:
    """Read the item, resolve its references, write the draft, hand it over."""
    job = Assignment.model_validate_json(talk.prompt)
    if not talk.answers("read_passages"):
        return [Call("read_passages", {"first": job.item.first, "last": job.item.last})]
    passages = PASSAGES.validate_json(talk.answers("read_passages")[-1])
    told: Told = {(problem.passage, problem.reason) for problem in job.problems}
    queries = [
        Query(passage=passage.number, sentence=sentence, date=date)
        for passage in passages
        for sentence in language.sentences(passage.text)
        for date in language.dates(sentence)
        if f"as noted on {date}" in sentence or (passage.number, "citation") in told
    ]
    if queries and not talk.answers("resolve_reference"):
        return [Call("resolve_reference", query.model_dump()) for query in queries]
    if not talk.answers("write_draft"):
        targets = map(Reference.model_validate_json, talk.answers("resolve_reference"))
        notes = [_pointer(q, target) for q, target in zip(queries, targets, strict=True)]
        names = language.proper_names(passage.text for passage in passages)
        for passage in passages:
            notes += _notes(passage, names, told)
        notes.sort(key=lambda note: note.passage)
        return [Call("write_draft", {"notes": [note.model_dump() for note in notes]})]
    return Handover.model_validate_json(talk.answers("write_draft")[-1])


def _pointer(query: Query, target: Reference) -> Note:
    """Note what a reference has turned out to mean."""
    return Note(
        passage=query.passage,
        kind="reference",
        subject=query.date,
        quote=language.excerpt(query.sentence, query.date),
        cites=target.cites,
        value=target.remark,
    )


def _notes(passage: Passage, names: list[str], told: Told) -> list[Note]:
    """Note the names and numbers of a passage, and its event if anything in it was notable."""
    number = passage.number
    notes: list[Note] = []
    for sentence in language.sentences(passage.text):
        for name, form in language.mentions(sentence, names).items():
            quote = language.excerpt(sentence, form)
            notes.append(Note(passage=number, kind="name", subject=name, quote=quote))
        for found in language.numbers(sentence):
            quote = language.excerpt(sentence, found.value)
            note = Note(
                passage=number,
                kind="measure" if found.thing else "count",
                subject=found.thing or found.unit,
                value=found.value,
                quote=quote,
            )
            notes.append(note)
    if notes or language.dates(passage.text) or (number, "uncovered") in told:
        opening = language.opening(passage.text)
        hasty = len(opening) > HASTY_QUOTE and (number, "quote") not in told
        quote = opening[:HASTY_QUOTE] + "..." if hasty else language.excerpt(opening)
        notes.append(Note(passage=number, kind="event", subject=passage.day, quote=quote))
    return notes


def resolver(talk: Talk) -> Reply:
    """Look the date up; where there is none, look around it and say what may be meant."""
    query = Query.model_validate_json(talk.prompt)
    refusals = talk.refusals("passages_on")
    found = [p for text in talk.answers("passages_on") for p in PASSAGES.validate_json(text)]
    if not found and not refusals:
        return [Call("passages_on", {"date": query.date})]
    if not found:
        near = [date for date in language.dates(refusals[0]) if date != query.date]
        if near:
            return [Call("passages_on", {"date": date}) for date in near]
        return Reference(cites=None, remark=refusals[0])
    shared = {p.number: language.common_words(query.sentence, p.text) for p in found}
    best = max(shared, key=lambda number: shared[number])
    if not refusals:
        return Reference(cites=best)
    remark = refusals[0].split(";")[0] + "."
    return Reference(
        cites=None, remark=f"{remark} Perhaps [{best}] is meant." if shared[best] else remark
    )


def critic(talk: Talk) -> Reply:
    """Read the passages and the draft side by side, and list what does not hold."""
    job = Submission.model_validate_json(talk.prompt)
    if not talk.answers("read_draft"):
        item = {"first": job.item.first, "last": job.item.last}
        return [Call("read_passages", item), Call("read_draft", {"name": job.draft})]
    passages = PASSAGES.validate_json(talk.answers("read_passages")[-1])
    notes = Draft.model_validate_json(talk.answers("read_draft")[-1]).notes
    problems = [problem for passage in passages for problem in _omissions(passage, notes)]
    texts: dict[int, list[str]] = {}
    for passage in passages:
        texts.setdefault(passage.number, []).append(passage.text)
    for number, versions in texts.items():
        if len(versions) > 1:
            detail = f"the number stands on {len(versions)} passages; citing it proves nothing"
            problems.append(Problem(passage=number, reason="ambiguous", detail=detail))
    for note in notes:
        if not any(note.quote in text for text in texts[note.passage]):
            detail = f'"{note.quote}" is not in it word for word'
            problems.append(Problem(passage=note.passage, reason="quote", detail=detail))
    return Verdict(problems=problems)


def _omissions(passage: Passage, notes: list[Note]) -> list[Problem]:
    """List what the notes leave out of a passage."""
    own = [note for note in notes if note.passage == passage.number]
    problems = []
    if not any(note.kind == "event" for note in own):
        detail = "no event is noted"
        problems.append(Problem(passage=passage.number, reason="uncovered", detail=detail))
    referred = {note.subject for note in own if note.kind == "reference"}
    for date in language.dates(passage.text):
        if date not in referred:
            detail = f"it mentions {date}, and no reference is noted"
            problems.append(Problem(passage=passage.number, reason="citation", detail=detail))
    return problems


def digester(talk: Talk) -> Reply:
    """Choose the events whose words turn up most often in the chapter."""
    events = DigestOrder.model_validate_json(talk.prompt).events
    chosen = language.most_telling([event.quote for event in events], DIGEST_SENTENCES)
    lines = [f"{events[i].quote.rstrip('.')} [{events[i].passage}]." for i in chosen]
    return " ".join(lines)


ROLES: dict[str, Callable[[Talk], Reply]] = {
    "planner": planner,
    "reader": reader,
    "resolver": resolver,
    "critic": critic,
    "examiner": examining.examiner,
    "digester": digester,
}
