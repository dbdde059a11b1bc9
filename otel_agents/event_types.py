"""The events a program tells of by name: a schema each, and how signals are read as events.

An event is a signal: `emit_event`, `ProgressEmitter` and the scopes are three ways to say the same
thing, and `event_of` reads all of them. What a program said itself is kept as it was given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeGuard

import msgspec

from otel_agents.errors import EventError
from otel_agents.values import cut, redact
from otel_agents.vocabulary import (
    AGENT_TOOLS,
    CRITIC_DECISION,
    EVENT_PAYLOAD,
    EVENT_TYPE,
    PASSED,
    REQUEST_MODEL,
    SAYS,
    TASK_ESTIMATE,
    TASK_FEATURE,
    TASK_STATE,
)

if TYPE_CHECKING:
    from otel_agents.signals import Signal

_MAX_TIME: Final = 9e9  # seconds since the epoch that 64 bits hold in nanoseconds

Text = Annotated[str, msgspec.Meta(max_length=100_000)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
"""Not negative, and finite: NaN and infinity are no amounts."""
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
Moment = Annotated[float, msgspec.Meta(ge=0, le=_MAX_TIME)]
"""Seconds since the epoch."""


class TaskQueued(msgspec.Struct, frozen=True):
    """A task waits in its queue.

    `feature` is what the task is a part of, `est_cost` what it is thought to cost in USD, and
    `timestamp` when it was queued, in seconds since the epoch; where it is not given, when it is
    told. The time to completion counts from there.
    """

    task_id: Text
    feature: Text
    est_cost: Amount
    timestamp: Moment | None = None


class AgentStarted(msgspec.Struct, frozen=True):
    """An agent began an attempt at a task; `tools` are the names of those it may call."""

    agent: Text
    task_id: Text
    model: Text | None = None
    tools: list[Text] | None = None


class AgentCompleted(msgspec.Struct, frozen=True):
    """An attempt ended.

    A critic says `approved` or `rejected`; `cost_usd` is what it cost,
    None where that is not known.
    """

    agent: Text
    task_id: Text
    status: Literal["success", "failed", "approved", "rejected"]
    duration_ms: Amount
    cost_usd: Amount | None


class ValidationComplete(msgspec.Struct, frozen=True):
    """The work on a task was validated; `cost` is in USD, `screenshots` are paths or URLs."""

    task_id: Text
    result: Literal["passed", "failed"] | bool
    cost: Amount | None = None
    duration_ms: Amount | None = None
    screenshots: list[Text] | None = None


class HitlEscalated(msgspec.Struct, frozen=True):
    """A human is asked, after so many attempts of which the last one failed with an error."""

    task_id: Text
    attempts: Count
    last_error: Text
    priority: Text


class BudgetEvent(msgspec.Struct, frozen=True):
    """A budget is nearly or wholly spent: `limit` and `spent` in its `unit`, USD by default."""

    scope: Text
    limit: Amount
    spent: Amount
    unit: Text = "USD"


SCHEMAS: Final[dict[str, type[msgspec.Struct]]] = {
    "task_queued": TaskQueued,
    "agent_started": AgentStarted,
    "agent_completed": AgentCompleted,
    "validation_complete": ValidationComplete,
    "hitl_escalated": HitlEscalated,
    "budget_warning": BudgetEvent,
    "budget_exceeded": BudgetEvent,
}


_CHOICES: Final = {
    "status": "success, failed, approved, rejected",
    "result": "passed, failed, true, false",
}


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event as its readers see it.

    `id` is the signal's, so that a repeat counts once; `time` is seconds since the epoch;
    `agent_id` is the attempt it is of, where that is known. The payload is the schema's of its
    type, with whatever else the program gave; in an event that was read from a scope a task, cost
    or model that nobody named is None.
    """

    id: str
    type: str
    time: float
    run_id: str | None
    payload: dict[str, Any]
    agent_id: str | None = None

    def line(self) -> dict[str, Any]:
        """Return the event as the event file and `format=events` have it (row D2)."""
        return {"event_type": self.type, "timestamp": self.time, "payload": self.payload}


def check(type_: object, payload: object) -> Any:
    """Return a payload by its type's schema.

    Raises:
        EventError: There is no such type, or a field is missing or cannot be what it is.

    """
    # By their classes, not `isinstance`: `__class__` is the host's code, and can raise.
    name = str.__str__(type_) if issubclass(type(type_), str) else ""
    schema = SCHEMAS.get(name)
    if schema is None:
        said = cut(repr(name) if name else type(type_).__name__, 200)
        message = f"there is no event type {said}; the types are {', '.join(SCHEMAS)}"
        raise EventError(message, type=cut(name, 200))
    if not _is_dict(payload):
        message = f"{name}: the payload must be a dict, not {type(payload).__name__}"
        raise EventError(message, type=name)
    try:
        return msgspec.convert(payload, schema)
    except msgspec.ValidationError as error:
        message, field = _explained(name, schema, error)
        raise EventError(message, type=name, field=field) from None
    except UnicodeEncodeError:
        # Half of a surrogate pair: in a value it is replaced later on, a key is refused.
        for key in payload:
            if cut(key, len(key)) != key:
                message = f"{name}: the key {cut(repr(key), 200)} is no text that can be written"
                raise EventError(message, type=name) from None
        whole = {key: cut(one) if type(one) is str else one for key, one in payload.items()}
        return check(name, whole)


