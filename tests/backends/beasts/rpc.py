"""Beasts that speak gRPC: a real server, and a port before it that can do worse."""

from __future__ import annotations

import asyncio
import functools
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.rpc.error_details_pb2 import RetryInfo

from .http import FLAKY, RETRY_AFTER, partial
from .seen import ids_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .seen import Seen

HUGE: Final = 96 << 20
_PREFIX: Final = "/opentelemetry.proto.collector."
_SERVICES: Final = {"trace": "traces", "metrics": "metrics", "logs": "logs"}
# A beast's status, and the seconds of its RetryInfo; nothing where it has none.
_REFUSALS: Final[dict[str, tuple[grpc.StatusCode, int | None]]] = {
    "unavailable": (grpc.StatusCode.UNAVAILABLE, None),
    "unavailable-retry": (grpc.StatusCode.UNAVAILABLE, RETRY_AFTER),
    "unavailable-huge": (grpc.StatusCode.UNAVAILABLE, 10**9),
    "exhausted": (grpc.StatusCode.RESOURCE_EXHAUSTED, None),
    "exhausted-retry": (grpc.StatusCode.RESOURCE_EXHAUSTED, RETRY_AFTER),
    "unimplemented": (grpc.StatusCode.UNIMPLEMENTED, None),
    "invalid": (grpc.StatusCode.INVALID_ARGUMENT, None),
    "unauthenticated": (grpc.StatusCode.UNAUTHENTICATED, None),
}
RPC_BEASTS: Final = (
    *_REFUSALS, "healthy", "flaky", "hang", "huge-reply", "gzip-bomb", "garbage", "partial", "reset"
)  # fmt: skip


class Rpc(grpc.GenericRpcHandler):
    """The server behind the port, and the way from one to the other."""

    def __init__(self, seen: Seen, cut: Callable[[], object]) -> None:
        self._seen = seen
        self._cut = cut
        self._beast = "healthy"
        self._changed = threading.Event()
        self._server = grpc.server(
            ThreadPoolExecutor(16),
            handlers=[self],
            options=[
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
            ],
        )
        self._port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def become(self, beast: str) -> None:
        """Answer as the beast does; let go of those that were kept waiting."""
        self._beast = beast
        self._changed.set()
        self._changed = threading.Event()

    def close(self) -> None:
        """Stop, and wait for no one."""
        self.become("healthy")
        self._server.stop(0)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass a connection on to the server."""
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        ways = [
            asyncio.ensure_future(_pour(reader, back)),
            asyncio.ensure_future(_pour(there, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            back.close()

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """Find the handler of a method; messages stay bytes."""
        method: str = handler_call_details.method
        signal = _SERVICES.get(method.removeprefix(_PREFIX).partition(".")[0])
        if signal is None:
            return None
        return grpc.unary_unary_rpc_method_handler(
            lambda body, context: self._answer(signal, body, context)
        )

    def _answer(self, signal: str, body: bytes, context: grpc.ServicerContext) -> bytes:
        beast, changed, ids = self._beast, self._changed, ids_of(signal, body)
        put = functools.partial(
            self._seen.put, self._beast, signal, headers=dict(context.invocation_metadata())
        )
        if beast == "flaky":
            chance = random.random()  # noqa: S311 - chance is all that is wanted
            beast = "unavailable" if chance < FLAKY else "healthy"
        if beast in _REFUSALS:
            put(ids, taken=False)
            _refuse(context, *_REFUSALS[beast])
        if beast == "hang":
            put(ids, taken=False)
            changed.wait()
            context.abort(grpc.StatusCode.UNAVAILABLE, "the beast has gone")
        if beast == "partial":
            half = (len(ids) + 1) // 2
            put(ids[:half], taken=False)
            put(ids[half:], taken=True)
            return partial(signal, half)
        put(ids, taken=True)
        if beast == "reset":
            self._cut()
            changed.wait()
        if beast == "gzip-bomb":
            context.set_compression(grpc.Compression.Gzip)
        if beast in {"huge-reply", "gzip-bomb"}:
            return bytes(HUGE)
        return b"\xff\xfe\x00garbage\x80" * 8 if beast == "garbage" else b""


def _refuse(context: grpc.ServicerContext, code: grpc.StatusCode, seconds: int | None) -> None:
    """Refuse as OTLP says: the pause stands in the status' details."""
    if seconds is not None:
        from google.protobuf.any_pb2 import Any as Packed
        from google.rpc.status_pb2 import Status

        info = RetryInfo()
        info.retry_delay.seconds = seconds
        packed = Packed()
        packed.Pack(info)
        status = Status(code=code.value[0], message="later", details=[packed])
        context.set_trailing_metadata(
            (
                ("grpc-status-details-bin", status.SerializeToString()),
                ("google.rpc.retryinfo-bin", info.SerializeToString()),
            )
        )
    context.abort(code, "as the beast does")


async def _pour(source: asyncio.StreamReader, sink: Any) -> None:
    while data := await source.read(1 << 16):
        sink.write(data)
        await sink.drain()
