"""The SDK's exporters are replaced where they are what they seem, and left alone elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (
    OTLPSpanExporter as GrpcSpanExporter,
)
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otel_agents.boundary import boundary
from otel_agents.signals import Ids, Signal
from otel_agents.spool.destination import of_environment, of_exporter
from otel_agents.spool.processors import SpoolSpans
from otel_agents.spool.spool import Spool
from otel_agents.spool.takeover import Takeover

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan

    from .conftest import Backend


@pytest.fixture
def takeover(tmp_path: Path) -> Iterator[Takeover]:
    made = Takeover(lambda: Spool(tmp_path / "spool", 1 << 20, lambda *_: None))
    yield made
    if made.spool is not None:
        made.spool.close()


def line_of(provider: TracerProvider) -> list[Any]:
    return list(provider._active_span_processor._span_processors)


def exporter(backend: Backend) -> OTLPSpanExporter:
    return OTLPSpanExporter(f"{backend.url}/v1/traces", headers={"x-key": "mine"})


def test_spans_metrics_and_logs_take_the_spool(takeover: Takeover, backend: Backend) -> None:
    """Each arrives as the SDK's own exporter would have sent it, headers and resource included."""
    resource = Resource.create({"service.name": "shop"})
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(exporter(backend)))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{backend.url}/v1/metrics"))
    meters = MeterProvider([reader], resource=resource)
    loggers = LoggerProvider(resource=resource)
    loggers.add_log_record_processor(
        BatchLogRecordProcessor(OTLPLogExporter(f"{backend.url}/v1/logs"))
    )
    takeover.of(tracers, meters, loggers)
    with tracers.get_tracer("t").start_as_current_span("work"):
        meters.get_meter("m").create_counter("done").add(1)
        loggers.get_logger("l").emit(body="said", severity_number=SeverityNumber.INFO)
    for provider in (tracers, meters, loggers):
        provider.shutdown()

    assert backend.spans() == ["work"]
    assert backend.metrics() == ["done"]
    assert [record.body.string_value for record in backend.records()] == ["said"]
    assert {headers.get("x-key") for headers in backend.headers} == {"mine", None}
    for request in backend.requests:
        (first,) = next(iter(request.ListFields()))[1]
        attributes = {one.key: one.value.string_value for one in first.resource.attributes}
        assert attributes["service.name"] == "shop"


def test_our_signals_are_log_records_at_once(takeover: Takeover, backend: Backend) -> None:
    """They are in the file before the call returns, and named as without a spool."""
    loggers = LoggerProvider()
    loggers.add_log_record_processor(
        BatchLogRecordProcessor(OTLPLogExporter(f"{backend.url}/v1/logs"))
    )
    takeover.of(None, None, loggers)
    assert takeover.signals is not None
    assert takeover.spool is not None
    lane = takeover.spool.lanes["logs"]
    with lane._front:
        takeover.signals(
            Signal(id="s", kind="run", edge="start", time=1, ids=Ids(run_id="r")),
        )
        assert takeover.spool.directory.status()["waiting"]["logs"] == 1
    assert takeover.spool.flush(60)
    assert [record.event_name for record in backend.records()] == ["otelagents.run.start"]


def test_what_the_batch_had_not_sent_yet_is_taken_along(
    takeover: Takeover, backend: Backend
) -> None:
    """Spans that ended before are delivered by the spool, once."""
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(exporter(backend)))
    tracers.get_tracer("t").start_span("before").end()
    takeover.of(tracers, None, None)
    tracers.get_tracer("t").start_span("after").end()
    tracers.shutdown()
    assert sorted(backend.spans()) == ["after", "before"]


def test_a_provider_that_comes_later_is_taken_over_once(
    takeover: Takeover, backend: Backend
) -> None:
    """Asking again changes nothing."""
    tracers = TracerProvider()
    takeover.of(tracers, None, None)
    assert takeover.spool is None
    tracers.add_span_processor(SimpleSpanProcessor(exporter(backend)))
    takeover.of(tracers, None, None)
    takeover.of(tracers, None, None)
    assert [type(one) for one in line_of(tracers)] == [SpoolSpans]


