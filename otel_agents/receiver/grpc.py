"""OTLP/gRPC: handlers that see a message's bytes, so that bounds come before parsing."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Final

import grpc
from grpc import aio

from otel_agents.boundary import boundary
from otel_agents.errors import UnavailableError
from otel_agents.receiver.bounded import GZIP_MAGIC, Body, Buffer, Inflate
from otel_agents.receiver.decode import KINDS, Decoding, Kind
from otel_agents.receiver.flight import IN_FLIGHT, Commits, InFlight, Submits
from otel_agents.receiver.limits import (
    DECODERS,
    INLINE,
    MAX_CALLS,
    MAX_GRPC,
    MAX_METADATA,
    MAX_STREAMS,
    REQUEST_SECONDS,
)
from otel_agents.receiver.status import INTERNAL, Refusal, busy, unauthorized, undecodable

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_agents.receiver.guard import Authorize


_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_GRPC),
    # gRPC would inflate a message without any bound. So we get it as it came, and do it ourselves.
    ("grpc.per_message_decompression", 0),
    # Identity and gzip; gRPC refuses other encodings by itself.
    ("grpc.compression_enabled_algorithms_bitset", 0b101),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    ("grpc.max_metadata_size", MAX_METADATA),
    ("grpc.absolute_max_metadata_size", MAX_METADATA),
    ("grpc.so_reuseport", 0),  # a port that is taken is an error
)
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
_DETAILS: Final = "grpc-status-details-bin"
_START_SECONDS: Final = 10.0


class GrpcServer:
    """The gRPC listener, on an event loop in a thread of its own.

    Attributes:
        port: The port it listens on, once started.

    """

    def __init__(
        self,
        store: Submits,
        authorize: Authorize | None,
        address: str,
        tls: grpc.ServerCredentials | None,
        in_flight: InFlight,
    ) -> None:
        self.port = 0
        self._store = store
        self._authorize = authorize
        self._address = address
        self._tls = tls
        self._flight = in_flight
        self._calls = 0
        self._grace = 0.0
        self._failed: BaseException | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otel-agents-grpc", daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event
        self._decoders: asyncio.Semaphore
        self._commits: Commits

    def start(self) -> None:
        """Listen. Raises UnavailableError where the address cannot be had."""
        self._thread.start()
        self._ready.wait(_START_SECONDS)
        if self._failed is not None or not self.port:
            message = f"OTLP/gRPC cannot listen on {self._address}: is the port taken?"
            raise UnavailableError(message) from self._failed

    def stop(self, grace: float = 5.0) -> None:
        """Take no more calls, and end those under way after `grace` seconds at the latest."""
        if self._thread.is_alive():
            self._grace = grace
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(grace + _START_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # noqa: BLE001 - raised by start()
            self._failed = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._decoders = asyncio.Semaphore(DECODERS)
        self._commits = Commits(self._store)
        server = aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers((_Methods(self._handler),))
        if self._tls is None:
            port = server.add_insecure_port(self._address)
        else:
            port = server.add_secure_port(self._address, self._tls)
        await server.start()
        self.port = port
        self._ready.set()
        await self._stopping.wait()
        await server.stop(self._grace)

    def _handler(self, kind: Kind) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Return what answers the calls of one method.

        On the wire a call with one message is a stream of one; taken as a stream, it is admitted
        before its message is read.
        """

        async def export(_messages: object, context: aio.ServicerContext[bytes, bytes]) -> bytes:
            try:
                return await self._export(kind, context)
            except Refusal as refusal:
                self._flight.note(f"refused: {refusal.http}")
                await _abort(context, refusal)
            except Exception as error:  # noqa: BLE001 - one request's fault is not the next one's
                boundary.warn("otel-agents: a request could not be taken: %r", error)
                self._flight.note("refused: 500")
                await _abort(context, Refusal(500, INTERNAL, "The request could not be taken."))
            return b""

        return grpc.stream_unary_rpc_method_handler(export)

    async def _export(self, kind: Kind, context: aio.ServicerContext[bytes, bytes]) -> bytes:
        if self._authorize is not None and not self._authorize(_headers(context)):
            raise unauthorized()
        if self._calls >= MAX_CALLS:
            why = "There are too many calls."
            raise busy(why)
        self._calls += 1
        try:
            return await self._taken(kind, await _message(context))
        finally:
            self._calls -= 1

    async def _taken(self, kind: Kind, message: bytes) -> bytes:
        buffer = Buffer(MAX_GRPC, self._flight)
        packed = message.startswith(GZIP_MAGIC)  # no protobuf message begins so
        try:
            if len(message) <= INLINE and not packed:
                buffer.count(len(message))
                decoding = Decoding(kind, Body(message, len(message)))
                while (batch := decoding.next()) is not None:
                    await self._commits.commit(batch)
            else:
                async with self._decoders:
                    decoding = await asyncio.to_thread(_begun, kind, message, buffer, packed)
                    del message
                    while (batch := await asyncio.to_thread(decoding.next)) is not None:
                        await self._commits.commit(batch)
            decoding.note(self._flight)
            return decoding.answer()
        finally:
            buffer.free()


class _Methods(grpc.GenericRpcHandler):
    """The methods by their paths; any other is unimplemented, as gRPC answers by itself."""

    def __init__(self, handler: Callable[[Kind], grpc.RpcMethodHandler[bytes, bytes]]) -> None:
        self._handlers = {kind.method: handler(kind) for kind in KINDS}

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """Return what answers a call."""
        return self._handlers.get(handler_call_details.method)


def _begun(kind: Kind, message: bytes, buffer: Buffer, packed: bool) -> Decoding:
    """Return the decoding of a message, decompressed first where it is packed."""
    if packed:
        inflate = Inflate(buffer)
        inflate.feed(message)
        return Decoding(kind, inflate.close())
    buffer.count(len(message))
    return Decoding(kind, Body(message, len(message)))


async def _message(context: aio.ServicerContext[bytes, bytes]) -> bytes:
    """Return the message of a call."""
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            message = await context.read()
    except TimeoutError:
        text = "The message did not come in time."
        raise undecodable(text) from None
    if not isinstance(message, bytes):
        text = "The call has no message."
        raise undecodable(text)
    return message


def _headers(context: aio.ServicerContext[bytes, bytes]) -> dict[str, str]:
    """Return the metadata that is text; what comes twice is joined, as for HTTP."""
    found: dict[str, str] = {}
    for name, value in context.invocation_metadata() or ():
        if isinstance(value, str):
            found[name] = f"{found[name]}, {value}" if name in found else value
    return found


async def _abort(context: aio.ServicerContext[bytes, bytes], refusal: Refusal) -> None:
    """End a call with a status message in its trailer."""
    details = ((_DETAILS, refusal.status().SerializeToString()),)
    await context.abort(_CODES[refusal.code], refusal.message, details)


def grpc_server(
    store: Submits,
    authorize: Authorize | None,
    address: str,
    tls: grpc.ServerCredentials | None = None,
    *,
    in_flight: InFlight = IN_FLIGHT,
) -> GrpcServer:
    """Return the gRPC listener, not started.

    Args:
        store: Takes the batches.
        authorize: Says by a call's metadata whether its sender may send; None lets all send.
        address: `host:port`; port 0 takes a free one.
        tls: What `grpc.ssl_server_credentials` returned; None is plain text.
        in_flight: Counts the bytes under way; by default one count for the whole process.

    """
    return GrpcServer(store, authorize, address, tls, in_flight)
