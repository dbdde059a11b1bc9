"""A provider on 127.0.0.1 that answers from a script and keeps the bill.

It speaks OpenAI's chat completions and responses, Anthropic's messages and Gemini's
generateContent over real sockets, so that the providers' own clients run against it.
"""

import json
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self

from . import wire_anthropic, wire_gemini, wire_openai
from .answers import Answer, Failure, Hold, Raw, Reply, Tokens

Json = dict[str, Any]
Route = Literal["chat", "responses", "messages", "gemini"]

HOLD_SECONDS = 30.0
"""The longest that an answer stands still: a test that forgets to release it fails, not hangs."""

POLL_SECONDS = 0.01
"""How often the server looks whether it is to end; the standard library's 0.5 is every test's."""


@dataclass(frozen=True)
class Wire:
    """How one route's answers, streams and errors are worded."""

    whole: Callable[[Answer, Json], Json]
    stream: Callable[[Answer, Json], Iterator[str]]
    error: Callable[[Failure], Json]


WIRES: dict[Route, Wire] = {
    "chat": Wire(wire_openai.chat, wire_openai.chat_stream, wire_openai.error),
    "responses": Wire(wire_openai.response, wire_openai.response_stream, wire_openai.error),
    "messages": Wire(wire_anthropic.message, wire_anthropic.message_stream, wire_anthropic.error),
    "gemini": Wire(wire_gemini.content, wire_gemini.content_stream, wire_gemini.error),
}


@dataclass(frozen=True)
class Request:
    """A request that the server received."""

    route: Route
    path: str
    headers: dict[str, str]
    body: Json
    model: str
    streamed: bool


@dataclass(frozen=True)
class Bill:
    """One billed answer."""

    route: Route
    model: str
    tokens: Tokens


Source = Reply | Callable[[Request], Reply]


