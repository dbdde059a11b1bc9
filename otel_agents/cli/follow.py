"""Reading a workspace's signals, and going on reading as they are written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from otel_agents.signals import decode_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from otel_agents.signals import Signal
    from otel_agents.workspace import Workspace


class Follower:
    """Reads what is new in a workspace's signal files at each call.

    Files are told apart by device and inode, so that one renamed by rotation is read on where it
    was left. A file that shrank is read anew; the folds do not mind repeats.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._read: dict[tuple[int, int], int] = {}

    def new(self) -> Iterator[Signal]:
        """Yield the signals written since the last call, those of the oldest file first."""
        seen: dict[tuple[int, int], int] = {}
        for path in self._workspace.signal_files():
            yield from decode_lines(self._more(path, seen))
        self._read = seen

    def _more(self, path: Path, seen: dict[tuple[int, int], int]) -> Iterator[bytes]:
        try:
            with path.open("rb") as file:
                # Asked of the open file: the name may belong to another one by now.
                status = os.fstat(file.fileno())
                identity = status.st_dev, status.st_ino
                if identity in seen:
                    return
                offset = self._read.get(identity, 0)
                if status.st_size < offset:
                    offset = 0
                file.seek(offset)
                seen[identity] = offset
                for line in file:
                    yield line
                    if not line.endswith(b"\n"):
                        return  # still being written: looked at now, and again when it is whole
                    seen[identity] += len(line)
        except FileNotFoundError:  # rotated away meanwhile: it is found under its new name
            return
