"""Events as JSON lines, `{"event_type", "timestamp", "payload"}` each, rotated by size (row D2).

What a program emits stands there as it was given, redacted and bounded; what its scopes say of
tasks, agents and validations is told in the same words. Times are seconds since the epoch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_agents.event_types import event_of
from otel_agents.pipeline import TryLaterError
from otel_agents.signals import encode
from otel_agents.sinks.lines import LineFile, PartlyWrittenError
from otel_agents.text import unbroken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_agents.event_types import Event
    from otel_agents.signals import Signal
    from otel_agents.workspace import Workspace

PATH: Final = Path("logs/agent-events.jsonl")
MAX_BYTES: Final = 16 * 1024 * 1024
KEEP: Final = 4  # rotated files


def line_of(event: Event) -> bytes:
    """Return an event as a line of JSON, one line for every reader."""
    return (unbroken(encode(event.line()).decode()) + "\n").encode()


class EventsSink:
    """Appends events to a file; what a full disk does not take is tried again."""

    name = "events"
    patience = 10.0  # seconds: a file of this machine

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = LineFile(path, max_bytes=MAX_BYTES, keep=KEEP)

    def write(self, signals: Sequence[Signal]) -> None:
        """Append the events among signals in one write."""
        told = [(signal, event) for signal in signals if (event := event_of(signal)) is not None]
        if not told:
            return
        try:
            self._file.append([line_of(event) for _, event in told])
        except PartlyWrittenError as error:
            left = [signal for signal, _ in told[error.done :]]
            raise TryLaterError(left, f"{self.path}: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def make(rest: str, _workspace: Workspace | None) -> EventsSink:
    """Return the sink of `events:PATH`, or of `events:` for `logs/agent-events.jsonl`."""
    path = Path(rest.removeprefix("//")) if rest else PATH
    return EventsSink(path.absolute())  # the program may change its directory later
