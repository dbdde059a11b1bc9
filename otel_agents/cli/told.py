"""What the stream of events tells: domain events and runtime events, with their numbers."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from otel_agents.event_types import ALL_TYPES, Event, event_of
from otel_agents.signals import Signal
from otel_agents.state.times import rfc3339
from otel_agents.vocabulary import (
    ENTITY_ID,
    PERSONA_ID,
    REASON_CODE,
    RUNTIME_LAYER,
    RUNTIME_OPERATION,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RUNTIME: Final = "runtime"
TYPES: Final = (*ALL_TYPES, RUNTIME)
"""The types of the stream: every domain event's, and that of all runtime events."""
_RUNTIME_KEYS: Final = {
    "layer": RUNTIME_LAYER.key,
    "operation": RUNTIME_OPERATION.key,
    "reason_code": REASON_CODE.key,
    "entity_id": ENTITY_ID.key,
    "persona_id": PERSONA_ID.key,
}
# The types of the signals that an event can be read from, beside that of its own name.
_SCOPES: Final = {
    "task_queued": "task",
    "agent_started": "agent.start",
    "agent_completed": "agent.end",
    "validation_complete": "validation.end",
    "hitl_escalated": "human.start",
}


class Wanted:
    """Which events: of some types, where none stands for all, and of one run only.

    `signals` are the types of the signals that these can be read from, in the feed's words.
    """

    def __init__(self, types: Iterable[str] = (), run_id: str | None = None) -> None:
        self.types = frozenset(types)
        self.run_id = run_id
        named = self.types or frozenset(TYPES)
        self.signals = named | {_SCOPES[type_] for type_ in named if type_ in _SCOPES}

    def has(self, event: Event) -> bool:
        """Say whether an event is of one of the types; the feed itself is asked for the run."""
        return not self.types or event.type in self.types


class Told(NamedTuple):
    """An event and its number in the feed."""

    seq: int
    event: Event

    def data(self) -> dict[str, Any]:
        """Return the envelope of the stream."""
        event = self.event
        return {
            "seq": self.seq,
            "type": event.type,
            "timestamp": rfc3339(round(event.time * 1e9)),
            "run_id": event.run_id,
            "payload": event.payload,
        }


class Gap(NamedTuple):
    """Numbers of the feed whose events are passed over, since they are no longer stored.

    With `anew` the number that was asked for is past all there are: it was another store's, and
    what this one has so far is passed over; `last` is 0 where it is empty.
    """

    first: int
    last: int
    anew: bool = False

    def data(self) -> dict[str, Any]:
        """Return the message as the stream has it."""
        return {"type": "gap", "from": self.first, "to": self.last}


def told(envelope: Mapping[str, Any], wanted: Wanted) -> Told | None:
    """Return what an envelope of the feed tells, or None where it tells of no event wanted.

    Raises:
        ValueError: It is no envelope of the feed.

    """
    try:
        if envelope["type"] not in wanted.signals:
            return None
        seq, signal = int(envelope["seq"]), _signal(envelope)
        event = _runtime(signal) if signal.kind == RUNTIME else event_of(signal)
    except (KeyError, TypeError, AttributeError, OverflowError, ValueError) as error:
        message = f"no envelope of the feed: {error!r}"
        raise ValueError(message) from error
    return Told(seq, event) if event is not None and wanted.has(event) else None


def _signal(envelope: Mapping[str, Any]) -> Signal:
    """Return as much of a signal as its envelope has of it."""
    payload = envelope["payload"]
    moment = datetime.fromisoformat(envelope["timestamp"])
    ids = {name: payload.get(name) for name in ("agent_id", "task_id", "worker_id")}
    ids["run_id"] = envelope["run_id"]
    found = {
        "id": f"{envelope['seq']}",
        "kind": payload.get("kind") or "",
        "edge": payload.get("edge") or "fact",
        "time": round(moment.timestamp() * 1e9),
        "name": payload.get("name") or "",
        "ids": ids,
        "result": payload.get("result") or "",
        "duration": payload.get("duration_seconds"),
        "usage": payload.get("usage"),
        "cost": payload.get("cost_usd"),
        "attributes": payload.get("attributes") or {},
    }
    return msgspec.convert(found, Signal)


def _runtime(signal: Signal) -> Event:
    """Return a runtime event with the fields that its listing has, and what it adds to them."""
    given = dict(signal.attributes)
    fields = {name: given.pop(key, None) for name, key in _RUNTIME_KEYS.items()}
    fields |= {"task_id": signal.ids.task_id, "worker_id": signal.ids.worker_id}
    payload = {name: value for name, value in fields.items() if value is not None}
    return Event(
        id=signal.id,
        type=RUNTIME,
        time=signal.time / 1e9,
        run_id=signal.ids.run_id,
        payload=payload | {name: value for name, value in given.items() if name not in payload},
        agent_id=signal.ids.agent_id,
    )
