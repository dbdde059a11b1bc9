"""The process's own metrics at `/metrics`, for a Prometheus that scrapes programs.

It is asked for as a sink is, by `prometheus://HOST:PORT`, and takes no signals: what it serves is
what was counted in this process. It listens on this machine alone unless a token is set, which a
scrape then has to bring.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import re
import selectors
import socket
import sys
import threading
import weakref
from collections import deque
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

from otel_agents import settings
from otel_agents.boundary import caught
from otel_agents.errors import SettingsError
from otel_agents.scrape import answer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from email.message import Message

    from otel_agents.signals import Signal
    from otel_agents.workspace import Workspace

HOST: Final = "127.0.0.1"
PORT: Final = 9464  # of OpenTelemetry's Prometheus exporters, by its specification
_EVERYWHERE: Final = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
# Connections at once, beyond which the oldest is closed: they are threads in the host's process,
# and one that sends nothing must not keep a scrape out.
_MOST: Final = 8
_SECONDS: Final = 10.0  # for a request to come and its answer to be taken

_live: weakref.WeakSet[PrometheusReader] = weakref.WeakSet()


class _Reply(NamedTuple):
    status: HTTPStatus
    type: str
    body: bytes
    headers: dict[str, str] = {}  # noqa: RUF012 - nobody changes it


class _Listener(ThreadingMixIn, TCPServer):
    """The server: a thread a request, few of them at once."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = sys.platform != "win32"  # there it would let two listen on one port
    timeout = 0

    def __init__(self, host: str, port: int, digests: Sequence[bytes]) -> None:
        self.host = host
        self.digests = digests
        self._held: deque[socket.socket] = deque()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._held.append(request)
        while len(self._held) > _MOST:
            with suppress(OSError):
                self._held.popleft().shutdown(socket.SHUT_RDWR)  # its thread ends then
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with suppress(ValueError):
                self._held.remove(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away; the default writes to the program's stderr."""

    def reply(self, method: str, path: str, headers: Message) -> _Reply:
        """Return the answer to a request."""
        if not self._knows(headers.get("Host", "")):
            return _refusal(HTTPStatus.MISDIRECTED_REQUEST, "It does not answer to this host.")
        if method not in {"GET", "HEAD"}:
            said = "There are only metrics to read here."
            return _refusal(HTTPStatus.METHOD_NOT_ALLOWED, said, Allow="GET, HEAD")
        if self.digests and not self._admits(headers.get("Authorization", "")):
            said = "This needs the admin's or a viewer's token, as `Authorization: Bearer TOKEN`."
            challenge = {"WWW-Authenticate": 'Bearer realm="otel-agents"'}
            return _refusal(HTTPStatus.UNAUTHORIZED, said, **challenge)
        if path.partition("?")[0] != "/metrics":
            return _refusal(HTTPStatus.NOT_FOUND, "The metrics are at /metrics.")
        return _Reply(HTTPStatus.OK, *answer(headers.get("Accept", "")))

    def _knows(self, given: str) -> bool:
        """Say whether a Host header names this machine: a foreign page's name may lead here."""
        found = _HOST.fullmatch(given)
        if found is None:
            return False
        name = found[1].strip("[]").lower()
        # It cannot know all of its names; there is a token then, which no foreign page has.
        return self.host in _EVERYWHERE or is_loopback(name) or name == self.host.lower()

    def _admits(self, authorization: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        given = _digest(token.strip())
        # All are compared, so that the time taken does not tell which.
        same = [hmac.compare_digest(given, digest) for digest in self.digests]
        return scheme.lower() == "bearer" and any(same)


class _Handler(BaseHTTPRequestHandler):
    timeout = _SECONDS

    def version_string(self) -> str:
        return "otel-agents"

    def _answer(self) -> None:
        listener = cast("_Listener", self.server)
        try:
            reply = listener.reply(self.command, self.path, self.headers)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("scrape", error)
            reply = _refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "The metrics cannot be told.")
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.type)
        self.send_header("Content-Length", str(len(reply.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Log nothing: standard error is the program's."""


class PrometheusReader:
    """Serves the metrics of this process from a thread of its own, from when it is made.

    A forked child closes the socket and serves nothing: what it counts is its own.

    Args:
        host: The name or address to listen on.
        port: The port; 0 takes a free one, which `port` then says.
        tokens: Those that may read; none where everybody on this machine may.

    Raises:
        SettingsError: The port is taken, or the address is none of this machine's, or can be
            reached from elsewhere while there is no token.

    """

    name = "prometheus"

    def __init__(self, host: str = HOST, port: int = PORT, tokens: Sequence[str] = ()) -> None:
        url = f"prometheus://[{host}]:{port}" if ":" in host else f"prometheus://{host}:{port}"
        if not tokens and not is_loopback(host):
            message = (
                f"{url} can be reached from other machines: set OTEL_AGENTS_VIEWER_TOKEN or "
                "OTEL_AGENTS_TOKEN, or serve the metrics on 127.0.0.1"
            )
            raise SettingsError(message)
        try:
            self._listener = _Listener(host, port, [_digest(token) for token in tokens])
        except OSError as error:
            why = "the port is taken" if error.errno == errno.EADDRINUSE else str(error.strerror)
            message = f"{url} cannot serve the metrics of this process: {why}"
            raise SettingsError(message) from error
        self.port: int = self._listener.server_address[1]
        self._asleep, self._wake = socket.socketpair()
        self._thread = threading.Thread(
            target=self._serve, name="otel-agents-prometheus", daemon=True
        )
        self._thread.start()
        _live.add(self)

    def write(self, signals: Sequence[Signal]) -> None:
        """Take no notice: metrics are counted where things happen."""

    def close(self) -> None:
        """Listen no more."""
        if self._wake.fileno() >= 0:
            self._wake.close()
            self._thread.join(1.0)

    def abandon(self) -> None:
        """Let go of the sockets in a forked child, where the thread is not."""
        for one in (self._listener.socket, self._asleep, self._wake):
            one.close()

    def _serve(self) -> None:
        with self._listener, self._asleep, selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._asleep, selectors.EVENT_READ)
            while True:
                if any(key.fileobj is self._asleep for key, _ in selector.select()):
                    return
                self._listener.handle_request()


def make(rest: str, _workspace: Workspace | None) -> PrometheusReader:
    """Return the reader of `prometheus://HOST:PORT`; both can be left out."""
    try:
        parts = urlsplit(f"prometheus:{rest}")
        host, port = parts.hostname or HOST, PORT if parts.port is None else parts.port
    except ValueError:
        parts = None
    if parts is None or parts.username or parts.path not in {"", "/"} or parts.query:
        message = "prometheus: takes an address to listen on, as prometheus://127.0.0.1:9464"
        raise SettingsError(message)
    known = settings.load(os.environ, Path.cwd())
    tokens = [token for token in (known.token, known.viewer_token) if token]
    return PrometheusReader(host, port, tokens)


def is_loopback(host: str) -> bool:
    """Say whether a name or address is this machine's own, seen from itself alone."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _refusal(status: HTTPStatus, said: str, **headers: str) -> _Reply:
    return _Reply(status, "text/plain; charset=utf-8", f"{said}\n".encode(), headers)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _after_fork() -> None:
    for reader in list(_live):
        reader.abandon()
    _live.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
