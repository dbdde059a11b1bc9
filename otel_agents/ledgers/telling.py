"""Telling of a limit that is nearly or wholly spent: as a fact, on the span and as a metric."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from otel_agents import runtime
from otel_agents.context import Frame
from otel_agents.runtime_events import emit_fact
from otel_agents.vocabulary import BUDGET_EVENTS, EVENT_PAYLOAD, EVENT_TYPE, NAMESPACE

if TYPE_CHECKING:
    from otel_agents.scope import Scope
    from otel_agents.state.budgets import Crossing


def owner_of(scope: Scope) -> Scope:
    """Return the nearest scope that is open and has signals of its own."""
    while (scope.ended or not scope.kind.ends) and scope.parent is not None:
        scope = scope.parent
    return scope


class Place:
    """Where an event stands."""

    def __init__(self, scope: Scope, task: str) -> None:
        around = owner_of(scope)
        self.frame = around.frame
        self.span = around.span
        self.scope_id = around.scope_id
        if task and task != self.frame.ids.task_id:
            ids = copy(self.frame.ids)
            ids.task_id = task
            self.frame = Frame(ids, self.frame.stamp, self.frame.counts)


def tell(scope: Scope, crossing: Crossing, spent: float) -> None:
    """Tell of a limit that is nearly or wholly spent: as a fact, on the span and as a metric."""
    announce(Place(scope, crossing.task), crossing, spent)


def announce(place: Place, crossing: Crossing, spent: float) -> None:
    """Tell as `tell` does, at a place that was found before."""
    label, unit, level, limit, _ = crossing
    type_ = f"budget_{level}"
    payload = _payload(label, unit, limit, spent)
    runtime.get().metrics.add(BUDGET_EVENTS, (label, unit, level))
    place.span.add_event(f"{NAMESPACE}.{type_}", payload)
    attributes = {EVENT_TYPE.key: type_, EVENT_PAYLOAD.key: payload}
    emit_fact(type_, label, attributes, place=place)


def mark(scope: Scope, what: str, label: str, unit: str, limit: float, spent: float) -> None:
    """Leave an event on the span of the scope that something happened in."""
    place = Place(scope, "")
    place.span.add_event(f"{NAMESPACE}.{what}", _payload(label, unit, limit, spent))


def _payload(label: str, unit: str, limit: float, spent: float) -> dict[str, Any]:
    shown = round(spent, 3 if unit == "second" else 9)
    return {"scope": label, "limit": limit, "spent": shown, "unit": unit}
