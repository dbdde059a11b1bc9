"""Signals that stand for themselves: workers, tasks, breakers and runtime events.

Each is a row by its own key, and of two signals about one thing the later one counts, so that
repeats and disorder change nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import NAMESPACE_OID, uuid5

from otel_agents.store.rows import bounded, clean, maybe, short, stamp, to_json
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
_WORKER: Final = """
    INSERT INTO ai_worker_status (worker_id, agent_type, status, circuit_open, circuit_reason,
        last_heartbeat, current_task_id, metadata, updated_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (worker_id) DO UPDATE SET
        agent_type = CASE WHEN excluded.agent_type <> '' THEN excluded.agent_type
            ELSE ai_worker_status.agent_type END,
        status = excluded.status, circuit_open = excluded.circuit_open,
        circuit_reason = excluded.circuit_reason, last_heartbeat = excluded.last_heartbeat,
        current_task_id = excluded.current_task_id, metadata = excluded.metadata,
        updated_at = excluded.updated_at
    WHERE excluded.last_heartbeat >= ai_worker_status.last_heartbeat
"""
_BREAKER: Final = """
    INSERT INTO breakers (name, state, reason, worker_id, changed_ns) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET state = excluded.state, reason = excluded.reason,
        worker_id = excluded.worker_id, changed_ns = excluded.changed_ns
    WHERE excluded.changed_ns >= breakers.changed_ns
"""
_LAST_SECOND: Final = 9e9  # of an epoch in nanoseconds that 64 bits hold
_NEWER: Final = "excluded.updated_ns >= tasks.updated_ns"


def _latest(column: str) -> str:
    """Return the rule of a column that keeps what was said last, where anything was."""
    return (
        f"{column} = CASE WHEN {_NEWER} THEN COALESCE(NULLIF(excluded.{column}, ''), "
        f"tasks.{column}) ELSE COALESCE(NULLIF(tasks.{column}, ''), excluded.{column}) END"
    )


def _latest_number(column: str) -> str:
    return (
        f"{column} = CASE WHEN {_NEWER} THEN COALESCE(excluded.{column}, tasks.{column}) "
        f"ELSE COALESCE(tasks.{column}, excluded.{column}) END"
    )


_TEXTS: Final = (
    "name", "queue", "feature", "lease_owner", "run_id", "agent_id", "persona_id", "worker_id",
)  # fmt: skip
_TASK: Final = f"""
    INSERT INTO tasks (task_id, name, queue, feature, lease_owner, run_id, agent_id, persona_id,
        worker_id, lease_acquired_ns, lease_expires_ns, status, error, skip_reason,
        created_ns, updated_ns)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (task_id) DO UPDATE SET
        {", ".join(_latest(column) for column in _TEXTS)},
        {_latest_number("lease_acquired_ns")}, {_latest_number("lease_expires_ns")},
        status = CASE WHEN {_NEWER} AND excluded.status <> '' THEN excluded.status
            ELSE tasks.status END,
        error = CASE WHEN {_NEWER} THEN excluded.error ELSE tasks.error END,
        skip_reason = CASE WHEN {_NEWER} THEN excluded.skip_reason ELSE tasks.skip_reason END,
        created_ns = CASE WHEN excluded.created_ns < tasks.created_ns
            THEN excluded.created_ns ELSE tasks.created_ns END,
        updated_ns = CASE WHEN {_NEWER} THEN excluded.updated_ns ELSE tasks.updated_ns END
"""  # noqa: S608 - made of the columns' names above
_WORKER_KEYS: Final = frozenset(
    one.key for one in (WORKER_TYPE, WORKER_STATUS, WORKER_TASK, CIRCUIT_OPEN, CIRCUIT_REASON)
)
_EVENT_KEYS: Final = frozenset(
    one.key for one in (RUNTIME_LAYER, RUNTIME_OPERATION, REASON_CODE, ENTITY_ID, PERSONA_ID)
)


def write(connection: Connection, signals: Sequence[Signal]) -> None:
    """Write what signals say of workers, tasks, breakers and the runtime."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for signal in signals:
        maker = _MAKERS.get(signal.kind)
        row = None if maker is None else maker(signal)
        if row is not None:
            found.setdefault(signal.kind, []).append(row)
    for kind, rows in found.items():
        # Several of one thing in one batch: the later one has to come last.
        rows.sort(key=lambda row: row[-1])
        connection.many(_STATEMENTS[kind], rows)


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


def _worker(signal: Signal) -> tuple[Any, ...] | None:
    worker_id = signal.ids.worker_id
    if not worker_id:
        return None
    status = _text(signal, WORKER_STATUS.key)
    if signal.edge == "end":
        status = "STOPPED"
    elif status not in WORKER_STATES:
        status = "RUNNING"
    rest = {key: value for key, value in signal.attributes.items() if key not in _WORKER_KEYS}
    heard = stamp(signal.time)
    task_id = "" if status == "STOPPED" else _text(signal, WORKER_TASK.key)
    return (
        short(worker_id), _text(signal, WORKER_TYPE.key) or short(signal.name), status,
        bool(signal.attributes.get(CIRCUIT_OPEN.key)), _text(signal, CIRCUIT_REASON.key) or None,
        heard, task_id or None, to_json(rest), heard,
    )  # fmt: skip


def _breaker(signal: Signal) -> tuple[Any, ...] | None:
    state = _text(signal, BREAKER_STATE.key)
    if not signal.name or state not in BREAKER_STATES:
        return None
    return (
        short(signal.name), state, _text(signal, BREAKER_REASON.key),
        maybe(signal.ids.worker_id), bounded(signal.time),
    )  # fmt: skip


def _task(signal: Signal) -> tuple[Any, ...] | None:
    ids = signal.ids
    if not ids.task_id:
        return None
    status = _text(signal, TASK_STATE.key)
    if signal.edge == "end":
        # What the work came to says more than the state it was last put in, but for a review.
        said = SAYS["task"].get(signal.result, "FAILED")  # type: ignore[call-overload]
        status = status if status == "IN_REVIEW" and said == "DONE" else said
    elif status not in TASK_STATES:
        status = "RUNNING" if signal.edge == "start" else ""
    why = None
    if signal.error is not None:
        why = clean(signal.error.message or signal.error.type)
    when = bounded(signal.time)
    return (
        short(ids.task_id), short(signal.name), _text(signal, TASK_QUEUE.key),
        _text(signal, TASK_FEATURE.key), _text(signal, LEASE_OWNER.key), short(ids.run_id or ""),
        short(ids.agent_id or ""), _text(signal, PERSONA_ID.key), short(ids.worker_id or ""),
        _seconds(signal, LEASE_ACQUIRED.key), _seconds(signal, LEASE_EXPIRES.key), status,
        why if status == "FAILED" else None, why if status == "SKIPPED" else None, when, when,
    )  # fmt: skip


_MAKERS: Final = {"runtime": _event, "worker": _worker, "breaker": _breaker, "task": _task}
_STATEMENTS: Final = {"runtime": _EVENT, "worker": _WORKER, "breaker": _BREAKER, "task": _TASK}
