"""What the sockets hold to: bytes of a connection, whatever they are, on the real protocols."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

import httptools
import uvicorn
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from otel_agents.receiver.flight import InFlight
from otel_agents.receiver.http import http_app
from otel_agents.receiver.protocol import http_config
from otel_agents.server.protocols import WebSocketProtocol
from tests.fuzz.served import run_in_loop
from tests.receiver.kit import Remembering

if TYPE_CHECKING:
    from collections.abc import Callable

_ANSWERS: Final = {100, 200, 400, 404, 405, 413, 415, 503}
_CLOSED: Final = {1000, 1001, 1002, 1005, 1007, 1008, 1009}
_MOST_MESSAGE: Final = 4096


class _Transport(asyncio.Transport):
    """A connection in memory: what was written to it, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        if not self.closed:
            self.written += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)}.get(name, default)

    def set_protocol(self, protocol: Any) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def _fed(protocol: Any, state: ServerState, pieces: list[bytes]) -> _Transport:
    """Send pieces to a protocol as a loop does, and let what it began come to its end."""
    transport = _Transport()
    protocol.connection_made(transport)
    for piece in pieces:
        if transport.closed:
            break
        protocol.data_received(piece)
        for _ in range(4):
            await asyncio.sleep(0)
    # Who waits for more of a body that does not come is told that the client is gone.
    for _ in range(200):
        await asyncio.sleep(0)
        if not state.tasks:
            break
    protocol.connection_lost(None)
    if state.tasks:
        await asyncio.wait(state.tasks, timeout=20)
    assert not state.tasks, "a request goes on after its client has gone"
    return transport


# ---------------------------------------------------------------------- HTTP


class _Answers:
    """The answers of a connection, as a client's parser reads them."""

    def __init__(self) -> None:
        self.found: list[tuple[int, dict[bytes, bytes], bytes]] = []
        self._headers: dict[bytes, bytes] = {}
        self._body = b""

    def read(self, data: bytes) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._headers, self._body = {}, b""

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self.found.append((self.parser.get_status_code(), self._headers, self._body))


def connected(data: bytes) -> None:
    """A connection to the receiver is answered or closed; each answer is whole and documented.

    Pieces end at form feeds: what stands in one comes at once. Where the first byte is a letter,
    lines end in line feeds alone, and are sent as HTTP wants them.
    """
    pieces = data.split(b"\f")
    if data[:1].isalpha():
        pieces = [piece.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for piece in pieces]
    flight = InFlight()
    transport = run_in_loop(_connected(pieces, flight))
    assert flight.held == 0, "bytes stay counted as under way"
    answers = _Answers()
    if transport.written:
        answers.read(bytes(transport.written))
    for status, headers, body in answers.found:
        assert status in _ANSWERS, f"answered with {status}"
        if status >= 400:
            assert headers[b"content-type"] in {b"application/json", b"application/x-protobuf"}
            assert body, "an answer that says nothing"
    if any(
        status == 400 and not headers.get(b"content-length") for status, headers, _ in answers.found
    ):
        message = "an answer without a length"
        raise AssertionError(message)


async def _connected(pieces: list[bytes], flight: InFlight) -> _Transport:
    app = http_app(Remembering(), in_flight=flight)
    config = http_config(app, port=0)
    config.load()
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
    state = ServerState()
    protocol: Any = config.http_protocol_class
    try:
        made = protocol(config=config, server_state=state, app_state={})
        return await _fed(made, state, pieces)
    finally:
        app._threads.shutdown()


# ---------------------------------------------------------------------- WebSocket

_HANDSHAKE: Final = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_OPCODES: Final = {
    b"t": Opcode.TEXT, b"b": Opcode.BINARY, b"c": Opcode.CONT, b"p": Opcode.PING,
    b"o": Opcode.PONG, b"x": Opcode.CLOSE,
}  # fmt: skip


def framed(data: bytes) -> None:
    """Frames of a client reach the application as whole messages within the limit, or close it.

    A line is a frame: a letter for its kind, `+` where more of the message follows, its payload.
    One that begins with `!` is sent as it is.
    """
    pieces = [_frame(line) for line in data.split(b"\n")[:100]]
    heard: list[Any] = []
    transport = run_in_loop(_framed(pieces, heard))
    for message in heard:
        if message["type"] == "websocket.receive":
            text = message.get("text")
            size = len(message["bytes"] if text is None else text.encode("utf-8", "surrogatepass"))
            assert size <= _MOST_MESSAGE, "a message above the limit"
    head, _, frames = bytes(transport.written).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101")
    for opcode, payload in _frames(frames):
        if opcode is Opcode.CLOSE and payload:
            assert int.from_bytes(payload[:2], "big") in _CLOSED


def _frame(line: bytes) -> bytes:
    if line[:1] == b"!":
        return line[1:]
    opcode = _OPCODES.get(line[:1], Opcode.TEXT)
    more = line[1:2] == b"+"
    payload = line[2:] if more else line[1:]
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")
    # Masked with zeros, which leaves the payload as it is; as long as it may not be, too.
    return (
        bytes([opcode | (0 if more else 0x80), length[0] | 0x80]) + length[1:] + bytes(4) + payload
    )


def _frames(data: bytes) -> list[tuple[Opcode, bytes]]:
    """Return the frames that a server sent."""
    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    found = []
    while True:
        parsing = Frame.parse(reader.read_exact, mask=False, max_size=None)
        try:
            while True:
                next(parsing)
        except StopIteration as stop:
            frame = stop.value
        except EOFError:
            return found
        found.append((frame.opcode, bytes(frame.data)))


async def _framed(pieces: list[bytes], heard: list[Any]) -> _Transport:
    async def app(_scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            heard.append(await receive())
            if heard[-1]["type"] == "websocket.disconnect":
                return

    config = uvicorn.Config(
        app, ws=WebSocketProtocol, ws_max_size=_MOST_MESSAGE, lifespan="off", log_config=None,
        ws_per_message_deflate=False,
    )  # fmt: skip
    config.load()
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
    state = ServerState()
    protocol: Any = WebSocketProtocol(config, state, {})
    return await _fed(protocol, state, [_HANDSHAKE, *pieces])
