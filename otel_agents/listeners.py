"""Listeners to progress: functions of the program that are told every message, each on its own.

A listener is a sink with a lane of the pipeline to itself. One that raises or never returns costs
neither the program nor the other listeners anything; what it missed is counted.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import functools
import inspect
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from otel_agents import runtime
from otel_agents.boundary import boundary, caught
from otel_agents.context import current_task
from otel_agents.failures import failure_of
from otel_agents.state.progress import progress_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from otel_agents.pipeline import Pipeline
    from otel_agents.signals import Signal

    Listener = Callable[[dict[str, Any]], object]

QUIET_SECONDS: Final = 60.0
STOP_SECONDS: Final = 1.0  # that `unsubscribe` waits at most
MAX_WAITING: Final = 20_000  # messages that a listener on the program's loop may have waiting


def name_of(listener: Listener) -> str:
    """Return a listener's qualified name; that of its class where it has none itself."""
    named: Any = listener
    while type(named) is functools.partial:
        named = named.func
    if not isinstance(getattr(named, "__qualname__", None), str):
        named = type(named)
    return f"{getattr(named, '__module__', None) or '?'}.{named.__qualname__}"


class ListenerSink:
    """Tells one listener of every progress message, in order, from the thread of its lane.

    What a listener that is or returns a coroutine is to do waits in a line of its own: on the loop
    that ran where it was subscribed, else on one of the lane's thread.
    """

    linger = 0.0

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.listened = name_of(listener)
        self.name = f"listener {self.listened}"
        self.stopped = False
        self.late = False  # stopped for having taken too long
        loop = asyncio._get_running_loop()  # noqa: SLF001 - the public one raises for none
        self.line = None if loop is None else _Line(loop, self._failed)
        self._pid = os.getpid()
        self._thread = 0
        self._runner: asyncio.Runner | None = None
        self._warned = float("-inf")

    def write(self, signals: Sequence[Signal]) -> None:
        """Tell of signals; what the listener raises ends here."""
        self._thread = threading.get_ident()
        if self._pid != os.getpid():
            # The loops of a process do not run in a child forked from it.
            self._pid, self.line, self._runner = os.getpid(), None, None
        for number, signal in enumerate(signals):
            if self.stopped:
                self._lost(len(signals) - number if self.late else 0)
                return
            for message in progress_of(signal):
                try:
                    self._tell(copy.deepcopy(message))
                except BaseException as error:  # noqa: BLE001 - SystemExit would end the lane
                    self._failed(error)

    def close(self) -> None:
        """Let go of the loop, where there was one of its own."""
        runner, self._runner = self._runner, None
        if runner is not None and not runner.get_loop().is_running():
            runner.close()
        if self.line is not None and not self.line.loop.is_running():
            self._lost(self.line.stop())

    def stop(self, deadline: float | None = None) -> None:
        """Tell no more, after what is in line has been told or the deadline has passed."""
        line = self.line
        if line is not None and deadline is not None:
            line.idle.wait(max(0.0, deadline - time.monotonic()))
        self.late = deadline is not None
        self.stopped = True
        if line is not None:
            self._lost(line.stop())

    def _tell(self, message: dict[str, Any]) -> None:
        # In a context of its own: what a listener does is no part of any run.
        clean = contextvars.Context()
        found = clean.run(self.listener, message)
        if not inspect.isawaitable(found):
            return
        if self.line is not None:
            self.line.put(found, clean)
            return
        if self._runner is None:
            self._runner = asyncio.Runner()
        self._runner.run(_guarded(found), context=clean)

    def called_here(self) -> bool:
        """Return whether the running code is the listener's own."""
        if self._thread == threading.get_ident():
            return True
        task = None if self.line is None else self.line.task
        return task is not None and task is current_task()

    def on_its_loop(self) -> bool:
        """Return whether waiting here would keep the listener from being told."""
        loop = asyncio._get_running_loop()  # noqa: SLF001 - the public one raises for none
        return self.line is not None and self.line.loop is loop

    def _lost(self, count: int, reason: str = "closed") -> None:
        rt = runtime.peek()
        if rt is not None and count:
            rt.metrics.dropped(self.name, reason, count)

    def _failed(self, error: BaseException, count: int = 1) -> None:
        self._lost(count, type(error).__name__)
        now = time.monotonic()
        if now - self._warned >= QUIET_SECONDS:
            self._warned = now
            failure = failure_of(error, "error", message=True)
            boundary.warn(
                "otel-agents: the progress listener %s failed; the program goes on: %s: %s (%s)",
                self.listened,
                failure.type,
                failure.message,
                failure.where,
            )


