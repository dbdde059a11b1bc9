"""Running a callable of any shape inside a scope: sync, async, generator, async generator.

A generator's scope is current only while the generator itself runs, never between its items:
there the consumer's own code runs, and what it starts is not part of the generator's work.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from contextvars import copy_context
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from otel_agents import runtime
from otel_agents.boundary import caught
from otel_agents.context import current_task
from otel_agents.errors import BudgetExceeded

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator

    from otel_agents.scope import Scope

_F = TypeVar("_F", bound="Callable[..., Any]")
_T = TypeVar("_T")


class Finish(Protocol):
    """Called with a callable's result, before its scope ends."""

    def __call__(self, scope: Scope, result: Any, /) -> None:
        """Take from the result what the scope wants to keep."""


async def begin(scope: Scope, start: Callable[[], None] | None = None) -> None:
    """Start a scope in asynchronous code: where it waits for a checkpoint the event loop goes on.

    `start` is what starts it, by default `begin`. Outside asyncio it waits where it is.
    """
    start = scope.begin if start is None else start
    waits = None
    try:
        checkpoints = runtime.get().checkpoints
        if checkpoints is not None and checkpoints.concern(scope) and current_task() is not None:
            waits = checkpoints
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("checkpoint", error)
    if waits is None:
        start()
        return
    try:
        await waits.aside(start, scope.end)
    except BudgetExceeded:
        raise
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("checkpoint", error)


async def in_thread(work: Callable[[], _T], late: Callable[[BaseException], None]) -> _T:
    """Return what `work` returns from a thread of its own.

    The host's executor may be busy. Where the caller is cancelled the work goes on, and `late` is
    called with the error as soon as it is done.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def finish(result: Any, error: BaseException | None) -> None:
        if done.cancelled():
            late(asyncio.CancelledError())
        elif error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    def act() -> None:
        result = failed = None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            failed = error
        try:
            loop.call_soon_threadsafe(finish, result, failed)
        except RuntimeError:  # the loop is closed
            late(asyncio.CancelledError())

    inside = copy_context().run
    threading.Thread(target=inside, args=(act,), name="otel-agents-aside", daemon=True).start()
    try:
        return await done
    except BaseException as error:
        if done.done() and not done.cancelled() and done.exception() is None:
            late(error)
        raise


def is_lazy(function: Any) -> bool:
    """Return whether calling a callable only makes a coroutine or generator, which runs later."""
    while isinstance(function, functools.partial):
        function = function.func
    return (
        inspect.iscoroutinefunction(function)
        or inspect.isgeneratorfunction(function)
        or inspect.isasyncgenfunction(function)
    )


def drive(
    scope: Scope, call: Callable[[], Any], *, lazy: bool, finish: Finish | None = None
) -> Any:
    """Run `call` inside the scope and return what it returns.

    A result that is a coroutine or generator is followed until it is done, also where a plain
    callable returns one, since a decorator of the host's can hide what it wraps.
    """
    if lazy:
        return _follow(scope, call(), finish)
    scope.start()
    scope.attach()
    try:
        result = call()
    except BaseException as error:
        scope.detach()
        scope.end(error)
        raise
    scope.detach()
    return _follow(scope, result, finish)


def _follow(scope: Scope, result: Any, finish: Finish | None) -> Any:
    # By `type`, not `isinstance`: a result of the host's can be a proxy that raises when looked at.
    kind = type(result)
    if kind is CoroutineType:
        return _await_in(scope, result, finish)
    if kind is GeneratorType:
        return _step(scope, result, finish)
    if kind is AsyncGeneratorType:
        return _step_async(scope, result, finish)
    if hasattr(kind, "_asyncio_future_blocking"):
        return _when_done(scope, result, finish)
    _done(scope, result, finish)
    return result


def _when_done(scope: Scope, future: Any, finish: Finish | None) -> Any:
    """Let a scope last as long as the task or future that its function returned."""

    def end(done: Any) -> None:
        if done.cancelled():
            scope.end(asyncio.CancelledError())
        elif (error := done.exception()) is not None:
            scope.end(error)
        else:
            _done(scope, done.result(), finish)

    scope.begin()
    future.add_done_callback(end)
    return future


def _done(scope: Scope, result: Any, finish: Finish | None) -> None:
    if finish is not None:
        try:
            finish(scope, result)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("result", error)
    scope.end()


async def _await_in(scope: Scope, work: Coroutine[Any, Any, Any], finish: Finish | None) -> Any:
    try:
        await begin(scope)
    except BaseException:
        work.close()  # it will not be awaited
        raise
    scope.attach()
    try:
        result = await work
    except BaseException as error:
        scope.detach()
        scope.end(error)
        raise
    scope.detach()
    _done(scope, result, finish)
    return result


def _step(
    scope: Scope, inner: Generator[Any, Any, Any], finish: Finish | None
) -> Generator[Any, Any, Any]:
    scope.begin()
    resume: Callable[[], Any] = functools.partial(next, inner)
    while True:
        scope.attach()
        try:
            item = resume()
        except StopIteration as stop:
            scope.detach()
            _done(scope, stop.value, finish)
            return stop.value
        except BaseException as error:
            scope.detach()
            scope.end(error)
            raise
        scope.detach()
        try:
            sent = yield item
        except GeneratorExit as closing:
            scope.attach()
            try:
                inner.close()
            except BaseException as error:
                scope.detach()
                scope.end(error)
                raise
            scope.detach()
            scope.end(closing)
            raise
        except BaseException as thrown:  # noqa: BLE001 - handed on to the generator
            resume = functools.partial(inner.throw, thrown)
        else:
            resume = functools.partial(inner.send, sent)


async def _step_async(
    scope: Scope, inner: AsyncGenerator[Any, Any], finish: Finish | None
) -> AsyncGenerator[Any, Any]:
    await begin(scope)
    resume: Callable[[], Awaitable[Any]] = inner.__anext__
    while True:
        scope.attach()
        try:
            item = await resume()
        except StopAsyncIteration:
            scope.detach()
            _done(scope, None, finish)
            return
        except BaseException as error:
            scope.detach()
            scope.end(error)
            raise
        scope.detach()
        try:
            sent = yield item
        except GeneratorExit as closing:
            scope.attach()
            try:
                await inner.aclose()
            except BaseException as error:
                scope.detach()
                scope.end(error)
                raise
            scope.detach()
            scope.end(closing)
            raise
        except BaseException as thrown:  # noqa: BLE001 - handed on to the generator
            resume = functools.partial(inner.athrow, thrown)
        else:
            resume = functools.partial(inner.asend, sent)


def decorate(function: _F, make: Callable[[], Scope]) -> _F:
    """Return a function that runs in a scope of its own at every call, and passes for the old."""
    try:
        return _decorated(function, make)
    except Exception as error:  # noqa: BLE001 - what cannot be wrapped works without a scope
        caught("decorator", error)
        return function


def _decorated(function: _F, make: Callable[[], Scope]) -> _F:
    from otel_agents.wrapper import Wrapper  # wrapt, which only programs that decorate load

    plain: Any = getattr(function, "__func__", function)
    lazy = is_lazy(plain)

    def around(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
        scope = None
        try:
            scope = make()
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("decorator", error)
        if scope is None:  # not in the handler: it would be the context of what is raised here
            return wrapped(*args, **kwargs)
        return drive(scope, functools.partial(wrapped, *args, **kwargs), lazy=lazy)

    where = f"{plain.__module__}:{plain.__qualname__}"
    return cast("_F", Wrapper(function, around, where, None))
