"""One reading of a run at one time: statuses, durations, sums and estimates, ready to be shown.

Times are nanoseconds since the epoch, durations seconds, shares 0 to 1.
"""

from __future__ import annotations

from collections import Counter
from math import fsum
from typing import TYPE_CHECKING, Final

import msgspec

from otel_agents.signals import LOST_AFTER_SECONDS, Failure
from otel_agents.state.bill import Bill
from otel_agents.state.budgets import BudgetReport, budgets
from otel_agents.state.estimate import NO_HISTORY, History, remaining, share
from otel_agents.state.times import rfc3339
from otel_agents.state.waiting import Waiting, held, is_deferred
from otel_agents.usage import Usage
from otel_agents.vocabulary import (
    AGENT_ATTEMPT,
    DECISION,
    DELIVERY_CI,
    DELIVERY_URL,
    ITERATION_MAX,
    REQUEST_MODEL,
    RUN_GOAL,
    SAYS,
    TASK_STATE,
    WAIT_ID,
    WAIT_PRIORITY,
    WAIT_TOOL,
    Outcome,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_agents.state.run import RunState, Scope, Spent

    # Says whether a process lives, or None where it cannot: (host, pid, seen at) as `liveness`.
    Alive = Callable[[str, int, int], bool | None]

_UNFINISHED: Final = Usage(complete=False)
_CHECKED: Final = ("gate", "validation", "delivery", "human")
# The status of a phase is that of its worst scope in the latest iteration.
_WORST_FIRST: Final = ("failed", "cancelled", "completed", "skipped")


class AgentReport(msgspec.Struct, kw_only=True):
    """One attempt of an agent. `id` is the attempt's, `key` that of its scope.

    Of its `seconds` it was `waited` for humans.
    """

    key: str
    id: str
    name: str
    phase: str
    iteration: int | None
    status: str
    attempt: int
    parent_id: str | None
    model: str
    started: int
    seconds: float
    usage: Usage
    usd: float | None
    unpriced: int
    error: Failure | None
    waited: float = 0.0


class PhaseReport(msgspec.Struct, kw_only=True):
    """A phase, all its passes taken together; `started` is None while it is pending.

    Of its `seconds` humans were `waited` for.
    """

    name: str
    status: str
    share: float | None = None
    started: int | None = None
    ended: int | None = None
    seconds: float | None = None
    iterations: int = 0
    agents: dict[str, int] = {}
    usage: Usage = Usage()
    usd: float | None = None
    unpriced: int = 0
    error: Failure | None = None
    waited: float = 0.0


class Check(msgspec.Struct, kw_only=True):
    """A gate, validation, delivery or wait for a human: how it went, each time it came up.

    `outcomes` are in the order of time; None is one that is still open. `answered` says of each
    wait for a human whether there was an answer.
    """

    kind: str
    name: str
    phase: str
    outcomes: list[Outcome | None]
    seconds: float
    detail: str
    error: Failure | None
    answered: list[bool] = []


class WaitReport(msgspec.Struct, kw_only=True):
    """A human who is waited for, since a time; `id` is what whoever answers names the wait by.

    `decision` is what the human said where nobody has taken that yet.
    """

    id: str
    reason: str
    since: int
    priority: str
    phase: str
    agent: str
    tool: str
    decision: str = ""


class RunReport(msgspec.Struct, kw_only=True):
    """A run. `updated` is when anything was last heard of it, `seconds` how long it has taken.

    Of these, humans were `waited` for; `waits` are those that are waited for now, the first to be
    asked first.
    """

    id: str
    workflow: str
    status: str
    share: float | None
    eta: float | None
    started: int
    updated: int
    ended: int | None
    seconds: float
    goal: str
    iteration: int | None
    iterations: int | None
    phases: list[PhaseReport]
    agents: list[AgentReport]
    checks: list[Check]
    tasks: dict[str, int]
    usage: Usage
    usd: float | None
    unpriced: int
    error: Failure | None
    budgets: list[BudgetReport] = []
    waited: float = 0.0
    waits: list[WaitReport] = []

    @property
    def over(self) -> bool:
        """Nothing more is to come."""
        return self.status not in {"running", "waiting"}


def report(run: RunState, *, now: int, alive: Alive, history: History = NO_HISTORY) -> RunReport:
    """Read a run as it stands at a time.

    Args:
        run: The run.
        now: The time, in nanoseconds since the epoch.
        alive: Says whether a process lives; see `liveness.alive`.
        history: What earlier runs of the workflow took; see `estimate.history`.

    """
    return _Reading(run, now, alive, history).run()


class _Reading:
    """The run, the time, and what both together say of every scope that has not ended."""

    def __init__(self, run: RunState, now: int, alive: Alive, history: History) -> None:
        self.state = run
        self.now = now
        self.history = history
        self.main = run.main
        self._alive = alive
        self._lives: dict[tuple[str, int], bool | None] = {}
        self.outcome = None if self.main is None else self.main.outcome
        self.lost = None if self.outcome is not None else self._lost()
        self._resumed = len(run.tries) > 1
        # It ended, but not what it asks of humans: it is not over.
        self.held = held(run)
        ended = self.main.end if self.main is not None and not self.held else None
        # The time up to which an open scope can be said to have gone on.
        self.until = run.last if self.lost else now if ended is None else ended.time
        self.ended = None if ended is None else ended.time
        over = self.lost is not None or ended is not None
        self.waiting = Waiting(run, self.until, None if over else self._given_up)
        self.scopes = sorted(run.scopes.values(), key=lambda scope: (scope.started, scope.key))
        self.spent = {scope.key: self._spent(scope) for scope in self.scopes}

    def _living(self, scope: Scope) -> bool | None:
        said = scope.identity
        process = said.host, said.pid
        if process not in self._lives:
            self._lives[process] = self._alive(said.host, said.pid, scope.first)
        return self._lives[process]

    def _lost(self) -> Failure | None:
        """Say why a run that has not ended will not, or None where it may yet."""
        main = self.main
        living = None if main is None else self._living(main)
        if main is not None and living is False:
            said = main.identity
            return Failure("lost", f"process {said.pid} on {said.host} is gone")
        if self.now - self.state.last <= LOST_AFTER_SECONDS * 1e9:
            return None
        if main is not None and main.kind == "agent" and living:
            return None  # an agent outside any run has no heartbeat, and a model may take long
        return Failure("lost", f"no sign of life since {rfc3339(self.state.last)}")

    def _given_up(self, scope: Scope) -> bool:
        """Say whether a scope that has not ended never will."""
        if scope.kind == "human" and is_deferred(scope) and self.lost is None:
            # It outlives its process; what resumed the run has taken it over.
            main = self.main
            early = main is not None and scope.started < main.started
            return early or (self.outcome is not None and not self.held)
        if self.lost is not None or self.outcome is not None:
            return True
        living = self._living(scope)
        if living is False:
            return True
        # Left over from a try before the run was resumed, as far as one can tell?
        main = self.main
        return self._resumed and not living and main is not None and scope.started < main.started

    def _open(self, scope: Scope) -> bool:
        return scope.end is None and not self._given_up(scope)

    def _spent(self, scope: Scope) -> Spent:
        """Return what a scope used; of a lost agent some may never have been reported."""
        spent = scope.spent
        if scope.kind == "agent" and scope.end is None and self._given_up(scope):
            return spent._replace(usage=spent.usage + _UNFINISHED)
        return spent

    def _seconds(self, scope: Scope) -> float:
        known = scope.seconds
        return max(0, self.until - scope.started) / 1e9 if known is None else known

    def run(self) -> RunReport:
        """Return the reading."""
        state, main = self.state, self.main
        bill = Bill()
        for spent in self.spent.values():
            bill.add(spent)
        waits = self._waits()
        waiting = bool(waits)
        if self.held:
            status = "waiting"
        elif self.outcome is not None:
            status = SAYS["run"][self.outcome]
        else:
            status = "lost" if self.lost else "waiting" if waiting else "running"
        error = self.lost
        if main is not None and main.end is not None:
            error = main.end.error
        numbers = [n for scope in self.scopes if (n := scope.ids.iteration) is not None]
        done = share(state, self.history)
        eta = None
        if status == "running":
            eta = remaining(state, self.now, self.history, self.waiting)
        seconds = self._whole_seconds()
        agents = [self._agent(s) for s in self.scopes if s.kind == "agent"]
        return RunReport(
            id=state.id,
            workflow=state.workflow,
            status=status,
            share=done,
            eta=eta,
            started=state.started,
            updated=state.last,
            ended=self.ended,
            seconds=seconds,
            goal=_text(main, RUN_GOAL.key),
            iteration=max(numbers, default=None),
            iterations=self._most_iterations(),
            phases=self._phases(agents),
            agents=agents,
            checks=self._checks(),
            tasks=self._tasks(),
            usage=bill.usage,
            usd=bill.usd,
            unpriced=bill.unpriced,
            error=error,
            budgets=budgets(state, now=self.until, gone=self._given_up),
            waited=min(seconds, self.waiting.between(state.started, self.until)),
            waits=waits,
        )

    def _whole_seconds(self) -> float:
        """Return how long the run has taken; a clock that was set meanwhile does not count."""
        main = self.main
        if main is not None and self.ended is not None and not self._resumed:
            return main.seconds or 0.0
        return max(0, self.until - self.state.started) / 1e9

    def _waits(self) -> list[WaitReport]:
        return [
            WaitReport(
                id=_text(scope, WAIT_ID.key) or scope.key,
                reason=scope.name,
                since=scope.started,
                priority=_text(scope, WAIT_PRIORITY.key),
                phase=scope.ids.phase or "",
                agent=scope.ids.agent or "",
                tool=_text(scope, WAIT_TOOL.key),
                decision=self.state.answers[scope.key][2]
                if scope.key in self.state.answers
                else "",
            )
            for scope in self.scopes
            if scope.kind == "human" and self._open(scope)
        ]

    def _most_iterations(self) -> int | None:
        for scope in (self.main, *reversed(self.state.of_kind("iteration"))):
            most = None if scope is None else scope.attribute(ITERATION_MAX.key)
            if isinstance(most, int):
                return most
        return None

    def _agent(self, scope: Scope) -> AgentReport:
        outcome, end = scope.outcome, scope.end
        if outcome is not None:
            status = SAYS["agent"][outcome]
        else:
            status = "lost" if self._given_up(scope) else "running"
        usage, cost, unpriced = self.spent[scope.key]
        attempt = scope.attribute(AGENT_ATTEMPT.key)
        ids = scope.ids
        return AgentReport(
            key=scope.key,
            id=ids.agent_id or scope.key,
            name=ids.agent or scope.name,
            phase=ids.phase or "",
            iteration=ids.iteration,
            status=status,
            attempt=attempt if isinstance(attempt, int) else 1,
            parent_id=ids.parent_agent_id,
            model=_text(scope, REQUEST_MODEL.key),
            started=scope.started,
            seconds=self._seconds(scope),
            usage=usage,
            usd=None if unpriced else cost,
            unpriced=unpriced,
            error=end.error if end is not None else None,
            waited=self.waiting.seconds(scope),
        )

    def _phases(self, agents: list[AgentReport]) -> list[PhaseReport]:
        inside: dict[str, list[Scope]] = {}
        for scope in self.scopes:
            name = scope.ids.phase or (scope.name if scope.kind == "phase" else "")
            if name:
                inside.setdefault(name, []).append(scope)
        counts: dict[str, Counter[str]] = {}
        for agent in agents:
            counts.setdefault(agent.phase, Counter())[agent.status] += 1
        found = [self._phase(name, inside[name], counts.get(name, Counter())) for name in inside]
        if self.outcome is None and self.lost is None:
            ahead = (name for name in self.history.phases if name not in inside)
            found += [PhaseReport(name=name, status="pending") for name in ahead]
        return found

    def _phase(self, name: str, inside: list[Scope], agents: Counter[str]) -> PhaseReport:
        bill = Bill()
        for scope in inside:
            bill.add(self.spent[scope.key])
        passes = [scope for scope in inside if scope.kind == "phase"]
        ends = [scope.end for scope in passes if scope.end is not None]
        latest = passes[-1] if passes else None
        status = self._phase_status(passes) if latest else self._implied_status(agents)
        part = None if latest is None or latest.best is None else latest.best[0]
        return PhaseReport(
            name=name,
            status=status,
            share=1.0 if status == "completed" else part,
            started=min(scope.started for scope in inside),
            ended=max((end.time for end in ends), default=self.ended)
            if status != "running"
            else None,
            seconds=sum(self._seconds(scope) for scope in passes) if passes else None,
            iterations=len({_iteration(scope) for scope in passes or inside[:1]}),
            agents=dict(sorted(agents.items())),
            usage=bill.usage,
            usd=bill.usd,
            unpriced=bill.unpriced,
            error=latest.end.error if latest and latest.end and status == "failed" else None,
            waited=fsum(self.waiting.seconds(scope) for scope in passes),
        )

    def _phase_status(self, passes: list[Scope]) -> str:
        if any(self._open(scope) for scope in passes):
            return "running"
        last = passes[-1]
        number = last.ids.iteration
        group = [last] if number is None else [s for s in passes if s.ids.iteration == number]
        words = {self._phase_word(scope) for scope in group}
        return next(word for word in _WORST_FIRST if word in words)

    def _phase_word(self, scope: Scope) -> str:
        """Return how a pass of a phase ended; one whose end was lost ended as its run did."""
        outcome = scope.outcome or self.outcome or "failure"
        return SAYS["phase"][outcome]

    def _implied_status(self, agents: Counter[str]) -> str:
        """Return the status of a phase of which only what is inside was seen."""
        if agents["running"]:
            return "running"
        if self.lost is not None:
            return "failed"
        return SAYS["phase"][self.outcome or "success"]

    def _checks(self) -> list[Check]:
        found: dict[tuple[str, str, str], Check] = {}
        for scope in self.scopes:
            if scope.kind not in _CHECKED:
                continue
            key = scope.ids.phase or "", scope.kind, scope.name
            check = found.get(key)
            if check is None:
                check = found[key] = Check(
                    phase=key[0],
                    kind=key[1],
                    name=key[2],
                    outcomes=[],
                    seconds=0.0,
                    detail="",
                    error=None,
                )
            outcome: Outcome | None = scope.outcome
            if outcome is None and self._given_up(scope):
                outcome = "cancellation"
            check.outcomes.append(outcome)
            if scope.kind == "human":
                check.answered.append(bool(_text(scope, DECISION.key)))
            check.seconds += self._seconds(scope)
            check.error = scope.end.error if scope.end is not None else None
            texts = (_text(scope, DELIVERY_URL.key), _text(scope, DELIVERY_CI.key))
            check.detail = ", ".join(text for text in texts if text)
        return list(found.values())

    def _tasks(self) -> dict[str, int]:
        # A task is worked on more than once: it stands where its last scope left it.
        last: dict[str, Scope] = {}
        for scope in self.scopes:
            if scope.kind == "task":
                last[scope.ids.task_id or scope.key] = scope
        words = Counter(self._task_word(scope) for scope in last.values())
        return dict(sorted(words.items()))

    def _task_word(self, scope: Scope) -> str:
        said = _text(scope, TASK_STATE.key)
        if scope.outcome is None:
            return "FAILED" if self._given_up(scope) else said or "RUNNING"
        word = SAYS["task"][scope.outcome]
        # One that went well may have been handed on: to a review, or back into its queue.
        return said if word == "DONE" and said in {"IN_REVIEW", "PENDING"} else word


def _iteration(scope: Scope) -> int | str:
    """Return what tells the iterations of a phase apart: outside any, each pass is one."""
    number = scope.ids.iteration
    return scope.key if number is None else number


def _text(scope: Scope | None, key: str) -> str:
    value = None if scope is None else scope.attribute(key)
    return value if isinstance(value, str) else ""
