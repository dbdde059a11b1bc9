"""The agents: what each is told, what it may use, and what its answer must satisfy.

They know no model. `Desk.models` names one for each role, real or offline.
"""

import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.models import Model
from pydantic_ai.usage import RunUsage

from logbook.records import (
    Draft,
    Findings,
    Handover,
    Note,
    Plan,
    Query,
    Reference,
    Verdict,
    WorkItem,
)
from logbook.source import Logbook, Passage

log = logging.getLogger("logbook")
T = TypeVar("T")
LARGEST_ITEM = 12


@dataclass(frozen=True)
class Desk:
    """What the agents can reach: the log, the folder of drafts, a model for each role."""

    log: Logbook
    drafts: Path
    models: Mapping[str, Model]
    item: WorkItem | None = None

    def draft(self, name: str) -> Draft:
        """Read a draft that a reader has written."""
        return Draft.model_validate_json((self.drafts / name).read_text(encoding="utf-8"))


planner = Agent(
    name="planner",
    deps_type=Desk,
    output_type=Plan,
    retries=2,
    instructions=(
        "You plan the indexing of a log. Divide its passages into work items for readers who work "
        "side by side: each item within one chapter, each passage in exactly one item, ids "
        "item-01, item-02 and so on in the order of the log, as few items as will do."
    ),
)

reader = Agent(
    name="reader",
    deps_type=Desk,
    output_type=Handover,
    retries=2,
    instructions=(
        "You index part of a log. Read the passages of your item, then write a draft of notes: for "
        "each passage an event; a name for each person, ship, place and instrument; a measure for "
        "each lasting property; a count for each other number; a reference for each date that the "
        "text mentions, resolved with your tool. Every quote stands word for word in the passage. "
        "If problems are given, a critic found them in earlier drafts: mend them all, and write "
        "the whole draft again. Answer with what write_draft returned."
    ),
)

resolver = Agent(
    name="resolver",
    deps_type=Desk,
    output_type=Reference,
    retries=2,
    instructions=(
        "You find the passage that a sentence of a log points to. Look up its date; of several "
        "passages choose the one that speaks of the same thing. If that day has no entry, look at "
        "the days around it; name the passage that may be meant in the remark, and cite none."
    ),
)

critic = Agent(
    name="critic",
    deps_type=Desk,
    output_type=Verdict,
    retries=2,
    instructions=(
        "You check a reader's draft against the log. It has a problem for each passage without an "
        "event (uncovered), each quote that is not word for word in its passage (quote), each date "
        "in a passage's text without a reference note of that date (citation), and each number "
        "that stands on two passages, so that a citation of it proves nothing (ambiguous). List no "
        "other problems, and none at all if the draft holds."
    ),
)

examiner = Agent(
    name="examiner",
    deps_type=Desk,
    output_type=Findings,
    retries=2,
    instructions=(
        "You look for contradictions and misprints in a whole log. Compare the notes: one lasting "
        "property with two values (measure); a number recalled otherwise than it was first written "
        "(recollection); a day whose weekday or place in the log is wrong (date); a reference to "
        "no entry (reference); a name misspelt (name). Read the passages before you accuse them, "
        "and quote them word for word."
    ),
)

digester = Agent(
    name="digester",
    deps_type=Desk,
    instructions=(
        "You write the digest of one chapter of a log from its events: about four sentences, each "
        "followed by the number of its passage in square brackets. Answer with these alone."
    ),
)


@planner.output_validator
def covers_the_log(ctx: RunContext[Desk], plan: Plan) -> Plan:
    """Send back a plan that leaves a passage out, reads one twice, or overloads a reader."""
    log = ctx.deps.log
    if len({item.id for item in plan.items}) < len(plan.items):
        message = "Each item needs an id of its own."
        raise ModelRetry(message)
    for item in plan.items:
        size = item.last - item.first + 1
        if size > LARGEST_ITEM:
            message = f"{item.id} has {size} passages; a reader takes {LARGEST_ITEM} at the most."
            raise ModelRetry(message)
    planned = [n for item in plan.items for n in range(item.first, item.last + 1)]
    wanted = sorted({passage.number for passage in log.passages})
    if sorted(planned) != wanted:
        odd = sorted(set(planned) ^ set(wanted)) or [n for n in wanted if planned.count(n) > 1]
        message = f"Each passage belongs in exactly one item; look at {odd[:5]}."
        raise ModelRetry(message)
    return plan


