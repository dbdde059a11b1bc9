"""The KPIs of a process, as a sink: what `get_metrics` answers and the gauges report."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from otel_agents.event_types import event_of
from otel_agents.state.kpis import Kpis
from otel_agents.vocabulary import KPI_METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from otel_agents.runtime import Runtime
    from otel_agents.signals import Signal


class KpiSink:
    """Folds the events of a process, its scopes' too."""

    name = "kpis"

    def __init__(self) -> None:
        self._kpis = Kpis()
        self._lock = threading.Lock()

    def write(self, signals: Sequence[Signal]) -> None:
        """Take signals in; those that are no events change nothing."""
        with self._lock:
            for signal in signals:
                event = event_of(signal)
                if event is not None:
                    self._kpis.apply(event)

    def close(self) -> None:
        """Keep what there is: it can be asked for still."""

    def reading(self) -> dict[str, Any]:
        """Return the six KPIs, None where there is nothing to count, and `counts`."""
        with self._lock:
            return self._kpis.reading()


def kpis_of(rt: Runtime) -> KpiSink:
    """Return the KPIs of a runtime; the first call begins to count."""
    with rt.lock:
        if rt.kpis is None:
            sink = KpiSink()
            rt.require_pipeline().add(sink)
            for name, metric in KPI_METRICS.items():
                rt.metrics.watch(metric, _reader(sink, name))
            rt.kpis = sink
        found: KpiSink = rt.kpis
    return found


def _reader(sink: KpiSink, name: str) -> Callable[[], Iterable[tuple[tuple[Any, ...], float]]]:
    def read() -> list[tuple[tuple[Any, ...], float]]:
        value = sink.reading()[name]
        return [] if value is None else [((), value)]

    return read
