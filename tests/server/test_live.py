"""The live feed: replay, what comes after it, who may listen, and clients that misbehave."""

from __future__ import annotations

import base64
import json
import random
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader
from websockets.sync.client import ClientConnection, connect

from otel_agents.event_types import event_of
from otel_agents.server import live, protocols, tail
from otel_agents.server.live_formats import Sent, frame_of
from otel_agents.server.pages import FEED_MODULE
from otel_agents.signals import Signal, decode_line
from otel_agents.state.progress import progress_of
from otel_agents.store import Batch
from tests.console.events import told as emitted

from .kit import ADMIN, INGEST, TOKENS, VIEWER, event, fill, told, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Running, Serving

DEADLINE: Final = 90.0


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
        assert json.loads(feed.recv(DEADLINE)) == {"type": "pong", "seq": last}
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
        ("?run_id=", "run_id"), ("?run_id=a%00", "run_id"), ("?format=xml", "format"),
        ("?format=", "format"), ("?seq=yes", "seq"), ("?type=,", "type"),
        ("?token=secret-in-the-address", "token"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_named(kept_server: Running, query: str, name: str) -> None:
    """A wrong parameter is refused at the handshake, by name; a token there is not repeated."""
    with pytest.raises(InvalidStatus) as refused:
        listen(kept_server, query)
    answer = refused.value.response

    assert answer.status_code == 400
    assert json.loads(answer.body)["error"]["message"].startswith(f"{name}: ")
    assert b"secret" not in answer.body


# ---------------------------------------------------------------------- formats


def signals_of(running: Running, run_id: str | None = None) -> list[tuple[int, Signal]]:
    """Return what the store has, with the numbers."""
    found = []
    rows = running.store.signal_rows(0, 10_000, run_id=run_id)
    for row in rows:
        signal = decode_line(row["body"].encode())
        assert signal is not None
        found.append((row["seq"], signal))
    return found


def as_events(signal: Signal) -> list[dict[str, Any]]:
    event = event_of(signal)
    return [] if event is None else [event.line()]


FORMATS: Final[dict[str, Callable[[Signal], list[dict[str, Any]]]]] = {
    "events": as_events, "progress": progress_of,
}  # fmt: skip


@pytest.mark.parametrize("format_", FORMATS)
def test_a_format_has_its_own_shape(open_server: Running, format_: str) -> None:
    """Each signal that is something in a format is sent as that and nothing more, in order."""
    due = [one for _, signal in signals_of(open_server) for one in FORMATS[format_](signal)]
    with listen(open_server, f"?since=0&format={format_}") as feed:
        before = received(feed, len(due))
        open_server.store.write(Batch(signals=told("run-late", 0)))
        late = [s for _, s in signals_of(open_server, "run-late")]
        later = [one for signal in late for one in FORMATS[format_](signal)]
        after = received(feed, len(later))

    assert before == due
    assert after == later
    assert len(due) > 10


def test_an_event_that_was_emitted_comes_as_it_was_given(open_server: Running) -> None:
    """With format=events a payload has what the program gave, and no more."""
    given_payload = {"task_id": "t-9", "feature": "login", "est_cost": 0.4, "mine": [1, None]}
    with listen(open_server, "?format=events") as feed:
        signal = emitted("task_queued", given_payload)
        open_server.store.write(Batch(signals=[signal]))
        [line] = received(feed, 1)

    assert list(line) == ["event_type", "timestamp", "payload"]
    assert line["event_type"] == "task_queued"
    assert line["timestamp"] == signal.time / 1e9
    assert line["payload"] == given_payload


@pytest.mark.parametrize("format_", FORMATS)
def test_messages_are_numbered_for_who_asks(open_server: Running, format_: str) -> None:
    """With seq=1 the last message of each signal ends with its number; the rest is the same."""
    due = []
    for seq, signal in signals_of(open_server):
        said = FORMATS[format_](signal)
        if said:
            said[-1]["seq"] = seq
        due += said
    with listen(open_server, f"?since=0&format={format_}&seq=1") as feed:
        assert received(feed, len(due)) == due
    assert any("seq" not in one for one in due) == (format_ == "progress")  # a run that failed


def test_types_can_be_asked_for(open_server: Running) -> None:
    """`type` takes messages by what they call themselves, several with commas between."""
    failed = [signal for _, signal in signals_of(open_server) if signal.result == "failure"]
    assert failed
    with listen(
        open_server, "?since=0&format=progress&seq=1&type=run:completed,gate:checked"
    ) as feed:
        found = received(feed, 4)
    assert {one["type"] for one in found} == {"run:completed", "gate:checked"}
    assert all("seq" in one for one in found)

    with listen(open_server, "?since=0&type=run.end") as feed:
        assert {one["type"] for one in received(feed, 3)} == {"run.end"}


def test_a_gap_is_told_in_every_format(open_server: Running) -> None:
    """What is no longer there is a gap to who wants events, too."""
    open_server.store.delete_run("run-1")
    first, _ = open_server.store.feed_bounds()
    with listen(open_server, "?since=0&format=events") as feed:
        gap, line = received(feed, 2)

    assert gap == {"type": "gap", "from": 1, "to": first - 1}
    assert set(line) == {"event_type", "timestamp", "payload"}


def test_an_unknown_format_is_refused_with_a_sentence(open_server: Running) -> None:
    """It names the formats that there are."""
    with pytest.raises(InvalidStatus) as refused:
        listen(open_server, "?format=xml")

    error = json.loads(refused.value.response.body)["error"]
    assert error["message"] == "format: it must be events or progress, or be left out."
    assert error["code"] == "invalid_input"


def test_a_message_is_made_once_for_all() -> None:
    """The text that one client is sent is the object that the next one is sent."""
    body = '{"id": "1", "kind": "run", "edge": "start", "time": 1}'
    one = Sent({"seq": 1, "type": "run.start", "run_id": "", "time_ns": 1, "body": body})

    for format_ in ("", "events", "progress"):
        assert one.messages(format_) is one.messages(format_)
        assert one.frames(format_, numbered=True) is one.frames(format_, numbered=True)
    assert [len(one.messages(format_)) for format_ in ("", "events", "progress")] == [1, 0, 1]


@pytest.mark.parametrize("size", [0, 125, 126, 127, 65535, 65536, 100_000])
def test_a_frame_is_read_as_the_text_it_holds(size: int) -> None:
    """What goes to all clients as it is parses as one whole text frame, of any length."""
    text = b"x" * size
    reader = StreamReader()
    reader.feed_data(frame_of(text))
    parsing = Frame.parse(reader.read_exact, mask=False)
    with pytest.raises(StopIteration) as done:
        next(parsing)
    frame = done.value.value

    assert (frame.opcode, frame.data, frame.fin) == (Opcode.TEXT, text, True)


def test_a_signal_that_cannot_be_read_ends_no_feed() -> None:
    """What is no signal is an envelope with nothing in it, and no event."""
    row = {"seq": 1, "type": "x", "run_id": "", "time_ns": 1, "body": "{"}

    assert [len(Sent(row).messages(format_)) for format_ in ("", "events", "progress")] == [1, 0, 0]


def test_two_thousand_events_and_a_client_that_drops(serving: Serving) -> None:
    """A client of format=events that loses its connection again and again sees each event once."""
    running = serving()
    total, chance = 2000, random.Random(5)  # noqa: S311 - no secret
    payloads = [{"agent": "a", "task_id": f"t-{number}"} for number in range(total)]
    signals = [emitted("agent_started", each) for each in payloads]
    seen: list[str] = []
    written = place = 0
    while len(seen) < total:
        with listen(running, f"?since={place}&format=events&seq=1") as feed:
            more = signals[written : written + chance.randint(0, 300)]
            written += len(more)
            if more:
                running.store.write(Batch(signals=more))
            for one in received(feed, chance.randint(0, written - len(seen))):
                place = one["seq"]
                seen.append(one["payload"]["task_id"])

    assert seen == [each["task_id"] for each in payloads]


def test_a_ping_is_answered_with_the_place(open_server: Running) -> None:
    """A client that was sent nothing learns where it would go on: later events come after it."""
    last = open_server.store.feed_bounds()[1]
    with listen(open_server, "?format=progress&run_id=nobodys") as feed:
        add(open_server, 3)
        wait_until(lambda: pinged(feed) == last + 3)


def pinged(feed: ClientConnection) -> int:
    feed.send('{"type": "ping"}')
    return int(json.loads(feed.recv(DEADLINE))["seq"])


_WRITER: Final = """
import sys
from otel_agents.store import Batch, open_store
from tests.server.kit import told
store = open_store(sys.argv[1])
store.write(Batch(signals=told("run-elsewhere", 0)))
store.close()
"""


def test_what_another_process_stores_comes_too(open_server: Running) -> None:
    """A listener hears of signals that another process wrote into the same store."""
    with listen(open_server, "?run_id=run-elsewhere") as feed:
        subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", _WRITER, open_server.store.url], check=True, timeout=60
        )
        found = received(feed, 14)

    assert [one["type"] for one in found] == [
        one["type"] for one in open_server.store.feed(0, 500, "run-elsewhere")
    ]


