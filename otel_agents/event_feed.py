"""What becomes of the events that a program tells: scopes, metrics, facts, spans.

One thread at a time works here, through the pipeline's jobs, in the order of the events. An event
that a scope says too is told once: the scope's signal carries the program's payload.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
from opentelemetry import context as otel_context
from opentelemetry.trace import get_current_span

from otel_agents.announced import without
from otel_agents.context import FRAME_KEY, Counts, Frame, current_frame, stamp_of
from otel_agents.humans import asked_listeners
from otel_agents.kept import kept
from otel_agents.ledgers import Ledgers
from otel_agents.runtime_events import emit_fact
from otel_agents.scope import Scope
from otel_agents.signals import Ids
from otel_agents.state.decisions import VERDICTS, Decisions
from otel_agents.tally import add
from otel_agents.tasks import TaskScope
from otel_agents.usage import Usage
from otel_agents.values import cut
from otel_agents.vocabulary import (
    AGENT_TOOLS,
    BUDGET_EVENTS,
    COST,
    COST_DIFFERENCE,
    COST_REPORTED,
    COST_TOTAL,
    CRITIC_DECISION,
    CRITIC_DECISIONS,
    EVENT_PAYLOAD,
    EVENT_TYPE,
    HITL_ESCALATIONS,
    KINDS,
    NAMESPACE,
    REQUEST_MODEL,
    TASK_ESTIMATE,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from otel_agents.announced import Announcement
    from otel_agents.humans import HumanScope
    from otel_agents.runtime import Runtime
    from otel_agents.vocabulary import Outcome

_MAX_KNOWN: Final = 10_000
_MAX_BITS: Final = 63
# The edge of a scope that is said by no event of its own: the program has told of it already.
_SILENT: Final = ""
_MICRO: Final = 9  # digits of an amount of USD: past that it is noise of binary fractions


class Told:
    """One event on its way: what was said, and the context and time it was said in."""

    __slots__ = ("announcement", "context", "payload", "said", "type", "when")

    def __init__(
        self, type_: str, said: Any, payload: dict[str, Any], context: Context, when: int
    ) -> None:
        self.type = type_
        self.said = said
        self.payload = payload
        self.context = context
        self.when = when
        self.announcement: Announcement | None = None


class _Place:
    """Where an event stands: what a fact needs of a scope."""

    def __init__(self, rt: Runtime, told: Told, task_id: str | None) -> None:
        outer = current_frame(told.context)
        ids = Ids() if outer is None else outer.ids
        counts = _known_of(rt).counts if outer is None else outer.counts
        if task_id is not None and task_id != ids.task_id:
            ids = copy(ids)
            ids.task_id = task_id
        scope = None if outer is None else outer.scope
        self.frame = Frame(ids, stamp_of(ids), counts, scope)
        self.span: Span = get_current_span(told.context)
        self.scope_id: str = "" if scope is None else scope.scope_id

    def context(self, told: Told) -> Context:
        """Return the context of the event with the ids that it names."""
        return otel_context.set_value(FRAME_KEY, self.frame, without(told.context))

    def around(self, kind: str, name: str) -> Scope | None:
        """Return the nearest open scope of a kind and name that the event was told in."""
        scope: Scope | None = self.frame.scope
        while scope is not None and not (
            scope.kind.name == kind and scope.name == name and not scope.ended
        ):
            scope = scope.parent
        return scope


class _Known:
    """What earlier events said that later ones of the process go back to."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.counts = Counts()
        self.agents: OrderedDict[tuple[str, str], list[tuple[str | None, Scope]]] = OrderedDict()
        self.tasks: OrderedDict[str, TaskScope] = OrderedDict()
        self.decisions = Decisions(_MAX_KNOWN)

    def queued(self, task_id: str, scope: TaskScope) -> None:
        self.tasks[task_id] = scope
        if len(self.tasks) > _MAX_KNOWN:
            self.tasks.popitem(last=False)

    def began(self, key: tuple[str, str], run_id: str | None, scope: Scope) -> None:
        self.agents.setdefault(key, []).append((run_id, scope))
        if len(self.agents) > _MAX_KNOWN:
            # They never completed; what is known of them is kept, but waits for nothing more.
            self.agents.popitem(last=False)

    def ended(self, key: tuple[str, str], run_id: str | None) -> Scope | None:
        """Return the agent that was told to have started first: in the same run, or in another."""
        waiting = self.agents.get(key)
        if not waiting:
            return None
        runs = [run for run, _ in waiting]
        _, found = waiting.pop(runs.index(run_id) if run_id in runs else 0)
        if not waiting:
            del self.agents[key]
        return found


def _known_of(rt: Runtime) -> _Known:
    found: _Known | None = rt.told
    if found is None or found.pid != os.getpid():  # a forked child's agents are its own
        found = rt.told = _Known()
    return found


