"""Listeners: a socket each, and a thread with an event loop for each that speaks HTTP.

Decoding telemetry keeps a loop busy, so the console's is another one.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from typing import TYPE_CHECKING, Final

import uvicorn

from otel_agents.errors import SettingsError, UnavailableError
from otel_agents.server.live import MOST_BYTES
from otel_agents.server.protocols import HttpProtocol, WebSocketProtocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from otel_agents.server.tls import Certificate

_BACKLOG: Final = 512
_IDLE_SECONDS: Final = 15
_HEAD_BYTES: Final = 48 * 1024  # an address of 16 KiB, a token, and what browsers send
_GRACE_SECONDS: Final = 1
_JOIN_SECONDS: Final = 5.0
_ABORT_SECONDS: Final = 0.01  # for a loop to let go of what was aborted
_LOOPBACK: Final = "127.0.0.1"


def bind(host: str, port: int, option: str) -> socket.socket:
    """Return a socket that is bound and not listening yet.

    Args:
        host: A name or an address.
        port: The port, or 0 for a free one.
        option: The option of the command line that names the port.

    Raises:
        SettingsError: The host is none of this machine's, or the port is no port.
        UnavailableError: The port is taken.

    """
    # On loopback one of the two addresses is enough, and 127.0.0.1 is the one people type.
    name = _LOOPBACK if host == "localhost" else host
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            name or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as error:
        message = f"--host {host}: there is no such address to listen on."
        raise SettingsError(message) from error
    try:
        # A port whose last connections are still being closed may be bound again at once.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError as error:
        made.close()
        raise _unbound(error, host, port, option) from error
    return made


def _unbound(error: OSError, host: str, port: int, option: str) -> Exception:
    if error.errno == errno.EADDRINUSE:
        return UnavailableError(
            f"Port {port} is taken: end what listens there, or choose another with {option} "
            "(0 for a free one)."
        )
    if error.errno == errno.EACCES:
        return UnavailableError(f"Port {port} needs rights that are missing: choose with {option}.")
    return SettingsError(f"--host {host}: it cannot be listened on ({error.strerror}).")


def port_of(bound: socket.socket) -> int:
    """Return the port that a socket is bound to."""
    port: int = bound.getsockname()[1]
    return port


def console_config(app: ASGIApp, certificate: Certificate | None) -> uvicorn.Config:
    """Return uvicorn's configuration for the console's port."""
    return uvicorn.Config(
        app,
        http=HttpProtocol,
        ws=WebSocketProtocol,
        ws_max_size=MOST_BYTES,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,  # addresses can hold what people search for
        proxy_headers=False,  # anyone could say so whence they come
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_IDLE_SECONDS,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        ssl_certfile=None if certificate is None else certificate.cert,
        ssl_keyfile=None if certificate is None else certificate.key,
    )


class HttpListener:
    """An application on a socket, in a thread of its own."""

    def __init__(self, name: str, config: uvicorn.Config, bound: socket.socket) -> None:
        config.timeout_graceful_shutdown = _GRACE_SECONDS
        self._socket = bound
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name=f"otel-agents-{name}", daemon=True)
        self._ready = threading.Event()

    def start(self) -> None:
        """Listen; return once connections are taken."""
        self._server.config.load()
        startup = self._server.startup

        async def start_up(sockets: list[socket.socket] | None = None) -> None:
            await startup(sockets)
            self._ready.set()

        shutdown = self._server.shutdown

        async def shut_down(sockets: list[socket.socket] | None = None) -> None:
            await shutdown(sockets)
            # Clients that read nothing are not waited for; their transports would stay open.
            for connection in list(self._server.server_state.connections):
                transport = getattr(connection, "transport", None)
                if transport is not None:
                    transport.abort()
            await asyncio.sleep(_ABORT_SECONDS)

        self._server.startup = start_up  # type: ignore[method-assign]
        self._server.shutdown = shut_down  # type: ignore[method-assign]
        self._thread.start()
        self._ready.wait()
        if not self._server.started:
            message = f"The listener on port {port_of(self._socket)} could not be started."
            raise UnavailableError(message)

    def stop(self) -> None:
        """Take no more connections, and let what is under way be answered for a second."""
        self._server.should_exit = True

    def join(self) -> None:
        """Wait for the end."""
        if self._thread.is_alive():
            self._thread.join(_JOIN_SECONDS)
        self._socket.close()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._ready.set()
