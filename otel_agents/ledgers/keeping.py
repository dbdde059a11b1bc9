"""The budgets of a process: what its open scopes may spend, and what they have spent.

A scope with limits, from the settings or its own fields, joins the ledger of its key (see
`state.budgets`), and so does all that is opened inside it; usage is taken from every ledger that a
scope has. A scope without ledgers costs nothing. What a run with an id of the program's own spent
before, in a process that was killed, is recalled from its signals.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from math import inf
from typing import TYPE_CHECKING, Any, Final

from otel_agents import heartbeat, runtime
from otel_agents.boundary import caught
from otel_agents.budget import WARN_AT
from otel_agents.errors import BudgetExceeded, SettingsError
from otel_agents.ledgers.gauges import Gauges
from otel_agents.ledgers.ledger import NOISE, NOTHING, Ledger, Open
from otel_agents.ledgers.telling import Place, announce, mark, owner_of, tell
from otel_agents.state.budgets import (
    LIMITS,
    SPENT,
    Amounts,
    Crossing,
    Limit,
    amount_of,
    entries,
    is_limit,
    key_of,
    label_of,
    limits_of,
    merge,
    state_limits,
)
from otel_agents.vocabulary import (
    BUDGET_LIMIT,
    BUDGET_STATE,
    BUDGET_USAGE,
    BUDGET_UTILIZATION,
    BUDGET_WARN_AT,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from otel_agents.budget import Budget
    from otel_agents.metrics import Metrics
    from otel_agents.scope import Scope
    from otel_agents.state.budgets import Key, Term
    from otel_agents.state.run import RunState
    from otel_agents.usage import Usage

    Recall = Callable[[str], RunState | None]
    """Returns what is known of a run from before, or None; it may block a while."""

# Finished runs, and workflows, whose ledgers are kept for another try.
_KEPT_RUNS: Final = 256
_KEPT_WORKFLOWS: Final = 1024
_FIELDS: Final = ("budget_usd", "budget_tokens", "budget_seconds")

_live: weakref.WeakSet[Ledgers] = weakref.WeakSet()


class _Past:
    """What a run's signals say of it from before."""

    __slots__ = ("amounts", "told")

    def __init__(self, state: RunState | None = None) -> None:
        self.amounts: dict[Key, Amounts] = {}
        self.told: list[Crossing] = []
        if state is not None:
            found = entries(state, now=state.last, gone=_always)
            self.amounts = {key: entry.spent for key, entry in found.items()}
            self.told = list(state.crossings)


def _always(_: Any) -> bool:
    return True


class _Group:
    """The ledgers of a run, or that of a workflow, and how many of their scopes are open."""

    __slots__ = ("keys", "open")

    def __init__(self) -> None:
        self.keys: set[Key] = set()
        self.open = 0


