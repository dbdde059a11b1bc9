"""Waits for humans, a row each: made from the signals that tell of them.

The start says what is asked, a fact what a human said, and the end what came of it. Of several
starts and facts the earliest counts, of several ends the latest, so that repeats and disorder
change nothing. What each row was made of is kept beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otel_agents.store.rows import bounded, clean, from_json, short, to_json
from otel_agents.values import cut
from otel_agents.vocabulary import (
    ANSWER,
    ANSWERED_BY,
    DECISION,
    WAIT_ATTEMPTS,
    WAIT_ERROR,
    WAIT_ID,
    WAIT_PRIORITY,
    WAIT_REASON,
    WAIT_TOOL,
    WAIT_TOOL_CALL,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_agents.signals import Signal
    from otel_agents.store.database import Connection

ANSWERED: Final = "human.answered"
"""The name of the fact that holds an answer."""
DECISIONS: Final = ("approved", "rejected", "answered")
MOST_TEXT: Final = 8000
"""Characters of an answer; a longer one is not taken, and of a signal's the beginning is kept."""
_LONG: Final = 4000  # characters of what is asked, and of an error
_NAME: Final = 200
_LONGEST: Final = 1e9  # seconds; a longer wait is garbage
# Which signal says best what the wait is.
_RANKS: Final = {"start": 0, "end": 1, "fact": 2}
_ABOUT: Final = (
    "wait_id", "workflow", "phase", "agent", "task_id", "reason", "tool", "tool_call_id",
    "attempts", "last_error", "priority", "trace_id", "span_id", "asked_ns",
)  # fmt: skip
_COLUMNS: Final = (
    *_ABOUT, "decision", "answer", "answered_by", "answered_ns", "ended_ns", "result",
    "updated_ns", "said",
)  # fmt: skip
_KEEP: Final = f"""
    INSERT INTO waits (run_id, scope_id, {", ".join(_COLUMNS)})
    VALUES (?, ?, {", ".join("?" for _ in _COLUMNS)})
    ON CONFLICT (run_id, scope_id) DO UPDATE SET
        {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)}
"""  # noqa: S608 - columns of this module
_KNOWN: Final = "SELECT said FROM waits WHERE run_id = ? AND scope_id = ?"


# By its parts `about`, `answer` and `end` what was said: what it is ordered by, then the values.
_Said = dict[str, list[Any]]


def write(connection: Connection, signals: Sequence[Signal]) -> None:
    """Write what signals say of waits, within the transaction that is open."""
    known: dict[tuple[str, str], _Said] = {}
    for signal in signals:
        if signal.kind != "human" or signal.edge == "progress":
            continue
        key = short(signal.ids.run_id or ""), short(signal.scope_id or _text(signal, WAIT_ID.key))
        if not key[1] or (signal.edge == "fact" and signal.name != ANSWERED):
            continue
        if key not in known:
            row = connection.row(_KNOWN, key)
            known[key] = {} if row is None else from_json(row["said"])
        _merge(known[key], signal)
    # In one order by all writers.
    for key, said in sorted(known.items()):
        row = _row(said)
        connection.run(_KEEP, (*key, *(row[column] for column in _COLUMNS)))


def _merge(said: _Said, signal: Signal) -> None:
    """Take in what one signal says."""
    when, by = bounded(signal.time), short(signal.id)
    said["last"] = [max(when, *said.get("last", (0,)))]
    rank = [_RANKS[signal.edge], when, by]
    if "about" not in said or rank < said["about"][:3]:
        said["about"] = [*rank, _about(signal)]
    decision = _text(signal, DECISION.key)
    given = {
        "decision": decision if decision in DECISIONS else "",
        "answer": cut(clean(_text(signal, ANSWER.key)), MOST_TEXT),
        "answered_by": _name(signal, ANSWERED_BY.key),
    }
    if signal.edge == "fact" and given["decision"]:
        if "answer" not in said or [when, by] < said["answer"][:2]:
            said["answer"] = [when, by, given]
    elif signal.edge == "end" and ("end" not in said or [when, by] > said["end"][:2]):
        said["end"] = [when, by, {**given, "result": short(signal.result)}]


def _about(signal: Signal) -> dict[str, Any]:
    ids = signal.ids
    attempts = signal.attributes.get(WAIT_ATTEMPTS.key)
    asked = bounded(signal.time)
    if signal.edge == "end" and 0 <= (seconds := signal.duration or 0.0) < _LONGEST:
        asked = max(0, asked - round(seconds * 1e9))
    return {
        "wait_id": short(_text(signal, WAIT_ID.key) or signal.scope_id),
        "workflow": short(ids.workflow or ""),
        "phase": short(ids.phase or ""),
        "agent": short(ids.agent or ""),
        "task_id": short(ids.task_id or ""),
        "reason": cut(clean(_asked(signal)), _LONG),
        "tool": _name(signal, WAIT_TOOL.key),
        "tool_call_id": _name(signal, WAIT_TOOL_CALL.key),
        "attempts": bounded(attempts) if type(attempts) is int else None,
        "last_error": cut(clean(_text(signal, WAIT_ERROR.key)), _LONG),
        "priority": _name(signal, WAIT_PRIORITY.key),
        "trace_id": short(signal.trace_id),
        "span_id": short(signal.span_id),
        "asked_ns": asked,
    }


def _asked(signal: Signal) -> str:
    """Return what a human is asked; the fact's own name says nothing of it."""
    named = "" if signal.edge == "fact" else signal.name
    return _text(signal, WAIT_REASON.key) or named


def _text(signal: Signal, key: str) -> str:
    value = signal.attributes.get(key)
    return value if isinstance(value, str) else ""


def _name(signal: Signal, key: str) -> str:
    return cut(clean(_text(signal, key)), _NAME)


def _row(said: _Said) -> dict[str, Any]:
    """Return the row: what the end says of an answer is what the program took."""
    row: dict[str, Any] = {
        "decision": "", "answer": "", "answered_by": "", "answered_ns": None, "ended_ns": None,
        "result": "", "updated_ns": said["last"][0], "said": to_json(dict(sorted(said.items()))),
        **said["about"][3],
    }  # fmt: skip
    if "answer" in said:
        row |= {**said["answer"][2], "answered_ns": said["answer"][0]}
    if "end" in said:
        when, _, end = said["end"]
        row |= {"ended_ns": when, "result": end["result"]}
        if end["decision"]:
            row |= {**end, "answered_ns": row["answered_ns"] or when}
        elif end["result"] != "success":
            # It ended otherwise, and what a human said then was not taken.
            row |= {"decision": "", "answer": "", "answered_by": "", "answered_ns": None}
    return row
