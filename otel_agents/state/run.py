"""Runs, folded from signals.

The same set of signals gives the same state, whatever their order and however often each comes:
of the signals of one scope the earliest start, the latest end and the latest report of usage are
kept, and everything else is a minimum, a maximum or a union.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_agents.state.budgets import crossing_of
from otel_agents.usage import Usage
from otel_agents.vocabulary import (
    DECISION,
    EVENT_PAYLOAD,
    KINDS,
    OUTCOMES,
    PROGRESS_DONE,
    PROGRESS_TOTAL,
    Outcome,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from otel_agents.signals import Ids, Signal
    from otel_agents.state.budgets import Crossing

NOTHING: Final = Usage()
# A signal dated outside this range, in nanoseconds, is garbage that arithmetic could choke on.
_LAST_TIME: Final = 1 << 63
_LONGEST: Final = 1e9  # seconds; the same for durations
_OUTCOMES: Final[dict[str, Outcome]] = {outcome: outcome for outcome in OUTCOMES}
_VERDICTS: Final = frozenset(kind.name for kind in KINDS.values() if kind.judges)
_CROSSINGS: Final = {"budget_warning": "warning", "budget_exceeded": "exceeded"}


def _order(signal: Signal) -> tuple[int, str]:
    """Return what signals are put in order by: two of the same time still have an order."""
    return signal.time, signal.id


class Spent(NamedTuple):
    """Usage, its cost in USD where any of it has a price, and the tokens that have none."""

    usage: Usage
    cost: float | None
    unpriced: int


_NOTHING_SPENT: Final = Spent(NOTHING, None, 0)


class Scope:
    """What the signals of one scope said.

    `first` and `last` are the times of its earliest and latest signal, in nanoseconds since the
    epoch. `best` is the highest share of its work that was reported done, 0 to 1, with the time
    it was first reached, negated so that the greater pair is the better one.
    """

    __slots__ = ("best", "end", "first", "key", "kind", "last", "said", "start", "told")

    def __init__(self, key: str, signal: Signal) -> None:
        self.key = key
        self.kind = signal.kind
        self.start: Signal | None = None
        self.end: Signal | None = None
        self.told: Signal | None = None
        self.said = signal
        self.first = signal.time
        self.last = signal.time
        self.best: tuple[float, int] | None = None

    def apply(self, signal: Signal) -> None:
        """Take in one more signal of the scope."""
        time, edge = signal.time, signal.edge
        # Comparing takes a third of the time of min and max, and ten thousand signals come by.
        if time < self.first:  # noqa: PLR1730
            self.first = time
        if time > self.last:  # noqa: PLR1730
            self.last = time
        if edge == "start":
            self.start = signal if self.start is None else min(self.start, signal, key=_order)
        elif edge != "progress":
            self.end = signal if self.end is None else max(self.end, signal, key=_order)
        else:
            self.said = min(self.said, signal, key=_order)
            if signal.usage is not None:
                self.told = signal if self.told is None else max(self.told, signal, key=_order)
        if signal.attributes and (share := _share(signal.attributes)) is not None:
            found = (share, -time)
            self.best = found if self.best is None else max(self.best, found)

    @property
    def identity(self) -> Signal:
        """The signal that says what the scope is: its start, or the next best that was seen."""
        return self.start or self.end or self.said

    @property
    def name(self) -> str:
        """The scope's name, or nothing."""
        return self.identity.name

    @property
    def ids(self) -> Ids:
        """Where the scope is in its run."""
        return self.identity.ids

    @property
    def started(self) -> int:
        """When the scope started; from its duration where the start itself was not seen."""
        if self.start is not None:
            return self.start.time
        seconds = self.seconds_said
        if self.end is not None and seconds is not None:
            return max(0, min(self.first, self.end.time - round(seconds * 1e9)))
        return self.first

    @property
    def seconds_said(self) -> float | None:
        """The duration that the end states, or None."""
        seconds = None if self.end is None else self.end.duration
        return seconds if seconds is not None and 0 <= seconds < _LONGEST else None

    @property
    def outcome(self) -> Outcome | None:
        """How the scope ended, or None while it has not; an unknown word is an error."""
        if self.end is None:
            return None
        return _OUTCOMES.get(self.end.result, "error")

    @property
    def seconds(self) -> float | None:
        """How long the scope took, or None while it has not ended."""
        if self.end is None:
            return None
        seconds = self.seconds_said
        return max(0, self.end.time - self.started) / 1e9 if seconds is None else seconds

    @property
    def spent(self) -> Spent:
        """What the scope itself used, without those inside it: what its end says, or so far."""
        for signal in (self.end, self.told):
            if signal is not None and (signal.usage is not None or signal.cost is not None):
                usage, unpriced = signal.usage or NOTHING, signal.unpriced_tokens
                if signal.cost is None and not unpriced:
                    # Nobody looked a price up. A sum that passed over it would be too small.
                    unpriced = usage.total_tokens
                return Spent(usage, signal.cost, unpriced)
        return _NOTHING_SPENT

    def attribute(self, key: str) -> Any:
        """Return an attribute as it was said last, or None."""
        for signal in (self.end, self.told, self.start):
            if signal is not None and key in signal.attributes:
                return signal.attributes[key]
        return None


def is_heartbeat(signal: Signal) -> bool:
    """Say whether a signal of progress says no more than that a run or worker lives."""
    return signal.kind == "worker" or (signal.kind == "run" and not signal.attributes)