def _is_dict(payload: object) -> TypeGuard[dict[Any, Any]]:
    return issubclass(type(payload), dict)


def _explained(name: str, schema: type[msgspec.Struct], error: Exception) -> tuple[str, str]:
    """Return a sentence on what is wrong, and the field it is about."""
    said, found, place = str(error).rpartition(" - at `$.")
    if not found:
        said, place = place, ""
    said = cut(redact("", cut(said, 1000)), 300)
    field = place.rstrip("`").split("[")[0].split(".")[0]
    if not field and "missing required field" in said:
        field = said.split("`")[1]
        said = "it is missing"
    elif said.startswith("Invalid enum value"):
        given = said.removeprefix("Invalid enum value").strip()
        said = f"{given} is none of {_CHOICES.get(field, 'those there are')}"
    fields = [
        one.name if one.required else f"{one.name}?" for one in msgspec.structs.fields(schema)
    ]
    takes = f"{name} takes {', '.join(fields)}"
    said = said[:1].lower() + said[1:]
    return f"{name}.{field}: {said}; {takes}" if field else f"{name}: {said}; {takes}", field


# ---------------------------------------------------------------------- signals as events


def event_of(signal: Signal) -> Event | None:
    """Return a signal as an event, or None where it is none.

    What the program emitted is returned as given. Of the scopes, tasks that are queued, agents'
    starts and ends and validations are events too.
    """
    given = signal.attributes.get(EVENT_TYPE.key)
    if given is not None:
        payload = signal.attributes.get(EVENT_PAYLOAD.key)
        if given not in ALL_TYPES or not isinstance(payload, dict):
            return None  # nothing, or a start that the program has told of in its own words
        return _event(signal, given, payload)
    reader = _READERS.get((signal.kind, signal.edge))
    return None if reader is None else reader(signal)


def _event(signal: Signal, type_: str, payload: dict[str, Any]) -> Event:
    return Event(
        id=signal.id,
        type=type_,
        time=signal.time / 1e9,
        run_id=signal.ids.run_id,
        payload=payload,
        agent_id=signal.ids.agent_id,
    )


def _queued(signal: Signal) -> Event | None:
    given = signal.attributes
    if given.get(TASK_STATE.key) != "PENDING":
        return None
    payload = {
        "task_id": signal.ids.task_id,
        "feature": given.get(TASK_FEATURE.key, ""),
        "est_cost": given.get(TASK_ESTIMATE.key),
    }
    return _event(signal, "task_queued", payload)


def _started(signal: Signal) -> Event:
    payload: dict[str, Any] = {"agent": signal.name, "task_id": signal.ids.task_id}
    for name, attribute in (("model", REQUEST_MODEL), ("tools", AGENT_TOOLS)):
        if attribute.key in signal.attributes:
            payload[name] = signal.attributes[attribute.key]
    return _event(signal, "agent_started", payload)


def _completed(signal: Signal) -> Event:
    payload = {
        "agent": signal.name,
        "task_id": signal.ids.task_id,
        "status": SAYS["event"].get(signal.result, "failed"),  # type: ignore[call-overload]
        "duration_ms": round((signal.duration or 0.0) * 1000, 3),
        "cost_usd": _cost_of(signal),
    }
    return _event(signal, "agent_completed", payload)


def _cost_of(signal: Signal) -> float | None:
    """Return what a scope cost: None where it is not known, 0 where nothing was used."""
    if signal.unpriced_tokens:
        return None
    if signal.cost is None:
        return 0.0 if signal.usage is None or not signal.usage.total_tokens else None
    return round(signal.cost, 9)


def _validated(signal: Signal) -> Event:
    passed = signal.attributes.get(PASSED.key, signal.result == "success")
    payload: dict[str, Any] = {
        "task_id": signal.ids.task_id, "result": "passed" if passed else "failed",
    }  # fmt: skip
    if signal.duration is not None:
        payload["duration_ms"] = round(signal.duration * 1000, 3)
    return _event(signal, "validation_complete", payload)


_READERS: Final = {
    ("task", "fact"): _queued,
    ("agent", "start"): _started,
    ("agent", "end"): _completed,
    ("validation", "end"): _validated,
}
ALL_TYPES: Final = (*SCHEMAS, CRITIC_DECISION)
"""Every type of an event: those of `emit_event`, and what `record_critic_decision` tells."""
