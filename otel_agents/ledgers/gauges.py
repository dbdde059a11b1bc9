"""What the gauges of budgets show: limit, use and share, by label and unit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_agents.ledgers.ledger import Ledger

    Place = tuple[str, str]
    """What gauges tell budgets apart by: the label and the unit."""
    Shown = tuple[float, float, float | None]
    """What may be spent, what was, and the share of it."""

_MOST: Final = 10_000  # budgets that the program told of, or that were closed
# How long a budget is shown after its scope: metrics are exported each 60 s by default.
_SECONDS: Final = 90.0


class Gauges:
    """The budgets that gauges show besides the open ones; used under the lock of `Ledgers`."""

    def __init__(self) -> None:
        self._told: dict[Place, Shown] = {}
        self._closed: dict[Place, tuple[float, Shown]] = {}

    def clear(self) -> None:
        """Forget all."""
        self._told.clear()
        self._closed.clear()

    def tell(self, place: Place, limit: float, spent: float) -> None:
        """Keep what the program itself told of a budget."""
        if place in self._told or len(self._told) < _MOST:
            self._told[place] = limit, spent, spent / limit if limit else None

    def close(self, ledger: Ledger) -> None:
        """Keep for a while what a ledger came to that nothing is open for any more.

        A run can be shorter than the interval of exports.
        """
        now = time.monotonic()
        for place, shown in _shown(ledger):
            until, known = self._closed.pop(place, (now, shown))
            self._closed[place] = now + _SECONDS, _worse(shown, known) if until > now else shown
        while len(self._closed) > _MOST:
            del self._closed[next(iter(self._closed))]

    def show(self, ledgers: Iterable[Ledger]) -> dict[Place, Shown]:
        """Return what is shown of every budget, of each the most utilised that is open."""
        now = time.monotonic()
        found = dict(self._told)
        for ledger in ledgers:
            for place, shown in _shown(ledger) if ledger.open else ():
                found[place] = _worse(shown, found.get(place, shown))
        for place, (until, shown) in list(self._closed.items()):
            if until <= now:
                del self._closed[place]
            else:
                found.setdefault(place, shown)
        return found


def _shown(ledger: Ledger) -> Iterable[tuple[Place, Shown]]:
    for (unit, _), one in ledger.limits.items():
        spent = ledger.spent(unit)
        yield (ledger.label, unit), (one.limit, spent, spent / one.limit)


def _worse(one: Shown, other: Shown) -> Shown:
    return max(one, other, key=lambda shown: shown[2] or 0.0)
