"""What the console's port holds to: queries, the handshake of the live feed, and its messages."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_from_bytes

import msgspec
from starlette.websockets import WebSocket

from otel_agents.receiver.logs import _signal as received
from otel_agents.server.app import bare_app
from otel_agents.server.gate import Gate
from otel_agents.server.guard import Guard
from otel_agents.server.live import Feed
from otel_agents.server.protocols import ABANDON, SEND
from otel_agents.store import Batch, Store, open_store
from otel_agents.store.rows import short
from tests.fuzz.texts import folder
from tests.server.kit import ADMIN, OPEN, TOKENS, VIEWER, fill
from tests.store.build import every

if TYPE_CHECKING:
    from collections.abc import Callable

LISTS: Final = (
    "/api/runs", "/api/agents", "/api/traces", "/api/logs", "/api/usage", "/api/metrics",
    "/api/events", "/api/kpis", "/api/hitl", "/api/alerts", "/api/runs/run-1/spans",
    "/api/runs/run-1/events", "/api/runs/run-1/logs", "/api/agents/run-1-plan-agent/logs",
    "/api/admin/runtime/events", "/api/admin/runtime/tasks", "/runs", "/agents", "/traces",
    "/api/runs/latest/report", "/openapi.json", "/healthz", "/metrics", "/",
)  # fmt: skip
_FINE: Final = {200, 204, 303, 304, 307, 400, 404, 405, 421}


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """Return one loop for all inputs: to make one takes longer than most of them."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


def run_in_loop(coroutine: Any, seconds: float = 30.0) -> Any:
    """Return what a coroutine returns, in the one loop there is."""
    return asyncio.run_coroutine_threadsafe(coroutine, _loop()).result(seconds)


@cache
def _filled() -> Store:
    store = open_store(f"sqlite:///{folder() / 'served.db'}")
    fill(store)
    return store


# ---------------------------------------------------------------------- queries


@cache
def _app() -> Gate:
    guard = Guard(OPEN, "127.0.0.1")
    return Gate(bare_app(_filled(), guard), guard)


def queried(data: bytes) -> None:
    """Any query to any list is answered with a page or a sentence, never with a fault of ours.

    The first line is a path, the second a query, each as it stands in a request.
    """
    path, _, query = data.partition(b"\n")
    target = path.decode("latin-1")
    if not target.startswith("/"):
        target = LISTS[len(target) % len(LISTS)]
    status, headers, body = run_in_loop(_asked(target, query.split(b"\n")[0]))
    assert status in _FINE, f"{status}: {body[:300]!r}"
    if headers.get(b"content-type", b"").startswith(b"application/json"):
        answer = json.loads(body)
        if target.startswith("/api/") and status != 200:
            assert answer["error"]["message"]
        if status == 200 and target.startswith("/api/"):
            assert answer["error"] is None


async def _asked(target: str, query: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    sent: list[Any] = []
    waiting = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    raw = quote_from_bytes(query, safe=b"!#$%&'()*+,/:;=?@[]~".decode()).encode()
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": target,
        "raw_path": target.encode("latin-1"), "query_string": raw, "root_path": "",
        "headers": [(b"host", b"127.0.0.1:4319")], "client": ("127.0.0.1", 1), "state": {},
        "server": ("127.0.0.1", 4319), "extensions": {}, "asgi": {"version": "3.0"},
    }  # fmt: skip
    await _app()(scope, receive, send)
    started = next(one for one in sent if one["type"] == "http.response.start")
    body = b"".join(one.get("body", b"") for one in sent if one["type"] == "http.response.body")
    return started["status"], dict(started["headers"]), body


# ---------------------------------------------------------------------- signals, stored

_AT_ONCE: Final = 300  # inputs of one store: it is to stay small, and to make one takes a while
_stores: list[tuple[Store, int]] = []


def _fresh() -> Store:
    """Return a store that some inputs before used too."""
    store, used = _stores.pop() if _stores else (None, 0)
    if store is None or used >= _AT_ONCE:
        if store is not None:
            store.close()
        name = f"{time.time_ns()}.db"
        store, used = open_store(f"sqlite:///{folder() / name}", durable=False), 0
    _stores.append((store, used + 1))
    return store


def stored(data: bytes) -> None:
    """Signals that the receiver takes are committed, and every list that they come into is shown.

    One that could not be would fail whole batches and pages, those of other senders too.
    """
    taken = [one for line in data.split(b"\n") if (one := received(line.decode(errors="replace")))]
    if not taken:
        return
    store = _fresh()
    try:
        store.write(Batch(signals=taken))
        assert store.settle(), "what was stored is not folded"
        for ask in _asks(store):
            _shown(ask())
        _shown(store.feed(0, 500))
        listed = {one["run_id"] for one in every(store.runs, limit=500)}
        if listed:
            _shown(store.report())
        for run_id in {short(one.ids.run_id) for one in taken if one.ids.run_id}:
            _looked_at(store, run_id, is_listed=run_id in listed)
    except Exception:
        _stores.clear()  # what one input spoiled is not the next one's
        raise


def _looked_at(store: Store, run_id: str, *, is_listed: bool) -> None:
    """Read a run that is listed; one whose signals were all told before, of another, is not."""
    assert is_listed or not store.feed(0, 1, run_id=run_id), f"{run_id!r} is not listed"
    if is_listed:
        for line in store.export_run(run_id):
            json.loads(line)
        _shown(store.run_signals(run_id))


