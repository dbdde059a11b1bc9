"""Scopes that follow work into threads, executors and processes.

asyncio carries the context by itself. Threads start without one, and a process that is spawned
starts without instrumentation too: it gets both along with its first piece of work.
"""

from __future__ import annotations

import concurrent.futures.thread
import contextlib
import functools
import sys
import threading
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context

from otel_agents.boundary import caught
from otel_agents.context import FRAME_KEY, extract, inject, put_back

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context

    from otel_agents.instrument.seams import Seams

_AUTO: Final = "opentelemetry.instrumentation.auto_instrumentation"
_CARRIED: Final = "_otelagents_carried"
_EXECUTOR_WORK: Final = getattr(concurrent.futures.thread, "_worker", None)


class _State:
    """What was given to flush with; `register_after_fork` keeps a weak reference to it."""

    flush: Callable[[], None] | None = None


_state: Final = _State()


def install(seams: Seams) -> None:
    """Replace where threads and their executors take their work."""
    seams.replace(threading.Thread, "start", _thread_start)
    seams.replace(concurrent.futures.thread.ThreadPoolExecutor, "submit", _thread_submit)


def install_processes(seams: Seams, flush: Callable[[], None]) -> None:
    """Replace where processes take their work, once `multiprocessing.util` is imported.

    `flush` is called when a child process ends: multiprocessing leaves by `os._exit`, without
    `atexit`.
    """
    from multiprocessing import process, util

    seams.replace(process.BaseProcess, "start", _process_start)
    if _state.flush is None:
        util.register_after_fork(_state, _flush_at_exit)
    _state.flush = flush


def install_process_pools(seams: Seams) -> None:
    """Replace where process pools take work, once `concurrent.futures.process` is imported."""
    from concurrent.futures.process import ProcessPoolExecutor

    seams.replace(ProcessPoolExecutor, "submit", _process_submit)


def _flush_at_exit(state: _State) -> None:
    from multiprocessing.util import Finalize

    if state.flush is not None:
        Finalize(None, state.flush, exitpriority=0)


def _inside() -> Context | None:
    try:
        current = otel_context.get_current()
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("context", error)
        return None
    return current if FRAME_KEY in current else None


def _run_in(context: Context, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    previous = _come_in(context)
    try:
        return call(*args, **kwargs)
    finally:
        if previous is not None:
            _go_out(previous)


def _come_in(context: Context) -> Context | None:
    """Make a context current and return the one before it; None where that failed."""
    try:
        previous = otel_context.get_current()
        otel_context.attach(context)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("context", error)
        return None
    return previous


def _go_out(previous: Context) -> None:
    try:
        otel_context.attach(previous)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        put_back(previous)
        caught("context", error)


def _thread_start(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def start(self: threading.Thread) -> Any:
        try:
            _run_inside(self)
        except Exception as error:  # noqa: BLE001 - a thread of the host's can be any class
            caught("thread", error)
        return original(self)

    return start


def _run_inside(thread: threading.Thread) -> None:
    """Have a thread that is about to start do its work in the current context."""
    context = None if _serves_many(thread) else _inside()
    if context is None or "run" in vars(thread):
        return
    run = thread.run

    def run_inside() -> Any:
        # Not left on the thread: thread, function and bound method would keep each other.
        vars(thread).pop("run", None)
        return _run_in(context, run)

    thread.run = run_inside  # type: ignore[method-assign]


def _serves_many(thread: threading.Thread) -> bool:
    """Return whether a thread works for others than the code that happened to start it.

    An executor's thread gets a context with each call; our own threads want none.
    """
    target = getattr(thread, "_target", None)
    return target is _EXECUTOR_WORK or thread.name.startswith("otel-agents-")


def _thread_submit(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def submit(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        context = _inside()
        if context is None:
            return original(self, fn, *args, **kwargs)
        return original(self, _run_in, context, fn, *args, **kwargs)

    return submit


def _process_submit(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def submit(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        carried = _carry()
        if carried is None:
            return original(self, fn, *args, **kwargs)
        return original(self, _run_carried, carried, fn, *args, **kwargs)

    return submit


def _process_start(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def start(self: Any) -> Any:
        carried = _carry()
        if carried is not None:
            fields = vars(self)
            rest = dict(fields)
            fields.clear()
            # First of all fields, so that it is unpickled before the function to be run is looked
            # up in its module.
            fields[_CARRIED] = _Carried(carried)
            fields.update(rest)
        try:
            return original(self)
        finally:
            vars(self).pop(_CARRIED, None)

    return start


def _carry() -> dict[str, Any] | None:
    """Return what another process is given of the current scope; None outside any."""
    try:
        if _inside() is None:
            return None
        carrier: dict[str, str] = {}
        inject(carrier)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("process", error)
        return None
    return {"carrier": carrier, "auto": _AUTO in sys.modules}


class _Carried:
    """What a spawned process is given: unpickling it there instruments the process."""

    def __init__(self, carried: dict[str, Any]) -> None:
        self.carried = carried

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _arrive, (self.carried,)


def _arrive(carried: dict[str, Any]) -> None:
    """Instrument a spawned process and make the context of its parent current in it."""
    try:
        _instrument(auto=carried["auto"])
        otel_context.attach(extract(carried["carrier"]).context)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("process", error)


def _run_carried(
    carried: dict[str, Any], call: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    with contextlib.suppress(Exception):
        _instrument(auto=carried["auto"])
    with extract(carried["carrier"]):
        return call(*args, **kwargs)


def _instrument(*, auto: bool) -> None:
    """Instrument this process as its parent was, if nothing has done so yet."""
    if _state.flush is not None:
        return
    if auto:
        from opentelemetry.instrumentation.auto_instrumentation import (
            initialize,
        )

        initialize()
        return
    for entry_point in entry_points(group="opentelemetry_instrumentor", name="otel_agents"):
        entry_point.load()().instrument()
