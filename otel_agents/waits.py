"""How long a scope waited for humans: the time in which at least one was waited for."""

from __future__ import annotations

import os
import threading

# One lock for all: waits begin and end rarely.
_lock = threading.Lock()


def _after_fork() -> None:
    """Begin with a lock that no thread of the parent holds."""
    global _lock  # noqa: PLW0603 - a lock cannot be let go of by another thread
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)


class Waits:
    """The waits in one scope; times are nanoseconds since the epoch."""

    __slots__ = ("_open", "_since", "_total", "_until")

    def __init__(self) -> None:
        self._open = 0
        self._since = 0
        self._until = 0
        self._total = 0

    def begin(self, when: int) -> None:
        """Count one more wait."""
        with _lock:
            if not self._open:
                # One that is told of late may be dated into the wait before it.
                self._since = max(when, self._until)
            self._open += 1

    def end(self, when: int) -> None:
        """Count one wait less."""
        with _lock:
            self._open -= 1
            if not self._open:
                self._total += max(0, when - self._since)
                self._until = max(when, self._until)

    @property
    def open(self) -> bool:
        """Somebody is waited for now."""
        return self._open > 0

    def seconds(self, until: int) -> float:
        """Return the seconds waited so far; a wait that is open counts up to a time."""
        with _lock:
            open_ = max(0, until - self._since) if self._open else 0
            return (self._total + open_) / 1e9
