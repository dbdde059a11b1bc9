"""Open runs and workers say that they still live, so that a killed one can be told from a slow one.

One thread a process does it for all; it is there while there is something to say. It wakes, too,
what has to look at the time.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from typing import TYPE_CHECKING, Final

from otel_agents import under_way
from otel_agents.boundary import caught
from otel_agents.signals import HEARTBEAT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_agents.scope import Scope

    Look = Callable[[], float | None]
    """Returns in how many seconds it is to be called again, or None for no more."""

# An interval under the first would keep a core busy; no wait can be endless.
SHORTEST_SECONDS: Final = 0.05
LONGEST_SECONDS: Final = 3600.0


class _Beat:
    """A scope that beats at an interval of its own, and when it is next to."""

    __slots__ = ("due", "interval", "scope")

    def __init__(self, scope: Scope, interval: float) -> None:
        self.scope = scope
        self.interval = min(max(SHORTEST_SECONDS, interval), LONGEST_SECONDS)
        self.due = time.monotonic() + self.interval


class _Heart:
    """The thread, and what it beats for besides the open runs."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.changed = threading.Condition(threading.Lock())
        self.thread: threading.Thread | None = None
        self.beats: dict[str, _Beat] = {}
        self.looks: dict[Look, float] = {}
        self.wakes = math.inf

    def opened(self, _run: Scope) -> None:
        with self.changed:
            self._live(time.monotonic() + HEARTBEAT_SECONDS)

    def add(self, scope: Scope, interval: float) -> None:
        beat = _Beat(scope, interval)
        with self.changed:
            self.beats[scope.scope_id] = beat
            self._live(beat.due)

    def remove(self, scope: Scope) -> None:
        with self.changed:
            self.beats.pop(scope.scope_id, None)

    def wake(self, look: Look, seconds: float) -> None:
        due = time.monotonic() + min(max(SHORTEST_SECONDS, seconds), LONGEST_SECONDS)
        with self.changed:
            self.looks[look] = due = min(due, self.looks.get(look, due))
            self._live(due)

    def _live(self, due: float) -> None:
        """Let the thread be there and awake by then."""
        if self.thread is None:
            self.wakes = due
            self.thread = threading.Thread(
                target=self._work, name="otel-agents-heartbeat", daemon=True
            )
            self.thread.start()
        elif due < self.wakes:
            self.wakes = due
            self.changed.notify()

    def _work(self) -> None:
        runs_due = time.monotonic() + HEARTBEAT_SECONDS
        while True:
            with self.changed:
                runs = bool(under_way.open_runs)
                if not self.beats and not self.looks and not runs:
                    self.thread = None
                    return
                dues = [*(beat.due for beat in self.beats.values()), *self.looks.values()]
                self.wakes = min([*dues, runs_due] if runs else dues)
                self.changed.wait(max(0.0, self.wakes - time.monotonic()))
                now = time.monotonic()
                ready = [beat for beat in self.beats.values() if beat.due <= now]
                for beat in ready:
                    beat.due = now + beat.interval
                looks = [look for look, due in self.looks.items() if due <= now]
                for look in looks:
                    del self.looks[look]
            for look in looks:
                self._look(look)
            living = [beat.scope for beat in ready]
            if now >= runs_due:
                runs_due = now + HEARTBEAT_SECONDS
                living += list(under_way.open_runs.values())
            for scope in living:
                _alive(scope)

    def _look(self, look: Look) -> None:
        try:
            again = look()
            if again is not None:
                self.wake(look, again)
        except Exception as error:  # noqa: BLE001 - as in `_alive`
            with contextlib.suppress(Exception):
                caught("heartbeat", error)


def _alive(scope: Scope) -> None:
    try:
        scope.alive()
    except Exception as error:  # noqa: BLE001 - the thread must live on, in strict mode too
        with contextlib.suppress(Exception):
            caught("heartbeat", error)


_heart = _Heart()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_heart.reset)


def begin() -> None:
    """Beat from the next run that opens."""
    if _heart.opened not in under_way.run_listeners:
        under_way.run_listeners.append(_heart.opened)


def beat(scope: Scope, interval: float) -> None:
    """Beat for a scope every `interval` seconds, from one interval from now on."""
    _heart.add(scope, interval)


def wake(look: Look, seconds: float) -> None:
    """Call `look` in so many seconds at the latest, and for as long as it wants to be."""
    _heart.wake(look, seconds)


def rest(scope: Scope) -> None:
    """Beat for a scope no more."""
    _heart.remove(scope)