def feed(rt: Runtime, told: Told) -> None:
    """Deal with one event; what goes wrong is the pipeline's to catch."""
    changed: dict[str, Any] = {}
    fields = () if told.said is None else told.said.__struct_fields__
    for key, value in told.payload.items():
        kind = type(value)
        if kind is str or (kind is int and value.bit_length() > _MAX_BITS):
            told.payload[key] = kept(key, value)  # redacted and cut
        if kind in {str, list} and key in fields:
            changed[key] = told.payload[key]
    if changed:
        # Ids and names are made of what was said.
        told.said = msgspec.structs.replace(told.said, **changed)
    _FEEDS[told.type](rt, told)


# ---------------------------------------------------------------------- tasks and agents


def _task_queued(rt: Runtime, told: Told) -> None:
    said = told.said
    scope = TaskScope(
        KINDS["task"],
        id=said.task_id,
        fields={"feature": said.feature, "state": "PENDING"},
        known={TASK_ESTIMATE.key: said.est_cost},
    )
    scope.dated = told.when
    scope.event = ("fact", told.type, told.payload)
    _in_context(told.context, scope.record)
    scope.event = None
    _known_of(rt).queued(said.task_id, scope)


def _task_is(rt: Runtime, place: _Place, told: Told, state: str) -> None:
    """Take a task that was queued by an event into the state that its latest event says."""
    scope = _known_of(rt).tasks.get(told.said.task_id)
    if scope is not None:
        scope.dated = told.when
        _in_context(place.context(told), partial(scope.state, state))


def _agent_started(rt: Runtime, told: Told) -> None:
    said = told.said
    place = _Place(rt, told, said.task_id)
    _task_is(rt, place, told, "RUNNING")
    known: dict[str, Any] = {}
    if said.tools is not None:
        known[AGENT_TOOLS.key] = tuple(cut(tool) for tool in said.tools)
    if said.model is not None:
        known[REQUEST_MODEL.key] = told.payload["model"]
    scope = place.around("agent", said.agent)
    if scope is not None:
        for key, value in (known | _extras(told, "agent", "task_id", "model", "tools")).items():
            scope.keep(key, value)
        return
    scope = Scope(KINDS["agent"], told.payload["agent"], known=known)
    scope.dated = told.when
    scope.event = ("start", told.type, told.payload)
    scope.start(place.context(told))
    scope.dated = None
    _known_of(rt).began((said.agent, said.task_id), place.frame.ids.run_id, scope)
    if told.announcement is not None:
        told.announcement.scope = scope


def _agent_completed(rt: Runtime, told: Told) -> None:
    said = told.said
    place = _Place(rt, told, said.task_id)
    scope = _known_of(rt).ended((said.agent, said.task_id), place.frame.ids.run_id)
    mine = scope is not None
    if scope is None:
        scope = place.around("agent", said.agent)
    if scope is None:
        # Its start was told elsewhere, or not at all: it took as long as the event says.
        scope = Scope(KINDS["agent"], told.payload["agent"])
        scope.dated = max(0, told.when - int(said.duration_ms * 1e6))
        scope.event = ("start", _SILENT, {})
        scope.start(place.context(told))
        mine = True
    if said.status == "failed":
        scope.fail()
    outcome: Outcome = "failure" if said.status == "failed" else "success"
    _settle(rt, scope, said.cost_usd, told.payload, outcome)
    for key, value in _extras(told, *_COMPLETED).items():
        scope.keep(key, value)
    scope.event = ("end", told.type, told.payload)
    if mine:
        scope.dated = told.when
        scope.end()
    _task_is(rt, place, told, _STATES[said.status])
    if said.status in VERDICTS:
        _decide(rt, (said.task_id, said.agent, said.status), said.agent, recorded=False)


_STATES: Final = {
    "success": "DONE", "approved": "DONE", "failed": "FAILED", "rejected": "IN_REVIEW",
}  # fmt: skip
_COMPLETED: Final = ("agent", "task_id", "status", "duration_ms", "cost_usd")


def _settle(
    rt: Runtime, scope: Scope, reported: float | None, payload: dict[str, Any], outcome: Outcome
) -> None:
    """Take the cost that the program reports: it counts where no usage says what it was."""
    total = scope.total
    if total.requests:
        if reported is None:
            return
        scope.keep(COST_REPORTED.key, reported)
        if total.cost is not None and not total.unpriced:
            payload["cost_usd"] = round(total.cost, _MICRO)
            scope.keep(COST_DIFFERENCE.key, round(reported - total.cost, _MICRO))
        return
    if reported is None:
        return
    ids = scope.frame.ids
    add(scope.own, _totals(scope), Usage(), reported)
    if scope.ledgers and rt.budgets is not None:
        rt.budgets.spend(scope, Usage(), reported)
    rt.metrics.add(COST, (ids.agent, ids.phase, None, None, outcome), reported)


