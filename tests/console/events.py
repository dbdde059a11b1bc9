"""Events as programs emit them, over a day."""

from __future__ import annotations

import time
from typing import Any, Final

from otel_agents.signals import Ids, Signal, signal_id
from otel_agents.vocabulary import EVENT_PAYLOAD, EVENT_TYPE

_SCOPES: Final = {
    "task_queued": ("task", "fact"),
    "agent_started": ("agent", "start"),
    "agent_completed": ("agent", "end"),
    "validation_complete": ("validation", "end"),
}


def told(type_: str, payload: Any, *, run_id: str | None = None, seconds_ago: float = 0) -> Signal:
    """Return the signal of an event; `payload` may be what no event has."""
    kind, edge = _SCOPES.get(type_, (type_, "fact"))
    return Signal(
        id=signal_id(), kind=kind, edge=edge, name=type_,
        time=time.time_ns() - round(seconds_ago * 1e9), scope_id=signal_id(),
        ids=Ids(run_id=run_id),
        attributes={EVENT_TYPE.key: type_, EVENT_PAYLOAD.key: payload},
    )  # fmt: skip


def task(name: str, *, seconds_ago: float, good: bool = True, tries: int = 1) -> list[Signal]:
    """Return the events of a task: queued, some attempts, a critic's word and a validation."""
    feature = name.partition("-")[0]
    queued: dict[str, Any] = {"task_id": name, "feature": feature, "est_cost": 0.12}
    found = [told("task_queued", queued, seconds_ago=seconds_ago)]
    at = seconds_ago
    for attempt in range(1, tries + 1):
        at -= 5
        started = {"agent": "coder", "task_id": name, "model": "claude-sonnet-4-5"}
        found.append(told("agent_started", started, seconds_ago=at))
        at -= 40
        last = attempt == tries
        completed = {
            "agent": "coder", "task_id": name, "status": "success" if last and good else "failed",
            "duration_ms": 40_000, "cost_usd": 0.0731,
        }  # fmt: skip
        found.append(told("agent_completed", completed, seconds_ago=at))
    verdict = {"rejected": not good, "task_id": name, "agent": "critic"}
    found.append(told("critic_decision", verdict, seconds_ago=at - 2))
    result = {"task_id": name, "result": "passed" if good else "failed", "cost": 0.01}
    found.append(told("validation_complete", result, seconds_ago=at - 4))
    return found


def day() -> list[Signal]:
    """Return a day's events, with each type among the newest."""
    found = []
    for hour in range(22, 0, -1):
        for number in range(1 + hour % 3):
            good, tries = (hour + number) % 4 != 0, 1 + (hour * 7 + number) % 3
            name = f"feature{hour}-{number}"
            ago = hour * 3600 + 900 + number * 300.0
            found += task(name, seconds_ago=ago, good=good, tries=tries)
    found += task("checkout-1", seconds_ago=900)
    found += task("checkout-2", seconds_ago=600, good=False, tries=2)
    escalated = {
        "task_id": "checkout-2", "attempts": 3, "last_error": "AssertionError: total is 12.40",
        "priority": "high",
    }  # fmt: skip
    budget = {"scope": "run", "limit": 2.0, "spent": 1.64, "unit": "USD"}
    found.append(told("hitl_escalated", escalated, seconds_ago=50, run_id="run-7"))
    found.append(told("budget_warning", budget, seconds_ago=40, run_id="run-7"))
    found.append(told("budget_exceeded", {**budget, "spent": 2.07}, seconds_ago=20, run_id="run-7"))
    begun = {"agent": "planner", "task_id": "checkout-3", "tools": ["read_file", "search"]}
    found.append(told("agent_started", begun, seconds_ago=12, run_id="run-7"))
    return found
