"""The controls: each beast does what it says, seen by clients that know nothing of ours."""

from __future__ import annotations

import http.client
import socket
import ssl
import subprocess
import sys
import time
import urllib.parse
from typing import TYPE_CHECKING, Final

import grpc
import pytest
import urllib3
from google.rpc.error_details_pb2 import RetryInfo
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from .kit import SECRET
from .zoo import ROOT, Zoo

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.xdist_group("backends")

_SOON: Final = 0.4  # seconds, after which a client has had no answer
_METHOD: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_IDS: Final = {f"{'aa' * 16}-{number:016x}" for number in range(1, 5)}


def request() -> bytes:
    """Return a request of four spans."""
    spans = [
        Span(trace_id=b"\xaa" * 16, span_id=number.to_bytes(8), name="x") for number in range(1, 5)
    ]
    scopes = [ScopeSpans(spans=spans)]
    return ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(scope_spans=scopes)]
    ).SerializeToString()


@pytest.fixture
def pool() -> Iterator[urllib3.PoolManager]:
    """A client of HTTP that retries nothing, and waits for headers and body a short while."""
    with urllib3.PoolManager(retries=False, timeout=_SOON) as found:
        yield found


def post(
    pool: urllib3.PoolManager, zoo: Zoo, body: bytes | None = None, **how: object
) -> urllib3.BaseHTTPResponse:
    """Send a request of spans and return the answer, unread."""
    headers = {"Authorization": f"Bearer {SECRET}"}
    return pool.request(
        "POST", f"{zoo.http}/v1/traces", body=request() if body is None else body,
        headers=headers, preload_content=False, **how,
    )  # fmt: skip


def call(zoo: Zoo, seconds: float = 5.0) -> bytes:
    """Send a request of spans by gRPC and return the answer."""
    with grpc.insecure_channel(zoo.grpc.removeprefix("http://")) as channel:
        answer: bytes = channel.unary_unary(_METHOD)(request(), timeout=seconds)
        return answer


def status_of(zoo: Zoo, seconds: float = 5.0) -> grpc.RpcError:
    """Send a request by gRPC that fails, and return how."""
    with pytest.raises(grpc.RpcError) as caught:
        call(zoo, seconds)
    return caught.value


def test_a_healthy_backend_knows_each_span_and_counts_repeats(
    zoo: Zoo, pool: urllib3.PoolManager
) -> None:
    """A span that comes by HTTP and again by gRPC is one, taken twice."""
    assert post(pool, zoo).status == 200
    assert call(zoo) == b""

    assert zoo.seen().taken["traces"] == dict.fromkeys(_IDS, 2)
    assert zoo.counts()["traces"] == {"ids": 4, "again": 4}


def test_a_refused_port_comes_back(zoo: Zoo, pool: urllib3.PoolManager) -> None:
    """Nothing listens, and afterwards the same address does."""
    zoo.become("refused")
    with pytest.raises(urllib3.exceptions.NewConnectionError):
        post(pool, zoo)
    assert status_of(zoo).code() is grpc.StatusCode.UNAVAILABLE
    zoo.become("healthy")

    assert post(pool, zoo).status == 200
    assert call(zoo) == b""


@pytest.mark.parametrize("port", ["http", "grpc"])
def test_a_full_backlog_lets_nobody_in(zoo: Zoo, port: str) -> None:
    """A connection is neither made nor refused."""
    zoo.become("backlog")
    address = urllib.parse.urlsplit(getattr(zoo, port))
    with pytest.raises(TimeoutError):
        socket.create_connection((address.hostname, address.port), timeout=_SOON)


@pytest.mark.parametrize("beast", ["blackhole", "slow-read"])
def test_a_black_hole_takes_a_request_and_says_nothing(
    zoo: Zoo, pool: urllib3.PoolManager, beast: str
) -> None:
    """The connection is made, and no answer comes."""
    zoo.become(beast)
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        post(pool, zoo)
    assert status_of(zoo, _SOON).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert zoo.counts()["traces"]["ids"] == 0


