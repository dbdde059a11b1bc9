"""The KPIs of the last day, the last hour and single runs, kept up to date with what is stored.

Each request reads only what was stored since the one before. The day is kept as the folds of its
five minutes: what leaves it is dropped, and the rest merges into the day's and each hour's.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, Literal

from otel_agents.errors import UnavailableError
from otel_agents.event_types import event_of
from otel_agents.signals import decode_line
from otel_agents.state.kpis import KPIS, Kpis
from otel_agents.store.rows import short

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otel_agents.event_types import Event
    from otel_agents.store import Store

Window = Literal["1h", "24h"]

SIGNALS: Final = (
    "task", "agent.start", "agent.end", "validation.end",
    "event",
)  # fmt: skip
"""The types of the signals that can be events; see `event_types.event_of`."""
HOURS: Final = 24
_SLICE: Final = 300  # seconds
_OF_HOUR: Final = 12  # slices
_SLICES: Final = HOURS * _OF_HOUR
_PAGE: Final = 1000
_RUNS: Final = 32  # whose folds are kept
_PATIENCE: Final = 10.0  # seconds to wait for another request that counts
_SHARE: Final = 10  # of the time that a reading takes, so long it is good for
_STILL: Final = 1.0  # seconds that a reading is good for while nothing happens


class Readings:
    """The readings of one store, for requests of any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._day = Day(0)
        self._seq: int | None = None  # up to which the day was counted
        self._lock_runs = threading.Lock()
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._kept: dict[str, tuple[float, float, int, dict[str, Any]]] = {}

    def window(self, window: Window) -> dict[str, Any]:
        """Return the KPIs of the last hour or day, and of each hour of the day.

        Raises UnavailableError where they are still being counted, which after a start takes a
        second for some 50,000 events.
        """
        if not self._lock.acquire(timeout=_PATIENCE):
            message = "The KPIs are being counted for the first time: ask again in a moment."
            raise UnavailableError(message)
        try:
            now = time.time()
            self._day.move(now)
            self._read(now)
            fold = self._day.hour if window == "1h" else self._day.all
            return self._fresh(window, now, fold.events)
        finally:
            self._lock.release()

    def _fresh(self, window: Window, now: float, events: int) -> dict[str, Any]:
        """Return a reading, made anew unless it took long lately or would be the same."""
        until, still, seen, kept = self._kept.get(window, (0.0, 0.0, -1, {}))
        if now < until or (events == seen and now < still):
            return kept
        began = time.perf_counter()
        fold = self._day.hour if window == "1h" else self._day.all
        made = _answer(window, fold.reading(now), self._day.trend(now))
        took = time.perf_counter() - began
        self._kept[window] = (now + took * _SHARE, now + _STILL, events, made)
        return made

    def _read(self, now: float) -> None:
        _, last = self._store.feed_bounds()
        if self._seq is None or last < self._seq:
            # A store that has fewer is another one, or somebody deleted the latest run.
            self._day = Day(now)
            for row in self._of_the_day(now, last):
                self._count(row)
            self._seq = last
        else:
            # By number, and as far as it goes: more may be there by now.
            for row in _after(self._store, self._seq):
                self._count(row)
                self._seq = row["seq"]
            self._seq = max(self._seq, last)

    def _count(self, row: dict[str, Any]) -> None:
        event = _event(row)
        if event is not None:
            self._day.add(event)

    def _of_the_day(self, now: float, last: int) -> Iterator[dict[str, Any]]:
        place = (round((now - HOURS * 3600) * 1e9), 0)
        while page := self._store.signal_rows_by_time(place, last, SIGNALS, _PAGE):
            yield from page
            place = (page[-1]["time_ns"], page[-1]["seq"])

    def run(self, run_id: str) -> dict[str, Any]:
        """Return the KPIs of a run; nothing is counted in one that there is not."""
        key = short(run_id)
        with self._lock_runs:
            first = next((row["seq"] for row in self._store.signal_rows(0, 1, run_id=key)), 0)
            kept = self._runs.pop(key, None)
            if kept is None or kept.first != first:
                kept = _Run(first)
            kept.read(self._store, key)
            if first:
                self._runs[key] = kept
            while len(self._runs) > _RUNS:
                self._runs.popitem(last=False)
            return _answer("run", kept.fold.reading(), {name: [] for name in KPIS})


class _Run:
    """The fold of a run that was asked for, as far as it was read."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.fold = Kpis()
        self._seq = 0

    def read(self, store: Store, run_id: str) -> None:
        for row in _after(store, self._seq, run_id):
            event = _event(row)
            if event is not None:
                self.fold.apply(event)
            self._seq = row["seq"]


class Day:
    """The folds of the 24 hours that end at a moment, in seconds since the epoch."""

    def __init__(self, now: float) -> None:
        self._slices: dict[int, Kpis] = {}
        self._at = _slice(now)
        self._hours: list[dict[str, Any]] | None = None  # readings of all but the last
        self.all = Kpis()
        self.hour = Kpis()

    def add(self, event: Event) -> None:
        """Count an event, unless it is older than a day."""
        number = min(_slice(event.time), self._at)  # some clocks are ahead of ours
        if number <= self._at - _SLICES:
            return
        self._slices.setdefault(number, Kpis()).apply(event)
        self.all.apply(event)
        if number > self._at - _OF_HOUR:
            self.hour.apply(event)
        else:
            self._hours = None

    def move(self, now: float) -> None:
        """Let the day end at a later moment."""
        at = _slice(now)
        if at == self._at:
            return
        self._at = at
        self._slices = {
            number: fold for number, fold in self._slices.items() if number > at - _SLICES
        }
        self._hours = None
        self.all = _merged(self._slices.values())
        self.hour = self._of_hour(HOURS - 1)

    def trend(self, now: float) -> dict[str, list[float | None]]:
        """Return each KPI's value in each hour, the last of which ends now."""
        if self._hours is None:
            self._hours = []
            for hour in range(HOURS - 1):
                # An attempt that ended in a later hour was at work to the end of this one.
                end = (self._at + 1 - (HOURS - 1 - hour) * _OF_HOUR) * _SLICE
                self._hours.append(self._of_hour(hour).reading(end))
        readings = [*self._hours, self.hour.reading(now)]
        return {name: [each[name] for each in readings] for name in KPIS}

    def _of_hour(self, hour: int) -> Kpis:
        first = self._at + 1 - (HOURS - hour) * _OF_HOUR
        numbers = range(first, first + _OF_HOUR)
        return _merged(self._slices[number] for number in numbers if number in self._slices)


def _slice(seconds: float) -> int:
    return int(seconds // _SLICE)


def _merged(folds: Iterable[Kpis]) -> Kpis:
    found = Kpis()
    for fold in folds:
        found.merge(fold)
    return found


def _after(store: Store, seq: int, run_id: str | None = None) -> Iterator[dict[str, Any]]:
    while page := store.signal_rows(seq, _PAGE, run_id=run_id, types=SIGNALS):
        yield from page
        seq = page[-1]["seq"]


def _event(row: dict[str, Any]) -> Event | None:
    signal = decode_line(row["body"].encode())
    return None if signal is None else event_of(signal)


def _answer(window: str, reading: dict[str, Any], trend: dict[str, Any]) -> dict[str, Any]:
    return {
        "window": window,
        "kpis": {name: reading[name] for name in KPIS},
        "counts": reading["counts"],
        "trend": trend,
    }
