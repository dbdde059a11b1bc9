"""How things stand right now, in a few rows each: what the server's gauges are made from.

Each question is one statement that reads what is under way by an index, so that a store of many
ended runs and tasks costs no more than a young one. Names are asked for once, of the last day.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_agents.signals import LOST_AFTER_SECONDS
from otel_agents.store.alerts import count_firing
from otel_agents.store.rows import nanoseconds, stamp

if TYPE_CHECKING:
    from otel_agents.store.database import Connection

DAY: Final = 86_400 * 10**9
HOUR: Final = 3_600 * 10**9
_LATE: Final = int(LOST_AFTER_SECONDS * 1e9)
_MOST: Final = 2000  # rows of an answer

# By the time they were last heard of, and not by status: runs that were killed keep theirs for as
# long as they are kept at all.
_RUNS: Final = f"""
    SELECT workflow, status, CASE WHEN updated_ns < ? AND NOT held THEN 1 ELSE 0 END AS late,
        COUNT(*) AS number, MIN(CASE WHEN told_ns > 0 THEN told_ns ELSE started_ns END) AS told_ns,
        MIN(waiting_ns) AS waiting_ns
    FROM (
        SELECT * FROM runs WHERE updated_ns >= ? AND ended_ns IS NULL AND folded > 0 AND NOT held
        UNION ALL SELECT * FROM runs WHERE held AND ended_ns IS NULL AND folded > 0
    ) AS found
    GROUP BY 1, 2, 3 LIMIT {_MOST}
"""  # noqa: S608
# A task that was held before waits since it was put back. Nobody will take one whose run failed or
# was given up; one whose run went well may have been left for others on purpose.
_TASKS: Final = f"""
    SELECT queue, status, COUNT(*) AS number,
        SUM(CASE WHEN status <> 'PENDING' AND lease_expires_ns < ? THEN 1 ELSE 0 END) AS stuck,
        MIN(CASE WHEN lease_acquired_ns IS NULL THEN created_ns ELSE updated_ns END) AS since_ns
    FROM tasks WHERE status IN ('PENDING', 'RUNNING', 'IN_REVIEW') AND NOT EXISTS (
        SELECT 1 FROM runs WHERE runs.run_id = tasks.run_id AND status IN ('failed', 'canceled')
    )
    GROUP BY queue, status LIMIT {_MOST}
"""  # noqa: S608
_WORKERS: Final = f"""
    SELECT agent_type, status, queue, COUNT(*) AS number, MIN(last_heartbeat) AS oldest
    FROM (
        SELECT agent_type, status, last_heartbeat, COALESCE(
            (SELECT NULLIF(queue, '') FROM tasks WHERE tasks.task_id = workers.current_task_id),
            (SELECT queue FROM tasks WHERE tasks.worker_id = workers.worker_id
             ORDER BY updated_ns DESC LIMIT 1),
            ''
        ) AS queue
        FROM ai_worker_status AS workers WHERE last_heartbeat >= ?
    ) AS heard
    GROUP BY agent_type, status, queue LIMIT {_MOST}
"""  # noqa: S608
_BREAKERS: Final = f"""
    SELECT name, state, ai_worker_status.status AS worker_status FROM breakers
    LEFT JOIN ai_worker_status ON ai_worker_status.worker_id = breakers.worker_id
    WHERE state = 'closed' OR changed_ns >= ? ORDER BY changed_ns DESC LIMIT {_MOST}
"""  # noqa: S608


class Standing(NamedTuple):
    """Rows of what is under way; times are nanoseconds since the epoch.

    Attributes:
        runs: By workflow and status: `late` of those not heard of for `LOST_AFTER_SECONDS` but
            within the last hour, `number`, and the earliest `told_ns` and `waiting_ns`.
        tasks: Those not ended, by queue and status: `number`, `stuck`, and the earliest `since_ns`.
        workers: Those heard of within the last hour, by type, status and the queue of the task that
            they hold or held last: `number`, and the `oldest_ns` of their last heartbeats. One that
            was killed and has come back under another id is missed no longer than that.
        breakers: `name` and `state`; one that has not been closed for over a day is left out, as
            it is nobody's any more, and that of a worker that was stopped counts as closed.
        alerts: How many fire, by severity.

    """

    runs: list[dict[str, Any]]
    tasks: list[dict[str, Any]]
    workers: list[dict[str, Any]]
    breakers: list[dict[str, Any]]
    alerts: dict[str, int]


def standing(connection: Connection, now: int) -> Standing:
    """Return how things stand at a time in nanoseconds since the epoch."""
    workers = connection.rows(_WORKERS, (stamp(now - HOUR),))
    breakers = connection.rows(_BREAKERS, (now - DAY,))
    return Standing(
        runs=connection.rows(_RUNS, (now - _LATE, now - HOUR)),
        tasks=connection.rows(_TASKS, (now,)),
        workers=[{**row, "oldest_ns": nanoseconds(row["oldest"])} for row in workers],
        breakers=[
            {
                "name": row["name"],
                "state": "closed" if row["worker_status"] == "STOPPED" else row["state"],
            }
            for row in breakers
        ],
        alerts=count_firing(connection, now),
    )


def names(connection: Connection, now: int) -> tuple[dict[str, int], dict[str, int]]:
    """Return the workflows and the queues of the last day, with when each was last heard of."""
    workflows = connection.rows(
        "SELECT workflow, MAX(updated_ns) AS last FROM runs "  # noqa: S608 - a number of ours
        f"WHERE updated_ns >= ? AND folded > 0 GROUP BY workflow LIMIT {_MOST}",
        (now - DAY,),
    )
    queues = connection.rows(
        "SELECT queue, MAX(updated_ns) AS last FROM tasks "  # noqa: S608
        f"WHERE updated_ns >= ? GROUP BY queue LIMIT {_MOST}",
        (now - DAY,),
    )
    return (
        {row["workflow"]: row["last"] for row in workflows},
        {row["queue"]: row["last"] for row in queues},
    )
