"""The live feed: a WebSocket that replays from a sequence number and goes on as things happen."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from otel_agents.errors import InvalidInputError, UnavailableError
from otel_agents.server.answers import problem_of
from otel_agents.server.gate import client_of
from otel_agents.server.guard import RefusedError
from otel_agents.server.live_access import Wanted, caller_of, denial, reader, spoken, wanted_by
from otel_agents.server.live_formats import Sent, frame_of
from otel_agents.server.protocols import ABANDON, SEND
from otel_agents.server.tail import PAGE, Tail, up_to_size

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from otel_agents.server.guard import Guard
    from otel_agents.store import Store

PATH: Final = "/ws"
MOST_CLIENTS: Final = 256
MOST_BYTES: Final = 4096  # of a message from a client
_MOST_UNKNOWN: Final = 32  # clients that have yet to send their token
_TOKEN_SECONDS: Final = 10.0
_SEND_SECONDS: Final = 30.0
_TOGETHER: Final = 32 << 10  # bytes of messages that go out in one piece
_MESSAGES: Final = 20
_MESSAGES_SECONDS: Final = 10.0

_REFUSED: Final = 1008  # the policy of RFC 6455
_TRY_LATER: Final = 1013


class _CloseError(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Feed:
    """The feed of one store, for all its clients."""

    def __init__(self, store: Store, guard: Guard) -> None:
        self._store = store
        self._guard = guard
        self._tail = Tail(store)
        self._clients = 0
        self._unknown = 0
        self._catching_up = asyncio.Semaphore(4)

    @property
    def clients(self) -> int:
        """How many listen."""
        return self._clients

    def route(self) -> WebSocketRoute:
        """Return the route `/ws`."""
        return WebSocketRoute(PATH, self.serve)

    async def serve(self, socket: WebSocket) -> None:
        """Serve one client until it leaves or has to."""
        try:
            wanted = wanted_by(socket)
            caller = caller_of(socket, self._guard)
            self._check_room(known=caller is not None)
        except (InvalidInputError, UnavailableError) as error:
            await socket.send_denial_response(problem_of(socket.scope, error))
            return
        except RefusedError as refused:
            await socket.send_denial_response(denial(socket, refused))
            return
        self._clients += 1
        try:
            await self._let_in(socket, wanted, known=caller is not None)
        except _CloseError as close:
            await _close(socket, close.code, close.reason)
        except UnavailableError as error:
            if socket.application_state is WebSocketState.CONNECTED:
                await _close(socket, _TRY_LATER, "the store cannot be read")
            else:
                await socket.send_denial_response(problem_of(socket.scope, error))
        except WebSocketDisconnect:
            pass
        finally:
            self._clients -= 1

    async def _let_in(self, socket: WebSocket, wanted: Wanted, *, known: bool) -> None:
        # Taken before the answer: to who gets that, whatever comes from now on is new.
        place = await self._place(wanted) if known else 0
        await socket.accept(subprotocol=spoken(socket))
        if not known:
            await self._await_token(socket)
            place = await self._place(wanted)
        await self._serve_known(socket, wanted, place)

    def _check_room(self, *, known: bool) -> None:
        if self._clients >= MOST_CLIENTS or (not known and self._unknown >= _MOST_UNKNOWN):
            message = "the live feed has as many clients as it takes"
            raise UnavailableError(message)

    async def _await_token(self, socket: WebSocket) -> None:
        self._unknown += 1
        try:
            async with asyncio.timeout(_TOKEN_SECONDS):
                message = _message(await _receive(socket))
        except TimeoutError:
            raise _CloseError(_REFUSED, "no token came") from None
        finally:
            self._unknown -= 1
        token = message.get("token")
        if not isinstance(token, str):
            raise _CloseError(_REFUSED, 'send {"token": "…"} first')
        try:
            reader(self._guard.caller_of(token, client_of(socket.scope)))
        except RefusedError as refused:
            raise _CloseError(_REFUSED, str(refused)) from None

    # ------------------------------------------------------------------ what

    async def _place(self, wanted: Wanted) -> int:
        """Return the number that a client goes on after: by default the last there is."""
        if wanted.since is not None:
            return wanted.since
        _, last = await asyncio.to_thread(self._store.feed_bounds)
        return last

    async def _serve_known(self, socket: WebSocket, wanted: Wanted, place: int) -> None:
        listener = await self._tail.join(wanted.format)
        try:
            client = _Client(socket, place, wanted)
            both: tuple[Coroutine[Any, Any, None], ...] = (
                client.send_on(self, listener.more),
                _listen(socket, client),
            )
            tasks = [asyncio.create_task(one) for one in both]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._tail.leave(listener)

    async def after(self, client: _Client) -> list[Sent]:
        """Return what a client is to be sent next; tell it of a gap where the store has one."""
        wanted = client.wanted
        events = self._tail.after(client.seq, wanted.format)
        if events is not None:
            return events
        async with self._catching_up:
            first, last = await asyncio.to_thread(self._store.feed_bounds)
            if client.seq + 1 < first:
                await client.gap(client.seq + 1, first - 1)
            kept, at_end = await asyncio.to_thread(self._page, client.seq, wanted)
            if at_end:
                client.caught_up = last
            return kept

    def _page(self, after: int, wanted: Wanted) -> tuple[list[Sent], bool]:
        """Return a page from the store, and whether there was no more."""
        rows = self._store.signal_rows(after, PAGE, run_id=wanted.run_id)
        page = [Sent(row) for row in rows]
        kept = up_to_size(page, wanted.format)
        return kept, len(page) < PAGE and len(kept) == len(page)

    async def check(self, client: _Client) -> None:
        """Send a client back that is ahead of a store, which then is not the one it knows."""
        first, last = await asyncio.to_thread(self._store.feed_bounds)
        if client.seq > last:
            await client.gap(first, last)


class _Client:
    """One client's place in the feed."""

    def __init__(self, socket: WebSocket, seq: int, wanted: Wanted) -> None:
        self._socket = socket
        self.seq = seq
        self.wanted = wanted
        self.caught_up = 0

    async def send_on(self, feed: Feed, more: asyncio.Event) -> None:
        """Send events as they come, as fast as the client takes them."""
        await feed.check(self)
        while True:
            more.clear()
            before = self.seq
            await self._send_page(await feed.after(self))
            self.seq = max(self.seq, self.caught_up)
            if self.seq == before:
                await more.wait()

    async def _send_page(self, page: list[Sent]) -> None:
        wanted = self.wanted
        waiting: list[bytes] = []
        size = 0
        for one in page:
            if wanted.run_id in {None, one.run_id}:
                frames = one.frames(wanted.format, numbered=wanted.numbered, types=wanted.types)
                waiting.append(frames)
                size += len(frames)
                if size > _TOGETHER:
                    await self._send(b"".join(waiting))
                    self.seq = one.seq
                    waiting, size = [], 0
        if size:
            await self._send(b"".join(waiting))
        if page:
            self.seq = page[-1].seq

    async def gap(self, first: int, last: int) -> None:
        """Tell the client of events that it will not get, and go on after them."""
        said = {"type": "gap", "from": first, "to": last}
        await self._send(frame_of(msgspec.json.encode(said)))
        self.seq = last

    async def _send(self, frames: bytes) -> None:
        try:
            # The transport's buffer is small: this waits until the client has taken its part.
            async with asyncio.timeout(_SEND_SECONDS):
                await self._socket.scope["extensions"][SEND](frames)
        except TimeoutError:
            raise _CloseError(_TRY_LATER, "too slow") from None