def test_the_module_of_the_feed_has_a_place_of_its_own(guarded: Running) -> None:
    """Pages find it without a token; it is shared with pages from disk and no other origin."""
    for origin, shared in ((None, None), ("http://evil.example", None), ("null", "null")):
        headers = {} if origin is None else {"Origin": origin}
        answer = guarded.client.get(FEED_MODULE, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/javascript")
        assert "export function feed" in answer.text
        assert answer.headers.get("access-control-allow-origin") == shared


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
def test_a_rebound_name_may_not_listen(kept_server: Running, host: str | None, status: int) -> None:
    """The Host header of a handshake has to name this server."""
    with deaf(kept_server, host) as made:
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
        with suppress(ConnectionClosed):  # it may be cut off before all are sent
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


def deaf(running: Running, named: str | None = None, query: str = "?since=0") -> socket.socket:
    """Return a socket that shakes hands with a host, wants everything and reads nothing."""
    address = running.url.removeprefix("http://")
    host, _, port = address.partition(":")
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect((host, int(port)))
    made.sendall(
        f"GET /ws{query} HTTP/1.1\r\nHost: {named or address}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    return made


@pytest.mark.parametrize("format_", ["", "&format=events&seq=1"], ids=["envelopes", "events"])
def test_who_does_not_read_is_given_up_and_holds_nobody_up(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, format_: str
) -> None:
    """A client that reads nothing is sent no more than fits, and is closed; others go on."""
    monkeypatch.setattr(live, "_SEND_SECONDS", 0.2)
    monkeypatch.setattr(protocols, "CLOSE_SECONDS", 0.2)
    sizes: list[int] = []
    cut = tail.up_to_size

    def measured(page: list[Sent], format_: str) -> list[Sent]:
        kept = cut(page, format_)
        sizes.append(sum(len(one.frames(format_, numbered=True)) for one in kept))
        return kept

    monkeypatch.setattr(live, "up_to_size", measured)
    running = serving()
    big = {"task_id": "t", "feature": "x" * 4000, "est_cost": 0.1}
    signals = [emitted("task_queued", big) for _ in range(2000)]
    fill(running.store, Batch(signals=signals))
    sockets = [deaf(running, query=f"?since=0{format_}") for _ in range(5)]
    with listen(running, f"?since=0{format_}") as feed:
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
