"""OTLP requests of a program that tests stand in for, and how they are sent."""

from __future__ import annotations

import os
import time
import urllib.request
from typing import TYPE_CHECKING

import grpc
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
    from stack import Stack

SCOPE = InstrumentationScope(name="otel_agents", version="1")
# When the program that the tests stand in for began to count.
STARTED = time.time_ns()
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE

Request = ExportTraceServiceRequest | ExportMetricsServiceRequest | ExportLogsServiceRequest


def send(stack: Stack, transport: str, request: Request) -> None:
    """Send a request to the stack's collector and return once it is acknowledged."""
    send_to(stack.otlp_grpc if transport == "grpc" else stack.otlp_http, transport, request)


def send_to(address: str, transport: str, request: Request) -> None:
    """Send a request to an address and return once it is acknowledged."""
    path, stub = {
        ExportTraceServiceRequest: ("traces", TraceServiceStub),
        ExportMetricsServiceRequest: ("metrics", MetricsServiceStub),
        ExportLogsServiceRequest: ("logs", LogsServiceStub),
    }[type(request)]
    if transport == "grpc":
        with grpc.insecure_channel(address.removeprefix("http://")) as channel:
            stub(channel).Export(request, timeout=10)
        return
    post = urllib.request.Request(  # noqa: S310 - an address of our own on loopback
        f"{address}/v1/{path}",
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


def resource(service: str, instance: str = "one") -> Resource:
    """Return the resource of a program."""
    return Resource(
        attributes=attributes(
            service__namespace="shop", service__name=service, service__instance__id=instance
        )
    )


def spans(
    service: str, run: str, *, count: int = 1, error: bool = False, instance: str = "one"
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
        resource_spans=[ResourceSpans(resource=resource(service, instance), scope_spans=[scoped])]
    )


def metrics(
    service: str, tokens: float = 7, when: int | None = None
) -> ExportMetricsServiceRequest:
    """Return a request with four of our metrics, one of each kind, of now or another time."""
    now = when or time.time_ns()

    def total(name: str, unit: str, value: float, *, monotonic: bool) -> Metric:
        point = NumberDataPoint(
            start_time_unix_nano=STARTED, time_unix_nano=now, as_double=value,
            attributes=attributes(workflow="order", collector__instance__id="per-restart"),
        )  # fmt: skip
        data = Sum(data_points=[point], aggregation_temporality=CUMULATIVE, is_monotonic=monotonic)
        return Metric(name=name, unit=unit, sum=data)

    duration = HistogramDataPoint(
        start_time_unix_nano=STARTED, time_unix_nano=now, count=1, sum=1.5,
        bucket_counts=[0, 1, 0], explicit_bounds=[1, 5], attributes=attributes(workflow="order"),
    )  # fmt: skip
    made = [
        total("otelagents.tokens", "{token}", tokens, monotonic=True),
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


def logs(service: str, *ids: str) -> ExportLogsServiceRequest:
    """Return a request with one log record, or a record for each id in its attribute `id`."""
    now = time.time_ns()
    records = [
        LogRecord(
            time_unix_nano=now, event_name="shop.told", body=AnyValue(string_value=f"told {each}"),
            attributes=attributes(id=each),
        )
        for each in ids or ("one",)
    ]  # fmt: skip
    scoped = ScopeLogs(scope=SCOPE, log_records=records)
    return ExportLogsServiceRequest(
        resource_logs=[ResourceLogs(resource=resource(service), scope_logs=[scoped])]
    )
