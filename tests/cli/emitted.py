"""Signals of events that a program emitted by name."""

from __future__ import annotations

import time
from typing import Any, Final

from otel_agents.signals import Ids, Signal
from otel_agents.vocabulary import EVENT_PAYLOAD, EVENT_TYPE

_SCOPES: Final = {
    "task_queued": ("task", "fact"),
    "agent_started": ("agent", "start"),
    "agent_completed": ("agent", "end"),
    "validation_complete": ("validation", "end"),
}


def emitted(type_: str, number: int = 1, *, run_id: str | None = "run-1", **payload: Any) -> Signal:
    """Return the signal of an event; the number tells it from others of its type."""
    kind, edge = _SCOPES.get(type_, (type_, "fact"))
    attributes = {EVENT_TYPE.key: type_, EVENT_PAYLOAD.key: payload}
    return Signal(
        id=f"{type_}-{number}", kind=kind, edge=edge, name=type_, time=time.time_ns(),
        scope_id=f"{kind}-{number}", ids=Ids(run_id=run_id, task_id=payload.get("task_id")),
        attributes=attributes,
    )  # fmt: skip


def queued(number: int, **more: Any) -> Signal:
    """Return a task of a number that waits in its queue."""
    return emitted(
        "task_queued", number, task_id=f"t-{number}", feature="shop", est_cost=0.1, **more
    )


def validated(number: int, result: str = "passed", **more: Any) -> Signal:
    """Return the validation of the task of a number."""
    return emitted("validation_complete", number, task_id=f"t-{number}", result=result, **more)