def test_a_slow_reader_takes_no_large_request(zoo: Zoo, pool: urllib3.PoolManager) -> None:
    """A request that fits into no buffer cannot be written to its end."""
    zoo.become("slow-read")
    with pytest.raises((TimeoutError, urllib3.exceptions.ProtocolError)):
        post(pool, zoo, bytes(64 << 20))


def test_a_call_can_be_taken_and_never_answered(zoo: Zoo) -> None:
    """The request arrives in a gRPC server that says nothing."""
    zoo.become("hang")
    assert status_of(zoo, _SOON).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert set(zoo.seen().refused["traces"]) == _IDS


@pytest.mark.parametrize("status", [400, 401, 404, 501, 503])
def test_a_refusal_is_said(zoo: Zoo, pool: urllib3.PoolManager, status: int) -> None:
    """The status is the beast's name, no pause is asked for, and nothing is taken."""
    zoo.become(str(status))
    answer = post(pool, zoo)

    assert answer.status == status
    assert "Retry-After" not in answer.headers
    assert zoo.counts()["traces"]["ids"] == 0


@pytest.mark.parametrize(
    ("beast", "status", "asked"),
    [("503-retry", 503, "40"), ("429-seconds", 429, "40"), ("429-huge", 429, "1000000000"),
     ("429-garbage", 429, "soon; -1"), ("429-date", 429, " GMT")],
)  # fmt: skip
def test_a_pause_is_asked_for(
    zoo: Zoo, pool: urllib3.PoolManager, beast: str, status: int, asked: str
) -> None:
    """Retry-After is there, in each of the forms that are seen in the field."""
    zoo.become(beast)
    answer = post(pool, zoo)

    assert answer.status == status
    assert answer.headers["Retry-After"].endswith(asked)


def test_a_flaky_backend_refuses_most(zoo: Zoo, pool: urllib3.PoolManager) -> None:
    """Of forty requests some are refused and some are taken, by HTTP and by gRPC."""
    zoo.become("flaky")
    assert {post(pool, zoo).status for _ in range(40)} == {200, 503}
    zoo.forget()
    with grpc.insecure_channel(zoo.grpc.removeprefix("http://")) as channel:
        calls = [channel.unary_unary(_METHOD).future(request()) for _ in range(40)]
        codes = {one.code() for one in calls}
    assert codes == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}


@pytest.mark.parametrize(
    ("beast", "code", "asked"),
    [("unavailable", grpc.StatusCode.UNAVAILABLE, None),
     ("unavailable-retry", grpc.StatusCode.UNAVAILABLE, 40),
     ("unavailable-huge", grpc.StatusCode.UNAVAILABLE, 10**9),
     ("exhausted", grpc.StatusCode.RESOURCE_EXHAUSTED, None),
     ("exhausted-retry", grpc.StatusCode.RESOURCE_EXHAUSTED, 40),
     ("unimplemented", grpc.StatusCode.UNIMPLEMENTED, None),
     ("invalid", grpc.StatusCode.INVALID_ARGUMENT, None),
     ("unauthenticated", grpc.StatusCode.UNAUTHENTICATED, None)],
)  # fmt: skip
def test_a_status_is_said(zoo: Zoo, beast: str, code: grpc.StatusCode, asked: int | None) -> None:
    """The status is the beast's, with a RetryInfo where it has one."""
    zoo.become(beast)
    error = status_of(zoo)
    found = dict(error.trailing_metadata()).get("google.rpc.retryinfo-bin")

    assert error.code() is code
    assert (found and RetryInfo.FromString(found).retry_delay.seconds) == asked
    assert zoo.counts()["traces"]["ids"] == 0


