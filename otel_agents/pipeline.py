"""Signals on their way to the sinks: bounded, isolated, counted.

The caller's thread puts a signal on one queue a sink and goes on. Each sink has a thread, so that
a dead or slow one costs the others nothing. What a sink could not take is dropped and counted.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
import weakref
from collections import deque
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from otel_agents.boundary import boundary, caught

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_agents.signals import Signal

    Dropped = Callable[[str, str, int], None]

MAX_WAITING: Final = 20_000  # signals a sink may have waiting; some 20 MB
_BATCH: Final = 1000
# A thread that is woken for every signal costs a context switch each; waiting this long first
# lets signals gather. It is what a killed process can lose.
_LINGER_SECONDS: Final = 0.1
# How long a caller may be kept for what it left to be done: a burst of some 20,000 events.
_CATCH_UP_SECONDS: Final = 1.0
_READ_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.001
_FIRST_RETRY: Final = 0.1
_LAST_RETRY: Final = 5.0
_QUIET_SECONDS: Final = 60.0

_live: weakref.WeakSet[Pipeline] = weakref.WeakSet()


class TryLaterError(Exception):
    """Raised by a sink that could not write now: `signals` are those it has not written."""

    def __init__(self, signals: Sequence[Signal], why: str = "") -> None:
        super().__init__(why)
        self.signals = list(signals)


class Sink(Protocol):
    """A place that signals go to. It is called from one thread at a time.

    A sink may say how long signals are to gather before a write, as `linger` in seconds (0.1, and
    0 for what people look at live), how many a write takes at the most, as `batch` (1,000), how
    long the end of a program may wait for it, as `patience` in seconds (2, and 10 for what is
    written to this machine, which can be slow but does not stay away), and have a method `tick()`,
    called every `every` seconds. One with a method `at_once(signal)` is asked first, in the
    caller's thread: True says that it has taken the signal. One that keeps signals after
    `write` has a method `flush()`, called when somebody waits for them, and an attribute
    `dropped`, which is set to a function of reason and number that counts what it loses.
    """

    name: str

    def write(self, signals: Sequence[Signal]) -> None:
        """Write signals.

        Raise `TryLaterError` to be called again later with those that are left, after a pause
        that grows from 0.1 to 5 seconds; anything else, and the signals are counted as lost.
        """

    def close(self) -> None:
        """Let go of files and connections."""


class _Ticking(Protocol):
    def tick(self) -> None: ...


class _Lane:
    """One sink with its queue and its thread."""

    def __init__(self, sink: Sink, dropped: Dropped) -> None:
        self.sink = sink
        self._dropped = dropped
        self._linger: float = getattr(sink, "linger", _LINGER_SECONDS)
        self._every: float | None = getattr(sink, "every", None)
        self._batch: int = getattr(sink, "batch", _BATCH)
        self._looks: int = getattr(sink, "looks", 0)
        self._patience: float = getattr(sink, "patience", 0.0)
        self._at_once: Callable[[Any], bool] | None = getattr(sink, "at_once", None)
        if hasattr(sink, "dropped"):
            cast("Any", sink).dropped = self._lose
        self._reset()

    def _reset(self) -> None:
        # Signals, and events that are set when all before them was written.
        self._waiting: deque[Any] = deque()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._asleep = False
        self._closing = False
        self._pause = 0.0
        self._due = time.monotonic() + (self._every or 0.0)
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        # Held while the sink is called: what waits can be drained by another thread too.
        self._writing = threading.Lock()
        self._in_hand = 0  # signals that the sink is writing now
        self._lost = 0
        self._said: dict[str, float] = {}

    # ------------------------------------------------------------------ by the callers

    def put(self, signal: Any) -> None:
        if self._at_once is not None and self._taken(signal):
            return
        if len(self._waiting) >= MAX_WAITING:
            self._lose("queue full", 1)
            return
        self._waiting.append(signal)
        if self._asleep:
            self._asleep = False
            self._wake.put(None)
        elif self._thread is None:
            self._start()

    def _taken(self, signal: Any) -> bool:
        try:
            return self._at_once is not None and self._at_once(signal)
        except Exception as error:  # noqa: BLE001 - a failing sink harms nobody
            self._lose(type(error).__name__, 1)
            self._failed(error)
            return True

    @property
    def busy(self) -> bool:
        return bool(self._waiting) or self._writing.locked()

    def flush(self, deadline: float) -> bool:
        if (self._thread is None or self._closing) and not self._waiting:
            return True  # a lane that was closed has written what it had
        written = threading.Event()
        self._waiting.append(written)
        self._start()
        self._wake.put(None)
        if self._thread is None:
            self.read(max(0.0, deadline - time.monotonic()))
        return written.wait(max(0.0, deadline - time.monotonic()))

    def read(self, seconds: float = -1) -> None:
        """Write what waits in this thread, so that the sink knows of it; by a time, if given."""
        if not self.busy:
            return
        deadline = None if seconds < 0 else time.monotonic() + seconds
        if self._writing.acquire(timeout=seconds):
            try:
                self._drain(deadline)
            finally:
                self._writing.release()

    def close_soon(self) -> None:
        self._closing = True
        self._wake.put(None)

    def close(self, deadline: float) -> None:
        self.close_soon()
        deadline = max(deadline, time.monotonic() + self._patience)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(max(0.0, deadline - time.monotonic()))
        elif self._waiting and self._writing.acquire(blocking=False):
            try:
                self._drain()
            finally:
                self._writing.release()
        # What a sink still has in hand may yet be written, if the process lives on; it is counted
        # as lost, so that an end that cuts a write off is never silent.
        left = [one for one in self._waiting if not isinstance(one, threading.Event)]
        if lost := len(left) + self._in_hand:
            self._lose("closed", lost)
            self._waiting.clear()
        # A sink that hangs in a write keeps its thread, which ends with the process.
        if self._writing.acquire(timeout=max(0.01, deadline - time.monotonic())):
            try:
                self.sink.close()
            except Exception as error:  # noqa: BLE001 - the other sinks are to be closed too
                self._failed(error)
            finally:
                self._writing.release()

    def after_fork(self) -> None:
        """Begin anew in a forked child: the waiting signals are the parent's to write."""
        self._reset()

    # ------------------------------------------------------------------ the thread

    def _start(self) -> None:
        # Whoever has it starts the thread; it may be this one, below a signal handler.
        if not self._starting.acquire(blocking=False):
            return
        try:
            if self._thread is None and not self._closing:
                thread = threading.Thread(
                    target=self._work, name=f"otel-agents-{self.sink.name}", daemon=True
                )
                self._thread = thread
                try:
                    thread.start()
                except RuntimeError:
                    # No more threads, or the interpreter is ending: the next signal tries
                    # again, and who flushes or closes writes what waits.
                    self._thread = None
                except BaseException:  # an interrupt of the host's: it did not start either
                    self._thread = None
                    raise
        finally:
            self._starting.release()

    def _work(self) -> None:
        while not self._closing:
            self._sleep()
            if self._closing:
                break
            wait = self._pause or self._linger
            if wait and self._waiting:
                self._rest(wait)
            with self._writing:
                self._drain()
            self._tick()
        with self._writing:
            self._drain()

    def _sleep(self) -> None:
        """Wait until there is something to do."""
        for _ in range(self._looks):
            if self._waiting or self._closing:
                return
            time.sleep(_LOOK_SECONDS)
        # Said before looking: a signal that comes in between is seen, or wakes us.
        self._asleep = True
        if not self._waiting and not self._closing:
            timeout = None if self._every is None else max(0.0, self._due - time.monotonic())
            with contextlib.suppress(Empty):
                self._wake.get(timeout=timeout)
        self._asleep = False

    def _rest(self, seconds: float) -> None:
        """Wait a while, unless someone is waiting for what is waiting here."""
        with contextlib.suppress(Empty):
            self._wake.get(timeout=seconds)

    def _tick(self) -> None:
        if self._every is None or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + self._every
        try:
            with self._writing:
                cast("_Ticking", self.sink).tick()
        except Exception as error:  # noqa: BLE001 - a failing sink harms nobody
            self._failed(error)

    def _drain(self, deadline: float | None = None) -> None:
        while self._waiting and (deadline is None or time.monotonic() < deadline):
            batch: list[Any] = []
            written: threading.Event | None = None
            while self._waiting and len(batch) < self._batch:
                one = self._waiting.popleft()
                if isinstance(one, threading.Event):
                    written = one
                    break
                batch.append(one)
            if batch and not self._write(batch):
                if written is not None:
                    self._waiting.appendleft(written)
                self._waiting.extendleft(reversed(batch))
                return
            if written is not None:
                self._flush_sink()
                written.set()

    def _flush_sink(self) -> None:
        flush: Callable[[], None] | None = getattr(self.sink, "flush", None)
        if flush is not None:
            try:
                flush()
            except Exception as error:  # noqa: BLE001 - a failing sink harms nobody
                self._failed(error)

    def _write(self, batch: list[Any]) -> bool:
        """Write a batch; return False, with those in it that are left, to try again later."""
        self._in_hand = len(batch)
        try:
            self.sink.write(batch)
        except TryLaterError as later:
            batch[:] = later.signals
            grown = min(self._pause * 2, _LAST_RETRY) if self._pause else _FIRST_RETRY
            self._pause = grown * random.uniform(0.8, 1.2)  # noqa: S311 - so that not all try at once
            self._say("otel-agents: %s cannot be written and is tried again: %s", later)
            return False
        except Exception as error:  # noqa: BLE001 - a failing sink harms nobody
            self._lose(type(error).__name__, len(batch))
            self._failed(error)
        finally:
            self._in_hand = 0
        self._pause = 0.0
        return True

    def _failed(self, error: Exception) -> None:
        # In strict mode this raises, but the thread must live on.
        with contextlib.suppress(Exception):
            caught(f"sink {self.sink.name}", error)

    def _lose(self, reason: str, count: int) -> None:
        self._dropped(self.sink.name, reason, count)
        self._lost += count
        if self._say("otel-agents: %s lost %d signals: " + reason, self._lost):
            self._lost = 0

    def _say(self, message: str, what: object) -> bool:
        now = time.monotonic()
        if now - self._said.get(message, -_QUIET_SECONDS) < _QUIET_SECONDS:
            return False
        self._said[message] = now
        boundary.warn(message, self.sink.name, what)
        return True


