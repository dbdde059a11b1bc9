"""Signals for people, one line each on standard error, coloured on a terminal."""

from __future__ import annotations

import datetime
import os
import sys
from typing import TYPE_CHECKING, Final, TextIO

from otel_agents.signals import event_name
from otel_agents.text import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_agents.signals import Signal
    from otel_agents.workspace import Workspace

_COLOURS: Final = {"success": "32", "failure": "31", "error": "31", "timeout": "31"}
_OTHER: Final = "33"


def line_of(signal: Signal) -> str:
    """Return a signal as one line without control characters."""
    when = datetime.datetime.fromtimestamp(signal.time / 1e9).astimezone()
    ids = signal.ids
    parts = [f"[{when:%H:%M:%S}]", event_name(signal).removeprefix("otelagents.")]
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


class ConsoleSink:
    """Writes lines to a stream."""

    name = "console"

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._coloured = self._stream.isatty() and "NO_COLOR" not in os.environ

    def write(self, signals: Sequence[Signal]) -> None:
        """Write a line a signal; heartbeats are left out."""
        for signal in signals:
            if signal.edge == "progress" and not signal.attributes and signal.usage is None:
                continue
            text = line_of(signal)
            if self._coloured and signal.result:
                text = f"\x1b[{_COLOURS.get(signal.result, _OTHER)}m{text}\x1b[0m"
            self._stream.write(text + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Leave the stream open: it is the program's."""


def make(_rest: str, _workspace: Workspace | None) -> ConsoleSink:
    """Return the sink of `console:`."""
    return ConsoleSink()
