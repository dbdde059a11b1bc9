"""A receiver on free ports in this process, a store that only remembers, and requests to send."""

from __future__ import annotations

import http.client
import os
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import uvicorn
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_agents.receiver.grpc import GrpcServer, grpc_server
from otel_agents.receiver.http import http_app
from otel_agents.receiver.protocol import http_config
from otel_agents.receiver.wire import framed
from otel_agents.store.blocks import opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_agents.receiver.flight import InFlight
    from otel_agents.receiver.guard import Authorize
    from otel_agents.signals import Signal
    from otel_agents.store.batch import Batch, LogRecord, Point

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
PATIENCE: Final = 90.0  # seconds


class Remembering:
    """A store in memory. `answer` is called for each batch and decides how its commit ends."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.answer: Callable[[Batch], BaseException | None] = lambda _: None

    def submit(self, batch: Batch, done: Callable[[BaseException | None], None]) -> None:
        error = self.answer(batch)
        if error is None:
            self.batches.append(batch)
        done(error)

    @property
    def requests(self) -> list[ExportTraceServiceRequest]:
        """The trace requests that were kept, as blocks hold them."""
        return [opened(block.body) for batch in self.batches for block in batch.blocks]

    @property
    def spans(self) -> int:
        return sum(block.spans for batch in self.batches for block in batch.blocks)

    @property
    def signals(self) -> list[Signal]:
        return [signal for batch in self.batches for signal in batch.signals]

    @property
    def logs(self) -> list[LogRecord]:
        return [record for batch in self.batches for record in batch.logs]

    @property
    def points(self) -> list[Point]:
        return [point for batch in self.batches for point in batch.points]


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def status_message(self) -> Status:
        """The body as a status message; it has to say something."""
        assert self.headers["content-type"] == PROTOBUF
        found = Status.FromString(self.body)
        assert found.code
        assert found.message
        return found


@dataclass
class Listening:
    """A receiver over HTTP."""

    port: int
    store: Remembering

    def post(self, path: str, body: Any = b"", *, method: str = "POST", **headers: str) -> Answer:
        """Send a request; headers are named with `_` for `-`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        named = {"content-type": PROTOBUF} | {k.replace("_", "-"): v for k, v in headers.items()}
        try:
            connection.request(method, path, body, named)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, response.read(), found)
        finally:
            connection.close()

    def send_raw(self, data: bytes) -> bytes:
        """Send bytes, and return all that comes until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connection:
            connection.sendall(data)
            return received(connection)


def received(connection: socket.socket) -> bytes:
    """Return what comes until the other side closes."""
    found = b""
    while True:
        try:
            part = connection.recv(65536)
        except ConnectionResetError:
            return found
        if not part:
            return found
        found += part


@contextmanager
def http_receiver(
    store: Any, authorize: Authorize | None = None, in_flight: InFlight | None = None
) -> Iterator[Listening]:
    """Run the receiver over HTTP."""
    limits = {} if in_flight is None else {"in_flight": in_flight}
    server = uvicorn.Server(http_config(http_app(store, authorize, **limits), port=0))
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    until(lambda: server.started)
    try:
        yield Listening(listener.getsockname()[1], store)
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listener.close()


@contextmanager
def grpc_receiver(store: Any, authorize: Authorize | None = None) -> Iterator[GrpcServer]:
    """Run the receiver over gRPC."""
    server = grpc_server(store, authorize, "127.0.0.1:0")
    server.start()
    try:
        yield server
    finally:
        server.stop(0)


def until(true: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true in time"
        time.sleep(0.01)


def traces(count: int = 1, *, attributes: int = 2, service: str = "shop") -> Any:
    """Return a request with spans of one trace."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    pair = group.resource.attributes.add()
    pair.key = "service.name"
    pair.value.string_value = service
    scope = group.scope_spans.add()
    scope.scope.name = "tests"
    trace_id = os.urandom(16)
    for number in range(count):
        span = scope.spans.add()
        span.trace_id = trace_id
        span.span_id = os.urandom(8)
        span.name = f"step {number}"
        span.start_time_unix_nano = 1_700_000_000_000_000_000 + number
        span.end_time_unix_nano = span.start_time_unix_nano + 1000
        for place in range(attributes):
            pair = span.attributes.add()
            pair.key = f"key.{place}"
            pair.value.string_value = f"value {number}"
    return request


def logs(count: int = 1) -> Any:
    """Return a request with log records."""
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    scope = group.scope_logs.add()
    for number in range(count):
        record = scope.log_records.add()
        record.time_unix_nano = 1_700_000_000_000_000_000 + number
        record.body.string_value = f"line {number}"
    return request


def metrics(count: int = 1) -> Any:
    """Return a request with gauges of one metric."""
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add()
    metric.name = "depth"
    for number in range(count):
        point = metric.gauge.data_points.add()
        point.time_unix_nano = 1_700_000_000_000_000_000
        point.as_int = number
        pair = point.attributes.add()
        pair.key = "number"
        pair.value.int_value = number
    return request


def nested(payload: bytes, *numbers: int) -> bytes:
    """Return bytes as the innermost of nested fields; the first number is the outermost."""
    for number in reversed(numbers):
        payload = framed(number, payload)
    return payload
