"""OTLP/HTTP to the letter: what is answered to whom, and in which form."""

from __future__ import annotations

import gzip
import json
import threading
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_agents.receiver.flight import InFlight
from otel_agents.receiver.guard import bearer
from otel_agents.store import Busy
from tests.receiver.kit import (
    JSON,
    PROTOBUF,
    Remembering,
    http_receiver,
    logs,
    metrics,
    nested,
    traces,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.receiver.kit import Listening

PATHS = ["/v1/traces", "/v1/metrics", "/v1/logs"]
MAKERS = dict(zip(PATHS, [traces, metrics, logs], strict=True))
RESPONSES = dict(
    zip(
        PATHS,
        [ExportTraceServiceResponse, ExportMetricsServiceResponse, ExportLogsServiceResponse],
        strict=True,
    )
)


@pytest.mark.parametrize("path", PATHS)
def test_what_is_taken_is_answered_by_nothing(receiver: Listening, path: str) -> None:
    """Full success leaves partial_success unset, so the message is empty."""
    answer = receiver.post(path, MAKERS[path](3).SerializeToString())

    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == PROTOBUF
    assert not RESPONSES[path].FromString(answer.body).HasField("partial_success")
    (batch,) = receiver.store.batches
    assert receiver.store.spans + len(batch.logs) + len(batch.points) == 3


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [(PROTOBUF, b"", b""), (JSON, b"{}", b"{}"), (JSON, b"", b"{}"), (JSON, b"null", b"{}")],
)
def test_an_empty_request_is_a_success(
    receiver: Listening, path: str, kind: str, body: bytes, expected: bytes
) -> None:
    """It says so in the content type it came in, and nothing is stored."""
    answer = receiver.post(path, body, content_type=kind)

    assert (answer.status, answer.body) == (200, expected)
    assert answer.headers["content-type"] == kind
    assert receiver.store.batches == []


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
def test_a_content_type_may_have_parameters_and_any_case(receiver: Listening, kind: str) -> None:
    """Only the media type counts."""
    assert receiver.post("/v1/traces", b"{}", content_type=kind).status == 200


def chunks(data: bytes, size: int = 100) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("encoding", ["gzip", "identity", "GZIP", ""])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("count", [1, 5000])
def test_a_body_comes_plain_or_packed_whole_or_in_chunks(
    receiver: Listening, encoding: str, chunked: bool, count: int
) -> None:
    """The same request, small and large, arrives as it was sent."""
    request = traces(count)
    body = request.SerializeToString()
    sent: Any = gzip.compress(body) if encoding.lower() == "gzip" else body
    answer = receiver.post(
        "/v1/traces", chunks(sent) if chunked else sent,
        **({"content_encoding": encoding} if encoding else {}),
    )  # fmt: skip

    assert answer.status == 200
    assert receiver.store.spans == count
    found = [
        span.SerializeToString()
        for one in receiver.store.requests
        for span in one.resource_spans[0].scope_spans[0].spans
    ]
    assert found == [s.SerializeToString() for s in request.resource_spans[0].scope_spans[0].spans]


@pytest.mark.parametrize("encoding", ["deflate", "br", "zstd", "gzip, gzip", "compress"])
def test_other_encodings_are_refused(receiver: Listening, encoding: str) -> None:
    """415, with a status message and the encodings that are taken."""
    answer = receiver.post("/v1/traces", zlib.compress(b""), content_encoding=encoding)

    assert answer.status == 415
    assert answer.status_message.code == 3
    assert answer.headers["accept-encoding"] == "gzip, identity"


@pytest.mark.parametrize("kind", ["text/plain", "", "application/grpc", "application/protobuf"])
def test_other_content_types_are_refused(receiver: Listening, kind: str) -> None:
    """415, with a status message and the types that are taken."""
    answer = receiver.post("/v1/traces", b"", content_type=kind)

    assert answer.status == 415
    assert answer.status_message.code == 3
    assert PROTOBUF in answer.headers["accept"]


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
def test_other_methods_are_refused(receiver: Listening, method: str) -> None:
    """405 with Allow; there are no CORS headers (attack 33)."""
    answer = receiver.post("/v1/traces", method=method, origin="http://evil.example")

    assert answer.status == 405
    assert answer.headers["allow"] == "POST"
    if method != "HEAD":
        assert answer.status_message.code == 12
    assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize("path", ["/", "//", "/v1/traces/", "/V1/traces", "/v1/%2e%2e/traces"])
