"""Metrics as the text that Prometheus scrapes, in both of its formats.

Names and labels are those that Prometheus gives the same metrics when they come by OTLP, so that
dashboards and alerts serve both ways: dots become underscores, unit s ends a name as `_seconds`,
annotations such as `{run}` are dropped, counters end in `_total` (OpenTelemetry's specification,
"Prometheus and OpenMetrics Compatibility"). Labels without a value are left out, as in OTLP.
"""

from __future__ import annotations

import json
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, cast

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Sample,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.metrics_core import Metric as Exposed

    from otel_agents.metrics import Family, Point
    from otel_agents.vocabulary import Metric

TEXT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_OPENMETRICS: Final = "application/openmetrics-text"
_VERSIONS: Final = ("", "0.0.1", "1.0.0")  # of OpenMetrics, that 1.0 serves
# A unit of OTLP as a word of Prometheus; an annotation in braces and no unit at all give none.
_UNITS: Final = {"s": "seconds", "By": "bytes"}

_Labels = tuple[tuple[str, str], ...]


def exposition(families: Iterable[Family], accept: str = "") -> tuple[str, bytes]:
    """Return metrics as a scrape's answer: its content type, and its body in UTF-8.

    Args:
        families: The metrics; those without points are left out. No two may have one name.
        accept: The request's Accept header: OpenMetrics 1.0 where it is asked for, else the text
            format 0.0.4, which every Prometheus reads.

    """
    collected = _Collected([_exposed(family) for family in families if family.points])
    if _asks_for_openmetrics(accept):
        return OPENMETRICS_TYPE, _generate_openmetrics(collected)
    return TEXT_TYPE, generate_latest(collected)


def name_of(metric: Metric) -> str:
    """Return the name of a metric's family in Prometheus, without the `_total` of a counter."""
    name = _legal(metric.name)
    unit = _UNITS.get(metric.unit, "")
    return f"{name}_{unit}" if unit and not name.endswith(f"_{unit}") else name


class _Collected:
    """What the library takes metrics from."""

    def __init__(self, families: list[Exposed]) -> None:
        self._families = families

    def collect(self) -> Iterable[Exposed]:
        return self._families


# The library does not annotate this one.
_generate_openmetrics: Final = cast("Callable[[Any], bytes]", openmetrics.generate_latest)


def _asks_for_openmetrics(accept: str) -> bool:
    """Say whether a client prefers OpenMetrics to plain text."""
    best = {_OPENMETRICS: 0.0, "text/plain": 0.0}
    for one in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in one.split(";"))
        given = dict(part.split("=", 1) for part in parameters if "=" in part)
        if kind not in best or (kind == _OPENMETRICS and given.get("version", "") not in _VERSIONS):
            continue
        try:
            quality = float(given.get("q", "1"))
        except ValueError:
            continue
        best[kind] = max(best[kind], quality)
    return best[_OPENMETRICS] > 0 and best[_OPENMETRICS] >= best["text/plain"]


def _exposed(family: Family) -> Exposed:
    """Return a family in the library's terms."""
    metric = family.metric
    name, brief = name_of(metric), metric.brief
    unit = _UNITS.get(metric.unit, "")
    if metric.instrument == "histogram":
        return _histogram(HistogramMetricFamily(name, brief, unit=unit), family)
    values: dict[_Labels, float] = {}
    adds_up = metric.instrument != "gauge"
    for point in family.points:
        labels = _labels(point)
        before = values.get(labels, 0) if adds_up else 0
        values[labels] = before + point.value
    exposed = (
        CounterMetricFamily(name, brief, unit=unit)
        if metric.instrument == "counter"
        else GaugeMetricFamily(name, brief, unit=unit)
    )
    suffix = "_total" if metric.instrument == "counter" else ""
    for labels, value in values.items():
        exposed.samples.append(Sample(exposed.name + suffix, dict(labels), value))
    return exposed


def _histogram(exposed: Exposed, family: Family) -> Exposed:
    both: dict[_Labels, tuple[float, tuple[int, ...]]] = {}
    for point in family.points:
        labels = _labels(point)
        total, counts = both.get(labels, (0.0, (0,) * len(point.counts)))
        added = tuple(map(sum, zip(counts, point.counts, strict=True)))
        both[labels] = total + point.value, added
    name = exposed.name
    bounds = [*map(floatToGoString, family.metric.buckets), "+Inf"]
    for labels, (total, counts) in both.items():
        given = dict(labels)
        reached = 0
        for bound, reached in zip(bounds, accumulate(counts), strict=True):
            exposed.samples.append(Sample(f"{name}_bucket", {**given, "le": bound}, reached))
        exposed.samples.append(Sample(f"{name}_count", given, reached))
        exposed.samples.append(Sample(f"{name}_sum", given, total))
    return exposed


def _labels(point: Point) -> _Labels:
    """Return labels as Prometheus has them; what differs in it may not differ in the series."""
    found = {
        _legal(key): _text(value) for key, value in point.labels.items() if value not in (None, "")
    }
    return tuple(sorted(found.items()))


def _legal(name: str) -> str:
    """Return a name of OTLP's with underscores for what Prometheus' older names cannot hold."""
    legal = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)
    return f"_{legal}" if legal[:1].isdigit() else legal


def _text(value: Any) -> str:
    """Return a label's value as text that UTF-8 can hold: halves of a surrogate pair cannot be."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text.encode("utf-8", "replace").decode()
