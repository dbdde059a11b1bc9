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
from otel_agents.event_types import ALL_TYPES
from otel_agents.signals import decode_line
from otel_agents.state.kpis import KPIS, Kpis
from otel_agents.state.kpis_signals import counted_of
from otel_agents.store.rows import short

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otel_agents.event_types import Event
    from otel_agents.store import Store

Window = Literal["1h", "24h"]

SIGNALS: Final = (
    "task", "agent.start", "agent.end", "validation.end", "human.start", "human.end", *ALL_TYPES,
)  # fmt: skip
"""The types of the signals that are counted; see `kpis_signals.counted_of`."""
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
        second for some 40,000 events.
        """
        if not self._lock.acquire(timeout=_PATIENCE):
            message = "The KPIs are being counted for the first time: ask again in a moment."
            raise UnavailableError(message)
        try:
            now = time.time()
            self._day.move(now)
            self._read(now)
            return self._fresh(window, now, self._day.fold(window))
        finally:
            self._lock.release()

    def _fresh(self, window: Window, now: float, fold: Kpis) -> dict[str, Any]:
        """Return a reading, made anew unless it took long lately or would be the same."""
        until, still, seen, kept = self._kept.get(window, (0.0, 0.0, -1, {}))
        if now < until or (fold.events == seen and now < still):
            return kept
        began = time.perf_counter()
        made = _answer(window, fold.reading(now), self._day.trend(window, now))
        took = time.perf_counter() - began
        self._kept[window] = (now + took * _SHARE, now + _STILL, fold.events, made)
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
        # Made of the slices when they are asked for, and kept until the day moves.
        self._all: Kpis | None = None
        self._hour: Kpis | None = None
        self._hours: list[dict[str, Any]] | None = None  # readings of all but the last

    def add(self, event: Event) -> None:
        """Count an event, unless it is older than a day."""
        number = min(_slice(event.time), self._at)  # some clocks are ahead of ours
        if number <= self._at - _SLICES:
            return
        self._slices.setdefault(number, Kpis()).apply(event)
        if self._all is not None:
            self._all.apply(event)
        if number <= self._at - _OF_HOUR:
            self._hours = None
        elif self._hour is not None:
            self._hour.apply(event)

    def move(self, now: float) -> None:
        """Let the day end at another moment."""
        at = _slice(now)
        if at == self._at:
            return
        self._at = at
        self._slices = {
            number: fold for number, fold in self._slices.items() if number > at - _SLICES
        }
        self._all = self._hour = self._hours = None

    def fold(self, window: Window) -> Kpis:
        """Return the fold of the day or of its last hour."""
        if window == "1h":
            if self._hour is None:
                self._hour = self._of(self._at + 1 - _OF_HOUR, _OF_HOUR)
            return self._hour
        if self._all is None:
            self._all = self._of(self._at + 1 - _SLICES, _SLICES)
        return self._all

    def trend(self, window: Window, now: float) -> dict[str, list[float | None]]:
        """Return each KPI's value in each hour of the day or five minutes of the last hour.

        The oldest is first, and the last one ends now.
        """
        if window == "1h":
            before = range(self._at + 1 - _OF_HOUR, self._at)
            readings = [self._ended(number, 1) for number in before]
            last = self._slices.get(self._at, Kpis())
        else:
            if self._hours is None:
                first = self._at + 1 - _SLICES
                before = range(first, first + _SLICES - _OF_HOUR, _OF_HOUR)
                self._hours = [self._ended(number, _OF_HOUR) for number in before]
            readings, last = self._hours, self.fold("1h")
        readings = [*readings, last.reading(now)]
        return {name: [each[name] for each in readings] for name in KPIS}

    def _ended(self, first: int, count: int) -> dict[str, Any]:
        """Return the reading of some slices at their end.

        An attempt that ended in a later one was at work until then.
        """
        return self._of(first, count).reading((first + count) * _SLICE)

    def _of(self, first: int, count: int) -> Kpis:
        numbers = range(first, first + count)
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
    return None if signal is None else counted_of(signal)


def _answer(window: str, reading: dict[str, Any], trend: dict[str, Any]) -> dict[str, Any]:
    return {
        "window": window,
        "kpis": {name: reading[name] for name in KPIS},
        "counts": reading["counts"],
        "trend": trend,
    }
