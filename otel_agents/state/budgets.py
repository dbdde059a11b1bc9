"""Budgets of a run, folded from its signals: what may be spent, and what was.

A ledger is kept by key. Every scope whose start states limits (`BUDGET_*`) counts to the ledger of
its key, with all that was spent inside it: in its tree, or for a run in all of the run. The limits
of scopes that are open together are merged: of each unit the smallest that is enforced holds, and
a smaller one that is only told of stands beside it. `ledgers.py` keeps the same sums while a
program runs, and both judge them by `level_of`.
"""

from __future__ import annotations

from math import fsum, inf
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeGuard

import msgspec

from otel_agents.budget import SCOPES, WARN_AT
from otel_agents.state.waiting import covered
from otel_agents.vocabulary import (
    BUDGET_ENFORCED,
    BUDGET_ENFORCED_UNITS,
    BUDGET_SECONDS,
    BUDGET_SECONDS_ENFORCED,
    BUDGET_SECONDS_SPENT,
    BUDGET_TOKENS,
    BUDGET_TOKENS_ENFORCED,
    BUDGET_TOKENS_SPENT,
    BUDGET_USD,
    BUDGET_USD_ENFORCED,
    BUDGET_USD_SPENT,
    BUDGET_WARN_AT,
    WAITED,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from otel_agents.signals import Ids
    from otel_agents.state.run import RunState, Scope
    from otel_agents.vocabulary import Attribute

    Gone = Callable[[Scope], bool]
    """Says of a scope that has not ended whether it never will."""

Level = Literal["within", "warning", "exceeded"]
LEVELS: Final[tuple[Level, ...]] = ("within", "warning", "exceeded")
Term = tuple[str, bool]
"""A unit, and whether the limit in it is enforced."""
Key = tuple[str, str, str]
"""What a ledger is kept by: what the budget is for, the run's, task's or workflow's id, a name."""

LIMITS: Final[dict[str, Attribute]] = {
    "USD": BUDGET_USD, "token": BUDGET_TOKENS, "second": BUDGET_SECONDS,
}  # fmt: skip
SPENT: Final[dict[str, Attribute]] = {
    "USD": BUDGET_USD_SPENT, "token": BUDGET_TOKENS_SPENT, "second": BUDGET_SECONDS_SPENT,
}  # fmt: skip
_ENFORCED: Final[dict[str, Attribute]] = {
    "USD": BUDGET_USD_ENFORCED, "token": BUDGET_TOKENS_ENFORCED, "second": BUDGET_SECONDS_ENFORCED,
}  # fmt: skip
_GUARDED: Final = ("run", "phase", "agent", "task")
_RANKS: Final = {word: rank for rank, word in enumerate((*SCOPES, *LIMITS))}
_MOST: Final = 1e12  # of any unit; more is garbage, and infinities cannot be summed
# Sums of binary fractions: ten times 0.1 USD are 1 USD.
_NOISE: Final = 1e-9


class Limit(NamedTuple):
    """What may be spent of a unit, the share that is warned at, and whether it is enforced."""

    limit: float
    warn_at: float = WARN_AT
    enforced: bool = False


class Amounts(NamedTuple):
    """USD, tokens and seconds."""

    usd: float = 0.0
    tokens: int = 0
    seconds: float = 0.0

    def of(self, unit: str) -> float:
        """Return the amount of a unit."""
        return self.usd if unit == "USD" else self.tokens if unit == "token" else self.seconds


class Crossing(NamedTuple):
    """A limit of which an event told that it was nearly (`warning`) or wholly (`exceeded`) spent.

    `label` is what the budget is for, as metrics and events say it; `task` the task's id, by which
    tasks of one name are told apart.
    """

    label: str
    unit: str
    level: str
    limit: float
    task: str = ""


class BudgetReport(msgspec.Struct, kw_only=True):
    """A limit and what was spent of it; `share` can be above 1.

    `scope` is what it is for, with its `name` where it has one; `unit` USD, token or second.
    """

    scope: str
    name: str | None
    unit: str
    limit: float
    spent: float
    share: float
    state: str
    enforced: bool


# ---------------------------------------------------------------------- what both sides share


def amount_of(cost: float | None) -> float:
    """Return a cost as it counts: 0 where there is none, or it cannot be one."""
    return cost if cost is not None and 0 <= cost < _MOST else 0.0


def is_limit(value: object) -> TypeGuard[float]:
    """Say whether a value can be a limit: a number above 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _MOST


def level_of(spent: float, limit: Limit) -> Level:
    """Return how a budget stands: exceeded as soon as nothing is left."""
    of = spent * (1 + _NOISE)
    if of >= limit.limit:
        return "exceeded"
    return "warning" if of >= limit.limit * limit.warn_at else "within"


def merge(limits: dict[Term, Limit], more: Iterable[tuple[Term, Limit]]) -> None:
    """Merge limits into others: of a unit the smallest that is enforced, and the smallest told of.

    Where the enforced one is no greater, it is told of as well, and is the only one.
    """
    for term, limit in more:
        known = limits.get(term)
        limits[term] = limit if known is None else min(known, limit)
        unit = term[0]
        told, enforced = limits.get((unit, False)), limits.get((unit, True))
        if told is not None and enforced is not None and told.limit >= enforced.limit:
            del limits[unit, False]
            if told.limit == enforced.limit:
                share = min(told.warn_at, enforced.warn_at)
                limits[unit, True] = enforced._replace(warn_at=share)


def _enforced(attributes: dict[str, Any], unit: str) -> bool:
    units = attributes.get(BUDGET_ENFORCED_UNITS.key)
    if isinstance(units, list | tuple):
        return unit in units
    return attributes.get(BUDGET_ENFORCED.key) is True


def limits_of(attributes: dict[str, Any]) -> dict[Term, Limit]:
    """Return the limits that a scope's attributes state; unusable ones are left out."""
    found: dict[Term, Limit] = {}
    for unit, attribute in LIMITS.items():
        value = attributes.get(attribute.key)
        if value is not None and is_limit(value):
            share = attributes.get(BUDGET_WARN_AT.key)
            warn_at = share if is_limit(share) and share <= 1 else WARN_AT
            enforced = _enforced(attributes, unit)
            greater = attributes.get(_ENFORCED[unit].key) if enforced else None
            if is_limit(greater) and greater > value:
                found[unit, False] = Limit(value, warn_at)
                found[unit, True] = Limit(greater, warn_at, enforced=True)
            else:
                found[unit, enforced] = Limit(value, warn_at, enforced)
    return found


def state_limits(attributes: dict[str, Any], limits: dict[Term, Limit]) -> None:
    """Put the limits in force on the attributes that a scope starts with."""
    for (unit, enforced), limit in limits.items():
        both = enforced and (unit, False) in limits
        attribute = _ENFORCED[unit] if both else LIMITS[unit]
        attributes[attribute.key] = attribute.type(limit.limit)
    # One for all units: where they differ, what was told says which of them is nearly spent.
    attributes[BUDGET_WARN_AT.key] = max(limit.warn_at for limit in limits.values())
    units = tuple(unit for unit, enforced in limits if enforced)
    attributes[BUDGET_ENFORCED.key] = bool(units)
    if units:
        attributes[BUDGET_ENFORCED_UNITS.key] = units


def key_of(kind: str, ids: Ids, name: str | None, scope_id: str) -> Key:
    """Return the key of a scope's ledger; outside any run each scope has its own."""
    if kind == "task":
        return kind, ids.task_id or scope_id, ""
    return kind, ids.run_id or scope_id, "" if kind == "run" else name or ""


def label_of(scope: str, name: str | None) -> str:
    """Return what a budget is for, as metrics and events say it: never an id."""
    return f"{scope} {name}" if name and scope != "run" else scope


# ---------------------------------------------------------------------- the fold


class Entry:
    """One ledger of a run: its scopes, their limits now, and what was spent."""

    __slots__ = ("key", "limits", "name", "scopes", "spent")

    def __init__(self, key: Key, name: str | None) -> None:
        self.key = key
        self.name = name
        self.scopes: list[Scope] = []
        self.limits: dict[Term, Limit] = {}
        self.spent = Amounts()

    @property
    def label(self) -> str:
        """What the budget is for."""
        return label_of(self.key[0], self.name)

    def level(self, unit: str, limit: Limit, told: Iterable[Crossing]) -> Level:
        """Return how it stands, as far as is known or as was told of this limit."""
        found = level_of(self.spent.of(unit), limit)
        said = {one.level for one in self._of(limit, told)}
        return max([found, *(one for one in LEVELS if one in said)], key=LEVELS.index)

    def told(
        self, limit: Limit, told: Iterable[Crossing], spent: Mapping[Crossing, float]
    ) -> float:
        """Return how much events told was spent: more than is known where a process was killed."""
        return max((spent[one] for one in self._of(limit, told)), default=0.0)

    def _of(self, limit: Limit, told: Iterable[Crossing]) -> list[Crossing]:
        task = self.key[1] if self.key[0] == "task" else ""
        return [one for one in told if one[3:] == (limit.limit, task)]


def budgets(run: RunState, *, now: int, gone: Gone) -> list[BudgetReport]:
    """Return the budgets of a run and how they stand.

    Those that no scope states, of a workflow or told of by the program itself, are there once an
    event told of them.

    Args:
        run: The run.
        now: The time, in nanoseconds since the epoch.
        gone: Says of a scope that has not ended whether it never will.

    """
    told: dict[tuple[str, str], list[Crossing]] = {}
    for crossing in run.crossings:
        told.setdefault(crossing[:2], []).append(crossing)
    found = []
    for entry in entries(run, now=now, gone=gone).values():
        for (unit, _), limit in entry.limits.items():
            said = told.get((entry.label, unit), ())
            state = entry.level(unit, limit, said)
            name = entry.name if entry.key[0] != "run" else None
            spent = max(entry.spent.of(unit), entry.told(limit, said, run.crossings))
            found.append(_report((entry.key[0], name), unit, limit, spent, state))
    known = {(label_of(one.scope, one.name), one.unit) for one in found}
    for (label, unit), crossings in told.items():
        if (label, unit) not in known:
            last = max(crossings, key=lambda one: (run.crossings[one], LEVELS.index(one[2])))
            word, _, rest = label.partition(" ")
            place = (word, rest or None) if word in SCOPES else (label, None)
            spent = run.crossings[last]
            found.append(_report(place, unit, Limit(last.limit), spent, last.level))
    return sorted(found, key=_order)


def _report(
    place: tuple[str, str | None], unit: str, limit: Limit, spent: float, state: str
) -> BudgetReport:
    return BudgetReport(
        scope=place[0], name=place[1], unit=unit, limit=limit.limit, spent=spent,
        share=spent / limit.limit, state=state, enforced=limit.enforced,
    )  # fmt: skip


def _order(one: BudgetReport) -> tuple[Any, ...]:
    return (
        _RANKS.get(one.scope, len(_RANKS)), one.scope, one.name or "",
        _RANKS.get(one.unit, len(_RANKS)), one.unit, one.limit, one.spent,
    )  # fmt: skip


def entries(run: RunState, *, now: int, gone: Gone) -> dict[Key, Entry]:
    """Return the ledgers of a run by key; the arguments are those of `budgets`."""
    found: dict[Key, Entry] = {}
    for kind in _GUARDED:
        for scope in run.of_kind(kind):
            if scope.start is not None and limits_of(scope.start.attributes):
                name = scope.name or None
                key = key_of(kind, scope.ids, scope.name, scope.key)
                entry = found.get(key)
                if entry is None:
                    entry = found[key] = Entry(key, name)
                entry.scopes.append(scope)
    if found:
        tree = _Tree(run, now, gone)
        for entry in found.values():
            tree.settle(entry)
    return found


class _Tree:
    """The scopes of a run, those inside each, and when each that has not ended was heard of."""

    def __init__(self, run: RunState, now: int, gone: Gone) -> None:
        self._run = run
        self._now = now
        self._gone = gone
        self._inside: dict[str, list[Scope]] = {}
        self._around: dict[str, str] = {}
        places = _places(run)
        for scope in run.scopes.values():
            above = scope.identity.parent_id
            if above not in run.scopes:
                above = _place_of(scope, places)
            self._around[scope.key] = above
            self._inside.setdefault(above, []).append(scope)

    def settle(self, entry: Entry) -> None:
        """Work out what an entry's scopes may spend, and have spent."""
        scopes = sorted(entry.scopes, key=lambda scope: (scope.started, scope.key))
        until: float = -inf
        for scope in scopes:
            if scope.started >= until:
                entry.limits.clear()  # those before are over: a new try can have other limits
            assert scope.start is not None  # noqa: S101 - `entries` saw to it
            merge(entry.limits, limits_of(scope.start.attributes).items())
            open_ = scope.end is None and not self._gone(scope)
            until = max(until, inf if open_ else self._until(scope))
        mine = {scope.key for scope in scopes}
        outer = [scope for scope in scopes if not self._is_inside(scope, mine)]
        everywhere = entry.key[0] == "run"
        counted = self._run.scopes.values() if everywhere else self._below(outer)
        spent = [scope.spent for scope in counted]
        usd = fsum(amount_of(one.cost) for one in spent)
        tokens = min(int(_MOST), sum(one.usage.total_tokens for one in spent))
        seconds = fsum(self._seconds(scope) for scope in outer)
        # A scope ends with what its ledger knows, that of runs inside this one too.
        entry.spent = Amounts(
            max([usd, *self._said(scopes, "USD")]),
            int(max([tokens, *self._said(scopes, "token")])),
            max([seconds, *self._said(scopes, "second")]),
        )

    def _said(self, scopes: list[Scope], unit: str) -> list[float]:
        said = [
            scope.end.attributes.get(SPENT[unit].key) for scope in scopes if scope.end is not None
        ]
        return [one for one in said if is_limit(one)]

    def _is_inside(self, scope: Scope, others: set[str]) -> bool:
        seen = {scope.key}
        above = self._around[scope.key]
        while above and above not in seen:
            if above in others:
                return True
            seen.add(above)
            above = self._around.get(above, "")
        return False

    def _below(self, scopes: Iterable[Scope]) -> Iterator[Scope]:
        """Yield scopes and all inside them, each once."""
        waiting = list(scopes)
        seen: set[str] = set()
        while waiting:
            scope = waiting.pop()
            if scope.key not in seen:
                seen.add(scope.key)
                yield scope
                waiting += self._inside.get(scope.key, ())

    def _until(self, scope: Scope) -> int:
        """Return up to when a scope went on, in nanoseconds since the epoch."""
        if scope.end is not None:
            return scope.started + round((scope.seconds or 0.0) * 1e9)
        if self._gone(scope):
            return max(one.last for one in self._below([scope]))
        return max(self._now, scope.started)

    def _seconds(self, scope: Scope) -> float:
        """Return how long a scope took, without the time in which it waited for humans."""
        until = self._until(scope)
        said = scope.attribute(WAITED.key)
        waited = said if scope.end is not None and is_limit(said) else self._waited(scope, until)
        return max(0.0, (until - scope.started) / 1e9 - waited)

    def _waited(self, scope: Scope, until: int) -> float:
        inside = (one for one in self._below([scope]) if one.kind == "human")
        return covered([(one.started, self._until(one)) for one in inside], scope.started, until)


_Places = dict[tuple[str, str | None], list["Scope"]]


def _places(run: RunState) -> _Places:
    """Return the agents, phases and tasks of a run by their ids and names."""
    found: _Places = {}
    for kind in ("agent", "phase", "task"):
        for scope in run.of_kind(kind):
            ids = scope.ids
            word = ids.agent_id if kind == "agent" else ids.task_id if kind == "task" else ids.phase
            found.setdefault((kind, word), []).append(scope)
    return found


def _place_of(scope: Scope, places: _Places) -> str:
    """Return what a scope is inside of by its ids, or nothing.

    Tools have no signals, and a scope of another process no parent: what is around them shows in
    the ids only.
    """
    ids, kind = scope.ids, scope.kind
    words = {
        "agent": ids.parent_agent_id if kind == "agent" else ids.agent_id,
        "phase": None if kind == "phase" else ids.phase,
        "task": None if kind == "task" else ids.task_id,
    }
    around = [
        (one.started, one.key)
        for place, word in words.items()
        for one in (places.get((place, word), ()) if word is not None else ())
        if one is not scope and (one.started, one.key) < (scope.started, scope.key)
    ]
    return max(around)[1] if around else ""


# ---------------------------------------------------------------------- what events told


def crossing_of(payload: object, level: str, task: str | None) -> tuple[Crossing, float] | None:
    """Return what the payload of an event tells, and the amount spent; None where it is none."""
    if not isinstance(payload, dict):
        return None
    label, limit, spent = (payload.get(field) for field in ("scope", "limit", "spent"))
    unit = payload.get("unit") or "USD"
    if not isinstance(label, str) or not isinstance(unit, str) or not is_limit(limit):
        return None
    by = (task or "") if label.partition(" ")[0] == "task" else ""
    return Crossing(label, unit, level, limit, by), amount_of(
        spent if isinstance(spent, int | float) else None
    )