def test_other_paths_are_refused(receiver: Listening, path: str) -> None:
    """404 with a status message."""
    answer = receiver.post(path)

    assert answer.status == 404
    assert answer.status_message.code == 5


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (PROTOBUF, b"\xff"),
        (PROTOBUF, b"{}"),
        (PROTOBUF, traces().SerializeToString()[:-1]),
        (PROTOBUF, nested(b"\xff\xfe", 1, 2, 2, 5)),  # a span's name that is not UTF-8
        (JSON, b"{"),
        (JSON, b"[]"),
        (JSON, b'{"resourceSpans":{}}'),
        (JSON, b'{"resourceSpans":[1]}'),
        (JSON, b'{"resourceSpans":[{"scopeSpans":[{"spans":[null]}]}]}'),
        (JSON, b"\x0a\x00"),
        (JSON, b'{"resourceSpans":[{"schemaUrl":"\xff"}]}'),
    ],
    # By number: one of the bodies has ids in it that are another in each process.
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_read_is_a_bad_request(receiver: Listening, kind: str, body: bytes) -> None:
    """400 with a status message that has a BadRequest detail, in the request's content type."""
    answer = receiver.post("/v1/traces", body, content_type=kind)

    assert answer.status == 400
    assert answer.headers["content-type"] == kind
    if kind == JSON:
        found = json.loads(answer.body)
        assert (found["code"], found["details"][0]["@type"]) == (
            3, "type.googleapis.com/google.rpc.BadRequest",
        )  # fmt: skip
        assert found["details"][0]["fieldViolations"][0]["description"] == found["message"]
    else:
        detail = BadRequest()
        assert answer.status_message.details[0].Unpack(detail)
        assert detail.field_violations[0].description
    assert receiver.store.batches == []


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(gzip.compress(traces().SerializeToString())),
        gzip.compress(traces().SerializeToString())[:-3],
        gzip.compress(traces().SerializeToString()) + b"garbage",
        gzip.compress(b"") * 101,
        traces().SerializeToString(),
        b"",
    ],
    ids=["twice", "cut short", "with a tail", "of 101 members", "not packed", "empty"],
)
def test_a_gzip_body_that_is_none_is_a_bad_request(receiver: Listening, body: bytes) -> None:
    """Attack 4: 400."""
    answer = receiver.post("/v1/traces", body, content_encoding="gzip")

    assert answer.status == 400
    assert answer.status_message.code == 3


def test_a_gzip_body_may_have_members(receiver: Listening) -> None:
    """RFC 1952: what they hold is one after the other."""
    body = traces(10).SerializeToString()
    packed = gzip.compress(body[:100]) + gzip.compress(body[100:])

    assert receiver.post("/v1/traces", packed, content_encoding="gzip").status == 200
    assert receiver.store.spans == 10


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
def test_a_body_over_the_limit_is_too_large(receiver: Listening, kind: str) -> None:
    """413, not to be sent again, whether the length is told or only seen."""
    limit = (8 if kind == JSON else 32) << 20
    told = receiver.post("/v1/traces", bytes(limit + 1), content_type=kind)
    seen = receiver.post("/v1/traces", chunks(bytes(limit + 1), 1 << 16), content_type=kind)

    for answer in (told, seen):
        assert answer.status == 413
        assert answer.headers["content-type"] == kind
        assert answer.headers["connection"] == "close"
        assert "retry-after" not in answer.headers
        if kind == PROTOBUF:
            assert answer.status_message.code == 8
            assert not answer.status_message.details
        else:
            assert json.loads(answer.body)["code"] == 8


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
@pytest.mark.parametrize(
    ("trace_id", "span_id"),
    [(b"\1" * 15, b"\1" * 8), (b"\1" * 16, b"\1" * 7), (bytes(16), b"\1" * 8), (b"", b"")],
)
def test_spans_that_nothing_can_refer_to_are_rejected(
    receiver: Listening, kind: str, trace_id: bytes, span_id: bytes
) -> None:
    """Attack 12: 200 with the number and the reason; the others are stored."""
    request = traces(3)
    wrong = request.resource_spans[0].scope_spans[0].spans[1]
    wrong.trace_id, wrong.span_id = trace_id, span_id
    body = request.SerializeToString()
    if kind == JSON:
        ids = {"traceId": trace_id.hex(), "spanId": span_id.hex()}
        good = {"traceId": "ab" * 16, "spanId": "cd" * 8}
        spans = [good, ids, {**good, "spanId": "ef" * 8}]
        body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
    answer = receiver.post("/v1/traces", body, content_type=kind)

    assert answer.status == 200
    assert receiver.store.spans == 2
    if kind == JSON:
        partial = json.loads(answer.body)["partialSuccess"]
        assert partial["rejectedSpans"] == "1"
        assert "1 spans were rejected" in partial["errorMessage"]
    else:
        partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
        assert partial.rejected_spans == 1
        assert "id" in partial.error_message


