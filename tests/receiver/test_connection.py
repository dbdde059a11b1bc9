"""What strangers do to a socket: lies about length, slowness, floods, odd targets and headers."""

from __future__ import annotations

import itertools
import select
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from google.rpc.status_pb2 import Status
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from otel_agents.receiver import protocol
from otel_agents.receiver.limits import LINGER_BYTES, MAX_HEADERS
from tests.receiver.kit import PATIENCE, Remembering, http_receiver, received, traces, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.receiver.kit import Listening

HEAD = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n"
BODY = traces().SerializeToString()
LENGTH = b"content-length: %d\r\n" % len(BODY)


def refused(answer: bytes) -> None:
    """Check for one answer of 400 with a status message, and the end of the connection."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in head.lower()
    assert Status.FromString(body).code == 3


def alive(receiver: Listening) -> None:
    """Check that others are served."""
    before = receiver.store.spans
    assert receiver.post("/v1/traces", BODY).status == 200
    assert receiver.store.spans == before + 1


@pytest.mark.parametrize(
    "request_",
    [
        HEAD + b"content-length: -1\r\n\r\n",
        HEAD + b"content-length: 1e3\r\n\r\n",
        HEAD + b"content-length: 99999999999999999999999\r\n\r\n",
        HEAD + LENGTH + b"content-length: 5\r\n\r\n" + BODY,
        HEAD + LENGTH + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n" + LENGTH + b"\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n-1\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        HEAD + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",  # the start of TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v1/traces HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST /v1/traces HTTP/1.1\r\nna me: x\r\n\r\n",
        b"POST /v1/traces HTTP/1.1\r\nname: a\x00b\r\n\r\n",
        b"POST http://[ HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /a b HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        HEAD + b"baggage: " + b"a=b," * (1 << 14) + b"\r\n\r\n",
        HEAD + b"".join(b"x-%d: y\r\n" % n for n in range(10_000)) + b"\r\n",
        HEAD + b"traceparent: 00-ab-cd-01\r\n" * 1000 + b"\r\n",
    ],
    ids=itertools.count(),
)
def test_what_is_no_request_is_refused(receiver: Listening, request_: bytes) -> None:
    """Attacks 5, 36 and 37: 400 with a status message, the connection ends, others are served."""
    refused(receiver.send_raw(request_))
    alive(receiver)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"//", 404), (b"/v1/traces?x=1", 200), (b"/%zz", 404), (b"/v1%2ftraces", 200),
        (b"http://other/v1/traces", 200), (b"*", 404), (b"/v1/traces#x", 200), (b"/\\", 404),
    ],
)  # fmt: skip
def test_an_odd_target_is_answered(receiver: Listening, target: bytes, status: int) -> None:
    """Attack 36: whatever the target, there is an answer, and the process lives."""
    answer = receiver.send_raw(
        b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n"
        b"connection: close\r\ncontent-length: 0\r\n\r\n" % target
    )

    assert answer.startswith(b"HTTP/1.1 %d " % status)
    alive(receiver)


def test_as_many_headers_as_allowed_are_taken(receiver: Listening) -> None:
    """The limits are no lower than they say."""
    lines = b"".join(b"x-%d: y\r\n" % n for n in range(MAX_HEADERS - 4))
    answer = receiver.send_raw(HEAD + lines + b"connection: close\r\n" + LENGTH + b"\r\n" + BODY)

    assert answer.startswith(b"HTTP/1.1 200 ")


def test_an_unguarded_server_takes_any_number_of_headers(
    store: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: uvicorn's own protocol has no limit."""
    monkeypatch.setattr(protocol, "ReceiverProtocol", HttpToolsProtocol)
    lines = b"".join(b"x-%d: y\r\n" % n for n in range(10_000))
    with http_receiver(store) as receiver:
        answer = receiver.send_raw(
            HEAD + lines + b"connection: close\r\n" + LENGTH + b"\r\n" + BODY
        )

    assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_length_that_is_too_short_ends_the_connection(receiver: Listening) -> None:
    """Attack 5: what is left over is no request."""
    answer = receiver.send_raw(HEAD + b"content-length: 2\r\n\r\n" + BODY)

    assert b"HTTP/1.1 400 " in answer
    alive(receiver)


