"""Signals as JSON lines in a file that several processes append to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_agents.errors import SettingsError
from otel_agents.pipeline import TryLaterError
from otel_agents.signals import encode_line
from otel_agents.sinks.lines import LineFile, PartlyWrittenError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_agents.signals import Signal
    from otel_agents.workspace import Workspace

# `status` reads all of it: 100,000 signals, 62 MB, took it 0.6 s and 210 MB of memory.
MAX_BYTES: Final = 8 * 1024 * 1024
KEEP: Final = 4  # rotated files


class JsonlSink:
    """Appends signals to a file; what a full disk does not take is tried again."""

    name = "jsonl"
    patience = 10.0  # seconds: a file of this machine

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = LineFile(path, max_bytes=MAX_BYTES, keep=KEEP)

    def write(self, signals: Sequence[Signal]) -> None:
        """Append signals in one write."""
        try:
            self._file.append([encode_line(signal) for signal in signals])
        except PartlyWrittenError as error:
            raise TryLaterError(signals[error.done :], f"{self.path}: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def make(rest: str, workspace: Workspace | None) -> JsonlSink:
    """Return the sink of `jsonl:PATH`, or of `jsonl:` for the workspace's file."""
    if rest:
        return JsonlSink(Path(rest.removeprefix("//")))
    if workspace is None:
        message = "the sink jsonl: needs a path or a workspace: run `otel-agents init` first"
        raise SettingsError(message)
    return JsonlSink(workspace.signals)
