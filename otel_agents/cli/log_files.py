"""The agents' log files in a workspace: which there are, their text, and what is added to them.

A file is opened below the workspace's `logs` directory by a name made of the agent's id, and no
link is followed, so that no id and nothing planted there shows a file of elsewhere.
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_agents.agent_logs import file_name
from otel_agents.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from otel_agents.workspace import Workspace

_POLL_SECONDS: Final = 0.2
_CHUNK: Final = 1 << 20
_MOST_LINE: Final = 1 << 20  # bytes of a line that never ends
_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class LogFile(NamedTuple):
    """A log file; `modified` is nanoseconds since the epoch."""

    name: str
    size: int
    modified: int


def log_files(workspace: Workspace) -> list[LogFile]:
    """Return the log files there are, the latest first."""
    found = []
    try:
        with os.scandir(workspace.logs) as entries:
            for entry in entries:
                if entry.name.endswith(".log") and entry.is_file(follow_symlinks=False):
                    known = entry.stat(follow_symlinks=False)
                    found.append(LogFile(entry.name, known.st_size, known.st_mtime_ns))
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda file: (-file.modified, file.name))


def lines_of(workspace: Workspace, agent_id: str, most: int | None = None) -> list[str] | None:
    """Return the lines of an agent's file, with those of the one before it; None without a file.

    Args:
        workspace: Where it stands.
        agent_id: The agent's id.
        most: How many of the last lines; None for all.

    """
    name = file_name(agent_id)
    texts = [_read(workspace.logs / each) for each in (f"{name}.1", name)]
    if texts[1] is None:
        return None
    lines = [_shown(line) for text in texts if text for line in _lines(text)]
    if most is None:
        return lines
    return lines[-most:] if most else []


def _lines(text: bytes) -> list[bytes]:
    """Return lines as `Tail` does: a carriage return alone ends none."""
    lines = text.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _shown(line: bytes) -> str:
    return visible(line.removesuffix(b"\r").decode(errors="replace"))


def _open(path: Path) -> int | None:
    """Return an open file, or None where there is no plain one."""
    try:
        found = os.open(path, _FLAGS)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(found).st_mode):
        return found
    os.close(found)
    return None


def _read(path: Path) -> bytes | None:
    descriptor = _open(path)
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


class Tail:
    """Yields the lines that are added to an agent's file, through rotation and truncation."""

    def __init__(self, workspace: Workspace, agent_id: str) -> None:
        self._path = workspace.logs / file_name(agent_id)
        self._descriptor = -1
        self._begun = b""

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def new(self) -> Iterator[str]:
        """Yield the whole lines written since the last call."""
        yield from self._rest()
        while (opened := self._other()) is not None:
            yield from self._rest()  # what was written just before it was renamed
            self.close()
            self._descriptor, self._begun = opened, b""
            yield from self._rest()

    def forever(self) -> Iterator[str]:
        """Yield lines as they come."""
        while True:
            yield from self.new()
            time.sleep(_POLL_SECONDS)

    def _rest(self) -> Iterator[str]:
        if self._descriptor < 0:
            return
        if os.fstat(self._descriptor).st_size < os.lseek(self._descriptor, 0, os.SEEK_CUR):
            os.lseek(self._descriptor, 0, os.SEEK_SET)  # cut: read anew
            self._begun = b""
        while part := os.read(self._descriptor, _CHUNK):
            *lines, self._begun = (self._begun + part).split(b"\n")
            if len(self._begun) > _MOST_LINE:
                lines, self._begun = [*lines, self._begun], b""
            for line in lines:
                yield _shown(line)

    def _other(self) -> int | None:
        """Return the file that has the name now, opened, if it is another one."""
        try:
            found = self._path.lstat()
        except OSError:
            return None
        if self._descriptor >= 0 and os.fstat(self._descriptor).st_ino == found.st_ino:
            return None
        return _open(self._path)
