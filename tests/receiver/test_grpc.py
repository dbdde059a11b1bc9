"""OTLP/gRPC: statuses, details, limits, and calls that are broken off."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_agents.errors import UnavailableError
from otel_agents.receiver import grpc as receiver_grpc
from otel_agents.receiver.decode import KINDS
from otel_agents.receiver.grpc import grpc_server
from otel_agents.receiver.guard import bearer
from otel_agents.store import Busy
from tests.receiver.kit import Remembering, grpc_receiver, logs, metrics, nested, traces, until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_agents.receiver.grpc import GrpcServer

TRACES = KINDS[0].method
MIB = 1 << 20


def call(
    server: GrpcServer,
    body: bytes,
    method: str = TRACES,
    *,
    compression: grpc.Compression = grpc.Compression.NoCompression,
    metadata: Sequence[tuple[str, str]] = (),
) -> bytes:
    """Make a call, and return the bytes of its answer."""
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(
        f"127.0.0.1:{server.port}", options=options, compression=compression
    ) as channel:
        export: Any = channel.unary_unary(method)
        return bytes(export(body, timeout=30, metadata=metadata))


def failed(server: GrpcServer, body: bytes, **options: Any) -> tuple[grpc.StatusCode, Status]:
    """Make a call that fails, and return its code and status message."""
    with pytest.raises(grpc.RpcError) as error:
        call(server, body, **options)
    found: Any = error.value
    trailer = dict(found.trailing_metadata() or ())
    details = Status.FromString(trailer.get("grpc-status-details-bin", b""))
    if details.code:
        assert details.code == found.code().value[0]
        assert details.message == found.details()
    return found.code(), details


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
@pytest.mark.parametrize("count", [0, 3, 3000])
def test_what_is_taken_is_answered_by_nothing(
    calls: GrpcServer, store: Remembering, number: int, compression: Any, count: int
) -> None:
    """Traces, metrics and logs, small and large, plain and packed; an empty one is a success."""
    body = [traces, metrics, logs][number](count).SerializeToString() if count else b""

    assert call(calls, body, KINDS[number].method, compression=compression) == b""
    assert store.spans + len(store.points) + len(store.logs) == count


def test_rejected_spans_are_told(calls: GrpcServer, store: Remembering) -> None:
    """Attack 12 over gRPC."""
    request = traces(2)
    request.resource_spans[0].scope_spans[0].spans[0].trace_id = b"short"
    answer = ExportTraceServiceResponse.FromString(call(calls, request.SerializeToString()))

    assert answer.partial_success.rejected_spans == 1
    assert store.spans == 1


@pytest.mark.parametrize(
    "body", [b"\xff", b"{}", nested(b"\xff", 1, 2, 2, 5), b"\x1f\x8b\x08 cut short"]
)
def test_what_cannot_be_read_is_an_invalid_argument(calls: GrpcServer, body: bytes) -> None:
    """With a BadRequest detail."""
    code, status = failed(calls, body)

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert status.details[0].Is(BadRequest.DESCRIPTOR)


@pytest.mark.parametrize("late", [False, True])
def test_a_busy_store_asks_to_try_again(calls: GrpcServer, store: Remembering, late: bool) -> None:
    """UNAVAILABLE with RetryInfo, whether it is busy at once or fails to commit."""

    def refuse(_: Any) -> BaseException | None:
        if late:
            return Busy("The store is behind.", 7)
        raise Busy("The store is behind.", 7)

    store.answer = refuse
    code, status = failed(calls, traces().SerializeToString())
    info = RetryInfo()

    assert code is grpc.StatusCode.UNAVAILABLE
    assert status.details[0].Unpack(info)
    assert info.retry_delay.seconds == 7


def test_what_a_store_does_not_take_is_not_asked_for_again(
    calls: GrpcServer, store: Remembering
) -> None:
    """INTERNAL, which the protocol does not retry."""
    store.answer = lambda _: ValueError("a value no column holds")
    code, status = failed(calls, traces().SerializeToString())

    assert code is grpc.StatusCode.INTERNAL
    assert not status.details


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
@pytest.mark.parametrize(
    "body", [bytes(64 * MIB + 1), nested(b"\x12\x00" * (7 * MIB), 1, 2)], ids=["bytes", "spans"]
)
def test_a_message_over_a_limit_exhausts(calls: GrpcServer, compression: Any, body: bytes) -> None:
    """Attack 9: RESOURCE_EXHAUSTED without RetryInfo, so that nobody sends it again."""
    code, status = failed(calls, body, compression=compression)

    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not status.details
    assert call(calls, b"") == b""


def test_a_compression_that_is_not_ours_is_unimplemented(calls: GrpcServer) -> None:
    """As gRPC says, with what is taken in a header."""
    code, _ = failed(calls, traces().SerializeToString(), compression=grpc.Compression.Deflate)

    assert code is grpc.StatusCode.UNIMPLEMENTED


def test_another_method_is_unimplemented(calls: GrpcServer) -> None:
    """There are three."""
    code, _ = failed(calls, b"", method=TRACES.replace("Export", "Import"))

    assert code is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("metadata", "right"),
    [
        ((), False), ((("authorization", "Bearer wrong"),), False),
        ((("authorization", "Bearer secret"), ("authorization", "Bearer x")), False),
        ((("authorization", "Bearer secret"),), True),
    ],
)  # fmt: skip
def test_without_a_token_nothing_is_taken(store: Remembering, metadata: Any, right: bool) -> None:
    """UNAUTHENTICATED, before the message is read."""
    body = traces().SerializeToString()
    with grpc_receiver(store, bearer("secret")) as server:
        if right:
            assert call(server, body, metadata=metadata) == b""
        else:
            code, _ = failed(server, body, metadata=metadata)
            assert code is grpc.StatusCode.UNAUTHENTICATED

    assert bool(store.batches) == right


def test_the_answer_comes_after_the_commit() -> None:
    """Acknowledged means committed: until the store says so, nothing is answered."""
    waiting: list[Any] = []

    class Slow:
        def submit(self, _: Any, done: Any) -> None:
            waiting.append(done)

    with grpc_receiver(Slow()) as server:
        answers: list[bytes] = []
        client = threading.Thread(
            target=lambda: answers.append(call(server, traces().SerializeToString()))
        )
        client.start()
        until(lambda: waiting)
        assert call(server, b"") == b""  # others go on
        assert answers == []
        waiting[0](None)
        client.join()

    assert answers == [b""]


def test_calls_that_are_broken_off_harm_nobody(calls: GrpcServer, store: Remembering) -> None:
    """Attack 9: two thousand calls reset as soon as they were made; the next one is served."""
    body = traces().SerializeToString()
    with grpc.insecure_channel(f"127.0.0.1:{calls.port}") as channel:
        export: Any = channel.unary_unary(TRACES)
        for _ in range(2000):
            export.future(body).cancel()

    assert call(calls, body) == b""
    assert store.spans >= 1


def test_a_call_without_its_message_is_let_go(
    calls: GrpcServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that never says anything ends, and so does one that says it is done."""
    monkeypatch.setattr(receiver_grpc, "REQUEST_SECONDS", 0.2)
    never = threading.Event()

    def nothing() -> Any:
        never.wait(90)
        return
        yield b""

    with grpc.insecure_channel(f"127.0.0.1:{calls.port}") as channel:
        export: Any = channel.stream_unary(TRACES)
        for messages in (nothing(), iter(())):
            with pytest.raises(grpc.RpcError) as error:
                export(messages, timeout=20)
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
    never.set()


def test_metadata_is_bounded(calls: GrpcServer) -> None:
    """Attack 37: 64 KiB of baggage are refused, and the server lives."""
    with pytest.raises(grpc.RpcError):
        call(calls, b"", metadata=[("baggage", "a=b," * (1 << 14))])

    assert call(calls, b"") == b""


def test_a_port_that_is_taken_is_an_error(calls: GrpcServer) -> None:
    """In one sentence that names the address."""
    address = f"127.0.0.1:{calls.port}"
    with pytest.raises(UnavailableError, match=address):
        grpc_server(Remembering(), None, address).start()
