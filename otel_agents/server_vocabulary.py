"""The metrics that the server tells of itself and of what its store knows, spelled once.

What programs count themselves ends with them: a worker that was killed tells nothing of its own
heartbeat. The server hears of all of them and goes on counting, so alerts about what is stuck,
silent or gone are made from these.
"""

from __future__ import annotations

from typing import Final

from otel_agents.words import Metric, metric

SERVER_SIGNALS: Final = metric(
    "server.signals", "counter", "{signal}", "",
    "Signals stored since the server started, by whichever process.",
)  # fmt: skip
SERVER_UNREAD: Final = metric(
    "server.signals.unread", "gauge", "{signal}", "", "Signals stored and not counted yet."
)
SERVER_BEHIND: Final = metric(
    "server.behind", "gauge", "s", "", "How long the oldest of what was sent waits to be stored."
)
SERVER_WAITING: Final = metric(
    "server.waiting", "gauge", "{request}", "", "Requests that wait to be stored."
)
STORE_SIZE: Final = metric("server.store.size", "gauge", "By", "", "What the store takes.")
STORE_LIMIT: Final = metric(
    "server.store.limit", "gauge", "By", "", "What the store may take before the oldest runs go."
)
STORE_FREE: Final = metric(
    "server.store.free", "gauge", "By", "", "What is free on the disk of a store in a file."
)
SERVER_RUNS: Final = metric(
    "server.runs", "gauge", "{run}", "workflow state",
    "Runs under way, by state: running, waiting, or lost within the last hour.",
)  # fmt: skip
RUN_SILENCE: Final = metric(
    "server.run.silence", "gauge", "s", "workflow",
    "How long the quietest running run has told of nothing but its heartbeat.",
)  # fmt: skip
HUMAN_WAIT: Final = metric(
    "server.hitl.oldest.age", "gauge", "s", "workflow", "How long the oldest wait for a human is."
)
SERVER_WORKERS: Final = metric(
    "server.workers", "gauge", "{worker}", "worker_type state", "Workers, by their last state."
)
SERVER_HEARTBEAT_AGE: Final = metric(
    "server.worker.heartbeat.age", "gauge", "s", "worker_type queue",
    "The oldest last heartbeat of workers that have not stopped, and the queue they last served.",
)  # fmt: skip
SERVER_QUEUE_SIZE: Final = metric(
    "server.queue.size", "gauge", "{task}", "queue state", "Tasks not ended, by queue and state."
)
SERVER_QUEUE_OLDEST: Final = metric(
    "server.queue.oldest.age", "gauge", "s", "queue", "How long the oldest pending task has waited."
)
SERVER_STUCK: Final = metric(
    "server.tasks.stuck", "gauge", "{task}", "queue", "Tasks whose lease has run out."
)
SERVER_BREAKER: Final = metric(
    "server.breaker.state", "gauge", "", "breaker",
    "0 closed, 1 half-open, 2 open; the worst of all processes.",
)  # fmt: skip
SERVER_ALERTS: Final = metric(
    "server.alerts", "gauge", "{alert}", "severity", "Alerts that fire, as Alertmanager told them."
)

METRICS: Final[dict[str, Metric]] = {
    value.name: value for value in list(globals().values()) if isinstance(value, Metric)
}
