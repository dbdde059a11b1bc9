"""The collector beyond one: nodes before gateways, and what is merged over config.yaml."""

from __future__ import annotations

import gzip
import http.server
import os
import threading
import urllib.request
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import components
import parts
import processes
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.stack.otlp import logs, metrics, send_to, spans

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("stack")

COLLECTOR = parts.DEPLOY / "collector"
NODE = ("config.yaml", "yaml:service::pipelines: null", "node.yaml")
GATEWAY = ("config.yaml", "gateway.yaml")
REQUESTS = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}


class Sink:
    """A backend that keeps every OTLP request that it gets."""

    def __init__(self) -> None:
        """Listen on a free port until `close`."""
        self.requests: list[object] = []
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                sink.requests.append(REQUESTS[self.path].FromString(body))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def spans(self) -> dict[bytes, set[bytes]]:
        """Return the ids of the spans that came, by their trace's."""
        found: dict[bytes, set[bytes]] = {}
        for request in self._of(ExportTraceServiceRequest):
            for each in request.resource_spans:
                for span in each.scope_spans[0].spans:
                    found.setdefault(span.trace_id, set()).add(span.span_id)
        return found

    def environments(self) -> dict[str, str]:
        """Return the environment of each service that spans came from."""
        found = {}
        for request in self._of(ExportTraceServiceRequest):
            for each in request.resource_spans:
                of = {one.key: one.value.string_value for one in each.resource.attributes}
                found[of["service.name"]] = of.get("deployment.environment.name", "")
        return found

    def records(self) -> set[str]:
        """Return the attribute `id` of the log records that came."""
        return {
            record.attributes[0].value.string_value
            for request in self._of(ExportLogsServiceRequest)
            for each in request.resource_logs
            for record in each.scope_logs[0].log_records
        }

    def services(self) -> set[str]:
        """Return the instances that metrics came from."""
        return {
            one.value.string_value
            for request in self._of(ExportMetricsServiceRequest)
            for each in request.resource_metrics
            for one in each.resource.attributes
            if one.key == "service.name"
        }

    def _of(self, kind: type) -> list:
        return [request for request in list(self.requests) if isinstance(request, kind)]


@pytest.fixture
def sinks() -> Iterator[list[Sink]]:
    """Give two backends."""
    with ExitStack() as stack:
        made = [Sink(), Sink()]
        for sink in made:
            stack.callback(sink.close)
        yield made


