"""`emit_event`: what a program tells of its tasks, agents, validations, budgets and escalations.

    emit_event("task_queued", {"task_id": "t-1", "feature": "checkout", "est_cost": 0.4})
    emit_event("agent_started", {"agent": "coder", "task_id": "t-1"})

The caller's thread checks the payload and goes on; spans, metrics and signals are made of it by a
thread of the pipeline (`event_feed`), in the order in which the events were told.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context

from otel_agents import runtime
from otel_agents.announced import Announcement, announce, announced
from otel_agents.boundary import boundary, caught
from otel_agents.context import current_frame
from otel_agents.errors import EventError
from otel_agents.event_feed import Told, feed
from otel_agents.event_types import SCHEMAS, check
from otel_agents.kept import kept
from otel_agents.kpi_sink import kpis_of
from otel_agents.vocabulary import CRITIC_DECISION

if TYPE_CHECKING:
    from otel_agents.pipeline import Pipeline
    from otel_agents.runtime import Runtime

_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
_QUIET_SECONDS: Final = 60.0


class _Refused:
    """When events of a type were last said to be wrong: a log is not for each of them."""

    said: Final[dict[str, float]] = {}


def emit_event(type: str, payload: Mapping[str, Any], *, strict: bool = True) -> None:  # noqa: A002
    """Tell of an event: to the console, `logs/agent-events.jsonl` and whatever else is set up.

    Keys that the type does not name are kept. Inside an instrumented scope of the agent, `agent_*`
    events annotate it; elsewhere `agent_started` and `agent_completed` are a scope of the agent,
    with span, duration, cost and status.

    Args:
        type: One of `vocabulary.EVENT_TYPES`.
        payload: By the type's schema in `event_types`.
        strict: False: a wrong event is counted and logged instead of raised.

    Raises:
        EventError: The type is none, or a field of the payload is missing or wrong.

    """
    given: dict[str, Any] = {}
    try:
        given = _copied(payload)
        said = check(type, given)
    except EventError as error:
        if strict:
            raise
        _refuse(error)
        return
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("event", error)
        return
    try:
        for key, value in given.items():
            if _class_of(value) not in _PLAIN:
                given[key] = kept(key, value)  # the caller may go on to change it
        tell(str.__str__(type), said, given)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("event", error)


# Under its own name `type` is the parameter of `emit_event`. Not `__class__`, which a value may
# compute, and raise, or say to be another's.
_class_of: Final = type


def _copied(payload: Any) -> Any:
    """Return a mapping as a dict of its own; what is none, or cannot be read, as it is."""
    kind = type(payload)
    try:
        if issubclass(kind, dict):
            return dict(dict.items(payload))  # not by `keys`, which a class of the host's can have
        if issubclass(kind, Mapping):
            return dict(payload)
    except Exception:  # noqa: BLE001 - the host's code: `check` says what is wrong
        return payload
    return payload


def tell(type_: str, said: Any, payload: dict[str, Any]) -> None:
    """Hand on an event that was checked, with where and when it was told."""
    rt = runtime.get()
    if rt.disabled:
        return
    pipeline = rt.open_events()
    if rt.kpis is None:
        kpis_of(rt)
    context = otel_context.get_current()
    told = Told(type_, said, payload, context, time.time_ns())
    frame = current_frame(context)
    scope = None if frame is None else frame.scope
    while scope is not None:
        scope.awaited = pipeline
        scope = scope.parent
    if type_ == "agent_started":
        told.announcement = Announcement(said.agent, said.task_id, pipeline)
        announce(told.announcement)
    elif type_ == "agent_completed":
        _conclude(said, pipeline)
    pipeline.later(partial(feed, rt, told))


def _conclude(said: Any, pipeline: Pipeline) -> None:
    """Note at the announcement of a critic what it said, for `record_critic_decision` after it."""
    found = announced()
    if found is not None and (found.agent, found.task_id) == (said.agent, said.task_id):
        found.verdict = said.status
    elif said.status in {"approved", "rejected"}:
        late = Announcement(said.agent, said.task_id, pipeline)
        late.verdict = said.status
        announce(late)


def record_critic_decision(
    rejected: bool,
    *,
    task_id: str | None = None,
    agent: str | None = None,
    name: str | None = None,
) -> None:
    """Tell of a critic's decision: whether it rejects the work.

    A decision that the critic's `agent_completed` tells of too is counted once. Agent and task are
    those of the scope or announced agent in force, unless they are given; `name` is the critic's
    in the metric `otelagents.critic.decisions`, by default the agent's.
    """
    try:
        rejected = bool(rejected)
        if agent is None:
            agent, task = _critic("rejected" if rejected else "approved")
            task_id = task if task_id is None else task_id
        found = {"task_id": task_id, "agent": agent, "name": name}
        payload = {
            "rejected": rejected,
            **{k: kept(k, v) for k, v in found.items() if v is not None},
        }
        tell(CRITIC_DECISION, None, payload)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("critic decision", error)


def _critic(verdict: str) -> tuple[str | None, str | None]:
    """Return the agent and the task that a decision made here is of."""
    frame = current_frame()
    if frame is not None and frame.ids.agent is not None:
        return frame.ids.agent, frame.ids.task_id
    found = announced()
    mine = found is not None and found.pipeline is runtime.get().require_pipeline()
    if found is not None and mine and found.verdict in {None, verdict}:
        return found.agent, found.task_id
    return None, None if frame is None else frame.ids.task_id


def get_metrics(rt: Runtime) -> dict[str, Any]:
    """Return the KPIs of what this process told so far, and the counts they are made from."""
    sink = kpis_of(rt)
    rt.require_pipeline().read(sink)
    return sink.reading()


def _refuse(error: EventError) -> None:
    try:
        rt = runtime.get()
        if rt.disabled:
            return
        rt.metrics.dropped("events", "invalid", 1)
        known = error.type if error.type in SCHEMAS else ""  # types are made up as they come
        now = time.monotonic()
        if now - _Refused.said.get(known, -_QUIET_SECONDS) >= _QUIET_SECONDS:
            _Refused.said[known] = now
            boundary.warn("otel-agents: an event is left out: %s", error)
    except Exception as failure:  # noqa: BLE001 - telemetry never reaches the host
        caught("event", failure)
