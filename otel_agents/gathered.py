"""Histograms that the SDK is told of when it collects, not at each measurement.

A measurement costs the SDK some 20 µs inside a real run, and an agent run has seven. So the buckets
are counted here and added to the SDK's own when a reader collects: its points, exemplars (the last
measurement of each bucket) and temporality stay what they were. The SDK has no public way to add
more than one value at a time; where its parts are not the expected ones (a view, an exponential
histogram, delta temporality, another provider), each measurement goes to it as it is made.
"""
# ruff: noqa: SLF001 - what this module is for

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from math import inf
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, get_current_span, set_span_in_context

from otel_agents.boundary import caught

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from opentelemetry.metrics import Histogram
    from opentelemetry.trace import SpanContext


class _Since:
    """What one series counted since a reader last asked."""

    __slots__ = ("attributes", "counts", "high", "last", "low", "sum", "targets")

    def __init__(self, attributes: dict[str, Any], buckets: int, targets: list[Any]) -> None:
        self.attributes = attributes
        self.targets = targets  # the SDK's aggregations of this series, one a reader
        self.counts = [0] * buckets
        self.clear()

    def clear(self) -> None:
        """Start from nothing."""
        self.counts = [0] * len(self.counts)
        self.sum = 0.0
        self.low, self.high = inf, -inf
        # By bucket: the value, when it was (ns), and in which span.
        self.last: dict[int, tuple[float, int, SpanContext]] = {}

    def add(self, bucket: int, last: tuple[float, int, SpanContext]) -> None:
        """Count a value: what it is, when it was and in which span."""
        value = last[0]
        self.counts[bucket] += 1
        self.sum += value
        self.low = min(self.low, value)
        self.high = max(self.high, value)
        self.last[bucket] = last

    def pour(self, exemplars: Any) -> None:
        """Add it to the SDK's aggregations."""
        offered = list(self._offered(exemplars))
        for target in self.targets:
            with target._lock:
                held = target._value or [0] * len(self.counts)
                target._value = [a + b for a, b in zip(held, self.counts, strict=True)]
                target._sum += self.sum
                target._min = min(target._min, self.low)
                target._max = max(target._max, self.high)
            for measurement in offered:
                target._reservoir.offer(*measurement)
        self.clear()

    def _offered(self, exemplars: Any) -> Iterator[tuple[Any, ...]]:
        for value, when, span in self.last.values():
            context = set_span_in_context(NonRecordingSpan(span), Context())
            measurement = value, when, self.attributes, context
            if exemplars.should_sample(*measurement):
                yield measurement


class Gathered:
    """One histogram of the SDK with what it has not been told yet."""

    def __init__(self, histogram: Histogram, bounds: Sequence[float]) -> None:
        self._histogram: Any = histogram
        self._bounds = tuple(bounds)
        self._since: dict[tuple[tuple[str, Any], ...], _Since] = {}
        # A signal handler may measure in a thread that is at it.
        self._lock = threading.RLock()

    def record(
        self, value: float, attributes: dict[str, Any], context: Context | None = None
    ) -> None:
        """Record a value; the first one of a series goes to the SDK at once, to make it known."""
        key = tuple(attributes.items())
        if key in self._since and 0 <= value < inf:
            last = value, time.time_ns(), get_current_span(context).get_span_context()
            with self._lock:
                since = self._since.get(key)
                if since is not None:
                    since.add(bisect_left(self._bounds, value), last)
                    return
        self._histogram.record(value, attributes, context)
        self._look_for(key, attributes)

    def pour(self) -> None:
        """Tell the SDK what was counted."""
        with self._lock:
            readers = len(self._storages())
            for key, since in list(self._since.items()):
                if any(since.counts):
                    since.pour(self._histogram._measurement_consumer._sdk_config.exemplar_filter)
                if len(since.targets) != readers:  # one was added, and is to know the series too
                    del self._since[key]

    def forget(self) -> None:
        """Start from nothing, in a forked child."""
        self._lock = threading.RLock()
        for since in self._since.values():
            since.clear()

    # ------------------------------------------------------------------ the SDK's parts

    def _storages(self) -> list[Any]:
        return list(self._histogram._measurement_consumer._reader_storages.values())

    def _look_for(self, key: tuple[tuple[str, Any], ...], attributes: dict[str, Any]) -> None:
        """Count the series here from now on, if the SDK keeps it in the expected way."""
        try:
            storages = self._storages()
            found = [self._aggregation(storage, attributes) for storage in storages]
        except AttributeError:
            return
        if found and None not in found:
            kept = _Since(dict(attributes), len(self._bounds) + 1, found)
            with self._lock:
                self._since.setdefault(key, kept)

    def _aggregation(self, storage: Any, attributes: dict[str, Any]) -> Any:
        """Return where a reader's storage keeps a series; None where that is not as expected."""
        matches = storage._get_or_init_view_instrument_match(self._histogram)
        if len(matches) != 1 or getattr(matches[0], "_reset_on_collect", False):
            return None
        for one in list(matches[0]._attributes_aggregation.values()):
            if one._attributes == attributes:
                usual = type(one).__name__ == "_ExplicitBucketHistogramAggregation"
                same = usual and tuple(one._boundaries) == self._bounds and one._record_min_max
                return one if same and _is_complete(one) else None
        return None


def _is_complete(aggregation: Any) -> bool:
    parts = ("_lock", "_value", "_sum", "_min", "_max")
    return all(hasattr(aggregation, part) for part in parts) and hasattr(
        aggregation._reservoir, "offer"
    )


def pour_all(histograms: Iterable[Gathered]) -> None:
    """Tell the SDK what histograms counted; one that fails does not cost the others."""
    for one in histograms:
        try:
            one.pour()
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("histogram", error)