class _Line:
    """What a listener is to do on the program's loop, one after the other.

    The lane does not wait for it: a program that flushes on its loop would wait for itself.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, failed: Callable[[BaseException, int], None]
    ) -> None:
        self.loop = loop
        self.task: asyncio.Task[None] | None = None
        self.idle = threading.Event()
        self.idle.set()
        self._failed = failed
        self._lock = threading.Lock()
        self._stopped = False
        self._waiting: deque[tuple[Awaitable[Any], contextvars.Context]] = deque()

    def put(self, work: Awaitable[Any], context: contextvars.Context) -> None:
        """Add to the end of the line; raise where the loop is gone or the line too long."""
        with self._lock:
            if self._stopped or len(self._waiting) >= MAX_WAITING:
                _discard(work)
                message = "the listener has stopped, or too much waits for it"
                raise OverflowError(message)
            begin = self.idle.is_set()
            self._waiting.append((work, context))
            self.idle.clear()
        try:
            if begin:
                self.loop.call_soon_threadsafe(self._begin, context=contextvars.Context())
            elif self.loop.is_closed():
                message = "the event loop of the listener is closed"
                raise RuntimeError(message)  # noqa: TRY301 - as the loop itself says it
        except RuntimeError as error:
            others = self._clear() - 1
            if others > 0:
                self._failed(error, others)
            raise

    def stop(self) -> int:
        """Do no more of what waits; return how much that was."""
        with self._lock:
            self._stopped = True
        return self._clear()

    def _begin(self) -> None:
        self._working = self.loop.create_task(self._work())
        self._working.add_done_callback(self._over)

    def _over(self, working: asyncio.Task[None]) -> None:
        """Count what was in line when the loop ended, which may be before the work began."""
        if working.cancelled():
            left = self._clear()
            if left:
                self._failed(asyncio.CancelledError(), left)

    async def _work(self) -> None:
        mine = asyncio.current_task()
        while True:
            with self._lock:
                if not self._waiting:
                    self.idle.set()
                    return
                work, context = self._waiting.popleft()
            try:
                self.task = self.loop.create_task(_guarded(work), context=context)
                await self.task
            except asyncio.CancelledError as error:
                if mine is not None and mine.cancelling():
                    raise
                self._failed(error, 1)
            except Exception as error:  # noqa: BLE001 - a failing listener harms nobody
                self._failed(error, 1)
            finally:
                _discard(work)  # it has not begun where the loop ends right now

    def _clear(self) -> int:
        """Let go of what waits; return how much that was."""
        with self._lock:
            left = list(self._waiting)
            self._waiting.clear()
            self.idle.set()
        for work, _ in left:
            _discard(work)
        return len(left)


async def _guarded(found: Awaitable[Any]) -> None:
    try:
        await found
    except SystemExit as error:  # asyncio would let it end the program's loop
        message = "a listener tried to end the program"
        raise RuntimeError(message) from error


def _discard(found: Awaitable[Any]) -> None:
    """Close a coroutine that no loop will run, so that Python does not warn of it."""
    close = getattr(found, "close", None)
    if close is not None:
        close()


class Subscription:
    """What `subscribe` returns: call it to end the subscription; a second call does nothing."""

    def __init__(self, pipeline: Pipeline, sink: ListenerSink) -> None:
        self._pipeline = pipeline
        self._sink = sink
        self._lock = threading.Lock()
        self._open = True

    def __call__(self) -> None:
        """Deliver what was emitted so far, for a second at most, and stop.

        On the listener's own event loop it returns at once, since the listener could not be told
        while it waited there; what was emitted so far is delivered then. Called by the listener
        itself, it stops at once.
        """
        with self._lock:
            if not self._open:
                return
            self._open = False
        try:
            self._end()
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            self._sink.stopped = True  # it is told no more, whatever else is left to do
            caught("progress unsubscribe", error)

    def _end(self) -> None:
        if self._sink.called_here():
            self._sink.stop()
        elif not self._sink.on_its_loop():
            self._finish()
            return
        threading.Thread(target=self._finish, name="otel-agents-unsubscribe", daemon=True).start()

    def _finish(self) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        self._pipeline.remove(self._sink, STOP_SECONDS)
        self._sink.stop(deadline)