class Ledgers:
    """The budgets in force and their ledgers; see `runtime.Budgets`.

    Args:
        budgets: Those of the settings.
        recall: Finds what a run spent before; see `store.recall`.

    """

    def __init__(self, budgets: Iterable[Budget] = (), recall: Recall | None = None) -> None:
        self._settled: dict[str, list[tuple[str | None, dict[Term, Limit]]]] = {}
        for budget in budgets:
            amounts = {"USD": budget.usd, "token": budget.tokens, "second": budget.seconds}
            limits: dict[Term, Limit] = {
                (unit, budget.enforce): Limit(amount, budget.warn_at, budget.enforce)
                for unit, amount in amounts.items()
                if is_limit(amount) and amount is not None
            }
            self._settled.setdefault(budget.scope, []).append((budget.name, limits))
        self._joined = "run" in self._settled or "workflow" in self._settled
        self._recall = recall
        self._ledgers: dict[Key, Ledger] = {}
        self._timed: set[Ledger] = set()
        self._groups: dict[str, _Group] = {}
        self._runs: OrderedDict[str, None] = OrderedDict()
        self._workflows: OrderedDict[str, None] = OrderedDict()
        self._pasts: OrderedDict[str, _Past] = OrderedDict()
        self._gauges = Gauges()
        self._lock = threading.RLock()
        self._watching: weakref.ref[Metrics] | None = None
        _live.add(self)

    def after_fork(self) -> None:
        """Begin anew in a forked child: what is open is the parent's to report."""
        self._lock = threading.RLock()
        self._gauges.clear()
        for ledger in self._ledgers.values():
            ledger.open.clear()

    # ------------------------------------------------------------------ what a scope opens

    def limits(self, scope: Scope, attributes: dict[str, Any]) -> dict[Term, Limit] | None:
        """Return the limits of a scope that begins, and state them in its attributes.

        None stands for a scope that no budget concerns; a limit that cannot be is reported, and
        left out.
        """
        try:
            kind = scope.kind.name
            fields = scope._fields
            named = bool(fields) and not fields.keys().isdisjoint(_FIELDS)
            joins = self._joined and (kind == "run" or scope.parent is None)
            if not (named or joins or kind in self._settled):
                return None
            if named:
                _check(scope, attributes)
            limits = limits_of(attributes)
            merge(limits, self._limits(kind, scope.name))
            if limits:
                state_limits(attributes, limits)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("budget", error)
            return None
        return limits

    def opened(self, scope: Scope, limits: dict[Term, Limit]) -> None:
        """Give a scope that has begun its ledgers, and tell of those that are nearly empty."""
        try:
            self._open(scope, limits)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("budget", error)

    def _open(self, scope: Scope, limits: dict[Term, Limit]) -> None:
        kind, ids = scope.kind.name, scope.frame.ids
        joined: list[tuple[Key, str, dict[Term, Limit]]] = []
        if kind == "run" or (scope.parent is None and ids.run_id):
            shared: dict[Term, Limit] = {}
            merge(shared, self._limits("workflow", ids.workflow))
            if shared:
                name = ids.workflow or ""
                joined.append((("workflow", name, ""), label_of("workflow", name), shared))
        if kind != "run" and scope.parent is None and ids.run_id:
            # A part of a run, whose scope is in another process, or an agent outside any.
            whole: dict[Term, Limit] = {}
            merge(whole, self._limits("run", ids.workflow))
            if whole:
                joined.append((("run", ids.run_id, ""), "run", whole))
        if limits:
            key = key_of(kind, ids, scope.name, scope.scope_id)
            joined.append((key, label_of(kind, scope.name), limits))
        if joined:
            past = self._past(scope)
            told = []
            with self._lock:
                for key, label, more in joined:
                    told += self._join(scope, key, label, more, past, own=more is limits)
                pauses = [self._ledgers[key].pause() for key, _, _ in joined]
            for one, spent in told:
                tell(scope, one, spent)
            if (pause := min(pauses)) < inf:
                heartbeat.wake(self.look, pause)
            self._watch(runtime.get().metrics)

    def _limits(self, kind: str, name: str | None) -> Iterable[tuple[Term, Limit]]:
        for wanted, limits in self._settled.get(kind, ()):
            if wanted is None or wanted == name:
                yield from limits.items()

    def _join(
        self,
        scope: Scope,
        key: Key,
        label: str,
        limits: dict[Term, Limit],
        past: _Past,
        *,
        own: bool,
    ) -> list[tuple[Crossing, float]]:
        ledger = self._ledgers.get(key)
        if ledger is None:
            task = key[1] if key[0] == "task" else ""
            told = {one for one in past.told if (one.label, one.task) == (label, task)}
            before = past.amounts.get(key, NOTHING)
            ledger = self._ledgers[key] = Ledger(key, label, before, told)
        ledger.limit(limits)
        if ledger.timed:
            self._timed.add(ledger)
        mine = ledger not in scope.ledgers
        ledger.group = group = self._hold(ledger, scope)
        ledger.open[scope.scope_id] = Open(scope, group, own=own, counts=mine)
        if mine:
            scope.ledgers = (*scope.ledgers, ledger)
        return ledger.crossed()

    def _hold(self, ledger: Ledger, scope: Scope) -> str:
        """Keep a ledger for as long as its group has scopes that are open, and a while after."""
        if ledger.key[0] == "workflow":
            name = f"workflow {ledger.key[1]}"
        else:
            name = f"run {scope.frame.ids.run_id or scope.scope_id}"
        group = self._groups.setdefault(name, _Group())
        group.keys.add(ledger.key)
        group.open += 1
        self._runs.pop(name, None)
        self._workflows.pop(name, None)
        return name

    def _release(self, name: str) -> None:
        group = self._groups.get(name)
        if group is None:
            return
        group.open -= 1
        if group.open > 0:
            return
        finished, most = (
            (self._workflows, _KEPT_WORKFLOWS)
            if name.startswith("workflow ")
            else (self._runs, _KEPT_RUNS)
        )
        finished[name] = None
        while len(finished) > most:
            dropped, _ = finished.popitem(last=False)
            for key in self._groups.pop(dropped).keys:
                ledger = self._ledgers.get(key)
                if ledger is not None and ledger.group == dropped and not ledger.open:
                    del self._ledgers[key]
            self._pasts.pop(dropped.removeprefix("run "), None)

    # ------------------------------------------------------------------ what was before

    def _past(self, scope: Scope) -> _Past:
        run_id = scope.frame.ids.run_id
        if self._recall is None or not run_id or not _is_given(scope, run_id):
            return _Past()
        with self._lock:
            found = self._pasts.get(run_id)
        if found is None:
            try:
                found = _Past(self._recall(run_id))
            except Exception as error:  # noqa: BLE001 - then it begins with nothing
                caught("budget recall", error)
                found = _Past()
            with self._lock:
                found = self._pasts.setdefault(run_id, found)
                while len(self._pasts) > _KEPT_RUNS:
                    self._pasts.popitem(last=False)
        return found

    # ------------------------------------------------------------------ while it is open

    def spend(self, scope: Scope, usage: Usage, cost: float | None) -> None:
        """Take usage from the ledgers of a scope, and tell of those that it nearly empties."""
        try:
            usd, tokens = amount_of(cost), usage.total_tokens
            told: list[tuple[Crossing, float]] = []
            ledgers: Sequence[Any] = scope.ledgers
            with self._lock:
                for ledger in ledgers:
                    ledger.usd += usd
                    ledger.tokens += tokens
                    told += ledger.crossed()
            for one, spent in told:
                tell(scope, one, spent)
            if usage.requests:
                owner = owner_of(scope)
                if owner.kind.name != "agent" and not owner.ended:
                    owner.alive()  # an agent tells by itself what it has used, after each call
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("budget", error)

    def check(self, scope: Scope, usage: Usage | None = None, cost: float | None = None) -> None:
        """Raise BudgetExceeded where a scope's budget is spent, `usage` not counted yet with it.

        Before a call nothing may be left; with the usage of an answer that is still coming, what
        is over the limit is too much.
        """
        refused = None
        try:
            refused = self._refused(scope, usage, cost)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("budget", error)
        if refused is not None:
            raise refused

    def _refused(
        self, scope: Scope, usage: Usage | None, cost: float | None
    ) -> BudgetExceeded | None:
        ledgers: Sequence[Any] = scope.ledgers
        more = NOTHING if usage is None else Amounts(amount_of(cost), usage.total_tokens)
        for ledger in ledgers:
            if ledger.timed or usage is not None:
                with self._lock:
                    told = ledger.crossed(more)
                for one, spent in told:
                    tell(scope, one, spent)
            for unit, limit in ledger.enforced:
                spent = ledger.spent(unit)
                if usage is None:
                    over = spent * NOISE >= limit
                else:
                    spent += more.of(unit)
                    over = spent > limit * NOISE
                if over:
                    mark(scope, "budget_refused", ledger.label, unit, limit, spent)
                    return BudgetExceeded(ledger.label, unit, limit, spent)
        return None

    def look(self) -> float | None:
        """Tell of limits of time that are reached while nothing is called or ended.

        Return in how many seconds to look again, or None if that is not called for.
        """
        told: list[tuple[Place, Crossing, float]] = []
        soonest = inf
        with self._lock:
            for ledger in list(self._timed):
                if not ledger.open:
                    self._timed.discard(ledger)
                # One that ends meanwhile tells by itself.
                scope = next(
                    (one.scope for one in ledger.open.values() if not one.scope.ended), None
                )
                if scope is not None:
                    told += [
                        (Place(scope, new.task), new, spent) for new, spent in ledger.crossed()
                    ]
                    soonest = min(soonest, ledger.pause())
        for place, new, spent in told:
            announce(place, new, spent)
        return soonest if soonest < inf else None

    def closing(self, scope: Scope, attributes: dict[str, Any]) -> None:
        """Add what was spent to the attributes that a scope ends with."""
        if not scope.kind.guarded:
            return
        try:
            told: list[tuple[Crossing, float]] = []
            ledgers: Sequence[Any] = scope.ledgers
            with self._lock:
                for ledger in ledgers:
                    opened = ledger.open.pop(scope.scope_id, None)
                    if opened is None:
                        continue
                    ledger.seconds += opened.seconds(ending=True)
                    told += ledger.crossed()
                    if opened.own:
                        for unit, _ in ledger.limits:
                            attributes[SPENT[unit].key] = ledger.spent(unit)
                        attributes[BUDGET_STATE.key] = ledger.state()
                    if not ledger.open:
                        self._gauges.close(ledger)
                    self._release(opened.group)
            for one, spent in told:
                tell(scope, one, spent)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("budget", error)

    # ------------------------------------------------------------------ gauges

    def told(self, metrics: Metrics, place: tuple[str, str], limit: float, spent: float) -> None:
        """Keep what the program itself told of a budget, by label and unit, for the gauges."""
        with self._lock:
            self._gauges.tell(place, limit, spent)
        self._watch(metrics)

    def _watch(self, metrics: Metrics) -> None:
        if self._watching is None or self._watching() is not metrics:
            self._watching = weakref.ref(metrics)
            metrics.watch(BUDGET_LIMIT, lambda: self._read(0))
            metrics.watch(BUDGET_USAGE, lambda: self._read(1))
            metrics.watch(BUDGET_UTILIZATION, lambda: self._read(2))

    def _read(self, number: int) -> list[tuple[tuple[str, str], float]]:
        with self._lock:
            found = self._gauges.show(self._ledgers.values())
        values = ((place, amounts[number]) for place, amounts in found.items())
        return [(place, value) for place, value in values if value is not None]


