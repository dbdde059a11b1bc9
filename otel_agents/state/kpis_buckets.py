"""The KPIs by the hour of their events, in UTC; a day is the merge of its hours.

An attempt that starts in one hour and ends in the next is whole in the day: a state keeps starts
and ends apart until it is read. In the hour of its end it counts by the duration that it says.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from otel_agents.state.kpis import Kpis

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_agents.event_types import Event

HOUR: Final = 3600
DAY: Final = 24 * HOUR
_LAST: Final = 253_402_300_799  # the end of the year 9999, the last a datetime can hold


def hour_of(time: float) -> str:
    """Return the hour of a time in seconds since the epoch: `2026-11-21T17:00:00`, in UTC."""
    moment = datetime.fromtimestamp(min(_LAST, max(0.0, time)), UTC)
    return f"{moment:%Y-%m-%dT%H}:00:00"


def start_of(key: str) -> float:
    """Return when the hour or day of a key begins; raises ValueError where it is none."""
    return datetime.fromisoformat(key).replace(tzinfo=UTC).timestamp()


class Buckets:
    """The KPIs of the latest hours: events older than the oldest kept are not counted.

    Bounded by `keep` hours of `Kpis`. Not for several threads at once.
    """

    def __init__(self, keep: int = 48) -> None:
        self.keep = keep
        self._hours: dict[str, Kpis] = {}

    def apply(self, event: Event) -> bool:
        """Count an event in the hour of its time; False where that is too long ago."""
        key = hour_of(event.time)
        kpis = self._hours.get(key)
        if kpis is None:
            self._hours[key] = kpis = Kpis()
            while len(self._hours) > self.keep:
                del self._hours[min(self._hours)]
            if key not in self._hours:
                return False
        kpis.apply(event)
        return True

    def hours(self) -> list[str]:
        """Return the keys of the hours that have events, the earliest first."""
        return sorted(self._hours)

    def hour(self, key: str) -> Kpis:
        """Return the state of an hour, as `hour_of` names it; it changes with new events.

        One without events has the state of no events. To read an hour that is over, give
        `Kpis.reading` its end as `now`: an attempt that was under way then did not end later.
        """
        return self._hours.get(key) or Kpis()

    def day(self, date: str) -> Kpis:
        """Return the state of a day, as `2026-11-21`: the merge of its hours that are kept."""
        return self._merged(key for key in self._hours if key.startswith(date))

    def last(self, hours: int, now: float) -> Kpis:
        """Return the merge of so many hours, of which the last is that of `now`."""
        earliest = hour_of(now - (hours - 1) * HOUR)
        latest = hour_of(now)
        return self._merged(key for key in self._hours if earliest <= key <= latest)

    def _merged(self, keys: Iterable[str]) -> Kpis:
        merged = Kpis()
        for key in sorted(keys):
            merged.merge(self._hours[key])
        return merged
