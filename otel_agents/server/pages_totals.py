"""What the last day came to, and each of the last two weeks: the header of the list of runs."""

from __future__ import annotations

import time
from collections import Counter
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar

from otel_agents.state.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_agents.store import Store

Sum = TypeVar("Sum")

_DAY: Final = 86_400
_DAYS: Final = 14
_SAMPLE: Final = 200  # of the day's runs, the newest: the share of failures is taken from them
_FRESH: Final = 2.0  # seconds that a sum is shown before it is made anew
_SLOW: Final = 60.0  # the same, for sums over weeks


class Totals:
    """Sums over many runs, kept for a moment: every open page asks for them at every change."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = Lock()
        self._kept: dict[str, tuple[float, Any]] = {}

    def day(self) -> dict[str, Any]:
        """Return the sums of the last 24 hours."""
        return self._fresh("day", _FRESH, self._day)

    def days(self) -> list[dict[str, Any]]:
        """Return runs, spend and tokens of each of the last days, the oldest first."""
        return self._fresh("days", _SLOW, self._days)

    def workflows(self) -> list[str]:
        """Return the names of the workflows that have run."""
        return self._fresh("workflows", _SLOW, self._workflows)

    def _fresh(self, name: str, seconds: float, make: Callable[[], Sum]) -> Sum:
        with self._lock:
            made, kept = self._kept.get(name, (0.0, None))
            # An empty sum is not kept: the first run is to be seen at once.
            if kept and time.monotonic() - made <= seconds:
                found: Sum = kept
                return found
            value = make()
            self._kept[name] = (time.monotonic(), value)
            return value

    def _day(self) -> dict[str, Any]:
        since = _ago(_DAY)
        sample = self._store.runs(since=since, limit=_SAMPLE)
        states = Counter(run["status"] for run in sample["items"])
        bad = states["failed"] + states["lost"]
        over = bad + states["succeeded"] + states["canceled"]
        items = self._store.usage(by="workflow", since=since)["items"]
        costs = [item["cost_usd"] for item in items if item["cost_usd"] is not None]
        return {
            # Past the sample only runs that spent something are counted: the sums know no others.
            "runs": max(len(sample["items"]), sum(item["runs"] for item in items)),
            "running": self._store.runtime_status()["running_runs"],
            "waiting": states["waiting"],
            "cost_usd": sum(costs) if costs else None,
            "unpriced_tokens": sum(item["unpriced_tokens"] for item in items),
            "tokens": sum(item["usage"]["total_tokens"] for item in items),
            "cached": sum(item["usage"]["cache_read_tokens"] for item in items),
            "failed": bad,
            "failure_share": bad / over if over else None,
            "sampled": sample["next_cursor"] is not None,
        }

    def _days(self) -> list[dict[str, Any]]:
        items = self._store.usage(by="day", since=_ago(_DAY * _DAYS))["items"]
        return [
            {
                "day": item["key"],
                "runs": item["runs"],
                "usd": item["cost_usd"],
                "tokens": item["usage"]["total_tokens"],
            }
            for item in sorted(items, key=lambda each: str(each["key"]))
        ]

    def _workflows(self) -> list[str]:
        return sorted(str(item["key"]) for item in self._store.usage(by="workflow")["items"])


def _ago(seconds: int) -> str:
    return rfc3339(time.time_ns() - seconds * 1_000_000_000)
