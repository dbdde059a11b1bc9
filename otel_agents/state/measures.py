"""Metrics made from signals: what a server tells Prometheus of the programs that send to it.

The same metrics as those that a program counts itself, under the same names and labels, as far as
signals tell them. Counters begin at nothing and only rise: a fold is fed with each signal once, in
the order they were stored, and signals are never looked at again.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from otel_agents.metrics import MAX_SERIES, Buckets, Family, Sums, labelled
from otel_agents.signals import LOST_AFTER_SECONDS
from otel_agents.state.decisions import VERDICTS, Decisions
from otel_agents.usage import Usage
from otel_agents.values import cut
from otel_agents.vocabulary import (
    AGENT_WAIT_DURATION,
    BUDGET_EVENTS,
    COST,
    CRITIC_DECISION,
    CRITIC_DECISIONS,
    EVENT_PAYLOAD,
    EVENT_TYPE,
    HITL_ESCALATIONS,
    KINDS,
    OUTCOMES,
    RUN_ACTIVE,
    RUNS_COMPLETED,
    SAYS,
    TASK_QUEUE,
    TOKENS,
    TOKENS_UNPRICED,
    WAITED,
)

if TYPE_CHECKING:
    from otel_agents.signals import ModelUse, Signal
    from otel_agents.vocabulary import Kind, Metric

# Scopes that are remembered: under way, and ended, of which something may come late. Those unheard
# of for longest are forgotten first.
_UNDER_WAY: Final = 50_000
_ENDED: Final = 20_000
_LONGEST: Final = 1e9  # seconds; a duration beyond is garbage
_DEAREST: Final = 1e12  # USD; a cost beyond is garbage
_MOST_TOKENS: Final = 1 << 53
_LAST_TIME: Final = 1 << 63
_MODELS: Final = 100  # of one scope
_NAME: Final = 500  # characters of a label; names come from senders
_PLACES: Final = frozenset({"workflow", "phase", "agent"})
_BUDGETS: Final = {"budget_warning": "warning", "budget_exceeded": "exceeded"}
_EPSILON: Final = 1e-12


class _Spent:
    """What was counted of one model in one scope."""

    __slots__ = ("cost", "tokens", "unpriced")

    def __init__(self) -> None:
        self.tokens: dict[str, int] = {}
        self.cost = 0.0
        self.unpriced = 0


class _Scope:
    """What has to be remembered of one scope."""

    __slots__ = ("queue", "spent")

    def __init__(self) -> None:
        self.queue: str | None = None
        self.spent: dict[tuple[str, str], _Spent] = {}


class Measures:
    """The fold. Not locked: whoever applies and reads takes turns."""

    def __init__(self) -> None:
        self.applied = 0
        self._sums: dict[str, Sums] = {}
        self._buckets: dict[str, Buckets] = {}
        self._scopes: OrderedDict[str, _Scope] = OrderedDict()
        self._ended: OrderedDict[str, _Scope] = OrderedDict()
        # Runs under way: by scope the workflow and the run, and by run when it was last heard of.
        self._open: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._heard: dict[str, int] = {}
        self._workflows: dict[str, None] = {}
        self._decisions = Decisions(_ENDED)

    def apply(self, signal: Signal) -> None:
        """Take in one signal, which must not have come before."""
        self.applied += 1
        kind = KINDS.get(signal.kind)
        if kind is not None:
            if signal.edge == "start":
                self._start(kind, signal)
            elif signal.edge == "end":
                self._end(kind, signal)
            if kind.name == "run" and signal.edge != "fact":
                self._follow(signal)
            if signal.usage is not None or signal.cost is not None:
                self._spend(signal)
            if signal.edge == "end":
                self._forget(signal.scope_id)
        self._hear(signal)
        if EVENT_TYPE.key in signal.attributes:
            self._event(signal)

    def families(self, now: int) -> list[Family]:
        """Return every metric that was told of.

        Args:
            now: The time, in nanoseconds since the epoch: a run that was not heard of for
                `LOST_AFTER_SECONDS` is not active any more.

        """
        return [
            *(one.family() for one in self._sums.values()),
            *(one.family() for one in self._buckets.values()),
            self._active(now),
        ]

    # ------------------------------------------------------------------ scopes

    def _start(self, kind: Kind, signal: Signal) -> None:
        if kind.started is not None:
            self._add(kind.started, _labels(kind.started, kind, signal))
        if kind.name == "run":
            # There at 0 before the first one ends: an increase from nothing is none to Prometheus.
            for said in dict.fromkeys(SAYS["run"].values()):
                self._add(RUNS_COMPLETED, (_name(signal.ids.workflow), said), 0)
        queue = signal.attributes.get(TASK_QUEUE.key)
        if isinstance(queue, str) and queue:
            self._scope(signal).queue = queue

    def _end(self, kind: Kind, signal: Signal) -> None:
        queue = signal.attributes.get(TASK_QUEUE.key)
        known = self._scopes.get(signal.scope_id)
        if known is not None:
            queue = queue or known.queue
        if kind.ended is not None:
            self._add(kind.ended, _labels(kind.ended, kind, signal, queue))
        seconds = signal.duration
        if kind.duration is not None and seconds is not None and seconds < _LONGEST:
            values = _labels(kind.duration, kind, signal, queue)
            waited = _waited(signal, seconds)
            labels = labelled(kind.duration.labels, values)
            self._record(kind.duration, seconds - waited, labels)
            if waited and kind.name == "agent":
                self._record(AGENT_WAIT_DURATION, waited, labels)

    def _record(self, metric: Metric, value: float, labels: dict[str, Any]) -> None:
        buckets = self._buckets.get(metric.name)
        if buckets is None:
            buckets = self._buckets[metric.name] = Buckets(metric)
        buckets.add(value, labels)

    def _scope(self, signal: Signal) -> _Scope:
        key = signal.scope_id or signal.id
        found = self._scopes.get(key)
        if found is not None:
            self._scopes.move_to_end(key)
            return found
        found = self._ended.get(key)
        if found is None:
            found = self._scopes[key] = _Scope()
            if len(self._scopes) > _UNDER_WAY:
                self._scopes.popitem(last=False)
        return found

    def _forget(self, key: str) -> None:
        """Take a scope that has ended for one of which no more is likely to come."""
        scope = self._scopes.pop(key, None)
        if scope is not None:
            self._ended[key] = scope
            if len(self._ended) > _ENDED:
                self._ended.popitem(last=False)

    def _add(self, metric: Metric, values: tuple[Any, ...], amount: float = 1) -> None:
        sums = self._sums.get(metric.name)
        if sums is None:
            sums = self._sums[metric.name] = Sums(metric, metric.labels)
        sums.add(values, amount)

    # ------------------------------------------------------------------ runs under way

    def _follow(self, signal: Signal) -> None:
        self._scope(signal)
        workflow, run = _name(signal.ids.workflow) or "", signal.ids.run_id or signal.scope_id
        if len(self._workflows) < MAX_SERIES:
            self._workflows[workflow] = None
        if signal.edge == "end":
            self._open.pop(signal.scope_id, None)
        elif signal.scope_id not in self._ended:
            # A heartbeat will do: the run may have begun before the server did.
            self._open[signal.scope_id] = workflow, run
            self._open.move_to_end(signal.scope_id)
            self._heard.setdefault(run, 0)
            if len(self._open) > _ENDED:
                _, (_, gone) = self._open.popitem(last=False)
                self._heard.pop(gone, None)

    def _hear(self, signal: Signal) -> None:
        run = signal.ids.run_id or signal.scope_id
        heard = self._heard.get(run)
        if heard is not None and heard < signal.time < _LAST_TIME:
            self._heard[run] = signal.time

    def _active(self, now: int) -> Family:
        since = now - int(LOST_AFTER_SECONDS * 1e9)
        # A sender whose clock is ahead is taken to speak now, or it would never fall silent.
        known = {run for _, run in self._open.values()}
        self._heard = {
            run: min(heard, now)
            for run, heard in self._heard.items()
            if heard >= since and run in known
        }
        for key in [key for key, (_, run) in self._open.items() if run not in self._heard]:
            del self._open[key]
        counts = dict.fromkeys(self._workflows, 0)
        for workflow, _ in self._open.values():
            counts[workflow] = counts.get(workflow, 0) + 1
        total = Sums(RUN_ACTIVE, RUN_ACTIVE.labels)
        for workflow, count in counts.items():
            total.add((workflow,), count)
        return total.family()

    # ------------------------------------------------------------------ what was spent

    def _spend(self, signal: Signal) -> None:
        """Count what a scope used since it last said so; what it says is what it used so far."""
        scope = self._scope(signal)
        usage = signal.usage or Usage()
        rest = usage.by_type()
        cost, unpriced = signal.cost or 0.0, signal.unpriced_tokens
        for use in signal.models[:_MODELS]:
            by_type = use.usage.by_type()
            self._count(scope, signal, _names(use), by_type, use.cost or 0.0, use.unpriced)
            rest = {kind: rest[kind] - by_type[kind] for kind in rest}
            cost -= use.cost or 0.0
            unpriced -= use.unpriced
        if signal.cost is None and not signal.models and not unpriced:
            unpriced = usage.total_tokens  # nobody looked a price up
        if cost > _EPSILON or unpriced > 0 or any(amount > 0 for amount in rest.values()):
            self._count(scope, signal, ("", ""), rest, cost, unpriced)

    def _count(
        self,
        scope: _Scope,
        signal: Signal,
        model: tuple[str, str],
        tokens: dict[str, int],
        cost: float,
        unpriced: int,
    ) -> None:
        spent = scope.spent.get(model)
        if spent is None:
            spent = scope.spent[model] = _Spent()
        agent, phase = _name(signal.ids.agent), _name(signal.ids.phase)
        for kind, amount in tokens.items():
            more = amount - spent.tokens.get(kind, 0)
            if 0 < more <= _MOST_TOKENS:
                spent.tokens[kind] = amount
                self._add(TOKENS, (agent, phase, *model, kind), more)
        if _EPSILON < cost - spent.cost <= _DEAREST:
            # Asked again after a refused answer or not: a signal does not say which part is which.
            self._add(COST, (agent, phase, *model, None), cost - spent.cost)
            spent.cost = cost
        if 0 < unpriced - spent.unpriced <= _MOST_TOKENS:
            self._add(TOKENS_UNPRICED, (agent, *model), unpriced - spent.unpriced)
            spent.unpriced = unpriced

    # ------------------------------------------------------------------ events

    def _event(self, signal: Signal) -> None:
        """Count what no scope tells: the events of a program."""
        type_ = signal.attributes[EVENT_TYPE.key]
        payload = signal.attributes.get(EVENT_PAYLOAD.key)
        if not isinstance(type_, str) or not isinstance(payload, dict):
            return
        status = payload.get("status")
        if type_ == CRITIC_DECISION:
            verdict = "rejected" if payload.get("rejected") else "approved"
            self._decide(payload, verdict, _name(payload.get("name")), recorded=True)
        elif type_ == "agent_completed" and isinstance(status, str) and status in VERDICTS:
            self._decide(payload, status, None, recorded=False)
        elif type_ in _BUDGETS:
            unit = _name(payload.get("unit")) or "USD"
            self._add(BUDGET_EVENTS, (_name(payload.get("scope")), unit, _BUDGETS[type_]))
        elif type_ == "validation_complete" and not signal.parent_id:
            # Where there is a scope around, that one's signal has the cost.
            cost = payload.get("cost")
            if isinstance(cost, float | int):
                self._count(_Scope(), signal, ("", ""), {}, cost, 0)
        elif type_ == "hitl_escalated" and signal.edge == "fact":
            # The start of a wait was counted as such.
            self._add(HITL_ESCALATIONS, (_name(signal.ids.workflow),))

    def _decide(
        self, payload: dict[str, Any], verdict: str, name: str | None, *, recorded: bool
    ) -> None:
        """Count a critic's decision, which may be told twice: by itself and as its agent's end."""
        agent, task = _name(payload.get("agent")), _name(payload.get("task_id"))
        if self._decisions.new(task, agent, verdict, recorded=recorded):
            self._add(CRITIC_DECISIONS, (name or agent, VERDICTS[verdict]))


def _labels(
    metric: Metric, kind: Kind, signal: Signal, queue: Any = None
) -> tuple[str | None, ...]:
    """Return the values of a metric's labels, as the program that sends the signal has them."""
    found: list[str | None] = []
    for label in metric.labels:
        if label == "result":
            outcome = signal.result if signal.result in OUTCOMES else "error"
            said = SAYS["run"] if kind.name == "run" else {}
            found.append(said.get(outcome, outcome))
        elif label in _PLACES:
            found.append(_name(getattr(signal.ids, label)))
        else:
            found.append(_name(queue if label == "queue" else signal.name))
    return tuple(found)


def _waited(signal: Signal, seconds: float) -> float:
    """Return how long a scope says that it waited for humans: no more than it took."""
    waited = signal.attributes.get(WAITED.key)
    if isinstance(waited, int | float) and 0 < waited < _LONGEST:
        return min(float(waited), max(0.0, seconds))
    return 0.0


def _names(use: ModelUse) -> tuple[str, str]:
    return _name(use.provider) or "", _name(use.model) or ""


def _name(value: Any) -> str | None:
    """Return a label's value, bounded, or None where there is none."""
    return cut(value, _NAME) if isinstance(value, str) and value else None