class _Jobs:
    """What is left to be done outside the caller's thread, as a sink of callables."""

    name = "events"
    linger = 0.0
    batch = 16  # another thread may be waiting to go on with them itself
    looks = 20  # before it sleeps: to wake it costs the caller some 25 µs

    def __init__(self) -> None:
        self.thread = 0  # that which is at them

    def write(self, signals: Sequence[Any]) -> None:
        self.thread = threading.get_ident()
        for job in signals:
            try:
                job()
            except Exception as error:  # noqa: BLE001 - one job must not cost the others
                with contextlib.suppress(Exception):
                    caught("event", error)
        self.thread = 0

    def close(self) -> None:
        """There is nothing to let go of."""


class Pipeline:
    """Takes signals from any thread and brings them to every sink."""

    def __init__(self, sinks: Sequence[Sink], dropped: Dropped) -> None:
        self._dropped = dropped
        self._doing = _Jobs()
        self._jobs = _Lane(self._doing, dropped)
        self._lanes = [_Lane(sink, dropped) for sink in sinks]
        self._changing = threading.Lock()
        self._closed = False
        self.active = bool(sinks)
        _live.add(self)

    @property
    def sinks(self) -> list[Sink]:
        """The sinks, in the order they were named."""
        return [lane.sink for lane in self._lanes]

    def emit(self, signal: Signal) -> None:
        """Hand a signal to the sinks; returns at once.

        What was left for later before it is told before it.
        """
        if self._jobs.busy and self._doing.thread != threading.get_ident():
            self.later(partial(self._emit, signal))
        else:
            self._emit(signal)

    def _emit(self, signal: Signal) -> None:
        if not self._closed:
            for lane in self._lanes:
                lane.put(signal)

    def later(self, job: Callable[[], None]) -> None:
        """Have something done soon, in the order it was asked for, by a thread of ours."""
        if self._closed:
            self._dropped(self._jobs.sink.name, "closed", 1)
        else:
            self._jobs.put(job)

    def catch_up(self, seconds: float = _CATCH_UP_SECONDS) -> None:
        """Do in this thread what was left for later, for so long at the most."""
        self._jobs.read(seconds)

    def add(self, sink: Sink) -> None:
        """Bring all that is emitted from now on to one more sink."""
        with self._changing:
            # The list is never changed: a thread may be going through it.
            self._lanes = [*self._lanes, _Lane(sink, self._dropped)]
            self.active = True

    def remove(self, sink: Sink, seconds: float = 1.0) -> None:
        """Write what waits for a sink, and close it; nothing where it is not there."""
        deadline = time.monotonic() + seconds
        with self._changing:
            found = [lane for lane in self._lanes if lane.sink is sink]
            self._lanes = [lane for lane in self._lanes if lane.sink is not sink]
            self.active = bool(self._lanes)
        for lane in found:
            lane.close(deadline)

    def read(self, sink: Sink) -> None:
        """Bring a sink all that was emitted so far, in this thread; for a fold that is asked."""
        self.catch_up(_READ_SECONDS)
        for lane in self._lanes:
            if lane.sink is sink:
                lane.read(_READ_SECONDS)

    def flush(self, seconds: float = 5.0) -> bool:
        """Wait until all that was emitted is written; False if that took too long."""
        deadline = time.monotonic() + seconds
        done = self._jobs.flush(deadline)
        flushed = [lane.flush(deadline) for lane in self._lanes]
        return done and all(flushed)

    def close(self, seconds: float = 2.0) -> None:
        """Write what is waiting and close the sinks."""
        if self._closed:
            return
        deadline = time.monotonic() + seconds
        self._jobs.close(deadline)
        self._closed = True
        for lane in self._lanes:
            lane.close_soon()
        for lane in self._lanes:
            lane.close(deadline)

    def after_fork(self) -> None:
        """Begin anew in a forked child."""
        self._changing = threading.Lock()
        for lane in (self._jobs, *self._lanes):
            lane.after_fork()


def _after_fork() -> None:
    for pipeline in list(_live):
        pipeline.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
