"""Beasts that speak HTTP/1.1, written on the bare connection: a server would be too polite."""

from __future__ import annotations

import asyncio
import email.utils
import functools
import gzip
import itertools
import random
import time
import zlib
from typing import TYPE_CHECKING, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from .ports import reset
from .seen import ids_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .seen import Seen

HUGE: Final = 512 << 20
FLAKY: Final = 0.7  # of requests are refused, as the collector's own retry test has it
RETRY_AFTER: Final = 40  # seconds
PILL: Final = b"poison-pill"
_number: Final = itertools.count()
_PIECE: Final = bytes(1 << 20)
_REASONS: Final = {200: "OK", 400: "Bad Request", 503: "Service Unavailable"}
_PROTOBUF: Final = "application/x-protobuf"


class Exchange:
    """One request, and what the beast may answer with."""

    def __init__(
        self, writer: asyncio.StreamWriter, beast: str, seen: Seen, canary: str, signal: str
    ) -> None:
        self.writer = writer
        self.canary = canary
        self.signal = signal
        self.ids: list[str] = []
        self.body = b""
        self.headers: dict[str, str] = {}
        self._beast = beast
        self._seen = seen

    def take(self, ids: list[str] | None = None) -> None:
        """Say that the backend holds these, or all."""
        self._put(self.ids if ids is None else ids, taken=True)

    def refuse(self, ids: list[str] | None = None) -> None:
        """Say that the backend has none of it."""
        self._put(self.ids if ids is None else ids, taken=False)

    def _put(self, ids: list[str], *, taken: bool) -> None:
        self._seen.put(self._beast, self.signal, ids, self.headers, taken=taken)

    async def answer(
        self, status: int, body: bytes = b"", kind: str = _PROTOBUF, **headers: str
    ) -> None:
        """Send a whole reply."""
        self.head(status, **{"Content-Type": kind, "Content-Length": str(len(body)), **headers})
        self.writer.write(body)
        await self.writer.drain()

    def head(self, status: int, end: str = "\r\n", **headers: str) -> None:
        """Begin a reply."""
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'As it is')}"]
        lines += [f"{key.replace('_', '-')}: {value}" for key, value in headers.items()]
        self.writer.write(("\r\n".join([*lines, ""]) + end).encode())


async def _healthy(one: Exchange) -> None:
    one.take()
    await one.answer(200)


def _refusing(status: int, after: Callable[[], str] | None = None) -> Beast:
    async def beast(one: Exchange) -> None:
        one.refuse()
        await one.answer(status, **({} if after is None else {"Retry_After": after()}))

    return beast


async def _flaky(one: Exchange) -> None:
    refused = random.random() < FLAKY  # noqa: S311 - chance is all that is wanted
    await (_refusing(503) if refused else _healthy)(one)


async def _slow_answer(one: Exchange) -> None:
    one.take()
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + bytes(1000)
    for at in range(len(reply)):
        one.writer.write(reply[at : at + 1])
        await one.writer.drain()
        await asyncio.sleep(1)


