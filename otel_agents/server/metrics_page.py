"""`/metrics` of the server: what the programs that send to it did, as Prometheus scrapes it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from starlette.responses import Response
from starlette.routing import Route

from otel_agents.boundary import boundary
from otel_agents.exposition import exposition
from otel_agents.metrics import Family, Point, labelled
from otel_agents.server.state_metrics import StateMetrics
from otel_agents.server_vocabulary import (
    SERVER_BEHIND,
    SERVER_SIGNALS,
    SERVER_UNREAD,
    SERVER_WAITING,
)
from otel_agents.signals import decode_line
from otel_agents.state.measures import Measures
from otel_agents.vocabulary import KPI_METRICS, TELEMETRY_DROPPED, Metric

if TYPE_CHECKING:
    from starlette.requests import Request

    from otel_agents.server.kpis import Readings
    from otel_agents.store import Store

PATH: Final = "/metrics"
_PAGE: Final = 1000
# How long a scraper waits for an answer, in seconds; Prometheus sends it, and 10 is its default.
_TIMEOUT: Final = "x-prometheus-scrape-timeout-seconds"
_WAITS: Final = 10.0
# The shares of this that may pass over reading, over the KPIs and over the size of the store; the
# next scrape goes on there.
_READS: Final = 0.5
_COUNTS: Final = 0.1
_SIZES: Final = 0.1

# In a program they are since its start.
_KPIS: Final = {
    name: metric._replace(brief=f"{metric.brief} Of the last 24 hours.")
    for name, metric in KPI_METRICS.items()
}


class MetricsPage:
    """The metrics of one store since it was begun with, read on at each scrape.

    Nothing is read between scrapes: who does not scrape pays nothing. A scrape reads some 40,000
    signals a second for half of the time that it has.

    Args:
        store: What is counted.
        readings: Where the KPIs of the last 24 hours are.

    """

    def __init__(self, store: Store, readings: Readings) -> None:
        self._store = store
        self._kpis = _Day(readings)
        self._measures = Measures()
        self._state = StateMetrics(store)
        self._after: int | None = None
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Count what is stored from now on."""
        _, self._after = self._store.feed_bounds()

    def route(self) -> Route:
        """Return the route `/metrics`."""
        return Route(PATH, self.answer, methods=["GET"], include_in_schema=False)

    def answer(self, request: Request) -> Response:
        """Answer a scrape, in the format that it asks for."""
        families = self.families(_patience(request))
        type_, body = exposition(families, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": type_})

    def families(self, seconds: float = _WAITS) -> list[Family]:
        """Return every metric with its state now; raises UnavailableError without the store.

        Args:
            seconds: How long the one who asks waits for it.

        """
        with self._lock:
            if self._after is None:
                self.begin()
            unread = self._read_on(seconds * _READS)
            now = time.time_ns()
            found = [_since(family) for family in self._measures.families(now)]
            counted = self._measures.applied
            found += self._state.families(now, seconds * _SIZES)
        health = self._store.health()
        dropped = [
            Point(labelled(TELEMETRY_DROPPED.labels, ("store", reason)), count)
            for reason, count in list(self._store.dropped.items())
        ]
        found += [
            _one(SERVER_SIGNALS, counted),
            _one(SERVER_UNREAD, unread),
            _one(SERVER_BEHIND, health["behind_seconds"]),
            _one(SERVER_WAITING, health["waiting"]),
            Family(TELEMETRY_DROPPED, dropped),
            *self._kpis.families(seconds * _COUNTS),
        ]
        return sorted(found, key=lambda family: family.metric.name)

    def _read_on(self, seconds: float) -> int:
        """Count what was stored since the last scrape; return how many signals that left out."""
        deadline = time.monotonic() + seconds
        after = self._after or 0
        full = True
        while full and time.monotonic() < deadline:
            rows = self._store.signal_rows(after, _PAGE)
            full = len(rows) == _PAGE
            for row in rows:
                # First: one that cannot be counted must not be tried again and again.
                after = self._after = row["seq"]
                signal = decode_line(row["body"].encode())
                if signal is not None:
                    self._measures.apply(signal)
                    self._state.hear(signal)
        _, last = self._store.feed_bounds()
        if last < after:  # the newest were deleted, or the file is another: numbers begin anew
            self._after = last
        return max(0, last - after)


class _Day:
    """The KPIs of the last 24 hours, as they were counted last.

    To count them for the first time takes long where there are many events, and a scrape must not
    wait for that: it gives what is there, and the next one more.
    """

    def __init__(self, readings: Readings) -> None:
        self._readings = readings
        self._last: dict[str, float | None] = {}
        self._counting: threading.Thread | None = None
        self._lock = threading.Lock()

    def families(self, seconds: float) -> list[Family]:
        """Return a gauge for each KPI that has something to count."""
        with self._lock:
            if self._counting is None or not self._counting.is_alive():
                self._counting = threading.Thread(
                    target=self._count, name="otel-agents-kpis", daemon=True
                )
                self._counting.start()
            counting = self._counting
        counting.join(seconds)
        return [_one(_KPIS[name], value) for name, value in self._last.items() if value is not None]

    def _count(self) -> None:
        try:
            self._last = self._readings.window("24h")["kpis"]
        except Exception as error:  # noqa: BLE001 - the rest of the page does not depend on it
            boundary.warn("otel-agents: the KPIs cannot be told: %s", error)


def _patience(request: Request) -> float:
    """Return how many seconds a scraper waits."""
    try:
        said = float(request.headers.get(_TIMEOUT, _WAITS))
    except ValueError:
        return _WAITS
    return min(said, _WAITS) if said > 0 else _WAITS


def _since(family: Family) -> Family:
    """Return a family that says from when on it counts."""
    metric = family.metric
    if metric.instrument in {"counter", "histogram"}:
        metric = metric._replace(brief=f"{metric.brief} Since the server started.")
    return Family(metric, family.points)


def _one(metric: Metric, value: float) -> Family:
    return Family(metric, [Point({}, value)])
