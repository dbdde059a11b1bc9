"""The Python SDK's own exporters send here, and what they send arrives."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (
    OTLPMetricExporter as GrpcMetrics,
)
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import (
    OTLPMetricExporter as HttpMetrics,
)
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otel_agents.receiver.guard import bearer
from otel_agents.signals import Ids, Signal
from otel_agents.sinks.otlp import OtlpSink
from otel_agents.store import Busy, open_store
from tests.receiver.kit import Remembering, grpc_receiver, http_receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RESOURCE = Resource.create({"service.name": "shop", "service.instance.id": "i1"})


def over_http(port: int, gzip: bool, headers: Any) -> dict[str, Any]:
    packing = Compression.Gzip if gzip else Compression.NoCompression
    base = f"http://127.0.0.1:{port}/v1/"
    common = {"compression": packing, "headers": headers, "timeout": 10}
    return {
        "spans": HttpSpans(f"{base}traces", **common),
        "metrics": HttpMetrics(f"{base}metrics", **common),
        "logs": HttpLogs(f"{base}logs", **common),
    }


def over_grpc(port: int, gzip: bool, headers: Any) -> dict[str, Any]:
    packing = grpc.Compression.Gzip if gzip else grpc.Compression.NoCompression
    common = {"compression": packing, "headers": headers, "timeout": 10, "insecure": True}
    where = f"127.0.0.1:{port}"
    return {
        "spans": GrpcSpans(where, **common),
        "metrics": GrpcMetrics(where, **common),
        "logs": GrpcLogs(where, **common),
    }


@pytest.fixture(params=["http", "grpc"])
def sending(request: pytest.FixtureRequest) -> Iterator[Callable[..., dict[str, Any]]]:
    """Run a receiver for a store, and make exporters that send to it."""
    running = []

    def make(store: Any, *, gzip: bool = False, token: str = "") -> dict[str, Any]:
        authorize = bearer(token) if token else None
        headers = {"authorization": f"Bearer {token}"} if token else {}
        if request.param == "http":
            one = http_receiver(store, authorize)
            running.append(one)
            return over_http(one.__enter__().port, gzip, headers)
        other = grpc_receiver(store, authorize)
        running.append(other)
        return over_grpc(other.__enter__().port, gzip, headers)

    yield make
    for one in running:
        one.__exit__(None, None, None)


def told(exporters: dict[str, Any], spans: int = 3) -> None:
    """Send spans, a metric, log records and a signal through the SDK's pipelines."""
    tracers = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(exporters["spans"]))
    with tracers.get_tracer("t").start_as_current_span("root"):
        for number in range(spans - 1):
            tracers.get_tracer("t").start_span(f"step {number}").end()
    reader = PeriodicExportingMetricReader(exporters["metrics"], 3_600_000)
    meters = MeterProvider([reader], resource=RESOURCE, shutdown_on_exit=False)
    meters.get_meter("m").create_counter("orders").add(2, {"kind": "a"})
    meters.get_meter("m").create_histogram("seconds").record(0.5)
    loggers = LoggerProvider(resource=RESOURCE, shutdown_on_exit=False)
    loggers.add_log_record_processor(BatchLogRecordProcessor(exporters["logs"]))
    record = LogRecord(timestamp=1, body={"a": [1, None]}, severity_number=SeverityNumber.WARN)
    loggers.get_logger("l").emit(record)
    OtlpSink(loggers).write([SIGNAL])
    for provider in (tracers, meters, loggers):
        assert provider.force_flush()
        provider.shutdown()


SIGNAL = Signal(
    id="s1", kind="run", edge="start", time=1_700_000_000_000_000_000,
    ids=Ids(run_id="r1", workflow="w"),
)  # fmt: skip


@pytest.mark.parametrize("gzip", [False, True])
def test_what_the_sdk_sends_arrives(
    sending: Callable[..., dict[str, Any]], store: Remembering, gzip: bool
) -> None:
    """Spans, metrics, log records and signals, over both protocols, plain and packed."""
    told(sending(store, gzip=gzip, token="word"))  # noqa: S106

    spans = [s.name for r in store.requests for s in r.resource_spans[0].scope_spans[0].spans]
    assert sorted(spans) == ["root", "step 0", "step 1"]
    assert {p.name: (p.kind, p.value, p.count) for p in store.points} == {
        "orders": ("sum", 2.0, None), "seconds": ("histogram", None, 1),
    }  # fmt: skip
    assert [(r.body, r.severity, r.service) for r in store.logs] == [('{"a":[1,null]}', 13, "shop")]
    assert store.signals == [SIGNAL]


def test_the_sdk_tries_again_when_the_store_is_busy(
    sending: Callable[..., dict[str, Any]], store: Remembering
) -> None:
    """What was refused once comes again, and is there in the end."""
    refusals = [Busy("The store is behind.", 1)]
    store.answer = lambda _: refusals.pop() if refusals else None
    exporter = sending(store)["spans"]
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(exporter))
    tracers.get_tracer("t").start_span("kept").end()
    tracers.force_flush()
    tracers.shutdown()

    assert refusals == []
    assert store.spans == 1


def test_what_is_sent_is_in_a_real_store(
    sending: Callable[..., dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """From the SDK to the tables: the trace, the run, the record and the points can be read."""
    caplog.set_level(logging.WARNING)
    store = open_store(f"sqlite:///{tmp_path}/s.db")
    try:
        told(sending(store, gzip=True))
        traces = store.traces()["items"]
        assert [(row["root"], row["spans"], row["service"]) for row in traces] == [
            ("root", 3, "shop")
        ]
        assert [row["body"] for row in store.logs()["items"]] == ['{"a":[1,null]}']
        assert {row["name"] for row in store.metrics()["items"]} == {"orders", "seconds"}
        assert [event["type"] for event in store.feed(0)] == ["run.start"]
    finally:
        store.close()
    assert caplog.records == []
