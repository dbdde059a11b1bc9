"""Whatever a request holds, it costs the receiver at most 64 MiB."""

from __future__ import annotations

import gzip
import http.client
import os
import subprocess
import sys
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import pytest

from tests.receiver.kit import JSON, PATIENCE, PROTOBUF, framed, logs, metrics, nested, traces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc"
)

KIB: Final = 1024
MIB: Final = 1024 * KIB
ROOT: Final = Path(__file__).parent.parent.parent
BOUND: Final = 64.0  # MiB
SLOW: Final = 120.0  # seconds; the answers take a few at most


def peak(pid: int) -> float:
    """Return the most memory a process ever had, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / KIB
    raise AssertionError("no VmHWM")


class Alone:
    """A receiver in another process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.pid = process.pid
        self.http, self.grpc, _ = map(int, process.stdout.readline().split())

    def post(self, path: str, body: Any, kind: str = PROTOBUF, encoding: str = "") -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=SLOW)
        headers = {"content-type": kind} | ({"content-encoding": encoding} if encoding else {})
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            response.read()
        finally:
            connection.close()
        return response.status

    def call(self, body: bytes, compression: grpc.Compression) -> str:
        options = [("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(
            f"127.0.0.1:{self.grpc}", options=options, compression=compression
        ) as channel:
            export = channel.unary_unary(
                "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
            )
            try:
                export(body, timeout=SLOW)
            except grpc.RpcError as error:
                return str(error.code().name)
        return "OK"


@contextmanager
def alone() -> Iterator[Alone]:
    """Run a receiver that has seen one small request of each kind."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.receiver.alone"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        try:
            found = Alone(process)
            for path, request in (
                ("/v1/traces", traces(300)), ("/v1/logs", logs(10)), ("/v1/metrics", metrics(10)),
            ):  # fmt: skip
                assert found.post(path, request.SerializeToString()) == 200
                assert found.post(path, b"{}", JSON) == 200
            assert found.call(traces().SerializeToString(), grpc.Compression.Gzip) == "OK"
            yield found
        finally:
            process.stdin.close()
            process.wait(PATIENCE)


def cost(send: Callable[[Alone], Any]) -> tuple[Any, float]:
    """Return what came of sending something, and what it cost the receiver in MiB."""
    with alone() as receiver:
        before = peak(receiver.pid)
        found = send(receiver)
        return found, peak(receiver.pid) - before


def zeros(size: int) -> bytes:
    """Return gzip of many zeros, made without holding them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(MIB)
    return b"".join([*(packer.compress(block) for _ in range(size // MIB)), packer.flush()])


def in_spans(inside: bytes, each: int, size: int) -> bytes:
    """Return a request of `size` bytes of spans, each with valid ids and `each` bytes inside."""
    filler = inside * (each // len(inside))
    span = framed(2, framed(1, os.urandom(16)) + framed(2, os.urandom(8)) + filler)
    return nested(span * (size // len(span)), 1, 2)


def many_traces(size: int) -> bytes:
    """Return a request of the smallest spans there are, each in a trace of its own."""
    count = size // 30
    spans = (
        framed(2, b"\x0a\x10" + os.urandom(16) + b"\x12\x08" + os.urandom(8)) for _ in range(count)
    )
    return nested(b"".join(spans), 1, 2)


def packed_buckets(size: int) -> bytes:
    """Return exponential histograms whose counts take a byte on the wire and eight in memory."""
    point = framed(1, b"\x19" + b"\x01" * 8 + framed(8, framed(2, b"\x01" * 60 * KIB)))
    return nested(point * (size // len(point)), 1, 2, 2, 10)


EMPTY_SPAN: Final = b"\x12\x00"
PROTOBUF_BODIES: Final[dict[str, tuple[str, Callable[[], bytes], set[int]]]] = {
    "empty spans, 31 MiB": ("traces", lambda: nested(EMPTY_SPAN * (31 * MIB // 2), 1, 2), {413}),
    "empty spans, 511 KiB": ("traces", lambda: nested(EMPTY_SPAN * (511 * KIB // 2), 1, 2), {200}),
    "empty resources": ("traces", lambda: b"\x0a\x00" * (16 * MIB // 2), {413}),
    "empty attributes": ("traces", lambda: nested(b"\x4a\x00" * 8 * MIB, 1, 2, 2), {200}),
    "empty events": ("traces", lambda: nested(b"\x5a\x00" * 8 * MIB, 1, 2, 2), {200}),
    "empty links": ("traces", lambda: nested(b"\x6a\x00" * 8 * MIB, 1, 2, 2), {200}),
    "resource attributes": ("traces", lambda: nested(b"\x0a\x00" * 8 * MIB, 1, 1), {413}),
    "list values": ("traces", lambda: nested(b"\x0a\x00" * 8 * MIB, 1, 2, 2, 9, 2, 5), {200}),
    "links in many spans": ("traces", lambda: in_spans(b"\x6a\x00", 200 * KIB, 31 * MIB), {200}),
    "events in many spans": ("traces", lambda: in_spans(b"\x5a\x00", 4 * KIB, 31 * MIB), {200}),
    "unknown fields": ("traces", lambda: nested(b"\xf8\x01\x00" * 8 * MIB, 1, 2, 2), {200}),
    "traces of one span": ("traces", lambda: many_traces(4 * MIB), {200}),
    "ordinary spans": (
        "traces", lambda: traces(1000, attributes=8).SerializeToString() * 95, {200},
    ),
    "one long text": ("traces", lambda: nested(b"x" * 31 * MIB, 1, 2, 2, 9, 2, 1), {200}),
    "wide text": (
        "logs",
        lambda: nested(b"x" * (30 * MIB) + "\U0001f600".encode(), 1, 2, 2, 5, 1),
        {200},
    ),
    "empty records, 31 MiB": ("logs", lambda: nested(EMPTY_SPAN * (31 * MIB // 2), 1, 2), {413}),
    "empty records, 390 KiB": ("logs", lambda: nested(EMPTY_SPAN * 195 * KIB, 1, 2), {200}),
    "ordinary records": ("logs", lambda: logs(2000).SerializeToString() * 90, {200}),
    "empty points": ("metrics", lambda: nested(b"\x0a\x00" * 8 * MIB, 1, 2, 2, 5), {413}),
    "packed buckets": ("metrics", lambda: packed_buckets(16 * MIB), {200}),
    "buckets of one point": (
        "metrics", lambda: nested(b"\x01" * 30 * MIB, 1, 2, 2, 10, 1, 8, 2), {200},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROTOBUF_BODIES)
def test_a_protobuf_body_costs_at_most_the_bound(name: str) -> None:
    """Attacks 3, 14 and 15, and as much of ordinary telemetry as a request may hold."""
    signal, make, statuses = PROTOBUF_BODIES[name]
    body = make()

    status, mib = cost(lambda receiver: receiver.post(f"/v1/{signal}", body))

    assert mib <= BOUND
    assert status in statuses


def objects(inside: str, size: int) -> str:
    return "[" + ",".join([inside] * (size // (len(inside) + 1))) + "]"


SPAN_JSON: Final = (
    '{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"step",'
    '"startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000000001000",'
    '"attributes":[{"key":"a","value":{"stringValue":"some text that stands here"}}]}'
)
JSON_BODIES: Final[dict[str, tuple[Callable[[], str], set[int]]]] = {
    "empty spans": (lambda: spans_json(objects("{}", 8 * MIB - KIB)), {413}),
    "empty spans, 500 KiB": (lambda: spans_json(objects("{}", 500 * KIB)), {200}),
    "empty spans, 850 KiB": (lambda: spans_json(objects("{}", 850 * KIB)), {200}),
    "ordinary spans": (lambda: spans_json(objects(SPAN_JSON, 8 * MIB - KIB)), {200}),
    "empty attributes": (
        lambda: spans_json('[{"attributes":' + objects("{}", 8 * MIB - KIB) + "}]"), {413},
    ),
    "many keys": (
        lambda: spans_json("[{" + ",".join(f'"{n:06}":0' for n in range(590_000)) + "}]"), {413},
    ),
    "many resources": (lambda: '{"resourceSpans":' + objects("{}", 850 * KIB) + "}", {200}),
    "numbers": (lambda: spans_json('[{"x":' + objects("1.5", 2300 * KIB) + "}]"), {413}),
    "texts": (lambda: spans_json('[{"x":' + objects('"ab"', 2900 * KIB) + "}]"), {413}),
    "deep lists": (lambda: "[" * (8 * MIB - KIB), {413}),
    "wide text": (
        lambda: spans_json('[{"name":"' + "x" * (8 * MIB - KIB) + '\U0001f600"}]'), {200},
    ),
}  # fmt: skip


def spans_json(spans: str) -> str:
    return '{"resourceSpans":[{"scopeSpans":[{"spans":' + spans + "}]}]}"


@pytest.mark.parametrize("name", JSON_BODIES)
def test_a_json_body_costs_at_most_the_bound(name: str) -> None:
    """The same in JSON, whose objects cost more."""
    make, statuses = JSON_BODIES[name]
    body = make().encode()

    status, mib = cost(lambda receiver: receiver.post("/v1/traces", body, JSON))

    assert mib <= BOUND
    assert status in statuses


GZIP_BODIES: Final[dict[str, tuple[Callable[[], bytes], int]]] = {
    "1 GiB of zeros": (lambda: zeros(1024 * MIB), 413),
    "64 MiB of empty spans in 63 KiB": (
        lambda: gzip.compress(nested(EMPTY_SPAN * (32 * MIB), 1, 2)), 413,
    ),
    "31 MiB of empty spans": (
        lambda: gzip.compress(nested(EMPTY_SPAN * (31 * MIB // 2), 1, 2)), 413,
    ),
    "gzip in gzip": (lambda: gzip.compress(zeros(512 * MIB)), 400),
    "many members that are bombs": (lambda: zeros(8 * MIB) * 50, 413),
    "thousands of empty members": (lambda: gzip.compress(b"") * 50_000, 400),
    "what gzip cannot make smaller": (lambda: gzip.compress(nested(os.urandom(31 * MIB), 9)), 413),
}  # fmt: skip


@pytest.mark.parametrize("name", GZIP_BODIES)
def test_a_gzip_body_costs_at_most_the_bound(name: str) -> None:
    """Attacks 1, 2 and 4: a body is refused as soon as it is too large, however small it came."""
    make, expected = GZIP_BODIES[name]
    body = make()

    status, mib = cost(lambda receiver: receiver.post("/v1/traces", body, encoding="gzip"))

    assert mib <= BOUND
    assert status == expected


PLAIN, PACKED = grpc.Compression.NoCompression, grpc.Compression.Gzip
GRPC_BODIES: Final[dict[str, tuple[Callable[[], bytes], grpc.Compression, str]]] = {
    "64 MiB and a byte": (lambda: bytes(64 * MIB + 1), PLAIN, "RESOURCE_EXHAUSTED"),
    "64 MiB and a byte, packed": (lambda: bytes(64 * MIB + 1), PACKED, "RESOURCE_EXHAUSTED"),
    "256 MiB of zeros, packed": (lambda: bytes(256 * MIB), PACKED, "RESOURCE_EXHAUSTED"),
    "empty spans": (
        lambda: nested(EMPTY_SPAN * (15 * MIB // 2), 1, 2), PLAIN, "RESOURCE_EXHAUSTED",
    ),
    "empty spans, packed": (
        lambda: nested(EMPTY_SPAN * (15 * MIB // 2), 1, 2), PACKED, "RESOURCE_EXHAUSTED",
    ),
    "links in many spans": (lambda: in_spans(b"\x6a\x00", 200 * KIB, 15 * MIB), PLAIN, "OK"),
    "ordinary spans": (
        lambda: traces(1000, attributes=8).SerializeToString() * 45, PLAIN, "OK",
    ),
    "ordinary spans, packed": (
        lambda: traces(1000, attributes=8).SerializeToString() * 45, PACKED, "OK",
    ),
    "what gzip cannot make smaller": (
        lambda: nested(os.urandom(15 * MIB), 1, 2, 2, 9, 2, 7), PACKED, "OK",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRPC_BODIES)
def test_a_grpc_message_costs_at_most_the_bound(name: str) -> None:
    """Attack 9: gRPC's own inflating has no bound, so it is not used."""
    make, compression, expected = GRPC_BODIES[name]
    body = make()

    code, mib = cost(lambda receiver: receiver.call(body, compression))

    assert mib <= BOUND
    assert code == expected


NAIVE: Final = """
import sys
from tests.receiver.test_memory import *
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
body = nested(EMPTY_SPAN * (4 * MIB // 2), 1, 2)
before = peak(os.getpid())
message = ExportTraceServiceRequest.FromString(body)
print(peak(os.getpid()) - before)
"""


def test_a_naive_parse_is_beyond_the_bound() -> None:
    """Without slices, 4 MiB of empty spans cost several times what any request may."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", NAIVE], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert float(done.stdout) > BOUND


def test_the_measure_sees_what_a_process_takes() -> None:
    """A process that takes 100 MiB shows them."""
    code = (
        "from tests.receiver.test_memory import peak, MIB, os\n"
        "before = peak(os.getpid()); taken = b'x' * (100 * MIB); print(peak(os.getpid()) - before)"
    )
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert float(done.stdout) > BOUND
