"""OTLP over HTTP behind the guard: a client that guesses tokens has to wait."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from otel_agents.receiver.http import JSON, PROTOBUF, http_app
from otel_agents.receiver.status import UNAVAILABLE, Refusal
from otel_agents.server.gate import client_of
from otel_agents.server.tokens import Guesses

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from otel_agents.server.guard import Guard
    from otel_agents.store import Store

_SAYS: Final = "Too many wrong tokens came from this address."


def otlp_app(store: Store, guard: Guard) -> ASGIApp:
    """Return the application of OTLP/HTTP."""
    return _Patient(http_app(store, guard.may_send))


class _Patient:
    """Counts answers of 401. Its count is its own: an exporter must not lock people out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._guesses = Guesses()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = client_of(scope)
        wait = self._guesses.wait(client)
        if wait > 0:
            await self._put_off(wait, scope, receive, send)
            return

        async def count(message: Message) -> None:
            if message.get("status") == HTTPStatus.UNAUTHORIZED:
                self._guesses.wrong(client)
            await send(message)

        await self._app(scope, receive, count)

    async def _put_off(self, wait: float, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = Refusal(429, UNAVAILABLE, _SAYS, retry_after=math.ceil(wait))
        as_json = any(
            name == b"content-type" and value.startswith(JSON) for name, value in scope["headers"]
        )
        body = refusal.as_json() if as_json else refusal.status().SerializeToString()
        headers = {"Retry-After": str(math.ceil(wait)), "Connection": "close"}
        kind = JSON if as_json else PROTOBUF
        await Response(body, 429, headers, media_type=kind.decode())(scope, receive, send)