def test_an_answer_can_come_byte_by_byte(zoo: Zoo) -> None:
    """After two seconds some bytes are there, and not many."""
    zoo.become("slow-answer")
    address = urllib.parse.urlsplit(zoo.http)
    with socket.create_connection((address.hostname, address.port), timeout=10) as raw:
        body = request()
        head = f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        raw.sendall(head.encode() + body)
        began = time.monotonic()
        assert raw.recv(100) + raw.recv(100) + raw.recv(100) == b"HTT"
        assert time.monotonic() - began > 1.5


@pytest.mark.parametrize("beast", ["huge-reply", "endless-body"])
def test_a_reply_has_no_end_in_sight(zoo: Zoo, pool: urllib3.PoolManager, beast: str) -> None:
    """A success goes on past 5 MiB, or past any time."""
    zoo.become(beast)
    answer = post(pool, zoo, timeout=10)
    wanted = 5 << 20 if beast == "huge-reply" else 5 << 10
    assert answer.status == 200
    assert len(answer.read(wanted)) == wanted
    answer.close()


def test_a_small_reply_unpacks_to_512_mib(zoo: Zoo, pool: urllib3.PoolManager) -> None:
    """What comes is less than 1 MiB; what it says it is, is a thousand times that."""
    zoo.become("gzip-bomb")
    answer = post(pool, zoo, decode_content=False, timeout=30)
    packed = answer.read(decode_content=False)

    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(packed) < 1 << 20
    assert int.from_bytes(packed[-4:], "little") == 512 << 20  # as gzip's own trailer says


@pytest.mark.parametrize("beast", ["endless-headers", "endless-continue"])
def test_a_reply_never_gets_to_its_body(zoo: Zoo, beast: str) -> None:
    """Headers, or replies before the reply, come on and on."""
    zoo.become(beast)
    address = urllib.parse.urlsplit(zoo.http)
    with socket.create_connection((address.hostname, address.port), timeout=10) as raw:
        body = request()
        head = f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        raw.sendall(head.encode() + body)
        got = b""
        while len(got) < 3000:
            got += raw.recv(1000)
    line = b"X-More" if beast == "endless-headers" else b"HTTP/1.1 100 Continue\r\n\r\n"
    assert got.count(line) > 1
    assert (b"\r\n\r\n" in got) == (beast == "endless-continue")


@pytest.mark.parametrize("status", [301, 307, 308])
def test_a_redirect_leads_to_the_canary(zoo: Zoo, pool: urllib3.PoolManager, status: int) -> None:
    """Whoever follows shows his request to somebody else; the canary says so."""
    zoo.become(f"redirect-{status}")
    post(pool, zoo, retries=3, redirect=True).close()

    (heard,) = zoo.canary()
    assert heard.startswith(("POST /v1/traces", "GET /v1/traces"))


@pytest.mark.parametrize("beast", ["tls-self-signed", "tls-wrong-host", "tls-expired"])
def test_a_certificate_is_not_to_be_trusted(zoo_tls: Zoo, beast: str) -> None:
    """A client that checks refuses this one, and accepts the healthy one."""
    with urllib3.PoolManager(retries=False, ca_certs=zoo_tls.authority) as pool:
        assert post(pool, zoo_tls).status == 200
        zoo_tls.become(beast)
        pool.clear()
        with pytest.raises(urllib3.exceptions.SSLError) as caught:
            post(pool, zoo_tls)
    wanted = {"tls-self-signed": "self", "tls-wrong-host": "match", "tls-expired": "expired"}
    assert wanted[beast] in str(caught.value)


def test_plain_text_can_stand_where_tls_is_expected(zoo_tls: Zoo) -> None:
    """The first words of the other side are no TLS."""
    zoo_tls.become("plain")
    address = urllib.parse.urlsplit(zoo_tls.http)
    context = ssl.create_default_context(cafile=zoo_tls.authority)
    with socket.create_connection((address.hostname, address.port), timeout=10) as raw:
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(raw, server_hostname="127.0.0.1")


