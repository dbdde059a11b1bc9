"""Write the reference of the events from the schemas that check them.

python docs/events.py            write docs/reference/events.md
python docs/events.py --check    exit 1 if the committed file differs
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec.inspect import (
    BoolType,
    FloatType,
    IntType,
    ListType,
    LiteralType,
    NoneType,
    StrType,
    StructType,
    UnionType,
    type_info,
)

from otel_agents.event_types import SCHEMAS, Event, check
from otel_agents.vocabulary import CRITIC_DECISION

if TYPE_CHECKING:
    from collections.abc import Mapping

    import msgspec

WHERE: Final = Path(__file__).parent / "reference" / "events.md"
_NOTE: Final = "<!-- Made by docs/events.py from the code. Do not edit. -->"
_WIDTH: Final = 100
_TIME: Final = 1_763_740_800.25  # of the lines shown: 2025-11-21T16:00:00.250Z

_MEANINGS: Final[dict[str, tuple[str, str]]] = {
    "task_id": ("", "The task, by a name of the program's own."),
    "feature": ("", "What the task is a part of."),
    "est_cost": ("USD", "What the task is thought to cost."),
    "timestamp": ("s since 1970", "When the task was queued; now, where it is not given."),
    "agent": ("", "The agent's name."),
    "model": ("", "The model it asks."),
    "tools": ("", "The names of the tools it may call."),
    "status": ("", "How the attempt ended; a critic says `approved` or `rejected`."),
    "duration_ms": ("ms", "How long it took."),
    "cost_usd": ("USD", "What the attempt cost; null where that is not known, which is not 0."),
    "result": ("", "Whether the work is good; `true` and `false` are taken too."),
    "cost": ("USD", "What the validation cost."),
    "screenshots": ("", "Paths or URLs."),
    "attempts": ("", "How many attempts there were."),
    "last_error": ("", "Why the last one was not good enough."),
    "priority": ("", "How much it matters, in the program's own words."),
    "scope": ("", "What the budget is for: a run, a task, an agent, a day."),
    "limit": ("`unit`", "What may be spent."),
    "spent": ("`unit`", "What is spent."),
    "unit": ("", "The unit of `limit` and `spent`; `USD` where it is not given."),
    "rejected": ("", "Whether the critic turned the work down."),
    "name": ("", "What the metric `otelagents.critic.decisions` calls the critic."),
}
"""Each field's unit and meaning; a field means the same in every type."""

_EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "task_queued": {"task_id": "page-1/paid", "feature": "paid", "est_cost": 0.0102},
    "agent_started": {"agent": "paid-coder", "task_id": "page-1/paid", "tools": ["notations"]},
    "agent_completed": {
        "agent": "critic", "task_id": "page-1/paid", "status": "rejected", "duration_ms": 20.5,
        "cost_usd": 0.0081,
    },
    "validation_complete": {"task_id": "page-1/paid", "result": "passed", "cost": 0.004},
    "hitl_escalated": {
        "task_id": "page-4/weight", "attempts": 2, "priority": "high",
        "last_error": "the sum is 3549 lb, the page says 3577",
    },
    "budget_warning": {"scope": "landing-book", "limit": 0.26, "spent": 0.209},
    "budget_exceeded": {"scope": "landing-book", "limit": 300_000, "spent": 300_412,
                        "unit": "tokens"},
    CRITIC_DECISION: {"rejected": True, "task_id": "page-1/paid", "agent": "critic"},
}  # fmt: skip

_HEAD: Final = f"""\
# Events

{_NOTE}

A program tells of these with `emit_event(type, payload)`; the scopes of tasks, agents and
validations are told in the same words. How to use them: [the event
stream](../how-to/event-stream.md).

- A field that is not required may be left out. Keys that a type does not name are kept in the
  event file and every other sink; plain values become attributes of an agent's span too.
- A payload that does not fit raises `EventError`, which names type and field. With
  `emit_event(…, strict=False)` it is counted (`otelagents.telemetry.dropped`) and logged instead.
- Numbers are finite, not negative and at most 10^12. Text is at most 100,000 characters, and
  redacted and cut before it leaves the process.
- A line of `logs/agent-events.jsonl`, and of `/ws?format=events`, is
  `{{"event_type", "timestamp", "payload"}}`; the time is seconds since 1970, with fractions.
- An event that was read from a scope may lack what nobody named: its task, cost or model is null
  then, and so is its `est_cost`.
"""


