"""What records and points become, and which are rejected."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from otel_agents.receiver.bounded import Body
from otel_agents.receiver.decode import LOGS, METRICS, Decoding
from otel_agents.receiver.flight import InFlight
from otel_agents.signals import Ids, Signal, attributes_of, event_name
from otel_agents.store.batch import Batch, Point
from tests.receiver.messages import filled

NOW = 1_700_000_000_000_000_000
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def decoded(kind: Any, message: Any) -> tuple[Batch, Decoding]:
    """Return the one batch of a small request."""
    body = message.SerializeToString()
    decoding = Decoding(kind, Body(body, len(body)))
    return decoding.next() or Batch(), decoding


def put(attributes: Any, **values: Any) -> None:
    """Add attributes; `__` in a name is a dot."""
    for name, value in values.items():
        pair = attributes.add(key=name.replace("__", "."))
        kind = {str: "string_value", bool: "bool_value", int: "int_value"}[type(value)]
        setattr(pair.value, kind, value)


def record_of(**fields: Any) -> tuple[Any, Any]:
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    put(group.resource.attributes, service__name="shop")
    return request, group.scope_logs.add().log_records.add(time_unix_nano=NOW, **fields)


SIGNAL = Signal(id="s1", kind="run", edge="start", time=NOW, ids=Ids(run_id="r1", workflow="w"))


def test_a_record_with_a_signal_is_one() -> None:
    """It comes back as it was emitted, and is no log record."""
    request, record = record_of(event_name=event_name(SIGNAL))
    put(record.attributes, **{k.replace(".", "__"): v for k, v in attributes_of(SIGNAL).items()})
    batch, decoding = decoded(LOGS, request)

    assert batch.signals == [SIGNAL]
    assert batch.logs == []
    assert decoding.answer() == b""


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "text", '{"id":"","kind":"run","edge":"start","time":1}',
        '{"id":"a","kind":"run","edge":"middle","time":1}',
        '{"id":"a","kind":"run","edge":"start","time":-1}',
        '{"id":"a","kind":"run","edge":"start","time":9223372036854775808}',
        '{"id":"a","kind":"run","edge":"start","time":1,"ids":{"run_id":"' + "r" * 2000 + '"}}',
        '{"id":"a","kind":"run","edge":"start","time":1,"attributes":' + '{"a":' * 5000,
    ],
    ids=range(10),
)  # fmt: skip
def test_a_record_with_a_wrong_signal_is_rejected(text: str) -> None:
    """The others of the request are taken."""
    request, record = record_of()
    put(record.attributes, otelagents__signal=text)
    request.resource_logs[0].scope_logs[0].log_records.add(time_unix_nano=NOW)
    batch, decoding = decoded(LOGS, request)

    assert batch.signals == []
    assert len(batch.logs) == 1
    partial = LOGS.response.FromString(decoding.answer()).partial_success  # type: ignore[attr-defined]
    assert partial.rejected_log_records == 1
    assert "otelagents.signal" in partial.error_message


def test_a_log_record_knows_where_it_belongs() -> None:
    """Run, phase and agent come from its attributes, else from its resource's."""
    request, record = record_of(
        severity_number=13, severity_text="WARN", event_name="e", trace_id=b"\1" * 16,
        span_id=b"\2" * 8,
    )  # fmt: skip
    put(request.resource_logs[0].resource.attributes, otelagents__agent__run__id="a1")
    put(record.attributes, otelagents__run__id="r1", otelagents__phase__name="plan", n=3)
    record.body.string_value = "hello"
    batch, _ = decoded(LOGS, request)

    (found,) = batch.logs
    assert (found.run_id, found.phase, found.agent_id, found.service) == (
        "r1", "plan", "a1", "shop",
    )  # fmt: skip
    assert (found.severity, found.severity_text, found.event_name) == (13, "WARN", "e")
    assert (found.trace_id, found.span_id) == ("01" * 16, "02" * 8)
    assert (found.body, found.time) == ("hello", NOW)
    assert found.attributes["n"] == 3


def test_a_body_that_is_no_text_becomes_json() -> None:
    """Maps, lists and numbers are read as they are written; none is empty."""
    request, record = record_of()
    record.body.kvlist_value.values.add(key="a").value.array_value.values.add(int_value=1)
    other = request.resource_logs[0].scope_logs[0].log_records.add()
    other.observed_time_unix_nano = NOW + 1
    batch, _ = decoded(LOGS, request)

    assert [one.body for one in batch.logs] == ['{"a":[1]}', ""]
    assert batch.logs[1].time == NOW + 1


def test_a_records_ids_of_a_wrong_length_are_none() -> None:
    """The protocol says to take such a record as one of no trace."""
    request, _ = record_of(trace_id=b"\1" * 15, span_id=bytes(8))
    batch, decoding = decoded(LOGS, request)

    assert (batch.logs[0].trace_id, batch.logs[0].span_id) == ("", "")
    assert decoding.rejected == 0


def test_a_time_beyond_a_signed_number_is_rejected() -> None:
    """Attack 11: 2^63 is the year 2262; what was left out is counted."""
    request, record = record_of()
    record.time_unix_nano = 2**63
    batch, decoding = decoded(LOGS, request)
    flight = InFlight()
    decoding.note(flight)

    assert batch.logs == []
    assert "2262" in decoding.reason
    assert flight.counts == {"rejected: log records": 1}


