"""The stack's files with the real programs: configuration, delivery, crashes."""

from __future__ import annotations

import os
import re
import subprocess
import time
import urllib.request
from itertools import chain
from typing import TYPE_CHECKING, Any

import grpc
import parts
import pytest
import yaml
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Backends
    from stack import Stack

pytestmark = pytest.mark.xdist_group("stack")

COMPOSE = parts.DEPLOY.parent / "docker-compose.yml"
SCOPE = InstrumentationScope(name="otel_agents", version="1")
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
TRANSPORTS = ("http", "grpc")

Request = ExportTraceServiceRequest | ExportMetricsServiceRequest | ExportLogsServiceRequest


def send(stack: Stack, transport: str, request: Request) -> None:
    """Send a request to the collector and return once it is acknowledged."""
    path, stub = {
        ExportTraceServiceRequest: ("traces", TraceServiceStub),
        ExportMetricsServiceRequest: ("metrics", MetricsServiceStub),
        ExportLogsServiceRequest: ("logs", LogsServiceStub),
    }[type(request)]
    if transport == "grpc":
        with grpc.insecure_channel(stack.otlp_grpc.removeprefix("http://")) as channel:
            stub(channel).Export(request, timeout=10)
        return
    post = urllib.request.Request(  # noqa: S310 - an address of our own on loopback
        f"{stack.otlp_http}/v1/{path}",
        request.SerializeToString(),
        {"Content-Type": "application/x-protobuf"},
    )
    with urllib.request.urlopen(post, timeout=10) as answer:  # noqa: S310
        assert answer.status == 200


def attributes(**values: str) -> list[KeyValue]:
    """Return string attributes, two underscores in a name standing for a dot."""
    return [
        KeyValue(key=name.replace("__", "."), value=AnyValue(string_value=value))
        for name, value in values.items()
    ]


def resource(service: str) -> Resource:
    """Return the resource of a program."""
    return Resource(
        attributes=attributes(
            service__namespace="shop", service__name=service, service__instance__id="one"
        )
    )


def spans(
    service: str, run: str, *, count: int = 1, error: bool = False
) -> ExportTraceServiceRequest:
    """Return a request with one trace of a run."""
    now = time.time_ns()
    trace_id = os.urandom(16)
    code = Status.STATUS_CODE_ERROR if error else Status.STATUS_CODE_UNSET
    made = [
        Span(
            trace_id=trace_id,
            span_id=os.urandom(8),
            name="invoke_agent planner",
            kind=Span.SPAN_KIND_INTERNAL,
            start_time_unix_nano=now,
            end_time_unix_nano=now + 1_000_000,
            attributes=attributes(otelagents__run__id=run),
            status=Status(code=code),
        )
        for _ in range(count)
    ]
    scoped = ScopeSpans(scope=SCOPE, spans=made)
    return ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(resource=resource(service), scope_spans=[scoped])]
    )


def metrics(service: str) -> ExportMetricsServiceRequest:
    """Return a request with four of our metrics, one of each kind."""
    now = time.time_ns()

    def total(name: str, unit: str, value: float, *, monotonic: bool) -> Metric:
        point = NumberDataPoint(
            start_time_unix_nano=now - 1, time_unix_nano=now, as_double=value,
            attributes=attributes(workflow="order", collector__instance__id="per-restart"),
        )  # fmt: skip
        data = Sum(data_points=[point], aggregation_temporality=CUMULATIVE, is_monotonic=monotonic)
        return Metric(name=name, unit=unit, sum=data)

    duration = HistogramDataPoint(
        start_time_unix_nano=now - 1, time_unix_nano=now, count=1, sum=1.5,
        bucket_counts=[0, 1, 0], explicit_bounds=[1, 5], attributes=attributes(workflow="order"),
    )  # fmt: skip
    made = [
        total("otelagents.tokens", "{token}", 7, monotonic=True),
        total("otelagents.cost", "{USD}", 0.25, monotonic=True),
        total("otelagents.run.active", "{run}", 1, monotonic=False),
        Metric(
            name="otelagents.run.duration",
            unit="s",
            histogram=Histogram(data_points=[duration], aggregation_temporality=CUMULATIVE),
        ),
    ]
    scoped = ScopeMetrics(scope=SCOPE, metrics=made)
    return ExportMetricsServiceRequest(
        resource_metrics=[ResourceMetrics(resource=resource(service), scope_metrics=[scoped])]
    )


