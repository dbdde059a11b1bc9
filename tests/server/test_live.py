"""The live feed: replay, what comes after it, who may listen, and clients that misbehave."""

from __future__ import annotations

import base64
import json
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect

from otel_agents.server import live, protocols, tail
from otel_agents.store import Batch

from .kit import ADMIN, INGEST, TOKENS, VIEWER, event, fill, told, wait_until

if TYPE_CHECKING:
    from .conftest import Running, Serving

DEADLINE: Final = 20.0


def listen(running: Running, query: str = "", **options: Any) -> ClientConnection:
    """Open a socket; by default without an Origin, as a program does."""
    url = f"{running.url.replace('http', 'ws', 1)}/ws{query}"
    # Without a bound on its queue the client closes at once, whatever it has not read.
    return connect(
        url, compression=None, proxy=None, open_timeout=DEADLINE, max_queue=None, **options
    )


def received(feed: ClientConnection, count: int) -> list[dict[str, Any]]:
    return [json.loads(feed.recv(DEADLINE)) for _ in range(count)]


def add(running: Running, number: int = 1, run_id: str = "later") -> None:
    running.store.write(
        Batch(signals=[event(100 + one, at=time.time_ns()) for one in range(number)])
        if run_id == "later"
        else Batch(signals=told(run_id, 0))
    )


def test_a_client_gets_what_was_and_what_comes(open_server: Running) -> None:
    """From 0 on all events are replayed in order, and then come as they are committed."""
    stored = open_server.store.feed(0, 500)
    with listen(open_server, "?since=0") as feed:
        before = received(feed, len(stored))
        add(open_server)
        after = received(feed, 1)[0]

    assert before == stored
    assert after["seq"] > stored[-1]["seq"]
    assert set(after) == {"seq", "type", "timestamp", "run_id", "payload"}
    assert after["type"] == "runtime"


def test_without_a_place_a_client_begins_now(open_server: Running) -> None:
    """A client that does not say since when gets what comes, and nothing of before."""
    last = open_server.store.feed_bounds()[1]
    with listen(open_server) as feed:
        feed.send('{"type": "ping"}')
        assert json.loads(feed.recv(DEADLINE)) == {"type": "pong"}
        add(open_server)
        assert received(feed, 1)[0]["seq"] > last


def test_a_client_can_ask_for_one_run(open_server: Running) -> None:
    """With run_id only that run's events come, replayed and live."""
    with listen(open_server, "?since=0&run_id=run-2") as feed:
        before = received(feed, 5)
        add(open_server)
        add(open_server, run_id="run-2")
        after = received(feed, 3)

    assert {one["run_id"] for one in before + after} == {"run-2"}
    assert [one["seq"] for one in before] == [
        one["seq"] for one in open_server.store.feed(0, 500, "run-2")[:5]
    ]


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 20)), min_size=1, max_size=6))
def test_who_comes_back_misses_nothing(open_server: Running, steps: list[tuple[int, int]]) -> None:
    """A client that hangs up anywhere and goes on from its place sees each event once."""
    begin = place = open_server.store.feed_bounds()[1]
    seen: list[int] = []
    for written, read in steps:
        add(open_server, written)
        with listen(open_server, f"?since={place}") as feed:
            last = open_server.store.feed_bounds()[1]
            for one in received(feed, min(read, last - place)):
                seen.append(one["seq"])
                place = one["seq"]
    with listen(open_server, f"?since={place}") as feed:
        last = open_server.store.feed_bounds()[1]
        seen += [one["seq"] for one in received(feed, last - place)]

    assert seen == [one["seq"] for one in open_server.store.feed(begin, 500)]


def test_what_is_no_longer_kept_is_a_gap(open_server: Running) -> None:
    """Before events of which some were deleted, a client is told which it will not get."""
    open_server.store.delete_run("run-1")
    first, _ = open_server.store.feed_bounds()
    with listen(open_server, "?since=0") as feed:
        gap, event_after = received(feed, 2)

    assert first > 1
    assert gap == {"type": "gap", "from": 1, "to": first - 1}
    assert event_after["seq"] == first