class Collector:
    """A collector of one variant on ports of its own, which may be killed and started again."""

    def __init__(self, program: Path, folder: Path, files: tuple[str, ...], **env: str) -> None:
        """Choose its ports and lay out its folder."""
        folder.mkdir()
        (folder / "ingest_token").write_text("t-1")
        self.ports = components.choose_ports(default=False)
        at = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        self.grpc = at["otlp_grpc"]
        self.http = f"http://{at['otlp_http']}"
        options = (f"--config={f if ':' in f else COLLECTOR / f}" for f in files)
        self._argv = (program, *options)
        self._log = folder / "log"
        self._ready = f"http://{at['collector_health']}/"
        self._env = {
            "COLLECTOR_QUEUE_DIR": str(folder / "queues"),
            "COLLECTOR_OTLP_GRPC_ENDPOINT": at["otlp_grpc"],
            "COLLECTOR_OTLP_HTTP_ENDPOINT": at["otlp_http"],
            "COLLECTOR_HEALTH_ENDPOINT": at["collector_health"],
            "COLLECTOR_METRICS_PORT": str(self.ports["collector_metrics"]),
            "COLLECTOR_METRICS_QUEUE_ENDPOINT": at["collector_metrics_queue"],
            "COLLECTOR_INGEST_TOKEN_FILE": str(folder / "ingest_token"),
            # Nobody listens there.
            "COLLECTOR_JAEGER_URL": "http://127.0.0.1:9",
            "COLLECTOR_PROMETHEUS_URL": "http://127.0.0.1:9",
            "COLLECTOR_SERVER_URL": "http://127.0.0.1:9",
            **env,
        }

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run it, and kill it at the end."""

        def answers() -> bool:
            try:
                with urllib.request.urlopen(self._ready, timeout=2):  # noqa: S310 - loopback
                    return True
            except OSError:
                return False

        process = processes.spawn(self._argv, self._env | {"PATH": os.environ["PATH"]}, self._log)
        try:
            assert processes.wait_for(answers, 30), self._log.read_text()[-2000:]
            yield
        finally:
            processes.end([process], grace=10)


def test_a_trace_stays_whole_on_one_of_two_gateways(
    programs: dict[str, Path], sinks: list[Sink], tmp_path: Path
) -> None:
    """Spans of one trace, sent apart to a node, are on one gateway; both have some; none is lost.

    One program's metrics stay on one gateway too, and log records all arrive.
    """
    gateways = [
        Collector(
            programs["otelcol"], tmp_path / f"gateway-{number}", GATEWAY,
            COLLECTOR_SERVER_URL=sink.address, COLLECTOR_NAME=f"gateway-{number}",
        )
        for number, sink in enumerate(sinks)
    ]  # fmt: skip
    hosts = ", ".join(f'"{gateway.grpc}"' for gateway in gateways)
    node = Collector(
        programs["otelcol"], tmp_path / "node", NODE,
        COLLECTOR_GATEWAYS=f"{{static: {{hostnames: [{hosts}]}}}}",
        COLLECTOR_GATEWAYS_INSECURE="true",
    )  # fmt: skip
    requests = [spans("balanced", f"run-{number}", count=6) for number in range(20)]
    sent = {}
    with ExitStack() as stack:
        with node.running():
            for request in requests:
                whole = list(request.resource_spans[0].scope_spans[0].spans)
                sent[whole[0].trace_id] = {span.span_id for span in whole}
                for part in (whole[:2], whole[2:4], whole[4:]):
                    del request.resource_spans[0].scope_spans[0].spans[:]
                    request.resource_spans[0].scope_spans[0].spans.extend(part)
                    send_to(node.http, "http", request)
            for number in range(10):
                send_to(node.http, "http", metrics(f"program-{number}"))
            send_to(node.http, "http", logs("balanced", *map(str, range(20))))
        # The node was away, with all of it in its queue: the gateways start after it.
        for gateway in gateways:
            stack.enter_context(gateway.running())
        stack.enter_context(node.running())

        def arrived() -> bool:
            traces = {**sinks[0].spans(), **sinks[1].spans()}
            records = sinks[0].records() | sinks[1].records()
            programs = sinks[0].services() | sinks[1].services()
            return traces == sent and len(records) == 20 and len(programs) == 10

        processes.wait_for(arrived, 60)
        one, two = sinks
        assert {**one.spans(), **two.spans()} == sent
        assert one.spans().keys() & two.spans().keys() == set()
        assert min(len(one.spans()), len(two.spans())) > 0
        assert one.services() | two.services() == {f"program-{number}" for number in range(10)}
        assert one.services() & two.services() == set()
        assert one.records() | two.records() == set(map(str, range(20)))


def test_the_environment_is_added_where_a_program_names_none(
    programs: dict[str, Path], sinks: list[Sink], tmp_path: Path
) -> None:
    """COLLECTOR_ENVIRONMENT is on what names no environment, and changes none that is named."""
    collector = Collector(
        programs["otelcol"], tmp_path / "collector", ("config.yaml",),
        COLLECTOR_SERVER_URL=sinks[0].address, COLLECTOR_ENVIRONMENT="staging",
    )  # fmt: skip
    named = spans("named", "run-1")
    resource = named.resource_spans[0].resource
    resource.attributes.add(key="deployment.environment.name").value.string_value = "production"
    with collector.running():
        send_to(collector.http, "http", named)
        send_to(collector.http, "http", spans("unnamed", "run-1"))

        processes.wait_for(lambda: len(sinks[0].spans()) == 2, 30)

    assert sinks[0].environments() == {"named": "production", "unnamed": "staging"}


def test_tail_sampling_keeps_what_failed_and_the_server_gets_all(
    programs: dict[str, Path], sinks: list[Sink], tmp_path: Path
) -> None:
    """With the overlay Jaeger gets every failed trace and a sample of the rest, the server all."""
    jaeger, server = sinks
    collector = Collector(
        programs["otelcol"], tmp_path / "collector", ("config.yaml", "tail-sampling.yaml"),
        COLLECTOR_JAEGER_URL=jaeger.address, COLLECTOR_SERVER_URL=server.address,
        COLLECTOR_DECISION_WAIT="1s",
    )  # fmt: skip
    failed = [spans("sampled", f"run-{number}", error=True) for number in range(20)]
    fine = [spans("sampled", f"run-{number}") for number in range(200)]
    with collector.running():
        for request in (*failed, *fine):
            send_to(collector.http, "http", request)

        wanted = {r.resource_spans[0].scope_spans[0].spans[0].trace_id for r in failed}
        assert processes.wait_for(lambda: len(server.spans()) == 220, 30)
        assert processes.wait_for(lambda: wanted <= jaeger.spans().keys(), 30)
        # Of the others 10 % of 200: beyond these bounds is one chance in a million.
        assert processes.wait_for(lambda: len(jaeger.spans()) >= 23, 30)
    assert len(jaeger.spans()) <= 65
