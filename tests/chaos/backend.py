"""An OTLP backend over HTTP that a test can take away and bring back, and what came to it."""

from __future__ import annotations

import gzip
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from .clients import NUMBER, TEXT
from .oracle import Held
from .served import HOST, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


class Backend:
    """A backend on a port that stays; each span is taken as often as it comes."""

    def __init__(self) -> None:
        self.port = free_port()
        self.bodies: list[bytes] = []
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def endpoint(self) -> str:
        """Where it is."""
        return f"http://{HOST}:{self.port}"

    def up(self) -> None:
        """Take requests."""
        take = self.take

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/v1/traces":
                    take(body)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def __init__(self) -> None:
                self.clients: set[Any] = set()
                super().__init__((HOST, port), Handler)

            def handle_error(self, *_: Any) -> None:
                """Say nothing of connections that break off: that is what they are for."""

            def process_request(self, request: Any, client_address: Any) -> None:
                self.clients.add(request)
                super().process_request(request, client_address)

            def shutdown_request(self, request: Any) -> None:
                self.clients.discard(request)
                super().shutdown_request(request)

        port = self.port
        self._server = Server()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def take(self, body: bytes) -> None:
        """Keep a request."""
        self.bodies.append(body)

    def down(self) -> None:
        """Refuse connections, and cut those that there are."""
        server = self._server
        if server is None:
            return
        assert self._thread is not None
        server.shutdown()
        self._thread.join()
        server.server_close()
        for client in list(server.clients):  # type: ignore[attr-defined]
            with suppress(OSError):
                client.shutdown(SHUT_RDWR)  # its thread has it open as well
        self._server = None

    def spans(self) -> Iterator[tuple[Any, dict[str, str], dict[str, str]]]:
        """Yield the spans that came, with their attributes and those of their resource."""
        for body in list(self.bodies):
            message = ExportTraceServiceRequest.FromString(body)
            for of_resource in message.resource_spans:
                resource = {
                    one.key: one.value.string_value for one in of_resource.resource.attributes
                }
                for of_scope in of_resource.scope_spans:
                    for span in of_scope.spans:
                        said = {one.key: one.value.string_value for one in span.attributes}
                        yield span, said, resource

    def held(self) -> Held:
        """Return what came, each thing as often as it did."""
        found = Held()
        for span, said, _ in self.spans():
            told = span.trace_id.hex(), span.span_id.hex(), span.name, said[TEXT]
            found.put("span", said[NUMBER], told)
        return found
