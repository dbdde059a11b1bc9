"""Questions about runs: the list, one run in full, its signals, what was spent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from otel_agents.errors import NotFoundError
from otel_agents.signals import LOST_AFTER_SECONDS, decode_line
from otel_agents.state.bill import Bill
from otel_agents.state.run import Spent
from otel_agents.state.times import rfc3339
from otel_agents.state.view import as_data, error_data, moment, percent, usage_data, usd
from otel_agents.store import paging, sums
from otel_agents.store.projection import models_of
from otel_agents.store.rows import (
    SPENT_SUMS,
    cost_of,
    error_of,
    from_json,
    short,
    usage_of,
)
from otel_agents.vocabulary import AGENT_ATTEMPT, RESULT, SAYS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_agents.state.report import RunReport
    from otel_agents.state.run import RunState, Scope
    from otel_agents.store.database import Connection

STATUSES: Final = ("running", "waiting", "succeeded", "failed", "canceled", "lost")
GROUPS: Final = ("workflow", "phase", "agent", "model", "day")
_OPEN: Final = "status IN ('running', 'waiting')"


def cutoff() -> int:
    """Return the time since which a run under way must have been heard of."""
    return time.time_ns() - int(LOST_AFTER_SECONDS * 1e9)


def list_runs(
    connection: Connection,
    *,
    status: str | None,
    workflow: str | None,
    q: str | None,
    since: int | None,
    until: int | None,
    cursor: str | None,
    limit: int,
) -> dict[str, Any]:
    """Return a page of runs, the last to start first."""
    where, values = _filters(status, workflow, since, until)
    if q:
        columns = ("run_id", "workflow", "goal", "work_order_id")
        clause, patterns = paging.contains(connection.dialect, columns, q)
        where.append(clause)
        values += patterns
    position = paging.decode("runs", cursor, int, str)
    if position is not None:
        where.append("(started_ns < ? OR (started_ns = ? AND run_id > ?))")
        values += [position[0], position[0], position[1]]
    rows = connection.rows(
        f"SELECT * FROM runs WHERE {' AND '.join(where)} "  # noqa: S608 - the clauses above
        "ORDER BY started_ns DESC, run_id LIMIT ?",
        [*values, limit + 1],
    )
    late = cutoff()
    return paging.page(
        "runs",
        rows,
        limit,
        lambda row: (row["started_ns"], row["run_id"]),
        lambda row: run_row(row, late),
    )


def _filters(
    status: str | None, workflow: str | None, since: int | None, until: int | None
) -> tuple[list[str], list[Any]]:
    # A run whose row is not made yet has no workflow and no scope that anything is known of.
    where: list[str] = ["started_ns > 0"]
    values: list[Any] = []
    if status == "lost":
        where.append(f"{_OPEN} AND NOT held AND updated_ns < ?")
        values.append(cutoff())
    elif status in {"running", "waiting"}:
        where.append("status = ? AND (held OR updated_ns >= ?)")
        values += [status, cutoff()]
    elif status is not None:
        where.append("status = ?")
        values.append(status)
    for clause, value in (
        ("workflow = ?", None if workflow is None else short(workflow)),
        ("started_ns >= ?", since), ("started_ns < ?", until),
    ):  # fmt: skip
        if value is not None:
            where.append(clause)
            values.append(value)
    return where, values


def run_row(row: dict[str, Any], late: int) -> dict[str, Any]:
    """Return a row of the list as data."""
    status = row["status"]
    lost = status in {"running", "waiting"} and row["updated_ns"] < late and not row["held"]
    seconds = row["seconds"]
    if row["ended_ns"] is None:
        until = row["updated_ns"] if lost else time.time_ns()
        seconds = max(0, until - row["started_ns"]) / 1e9
    share = row["share"]
    return {
        "run_id": row["run_id"],
        "workflow": row["workflow"] or None,
        "status": "lost" if lost else status,
        "percent": percent(share),
        "started_at": rfc3339(row["started_ns"]),
        "updated_at": rfc3339(row["updated_ns"]),
        "ended_at": moment(row["ended_ns"]),
        "duration_seconds": round(seconds or 0.0, 3),
        "work_order_id": row["work_order_id"] or None,
        "correlation_id": row["correlation_id"] or None,
        "plan_id": row["plan_id"] or None,
        "goal": row["goal"] or None,
        "phase": row["phase"] or None,
        "iteration": row["iteration"],
        "max_iterations": row["max_iterations"],
        "agents": _agents(from_json(row["agents"]), lost=lost),
        "usage": usage_of(row),
        "cost_usd": cost_of(row),
        "unpriced_tokens": row["unpriced_tokens"],
        "error": {"type": "lost", "message": f"no sign of life since {rfc3339(row['updated_ns'])}"}
        if lost
        else error_of(row),
    }


def _agents(counts: dict[str, int], *, lost: bool) -> dict[str, int]:
    if lost and "running" in counts:
        counts["lost"] = counts.pop("running") + counts.get("lost", 0)
    return counts


def latest_id(connection: Connection) -> str:
    """Return the id of the run that started last; raises NotFoundError where there is none."""
    row = connection.row("SELECT run_id FROM runs ORDER BY started_ns DESC, run_id DESC LIMIT 1")
    if row is None:
        message = (
            "No run has been recorded yet: start a program with `opentelemetry-instrument`, "
            "or try `otel-agents demo`."
        )
        raise NotFoundError(message)
    return str(row["run_id"])


def detail(connection: Connection, state: RunState, reading: RunReport) -> dict[str, Any]:
    """Return a run in full, as data."""
    main = state.main
    ids = None if main is None else main.ids
    base = state.started
    read = as_data(reading)
    scopes = sorted(state.scopes.values(), key=lambda scope: (scope.started, scope.key))
    spent = {scope.key: models_of(scope) for scope in scopes}
    trace_ids = {scope.identity.trace_id for scope in scopes} - {"", "0" * 32}
    trace_ids |= traces_of(connection, state.id)
    return {
        **read,
        "work_order_id": (ids.work_order_id if ids else None) or None,
        "correlation_id": (ids.correlation_id if ids else None) or None,
        "plan_id": (ids.plan_id if ids else None) or None,
        "goal": reading.goal or None,
        "phase": next((p.name for p in reversed(reading.phases) if p.status == "running"), None),
        "iteration": reading.iteration,
        "max_iterations": reading.iterations,
        "ended_at": moment(reading.ended),
        "duration_seconds": round(reading.seconds, 3),
        "scopes": [_scope(scope, reading, base) for scope in scopes],
        "checks": [
            {
                "kind": check.kind, "name": check.name, "phase": check.phase or None,
                "outcomes": check.outcomes, "detail": check.detail,
                "seconds": round(check.seconds, 3), "error": error_data(check.error),
            }
            for check in reading.checks
        ],
        "tasks": reading.tasks,
        "by_phase": _sums(scopes, spent, lambda scope, _: (scope.ids.phase or "", None)),
        "by_agent": _sums(scopes, spent, lambda scope, _: (scope.ids.agent or "", None)),
        "by_model": _sums(scopes, spent, lambda _, use: (use.model, use.provider)),
        "trace_ids": sorted(trace_ids),
    }  # fmt: skip


def traces_of(connection: Connection, run_id: str) -> set[str]:
    """Return the traces that hold spans of a run, as hex."""
    rows = connection.rows(
        "SELECT DISTINCT trace_id FROM traces WHERE run_id = ? AND run_id <> ''", (run_id,)
    )
    return {bytes(row["trace_id"]).hex() for row in rows}


def _scope(scope: Scope, reading: RunReport, base: int) -> dict[str, Any]:
    said, outcome = scope.identity, scope.outcome
    words = SAYS.get(
        "agent" if scope.kind == "agent" else "run" if scope.kind == "run" else "phase"
    )
    if outcome is None:
        status = "lost" if reading.over else "running"
    else:
        status = (words or {}).get(outcome, outcome)
    usage, cost, unpriced = scope.spent
    until = scope.end.time if scope.end is not None else None
    attempt = scope.attribute(AGENT_ATTEMPT.key)
    return {
        "id": scope.key,
        "parent_id": said.parent_id or None,
        "kind": scope.kind,
        "name": scope.name or None,
        "phase": scope.ids.phase,
        "iteration": scope.ids.iteration,
        "agent_id": scope.ids.agent_id,
        "attempt": attempt if isinstance(attempt, int) else None,
        "status": status,
        "result": outcome,
        "started_at": rfc3339(scope.started),
        "ended_at": moment(until),
        "start_ms": round((scope.started - base) / 1e6, 3),
        "duration_ms": None if scope.seconds is None else round(scope.seconds * 1000, 3),
        "usage": usage_data(usage),
        "cost_usd": None if unpriced else usd(cost),
        "error": error_data(scope.end.error if scope.end is not None else None),
        "trace_id": said.trace_id or None,
        "span_id": said.span_id or None,
    }


def _sums(scopes: list[Scope], spent: dict[str, Any], key: Any) -> list[dict[str, Any]]:
    """Return what was spent by a key of scope and use, the dearest first."""
    bills: dict[tuple[str, str | None], Bill] = {}
    for scope in scopes:
        for use in spent[scope.key]:
            bill = bills.setdefault(key(scope, use), Bill())
            bill.add(Spent(use.usage, use.cost, use.unpriced))
    found = [
        {
            "key": name,
            **({} if provider is None else {"provider": provider}),
            "usage": usage_data(bill.usage),
            "cost_usd": usd(bill.usd),
            "unpriced_tokens": bill.unpriced,
        }
        for (name, provider), bill in bills.items()
    ]
    return sorted(found, key=lambda row: (-row["usage"]["total_tokens"], row["key"]))


def usage(
    connection: Connection, *, by: str, since: int | None, until: int | None, run_id: str | None
) -> dict[str, Any]:
    """Return what was spent, by workflow, phase, agent, model or day (UTC); the most first."""
    day = 86_400 * 10**9
    keys = {
        "workflow": "workflow", "phase": "phase", "agent": "agent", "model": "model",
        "day": f"(time_ns / {day})",
    }  # fmt: skip
    key = keys[by]
    where: list[str] = ["TRUE"]
    values: list[Any] = []
    for clause, value in (
        ("time_ns >= ?", since), ("time_ns < ?", until),
        ("run_id = ?", None if run_id is None else short(run_id)),
    ):  # fmt: skip
        if value is not None:
            where.append(clause)
            values.append(value)
    provider = ", provider" if by == "model" else ""
    rows = connection.rows(
        f"SELECT {key} AS key{provider}, {SPENT_SUMS}, COUNT(DISTINCT run_id) AS runs, "  # noqa: S608
        "COUNT(DISTINCT NULLIF(agent_id, '')) AS agents "
        f"FROM telemetry WHERE {' AND '.join(where)} GROUP BY {key}{provider} LIMIT 1000",
        values,
    )
    items: list[dict[str, Any]] = [
        {
            "key": rfc3339(int(row["key"]) * day)[:10] if by == "day" else row["key"],
            "provider": row.get("provider"),
            "usage": usage_of(row),
            "cost_usd": cost_of(row),
            "unpriced_tokens": row["unpriced_tokens"],
            "runs": row["runs"],
            "agents": row["agents"],
        }
        for row in rows
    ]
    if by == "day":
        items.sort(key=lambda item: str(item["key"]), reverse=True)
    else:
        items.sort(key=lambda item: -item["usage"]["total_tokens"])
    return {"items": items}


def event_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return a stored signal as an event of the feed."""
    signal = decode_line(row["body"].encode())
    payload: dict[str, Any] = {}
    if signal is not None:
        ids = signal.ids
        payload = {
            "kind": signal.kind, "edge": signal.edge, "scope_id": signal.scope_id or None,
            "parent_id": signal.parent_id or None, "name": signal.name or None,
            "workflow": ids.workflow, "iteration": ids.iteration, "phase": ids.phase,
            "agent_id": ids.agent_id, "agent": ids.agent, "task_id": ids.task_id,
            "worker_id": ids.worker_id, "work_order_id": ids.work_order_id,
            "correlation_id": ids.correlation_id, "result": signal.result or None,
            "duration_seconds": signal.duration,
            "usage": None if signal.usage is None else usage_data(signal.usage),
            "cost_usd": None if signal.unpriced_tokens else signal.cost,
            "error": error_data(signal.error),
            "attributes": {
                key: value for key, value in signal.attributes.items() if key != RESULT.key
            },
            "trace_id": signal.trace_id or None, "span_id": signal.span_id or None,
        }  # fmt: skip
    return {
        "seq": row["seq"],
        "type": row["type"],
        "timestamp": rfc3339(row["time_ns"]),
        "run_id": row["run_id"] or None,
        "payload": payload,
    }