@reader.output_validator
def has_written(ctx: RunContext[Desk], handover: Handover) -> Handover:
    """Send back a reader who hands over a draft that is not there."""
    item = ctx.deps.item
    known = f"{item.id}.json" if item else ""
    if handover.draft != known or not (ctx.deps.drafts / known).is_file():
        message = f"There is no draft {handover.draft!r}; write {known} with write_draft first."
        raise ModelRetry(message)
    return handover


@examiner.output_validator
def quotes_hold(ctx: RunContext[Desk], findings: Findings) -> Findings:
    """Send back findings that put words into the log."""
    for evidence in (e for finding in findings.findings for e in finding.evidence):
        if not ctx.deps.log.quotes(evidence.passage, evidence.quote):
            message = f'Passage {evidence.passage} does not say "{evidence.quote}".'
            raise ModelRetry(message)
    return findings


@reader.tool
@critic.tool
@examiner.tool
def read_passages(ctx: RunContext[Desk], first: int, last: int) -> list[Passage]:
    """Read the passages numbered first to last."""
    passages = ctx.deps.log.between(first, last)
    if not passages:
        message = f"The log has no passage from {first} to {last}."
        raise ModelRetry(message)
    return passages


@reader.tool
async def resolve_reference(
    ctx: RunContext[Desk], passage: int, sentence: str, date: str
) -> Reference:
    """Ask the resolver which passage is meant by a sentence that mentions a date."""
    query = Query(passage=passage, sentence=sentence, date=date)
    return await ask(resolver, query, ctx.deps, ctx.usage)


@reader.tool
def write_draft(ctx: RunContext[Desk], notes: list[Note]) -> Handover:
    """Write the notes on your item to a file, in place of an earlier draft."""
    item = ctx.deps.item
    if item is None:
        message = "No work item lies on this desk."
        raise RuntimeError(message)
    stray = sorted({n.passage for n in notes if not item.first <= n.passage <= item.last})
    if stray:
        message = f"Your item is {item.first} to {item.last}; leave {stray} to the others."
        raise ModelRetry(message)
    log.info("  %s: %d notes on passages %d to %d", item.id, len(notes), item.first, item.last)
    path = ctx.deps.drafts / f"{item.id}.json"
    path.write_text(Draft(item=item, notes=notes).model_dump_json(indent=1), encoding="utf-8")
    return Handover(draft=path.name, notes=len(notes))


@critic.tool
def read_draft(ctx: RunContext[Desk], name: str) -> Draft:
    """Read a draft by its file name."""
    known = sorted(path.name for path in ctx.deps.drafts.glob("*.json"))
    if name not in known:
        message = f"There is no draft {name!r}; there are {known}."
        raise ModelRetry(message)
    return ctx.deps.draft(name)


@resolver.tool
def passages_on(ctx: RunContext[Desk], date: str) -> list[Passage]:
    """Look up the passages of a day, such as "14 March"."""
    log = ctx.deps.log
    day = log.when(date)
    if day is None:
        message = f"The calendar has no {date}."
        raise ModelRetry(message)
    passages = log.on(day)
    if not passages:
        near = " and ".join(f"{p.day} [{p.number}]" for p in log.nearest(day))
        message = f"No entry is dated {date}; the nearest are {near}."
        raise ModelRetry(message)
    return passages


@examiner.tool
def list_notes(ctx: RunContext[Desk]) -> list[Note]:
    """List the notes of all drafts, in the order of the log."""
    names = sorted(path.name for path in ctx.deps.drafts.glob("item-*.json"))
    return [note for name in names for note in ctx.deps.draft(name).notes]


@examiner.tool
def weekdays(ctx: RunContext[Desk], dates: list[str]) -> list[str]:
    """Ask the calendar for the weekday of each date, such as "14 March"."""
    days = [ctx.deps.log.when(date) for date in dates]
    return [f"{day:%A}" if day else "no such day" for day in days]


async def ask(
    agent: Agent[Desk, T], task: BaseModel, desk: Desk, usage: RunUsage | None = None
) -> T:
    """Run an agent on a task, with the model of its role, and return its answer."""
    model = desk.models[str(agent.name)]
    result = await agent.run(task.model_dump_json(), deps=desk, model=model, usage=usage)
    return result.output


async def stream(agent: Agent[Desk, str], task: BaseModel, desk: Desk) -> AsyncIterator[str]:
    """Run an agent on a task, and pass its words on as they come."""
    model = desk.models[str(agent.name)]
    async with agent.run_stream(task.model_dump_json(), deps=desk, model=model) as result:
        async for words in result.stream_text(delta=True):
            yield words
