"""The signals that the KPIs are counted from: the events, and the waits for humans that ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_agents.event_types import Event, event_of

if TYPE_CHECKING:
    from otel_agents.signals import Signal

WAIT: Final = "wait"
"""The type of an event that only the KPIs are told of: agents have waited for a human."""
_LONGEST: Final = 1e9  # seconds; a longer wait is garbage


def counted_of(signal: Signal) -> Event | None:
    """Return what `Kpis.apply` takes of a signal: an event, a wait that ended, or None."""
    if signal.kind == "human" and signal.edge == "end":
        return _wait(signal)
    return event_of(signal)


def _wait(signal: Signal) -> Event | None:
    seconds, ids = signal.duration, signal.ids
    if seconds is None or not 0 <= seconds < _LONGEST or not ids.agent_id:
        return None
    return Event(
        id=signal.id,
        type=WAIT,
        time=signal.time / 1e9,
        run_id=ids.run_id,
        payload={"seconds": seconds, "caller": ids.parent_agent_id},
        agent_id=ids.agent_id,
    )