async def _huge_reply(one: Exchange) -> None:
    one.take()
    one.head(200, Content_Type=_PROTOBUF, Content_Length=str(HUGE))
    for _ in range(HUGE // len(_PIECE)):
        one.writer.write(_PIECE)
        await one.writer.drain()


async def _gzip_bomb(one: Exchange) -> None:
    one.take()
    await one.answer(200, _bomb(), Content_Encoding="gzip")


@functools.cache
def _bomb() -> bytes:
    packer = zlib.compressobj(wbits=31)
    packed = [packer.compress(_PIECE) for _ in range(HUGE // len(_PIECE))]
    return b"".join([*packed, packer.flush()])


def prepare(beast: str) -> None:
    """Do what would make the first answer slow."""
    if beast == "gzip-bomb":
        _bomb()


async def _endless_headers(one: Exchange) -> None:
    one.take()
    one.writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        one.writer.write(b"X-More: " + b"m" * 1000 + b"\r\n")
        await one.writer.drain()
        await asyncio.sleep(0.01)


async def _endless_continue(one: Exchange) -> None:
    one.take()
    while True:
        one.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await one.writer.drain()
        await asyncio.sleep(0.01)


async def _endless_body(one: Exchange) -> None:
    one.take()
    one.head(200, Content_Type=_PROTOBUF, Transfer_Encoding="chunked")
    while True:
        one.writer.write(b"400\r\n" + bytes(1024) + b"\r\n")
        await one.writer.drain()
        await asyncio.sleep(0.001)


def _redirect(status: int) -> Beast:
    async def beast(one: Exchange) -> None:
        one.refuse()
        await one.answer(status, Location=f"{one.canary}/v1/{one.signal}")

    return beast


async def _garbage(one: Exchange) -> None:
    one.take()
    await one.answer(200, b"\xff\xfe\x00garbage\x80" * 8)


async def _html(one: Exchange) -> None:
    one.take()
    await one.answer(200, b"<!doctype html><title>Please sign in</title>", "text/html")


async def _cookies(one: Exchange) -> None:
    """Answer well, with 1.8 MB of cookies that are other ones each time."""
    one.take()
    one.head(200, Content_Type=_PROTOBUF, Content_Length="0", end="")
    for _ in range(90):
        one.writer.write(f"Set-Cookie: c{next(_number)}={'c' * 20_000}\r\n".encode())
    one.writer.write(b"\r\n")
    await one.writer.drain()


async def _poison(one: Exchange) -> None:
    """Refuse each request that has one certain item in it."""
    await (_refusing(400) if PILL in one.body else _healthy)(one)


async def _partial(one: Exchange) -> None:
    """Reject the first half of each request's items, rounded up."""
    half = (len(one.ids) + 1) // 2
    one.refuse(one.ids[:half])
    one.take(one.ids[half:])
    await one.answer(200, partial(one.signal, half))


def partial(signal: str, rejected: int) -> bytes:
    """Return the reply that says how many items were rejected."""
    if signal == "traces":
        trace = ExportTraceServiceResponse()
        trace.partial_success.rejected_spans = rejected
        return trace.SerializeToString()
    if signal == "metrics":
        metric = ExportMetricsServiceResponse()
        metric.partial_success.rejected_data_points = rejected
        return metric.SerializeToString()
    log = ExportLogsServiceResponse()
    log.partial_success.rejected_log_records = rejected
    return log.SerializeToString()


async def _reset(one: Exchange) -> None:
    one.take()
    one.head(200, Content_Type=_PROTOBUF, Content_Length="100")
    one.writer.write(bytes(10))
    await one.writer.drain()
    reset(one.writer)


async def _close_each(one: Exchange) -> None:
    """Answer as one that keeps the connection, and close it."""
    one.take()
    await one.answer(200)
    one.writer.close()


if TYPE_CHECKING:
    Beast = Callable[[Exchange], Awaitable[None]]

HTTP_BEASTS: Final[dict[str, Beast]] = {
    "healthy": _healthy,
    "503": _refusing(503),
    "503-retry": _refusing(503, lambda: str(RETRY_AFTER)),
    "flaky": _flaky,
    "429-seconds": _refusing(429, lambda: str(RETRY_AFTER)),
    "429-date": _refusing(
        429, lambda: email.utils.formatdate(time.time() + RETRY_AFTER, usegmt=True)
    ),
    "429-huge": _refusing(429, lambda: str(10**9)),
    "429-garbage": _refusing(429, lambda: "soon; -1"),
    "slow-answer": _slow_answer,
    "huge-reply": _huge_reply,
    "gzip-bomb": _gzip_bomb,
    "endless-headers": _endless_headers,
    "endless-continue": _endless_continue,
    "endless-body": _endless_body,
    "redirect-301": _redirect(301),
    "redirect-307": _redirect(307),
    "redirect-308": _redirect(308),
    "garbage": _garbage,
    "html": _html,
    "400": _refusing(400),
    "401": _refusing(401),
    "404": _refusing(404),
    "501": _refusing(501),
    "cookies": _cookies,
    "poison": _poison,
    "partial": _partial,
    "reset": _reset,
    "close-each": _close_each,
}


class HttpTalk:
    """Reads requests of one connection after the other and lets the beast of the hour answer."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self.beast = "healthy"
        self.canary = ""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection until it ends."""
        while not writer.is_closing():
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {
                name.strip().lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines if line)
            }
            body = await _body(reader, headers)
            signal = first.split(" ")[1].rsplit("/", 1)[-1]
            one = Exchange(writer, self.beast, self._seen, self.canary, signal)
            one.ids, one.body, one.headers = ids_of(signal, body), body, headers
            await HTTP_BEASTS.get(self.beast, _healthy)(one)


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        parts = []
        while size := int((await reader.readline()).split(b";")[0], 16):
            parts.append(await reader.readexactly(size))
            await reader.readline()
        await reader.readline()
        body = b"".join(parts)
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    coding = headers.get("content-encoding", "")
    if coding == "gzip":
        return gzip.decompress(body)
    return zlib.decompress(body) if coding == "deflate" else body
