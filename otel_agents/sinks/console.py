"""Signals for people on standard error, coloured on a terminal.

An event is its time and type, and a line for each field; another signal is one line.
"""

from __future__ import annotations

import datetime
import os
import sys
from typing import TYPE_CHECKING, Final, TextIO

from otel_agents.errors import SettingsError
from otel_agents.event_types import event_of
from otel_agents.signals import event_name
from otel_agents.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from otel_agents.event_types import Event
    from otel_agents.signals import Signal
    from otel_agents.workspace import Workspace

_COLOURS: Final = {"success": "32", "failure": "31", "error": "31", "timeout": "31"}
_OTHER: Final = "33"
_GREEN, _RED, _YELLOW, _BLUE, _CYAN, _DIM = "32", "31", "33", "34", "36", "2"
_TYPES: Final = {
    "task_queued": _BLUE,
    "agent_started": _CYAN,
    "agent_completed": _GREEN,
    "validation_complete": _GREEN,
    "critic_decision": _GREEN,
    "hitl_escalated": _RED,
    "budget_warning": _YELLOW,
    "budget_exceeded": _RED,
}
# What turns an event red, whatever its type.
_BAD: Final = (
    ("status", ("failed", "rejected")),
    ("result", ("failed", False)),
    ("rejected", (True,)),
)
_LONGEST: Final = 500  # characters of a field


def line_of(signal: Signal) -> str:
    """Return a signal as one line without control characters."""
    ids = signal.ids
    parts = [f"[{_clock(signal.time / 1e9)}]", event_name(signal).removeprefix("otelagents.")]
    if signal.name:
        parts.append(signal.name)
    if ids.phase and ids.phase != signal.name:
        parts.append(f"phase={ids.phase}")
    if signal.result:
        parts.append(signal.result)
    if signal.duration is not None:
        parts.append(f"{signal.duration:.2f}s")
    if signal.usage is not None and signal.usage.total_tokens:
        parts.append(f"{signal.usage.total_tokens} tokens")
    if signal.error is not None:
        parts.append(
            " ".join(filter(None, (signal.error.type, signal.error.message, signal.error.where)))
        )
    return visible(" ".join(parts))


def lines_of(event: Event) -> Iterable[str]:
    """Yield `[HH:MM:SS] TYPE` and an indented `key: value` for each field that has a value."""
    yield visible(f"[{_clock(event.time)}] {event.type}")
    for key, value in event.payload.items():
        if value is not None:
            yield visible(f"  {key}: {_shown(value)}")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, float):
        text = f"{value:.9g}"
    elif isinstance(value, list | tuple):
        text = ", ".join(map(_shown, value))
    else:
        text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _clock(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds).astimezone():%H:%M:%S}"


def colour_of(event: Event) -> str:
    """Return the colour of an event's type, as ANSI numbers it; red where it tells of a failure."""
    wrong = any(event.payload.get(key) in values for key, values in _BAD)
    return _RED if wrong else _TYPES.get(event.type, _DIM)


class ConsoleSink:
    """Writes to a stream: every signal, or the events among them only."""

    name = "console"
    linger = 0.0

    def __init__(self, stream: TextIO | None = None, *, events_only: bool = False) -> None:
        self._stream = stream
        self._events_only = events_only

    def write(self, signals: Sequence[Signal]) -> None:
        """Write what signals say; heartbeats are left out."""
        # Looked up each time: a program may put another stream in its place.
        stream = self._stream or sys.stderr
        if stream is None:
            return
        coloured = stream.isatty() and "NO_COLOR" not in os.environ
        text = []
        for signal in signals:
            event = event_of(signal)
            if event is not None:
                head, *fields = lines_of(event)
                text += [painted(head, colour_of(event), coloured=coloured), *fields]
            elif not self._events_only and not _heartbeat(signal):
                colour = _COLOURS.get(signal.result, _OTHER) if signal.result else ""
                text.append(painted(line_of(signal), colour, coloured=coloured))
        if text:
            stream.write("\n".join(text) + "\n")
            stream.flush()

    def close(self) -> None:
        """Leave the stream open: it is the program's."""


def _heartbeat(signal: Signal) -> bool:
    return signal.edge == "progress" and not signal.attributes and signal.usage is None


def painted(text: str, colour: str, *, coloured: bool) -> str:
    """Return text in a colour, where there are any."""
    return f"\x1b[{colour}m{text}\x1b[0m" if coloured and colour else text


def make(rest: str, _workspace: Workspace | None) -> ConsoleSink:
    """Return the sink of `console:`, or of `console:events` for events only."""
    if rest.strip("/") not in {"", "events"}:
        message = f"the sink console: takes nothing or events, not {rest!r}"
        raise SettingsError(message)
    return ConsoleSink(events_only=rest.strip("/") == "events")
