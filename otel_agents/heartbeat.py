"""Open runs say that they still live, so that a killed one can be told from a slow one."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from otel_agents import scope as scopes
from otel_agents.signals import HEARTBEAT_SECONDS

if TYPE_CHECKING:
    from otel_agents.scope import Scope


class _Heart:
    """One thread a process, alive while runs are open."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None

    def opened(self, _run: Scope) -> None:
        with self.lock:
            if self.thread is None:
                self.thread = threading.Thread(
                    target=self._beat, name="otel-agents-heartbeat", daemon=True
                )
                self.thread.start()

    def _beat(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(HEARTBEAT_SECONDS)
            with self.lock:
                if not scopes.open_runs:
                    self.thread = None
                    return
            for run in list(scopes.open_runs.values()):
                run.alive()


_heart = _Heart()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_heart.reset)


def begin() -> None:
    """Beat from the next run that opens."""
    if _heart.opened not in scopes.run_listeners:
        scopes.run_listeners.append(_heart.opened)