class ProviderServer:
    """The server; use it as a context manager.

    Script a route with `reply` (each reply once, in order) or `always` (when the script is
    empty); either takes replies, or functions from the request to a reply. The end of the `with`
    raises AssertionError for a request that nothing was scripted for (it gets a 404), and for
    anything scripted that could not be done.

    Attributes:
        requests: Every request received, in the order of arrival.
        bills: Every answer billed. An answer that is broken off is billed in full: the provider
            has computed it.

    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.bills: list[Bill] = []
        self._scripts: dict[Route, deque[Source]] = {route: deque() for route in WIRES}
        self._defaults: dict[Route, Source] = {}
        self._faults: list[str] = []
        self._holds: list[Hold] = []
        self._lock = threading.Lock()
        self._http = _Http(self)
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(POLL_SECONDS,), name="provider-server"
        )

    @property
    def url(self) -> str:
        """The address, without a path: `http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def billed(self) -> Tokens:
        """What all answers together are billed at."""
        return sum((bill.tokens for bill in self.bills), start=Tokens())

    def reply(self, route: Route, *sources: Source) -> None:
        """Script the next replies of a route."""
        self._scripts[route].extend(sources)

    def always(self, route: Route, source: Source) -> None:
        """Script the reply of a route for whenever its script is empty."""
        self._defaults[route] = source

    def chosen(self, request: Request) -> Reply:
        """Record a request, choose its reply, and bill it."""
        with self._lock:
            self.requests.append(request)
            script = self._scripts[request.route]
            source = script.popleft() if script else self._defaults.get(request.route)
        if source is None:
            self.fault(f"nothing is scripted for {request.route}: {request.path}")
            return Failure(status=404, message="no reply is scripted for this request")
        reply = source if isinstance(source, (Answer, Failure, Raw)) else source(request)
        if not isinstance(reply, Answer):
            return reply
        answer = reply.named(request.model)
        with self._lock:
            self.bills.append(Bill(request.route, request.model, answer.tokens))
            if answer.hold is not None:
                self._holds.append(answer.hold)
        return answer

    def fault(self, what: str) -> None:
        """Note something that went against the script, for the end of the `with` to raise."""
        with self._lock:
            self._faults.append(what)

    def __enter__(self) -> Self:
        """Begin to serve."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections and end all threads."""
        for hold in self._holds:
            hold.release.set()
        self._http.shutdown()
        self._http.hang_up()
        self._http.server_close()
        self._thread.join()
        if error is None and self._faults:
            raise AssertionError("; ".join(self._faults))


class _Http(ThreadingHTTPServer):
    """A thread for each connection; all of them can be closed from outside."""

    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(self, provider: ProviderServer) -> None:
        self.provider = provider
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection."""
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget the connection."""
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Close every connection, so that threads that wait for a next request end."""
        with self._open_lock:
            for connection in self._open:
                _cut(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about clients that went away, and note anything else."""
        error = sys.exception()
        if not isinstance(error, OSError):
            self.provider.fault(f"the server failed: {error!r}")


class _Handler(BaseHTTPRequestHandler):
    """One connection, which is kept open between requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def provider(self) -> ProviderServer:
        """The script and the bill."""
        assert isinstance(self.server, _Http)
        return self.server.provider

    def do_POST(self) -> None:
        """Answer a request as scripted."""
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        request = self._request(body)
        if request is None:
            self._send(404, b'{"error": {"message": "no such route"}}')
            return
        reply = self.provider.chosen(request)
        wire = WIRES[request.route]
        if isinstance(reply, Raw):
            self._send(reply.status, reply.body, content_type=reply.content_type)
        elif isinstance(reply, Failure):
            body = json.dumps(wire.error(reply)).encode()
            self._send(reply.status, body, headers=dict(reply.headers))
        elif request.streamed:
            self._stream(reply, wire.stream(reply, request.body))
        else:
            body = json.dumps(wire.whole(reply, request.body)).encode()
            self._send(200, body, cut=reply.break_after is not None)

    def _request(self, body: Json) -> Request | None:
        path = self.path.partition("?")[0]
        headers = {name.lower(): value for name, value in self.headers.items()}
        model, streamed = str(body.get("model", "")), bool(body.get("stream"))
        route: Route
        if path == "/v1/chat/completions":
            route = "chat"
        elif path == "/v1/responses":
            route = "responses"
        elif path == "/v1/messages":
            route = "messages"
        elif path.startswith("/v1beta/models/") and path.endswith(
            (":generateContent", ":streamGenerateContent")
        ):
            route = "gemini"
            model, _, verb = path.removeprefix("/v1beta/models/").partition(":")
            streamed = verb.startswith("stream")
        else:
            return None
        return Request(route, self.path, headers, body, model, streamed)

    def _send(
        self,
        status: int,
        body: bytes,
        *,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
        cut: bool = False,
    ) -> None:
        """Send a whole answer, or half of one when it is cut."""
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self._break_off()

    def _stream(self, answer: Answer, events: Iterator[str]) -> None:
        """Send events in chunks, standing still or breaking off where the answer says so."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        sent = 0
        for event in events:
            if answer.hold is not None and sent == answer.hold.after:
                answer.hold.reached.set()
                answer.hold.release.wait(HOLD_SECONDS)
            if sent == answer.break_after:
                self._break_off()
                return
            data = event.encode()
            try:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            except OSError:  # the client went away, as it may
                self.close_connection = True
                return
            sent += 1
        self.wfile.write(b"0\r\n\r\n")
        if answer.break_after is not None:
            self.provider.fault(f"no break: the stream had only {sent} events")
        if answer.hold is not None and not answer.hold.reached.is_set():
            self.provider.fault(f"no hold: the stream had only {sent} events")

    def _break_off(self) -> None:
        self.close_connection = True
        _cut(self.connection)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - stdlib's name
        """Keep the test output clean."""


def _cut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # already closed by the other side
        return
