"""The spool of a process: its directory, and a lane for each kind of data."""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

from otel_agents.spool.directory import Directory
from otel_agents.spool.encode import encode_resource, encode_scope
from otel_agents.spool.lane import Lane
from otel_agents.spool.segment import Source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from otel_agents.spool.destination import Destination

# What all lanes together may add to the end of a program, which is promised to take 2 s at most.
EXIT_SECONDS: Final = 1.5
_SAME_END: Final = 10.0

_open: Final[weakref.WeakSet[Spool]] = weakref.WeakSet()


class Spool:
    """A spool that is open. `told` is called with reason and number for all that is dropped.

    Raises:
        SettingsError: The directory is another user's, or this system has no file locks.
        OSError: The directory cannot be made.

    """

    def __init__(self, path: Path, max_bytes: int, told: Callable[[str, int], None]) -> None:
        self.directory = Directory(path, max_bytes, told)
        self.directory.make()
        self.lanes: dict[str, Lane] = {}
        self._lock = threading.Lock()
        self._exit_by = 0.0
        _open.add(self)

    def lane(self, signal: str, destination: Destination) -> Lane | None:
        """Return a new lane; None where this kind of data has one, to another end point maybe."""
        with self._lock:
            if signal in self.lanes:
                return None
            made = self.lanes[signal] = Lane(signal, self.directory, destination, source_of)
            return made

    def flush(self, seconds: float) -> bool:
        """Wait until all is delivered; False if that takes longer, or a backend is away."""
        deadline = time.monotonic() + seconds
        lanes = list(self.lanes.values())
        for lane in lanes:
            lane.hurry()
        done = [lane.flush(deadline) for lane in lanes]
        return all(done)

    def finish(self) -> None:
        """Use the time that the end of a program has for sending; the rest stays in the files.

        Each part of the SDK that is shut down calls it, and so does the end of the interpreter:
        they share the time.
        """
        now = time.monotonic()
        if now > self._exit_by + _SAME_END:
            self._exit_by = now + EXIT_SECONDS
        self.flush(max(0.0, self._exit_by - now))
        for lane in self.lanes.values():
            lane.tidy()

    def close(self) -> None:
        """Let go of all files; for tests and for who switches the instrumentation off."""
        for lane in self.lanes.values():
            lane.close()
        _open.discard(self)

    def after_fork(self) -> None:
        """Begin anew in a forked child."""
        self._lock = threading.Lock()
        self.directory.after_fork()
        for lane in self.lanes.values():
            lane.after_fork()


def source_of(resource: Any, scope: Any) -> Source:
    """Encode where items come from: a resource and a scope of the SDK."""
    return Source(
        encode_resource(resource),
        resource.schema_url or "",
        encode_scope(scope),
        getattr(scope, "schema_url", None) or "",
    )


def _after_fork() -> None:
    for spool in list(_open):
        spool.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
