"""Questions about agents: the list of attempts, one of them, and what it used."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from otel_agents.errors import NotFoundError
from otel_agents.state.times import rfc3339
from otel_agents.state.view import moment
from otel_agents.store import paging
from otel_agents.store.rows import cost_of, counted, error_of, short, usage_of
from otel_agents.store.runs import cutoff

if TYPE_CHECKING:
    from otel_agents.store.database import Connection
    from otel_agents.usage import Prices

STATUSES: Final = ("starting", "running", "completed", "failed", "cancelled", "lost")
# An attempt that has not ended is lost when its run is: the run has the heartbeat.
_SELECT: Final = """
    SELECT agents.*, runs.status AS run_status, runs.updated_ns AS run_updated_ns
    FROM agents LEFT JOIN runs ON runs.run_id = agents.run_id
"""
_OPEN: Final = "agents.status IN ('starting', 'running')"
_OVER: Final = "(runs.status NOT IN ('running', 'waiting') OR runs.updated_ns < ?)"


def list_agents(
    connection: Connection,
    *,
    status: str | None,
    name: str | None,
    run_id: str | None,
    q: str | None,
    cursor: str | None,
    limit: int,
) -> dict[str, Any]:
    """Return a page of attempts, the last to start first."""
    where: list[str] = ["TRUE"]
    values: list[Any] = []
    late = cutoff()
    if status == "lost":
        where.append(f"(agents.status = 'lost' OR ({_OPEN} AND {_OVER}))")
        values.append(late)
    elif status in {"starting", "running"}:
        where.append(f"agents.status = ? AND NOT {_OVER}")
        values += [status, late]
    elif status is not None:
        where.append("agents.status = ?")
        values.append(status)
    for clause, value in (("agents.name = ?", name), ("agents.run_id = ?", run_id)):
        if value is not None:
            where.append(clause)
            values.append(short(value))
    if q:
        columns = ("agents.name", "agents.agent_id", "agents.model")
        clause, patterns = paging.contains(connection.dialect, columns, q)
        where.append(clause)
        values += patterns
    position = paging.decode("agents", cursor, int, str, str)
    if position is not None:
        where.append(
            "(agents.started_ns < ? OR (agents.started_ns = ? AND (agents.agent_id > ? "
            "OR (agents.agent_id = ? AND agents.run_id > ?))))"
        )
        values += [position[0], position[0], position[1], position[1], position[2]]
    rows = connection.rows(
        f"{_SELECT} WHERE {' AND '.join(where)} "
        "ORDER BY agents.started_ns DESC, agents.agent_id, agents.run_id LIMIT ?",
        [*values, limit + 1],
    )
    return paging.page(
        "agents",
        rows,
        limit,
        lambda row: (row["started_ns"], row["agent_id"], row["run_id"]),
        lambda row: agent_row(row, late),
    )


def agent(connection: Connection, agent_id: str) -> dict[str, Any]:
    """Return one attempt; raises NotFoundError where there is none of this id."""
    row = connection.row(
        f"{_SELECT} WHERE agents.agent_id = ? ORDER BY agents.started_ns DESC LIMIT 1",
        (short(agent_id),),
    )
    if row is None:
        message = f"There is no agent {agent_id[:200]!r} in the store."
        raise NotFoundError(message)
    return agent_row(row, cutoff())


def agent_row(row: dict[str, Any], late: int) -> dict[str, Any]:
    """Return an attempt as data."""
    status = row["status"]
    if status in {"starting", "running"}:
        over = row["run_status"] not in {"running", "waiting"} or row["run_updated_ns"] < late
        status = "lost" if over else status
    until = row["ended_ns"]
    if until is None:
        until = row["updated_ns"] if status == "lost" else time.time_ns()
    return {
        "id": row["agent_id"],
        "name": row["name"],
        "type": row["type"],
        "run_id": row["run_id"],
        "workflow": row["workflow"] or None,
        "phase": row["phase"] or None,
        "iteration": row["iteration"],
        "task_id": row["task_id"],
        "status": status,
        "attempt": row["attempt"],
        "parent_id": row["parent_id"],
        "plan_id": row["plan_id"],
        "pid": row["pid"],
        "host": row["host"] or None,
        "exit_code": row["exit_code"],
        "log_file": row["log_file"],
        "checkpoint_id": row["checkpoint_id"],
        "provider": row["provider"] or None,
        "model": row["model"] or None,
        "started_at": rfc3339(row["started_ns"]),
        "updated_at": rfc3339(row["updated_ns"]),
        "ended_at": moment(row["ended_ns"]),
        "duration_seconds": round(max(0, until - row["started_ns"]) / 1e9, 3),
        "usage": usage_of(row),
        "cost_usd": cost_of(row),
        "unpriced_tokens": row["unpriced_tokens"],
        "error": error_of(row),
    }


def telemetry(connection: Connection, prices: Prices, agent_id: str) -> dict[str, Any]:
    """Return what an attempt used, by model, and what the provider's cache did for it."""
    found = agent(connection, agent_id)
    rows = connection.rows(
        "SELECT * FROM telemetry WHERE agent_id = ? AND run_id = ? "
        "AND (model <> '' OR requests > 0) ORDER BY input_tokens + output_tokens DESC",
        (short(agent_id), found["run_id"]),
    )
    usage = found["usage"]
    read, written = usage["cache_read_tokens"], usage["cache_write_tokens"]
    saved = [
        prices.saved(counted(row), model=row["model"], provider=row["provider"])
        for row in rows
        if row["cache_read_tokens"] or row["cache_write_tokens"]
    ]
    known = [one for one in saved if one is not None]
    return {
        "agent_id": found["id"],
        "usage": usage,
        "cost_usd": found["cost_usd"],
        "unpriced_tokens": found["unpriced_tokens"],
        "by_model": [
            {
                "provider": row["provider"] or None,
                "model": row["model"] or None,
                "usage": usage_of(row),
                "cost_usd": cost_of(row),
                "unpriced_tokens": row["unpriced_tokens"],
            }
            for row in rows
        ],
        "cache": {
            "read_tokens": read,
            "write_tokens": written,
            "hit_ratio": round(read / usage["input_tokens"], 4) if usage["input_tokens"] else None,
            "saved_usd": round(sum(known), 9) if known and len(known) == len(saved) else None,
        },
    }
