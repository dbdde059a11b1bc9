"""The board Workers and queues: who works, what waits, what is stuck.

Most of it is told twice. What the server tells it knows of all programs, also of those that were
killed, and the choice of programs does not count; what the programs tell ends with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dashboards.board import Row, board
from dashboards.known import known, oldest
from dashboards.links import to_console
from dashboards.over_time import bars, lines, states
from dashboards.panels import stat_panel
from dashboards.promql import grown, now, quantile
from dashboards.questions import BAR, QUANTILES, RECENT, Query, quantiles
from dashboards.tables import Column, table_panel
from dashboards.thresholds import THRESHOLDS
from dashboards.variables import JOB
from otel_agents.server_vocabulary import (
    SERVER_BREAKER,
    SERVER_HEARTBEAT_AGE,
    SERVER_QUEUE_OLDEST,
    SERVER_QUEUE_SIZE,
    SERVER_STUCK,
    SERVER_WORKERS,
)
from otel_agents.vocabulary import (
    BREAKER_POSITION,
    BREAKER_STATES,
    CHECKPOINTS,
    HEARTBEAT_AGE,
    KPI_METRICS,
    QUEUE_OLDEST,
    QUEUE_SIZE,
    RESTORES,
    TASK_DURATION,
    WORKER_COUNT,
)

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Panel

    from dashboards.links import Links

_SERVER: Final = "As the server knows, of all programs."
_PROGRAMS: Final = "As the chosen programs tell; nothing is told any more by one that was killed."
_SILENT: Final = THRESHOLDS["WorkerMissingHeartbeat"].value
_OLD: Final = THRESHOLDS["QueueBacklogAge"].value
_OPEN: Final = BREAKER_STATES.index("open")
_BREAKER_WORDS: Final = {
    BREAKER_STATES.index(state): (state.replace("_", "-"), colour)
    for state, colour in (("closed", "green"), ("half_open", "orange"), ("open", "red"))
}


def build(links: Links) -> dict[str, Any]:
    """Return the board as Grafana's JSON."""
    return board(
        "workers",
        "Workers and queues",
        "Workers, their heartbeats, queues and tasks, circuit breakers, checkpoints, restores.",
        [
            Row("At a glance, as the server knows", _glance()),
            Row("Workers", _workers()),
            Row("Queues", _queues()),
            Row("Tasks", _tasks()),
            Row("Breakers and checkpoints", _breakers()),
        ],
        links,
    )


def _glance() -> list[Panel]:
    opened = f"count ({oldest(SERVER_BREAKER, by=['breaker'])} >= {_OPEN})"
    return [
        stat_panel(
            "Workers", f"Workers that have not stopped: running, idle or degraded. {_SERVER}",
            "short", known(SERVER_WORKERS, where={"state": "!=STOPPED"}), nothing="None known",
        ),
        stat_panel(
            "Oldest heartbeat",
            f"The longest that any worker which has not stopped was silent; red is an alert. "
            f"{_SERVER}",
            "s", oldest(SERVER_HEARTBEAT_AGE),
            steps=((_SILENT / 2, "orange"), (_SILENT, "red")), nothing="No worker",
        ),
        stat_panel(
            "Tasks pending", f"Tasks that nobody has taken yet, of all queues. {_SERVER}", "short",
            known(SERVER_QUEUE_SIZE, where={"state": "PENDING"}),
        ),
        stat_panel(
            "Oldest pending task", f"How long the oldest of them waits; red is an alert. {_SERVER}",
            "s", oldest(SERVER_QUEUE_OLDEST), steps=((_OLD / 2, "orange"), (_OLD, "red")),
            nothing="None pending",
        ),
        stat_panel(
            "Tasks stuck", f"Tasks whose lease has run out without an end. {_SERVER}", "short",
            known(SERVER_STUCK), steps=((1, "red"),),
        ),
        stat_panel(
            "Breakers open", f"Circuit breakers that let nothing through. {_SERVER}", "short",
            opened, steps=((1, "red"),),
        ),
    ]  # fmt: skip


