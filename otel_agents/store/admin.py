"""Questions about the runtime: workers, breakers, queues, tasks and runtime events."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from otel_agents.signals import LOST_AFTER_SECONDS
from otel_agents.state.times import rfc3339
from otel_agents.state.view import moment
from otel_agents.store import paging
from otel_agents.store.alerts import list_alerts
from otel_agents.store.rows import from_json, nanoseconds, short, stamp, stamped
from otel_agents.store.runs import cutoff
from otel_agents.vocabulary import TASK_STATES

if TYPE_CHECKING:
    from otel_agents.store.database import Connection

# A task is stuck while it is held by somebody whose lease has run out.
_STUCK: Final = "(status IN ('RUNNING', 'IN_REVIEW') AND lease_expires_ns < ?)"
_MOST: Final = 500  # workers and breakers shown
_RECENT: Final = 10


def status(connection: Connection) -> dict[str, Any]:
    """Return how the runtime stands: what is at work, what is degraded, what waits."""
    now = time.time_ns()
    workers = _workers(connection, now)
    breakers = _breakers(connection)
    queue = dict.fromkeys(TASK_STATES, 0)
    for row in connection.rows("SELECT status, COUNT(*) AS number FROM tasks GROUP BY status"):
        if row["status"] in queue:
            queue[row["status"]] = row["number"]
    stuck = connection.row(f"SELECT COUNT(*) AS number FROM tasks WHERE {_STUCK}", (now,))  # noqa: S608
    running = connection.row(
        "SELECT COUNT(*) AS number FROM runs "
        "WHERE status IN ('running', 'waiting') AND (held OR updated_ns >= ?)",
        (cutoff(),),
    )
    last = events(connection, limit=1)["items"]
    degraded = {
        "workers": [one["worker_id"] for one in workers if _in_trouble(one)],
        "breakers": [one["name"] for one in breakers if one["open"]],
        "stuck_tasks": stuck["number"] if stuck else 0,
    }
    any_degraded = any(degraded.values())
    stale = [one for one in workers if one["stale"]]
    at_work = [one for one in workers if one["status"] != "STOPPED"]
    unhealthy = bool(stale) and len(stale) == len(at_work)
    return {
        "overall": "unhealthy" if unhealthy else "degraded" if any_degraded else "healthy",
        "workers": workers,
        "breakers": breakers,
        "queue": queue,
        "stuck": degraded["stuck_tasks"],
        "degraded": {**degraded, "any": any_degraded},
        "routes": _routes(connection),
        "last_event": last[0] if last else None,
        "running_runs": running["number"] if running else 0,
    }


def _workers(connection: Connection, now: int) -> list[dict[str, Any]]:
    rows = connection.rows(
        f"SELECT * FROM ai_worker_status ORDER BY updated_at DESC, worker_id LIMIT {_MOST}"  # noqa: S608
    )
    return [_worker_row(row, now) for row in rows]


def _worker_row(row: dict[str, Any], now: int) -> dict[str, Any]:
    age = max(0.0, (now - nanoseconds(row["last_heartbeat"])) / 1e9)
    return {
        "worker_id": row["worker_id"],
        "agent_type": row["agent_type"],
        "status": row["status"],
        "circuit_open": bool(row["circuit_open"]),
        "circuit_reason": row["circuit_reason"],
        "last_heartbeat": stamped(row["last_heartbeat"]),
        "age_seconds": round(age, 3),
        "stale": row["status"] != "STOPPED" and age > LOST_AFTER_SECONDS,
        "current_task_id": row["current_task_id"],
        "metadata": from_json(row["metadata"]),
        "updated_at": stamped(row["updated_at"]),
    }


def _in_trouble(worker: dict[str, Any]) -> bool:
    """Say whether a worker needs attention; one that was stopped in good order does not."""
    if worker["status"] == "STOPPED":
        return False
    return bool(worker["stale"] or worker["status"] == "DEGRADED" or worker["circuit_open"])


def _breakers(connection: Connection) -> list[dict[str, Any]]:
    """Return the breakers, open ones first; that of a worker that was stopped is open no more."""
    rows = connection.rows(
        "SELECT breakers.*, ai_worker_status.status AS worker_status FROM breakers "  # noqa: S608
        "LEFT JOIN ai_worker_status ON ai_worker_status.worker_id = breakers.worker_id "
        f"ORDER BY state = 'closed', changed_ns DESC LIMIT {_MOST}"
    )
    return [
        {
            "name": row["name"],
            "state": row["state"],
            "reason": row["reason"] or None,
            "worker_id": row["worker_id"],
            "changed_at": rfc3339(row["changed_ns"]),
            "open": row["state"] == "open" and row["worker_status"] != "STOPPED",
        }
        for row in rows
    ]


def _routes(connection: Connection) -> list[dict[str, Any]]:
    rows = connection.rows("SELECT * FROM routes ORDER BY last_used_ns DESC LIMIT 50")
    return [
        {
            "provider": row["provider"] or None,
            "model": row["model"],
            "last_used_at": rfc3339(row["last_used_ns"]),
        }
        for row in rows
    ]


def events(  # noqa: PLR0913 - the filters of the API
    connection: Connection,
    *,
    layer: str | None = None,
    operation: str | None = None,
    reason_code: str | None = None,
    entity_id: str | None = None,
    task_id: str | None = None,
    since: int | None = None,
    until: int | None = None,
    cursor: str | None = None,
    limit: int = paging.LIMIT,
) -> dict[str, Any]:
    """Return a page of runtime events, the latest first."""
    where: list[str] = ["TRUE"]
    values: list[Any] = []
    for clause, value in (
        ("layer = ?", layer), ("operation = ?", operation), ("reason_code = ?", reason_code),
        ("entity_id = ?", entity_id), ("task_id = ?", task_id),
        ("occurred_at >= ?", None if since is None else stamp(since)),
        ("occurred_at < ?", None if until is None else stamp(until)),
    ):  # fmt: skip
        if value is not None:
            where.append(clause)
            values.append(short(value))
    position = paging.decode("events", cursor, int, str)
    if position is not None:
        where.append("(occurred_at < ? OR (occurred_at = ? AND id < ?))")
        values += [stamp(position[0] * 1000)] * 2 + [_uuid(position[1])]
    rows = connection.rows(
        f"SELECT * FROM ai_runtime_events WHERE {' AND '.join(where)} "  # noqa: S608
        "ORDER BY occurred_at DESC, id DESC LIMIT ?",
        [*values, limit + 1],
    )
    return paging.page(
        "events",
        rows,
        limit,
        lambda row: (nanoseconds(row["occurred_at"]) // 1000, str(row["id"])),
        event_row,
    )


def _uuid(text: str) -> str:
    from uuid import UUID

    from otel_agents.errors import InvalidInputError

    try:
        return str(UUID(text))
    except ValueError as error:
        message = "cursor: this is no cursor of this list; leave it out to begin at the start."
        raise InvalidInputError(message, parameter="cursor") from error


def event_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a runtime event as data."""
    return {
        "id": str(row["id"]),
        "layer": row["layer"],
        "operation": row["operation"],
        "reason_code": row["reason_code"],
        "entity_id": row["entity_id"],
        "task_id": row["task_id"],
        "persona_id": row["persona_id"],
        "worker_id": row["worker_id"],
        "run_id": row["run_id"],
        "metadata": from_json(row["metadata"]),
        "occurred_at": stamped(row["occurred_at"]),
        "created_at": stamped(row["created_at"]),
    }