@pytest.mark.parametrize(
    "start",
    [b"", b"POST /v1/tr", HEAD, HEAD + b"content-length: 100\r\n\r\nabc",
     HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nab"],
    ids=["nothing", "a target", "headers", "a body", "a chunk"],
)  # fmt: skip
def test_who_is_slow_is_let_go(
    store: Remembering, monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    """Attack 7: a hundred connections that never get further are closed, and one beside served."""
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.5)
    monkeypatch.setattr(protocol, "REQUEST_SECONDS", 0.5)
    monkeypatch.setattr(protocol, "_SWEEP_SECONDS", 0.05)
    with http_receiver(store) as receiver, opened(receiver, 100, start) as slow:
        alive(receiver)
        until(lambda: len(closed(slow)) == len(slow))
        alive(receiver)


def test_an_unguarded_server_waits_for_who_is_slow(
    store: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: uvicorn's own protocol has no clock for what never came."""
    monkeypatch.setattr(protocol, "ReceiverProtocol", HttpToolsProtocol)
    with http_receiver(store) as receiver, opened(receiver, 10, HEAD) as slow:
        for _ in range(50):
            alive(receiver)
        assert closed(slow) == []


def test_who_sends_a_little_at_a_time_is_let_go(
    store: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then does not buy time."""
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.5)
    monkeypatch.setattr(protocol, "_SWEEP_SECONDS", 0.05)
    with http_receiver(store) as receiver, opened(receiver, 20, b"POST /") as slow:

        def drip() -> bool:
            for one in slow:
                try:
                    one.send(b"a")
                except OSError:
                    continue
            return len(closed(slow)) == len(slow)

        until(drip)


def test_who_takes_their_time_between_requests_stays(
    store: Remembering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock stops with a request's last byte: an exporter is idle most of the time."""
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.2)
    monkeypatch.setattr(protocol, "REQUEST_SECONDS", 0.2)
    monkeypatch.setattr(protocol, "_SWEEP_SECONDS", 0.05)
    request = HEAD + b"content-length: 0\r\n\r\n"
    with http_receiver(store) as receiver, opened(receiver, 1, request) as idle:
        with opened(receiver, 20, HEAD) as slow:
            until(lambda: len(closed(slow)) == len(slow))
        idle[0].recv(4096)
        assert closed(idle) == []
        idle[0].sendall(request)
        assert idle[0].recv(4096).startswith(b"HTTP/1.1 200 ")


def test_connections_are_capped(store: Remembering, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack 8: beyond the cap 503, and when others go there is room again."""
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 20)
    with http_receiver(store) as receiver:
        with opened(receiver, 20, b"") as idle:
            answer = receiver.send_raw(b"")
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: " in answer
            assert closed(idle) == []

        def served() -> bool:
            try:
                return receiver.post("/v1/traces").status == 200
            except OSError:
                return False

        until(served)


@pytest.mark.parametrize(
    "start", [b"80000000\r\n" + bytes(1000), b""], ids=["a chunk of 2 GiB", "endless chunks"]
)
def test_a_chunked_body_ends_at_the_limit(receiver: Listening, start: bytes) -> None:
    """Attack 6: 413 once the limit is passed, and the connection ends while it is still sent."""
    block = bytes(1 << 20)
    piece = block if start else b"100000\r\n" + block + b"\r\n"
    sent = 0
    with socket.create_connection(("127.0.0.1", receiver.port), PATIENCE) as connection:
        connection.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n" + start)
        try:
            while sent < LINGER_BYTES * 4:
                connection.sendall(piece)
                sent += len(block)
                if select.select([connection], [], [], 0)[0]:
                    break
        except OSError:
            pass
        answer = received(connection)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert 32 << 20 <= sent <= LINGER_BYTES * 2
    alive(receiver)


class opened(ExitStack):  # noqa: N801 - reads as what it gives
    """Connections on which something was sent."""

    def __init__(self, receiver: Listening, count: int, start: bytes) -> None:
        super().__init__()
        self._connections: list[socket.socket] = []
        for _ in range(count):
            one = socket.create_connection(("127.0.0.1", receiver.port), PATIENCE)
            self._connections.append(self.enter_context(one))
            one.sendall(start)

    def __enter__(self) -> Any:
        return self._connections


def closed(connections: list[socket.socket]) -> list[socket.socket]:
    """Return those that the other side has closed."""

    def ended() -> Iterator[socket.socket]:
        for one in connections:
            if select.select([one], [], [], 0)[0]:
                try:
                    if not one.recv(1, socket.MSG_PEEK):
                        yield one
                except OSError:
                    yield one

    return list(ended())
