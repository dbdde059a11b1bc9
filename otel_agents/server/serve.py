"""The whole server: the store, its listeners, and the clean-up that keeps it small."""

from __future__ import annotations

import logging
import signal
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from otel_agents.server.app import console_app
from otel_agents.server.guard import Guard
from otel_agents.server.listeners import HttpListener, bind, console_config, port_of
from otel_agents.server.live import Feed
from otel_agents.server.origins import WILDCARDS
from otel_agents.server.senders import otlp_app
from otel_agents.server.tls import Certificate, certificate
from otel_agents.store import open_store
from otel_agents.store.retention import retention_of
from otel_agents.usage import Prices

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

    import uvicorn

    from otel_agents.receiver.grpc import GrpcServer
    from otel_agents.settings import Settings
    from otel_agents.store import Store
    from otel_agents.workspace import Workspace

log = logging.getLogger("otel_agents.server")

PORT: Final = 3010
OTLP_HTTP_PORT: Final = 4318
OTLP_GRPC_PORT: Final = 4317
_MAINTAIN_SECONDS: Final = 300.0
# A server that starts anew every few minutes has to tidy too.
_FIRST_MAINTAIN_SECONDS: Final = 20.0
_GRACE_SECONDS: Final = 1.0
_JOIN_SECONDS: Final = 5.0


class Options(NamedTuple):
    """What `otel-agents serve` takes.

    Attributes:
        host: The name or address to listen on.
        port: The port of console, API and live feed; 0 takes a free one, here and below.
        otlp_http_port: The port of OTLP over HTTP.
        otlp_grpc_port: The port of OTLP over gRPC; None for no such listener.
        store: The URL of the store; None for the settings', or else the workspace's database.
        tls_cert: A PEM file with the certificate chain, for all three listeners.
        tls_key: A PEM file with its key.
        hosts: More names that clients reach the server by.

    """

    host: str = "127.0.0.1"
    port: int = PORT
    otlp_http_port: int = OTLP_HTTP_PORT
    otlp_grpc_port: int | None = OTLP_GRPC_PORT
    store: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    hosts: tuple[str, ...] = ()


class Addresses(NamedTuple):
    """Where a server listens, as URLs with the real ports; None where it does not."""

    console: str
    otlp_http: str
    otlp_grpc: str | None