def _asks(store: Store) -> tuple[Callable[[], Any], ...]:
    return (
        store.runs, store.agents, store.usage, store.tasks, store.runtime_events,
        store.runtime_status, lambda: store.names(time.time_ns()),
    )  # fmt: skip


def _shown(data: Any) -> None:
    msgspec.json.encode(data, enc_hook=str)


# ---------------------------------------------------------------------- the live feed

PATIENCE: Final = 0.02  # seconds that a client stays for events, where none come
_CODES: Final = {1008, 1013}
_DENIED: Final = {400, 401, 403, 429, 503}


def socket(data: bytes) -> None:
    """Whatever a client sends, it is denied, answered or closed by a code; nothing is raised.

    The first line holds words on who listens, the second is the query, others are messages.
    Nothing is sent of the store before a token that may read has come.
    """
    lines = data.split(b"\n")
    words = lines[0].decode("latin-1").split()
    query = lines[1] if len(lines) > 1 else b""
    sent, frames, error = run_in_loop(_listened(words, query, lines[2:80]))
    assert error is None, f"raised {error!r}"
    kinds = [one["type"] for one in sent]
    if "websocket.http.response.start" in kinds:
        start = next(one for one in sent if one["type"] == "websocket.http.response.start")
        assert start["status"] in _DENIED
        assert "websocket.accept" not in kinds
        assert not frames
        return
    for one in sent:
        if one["type"] == "websocket.close":
            assert one["code"] in _CODES
            assert len(one["reason"].encode()) <= 123
        if one["type"] == "websocket.send":
            assert json.loads(one["text"])["type"] == "pong"
    known = {"open", "bearer", "offered"} & set(words)
    tokens = (ADMIN.encode(), VIEWER.encode())
    if not known and not any(token in line for token in tokens for line in lines[1:]):
        assert not frames, "events were sent to somebody unknown"
    for frame in frames:
        assert frame[:1] == b"\x81"


@cache
def _feeds() -> dict[bool, Feed]:
    logging.getLogger("otel_agents.server").setLevel(logging.CRITICAL)
    return {
        True: Feed(_filled(), Guard(OPEN, "127.0.0.1")),
        False: Feed(_filled(), Guard(TOKENS, "127.0.0.1")),
    }


_OFFERED: Final = {
    "offered": "otel-agents.token.dmlld2VyLXRva2VuLTAxMjM0NTY3ODk",
    "offered-odd": "otel-agents.token.!\xff",
    "offered-wrong": "otel-agents.token.AAAA",
    "offered-other": "chat",
}
_HEADERS: Final = {
    "bearer": (b"authorization", f"Bearer {VIEWER}".encode()),
    "bearer-wrong": (b"authorization", b"Bearer wrong"),
    "bearer-odd": (b"authorization", b"Basic \xff\x00"),
    "foreign": (b"origin", b"http://evil.example"),
    "null": (b"origin", b"null"),
    "own": (b"origin", b"http://127.0.0.1:4319"),
    "odd-origin": (b"origin", b"http://[::1"),
}
WORDS: Final = ("open", *_OFFERED, *_HEADERS)


async def _listened(
    words: list[str], query: bytes, messages: list[bytes]
) -> tuple[list[Any], list[bytes], BaseException | None]:
    sent: list[Any] = []
    frames: list[bytes] = []
    waiting: list[Any] = [{"type": "websocket.connect"}]
    for line in messages:
        if line[:1] == b"\x01":
            waiting.append({"type": "websocket.receive", "bytes": line[1:]})
        else:
            text = line.decode("utf-8", "replace")
            waiting.append({"type": "websocket.receive", "text": text})
    waiting.append({"type": "websocket.disconnect", "code": 1001})
    waiting.reverse()

    async def receive() -> Any:
        # What was read so far is answered before the next comes.
        for _ in range(3):
            await asyncio.sleep(0)
        if len(waiting) == 1:
            with suppress(TimeoutError):
                await asyncio.wait_for(came.wait(), PATIENCE)
        return waiting.pop() if waiting else {"type": "websocket.disconnect", "code": 1006}

    async def send(message: Any) -> None:
        sent.append(message)

    came = asyncio.Event()  # events are read by threads, and come when they are

    async def send_frames(data: bytes) -> None:
        frames.append(data)
        came.set()

    def abandon(code: int, reason: str) -> None:
        sent.append({"type": "websocket.close", "code": code, "reason": reason})

    scope = {
        "type": "websocket", "path": "/ws", "raw_path": b"/ws", "query_string": query,
        "headers": [
            (b"host", b"127.0.0.1:4319"), *(_HEADERS[word] for word in words if word in _HEADERS),
        ],
        "subprotocols": [_OFFERED[word] for word in words if word in _OFFERED],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 4319), "scheme": "ws",
        "root_path": "", "state": {}, "asgi": {"version": "3.0"},
        "extensions": {SEND: send_frames, ABANDON: abandon, "websocket.http.response": {}},
    }  # fmt: skip
    feed = _feeds()["open" in words]
    feed._guard.guesses._wrong.clear()  # one input's wrong tokens are not the next one's
    try:
        await asyncio.wait_for(feed.serve(WebSocket(scope, receive, send)), 20)
    except Exception as error:  # noqa: BLE001 - returned, and told with the input
        return sent, frames, error
    return sent, frames, None