def _totals(scope: Scope) -> list[Any]:
    found = []
    around: Scope | None = scope
    while around is not None:
        found.append(around.total)
        around = around.parent
    return found


def _extras(told: Told, *known: str) -> dict[str, Any]:
    """Return what a program gave beyond the type's fields, as attributes of a span."""
    return {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in told.payload.items()
        if key not in known and isinstance(value, str | int | float | bool)
    }


# ---------------------------------------------------------------------- validations, critics


def _validation_complete(rt: Runtime, told: Told) -> None:
    said = told.said
    place = _Place(rt, told, said.task_id)
    known = {} if said.cost is None else {COST_TOTAL.key: said.cost}
    passed = said.result in {"passed", True}
    scope = Scope(KINDS["validation"], fields={"passed": passed}, known=known)
    scope.dated = told.when
    scope.event = ("end", told.type, told.payload)
    _in_context(place.context(told), scope.record)
    _task_is(rt, place, told, "DONE" if passed else "FAILED")
    if said.cost:
        ids = place.frame.ids
        rt.metrics.add(COST, (ids.agent, ids.phase, None, None, "success"), said.cost)
        if scope.parent is not None:
            scope.parent.count(Usage(), said.cost)


def _critic_decision(rt: Runtime, told: Told) -> None:
    payload = told.payload
    verdict = "rejected" if payload["rejected"] else "approved"
    agent, task_id = payload.get("agent"), payload.get("task_id")
    _fact(rt, told, task_id)
    _decide(rt, (task_id, agent, verdict), payload.get("name") or agent, recorded=True)


def _decide(
    rt: Runtime, decision: tuple[Any, Any, str], name: str | None, *, recorded: bool
) -> None:
    if _known_of(rt).decisions.new(*decision, recorded=recorded):
        rt.metrics.add(CRITIC_DECISIONS, (name, VERDICTS[decision[2]]))


# ---------------------------------------------------------------------- humans and budgets


def _asked(rt: Runtime, scope: HumanScope) -> None:
    """Put the task that a human is asked about into review, where an event told of the task."""
    task_id = scope.frame.ids.task_id
    if rt.told is not None and task_id is not None and scope.around("task") is None:
        act = partial(_review, rt, task_id, scope.context, time.time_ns())
        rt.require_pipeline().later(act)


def _review(rt: Runtime, task_id: str, context: Context, when: int) -> None:
    task = _known_of(rt).tasks.get(task_id)
    if task is not None:
        task.dated = when
        _in_context(context, partial(task.state, "IN_REVIEW"))


asked_listeners.append(_asked)


def _hitl_escalated(rt: Runtime, told: Told) -> None:
    place = _fact(rt, told, told.said.task_id)
    rt.metrics.add(HITL_ESCALATIONS, (place.frame.ids.workflow,))
    _task_is(rt, place, told, "IN_REVIEW")


def _budget(rt: Runtime, told: Told) -> None:
    payload = told.payload
    budget, unit = payload["scope"], payload.get("unit", "USD")
    _fact(rt, told, None)
    _ledgers_of(rt).told(rt.metrics, (budget, unit), told.said.limit, told.said.spent)
    level = told.type.removeprefix("budget_")
    rt.metrics.add(BUDGET_EVENTS, (budget, unit, level))


def _ledgers_of(rt: Runtime) -> Ledgers:
    """Return the budgets in force, that the gauges of those told by a program stand beside."""
    if not isinstance(rt.budgets, Ledgers):
        rt.budgets = Ledgers()
    return rt.budgets


def _fact(rt: Runtime, told: Told, task_id: str | None) -> _Place:
    """Tell of an event as a fact of its own name, and on the span it was told in."""
    place = _Place(rt, told, task_id)
    said = {EVENT_TYPE.key: told.type, EVENT_PAYLOAD.key: told.payload}
    emit_fact(told.type, told.payload.get("scope", ""), said, place=place, when=told.when)
    place.span.add_event(f"{NAMESPACE}.{told.type}", _extras(told), timestamp=told.when)
    return place


def _in_context(context: Context, act: Callable[[], None]) -> None:
    before = otel_context.get_current()
    otel_context.attach(context)
    try:
        act()
    finally:
        otel_context.attach(before)


_FEEDS: Final[dict[str, Callable[[Runtime, Told], None]]] = {
    "task_queued": _task_queued,
    "agent_started": _agent_started,
    "agent_completed": _agent_completed,
    "validation_complete": _validation_complete,
    "hitl_escalated": _hitl_escalated,
    "budget_warning": _budget,
    "budget_exceeded": _budget,
    CRITIC_DECISION: _critic_decision,
}