def _check(scope: Scope, attributes: dict[str, Any]) -> None:
    """Take away limits that cannot be, and report them."""
    fields = scope._fields
    for field, attribute in zip(_FIELDS, LIMITS.values(), strict=True):
        if fields.get(field) is not None and not is_limit(attributes.get(attribute.key)):
            attributes.pop(attribute.key, None)
            _complain(scope, field, "a number above 0")
    share = attributes.get(BUDGET_WARN_AT.key)
    if fields.get("budget_warn_at") is not None and not (is_limit(share) and share <= 1):
        attributes.pop(BUDGET_WARN_AT.key, None)
        _complain(scope, "budget_warn_at", f"a share above 0 and up to 1; it is {WARN_AT}")


def _complain(scope: Scope, field: str, wanted: str) -> None:
    given = scope._fields[field]
    shown = repr(given) if isinstance(given, int | float | str) else type(given).__name__
    message = f"{scope.kind.name}: {field} must be {wanted}, not {shown[:100]}"
    caught(f"{scope.kind.name} field {field}", SettingsError(message))


def _is_given(scope: Scope, run_id: str) -> bool:
    """Say whether a run's id is the program's own, so that the run may be known from before."""
    around: Scope | None = scope
    while around is not None:
        fields = around._fields
        given = around._given_id  # noqa: SLF001
        if around.kind.name == "run":
            return bool(given or fields.get("run_id"))
        if around.parent is None:
            # An agent outside any run, or a part of a run of another process.
            return around.id != run_id or bool(given or fields.get("agent_id"))
        around = around.parent
    return False


def _after_fork() -> None:
    for ledgers in list(_live):
        ledgers.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
