"""Signals as JSON lines in a file that several processes append to.

A batch is one `write` to a file opened for appending, so that lines of several processes do not
mix, and a crash tears the last line at most. At `MAX_BYTES` the file is renamed, under a lock.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_agents.errors import SettingsError
from otel_agents.signals import encode_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_agents.signals import Signal
    from otel_agents.workspace import Workspace

# `status` reads all of it: 100,000 signals, 62 MB, took it 0.6 s and 210 MB of memory.
MAX_BYTES: Final = 8 * 1024 * 1024
KEEP: Final = 4  # rotated files


class JsonlSink:
    """Appends signals to a file."""

    name = "jsonl"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self._inode = 0

    def write(self, signals: Sequence[Signal]) -> None:
        """Append signals in one write; raises OSError where the disk does not take them."""
        self._open()
        data = b"".join(map(encode_line, signals))
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        if os.fstat(self._fd).st_size > MAX_BYTES:
            self._rotate()

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        """Open the file, anew where another process has renamed or removed it."""
        if self._fd >= 0:
            try:
                if self.path.stat().st_ino == self._inode:
                    return
            except FileNotFoundError:
                pass
            self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        found = os.fstat(self._fd)
        self._inode = found.st_ino
        if found.st_size and os.pread(self._fd, 1, found.st_size - 1) != b"\n":
            # A crash tore the last line; it must not swallow the first of ours.
            os.write(self._fd, b"\n")

    def _rotate(self) -> None:
        lock = self.path.with_suffix(".lock")
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            # Another process renames just now; one that died in the middle must not block for good.
            with contextlib.suppress(OSError):
                if time.time() - lock.stat().st_mtime > 60:  # noqa: PLR2004 - a minute
                    lock.unlink()
            return
        try:
            if self.path.stat().st_ino == self._inode:
                self.path.rename(
                    self.path.with_name(f"{self.path.stem}-{time.time_ns():020d}.jsonl")
                )
                rotated = sorted(self.path.parent.glob(f"{self.path.stem}-*.jsonl"))
                for old in rotated[:-KEEP]:
                    old.unlink(missing_ok=True)
        finally:
            lock.unlink(missing_ok=True)
        self.close()


def make(rest: str, workspace: Workspace | None) -> JsonlSink:
    """Return the sink of `jsonl:PATH`, or of `jsonl:` for the workspace's file."""
    if rest:
        return JsonlSink(Path(rest.removeprefix("//")))
    if workspace is None:
        message = "the sink jsonl: needs a path or a workspace: run `otel-agents init` first"
        raise SettingsError(message)
    return JsonlSink(workspace.signals)