def test_a_client_of_another_store_is_told(open_server: Running) -> None:
    """A place that this store has never come to is a gap over all there is, and goes on live."""
    first, last = open_server.store.feed_bounds()
    with listen(open_server, "?since=999999") as feed:
        assert received(feed, 1) == [{"type": "gap", "from": first, "to": last}]
        add(open_server)
        assert received(feed, 1)[0]["seq"] > last


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("?since=x", "since"), ("?since=-1", "since"), ("?since=9999999999999999999", "since"),
        ("?run_id=", "run_id"), ("?run_id=a%00", "run_id"), ("?format=events", "format"),
        ("?token=secret-in-the-address", "token"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_named(open_server: Running, query: str, name: str) -> None:
    """A wrong parameter is refused at the handshake, by name; a token there is not repeated."""
    with pytest.raises(InvalidStatus) as refused:
        listen(open_server, query)
    answer = refused.value.response

    assert answer.status_code == 400
    assert json.loads(answer.body)["error"]["message"].startswith(f"{name}: ")
    assert b"secret" not in answer.body


# ---------------------------------------------------------------------- who


def status_of(running: Running, **options: Any) -> int:
    """Return the status of a handshake; 101 is one that is let in."""
    try:
        with listen(running, "?since=0", **options):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 101), ("own", 101), ("http://evil.example", 403), ("http://localhost:1", 403),
        ("http://localhost.evil.example", 403), ("http://127.0.0.1", 403), ("null", 403),
        ("file://", 403),
    ],
)  # fmt: skip
def test_foreign_pages_may_not_listen(
    open_server: Running, origin: str | None, status: int
) -> None:
    """Only a program and our own pages get through the handshake of an open server."""
    given_origin = open_server.url if origin == "own" else origin

    assert status_of(open_server, origin=given_origin) == status


def test_foreign_pages_may_not_listen_with_a_token_either(guarded: Running) -> None:
    """A foreign Origin is refused whatever token comes with it; ours is let in with it."""
    bearer = {"Authorization": f"Bearer {VIEWER}"}

    assert status_of(guarded, origin="http://evil.example", additional_headers=bearer) == 403
    assert status_of(guarded, origin=guarded.url, additional_headers=bearer) == 101


@pytest.mark.parametrize(
    ("host", "status"),
    [(None, 101), ("evil.example", 421), ("localhost.evil.example:3010", 421), ("10.0.0.1", 421)],
)
def test_a_rebound_name_may_not_listen(open_server: Running, host: str | None, status: int) -> None:
    """The Host header of a handshake has to name this server."""
    with deaf(open_server, host) as made:
        assert made.recv(100).startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize(
    ("token", "status"), [(ADMIN, 101), (VIEWER, 101), (INGEST, 403), ("a-guess", 401)]
)
def test_a_token_comes_in_a_header_or_a_subprotocol(
    guarded: Running, token: str, status: int
) -> None:
    """Both places take the same tokens, at the handshake."""
    bearer = {"Authorization": f"Bearer {token}"}
    coded = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    offered = ["otel-agents", f"otel-agents.token.{coded}"]

    assert status_of(guarded, additional_headers=bearer) == status
    assert status_of(guarded, subprotocols=offered) == status


def test_the_subprotocol_answered_is_not_the_token(guarded: Running) -> None:
    """Where the plain one is offered too, the token does not come back."""
    coded = base64.urlsafe_b64encode(VIEWER.encode()).decode().rstrip("=")
    offered = ["otel-agents", f"otel-agents.token.{coded}"]
    with listen(guarded, subprotocols=offered) as feed:
        assert feed.subprotocol == "otel-agents"


@pytest.mark.parametrize("origin", [None, "null"])
def test_a_token_may_be_the_first_message(guarded: Running, origin: str | None) -> None:
    """A page from disk and a program without headers send it once they are connected."""
    with listen(guarded, "?since=0", origin=origin) as feed:
        feed.send(json.dumps({"token": VIEWER}))
        assert received(feed, 1)[0]["seq"] == 1


@pytest.mark.parametrize(
    "first", ['{"token": "a-guess"}', json.dumps({"token": INGEST}), '{"since": 0}', "hello", "[]"]
)
def test_nothing_comes_without_a_token(guarded: Running, first: str) -> None:
    """Any other first message closes the socket by policy, and no event came before."""
    with listen(guarded, "?since=0") as feed:
        feed.send(first)
        with pytest.raises(ConnectionClosed) as closed:
            feed.recv(DEADLINE)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


