"""Models of pydantic-ai that ask others in turn: a spent budget lets them ask no next one."""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from otel_agents.boundary import caught
from otel_agents.errors import BudgetExceeded
from otel_agents.instrument import pydantic_ai_agents as agents
from otel_agents.model_call import admit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from types import TracebackType


def request_(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Wrap `FallbackModel.request`: a budget that is spent is no reason to ask another model."""

    @functools.wraps(original)
    async def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _asking():
            return await original(self, *args, **kwargs)

    return request


def request_stream_(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `FallbackModel.request_stream`, as `request_` does."""

    @functools.wraps(original)
    def request_stream(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _FallbackStream(original(self, *args, **kwargs))

    return request_stream


class _FallbackStream:
    """What `request_stream` of models behind one returns."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def __aenter__(self) -> Any:
        with _asking():
            return await self._inner.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Any:
        return await self._inner.__aexit__(kind, error, traceback)


@contextmanager
def _asking() -> Generator[None]:
    """Ask the budgets first, and let one that refuses out alone, of all that models raised."""
    _admit()
    try:
        yield
    except Exception as error:
        refused = _refusal(error)
        if refused is None or refused is error:
            raise
        raise refused from None


def _admit() -> None:
    try:
        if agents.watching() is not None:
            admit(agents.context_of(agents.current_run()))
    except BudgetExceeded:
        raise
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("model fallback", error)


def _refusal(error: BaseException) -> BudgetExceeded | None:
    try:
        return _budget_in(error)
    except Exception as failure:  # noqa: BLE001 - telemetry never reaches the host
        caught("model fallback", failure)
        return None


def _budget_in(error: BaseException) -> BudgetExceeded | None:
    """Return the budget that a model refused for, of the errors that several models gave."""
    if isinstance(error, BudgetExceeded):
        return error
    inside = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return next((found for one in inside if (found := _budget_in(one)) is not None), None)


SEAMS: Final = {"request": request_, "request_stream": request_stream_}
"""What is wrapped of a model that asks others, by name."""
