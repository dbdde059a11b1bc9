"""One ledger: the limits of a key, what was spent, and what of that is to be told."""

from __future__ import annotations

import time
from math import inf
from typing import TYPE_CHECKING, Final

from otel_agents.state.budgets import LEVELS, Amounts, Crossing, Limit, level_of, merge

if TYPE_CHECKING:
    from otel_agents.scope import Scope
    from otel_agents.state.budgets import Key, Level, Term

# A sum of binary fractions can be this much below what was spent.
NOISE: Final = 1 + 1e-9
NOTHING: Final = Amounts()


class Open:
    """A scope that a ledger is open for; `counts` where no scope around it is another one's."""

    __slots__ = ("counts", "group", "own", "perf", "scope", "start")

    def __init__(self, scope: Scope, group: str, *, own: bool, counts: bool) -> None:
        now = time.time_ns()
        self.scope = scope
        self.group = group
        self.own = own
        self.counts = counts
        self.start: int = now if scope.dated is None else scope.dated
        self.perf = time.perf_counter_ns() - (now - self.start)

    def seconds(self, *, ending: bool = False) -> float:
        """Return how long the scope has taken, without the time it waited for humans."""
        if not self.counts:
            return 0.0
        scope = self.scope
        dated = scope.dated if ending else None
        taken = time.perf_counter_ns() - self.perf if dated is None else dated - self.start
        waited = 0.0 if scope.waits is None else scope.waits.seconds(self.start + taken)
        return max(0.0, taken / 1e9 - waited)


class Ledger:
    """What may be spent under one key, and what was; changed under the lock of `Ledgers`.

    `limits` is replaced, never changed. `next` is by limit the amount that is to be told next.
    """

    __slots__ = (
        "enforced",
        "group",
        "key",
        "label",
        "limits",
        "next",
        "open",
        "seconds",
        "timed",
        "tokens",
        "told",
        "usd",
    )  # fmt: skip

    def __init__(self, key: Key, label: str, before: Amounts, told: set[Crossing]) -> None:
        self.key = key
        self.label = label
        self.group = ""
        self.usd, self.tokens, self.seconds = before
        self.told = told
        self.limits: dict[Term, Limit] = {}
        self.next: dict[Term, float] = {}
        self.enforced: tuple[tuple[str, float], ...] = ()
        self.timed = False
        self.open: dict[str, Open] = {}

    def limit(self, more: dict[Term, Limit]) -> None:
        """Merge limits into those in force; those of scopes that are over do not count."""
        limits = dict(self.limits) if self.open else {}
        merge(limits, more.items())
        self.limits = limits
        self.next = dict.fromkeys(limits, 0.0)
        self.enforced = tuple(
            (unit, one.limit) for (unit, _), one in limits.items() if one.enforced
        )
        self.timed = any(unit == "second" for unit, _ in limits)

    def spent(self, unit: str) -> float:
        """Return what was spent of a unit so far."""
        if unit == "USD":
            return self.usd
        if unit == "token":
            return self.tokens
        return self.seconds + sum([one.seconds() for one in list(self.open.values())])

    def crossed(self, more: Amounts = NOTHING) -> list[tuple[Crossing, float]]:
        """Return what is to be told now, with what was spent; it counts as told from then on.

        `more` is what is being spent, and not counted yet.
        """
        found = []
        for term, due in self.next.items():
            unit = term[0]
            spent = self.spent(unit) + more.of(unit)
            if spent * NOISE >= due:
                limit = self.limits[term]
                level = level_of(spent, limit)
                found += [(one, spent) for one in self._new(unit, limit, level)]
                below = {"within": limit.limit * limit.warn_at, "warning": limit.limit}
                self.next[term] = below.get(level, inf)
        return found

    def pause(self) -> float:
        """Return in how many seconds at the earliest a limit of time is to be told of."""
        if not self.timed:
            return inf
        due = min([due for (unit, _), due in self.next.items() if unit == "second"], default=inf)
        counting = sum([one.counts for one in self.open.values()])
        return (due - self.spent("second")) / counting if counting and due < inf else inf

    def _new(self, unit: str, limit: Limit, level: Level) -> list[Crossing]:
        task = self.key[1] if self.key[0] == "task" else ""
        reached = LEVELS[1 : LEVELS.index(level) + 1]
        said = [Crossing(self.label, unit, one, limit.limit, task) for one in reached]
        new = [one for one in said if one not in self.told]
        self.told.update(new)
        return new

    def state(self) -> Level:
        """Return how the worst of its budgets stands."""
        levels = [level_of(self.spent(unit), limit) for (unit, _), limit in self.limits.items()]
        return max(levels, key=LEVELS.index, default="within")