def events() -> str:
    """Return the page: a section for each type, in the order of the schemas."""
    sections = [_section(name, schema) for name, schema in SCHEMAS.items()]
    return "\n".join((_HEAD, *sections, _critic_decision()))


def _section(name: str, schema: type[msgspec.Struct]) -> str:
    known = type_info(schema)
    assert isinstance(known, StructType)  # noqa: S101 - for the checkers of types
    rows = [(one.name, " or ".join(_kinds(one.type)), one.required) for one in known.fields]
    said = _EXAMPLES[name]
    check(name, said)
    about = _ABOUT.get(name) or inspect.cleandoc(schema.__doc__ or "").partition("\n\n")[0]
    return _written(name, about, rows, _call(f'emit_event("{name}", ', said), said)


_ABOUT: Final = {
    "agent_started": "An agent began an attempt at a task.",
    "agent_completed": "An attempt ended.",
    "validation_complete": "The work on a task was validated.",
    "budget_warning": "A budget is nearly spent: to be told at 80 %.",
    "budget_exceeded": "More than a budget is spent.",
}
"""What is said above the table, where the schema's own words are about its fields."""


def _critic_decision() -> str:
    rows = [("rejected", "boolean", True)]
    rows += [(name, "text", False) for name in ("task_id", "agent", "name")]
    said = _EXAMPLES[CRITIC_DECISION]
    given = ", ".join(f"{key}={value!r}" for key, value in said.items()).replace("'", '"')
    about = (
        "A critic's decision, told by `record_critic_decision`: `emit_event` does not take it.\n\n"
        "Agent and task are by default those of the scope or announced agent in force. A decision "
        "that an\n`agent_completed` with status `approved` or `rejected` tells of too counts once."
    )
    return _written(CRITIC_DECISION, about, rows, f"record_critic_decision({given})", said)


def _written(
    name: str, about: str, rows: list[tuple[str, str, bool]], call: str, said: Mapping[str, Any]
) -> str:
    lines = [f"## `{name}`", "", about, "", "| Field | Type | Unit | Required | Meaning |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for field, type_, required in rows:
        unit, meaning = _MEANINGS[field]
        asked = "required" if required else ""
        lines.append(f"| `{field}` | {type_} | {unit} | {asked} | {meaning} |")
    line = Event(id="", type=name, time=_TIME, run_id=None, payload=dict(said)).line()
    lines += ["", "```python", call, "```", "", "```json", json.dumps(line), "```", ""]
    return "\n".join(lines)


def _call(before: str, said: Mapping[str, Any]) -> str:
    """Return a call with a payload, laid out as the formatter has it."""
    line = f"{before}{dict(said)})".replace("'", '"')
    if len(line) <= _WIDTH:
        return line
    function, _, type_ = before.partition("(")
    fields = "".join(f"        {field!r}: {value!r},\n" for field, value in said.items())
    return f"{function}(\n    {type_.strip()}\n    {{\n{fields}    }},\n)".replace("'", '"')


def _kinds(found: Any) -> list[str]:
    """Return what a type is called on the page, one name for each thing it may be."""
    match found:
        case UnionType(types=types):
            return [name for one in types for name in _kinds(one)]
        case LiteralType(values=values):
            return [f"`{value}`" for value in values]
        case ListType(item_type=item):
            return [f"list of {' or '.join(_kinds(item))}"]
    return [_NAMES[type(found)]]


_NAMES: Final[dict[type[Any], str]] = {
    StrType: "text", FloatType: "number", IntType: "whole number", BoolType: "boolean",
    NoneType: "null",
}  # fmt: skip


def main(arguments: list[str]) -> int:
    """Write the file, or say whether it differs."""
    made = events()
    if "--check" in arguments:
        if WHERE.exists() and WHERE.read_text("utf-8") == made:
            return 0
        sys.stderr.write("docs/reference/events.md is not what the schemas make: "
                         "run python docs/events.py\n")  # fmt: skip
        return 1
    WHERE.write_text(made, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