def _workers() -> list[Panel]:
    by = ("worker_type", "state")
    return [
        lines(
            "Workers by state (server)", f"Workers by the last state each told. {_SERVER}", "short",
            Query(known(SERVER_WORKERS, by=by), "{{worker_type}} {{state}}"), width=6,
            links=[to_console("Runtime in the console", "/admin/runtime")],
        ),
        lines(
            "Workers by state (programs)", _PROGRAMS, "short",
            Query(now(WORKER_COUNT, by=by, where=JOB), "{{worker_type}} {{state}}"), width=6,
        ),
        lines(
            "Oldest heartbeat (server)",
            "The longest silence of a worker that has not stopped, by its kind and the queue it "
            f"last served. Above the line an alert fires. {_SERVER}",
            "s",
            Query(oldest(SERVER_HEARTBEAT_AGE, by=["worker_type", "queue"]),
                  "{{worker_type}} {{queue}}"),
            width=6, steps=((_SILENT, "red"),),
        ),
        lines(
            "Oldest heartbeat (programs)", f"The same within each process. {_PROGRAMS}", "s",
            Query(now(HEARTBEAT_AGE, by=["worker_type"], where=JOB, how="max"), "{{worker_type}}"),
            width=6, steps=((_SILENT, "red"),),
        ),
    ]  # fmt: skip


def _queues() -> list[Panel]:
    by = ("queue", "state")
    return [
        lines(
            "Tasks by queue and state (server)", f"Tasks that have not ended. {_SERVER}", "short",
            Query(known(SERVER_QUEUE_SIZE, by=by), "{{queue}} {{state}}"), width=6,
        ),
        lines(
            "Tasks by queue and state (programs)",
            "Open tasks that a process knows of; several that share a queue each tell their own, "
            f"and the greatest is shown. {_PROGRAMS}",
            "short",
            Query(now(QUEUE_SIZE, by=by, where=JOB, how="max"), "{{queue}} {{state}}"), width=6,
        ),
        lines(
            "Oldest pending task (server)",
            f"How long it has waited, by queue. Above the line an alert fires. {_SERVER}", "s",
            Query(oldest(SERVER_QUEUE_OLDEST, by=["queue"]), "{{queue}}"),
            width=6, steps=((_OLD, "red"),),
        ),
        lines(
            "Oldest pending task (programs)", f"How long it has waited, by queue. {_PROGRAMS}", "s",
            Query(now(QUEUE_OLDEST, by=["queue"], where=JOB, how="max"), "{{queue}}"),
            width=6, steps=((_OLD, "red"),),
        ),
    ]  # fmt: skip


def _tasks() -> list[Panel]:
    return [
        lines(
            "Task duration", "How long tasks took that ended of late.", "s",
            *quantiles(
                {name: quantile(share, TASK_DURATION, RECENT, where=JOB)
                 for share, name in QUANTILES},
                exemplars=True,
            ),
            width=6,
        ),
        bars(
            "Tasks ended by result", "A bar counts the tasks that ended in it.", "short",
            Query(grown(TASK_DURATION, BAR, by=["result"], part="count", where=JOB), "{{result}}"),
            width=6,
        ),
        table_panel(
            "Queues (server)", f"What waits and what is stuck now. {_SERVER}",
            {"queue": "Queue"},
            [
                Column("Not ended", known(SERVER_QUEUE_SIZE, by=["queue"])),
                Column("Stuck", known(SERVER_STUCK, by=["queue"]), "short", ((1, "red"),)),
                Column("Oldest pending", oldest(SERVER_QUEUE_OLDEST, by=["queue"]), "s",
                       ((_OLD, "red"),)),
            ],
            sort="Not ended", width=6, nothing="No task is open",
            links=[to_console("Runtime in the console", "/admin/runtime")],
        ),
        lines(
            "From queueing to completion",
            "What the programs reckon themselves: from a task's queueing to its last successful "
            f"end, on average since each started. {_PROGRAMS}",
            "s",
            Query(now(KPI_METRICS["time_to_completion"], by=["job"], where=JOB, how="avg"),
                  "{{job}}"),
            width=6,
        ),
    ]  # fmt: skip


def _breakers() -> list[Panel]:
    return [
        states(
            "Breakers",
            "The worst state of each circuit breaker, as the server knows of all programs and as "
            "the chosen programs tell.",
            Query(oldest(SERVER_BREAKER, by=["breaker"]), "server: {{breaker}}"),
            Query(now(BREAKER_POSITION, by=["breaker"], where=JOB, how="max"),
                  "programs: {{breaker}}"),
            words=_BREAKER_WORDS, width=12, nothing="No breaker was ever used",
        ),
        bars(
            "Checkpoints and restores by result",
            "A bar counts the checkpoints of the working tree taken in it (success), not needed as "
            "nothing had changed (skip) and that could not be taken (error: an alert), and the "
            "restores that agents asked for.",
            "short",
            Query(grown(CHECKPOINTS, BAR, by=["result"], where=JOB), "checkpoint: {{result}}"),
            Query(grown(RESTORES, BAR, by=["result"], where=JOB), "restore: {{result}}"),
            width=12,
        ),
    ]  # fmt: skip
