"""The KPIs of a process, as a sink: what `get_metrics` answers and the gauges report."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from otel_agents.state.kpis import Kpis
from otel_agents.state.kpis_signals import counted_of
from otel_agents.vocabulary import KPI_METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from otel_agents.runtime import Runtime
    from otel_agents.signals import Signal

# A quarter of what a server keeps: some 10 MB of the host's memory at the most.
_KEEP: Final = 50_000


class KpiSink:
    """Folds the events of a process, its scopes' too."""

    name = "kpis"

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._kpis = Kpis(keep=_KEEP)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._last: dict[str, Any] = {}
        self._until = 0.0

    def write(self, signals: Sequence[Signal]) -> None:
        """Take signals in; those that are no events change nothing."""
        if self._pid != os.getpid():  # a forked child counts what it does itself
            self._begin()
        with self._lock:
            for signal in signals:
                event = counted_of(signal)
                if event is not None:
                    self._kpis.apply(event)

    def close(self) -> None:
        """Keep what there is: it can be asked for still."""

    def reading(self) -> dict[str, Any]:
        """Return the six KPIs, None where there is nothing to count, and `counts`."""
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            return self._kpis.reading()

    def gauge(self, name: str) -> float | None:
        """Return one KPI as it was within the last second: six gauges are read at once."""
        now = time.monotonic()
        if now >= self._until or not self._last:
            self._last, self._until = self.reading(), now + 1.0
        value: float | None = self._last[name]
        return value


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
        value = sink.gauge(name)
        return [] if value is None else [((), value)]

    return read