def tasks(
    connection: Connection,
    *,
    status: str | None,
    stuck: bool | None,
    queue: str | None,
    q: str | None,
    cursor: str | None,
    limit: int,
) -> dict[str, Any]:
    """Return a page of tasks, the last to change first, each with its latest event."""
    now = time.time_ns()
    where: list[str] = ["TRUE"]
    values: list[Any] = []
    if status is not None:
        where.append("status = ?")
        values.append(status)
    if stuck is not None:
        where.append(_STUCK if stuck else f"COALESCE(NOT {_STUCK}, TRUE)")
        values.append(now)
    if queue is not None:
        where.append("queue = ?")
        values.append(short(queue))
    if q:
        clause, patterns = paging.contains(connection.dialect, ("name", "task_id"), q)
        where.append(clause)
        values += patterns
    position = paging.decode("tasks", cursor, int, str)
    if position is not None:
        where.append("(updated_ns < ? OR (updated_ns = ? AND task_id > ?))")
        values += [position[0], position[0], position[1]]
    rows = connection.rows(
        f"SELECT * FROM tasks WHERE {' AND '.join(where)} "  # noqa: S608
        "ORDER BY updated_ns DESC, task_id LIMIT ?",
        [*values, limit + 1],
    )

    def shape(row: dict[str, Any]) -> dict[str, Any]:
        return _task_row(connection, row, now)

    return paging.page("tasks", rows, limit, lambda row: (row["updated_ns"], row["task_id"]), shape)


