"""HTTP on the socket: uvicorn's httptools protocol with limits on what a connection may take.

The parser has none of its own: neither on the length of a header nor on the time it may take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast
from weakref import WeakSet

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from otel_agents.receiver.http import JSON, PROTOBUF
from otel_agents.receiver.limits import (
    HEADER_SECONDS,
    IDLE_SECONDS,
    MAX_CONNECTIONS,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    REQUEST_SECONDS,
)
from otel_agents.receiver.status import Refusal, busy, undecodable

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Transport
    from pathlib import Path

    from uvicorn._types import ASGIApplication
    from uvicorn.server import ServerState

_SWEEP_SECONDS: Final = 1.0
_PHRASES: Final = {400: b"Bad Request", 503: b"Service Unavailable"}


class _HeadersTooLargeError(Exception):
    """Raised inside the parser's callbacks, which makes the request a bad one."""


class ReceiverProtocol(HttpToolsProtocol):
    """One connection.

    A request has HEADER_SECONDS for its headers and REQUEST_SECONDS in all until its last byte; a
    connection is idle for as long as uvicorn's `timeout_keep_alive` says, and HEADER_SECONDS
    before its first request. One timer looks after all connections of a server.
    """

    # When what we wait for must be here, by the loop's clock; 0 while it is our turn.
    due = 0.0
    _begun = 0.0
    _header_bytes = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Take a connection in, or turn it away where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self._answer(busy("There are too many connections."))
            return
        self.due = self.loop.time() + HEADER_SECONDS
        _watch(self.loop, self.server_state)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let a connection go."""
        self.due = 0.0
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Start the clock of a request."""
        super().on_message_begin()
        self._begun = self.loop.time()
        self.due = self._begun + HEADER_SECONDS
        self._header_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Count the target's bytes in."""
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header in."""
        self._count(name)
        self._count(value)
        if len(self.headers) >= MAX_HEADERS:
            raise _HeadersTooLargeError
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Give the body its time."""
        self.due = self._begun + REQUEST_SECONDS
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Stop the clock: the request is here."""
        self.due = 0.0
        super().on_message_complete()

    def _count(self, part: bytes) -> None:
        self._header_bytes += len(part)
        if self._header_bytes > MAX_HEADER_BYTES:
            raise _HeadersTooLargeError

    def expire(self) -> None:
        """Close a connection that is late."""
        self.due = 0.0
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP request, or one beyond the limits, by a status message."""
        del msg
        self._answer(undecodable("The request is not valid HTTP, or its headers are too large."))

    def _answer(self, refusal: Refusal) -> None:
        """Send an answer from outside the application, and close."""
        headers = self.headers or []
        as_json = any(
            name == b"content-type" and value.partition(b";")[0].strip().lower() == JSON
            for name, value in headers
        )
        body = refusal.as_json() if as_json else refusal.status().SerializeToString()
        lines = [
            b"HTTP/1.1 %d %s" % (refusal.http, _PHRASES[refusal.http]),
            b"content-type: " + (JSON if as_json else PROTOBUF),
            b"content-length: %d" % len(body),
            *(b"%s: %s" % header for header in refusal.headers),
            b"connection: close",
            b"",
            body,
        ]
        self.due = 0.0
        self.transport.write(b"\r\n".join(lines))
        self.transport.close()


_watched: WeakSet[ServerState] = WeakSet()


def _watch(loop: AbstractEventLoop, server: ServerState) -> None:
    """Look after a server's connections, for as long as it has any."""
    if server in _watched:
        return
    _watched.add(server)

    def sweep() -> None:
        now = loop.time()
        for connection in tuple(server.connections):
            due = getattr(connection, "due", 0.0)
            if due and due < now:
                cast("ReceiverProtocol", connection).expire()
        if server.connections:
            loop.call_later(_SWEEP_SECONDS, sweep)
        else:
            _watched.discard(server)

    loop.call_later(_SWEEP_SECONDS, sweep)


def http_config(
    app: ASGIApplication,
    *,
    host: str = "127.0.0.1",
    port: int = 4318,
    certificate: Path | None = None,
    key: Path | None = None,
) -> uvicorn.Config:
    """Return uvicorn's configuration for the receiver.

    uvloop is used where it is installed.

    Args:
        app: What `http_app` returned.
        host: The address to listen on.
        port: The port; 0 takes a free one.
        certificate: A PEM file with the server's certificate chain, for TLS.
        key: A PEM file with its private key.

    """
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=ReceiverProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # what a client sends wrong is its answer, not a line each
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        backlog=MAX_CONNECTIONS,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