class _Filtering(OTLPSpanExporter):
    """A program's own exporter, which leaves things out."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return super().export([span for span in spans if span.name != "secret"])


class _Foreign(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class _OwnProcessor(BatchSpanProcessor):
    """A program's own way to batch."""


@pytest.mark.parametrize(
    "made",
    [
        lambda backend: BatchSpanProcessor(_Filtering(f"{backend.url}/v1/traces")),
        lambda _: SimpleSpanProcessor(_Foreign()),
        lambda backend: _OwnProcessor(exporter(backend)),
    ],
    ids=["derived exporter", "other exporter", "derived processor"],
)
def test_what_a_program_made_itself_is_left_alone(
    takeover: Takeover, backend: Backend, made: Callable[[Backend], SpanProcessor]
) -> None:
    """It may do anything with what it exports, as leaving secrets out."""
    tracers = TracerProvider()
    processor = made(backend)
    tracers.add_span_processor(processor)
    takeover.of(tracers, None, None)
    assert line_of(tracers) == [processor]
    tracers.shutdown()


def test_a_second_end_point_keeps_its_exporter(
    takeover: Takeover, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One spool has one destination a kind of data; the other goes on, and it is said."""
    said: list[str] = []
    monkeypatch.setattr(boundary, "warn", lambda text, *args: said.append(text % args))
    tracers = TracerProvider()
    first, second = BatchSpanProcessor(exporter(backend)), BatchSpanProcessor(exporter(backend))
    tracers.add_span_processor(first)
    tracers.add_span_processor(second)
    takeover.of(tracers, None, None)
    assert [type(one) for one in line_of(tracers)] == [SpoolSpans, BatchSpanProcessor]
    assert line_of(tracers)[1] is second
    assert len(said) == 1
    assert f"a second OTLP exporter of traces, to {backend.url}/v1/traces, is left" in said[0]
    tracers.shutdown()


def test_what_is_not_sampled_is_not_kept(takeover: Takeover, backend: Backend) -> None:
    """As with the SDK's own processor."""
    tracers = TracerProvider(sampler=ALWAYS_OFF)
    tracers.add_span_processor(BatchSpanProcessor(exporter(backend)))
    takeover.of(tracers, None, None)
    tracers.get_tracer("t").start_span("never").end()
    tracers.shutdown()
    assert backend.spans() == []


def test_roots_and_scopes_weigh_more(takeover: Takeover, backend: Backend) -> None:
    """Where room is short, other people's spans and tools go first, then scopes, then roots."""
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(exporter(backend)))
    takeover.of(tracers, None, None)
    assert takeover.spool is not None
    weights: list[int] = []
    lane = takeover.spool.lanes["traces"]
    before = lane.append

    def append(resource: Any, scope: Any, body: bytes, weight: int) -> None:
        weights.append(weight)
        before(resource, scope, body, weight)

    lane.append = append  # type: ignore[method-assign]
    ours = tracers.get_tracer("otelagents")
    with ours.start_as_current_span("invoke_workflow shop"), ours.start_as_current_span("phase x"):
        ours.start_span("execute_tool write").end()
        tracers.get_tracer("http").start_span("GET").end()
    tracers.shutdown()
    assert weights == [0, 0, 1, 2]


def test_the_environment_names_the_same_end_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """`spool drain` sends where the SDK's own exporters would."""
    for name in ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert of_environment("traces", {}).endpoint == "localhost:4317"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    http = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    for signal in ("traces", "metrics", "logs"):
        assert of_environment(signal, http).endpoint == f"http://127.0.0.1:9/v1/{signal}"
    with pytest.raises(ValueError, match="use grpc or http/protobuf"):
        of_environment("traces", {"OTEL_EXPORTER_OTLP_PROTOCOL": "carrier-pigeon"})


def test_an_exporter_over_grpc_is_known() -> None:
    """By its end point, as the SDK shortens it."""
    made = GrpcSpanExporter("http://127.0.0.1:9")
    found = of_exporter("traces", made)
    made.shutdown()
    assert found is not None
    assert found.endpoint == "127.0.0.1:9"