@pytest.mark.parametrize(("beast", "kind"), [("garbage", "protobuf"), ("html", "html")])
def test_a_success_can_be_nonsense(
    zoo: Zoo, pool: urllib3.PoolManager, beast: str, kind: str
) -> None:
    """The status is 200 and the body is no answer of OTLP."""
    zoo.become(beast)
    answer = post(pool, zoo)

    assert answer.status == 200
    assert answer.headers["Content-Type"].endswith(kind)
    with pytest.raises(Exception, match="parsing"):
        ExportTraceServiceResponse.FromString(answer.read())


def test_each_answer_brings_other_cookies(zoo: Zoo, pool: urllib3.PoolManager) -> None:
    """A client that keeps cookies keeps 1.8 MB more with each request."""
    zoo.become("cookies")
    first, second = (set(post(pool, zoo).headers.getlist("Set-Cookie")) for _ in range(2))

    assert len(first) == len(second) == 90
    assert first.isdisjoint(second)


def test_one_item_poisons_a_request(zoo: Zoo, pool: urllib3.PoolManager) -> None:
    """A request is refused for what is in it, and another one is not."""
    zoo.become("poison")
    bad = ExportTraceServiceRequest.FromString(request())
    bad.resource_spans[0].scope_spans[0].spans[0].name = "poison-pill"

    assert post(pool, zoo, bad.SerializeToString()).status == 400
    assert post(pool, zoo).status == 200


def test_a_half_is_rejected(zoo: Zoo, pool: urllib3.PoolManager) -> None:
    """Both protocols say how many spans of the request were not taken."""
    zoo.become("partial")
    answers = [post(pool, zoo).read(), call(zoo)]

    for answer in answers:
        assert ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans == 2
    assert zoo.counts()["traces"] == {"ids": 2, "again": 2}


def test_a_reply_is_cut(zoo: Zoo, pool: urllib3.PoolManager) -> None:
    """The connection is reset in the reply, after the request was taken."""
    zoo.become("reset")
    with pytest.raises((urllib3.exceptions.HTTPError, OSError)):
        post(pool, zoo).read()
    assert status_of(zoo).code() is grpc.StatusCode.UNAVAILABLE
    assert set(zoo.seen().taken["traces"]) == _IDS


def test_a_connection_is_closed_without_a_word(zoo: Zoo) -> None:
    """The answer lets the client believe that the connection stays, which it does not."""
    zoo.become("close-each")
    address = urllib.parse.urlsplit(zoo.http)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    connection.request("POST", "/v1/traces", body=request())
    answer = connection.getresponse()
    answer.read()

    assert answer.status == 200
    assert "Connection" not in answer.headers
    assert not answer.will_close
    assert connection.sock.recv(1) == b""
    connection.close()


@pytest.mark.parametrize("beast", ["huge-reply", "gzip-bomb"])
def test_a_message_is_larger_than_a_client_takes(zoo: Zoo, beast: str) -> None:
    """The client's own cap of 4 MiB ends the call, though the request was taken."""
    zoo.become(beast)
    error = status_of(zoo, 30)

    assert error.code() in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL}
    assert set(zoo.seen().taken["traces"]) == _IDS


SDK: Final = """
    import sys
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider

    span = TracerProvider().get_tracer("x").start_span("y")
    span.end()
    print(OTLPSpanExporter(sys.argv[1] + "/v1/traces", timeout=1).export([span]).name)
"""


@pytest.mark.parametrize(
    ("beast", "said"), [("refused", "FAILURE"), ("503", "FAILURE"), ("redirect-307", "SUCCESS")]
)
def test_what_the_sdk_makes_of_it(zoo: Zoo, beast: str, said: str) -> None:
    """The SDK's exporter gives a batch up, or takes a redirect for a success; nothing arrives."""
    zoo.become(beast)
    program = "\n".join(line.strip() for line in SDK.splitlines())
    answer = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program, zoo.http],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip

    assert answer.stdout.strip() == said
    assert zoo.counts()["traces"]["ids"] == 0