def test_the_answer_comes_after_the_commit() -> None:
    """Acknowledged means committed: until the store says so, nothing is answered."""
    waiting: list[Any] = []

    class Slow:
        def submit(self, _: Any, done: Any) -> None:
            waiting.append(done)

    with http_receiver(Slow()) as receiver:
        answers: list[int] = []
        body = traces().SerializeToString()
        client = threading.Thread(
            target=lambda: answers.append(receiver.post("/v1/traces", body).status)
        )
        client.start()
        until(lambda: waiting)
        assert receiver.post("/v1/traces", b"").status == 200  # others go on
        assert answers == []
        waiting[0](None)
        client.join()

    assert answers == [200]


@pytest.mark.parametrize("kind", [PROTOBUF, JSON])
@pytest.mark.parametrize("late", [False, True])
def test_a_busy_store_asks_to_try_again(receiver: Listening, kind: str, late: bool) -> None:
    """503 with Retry-After and RetryInfo, whether it is busy at once or fails to commit."""
    error = Busy("The store is behind.", 7)

    def refuse(_: Any) -> BaseException | None:
        if late:
            return error
        raise error

    receiver.store.answer = refuse
    body = traces().SerializeToString()
    if kind == JSON:
        span = {"traceId": "ab" * 16, "spanId": "cd" * 8}
        body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    answer = receiver.post("/v1/traces", body, content_type=kind)

    assert answer.status == 503
    assert answer.headers["retry-after"] == "7"
    if kind == JSON:
        found = json.loads(answer.body)
        assert (found["code"], found["details"][0]["retryDelay"]) == (14, "7s")
    else:
        info = RetryInfo()
        assert answer.status_message.details[0].Unpack(info)
        assert (answer.status_message.code, info.retry_delay.seconds) == (14, 7)


def test_what_a_store_does_not_take_is_not_asked_for_again(receiver: Listening) -> None:
    """500: one request that the database refuses would come back for ever."""
    receiver.store.answer = lambda _: ValueError("a value no column holds")
    answer = receiver.post("/v1/traces", traces().SerializeToString())

    assert answer.status == 500
    assert answer.status_message.code == 13
    assert "retry-after" not in answer.headers


def test_bytes_of_all_requests_are_bounded() -> None:
    """Beyond the bound 503, and once others are answered there is room again."""
    flight = InFlight(100)
    with http_receiver(Remembering(), in_flight=flight) as receiver:
        flight.take(90)
        refused = receiver.post("/v1/traces", traces().SerializeToString())
        flight.give(90)
        taken = receiver.post("/v1/traces", b"\x12\x00")

    assert (refused.status, taken.status) == (503, 200)
    assert int(refused.headers["retry-after"]) >= 1
    assert flight.held == 0


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (None, 401), ("Bearer wrong", 401), ("secret", 401), ("Basic secret", 401),
        ("Bearer", 401), ("Bearer ünicode", 401), ("Bearer secret", 200), ("bearer  secret ", 200),
        ("Bearer admin", 200),
    ],
)  # fmt: skip
def test_without_a_token_nothing_is_taken(sent: str | None, status: int) -> None:
    """401 with WWW-Authenticate, and the body is not read."""
    store = Remembering()
    headers = {} if sent is None else {"authorization": sent.encode("latin-1")}
    with http_receiver(store, bearer("secret", "", "admin")) as receiver:
        answer = receiver.post("/v1/traces", traces().SerializeToString(), **headers)  # type: ignore[arg-type]

    assert answer.status == status
    assert bool(store.batches) == (status == 200)
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.status_message.code == 16


def test_two_authorization_headers_are_none() -> None:
    """A proxy and we could each believe another one."""
    with http_receiver(Remembering(), bearer("secret")) as receiver:
        answer = receiver.send_raw(
            b"POST /v1/traces HTTP/1.1\r\nhost: x\r\nauthorization: Bearer secret\r\n"
            b"authorization: Bearer other\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        )

    assert answer.startswith(b"HTTP/1.1 401")


def test_one_connection_takes_many_requests(receiver: Listening) -> None:
    """Keep-alive, with refusals in between, and requests sent before the last is answered."""
    body = traces().SerializeToString()
    head = b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n"
    one = head % b"/v1/traces" + b"content-length: %d\r\n\r\n" % len(body) + body
    wrong = head % b"/nothing" + b"content-length: 3\r\n\r\nabc"
    last = head % b"/v1/traces" + b"connection: close\r\ncontent-length: 0\r\n\r\n"
    answers = receiver.send_raw(one + wrong + one + last)

    statuses = [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 404, 200, 200]
    assert len(receiver.store.batches) == 2
