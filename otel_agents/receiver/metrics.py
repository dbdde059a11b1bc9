"""Data points of every kind into points of the store."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, cast, get_args

from otel_agents.receiver.limits import MAX_TIME
from otel_agents.store.batch import Point, PointKind
from otel_agents.store.blocks import attributes_as_data

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
        ExportMetricsServiceRequest,
    )
    from opentelemetry.proto.metrics.v1 import metrics_pb2

    from otel_agents.store.batch import Batch

_KINDS: Final = frozenset(get_args(PointKind))
_TEMPORALITY: Final = ("unspecified", "delta", "cumulative")
_NO_VALUE: Final = 1  # the flag of a series that has gone


def add_metrics(
    message: ExportMetricsServiceRequest, _body: bytes, batch: Batch
) -> tuple[int, str]:
    """Put the data points of a request in a batch; return how many were rejected, and why.

    A point is rejected where its metric has no name, its time is none or beyond what a signed
    number of 64 bits holds, or its buckets do not fit its bounds. A number that is none or not
    finite, which no database agrees on, is no value; `detail` then names it.
    """
    rejected = 0
    reason = ""
    for resource_metrics in message.resource_metrics:
        resource = attributes_as_data(resource_metrics.resource.attributes)
        service = str(resource.get("service.name", ""))
        instance = str(resource.get("service.instance.id", ""))
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                kind = str(metric.WhichOneof("data"))
                if kind not in _KINDS:
                    continue
                data = getattr(metric, kind)
                for found in data.data_points:
                    wrong = _wrong(metric, kind, found)
                    if wrong:
                        rejected, reason = rejected + 1, wrong
                        continue
                    point = Point(
                        name=metric.name,
                        unit=metric.unit,
                        kind=cast("PointKind", kind),
                        service=service,
                        instance=instance,
                        attributes=attributes_as_data(found.attributes),
                        time=found.time_unix_nano,
                        start=min(found.start_time_unix_nano, MAX_TIME),
                    )
                    _READ[kind](point, found, data)
                    batch.points.append(point)
    return rejected, reason


def _wrong(metric: metrics_pb2.Metric, kind: str, found: Any) -> str:
    if not metric.name:
        return "its metric has no name"
    if not 0 < found.time_unix_nano <= MAX_TIME:
        return "it has no time, or one after the year 2262"
    if kind == "histogram":
        buckets = len(found.bucket_counts)
        if buckets and buckets != len(found.explicit_bounds) + 1:
            return "its buckets do not fit its bounds"
    return ""


def _finite(point: Point, name: str, value: float) -> float | None:
    """Return a value that a database holds; one that none does is named in the detail."""
    if math.isfinite(value):
        return value
    point.detail = {**point.detail, name: str(value)}
    return None


def _number(point: Point, found: metrics_pb2.NumberDataPoint, data: Any) -> None:
    which = found.WhichOneof("value")
    if which is not None and not found.flags & _NO_VALUE:
        point.value = _finite(point, "value", float(getattr(found, which)))
    if point.kind == "sum":
        point.detail = {
            **point.detail,
            "monotonic": data.is_monotonic,
            "temporality": _temporality(data),
        }


def _counted(point: Point, found: Any) -> None:
    point.count = found.count
    point.sum = _finite(point, "sum", found.sum)


def _extremes(found: Any) -> dict[str, float | str]:
    """Return the least and the greatest value, where they are told."""
    return {name: _plain(getattr(found, name)) for name in ("min", "max") if found.HasField(name)}


def _histogram(point: Point, found: metrics_pb2.HistogramDataPoint, data: Any) -> None:
    _counted(point, found)
    point.detail = {
        **point.detail,
        "temporality": _temporality(data),
        "bounds": [_plain(bound) for bound in found.explicit_bounds],
        "counts": list(found.bucket_counts),
        **_extremes(found),
    }


def _exponential(point: Point, found: metrics_pb2.ExponentialHistogramDataPoint, data: Any) -> None:
    _counted(point, found)
    point.detail = {
        **point.detail,
        "temporality": _temporality(data),
        "scale": found.scale,
        "zero_count": found.zero_count,
        "zero_threshold": _plain(found.zero_threshold),
        **_extremes(found),
    }
    for side in ("positive", "negative"):
        buckets = getattr(found, side)
        point.detail[side] = {"offset": buckets.offset, "counts": list(buckets.bucket_counts)}


def _summary(point: Point, found: metrics_pb2.SummaryDataPoint, _data: Any) -> None:
    _counted(point, found)
    point.detail = {
        **point.detail,
        "quantiles": [
            {"quantile": _plain(one.quantile), "value": _plain(one.value)}
            for one in found.quantile_values
        ],
    }


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _temporality(data: Any) -> str:
    number = data.aggregation_temporality
    return _TEMPORALITY[number] if 0 <= number < len(_TEMPORALITY) else "unspecified"


_READ: Final[dict[str, Callable[[Point, Any, Any], None]]] = {
    "gauge": _number,
    "sum": _number,
    "histogram": _histogram,
    "exponential_histogram": _exponential,
    "summary": _summary,
}
