"""Histograms that are counted here and told to the SDK when it collects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    InMemoryMetricReader,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.trace import TracerProvider

from otel_agents.metrics import Metrics
from otel_agents.vocabulary import AGENT_DURATION

if TYPE_CHECKING:
    from collections.abc import Sequence

    Recorded = tuple[float, str]

_tracer = TracerProvider().get_tracer("test")
_values = st.floats(0, 1e5) | st.sampled_from(AGENT_DURATION.buckets)
_rounds = st.lists(st.lists(st.tuples(_values, st.sampled_from("abc")), max_size=20), max_size=4)


def _points(reader: InMemoryMetricReader) -> list[Any]:
    """Return the points of the one histogram, without their times, and the names around."""
    data = reader.get_metrics_data()
    if data is None:
        return []
    found: list[Any] = []
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                assert metric.name == AGENT_DURATION.name
                found += metric.data.data_points
    return sorted(
        (
            sorted(one.attributes.items()),
            one.count,
            pytest.approx(one.sum),
            getattr(one, "bucket_counts", None),
            one.min,
            one.max,
            [(spot.value, spot.span_id, spot.trace_id) for spot in one.exemplars],
        )
        for one in found
    )  # fmt: skip


def _record(metrics: Metrics, plain: Any, rounds: Sequence[Recorded]) -> None:
    for value, agent in rounds:
        with _tracer.start_as_current_span("work"):
            metrics.record(AGENT_DURATION, value, {"agent": agent})
            plain.record(value, {"agent": agent})


def _both(*arguments: Any, **options: Any) -> tuple[Metrics, Any, list[InMemoryMetricReader]]:
    """Return our metrics, a histogram of the SDK's own, and the reader of each."""
    readers = [InMemoryMetricReader(*arguments) for _ in range(2)]
    ours, theirs = (MeterProvider([reader], **options) for reader in readers)
    plain = theirs.get_meter("plain").create_histogram(
        AGENT_DURATION.name, explicit_bucket_boundaries_advisory=list(AGENT_DURATION.buckets)
    )
    return Metrics(ours), plain, readers


@settings(deadline=None)
@given(_rounds)
def test_a_reader_sees_what_the_sdk_itself_would_have_counted(
    rounds: list[list[Recorded]],
) -> None:
    """Counts, sums, extremes and exemplars are equal at each collection."""
    metrics, plain, (ours, theirs) = _both()
    for one in rounds:
        _record(metrics, plain, one)
        assert _points(ours) == _points(theirs)


@settings(deadline=None)
@given(_rounds)
def test_a_reader_of_differences_sees_them_too(rounds: list[list[Recorded]]) -> None:
    """With delta temporality each collection begins anew."""
    metrics, plain, (ours, theirs) = _both({Histogram: AggregationTemporality.DELTA})
    for one in rounds:
        _record(metrics, plain, one)
        assert _points(ours) == _points(theirs)


def test_a_view_is_honoured() -> None:
    """A view that wants other buckets has them of every value."""
    view = View(
        instrument_name=AGENT_DURATION.name, aggregation=ExponentialBucketHistogramAggregation()
    )
    metrics, plain, (ours, theirs) = _both(views=[view])
    _record(metrics, plain, [(3.0, "a"), (70.0, "a"), (0.0, "b")])
    assert _points(ours) == _points(theirs) != []


def test_two_readers_see_the_same() -> None:
    """What one reader collected is there for the other."""
    first, second = InMemoryMetricReader(), InMemoryMetricReader()
    metrics = Metrics(MeterProvider([first, second]))
    for value in (1.0, 2.0, 3.0):
        metrics.record(AGENT_DURATION, value, {"agent": "a"})
    counts = [[point[1] for point in _points(reader)] for reader in (first, second, first)]
    assert counts == [[3], [3], [3]]


def test_what_is_no_measurement_is_left_out() -> None:
    """Negative and infinite values change nothing, as with the SDK."""
    metrics, plain, (ours, theirs) = _both()
    _record(metrics, plain, [(1.0, "a"), (-1.0, "a"), (float("inf"), "a"), (2.0, "a")])
    assert _points(ours) == _points(theirs)
    assert [point[1] for point in _points(ours)] == [2]


def test_a_provider_without_readers_costs_no_more_than_the_values() -> None:
    """Nothing is gathered for a provider that nobody reads."""
    metrics = Metrics(MeterProvider([]))
    for value in (1.0, 2.0):
        metrics.record(AGENT_DURATION, value, {"agent": "a"})
    (family,) = metrics.families()
    assert [sum(point.counts) for point in family.points] == [2]


def test_a_forked_child_starts_from_nothing() -> None:
    """What the parent has not told yet is not told by the child."""
    reader = InMemoryMetricReader()
    metrics = Metrics(MeterProvider([reader]))
    for value in (1.0, 2.0, 3.0):
        metrics.record(AGENT_DURATION, value, {"agent": "a"})
    metrics.forget()  # what is called in the child
    points = _points(reader)
    assert [point[1] for point in points] == [1]  # the SDK's own, which it was told of at once
