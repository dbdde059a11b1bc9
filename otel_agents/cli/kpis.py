"""The KPIs of a run, for `status`: counted from its signals, or asked of a store or server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from otel_agents.cli.text import count, duration, money, percent
from otel_agents.errors import NotFoundError
from otel_agents.state.kpis import Kpis
from otel_agents.state.kpis_signals import counted_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_agents.cli.reader import Reader
    from otel_agents.signals import Signal
    from otel_agents.store import Store


class Counted:
    """The KPIs of one run as its signals come; one that comes again counts once."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._fold = Kpis()
        self._seen: set[str] = set()

    def take(self, signals: Iterable[Signal]) -> None:
        """Count those of the run among signals."""
        run_id, seen, apply = self._run_id, self._seen, self._fold.apply
        for signal in signals:
            if signal.ids.run_id != run_id or signal.id in seen:
                continue
            if (event := counted_of(signal)) is not None:
                seen.add(signal.id)
                apply(event)

    def reading(self) -> dict[str, Any]:
        """Return the KPIs as they stand now, and their counts."""
        return self._fold.reading()


class Asked:
    """The KPIs of runs as a store or a server counts them."""

    def __init__(self, source: Reader) -> None:
        from otel_agents.cli.remote import Remote
        from otel_agents.server.kpis import Readings

        self._ask: Callable[[str], Any]
        if isinstance(source, Remote):
            self._ask = source.kpis
        else:
            self._ask = Readings(cast("Store", source)).run

    def reading(self, run_id: str) -> dict[str, Any] | None:
        """Return the KPIs as they stand now, and their counts; None of an older server."""
        try:
            found = self._ask(run_id)
        except NotFoundError:
            return None
        return {**found["kpis"], "counts": found["counts"]}


def told(kpis: dict[str, Any] | None) -> list[str]:
    """Return the KPIs that have something to count, each in a few words."""
    if kpis is None:
        return []
    counts = kpis["counts"]
    said: dict[str, Callable[[Any], str]] = {
        "agent_utilization": lambda share: f"agent utilization {percent(share)}",
        "cost_per_feature": lambda usd: f"cost per feature {money(usd)}",
        "average_retry_count": lambda number: f"retries {number:.3g} a task",
        "critic_rejection_rate": lambda share: (
            f"critic rejections {percent(share)} of {count(counts['critic_decisions'])}"
        ),
        "validation_pass_rate": lambda share: (
            f"validations passed {percent(share)} of {count(counts['validations'])}"
        ),
        "time_to_completion": lambda seconds: f"time to completion {duration(seconds)}",
    }
    return [words(kpis[name]) for name, words in said.items() if kpis[name] is not None]