def feed(
    connection: Connection, *, after: int, limit: int, run_id: str | None
) -> list[dict[str, Any]]:
    """Return events that were stored after a number, in the order they were."""
    return [event_of(row) for row in stored(connection, after=after, limit=limit, run_id=run_id)]


def stored(
    connection: Connection,
    *,
    after: int,
    limit: int,
    run_id: str | None = None,
    types: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Return rows of signals as they are stored, in that order: seq, type, run_id, time_ns, body.

    Args:
        connection: Where to ask.
        after: The number after which to begin.
        limit: How many at the most.
        run_id: Those of one run only.
        types: Those of these types only, as in `agent.end`.

    """
    where = ["seq > ?"]
    values: list[Any] = []
    if run_id is not None:
        where.append("run_id = ?")
        values.append(short(run_id))
    if types:
        where.append(f"type IN ({', '.join('?' for _ in types)})")
        values += types

    def ask(last: dict[str, Any] | None, wanted: int) -> list[dict[str, Any]]:
        return connection.rows(
            "SELECT seq, type, run_id, time_ns, body FROM signals "  # noqa: S608 - as above
            f"WHERE {' AND '.join(where)} ORDER BY seq LIMIT ?",
            [after if last is None else last["seq"], *values, wanted],
        )

    return sums.paged("signal", sums.sound_signal, ask, limit)


def stored_by_time(
    connection: Connection,
    *,
    after: tuple[int, int],
    last: int,
    types: Sequence[str],
    limit: int,
) -> list[dict[str, Any]]:
    """Return rows of signals of some types, as `stored` does, in the order of what they tell of.

    By the index of times: of 320,000 signals of a day and a half, those of the day that are of
    the wanted types were read in 0.23 s.

    Args:
        connection: Where to ask.
        after: The time and number after which to begin.
        last: The number of the last signal to be looked at.
        types: Those of these types only.
        limit: How many at the most.

    """
    places = ", ".join("?" for _ in types)

    def ask(read: dict[str, Any] | None, wanted: int) -> list[dict[str, Any]]:
        when, seq = after if read is None else (read["time_ns"], read["seq"])
        return connection.rows(
            "SELECT seq, type, run_id, time_ns, body FROM signals "  # noqa: S608 - places only
            f"WHERE time_ns >= ? AND (time_ns > ? OR seq > ?) AND seq <= ? AND type IN ({places}) "
            "ORDER BY time_ns, seq LIMIT ?",
            [when, when, seq, last, *types, wanted],
        )

    return sums.paged("signal", sums.sound_signal, ask, limit)


def bounds(connection: Connection) -> tuple[int, int]:
    """Return the numbers of the first and the last event there is; 0, 0 where there is none."""
    row = connection.row(
        "SELECT (SELECT MIN(seq) FROM signals) AS first, (SELECT MAX(seq) FROM signals) AS last"
    )
    return (0, 0) if row is None or row["last"] is None else (row["first"], row["last"])
