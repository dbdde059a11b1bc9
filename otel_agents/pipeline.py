"""Signals on their way to the sinks: bounded, isolated, counted.

The caller's thread puts a signal on one queue a sink and goes on. Each sink has a thread, so that
a dead or slow one costs the others nothing. What a sink could not take is dropped and counted.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from otel_agents.boundary import caught

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_agents.signals import Signal

MAX_WAITING: Final = 20_000  # signals a sink may have waiting; some 20 MB
_BATCH: Final = 1000
# A thread that is woken for every signal costs a context switch each; waiting this long first
# lets signals gather. It is what a killed process can lose.
_LINGER_SECONDS: Final = 0.1

_live: weakref.WeakSet[Pipeline] = weakref.WeakSet()


class Sink(Protocol):
    """A place that signals go to. It is called from one thread only."""

    name: str

    def write(self, signals: Sequence[Signal]) -> None:
        """Write signals; raise if they could not be written, and they are counted as lost."""

    def close(self) -> None:
        """Let go of files and connections."""


class _Lane:
    """One sink with its queue and its thread."""

    def __init__(self, sink: Sink, dropped: Callable[[str, str, int], None]) -> None:
        self.sink = sink
        self._dropped = dropped
        self._reset()

    def _reset(self) -> None:
        self.waiting: deque[Signal] = deque()
        self._wake = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def put(self, signal: Signal) -> None:
        if len(self.waiting) >= MAX_WAITING:
            self._dropped(self.sink.name, "queue full", 1)
            return
        self.waiting.append(signal)
        if self._idle.is_set():
            self._idle.clear()
        if not self._wake.is_set():
            self._wake.set()
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closing:
                thread = threading.Thread(
                    target=self._work, name=f"otel-agents-{self.sink.name}", daemon=True
                )
                thread.start()
                self._thread = thread

    def _work(self) -> None:
        while not (self._closing and not self.waiting):
            self._wake.wait()
            self._wake.clear()
            if not self._closing:
                time.sleep(_LINGER_SECONDS)
            self._drain()

    def _drain(self) -> None:
        while self.waiting:
            batch: list[Signal] = []
            while self.waiting and len(batch) < _BATCH:
                batch.append(self.waiting.popleft())
            try:
                self.sink.write(batch)
            except Exception as error:  # noqa: BLE001 - a failing sink harms nobody
                self._dropped(self.sink.name, type(error).__name__, len(batch))
                # In strict mode this raises, but the thread must live on.
                with contextlib.suppress(Exception):
                    caught(f"sink {self.sink.name}", error)
        self._idle.set()
        if self.waiting:
            self._idle.clear()
            self._wake.set()

    def flush(self, deadline: float) -> bool:
        while self.waiting or not self._idle.is_set():
            remaining = deadline - time.monotonic()
            if remaining <= 0 or self._thread is None:
                return False
            self._wake.set()
            self._idle.wait(min(remaining, 0.1))
        return True

    def close(self, deadline: float) -> None:
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        if self.waiting:
            self._dropped(self.sink.name, "closed", len(self.waiting))
            self.waiting.clear()
        self.sink.close()

    def after_fork(self) -> None:
        """Begin anew in a forked child: the waiting signals are the parent's to write."""
        self._reset()


class Pipeline:
    """Takes signals from any thread and brings them to every sink."""

    def __init__(self, sinks: Sequence[Sink], dropped: Callable[[str, str, int], None]) -> None:
        self._lanes = [_Lane(sink, dropped) for sink in sinks]
        self._closed = False
        _live.add(self)

    @property
    def sinks(self) -> list[Sink]:
        """The sinks, in the order they were named."""
        return [lane.sink for lane in self._lanes]

    def emit(self, signal: Signal) -> None:
        """Hand a signal to the sinks; returns at once."""
        if not self._closed:
            for lane in self._lanes:
                lane.put(signal)

    def flush(self, seconds: float = 5.0) -> bool:
        """Wait until all that was emitted is written; False if that took too long."""
        deadline = time.monotonic() + seconds
        flushed = [lane.flush(deadline) for lane in self._lanes]
        return all(flushed)

    def close(self, seconds: float = 2.0) -> None:
        """Write what is waiting and close the sinks."""
        if self._closed:
            return
        self._closed = True
        deadline = time.monotonic() + seconds
        for lane in self._lanes:
            lane.close(deadline)

    def after_fork(self) -> None:
        """Begin anew in a forked child."""
        for lane in self._lanes:
            lane.after_fork()


def _after_fork() -> None:
    for pipeline in list(_live):
        pipeline.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
