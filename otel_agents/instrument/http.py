"""Requests that a provider refused and the client's own retries repeated: attempts we would not
see otherwise, since the model call answers in the end.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, Final

from otel_agents.boundary import caught
from otel_agents.context import current_frame
from otel_agents.model_call import ModelCall

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from otel_agents.instrument.seams import Seams

_REFUSED: Final = 400
_CLIENTS: Final = ("httpx", "httpx2")


def install(seams: Seams) -> None:
    """Watch the transports of the HTTP clients that are imported."""
    for name in _CLIENTS:
        client = sys.modules.get(name)
        if client is not None and hasattr(client, "AsyncHTTPTransport"):
            seams.replace(client.AsyncHTTPTransport, "handle_async_request", _handle_async)
            seams.replace(client.HTTPTransport, "handle_request", _handle)


def _refused() -> None:
    try:
        frame = current_frame()
        if frame is not None and isinstance(frame.scope, ModelCall):
            frame.scope.refused_request()
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("HTTP attempt", error)


def _handle_async(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def handle_async_request(self: Any, request: Any) -> Any:
        try:
            response = await original(self, request)
        except Exception:
            _refused()
            raise
        if response.status_code >= _REFUSED:
            _refused()
        return response

    return handle_async_request


def _handle(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def handle_request(self: Any, request: Any) -> Any:
        try:
            response = original(self, request)
        except Exception:
            _refused()
            raise
        if response.status_code >= _REFUSED:
            _refused()
        return response

    return handle_request
