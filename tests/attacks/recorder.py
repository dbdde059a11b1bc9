"""A receiver of OTLP that keeps every byte that it was sent."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Self

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_agents.vocabulary import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Iterator

_KINDS: Final = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}


def _of(message: Any) -> Any:
    """Return the one repeated field of messages: resources of a request, scopes of these."""
    (field,) = (
        one
        for one in message.DESCRIPTOR.fields
        if one.name.split("_")[0] in {"resource", "scope"} and one.is_repeated
    )
    return getattr(message, field.name)


class Recorder:
    """Use it in a `with`; `requests` are the paths and bodies, in the order they came."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, bytes]] = []
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                requests.append((self.path, body))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def endpoint(self) -> str:
        """The address for `OTEL_EXPORTER_OTLP_ENDPOINT`."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def requests_of(self, *, ours: bool) -> Iterator[tuple[str, bytes]]:
        """Yield the requests with what our instrumentation made only, or with all but that."""
        for path, body in list(self.requests):
            message: Any = _KINDS[path].FromString(body)
            for of_resource in _of(message):
                for of_scope in list(_of(of_resource)):
                    if (of_scope.scope.name == NAMESPACE) is not ours:
                        _of(of_resource).remove(of_scope)
            yield path, message.SerializeToString()

    def scopes(self) -> bytes:
        """Return what our own instrumentation sent, without the resource it was sent for."""
        found = []
        for path, body in self.requests_of(ours=True):
            message: Any = _KINDS[path].FromString(body)
            found += [one.SerializeToString() for each in _of(message) for one in _of(each)]
        return b"\n".join(found)

    def everything(self) -> bytes:
        """Return all that came."""
        return b"\n".join(body for _, body in self.requests)