def point_of(kind: str, **fields: Any) -> tuple[Any, Any]:
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    put(group.resource.attributes, service__name="shop", service__instance__id="i1")
    metric = group.scope_metrics.add().metrics.add(name="m", unit="s")
    data = getattr(metric, kind)
    point = data.data_points.add(time_unix_nano=NOW, start_time_unix_nano=NOW - 1, **fields)
    put(point.attributes, a="b")
    return request, point


def one_point(request: Any) -> Point:
    batch, decoding = decoded(METRICS, request)
    assert decoding.rejected == 0
    (found,) = batch.points
    assert (found.name, found.unit, found.service, found.instance) == ("m", "s", "shop", "i1")
    assert (found.time, found.start, found.attributes) == (NOW, NOW - 1, {"a": "b"})
    return found


def test_a_gauge_has_a_value() -> None:
    """Whole numbers and others."""
    for fields in ({"as_int": -3}, {"as_double": -3.0}):
        found = one_point(point_of("gauge", **fields)[0])
        assert (found.kind, found.value, found.count, found.detail) == ("gauge", -3.0, None, {})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_no_value(value: float) -> None:
    """Attack 11: no database agrees on it, so the detail names it."""
    found = one_point(point_of("gauge", as_double=value)[0])

    assert found.value is None
    assert found.detail == {"value": str(value)}


def test_a_point_without_a_value_has_none() -> None:
    """The flag of a series that has gone."""
    assert one_point(point_of("gauge", as_int=5, flags=1)[0]).value is None


def test_a_sum_says_whether_it_only_grows() -> None:
    """And of what time it is."""
    request, _ = point_of("sum", as_int=2)
    data = request.resource_metrics[0].scope_metrics[0].metrics[0].sum
    data.is_monotonic = True
    data.aggregation_temporality = 2
    found = one_point(request)

    assert (found.kind, found.value) == ("sum", 2.0)
    assert found.detail == {"monotonic": True, "temporality": "cumulative"}


def test_a_histogram_has_buckets() -> None:
    """Counts, bounds, the least and the greatest value."""
    request, _ = point_of(
        "histogram", count=3, sum=4.5, bucket_counts=[1, 2], explicit_bounds=[1.0], min=0.5
    )
    found = one_point(request)

    assert (found.kind, found.value, found.count, found.sum) == ("histogram", None, 3, 4.5)
    assert found.detail == {
        "temporality": "unspecified", "bounds": [1.0], "counts": [1, 2], "min": 0.5,
    }  # fmt: skip


def test_an_exponential_histogram_has_two_sides() -> None:
    """Scale, zero count and the counts of each side."""
    request, point = point_of("exponential_histogram", count=3, sum=1.0, scale=2, zero_count=1)
    point.positive.offset = -1
    point.positive.bucket_counts.extend([1, 1])
    found = one_point(request)

    assert found.kind == "exponential_histogram"
    assert found.detail["positive"] == {"offset": -1, "counts": [1, 1]}
    assert found.detail["negative"] == {"offset": 0, "counts": []}
    assert (found.detail["scale"], found.detail["zero_count"]) == (2, 1)


def test_a_summary_has_quantiles() -> None:
    """As pairs."""
    request, point = point_of("summary", count=2, sum=3.0)
    point.quantile_values.add(quantile=0.5, value=1.5)
    found = one_point(request)

    assert (found.kind, found.count, found.sum) == ("summary", 2, 3.0)
    assert found.detail == {"quantiles": [{"quantile": 0.5, "value": 1.5}]}


@pytest.mark.parametrize(
    ("kind", "fields", "reason"),
    [
        ("gauge", {"time_unix_nano": 0}, "time"),
        ("gauge", {"time_unix_nano": 2**63}, "time"),
        ("histogram", {"bucket_counts": [1, 2], "explicit_bounds": [1.0, 2.0]}, "buckets"),
        ("histogram", {"bucket_counts": [1]}, ""),
    ],
)
def test_a_point_that_cannot_be_is_rejected(kind: str, fields: dict[str, Any], reason: str) -> None:
    """With its reason; a histogram of one bucket and no bound is right."""
    request, point = point_of(kind)
    point.MergeFrom(type(point)(**fields))
    for name, value in fields.items():
        if not isinstance(value, list):
            setattr(point, name, value)
    _, decoding = decoded(METRICS, request)

    assert decoding.rejected == bool(reason)
    assert reason in decoding.reason


@settings(max_examples=100, deadline=None, suppress_health_check=SLOW)
@given(filled(ExportLogsServiceRequest))
def test_every_record_is_taken_or_counted(message: Any) -> None:
    """Whatever it holds, nothing is lost in silence."""
    batch, decoding = decoded(LOGS, message)
    sent = sum(len(s.log_records) for r in message.resource_logs for s in r.scope_logs)

    assert len(batch.signals) + len(batch.logs) + decoding.rejected == sent


@settings(max_examples=100, deadline=None, suppress_health_check=SLOW)
@given(filled(ExportMetricsServiceRequest))
def test_every_point_is_taken_or_counted(message: Any) -> None:
    """Whatever it holds, nothing is lost in silence."""
    batch, decoding = decoded(METRICS, message)
    metrics = [m for r in message.resource_metrics for s in r.scope_metrics for m in s.metrics]
    sent = sum(
        len(getattr(one, one.WhichOneof("data")).data_points)
        for one in metrics
        if one.WhichOneof("data")
    )

    assert len(batch.points) + decoding.rejected == sent
