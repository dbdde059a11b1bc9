"""An OTLP/HTTP endpoint that takes everything and keeps it only until it is asked what it was.

It runs in a process of its own, so that its CPU is no contestant's. The first part of a request's
path names the contestant. `GET /stats/NAME` counts what came since the last time.
"""

from __future__ import annotations

import gzip
import json
import sys
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class _Kept:
    """Requests by contestant: path, bytes on the wire, and the body as it was before gzip."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[str, list[tuple[str, int, bytes]]] = defaultdict(list)

    def put(self, path: str, body: bytes, encoding: str) -> None:
        _, name, rest = [*path.split("/", 2), ""][:3]
        with self._lock:
            plain = gzip.decompress(body) if encoding == "gzip" else body
            self._requests[name].append((rest, len(body), plain))

    def take(self, name: str) -> dict[str, int]:
        with self._lock:
            requests = self._requests.pop(name, [])
        found: dict[str, int] = defaultdict(int)
        for path, size, body in requests:
            kind = path.rsplit("/", 1)[-1]
            found[f"{kind}_requests"] += 1
            found[f"{kind}_bytes"] += size
            found[f"{kind}_count"] += _count(kind, body)
        return found


def _count(kind: str, body: bytes) -> int:
    if kind == "traces":
        trace = ExportTraceServiceRequest.FromString(body)
        return sum(len(scope.spans) for part in trace.resource_spans for scope in part.scope_spans)
    if kind == "logs":
        logs = ExportLogsServiceRequest.FromString(body)
        return sum(
            len(scope.log_records) for part in logs.resource_logs for scope in part.scope_logs
        )
    if kind == "metrics":
        metrics = ExportMetricsServiceRequest.FromString(body)
        return sum(
            len(scope.metrics) for part in metrics.resource_metrics for scope in part.scope_metrics
        )
    return 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    kept = _Kept()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.kept.put(self.path, body, self.headers.get("Content-Encoding") or "")
        self._reply(b"", "application/x-protobuf")

    def do_GET(self) -> None:
        found: dict[str, int] = {}
        if self.path.startswith("/stats/"):
            found = self.kept.take(self.path.removeprefix("/stats/"))
        self._reply(json.dumps(found).encode(), "application/json")

    def _reply(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def main() -> None:
    """Serve on a free port, which is printed, until standard input ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