class Server:
    """A server in this process. Making it checks the options; `start` opens and listens.

    Args:
        options: Where to listen, and what to store in.
        settings: Tokens, retention and prices.
        workspace: Where the database is, unless a URL is given.

    Raises:
        SettingsError: The address needs a token, or the certificate cannot be used.

    """

    def __init__(self, options: Options, settings: Settings, workspace: Workspace | None) -> None:
        self._options = options
        self._settings = settings
        self._workspace = workspace
        self._certificate = certificate(options.tls_cert, options.tls_key)
        self.guard = Guard(settings, options.host, options.hosts, tls=self._certificate is not None)
        self.store: Store | None = None
        self._bound: list[socket.socket] = []
        self._listeners: list[HttpListener] = []
        self._grpc: GrpcServer | None = None
        self._ending = threading.Event()
        self._keeper: threading.Thread | None = None
        self._feed: Feed | None = None

    def start(self) -> Addresses:
        """Listen; return the addresses once every listener takes connections.

        Raises:
            SettingsError: The host is none of this machine's, or the store's URL is none.
            UnavailableError: A port is taken, or the store cannot be opened.
            NotFoundError: There is neither a store's URL nor a workspace.

        """
        try:
            return self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> Addresses:
        options, secured = self._options, self._certificate
        # Ports first: it is the likeliest to fail, and a second server must not touch the store.
        console = self._bind(options.port, "--port")
        otlp = self._bind(options.otlp_http_port, "--otlp-http-port")
        grpc_port = options.otlp_grpc_port
        grpc = None if grpc_port is None else self._bind(grpc_port, "--otlp-grpc-port")
        store = self.store = open_store(
            options.store or self._settings.store,
            self._workspace,
            retain=retention_of(self._settings.retention),
            prices=Prices(self._settings.prices),
        )
        store.start()
        scheme = "http" if secured is None else "https"
        shown = _shown(options.host)
        addresses = Addresses(
            console=f"{scheme}://{shown}:{port_of(console)}",
            otlp_http=f"{scheme}://{shown}:{port_of(otlp)}",
            otlp_grpc=None if grpc is None else f"{scheme}://{shown}:{port_of(grpc)}",
        )
        self.guard.otlp_http = addresses.otlp_http
        if grpc is not None:
            self._start_grpc(store, grpc, secured)
        config = _otlp_config(store, self.guard, secured)
        self._listen("otlp-http", config, otlp)
        self._feed = Feed(store, self.guard)
        app = console_app(store, self.guard, jaeger_url=self._settings.jaeger, feed=self._feed)
        self._listen("console", console_config(app, secured), console)
        self._keeper = threading.Thread(target=self._keep, name="otel-agents-keeper", daemon=True)
        self._keeper.start()
        return addresses

    @property
    def listeners(self) -> int:
        """How many follow the live feed."""
        return 0 if self._feed is None else self._feed.clients

    def stop(self) -> None:
        """Answer what is under way, for a second at most, write what waits, and end."""
        self._ending.set()
        for listener in self._listeners:
            listener.stop()
        if self._grpc is not None:
            self._grpc.stop(_GRACE_SECONDS)
        for listener in self._listeners:
            listener.join()
        for bound in self._bound:
            bound.close()
        if self._keeper is not None:
            self._keeper.join(_JOIN_SECONDS)
        if self.store is not None:
            self.store.close()
        self._listeners, self._bound = [], []
        self._grpc = self._keeper = self.store = None

    def _bind(self, port: int, option: str) -> socket.socket:
        bound = bind(self._options.host, port, option)
        self._bound.append(bound)
        return bound

    def _listen(self, name: str, config: uvicorn.Config, bound: socket.socket) -> None:
        listener = HttpListener(name, config, bound)
        self._listeners.append(listener)
        listener.start()

    def _start_grpc(self, store: Store, bound: socket.socket, secured: Certificate | None) -> None:
        from otel_agents.receiver.grpc import grpc_server

        # gRPC binds by itself; the socket has shown that the port is free, and found one for 0.
        host, port = bound.getsockname()[:2]
        bound.close()
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        credentials = None if secured is None else secured.for_grpc()
        self._grpc = grpc_server(store, self.guard.may_send, address, credentials)
        self._grpc.start()

    def _keep(self) -> None:
        store, wait = self.store, _FIRST_MAINTAIN_SECONDS
        while store is not None and not self._ending.wait(wait):
            wait = _MAINTAIN_SECONDS
            try:
                gone = store.maintain()
            except Exception:
                log.exception("the store could not be tidied; it is tried again")
            else:
                if any(gone.values()):
                    log.info("deleted from the store: %s", gone)


def run(
    options: Options,
    settings: Settings,
    workspace: Workspace | None,
    announce: Callable[[Addresses], None],
) -> None:
    """Serve until SIGINT or SIGTERM; to be called in the main thread.

    Args:
        options: Where to listen, and what to store in.
        settings: Tokens, retention and prices.
        workspace: Where the database is, unless a URL is given.
        announce: Called with the addresses once every listener takes connections.

    Raises:
        OtelAgentsError: Those of `Server` and `Server.start`.

    """
    # Of all that waits, a simple queue is what a signal handler may use at any moment.
    signals: SimpleQueue[int] = SimpleQueue()

    def end(number: int, _frame: FrameType | None) -> None:
        signals.put(number)

    server = Server(options, settings, workspace)
    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        addresses = server.start()
        try:
            announce(addresses)
            signals.get()
        finally:
            server.stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _otlp_config(store: Store, guard: Guard, secured: Certificate | None) -> uvicorn.Config:
    from otel_agents.receiver.protocol import http_config

    cert, key = (None, None) if secured is None else secured
    # uvicorn and Starlette describe the same application in types of their own.
    app = cast("Any", otlp_app(store, guard))
    return http_config(app, certificate=cert, key=key)


def _shown(host: str) -> str:
    """Return a host as a person on this machine types it."""
    if host in WILDCARDS:
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
