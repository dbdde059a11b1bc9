"""A spool in a scratch directory, and a backend that keeps what it is sent."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import requests
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from otel_agents.boundary import boundary
from otel_agents.spool import lane as lane_module
from otel_agents.spool import pauses
from otel_agents.spool.destination import Destination
from otel_agents.spool.directory import Directory
from otel_agents.spool.lane import Lane
from otel_agents.spool.over_http import HttpTransport
from otel_agents.spool.segment import Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOURCE = Source(b"", "", b"", "")

_REQUESTS = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
}


class Backend:
    """Takes OTLP over HTTP; `answers` are the statuses of the next requests, then 200."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.answers: list[int | tuple[int, dict[str, str]]] = []
        self.poison = b""  # a request with this in it is refused with 400
        self.reject = 0  # so many items each reply says it did not take
        self.heard = threading.Condition()
        self.refused = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.take(self, body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def take(self, handler: Any, body: bytes) -> None:
        with self.heard:
            status = self.answers.pop(0) if self.answers else 200
            status, headers = status if isinstance(status, tuple) else (status, {})
            if self.poison and self.poison in body:
                status = 400
            reply = b""
            if status == 200:
                self.requests.append(_REQUESTS[handler.path].FromString(body))
                self.headers.append(dict(handler.headers))
                if self.reject:
                    told = ExportTraceServiceResponse()
                    told.partial_success.rejected_spans = self.reject
                    reply = told.SerializeToString()
            else:
                self.refused += 1
            self.heard.notify_all()
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(reply)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(reply)

    def spans(self) -> list[str]:
        """Return the names of the spans that were taken, in order."""
        with self.heard:
            return [
                span.name
                for request in self.requests
                if isinstance(request, ExportTraceServiceRequest)
                for resource in request.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]

    def records(self) -> list[Any]:
        """Return the log records that were taken, in order."""
        with self.heard:
            return [
                record
                for request in self.requests
                if isinstance(request, ExportLogsServiceRequest)
                for resource in request.resource_logs
                for scope in resource.scope_logs
                for record in scope.log_records
            ]

    def metrics(self) -> list[str]:
        """Return the names of the metrics that were taken."""
        with self.heard:
            return [
                metric.name
                for request in self.requests
                if isinstance(request, ExportMetricsServiceRequest)
                for resource in request.resource_metrics
                for scope in resource.scope_metrics
                for metric in scope.metrics
            ]

    def wait(self, holds: Any, seconds: float = 60) -> None:
        """Wait until something holds; it is asked after each request."""
        with self.heard:
            assert self.heard.wait_for(holds, seconds), "it never came to hold"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def destination(self, signal: str = "traces") -> Destination:
        """Return the way here."""
        endpoint = f"{self.url}/v1/{signal}"

        def connect() -> HttpTransport:
            session = requests.Session()
            return HttpTransport(endpoint, {}, "none", 10, session, verify=True, certificate=None)

        return Destination(endpoint, connect)


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A backend that takes what it is sent."""
    with serving() as found:
        yield found


@contextmanager
def serving() -> Iterator[Backend]:
    found = Backend()
    try:
        yield found
    finally:
        found.close()


class Losses(Counter[str]):
    """What a directory told was dropped, by reason."""

    def __call__(self, reason: str, count: int) -> None:
        self[reason] += count


@pytest.fixture
def losses() -> Losses:
    return Losses()


@pytest.fixture
def directory(tmp_path: Path, losses: Losses) -> Directory:
    """A spool's directory of 64 MiB."""
    made = Directory(tmp_path / "spool", 64 << 20, losses)
    made.make()
    return made


@pytest.fixture
def lane(backend: Backend, directory: Directory) -> Iterator[Lane]:
    """A lane of spans to the backend."""
    made = Lane("traces", directory, backend.destination(), lambda *_: SOURCE)
    yield made
    made.close()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Leave out the pauses between attempts, and take what would be logged."""
    found: list[str] = []
    monkeypatch.setattr(boundary, "strict", False)
    monkeypatch.setattr(boundary, "warn", lambda text, *args: found.append(text % args))
    monkeypatch.setattr(pauses, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(lane_module, "_LINGER_SECONDS", 0.01)
    return found
