"""OTLP/HTTP as an ASGI application: one coroutine a request."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from otel_agents.boundary import boundary
from otel_agents.receiver.bounded import Body, Buffer, Inflate
from otel_agents.receiver.decode import KINDS, Decoding, Kind
from otel_agents.receiver.flight import IN_FLIGHT, Commits, InFlight, Submits
from otel_agents.receiver.limits import (
    DECODERS,
    INLINE,
    LINGER_BYTES,
    LINGER_SECONDS,
    MAX_JSON,
    MAX_PROTOBUF,
)
from otel_agents.receiver.status import (
    INTERNAL,
    INVALID_ARGUMENT,
    NOT_FOUND,
    UNIMPLEMENTED,
    Refusal,
    too_large,
    unauthorized,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from otel_agents.receiver.guard import Authorize

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    Header = tuple[bytes, bytes]

PROTOBUF: Final = b"application/x-protobuf"
JSON: Final = b"application/json"
_KINDS: Final = {kind.path: kind for kind in KINDS}
_CLOSE: Final = (b"connection", b"close")
_TOO_LARGE: Final = 413


class _Gone(Exception):  # noqa: N818 - nobody is told
    """The client went away before its request was whole."""


class _Request:
    """What the headers of a request say."""

    __slots__ = ("encoding", "headers", "json", "length")

    def __init__(self, headers: list[Header]) -> None:
        kind = self.encoding = b""
        self.length = -1
        for name, value in headers:
            if name == b"content-type":
                kind = value
            elif name == b"content-length":
                self.length = int(value)
            elif name == b"content-encoding":
                self.encoding = value.strip().lower()
        media = kind if kind == PROTOBUF else kind.partition(b";")[0].strip().lower()
        self.json = media == JSON if media in {JSON, PROTOBUF} else None
        self.headers = headers


class HttpApp:
    """The ASGI application that takes OTLP requests in."""

    def __init__(self, store: Submits, authorize: Authorize | None, in_flight: InFlight) -> None:
        self._store = store
        self._authorize = authorize
        self._flight = in_flight
        self._commits: Commits | None = None
        self._threads = ThreadPoolExecutor(DECODERS, "otel-agents-otlp")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = _Request(scope["headers"])
        try:
            kind = self._admitted(scope, request)
            body = await self._taken(kind, request, receive)
        except Refusal as refusal:
            self._flight.note(f"refused: {refusal.http}")
            await _refuse(refusal, request, receive, send)
        except _Gone:
            return
        except Exception as error:  # noqa: BLE001 - one request's fault is not the next one's
            boundary.warn("otel-agents: a request could not be taken: %r", error)
            self._flight.note("refused: 500")
            broken = Refusal(500, INTERNAL, "The request could not be taken.")
            await _refuse(broken, request, receive, send)
        else:
            await _reply(send, 200, JSON if request.json else PROTOBUF, body)

    def _admitted(self, scope: Message, request: _Request) -> Kind:
        """Return the kind of a request that may come in, before its body is read."""
        kind = _KINDS.get(scope["path"])
        if kind is None:
            raise Refusal(404, NOT_FOUND, f"There is nothing here; {', '.join(_KINDS)} are.")
        if scope["method"] != "POST":
            allow = ((b"allow", b"POST"),)
            raise Refusal(405, UNIMPLEMENTED, "Requests are made by POST.", headers=allow)
        if self._authorize is not None and not self._authorize(_by_name(request.headers)):
            raise unauthorized()
        if request.json is None:
            accept = ((b"accept", PROTOBUF + b", " + JSON),)
            text = f"Content types are {PROTOBUF.decode()} and {JSON.decode()}."
            raise Refusal(415, INVALID_ARGUMENT, text, headers=accept)
        if request.encoding not in {b"", b"gzip", b"identity"}:
            accept = ((b"accept-encoding", b"gzip, identity"),)
            text = "Content encodings are gzip and identity."
            raise Refusal(415, INVALID_ARGUMENT, text, headers=accept)
        return kind

    async def _taken(self, kind: Kind, request: _Request, receive: Receive) -> bytes:
        """Read, decode and commit a request; return the body of the answer."""
        limit = MAX_JSON if request.json else MAX_PROTOBUF
        if request.length > limit:
            text = f"The body is larger than {limit} bytes."
            raise too_large(text)
        buffer = Buffer(limit, self._flight)
        try:
            body = await self._read(buffer, limit, request, receive)
            decoding = Decoding(kind, body, as_json=bool(request.json))
            if self._commits is None:
                self._commits = Commits(self._store)
            commit = self._commits.commit
            if body.size <= INLINE:
                while (batch := decoding.next()) is not None:
                    await commit(batch)
            else:
                while (batch := await self._in_thread(decoding.next)) is not None:
                    await commit(batch)
            decoding.note(self._flight)
            return decoding.answer(as_json=bool(request.json))
        finally:
            buffer.free()

    async def _read(self, buffer: Buffer, limit: int, request: _Request, receive: Receive) -> Body:
        """Return a whole body, decompressed."""
        into = Inflate(buffer) if request.encoding == b"gzip" else buffer
        taken = 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            more = message.get("more_body", False)
            data = message.get("body", b"")
            taken += len(data)
            if taken > limit:
                text = f"The body is larger than {limit} bytes."
                raise too_large(text)
            left = into.feed(data, INLINE)
            if left:
                await self._in_thread(into.feed, left)
        return into.close()

    def _in_thread(self, call: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(self._threads, call, *args)


def http_app(
    store: Submits, authorize: Authorize | None = None, *, in_flight: InFlight = IN_FLIGHT
) -> HttpApp:
    """Return the ASGI application of OTLP/HTTP.

    Args:
        store: Takes the batches.
        authorize: Says by a request's headers whether its sender may send; None lets all send.
        in_flight: Counts the bytes under way; by default one count for the whole process.

    """
    return HttpApp(store, authorize, in_flight)


def _by_name(headers: list[Header]) -> dict[str, str]:
    """Return headers by name; those of one name are joined, as HTTP says."""
    found: dict[str, str] = {}
    for name, value in headers:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


async def _refuse(refusal: Refusal, request: _Request, receive: Receive, send: Send) -> None:
    """Say what is wrong, in the request's own content type."""
    body = refusal.as_json() if request.json else refusal.status().SerializeToString()
    kind = JSON if request.json else PROTOBUF
    if refusal.http != _TOO_LARGE:
        await _reply(send, refusal.http, kind, body, refusal.headers)
        return
    # The client is sending still. Were the connection closed at once, what it sent would be
    # answered by a reset, and the answer lost on its way.
    await _begin(send, refusal.http, kind, body, (*refusal.headers, _CLOSE))
    await send({"type": "http.response.body", "body": body, "more_body": True})
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            await _drain(receive)
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _drain(receive: Receive) -> None:
    left = LINGER_BYTES
    while left > 0:
        message = await receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return
        left -= len(message.get("body", b""))


async def _begin(
    send: Send, status: int, kind: bytes, body: bytes, headers: tuple[Header, ...]
) -> None:
    length = str(len(body)).encode()
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", kind), (b"content-length", length), *headers],
        }
    )


async def _reply(
    send: Send, status: int, kind: bytes, body: bytes, headers: tuple[Header, ...] = ()
) -> None:
    await _begin(send, status, kind, body, headers)
    await send({"type": "http.response.body", "body": body, "more_body": False})
