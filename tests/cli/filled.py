"""A store as programs and workers leave it: runs, agents, workers, breakers, tasks and events."""

from __future__ import annotations

import time
from typing import Any, Final

from otel_agents.signals import Ids, ModelUse, Signal
from otel_agents.store import Batch, LogRecord
from otel_agents.usage import Usage
from otel_agents.vocabulary import (
    BREAKER_REASON,
    BREAKER_STATE,
    ENTITY_ID,
    LEASE_EXPIRES,
    LEASE_OWNER,
    REASON_CODE,
    RUNTIME_LAYER,
    RUNTIME_OPERATION,
    TASK_QUEUE,
    TASK_STATE,
    WORKER_STATUS,
    WORKER_TYPE,
)

from state.build import SECOND, Story, shop  # isort: skip

EVIL: Final = "a\x1b]0;owned\x07\u202eexe"
CACHED: Final = Usage(
    input_tokens=1000, cache_read_tokens=400, output_tokens=50, requests=2, tool_calls=3
)


def ago(seconds: float) -> int:
    """Return a time so many seconds ago, in nanoseconds since the epoch."""
    return time.time_ns() - round(seconds * SECOND)


def fact(kind: str, name: str = "", *, at: float = 0.0, ids: Ids | None = None, **more: Any) -> Any:
    """Return a fact of so many seconds ago; attributes by their keys."""
    moment = ago(at)
    return Signal(
        id=f"{kind}-{name}-{moment}", kind=kind, edge="fact", name=name, time=moment,
        scope_id=f"{kind}-{name}", ids=ids or Ids(), attributes=more,
    )  # fmt: skip


def event(number: int, *, at: float = 0.0, layer: str = "tool_runtime", **more: Any) -> Signal:
    """Return a runtime event: a retry of the search tool, the odd ones for a time-out."""
    told = {
        RUNTIME_LAYER.key: layer,
        RUNTIME_OPERATION.key: "RETRY",
        REASON_CODE.key: "timeout" if number % 2 else "rate_limited",
        ENTITY_ID.key: "search",
        **more,
    }
    ids = Ids(run_id="run-1", task_id=f"task-{number}")
    found: Signal = fact("runtime", f"event-{number}", at=at, ids=ids, **told)
    return found


def worker(name: str, status: str = "RUNNING", *, at: float = 0.0) -> Signal:
    """Return a worker's heartbeat of so many seconds ago."""
    moment = ago(at)
    return Signal(
        id=f"{name}-{moment}", kind="worker", edge="progress", name="indexer", time=moment,
        scope_id=name, ids=Ids(worker_id=name),
        attributes={WORKER_TYPE.key: "indexer", WORKER_STATUS.key: status, "slots": 4},
    )  # fmt: skip


def breaker(name: str, state: str, reason: str = "") -> Signal:
    """Return a breaker's state."""
    attributes = {BREAKER_STATE.key: state, BREAKER_REASON.key: reason}
    found: Signal = fact("breaker", name, **attributes)
    return found


def task(name: str, state: str, *, lease_ends_in: float | None = None) -> Signal:
    """Return a task's state in the queue `digest`, leased for some seconds more."""
    attributes: dict[str, Any] = {TASK_STATE.key: state, TASK_QUEUE.key: "digest"}
    if lease_ends_in is not None:
        attributes |= {
            LEASE_OWNER.key: "w-1",
            LEASE_EXPIRES.key: time.time() + lease_ends_in,
        }
    found: Signal = fact("task", name, ids=Ids(task_id=name), **attributes)
    return found


def failing() -> Story:
    """Return the story of a later run whose one agent failed twice and was cancelled once."""
    story = Story("run-2", "press", begin=ago(60)).start("run", "r2", "press")
    for attempt, result in enumerate(("failure", "error", "cancellation"), 1):
        scope = f"writer-{attempt}"
        story.start(
            "agent", scope, "writer", parent="r2", phase="write", attempt=attempt, model="gpt-5"
        )
        story.wait(3)
        more: dict[str, Any] = {"usage": CACHED, "cost": 0.01} if attempt == 1 else {}
        story.end(scope, result, error=(EVIL, f"try {attempt} {EVIL}"), **more)
    story.signals[2].models = [
        ModelUse(provider="openai", model="gpt-5", usage=CACHED, cost=0.01),
    ]
    return story.end("r2", "failure")


def healthy() -> Batch:
    """Return a store's content in which nothing is wrong."""
    signals = [
        *shop(begin=ago(600)).signals,
        *failing().signals,
        worker("w-1"),
        worker("w-2", "IDLE", at=2),
        breaker("search", "closed"),
        task("t-1", "PENDING"),
        task("t-2", "RUNNING", lease_ends_in=3600),
        *(event(number, at=100 - number) for number in range(1, 8)),
        event(8, at=1, layer="provider_runtime", fallback="gpt-5-mini", note=EVIL),
    ]
    logs = [
        LogRecord(
            time=ago(50 - number), severity=9, severity_text="INFO", body=f"line {number} {EVIL}",
            service="press", run_id="run-2", agent_id="writer-1",
        )
        for number in range(5)
    ]  # fmt: skip
    return Batch(signals=signals, logs=logs)


def degraded() -> Batch:
    """Return one in which all kinds of things are wrong."""
    return Batch(
        signals=[
            worker("w-1", at=90),
            worker("w-2", "DEGRADED"),
            breaker("search", "open", f"5 failures {EVIL}"),
            task("t-1", "RUNNING", lease_ends_in=-60),
            event(1),
        ]
    )
