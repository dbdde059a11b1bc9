"""Signals that stand for themselves: workers, tasks, breakers and runtime events.

Each is a row by its own key. Of what several signals say about one thing the latest counts, field
by field, so that repeats and disorder change nothing; who said each field, and when, is kept beside
the rows in the table `facts`.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import NAMESPACE_OID, uuid5

from otel_agents.store.rows import bounded, clean, from_json, maybe, short, stamp, to_json
from otel_agents.vocabulary import (
    BREAKER_REASON,
    BREAKER_STATE,
    BREAKER_STATES,
    CIRCUIT_OPEN,
    CIRCUIT_REASON,
    ENTITY_ID,
    LAYERS,
    LEASE_ACQUIRED,
    LEASE_EXPIRES,
    LEASE_OWNER,
    NAMESPACE,
    OPERATIONS,
    PERSONA_ID,
    REASON_CODE,
    RUNTIME_LAYER,
    RUNTIME_OPERATION,
    SAYS,
    TASK_FEATURE,
    TASK_QUEUE,
    TASK_STATE,
    TASK_STATES,
    WORKER_STATES,
    WORKER_STATUS,
    WORKER_TASK,
    WORKER_TYPE,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_agents.signals import Signal
    from otel_agents.store.database import Connection

_EVENT: Final = """
    INSERT INTO ai_runtime_events (id, layer, operation, reason_code, entity_id, task_id,
        persona_id, worker_id, run_id, metadata, occurred_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING
"""
_KNOWN: Final = "SELECT said FROM facts WHERE kind = ? AND name = ?"
_KEEP: Final = """
    INSERT INTO facts (kind, name, said, updated_ns) VALUES (?, ?, ?, ?)
    ON CONFLICT (kind, name) DO UPDATE SET said = excluded.said, updated_ns = excluded.updated_ns
"""
_LAST_SECOND: Final = 9e9  # of an epoch in nanoseconds that 64 bits hold
_COLUMNS: Final = {
    "worker": (
        "agent_type", "status", "circuit_open", "circuit_reason", "last_heartbeat",
        "current_task_id", "metadata", "updated_at",
    ),
    "breaker": ("state", "reason", "worker_id", "changed_ns"),
    "task": (
        "name", "queue", "feature", "lease_owner", "run_id", "agent_id", "persona_id",
        "worker_id", "lease_acquired_ns", "lease_expires_ns", "status", "error", "skip_reason",
        "created_ns", "updated_ns",
    ),
}  # fmt: skip
_TABLES: Final = {
    "worker": ("ai_worker_status", "worker_id"),
    "breaker": ("breakers", "name"),
    "task": ("tasks", "task_id"),
}
_WORKER_KEYS: Final = frozenset(
    one.key for one in (WORKER_TYPE, WORKER_STATUS, WORKER_TASK, CIRCUIT_OPEN, CIRCUIT_REASON)
)
_EVENT_KEYS: Final = frozenset(
    one.key for one in (RUNTIME_LAYER, RUNTIME_OPERATION, REASON_CODE, ENTITY_ID, PERSONA_ID)
)


class _Word(NamedTuple):
    """What was said last of one field: when, by which signal, and whether it ended its scope."""

    when: int
    by: str
    value: Any
    scope: str = ""
    ended: bool = False


# What is known of one thing, by field.
_Said = dict[str, _Word]


def write(connection: Connection, signals: Sequence[Signal]) -> None:
    """Write what signals say of workers, tasks, breakers and the runtime."""
    events = []
    known: dict[tuple[str, str], _Said] = {}
    for signal in signals:
        if signal.kind == "runtime":
            if (event := _event(signal)) is not None:
                events.append(event)
            continue
        maker = _MAKERS.get(signal.kind)
        found = None if maker is None else maker(signal)
        if found is None:
            continue
        name, fields = found
        said = known.get((signal.kind, name))
        if said is None:
            said = known[signal.kind, name] = _read(connection, signal.kind, name)
        _merge(said, signal, fields)
    if events:
        connection.many(_EVENT, events)
    # In one order by all writers.
    for (kind, name), said in sorted(known.items()):
        last = max(one.when for one in said.values())
        connection.run(_KEEP, (kind, name, to_json(said), last))
        row = _ROWS[kind](said)
        connection.run(_upsert(kind), (name, *(row[column] for column in _COLUMNS[kind])))


def _read(connection: Connection, kind: str, name: str) -> _Said:
    row = connection.row(_KNOWN, (kind, name))
    if row is None:
        return {}
    return {key: _Word(*one) for key, one in from_json(row["said"]).items()}


def _merge(said: _Said, signal: Signal, fields: dict[str, Any]) -> None:
    """Take in what one signal says: of each field what was said last counts.

    The end of a scope comes after all else of it, whatever the clocks say: one may have been set
    back since it started.
    """
    when, by, scope = bounded(signal.time), short(signal.id), short(signal.scope_id)
    ended = signal.edge == "end"
    for field, value in fields.items():
        before = said.get(field)
        if before is not None:
            of_one = scope != "" and scope == before.scope
            if not (ended if of_one and ended != before.ended else (when, by) >= before[:2]):
                continue
        said[field] = _Word(when, by, value, scope, ended)
    first = said.get("first")
    if first is None or when < first.when:
        said["first"] = _Word(when, by, None)


@cache
def _upsert(kind: str) -> str:
    table, key = _TABLES[kind]
    columns = _COLUMNS[kind]
    return (
        f"INSERT INTO {table} ({key}, {', '.join(columns)}) "  # noqa: S608 - of this module
        f"VALUES (?, {', '.join('?' for _ in columns)}) ON CONFLICT ({key}) DO UPDATE SET "
        f"{', '.join(f'{column} = excluded.{column}' for column in columns)}"
    )


def _text(signal: Signal, key: str) -> str:
    value = signal.attributes.get(key)
    return short(value) if isinstance(value, str) else ""


def _seconds(signal: Signal, key: str) -> int | None:
    value = signal.attributes.get(key)
    if not isinstance(value, int | float) or not 0 <= value < _LAST_SECOND:
        return None
    return round(value * 1e9)


def _event(signal: Signal) -> tuple[Any, ...] | None:
    layer, operation = _text(signal, RUNTIME_LAYER.key), _text(signal, RUNTIME_OPERATION.key)
    if layer not in LAYERS or operation not in OPERATIONS:
        return None
    ids = signal.ids
    rest = {key: value for key, value in signal.attributes.items() if key not in _EVENT_KEYS}
    return (
        str(uuid5(NAMESPACE_OID, short(signal.id))), layer, operation,
        _text(signal, REASON_CODE.key), _text(signal, ENTITY_ID.key), maybe(ids.task_id),
        _text(signal, PERSONA_ID.key) or None, maybe(ids.worker_id), maybe(ids.run_id),
        to_json(rest), stamp(signal.time),
    )  # fmt: skip


def _worker(signal: Signal) -> tuple[str, dict[str, Any]] | None:
    worker_id = signal.ids.worker_id
    if not worker_id:
        return None
    status = _text(signal, WORKER_STATUS.key)
    if signal.edge == "end":
        status = "STOPPED"
    elif status not in WORKER_STATES:
        status = "RUNNING"
    # What a scope adds to any of its signals is not of the worker.
    rest = {
        key: value
        for key, value in signal.attributes.items()
        if not key.startswith(f"{NAMESPACE}.")
    }
    task_id = "" if status == "STOPPED" else _text(signal, WORKER_TASK.key)
    fields: dict[str, Any] = {
        "row": {
            "status": status,
            "circuit_open": bool(signal.attributes.get(CIRCUIT_OPEN.key)),
            "circuit_reason": _text(signal, CIRCUIT_REASON.key) or None,
            "current_task_id": task_id or None,
            "metadata": rest,
        }
    }
    if kind := _text(signal, WORKER_TYPE.key) or short(signal.name):
        fields["agent_type"] = kind
    return short(worker_id), fields


def _worker_row(said: _Said) -> dict[str, Any]:
    when, _, row, *_ = said["row"]
    heard = stamp(when)
    return {
        **row, "agent_type": said["agent_type"].value if "agent_type" in said else "",
        "metadata": to_json(row["metadata"]), "last_heartbeat": heard, "updated_at": heard,
    }  # fmt: skip


def _breaker(signal: Signal) -> tuple[str, dict[str, Any]] | None:
    state = _text(signal, BREAKER_STATE.key)
    if not signal.name or state not in BREAKER_STATES:
        return None
    row = {
        "state": state, "reason": _text(signal, BREAKER_REASON.key),
        "worker_id": maybe(signal.ids.worker_id),
    }  # fmt: skip
    return short(signal.name), {"row": row}


def _breaker_row(said: _Said) -> dict[str, Any]:
    when, _, row, *_ = said["row"]
    return {**row, "changed_ns": when}


def _task(signal: Signal) -> tuple[str, dict[str, Any]] | None:
    ids = signal.ids
    if not ids.task_id:
        return None
    status = _text(signal, TASK_STATE.key)
    if signal.edge == "end":
        # What the work came to says more than the state it was last put in, but for a task that was
        # handed on: to a review, or back into its queue.
        said = SAYS["task"].get(signal.result, "FAILED")  # type: ignore[call-overload]
        status = status if status in {"IN_REVIEW", "PENDING"} and said == "DONE" else said
    elif status not in TASK_STATES:
        status = "RUNNING" if signal.edge == "start" else ""
    why = None
    if signal.error is not None:
        why = clean(signal.error.message or signal.error.type)
    fields = {
        "name": short(signal.name), "queue": _text(signal, TASK_QUEUE.key),
        "feature": _text(signal, TASK_FEATURE.key),
        "lease_owner": _text(signal, LEASE_OWNER.key), "run_id": maybe(ids.run_id),
        "agent_id": maybe(ids.agent_id), "persona_id": _text(signal, PERSONA_ID.key),
        "worker_id": maybe(ids.worker_id),
        "lease_acquired_ns": _seconds(signal, LEASE_ACQUIRED.key),
        "lease_expires_ns": _seconds(signal, LEASE_EXPIRES.key),
        "state": [status, why] if status else None,
    }  # fmt: skip
    # Every signal says that the task is there; of a field it is silent about it says nothing.
    told = {key: value for key, value in fields.items() if value is not None and value != ""}
    return short(ids.task_id), {"row": None, **told}


def _task_row(said: _Said) -> dict[str, Any]:
    status, why = said["state"].value if "state" in said else ("PENDING", None)
    row = {column: said[column].value if column in said else None for column in _COLUMNS["task"]}
    return {
        **row, "status": status,
        **{column: row[column] or "" for column in ("name", "queue", "feature")},
        "error": why if status == "FAILED" else None,
        "skip_reason": why if status == "SKIPPED" else None,
        "created_ns": said["first"].when, "updated_ns": said["row"].when,
    }  # fmt: skip


_MAKERS: Final = {"worker": _worker, "breaker": _breaker, "task": _task}
_ROWS: Final = {"worker": _worker_row, "breaker": _breaker_row, "task": _task_row}