def test_who_sends_no_token_has_to_go(guarded: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that says nothing is closed after some seconds, and got nothing."""
    monkeypatch.setattr(live, "_TOKEN_SECONDS", 0.05)
    with listen(guarded, "?since=0") as feed, pytest.raises(ConnectionClosed) as closed:
        feed.recv(DEADLINE)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.reason == "no token came"


def test_a_session_listens_from_our_own_pages_only(guarded: Running) -> None:
    """The console's cookie counts where the Origin is ours; alone it does not."""
    signed = guarded.client.post("/login", data={"token": VIEWER}, headers={"Origin": guarded.url})
    cookie = {"Cookie": signed.headers["set-cookie"].partition(";")[0]}
    with listen(guarded, "?since=0", origin=guarded.url, additional_headers=cookie) as feed:
        assert received(feed, 1)[0]["seq"] == 1
    with listen(guarded, "?since=0", additional_headers=cookie) as feed:
        with pytest.raises(TimeoutError):
            feed.recv(0.2)


# ---------------------------------------------------------------------- misbehaviour


def closing(feed: ClientConnection) -> int:
    """Return the code that a socket is closed with, whatever comes before."""
    try:
        while True:
            feed.recv(DEADLINE)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd is not None else 1006


def test_a_long_message_closes_the_socket(open_server: Running) -> None:
    """Clients have little to say: 4 KiB, in one frame or in many."""
    with listen(open_server) as feed:
        feed.send("x" * 5000)
        assert closing(feed) == 1009
    with listen(open_server) as feed:
        with suppress(ConnectionClosed):  # it may be closed before all is sent
            feed.send(iter(["x" * 1000] * 6))
        assert closing(feed) in {1009, 1006}


def test_many_messages_close_the_socket(open_server: Running) -> None:
    """A flood of messages, even good ones, is cut off."""
    with listen(open_server) as feed:
        for _ in range(30):
            feed.send('{"type": "ping"}')
        assert closing(feed) == 1008


def flood(feed: ClientConnection, frames: list[Frame]) -> int:
    """Send frames past the library, which would not."""
    data = b"".join(frame.serialize(mask=True) for frame in frames)
    feed.socket.sendall(data)
    return closing(feed)


def test_many_pings_close_the_socket(open_server: Running) -> None:
    """A flood of pings is not answered to the end."""
    with listen(open_server) as feed:
        assert flood(feed, [Frame(Opcode.PING, b"x")] * 50) == 1008


def test_endless_fragments_close_the_socket(open_server: Running) -> None:
    """A message of ever more empty fragments is none."""
    fragments = [Frame(Opcode.TEXT, b"", fin=False)] + [Frame(Opcode.CONT, b"", fin=False)] * 200
    with listen(open_server) as feed:
        assert flood(feed, fragments) == 1008


def test_nothing_is_compressed(open_server: Running) -> None:
    """permessage-deflate, which can be a bomb, is not negotiated though offered."""
    url = f"{open_server.url.replace('http', 'ws', 1)}/ws"
    with connect(url, compression="deflate", proxy=None) as feed:
        assert feed.protocol.extensions == []


def deaf(running: Running, named: str | None = None) -> socket.socket:
    """Return a socket that shakes hands with a host, wants everything and reads nothing."""
    address = running.url.removeprefix("http://")
    host, _, port = address.partition(":")
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect((host, int(port)))
    made.sendall(
        f"GET /ws?since=0 HTTP/1.1\r\nHost: {named or address}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    return made


def test_who_does_not_read_is_given_up_and_holds_nobody_up(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that reads nothing is sent no more than fits, and is closed; others go on."""
    monkeypatch.setattr(live, "_SEND_SECONDS", 0.2)
    monkeypatch.setattr(protocols, "CLOSE_SECONDS", 0.2)
    sizes: list[int] = []
    cut = tail.up_to_size
    monkeypatch.setattr(
        live,
        "up_to_size",
        lambda page: sizes.append(sum(len(x.text) for x in cut(page))) or cut(page),
    )
    running = serving()
    big = {"text": "x" * 4000}
    signals = [event(number) for number in range(2000)]
    for one in signals:
        one.attributes.update(big)
    fill(running.store, Batch(signals=signals))
    sockets = [deaf(running) for _ in range(5)]
    with listen(running, "?since=0") as feed:
        healthy = [one["seq"] for one in received(feed, len(signals))]

    assert healthy == [one["seq"] for one in all_events(running)]
    assert max(sizes) <= 1 << 20
    connections = running.server._listeners[-1]._server.server_state.connections
    wait_until(lambda: not connections)
    for one in sockets:
        one.close()


def all_events(running: Running) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while page := running.store.feed(found[-1]["seq"] if found else 0, 500):
        found += page
    return found


def test_there_is_room_for_so_many(open_server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """One client too many is refused with 503, and let in once another has left."""
    monkeypatch.setattr(live, "MOST_CLIENTS", 2)
    with listen(open_server):
        with listen(open_server):
            assert status_of(open_server) == 503
        wait_until(lambda: status_of(open_server) == 101)


def test_tokens_are_nowhere_in_an_answer(guarded: Running) -> None:
    """No token of the settings comes back in a refusal."""
    for token in (TOKENS.token, TOKENS.viewer_token, TOKENS.ingest_token):
        answer = guarded.client.get("/api/runs", headers={"Authorization": f"Basic {token}"})
        assert answer.status_code == 401
        assert str(token) not in answer.text + str(answer.headers)
