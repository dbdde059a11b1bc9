"""How long a scope waited for humans: the time in which at least one was waited for."""

from __future__ import annotations

import threading

# One lock for all: waits begin and end rarely.
_lock = threading.Lock()


class Waits:
    """The waits in one scope; times are nanoseconds since the epoch."""

    __slots__ = ("_open", "_since", "_total")

    def __init__(self) -> None:
        self._open = 0
        self._since = 0
        self._total = 0

    def begin(self, when: int) -> None:
        """Count one more wait."""
        with _lock:
            if not self._open:
                self._since = when
            self._open += 1

    def end(self, when: int) -> None:
        """Count one wait less."""
        with _lock:
            self._open -= 1
            if not self._open:
                self._total += max(0, when - self._since)

    def seconds(self, until: int) -> float:
        """Return the seconds waited so far; a wait that is open counts up to a time."""
        with _lock:
            open_ = max(0, until - self._since) if self._open else 0
            return (self._total + open_) / 1e9
