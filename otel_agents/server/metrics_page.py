"""`/metrics` of the server: what the programs that send to it did, as Prometheus scrapes it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from starlette.responses import Response
from starlette.routing import Route

from otel_agents.exposition import exposition
from otel_agents.metrics import Family, Point, labelled
from otel_agents.signals import decode_line
from otel_agents.state.measures import Measures
from otel_agents.vocabulary import TELEMETRY_DROPPED, Metric

if TYPE_CHECKING:
    from starlette.requests import Request

    from otel_agents.store import Store

PATH: Final = "/metrics"
_PAGE: Final = 1000
# A scrape gives up after 10 s by default. What was not read in this time is read by the next one.
_SECONDS: Final = 2.0

SIGNALS: Final = Metric(
    "otelagents.server.signals", "counter", "{signal}", (),
    "Signals counted here: those that were stored since this server started, by whichever process.",
)  # fmt: skip
UNREAD: Final = Metric(
    "otelagents.server.signals.unread", "gauge", "{signal}", (),
    "Signals that are stored and not counted here yet.",
)  # fmt: skip
BEHIND: Final = Metric(
    "otelagents.server.behind", "gauge", "s", (),
    "How long the oldest of what was sent waits to be stored and indexed.",
)  # fmt: skip
WAITING: Final = Metric(
    "otelagents.server.waiting", "gauge", "{request}", (), "Requests that wait to be stored."
)


class MetricsPage:
    """The metrics of one store since it was begun with, read on at each scrape.

    Nothing is read between scrapes: who does not scrape pays nothing, and a scrape reads some
    hundred thousand signals in the time it has.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._measures = Measures()
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
        families = self.families()
        type_, body = exposition(families, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": type_})

    def families(self) -> list[Family]:
        """Return every metric with its state now; raises UnavailableError without the store."""
        with self._lock:
            if self._after is None:
                self.begin()
            unread = self._read_on()
            found = self._measures.families(time.time_ns())
            counted = self._measures.applied
        health = self._store.health()
        dropped = [
            Point(labelled(TELEMETRY_DROPPED.labels, ("store", reason)), count)
            for reason, count in list(self._store.dropped.items())
        ]
        found += [
            _one(SIGNALS, counted),
            _one(UNREAD, unread),
            _one(BEHIND, health["behind_seconds"]),
            _one(WAITING, health["waiting"]),
            Family(TELEMETRY_DROPPED, dropped),
        ]
        return sorted(found, key=lambda family: family.metric.name)

    def _read_on(self) -> int:
        """Count what was stored since the last scrape; return how many signals that left out."""
        deadline = time.monotonic() + _SECONDS
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
        _, last = self._store.feed_bounds()
        if last < after:  # the newest were deleted, or the file is another: numbers begin anew
            self._after = last
        return max(0, last - after)


def _one(metric: Metric, value: float) -> Family:
    return Family(metric, [Point({}, value)])
