"""A program of its own for trouble that a process has as a whole: `python -m trouble.child WHAT`.

It says one line when it is under way and all that it told is exported, and waits to be killed.
"""

import sys

from opentelemetry import _logs, metrics, trace

import trouble.runs  # noqa: F401 - missing-target.toml looks for something in it
from otel_agents import Worker, agent, get_emitter, phase, run, task

LEASE_SECONDS = 30


def work() -> None:
    """Work on a task of a queue, as a worker that says each second that it lives."""
    reading = task("read", id="indexing-0", queue="indexing")
    with run("indexing"), Worker("indexer", "indexer-1", interval=1) as worker, reading:
        reading.lease(worker.id, LEASE_SECONDS)
        under_way()


def miss() -> None:
    """Do what would be seen if the settings were right."""
    with run("half-seen"):
        pass
    under_way()


def save() -> None:
    """Have agents at work whose tree would be saved before, were it not too large."""
    with run("unsaved"), phase("write"), agent("writer"):
        pass
    under_way()


def under_way() -> None:
    """Export what was told so far, say so, and wait for the end."""
    get_emitter().flush()
    for provider in (
        _logs.get_logger_provider(), metrics.get_meter_provider(), trace.get_tracer_provider(),
    ):  # fmt: skip
        provider.force_flush()
    print("under way", flush=True)
    sys.stdin.read()  # which ends with whoever started it


if __name__ == "__main__":
    {"work": work, "miss": miss, "save": save}[sys.argv[1]]()