def _task_row(connection: Connection, row: dict[str, Any], now: int) -> dict[str, Any]:
    latest = connection.row(
        "SELECT * FROM ai_runtime_events WHERE task_id = ? "
        "ORDER BY occurred_at DESC, id DESC LIMIT 1",
        (row["task_id"],),
    )
    expires = row["lease_expires_ns"]
    held = row["status"] in {"RUNNING", "IN_REVIEW"}
    return {
        "task_id": row["task_id"],
        "name": row["name"] or None,
        "queue": row["queue"] or None,
        "feature": row["feature"] or None,
        "status": row["status"] or "PENDING",
        "stuck": held and expires is not None and expires < now,
        "error": row["error"],
        "skip_reason": row["skip_reason"],
        "lease_owner": row["lease_owner"] or None,
        "lease_acquired_at": moment(row["lease_acquired_ns"]),
        "lease_expires_at": moment(expires),
        "run_id": row["run_id"] or None,
        "agent_id": row["agent_id"] or None,
        "persona_id": row["persona_id"] or None,
        "worker_id": row["worker_id"] or None,
        "created_at": rfc3339(row["created_ns"]),
        "updated_at": rfc3339(row["updated_ns"]),
        "latest_event": None if latest is None else event_row(latest),
    }


def verify(connection: Connection) -> dict[str, Any]:
    """Return whether the runtime is healthy, and each thing that is not, as a sentence."""
    found = status(connection)
    problems = []
    for one in found["workers"]:
        name = f"Worker {one['worker_id']}"
        if one["stale"]:
            problems.append(f"{name} has not been heard of for {one['age_seconds']:.0f} s.")
        elif not _in_trouble(one):
            continue
        elif one["circuit_open"]:
            why = f": {one['circuit_reason']}" if one["circuit_reason"] else ""
            problems.append(f"{name} has its circuit open{why}.")
        elif one["status"] == "DEGRADED":
            problems.append(f"{name} is degraded.")
    for one in found["breakers"]:
        if one["open"]:
            why = f": {one['reason']}" if one["reason"] else ""
            problems.append(f"Breaker {one['name']} is open{why}.")
    if found["stuck"]:
        held = tasks(connection, status=None, stuck=True, queue=None, q=None, cursor=None, limit=3)[
            "items"
        ]
        names = ", ".join(f"{one['task_id']} ({one['lease_owner']})" for one in held)
        problems.append(f"{found['stuck']} tasks are held past their lease: {names}.")
    return {
        "healthy": not problems,
        "problems": problems,
        "workers": found["workers"],
        "breakers": found["breakers"],
        "routes": found["routes"],
        "queue": found["queue"],
        "stuck": found["stuck"],
        "events": events(connection, limit=_RECENT)["items"],
        "alerts": list_alerts(connection, status="firing", cursor=None, limit=_RECENT)["items"],
    }