def _share(attributes: dict[str, Any]) -> float | None:
    """Return the share of work that attributes report done, 0 to 1, or None."""
    done, total = attributes.get(PROGRESS_DONE.key), attributes.get(PROGRESS_TOTAL.key)
    if not isinstance(done, int | float) or not isinstance(total, int | float) or total <= 0:
        return None
    try:
        return max(0.0, min(done, total) / total)
    except OverflowError:
        return None


class RunState:
    """What is known of one run: its scopes by id, and when anything was heard of it.

    A fact such as a gate's result counts as a scope that was only seen to end.

    `changes` counts the signals taken in; whoever watches a run looks there whether to look again.
    `crossings` are the budgets' limits of which an event told, each with what was spent then;
    `answers` what a human said first to each wait, by its scope: when, in which signal, and what.
    """

    __slots__ = (
        "_kinds", "_told", "_used", "answers", "changes", "crossings", "first", "id", "last",
        "scopes",
    )  # fmt: skip

    def __init__(self, run_id: str, signal: Signal) -> None:
        self.id = run_id
        self.first = signal.time
        self.last = signal.time
        self._told = 0
        # By run scope the most that its heartbeats said it used, and when that was said first.
        self._used: dict[str, tuple[int, int, int]] = {}
        self.scopes: dict[str, Scope] = {}
        self.crossings: dict[Crossing, float] = {}
        self.answers: dict[str, tuple[int, str, str]] = {}
        self._kinds: dict[str, list[Scope]] = {}
        self.changes = 0

    def apply(self, signal: Signal) -> None:
        """Take in one more signal of the run."""
        self.changes += 1
        time = signal.time
        if time < self.first:  # noqa: PLR1730
            self.first = time
        if time > self.last:  # noqa: PLR1730
            self.last = time
        if signal.edge == "progress" and is_heartbeat(signal):
            if signal.usage is not None:
                found = signal.usage.requests, signal.usage.total_tokens, -time
                self._used[signal.scope_id] = max(found, self._used.get(signal.scope_id, found))
        elif time > self._told:
            self._told = time
        if signal.edge == "fact" and signal.kind not in _VERDICTS:
            if signal.kind in _CROSSINGS:
                self._cross(signal)
            elif signal.kind == "human":
                self._answer(signal)
            return
        key = signal.scope_id or signal.id
        scope = self.scopes.get(key)
        if scope is None:
            scope = self.scopes[key] = Scope(key, signal)
            self._kinds.setdefault(scope.kind, []).append(scope)
        scope.apply(signal)

    def _cross(self, signal: Signal) -> None:
        payload, level = signal.attributes.get(EVENT_PAYLOAD.key), _CROSSINGS[signal.kind]
        found = crossing_of(payload, level, signal.ids.task_id)
        if found is not None:
            crossing, spent = found
            self.crossings[crossing] = max(spent, self.crossings.get(crossing, spent))

    def _answer(self, signal: Signal) -> None:
        said = signal.attributes.get(DECISION.key)
        if isinstance(said, str) and said:
            found = signal.time, signal.id, said
            self.answers[signal.scope_id] = min(found, self.answers.get(signal.scope_id, found))

    def of_kind(self, kind: str) -> Sequence[Scope]:
        """Return the scopes of a kind, in no order."""
        return self._kinds.get(kind, ())

    @property
    def told(self) -> int:
        """When the run last told of anything but that it lives; its start where it never did."""
        used = (-found[2] for found in self._used.values())
        return max(self._told, *used, self.first) if self._used else max(self._told, self.first)

    @property
    def tries(self) -> list[Scope]:
        """The scopes that each were the run as a whole, the last to start last.

        More than one if the run was resumed. An agent called outside any run is a run of its own,
        and so are those that went on with it when a human had answered.
        """
        found = [
            scope for scope in self.of_kind("run") if scope.identity.parent_id not in self.scopes
        ]
        agents = self.of_kind("agent")
        if not found and any(scope.ids.agent_id == self.id for scope in agents):
            found = [scope for scope in agents if scope.identity.parent_id not in self.scopes]
        return sorted(found, key=lambda scope: (scope.started, scope.key))

    @property
    def main(self) -> Scope | None:
        """The scope that speaks for the run: of the last try. None if none was seen yet."""
        tries = self.tries
        return tries[-1] if tries else None

    @property
    def started(self) -> int:
        """When the run first started, as far as is known."""
        tries = self.tries
        return tries[0].started if tries else self.first

    @property
    def workflow(self) -> str:
        """The workflow's name, or that of the agent that is a run of its own."""
        main = self.main
        scope = main or min(self.scopes.values(), key=lambda s: (s.started, s.key), default=None)
        if scope is None:
            return ""
        return scope.ids.workflow or (main.name if main is not None else "")


class Runs:
    """All runs that were heard of, by id."""

    def __init__(self) -> None:
        self.by_id: dict[str, RunState] = {}

    def apply(self, signal: Signal) -> RunState | None:
        """Take in one signal; return the run it belongs to, or None if to none."""
        run_id = signal.ids.run_id
        if not run_id or not 0 <= signal.time < _LAST_TIME:
            return None
        run = self.by_id.get(run_id)
        if run is None:
            run = self.by_id[run_id] = RunState(run_id, signal)
        run.apply(signal)
        return run

    @property
    def latest(self) -> RunState | None:
        """The run that started last, a resumed one counting from its resumption."""
        return max(self.by_id.values(), key=_recency, default=None)


def _recency(run: RunState) -> tuple[int, str]:
    main = run.main
    return (run.first if main is None else main.started), run.id


def fold(signals: Iterable[Signal]) -> Runs:
    """Return the runs that signals tell of."""
    runs = Runs()
    for signal in signals:
        runs.apply(signal)
    return runs
