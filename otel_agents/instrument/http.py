"""Requests that failed and that an HTTP client's own retries repeated.

They are attempts that would not be seen otherwise, since the model call answers in the end.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, Final

from otel_agents.boundary import caught
from otel_agents.context import current_frame
from otel_agents.model_call import ModelCall

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from otel_agents.instrument.seams import Seams

_REFUSED: Final = 400
_TIMED_OUT: Final = 408
_RATE_LIMITED: Final = 429
_SERVER_ERROR: Final = 500
_CLIENTS: Final = ("httpx", "httpx2")
# Errors of the clients that say that the provider got nothing it could bill.
_NOT_SENT: Final = frozenset(
    {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol"}
)


def install(seams: Seams) -> None:
    """Watch the transports of the HTTP clients that are imported."""
    for name in _CLIENTS:
        client = sys.modules.get(name)
        if client is not None and hasattr(client, "AsyncHTTPTransport"):
            body = type("WatchedBody", (_Body, client.SyncByteStream), {})
            async_body = type("WatchedBody", (_AsyncBody, client.AsyncByteStream), {})
            wrap = functools.partial(_handle, body)
            wrap_async = functools.partial(_handle_async, async_body)
            seams.replace(client.HTTPTransport, "handle_request", wrap)
            seams.replace(client.AsyncHTTPTransport, "handle_async_request", wrap_async)


def _calling() -> ModelCall | None:
    """Return the model call that the code here runs for."""
    frame = current_frame()
    scope = None if frame is None else frame.scope
    return scope if isinstance(scope, ModelCall) else None


def trouble_of(status: int) -> str:
    """Return what a refusal's status says, as a code of `reasons.PROVIDER_RETRIES`."""
    if status >= _SERVER_ERROR:
        return "SERVER_ERROR"
    return {_RATE_LIMITED: "RATE_LIMITED", _TIMED_OUT: "TIMEOUT"}.get(status, "REFUSED")


def _failed(call: ModelCall | None, error: Exception) -> None:
    try:
        if call is not None:
            names = [kind.__name__ for kind in type(error).__mro__]
            refused = any(name in _NOT_SENT for name in names)
            timed_out = isinstance(error, TimeoutError) or "TimeoutException" in names
            trouble = "TIMEOUT" if timed_out else "CONNECTION"
            call.sent(refused=refused, lost=not refused, trouble=trouble)
    except Exception as failure:  # noqa: BLE001 - telemetry never reaches the host
        caught("HTTP attempt", failure)


def _answered(call: ModelCall | None, response: Any, body: Callable[[Any, ModelCall], Any]) -> None:
    try:
        if call is None:
            return
        refused = response.status_code >= _REFUSED
        call.sent(refused=refused, trouble=trouble_of(response.status_code) if refused else "")
        if not refused:
            response.stream = body(response.stream, call)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("HTTP attempt", error)


def _handle_async(
    body: Callable[[Any, ModelCall], Any], original: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def handle_async_request(self: Any, request: Any) -> Any:
        call = _calling()
        try:
            response = await original(self, request)
        except Exception as error:
            _failed(call, error)
            raise
        _answered(call, response, body)
        return response

    return handle_async_request


def _handle(
    body: Callable[[Any, ModelCall], Any], original: Callable[..., Any]
) -> Callable[..., Any]:
    @functools.wraps(original)
    def handle_request(self: Any, request: Any) -> Any:
        call = _calling()
        try:
            response = original(self, request)
        except Exception as error:
            _failed(call, error)
            raise
        _answered(call, response, body)
        return response

    return handle_request


class _Body:
    """The body of a good answer; what the provider bills for one that breaks off is not seen."""

    def __init__(self, inner: Any, call: ModelCall) -> None:
        self._inner = inner
        self._call = call

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._inner
        except Exception as error:
            _failed(self._call, error)
            raise

    def close(self) -> None:
        """Close the connection's stream."""
        self._inner.close()


class _AsyncBody:
    """The same for asynchronous clients."""

    def __init__(self, inner: Any, call: ModelCall) -> None:
        self._inner = inner
        self._call = call

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._inner:
                yield part
        except Exception as error:
            _failed(self._call, error)
            raise

    async def aclose(self) -> None:
        """Close the connection's stream."""
        await self._inner.aclose()