async def _listen(socket: WebSocket, client: _Client) -> None:
    """Take what a client sends, which is little: a token again, or a ping of its own.

    A ping is answered with the client's place, for one whose messages bear no number or that was
    sent none yet.
    """
    times: deque[float] = deque(maxlen=_MESSAGES)
    while True:
        message = _message(await _receive(socket))
        now = time.monotonic()
        if len(times) == _MESSAGES and now - times[0] < _MESSAGES_SECONDS:
            raise _CloseError(_REFUSED, "too many messages")
        times.append(now)
        if message.get("type") == "ping":
            await socket.send_text(f'{{"type":"pong","seq":{client.seq}}}')
        elif "token" not in message:
            raise _CloseError(_REFUSED, 'the feed takes {"type": "ping"} and nothing else')


async def _receive(socket: WebSocket) -> str | bytes:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    found: str | bytes = message.get("text") or message.get("bytes") or ""
    return found


def _message(text: str | bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        raise _CloseError(_REFUSED, "messages are JSON objects") from None


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    if socket.application_state is not WebSocketState.CONNECTED:
        return
    abandon = socket.scope["extensions"].get(ABANDON)
    if code == _TRY_LATER and abandon is not None:
        abandon(code, reason)  # an ordinary close would wait for the client to read
        return
    with suppress(WebSocketDisconnect, RuntimeError):
        await socket.close(code, reason[:100])
