"""Listeners to progress: functions of the program that are told every message, each on its own.

A listener is a sink with a lane of the pipeline to itself. One that raises or never returns costs
neither the program nor the other listeners anything; what it missed is counted.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import inspect
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from otel_agents import runtime
from otel_agents.boundary import boundary
from otel_agents.state.progress import progress_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from concurrent.futures import Future

    from otel_agents.pipeline import Pipeline
    from otel_agents.signals import Signal

    Listener = Callable[[dict[str, Any]], object]

QUIET_SECONDS: Final = 60.0
STOP_SECONDS: Final = 1.0  # that `unsubscribe` waits at most
_LOOK_SECONDS: Final = 0.2  # how often a wait for a loop looks whether it is still there


def name_of(listener: Listener) -> str:
    """Return a listener's qualified name; that of its class where it has none itself."""
    while hasattr(listener, "func") and type(listener).__name__ == "partial":
        listener = listener.func
    named = listener if isinstance(getattr(listener, "__qualname__", None), str) else type(listener)
    return f"{getattr(named, '__module__', None) or '?'}.{named.__qualname__}"


class ListenerSink:
    """Tells one listener of every progress message, in order, from the thread of its lane.

    A listener that is or returns a coroutine is awaited before the next message: on the loop that
    ran where it was subscribed, else on a loop of the lane's own thread.
    """

    linger = 0.0

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.listened = name_of(listener)
        self.name = f"listener {self.listened}"
        self.stopped = False
        self.loop = asyncio._get_running_loop()  # noqa: SLF001 - the public one raises for none
        self._pid = os.getpid()
        self._thread = 0
        self._task: asyncio.Task[Any] | None = None
        self._runner: asyncio.Runner | None = None
        self._warned = float("-inf")

    def write(self, signals: Sequence[Signal]) -> None:
        """Tell of signals; what the listener raises ends here."""
        self._thread = threading.get_ident()
        if self._pid != os.getpid():
            # The loops of a process do not run in a child forked from it.
            self._pid, self.loop, self._runner, self._task = os.getpid(), None, None, None
        for signal in signals:
            if self.stopped:
                return
            for message in progress_of(signal):
                try:
                    self._tell(copy.deepcopy(message))
                except BaseException as error:  # noqa: BLE001 - SystemExit would end the lane
                    self._failed(error)

    def close(self) -> None:
        """Let go of the loop, where there was one of its own."""
        self.stopped = True
        runner, self._runner = self._runner, None
        if runner is not None and not runner.get_loop().is_running():
            runner.close()

    def _tell(self, message: dict[str, Any]) -> None:
        # In a context of its own: what a listener does is no part of any run.
        clean = contextvars.Context()
        found = clean.run(self.listener, message)
        if inspect.isawaitable(found):
            clean.run(self._await, found)

    def _await(self, found: Awaitable[Any]) -> None:
        if self.loop is None:
            if self._runner is None:
                self._runner = asyncio.Runner()
            self._runner.run(self._inside(found))
            return
        inside = self._inside(found)
        try:
            future = asyncio.run_coroutine_threadsafe(inside, self.loop)
        except RuntimeError:
            inside.close()
            _discard(found)
            raise
        self._wait(future)

    def _wait(self, future: Future[None]) -> None:
        """Wait for what runs on the program's loop, as long as that runs."""
        while True:
            try:
                return future.result(_LOOK_SECONDS)
            except TimeoutError:
                if future.done():  # the listener's own time is out, or it has just finished
                    return future.result()
                if self.loop is None or self.loop.is_closed():
                    message = "the event loop of the listener is closed"
                    raise RuntimeError(message) from None

    async def _inside(self, found: Awaitable[Any]) -> None:
        self._task = asyncio.current_task()
        try:
            await found
        finally:
            self._task = None

    def called_here(self) -> bool:
        """Return whether the running code is the listener's own."""
        if self._thread == threading.get_ident():
            return True
        return self._task is not None and self._task is _current_task()

    def on_its_loop(self) -> bool:
        """Return whether waiting here would keep the listener from being told."""
        return self.loop is not None and self.loop is asyncio._get_running_loop()  # noqa: SLF001

    def _failed(self, error: BaseException) -> None:
        rt = runtime.peek()
        if rt is not None:
            rt.metrics.dropped(self.name, type(error).__name__, 1)
        now = time.monotonic()
        if now - self._warned >= QUIET_SECONDS:
            self._warned = now
            boundary.warn(
                "otel-agents: the progress listener %s failed; the others go on: %s",
                self.listened,
                type(error).__name__,
            )


def _current_task() -> asyncio.Task[Any] | None:
    return None if asyncio._get_running_loop() is None else asyncio.current_task()  # noqa: SLF001


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
        if self._sink.called_here():
            self._sink.stopped = True
        elif not self._sink.on_its_loop():
            self._pipeline.remove(self._sink, STOP_SECONDS)
            self._sink.stopped = True
            return
        threading.Thread(
            target=self._pipeline.remove, args=(self._sink, STOP_SECONDS),
            name="otel-agents-unsubscribe", daemon=True,
        ).start()  # fmt: skip