def logs(service: str) -> ExportLogsServiceRequest:
    """Return a request with one log record."""
    record = LogRecord(time_unix_nano=time.time_ns(), event_name="otelagents.run.start")
    scoped = ScopeLogs(scope=SCOPE, log_records=[record])
    return ExportLogsServiceRequest(
        resource_logs=[ResourceLogs(resource=resource(service), scope_logs=[scoped])]
    )


def spans_of(backends: Backends, service: str, **tags: str) -> list[dict[str, Any]]:
    """Return the spans of the traces that Jaeger finds."""
    return list(chain.from_iterable(t["spans"] for t in backends.traces(service, **tags)))


def run(*argv: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(  # noqa: S603 - commands of the repository
        argv, env=os.environ | env, capture_output=True, text=True, timeout=120, check=False
    )


# --- files


def test_collector_accepts_its_configuration(programs: dict[str, Path], tmp_path: Path) -> None:
    """The collector finds no fault in its configuration."""
    config = parts.DEPLOY / "collector" / "config.yaml"

    done = run(
        programs["otelcol"], "validate", "--config", config, COLLECTOR_QUEUE_DIR=str(tmp_path)
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_jaeger_accepts_its_configuration(programs: dict[str, Path]) -> None:
    """Jaeger finds no fault in its configuration."""
    config = parts.DEPLOY / "jaeger" / "config.yaml"

    done = run(programs["jaeger"], "validate", "--config", config)

    assert "error" not in done.stderr.lower()
    assert done.returncode == 0


def test_prometheus_accepts_its_configuration(programs: dict[str, Path]) -> None:
    """Promtool finds no fault in Prometheus' configuration and in the targets of Compose."""
    config = parts.DEPLOY / "prometheus" / "prometheus.yml"

    done = run(programs["promtool"], "check", "config", config)

    assert done.returncode == 0, done.stderr


def test_no_batch_processor_stands_before_a_queue() -> None:
    """The memory limiter comes first and nothing batches in memory what was acknowledged."""
    config = yaml.safe_load((parts.DEPLOY / "collector" / "config.yaml").read_text())

    pipelines = config["service"]["pipelines"].values()

    assert {pipeline["processors"][0] for pipeline in pipelines} == {"memory_limiter"}
    assert not any(name.startswith("batch") for name in config["processors"])


def test_lock_files_hold_what_the_manifest_names() -> None:
    """Every component of the builder's manifest stands in go.mod at the same version."""
    manifest, go_mod = (path.read_text() for path in parts.COLLECTOR_SOURCES[:2])

    named = re.findall(r"^  - gomod: (\S+ \S+)$", manifest, re.MULTILINE)

    assert named
    assert [line for line in named if f"\t{line}\n" not in go_mod] == []


def test_compose_runs_the_versions_and_files_of_the_native_stack() -> None:
    """Compose's images have the native versions, and its mounted files are the repository's."""
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    dockerfile = (parts.DEPLOY / "collector" / "Dockerfile").read_text()
    mounts = [v.split(":") for s in services.values() for v in s["volumes"] if v[0] == "."]

    assert f"collector-contrib:{parts.collector_version()}\n" in dockerfile
    assert services["collector"]["image"].endswith(f":{parts.collector_version()}")
    assert services["jaeger"]["image"].endswith(f":{parts.JAEGER_VERSION}")
    assert {mode for *_, mode in mounts} == {"ro"}
    assert [source for source, *_ in mounts if not (COMPOSE.parent / source).exists()] == []
    assert {(parts.DEPLOY.parent / source).name for source, *_ in mounts} == {
        "config.yaml", "prometheus.yml", "targets",
    }  # fmt: skip


def test_compose_is_closed_and_hardened() -> None:
    """Compose publishes on loopback only, OTLP at the collector only, and hardens each service."""
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    published = {name: service["ports"] for name, service in services.items()}

    assert published == {
        "collector": ["127.0.0.1:4317:4317", "127.0.0.1:4318:4318"],
        "jaeger": ["127.0.0.1:16686:16686"],
        "prometheus": ["127.0.0.1:9090:9090"],
    }
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert int(service["user"].split(":")[0]) > 0
        assert {"cpus", "memory", "pids"} <= service["deploy"]["resources"]["limits"].keys()
        assert service["healthcheck"]["test"][0] == "CMD"


# --- delivery


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_span_is_found_by_service_and_by_tag(backends: Backends, transport: str) -> None:
    """A span sent to the collector is found in Jaeger by its service, its run id and its error."""
    service = f"spans-{transport}"

    send(backends.stack, transport, spans(service, "run-ok"))
    send(backends.stack, transport, spans(service, "run-error", error=True))

    assert backends.eventually(lambda: spans_of(backends, service, otelagents__run__id="run-ok"))
    failed = backends.eventually(lambda: spans_of(backends, service, error="true"))
    tags = {tag["key"]: tag["value"] for tag in failed[0]["tags"]}
    assert tags["otelagents.run.id"] == "run-error"
    assert service in backends.services()
    assert backends.traces(service, otelagents__run__id="another") == []


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_metrics_have_the_expected_names_and_labels(backends: Backends, transport: str) -> None:
    """Metrics sent to the collector are in Prometheus by the names that dashboards use."""
    job = f"shop/metrics-{transport}"

    send(backends.stack, transport, metrics(f"metrics-{transport}"))

    found = backends.eventually(lambda: backends.query(f'{{job="{job}",__name__!="target_info"}}'))
    assert {(s["metric"]["__name__"], s["metric"].get("le"), s["value"][1]) for s in found} == {
        ("otelagents_tokens_total", None, "7"),
        ("otelagents_cost_total", None, "0.25"),
        ("otelagents_run_active", None, "1"),
        ("otelagents_run_duration_seconds_bucket", "1", "0"),
        ("otelagents_run_duration_seconds_bucket", "5", "1"),
        ("otelagents_run_duration_seconds_bucket", "+Inf", "1"),
        ("otelagents_run_duration_seconds_sum", None, "1.5"),
        ("otelagents_run_duration_seconds_count", None, "1"),
    }
    labels = [series["metric"].keys() - {"__name__", "le"} for series in found]
    expected = {"job", "instance", "workflow", "otel_scope_name", "otel_scope_version"}
    assert labels == [expected] * len(found)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_log_record_is_accepted(backends: Backends, transport: str) -> None:
    """A log record sent to the collector goes through its pipeline."""
    name = "otelcol_exporter_sent_log_records_total"
    before = backends.collector_metric(name)

    send(backends.stack, transport, logs("logs"))

    assert backends.eventually(lambda: backends.collector_metric(name) == before + 1)


def test_prometheus_watches_the_stack(backends: Backends) -> None:
    """Prometheus scrapes each part of the stack, itself included."""

    def watched() -> bool:
        return {s["metric"]["job"] for s in backends.query("up == 1")} >= set(parts.stack_parts())

    # A target's first scrape comes within one interval of 15 s, and is seen a little later.
    assert backends.eventually(watched, seconds=60)


# --- crashes


def test_spans_wait_for_a_killed_jaeger(fresh: Backends) -> None:
    """Spans acknowledged while Jaeger is dead are all in Jaeger when it is back."""
    fresh.stack.kill("jaeger")
    for number in range(10):
        send(fresh.stack, "http", spans("waiting", f"run-{number}", count=50))

    fresh.stack.resume("jaeger")

    assert fresh.eventually(lambda: len(spans_of(fresh, "waiting")) == 500)


def test_nothing_acknowledged_is_lost_with_the_collector(fresh: Backends) -> None:
    """Spans and metrics that waited in a killed collector arrive when everything is back."""
    for name in ("jaeger", "prometheus"):
        fresh.stack.kill(name)
    send(fresh.stack, "grpc", spans("crashed", "run-1", count=50))
    send(fresh.stack, "grpc", metrics("crashed"))

    fresh.stack.kill("collector")
    for name in ("jaeger", "prometheus", "collector"):
        fresh.stack.resume(name)

    assert fresh.eventually(lambda: len(spans_of(fresh, "crashed")) == 50)
    tokens = 'otelagents_tokens_total{job="shop/crashed"}'
    assert fresh.eventually(lambda: fresh.query(tokens))[0]["value"][1] == "7"


def test_backends_keep_what_they_have_when_killed(fresh: Backends) -> None:
    """What Jaeger and Prometheus once showed they still show after a crash of their own."""
    tokens = 'otelagents_tokens_total{job="shop/kept"}'
    send(fresh.stack, "http", spans("kept", "run-1"))
    send(fresh.stack, "http", metrics("kept"))
    assert fresh.eventually(lambda: fresh.traces("kept") and fresh.query(tokens))

    for name in ("jaeger", "prometheus"):
        fresh.stack.kill(name)
        fresh.stack.resume(name)

    assert len(spans_of(fresh, "kept", otelagents__run__id="run-1")) == 1
    assert fresh.query(tokens)[0]["value"][1] == "7"
