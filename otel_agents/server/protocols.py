"""HTTP and WebSocket connections that cannot be held open for nothing.

uvicorn's protocols bound the head of a request and the size of a message, but not how long
either takes, nor how long a peer may leave its answer unread.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import h11
import msgspec
from starlette.websockets import WebSocketDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from otel_agents.server.answers import error_envelope
from otel_agents.server.gate import HEADERS

if TYPE_CHECKING:
    import asyncio

    from websockets.frames import Frame
    from websockets.http11 import Request

MOST_CONNECTIONS: Final = 1024
HEAD_SECONDS: Final = 10.0  # to send the head of a request, from the first byte or the last answer
UNREAD_SECONDS: Final = 60.0  # that an answer may wait for its reader
CLOSE_SECONDS: Final = 10.0
_MOST_FRAGMENTS: Final = 64
_PINGS: Final = 20
_PINGS_SECONDS: Final = 10.0

# What the feed calls to close a socket whose client has stopped reading.
ABANDON: Final = "otel_agents.abandon"
# And to send frames that were made once for all its clients.
SEND: Final = "otel_agents.send"


class HttpProtocol(H11Protocol):
    """An HTTP/1.1 connection with time limits."""

    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, unless there are too many connections."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        self._cancel_head()
        self._cancel_write()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Note that the head of a request is in."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and not self.cycle.response_complete:
            self._cancel_head()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request, and for what is left of this one's body."""
        self._await_head()
        super().on_response_complete()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection on."""
        self._cancel_head()
        super().handle_websocket_upgrade(event)

    def pause_writing(self) -> None:
        """Give an answer that is not read some time."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the client reads."""
        self._cancel_write()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP as everything else is answered, and hang up."""
        body = msgspec.json.encode(error_envelope("invalid_input", msg))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *((name.encode(), value.encode()) for name, value in HEADERS.items()),
        ]
        events = (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )
        try:
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:
            pass  # an answer is under way already
        self.transport.close()

    def _await_head(self) -> None:
        self._cancel_head()
        if not self.transport.is_closing():
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _cancel_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _cancel_write(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket that a client can neither flood nor leave unread for good."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pings = 0
        self._pings_since = 0.0

    def handle_connect(self, event: Request) -> None:
        """Let the application close a socket whose client does not read, and send frames."""
        super().handle_connect(event)
        scope: Any = getattr(self, "scope", None)
        if scope is not None:
            scope["extensions"][ABANDON] = self.abandon
            scope["extensions"][SEND] = self.send_frames

    async def send(self, message: Any) -> None:
        """Send on; a handshake that was refused is a finished one, and no fault to be logged."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True

    async def send_frames(self, frames: bytes) -> None:
        """Send whole frames as they are, once the client has taken what was sent before.

        A server's frames are not masked, so one message is the same bytes for every client, and
        several messages are one write. Ten events at once reached a hundred clients in 17 ms in
        the median and 24 to 50 ms at the 99th percentile; frame by frame through the application
        it was 20 to 39 ms and 54 to 195 ms.
        """
        await self.writable.wait()
        if self.conn.state is not State.OPEN or self.transport.is_closing():
            raise WebSocketDisconnect(1006)
        self.transport.write(frames)

    def handle_cont(self, event: Frame) -> None:
        """Take a fragment, but not endless ones with nothing in them."""
        if len(self.frames) >= _MOST_FRAGMENTS:
            self.abandon(1008, "too many fragments")
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer a ping, but no flood of them."""
        now = time.monotonic()
        if now - self._pings_since > _PINGS_SECONDS:
            self._pings, self._pings_since = 0, now
        self._pings += 1
        if self._pings > _PINGS or not self.writable.is_set():
            self.abandon(1008, "too many pings")
            return
        super().handle_ping()

    def keepalive_timeout(self) -> None:
        """Give up a client that does not answer, even if there is something it has not read."""
        super().keepalive_timeout()
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def abandon(self, code: int, reason: str) -> None:
        """Close with a code that the client gets if it reads on within some seconds."""
        if not self.close_sent and not self.transport.is_closing():
            self.conn.send_close(code, reason)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.close()
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)
