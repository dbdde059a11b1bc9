"""The six KPIs as one fold over events, which states of several processes merge into.

The definitions (the same in words, with an example: docs/reference/kpis.md):

- The window is from the first event to the last one; while an agent is active, to now.
- `agent_utilization`: the share of the window in which at least one agent was active. An attempt
  is active from its `agent_started` to its `agent_completed`. Events that know their attempt's id
  belong together by it; of others an end closes, in the order of time, the oldest start of the
  same task and agent that is still open. An end that finds none counts
  its `duration_ms` back from its time; a start without an end is active still. What lies outside
  of the window does not count, nor does the time in which an attempt waits for a human, as far as
  its id is known.
- `cost_per_feature`: USD for each feature completed. The money is `cost_usd` of all
  `agent_completed` and `cost` of all `validation_complete`; a feature is completed when a
  validation of one of the tasks that were queued for it passed. None where the cost of any
  attempt is not known: unknown is never zero.
- `average_retry_count`: retries / tasks. Starts of one task and agent after the first are
  retries; a task is an id that any event named.
- `critic_rejection_rate`: rejections / decisions. A decision is told by `critic_decision`, by an
  `agent_completed` with the status approved or rejected, or by both; of one task, agent and
  verdict as many count as the one that told of more has. Without an agent it counts by itself.
- `validation_pass_rate`: passed / validations.
- `time_to_completion`: mean seconds from the earliest `task_queued` (its `timestamp`, else its
  time) to the last success (`agent_completed` success or approved, or a validation passed), of
  the tasks that have both; 0 where clocks disagree and the success came first.

A KPI of which there is nothing to count is None. An empty task id, agent or feature is none.
"""

from __future__ import annotations

import time
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import msgspec

from otel_agents.state.kpis_parts import (
    LATEST,
    Agent,
    Attempt,
    Span,
    Task,
    amount,
    at_work,
    counted,
    covered,
    joined,
    ratio,
    text,
)
from otel_agents.state.kpis_signals import WAIT
from otel_agents.vocabulary import CRITIC_DECISION, KPI_METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_agents.event_types import Event

KPIS: Final = tuple(KPI_METRICS)
"""The names of the six, in the order in which they are shown."""
KEEP: Final = 200_000
"""Tasks, features, agents, starts and ends that are kept one by one: 40,000 tasks of one attempt.

Beyond it the oldest become sums. These are exact, but an event that comes after its task was
summed up counts as one of a new task.
"""
_KEEP_SPANS: Final = 20_000  # stretches of time with an agent at work, of attempts summed up
_MICRO: Final = 1e6
_NANO: Final = 1e9


class Kpis(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the KPIs are made of: a state that events are applied to, and that merges.

    Whichever way events are spread over states, in whatever order they are applied and the states
    merged, the reading is the same, as long as `KEEP` is not passed: amounts are whole numbers
    (µs, nano-dollars), so that no sum depends on the order. An event that is applied twice counts
    twice: see `fold_events`. Not for several threads at once.
    """

    keep: int = KEEP
    events: int = 0
    first: int = LATEST
    last: int = 0
    started: int = 0
    completed: int = 0
    cost: int = 0
    unpriced: int = 0
    validations: int = 0
    validations_passed: int = 0
    # Sums over the tasks, those that are no longer kept included.
    task_count: int = 0
    retries: int = 0
    decisions: int = 0
    rejections: int = 0
    tasks_completed: int = 0
    completion: int = 0
    feature_count: int = 0
    # What is kept one by one, and how much of it there is.
    tasks: dict[str, Task] = {}
    attempts: dict[str, Attempt] = {}
    features: dict[str, None] = {}
    kept: int = 0
    # What is left of attempts that are no longer kept: when any was active, how long before the
    # first of these spans, and those that never ended.
    spans: list[Span] = []
    spans_from: int = 0
    active_before: int = 0
    left_open: int = 0
    left_since: int = LATEST

    def apply(self, event: Event) -> None:
        """Count an event; what its payload has of another type than its schema is not counted."""
        moment = round(event.time * _MICRO)
        if event.type != WAIT:
            self.events += 1
            if moment < self.first:  # noqa: PLR1730 - min() takes three times as long
                self.first = moment
            if moment > self.last:  # noqa: PLR1730
                self.last = moment
        reader = _READERS.get(event.type)
        if reader is None:
            self._task(event.payload)
        else:
            reader(self, event, moment)
        if self.kept > self.keep:
            self._shrink()

    def merge(self, other: Kpis) -> None:
        """Count what another state counted, which stays as it is."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)
        self.left_since = min(self.left_since, other.left_since)
        self.spans_from = max(self.spans_from, other.spans_from)
        if other.spans:
            self.spans = joined([*self.spans, *other.spans])
        for name in other.features:
            if name in self.features:
                self.feature_count -= 1
                self.kept -= 1
            self.features[name] = None
        for key, attempt in other.attempts.items():
            known = self.attempts.get(key)
            if known is None:
                self.attempts[key] = attempt.copy()
            else:
                known.join(attempt)
                self.kept -= 1
        for key, theirs in other.tasks.items():
            mine = self.tasks.get(key)
            if mine is None:
                self.tasks[key] = theirs.copy()
            else:
                self._join(key, mine, theirs)
        if self.kept > self.keep:
            self._shrink()

    def reading(self, now: float | None = None) -> dict[str, Any]:
        """Return the KPIs by name, and under "counts" what they are made of.

        Money is in USD, time in seconds. `now`, in seconds since the epoch, is where the window
        ends while an agent is active: the present, where it is not given.
        """
        active, agents_active, window = self._activity(time.time() if now is None else now)
        cost = self.cost / _NANO
        seconds = self.completion / _MICRO
        priced = not self.unpriced
        values = (
            ratio(active, window),
            ratio(cost, self.feature_count) if priced else None,
            ratio(self.retries, self.task_count),
            ratio(self.rejections, self.decisions),
            ratio(self.validations_passed, self.validations),
            ratio(seconds, self.tasks_completed),
        )
        counts = {
            "events": self.events,
            "agents_started": self.started,
            "agents_completed": self.completed,
            "agents_active": agents_active,
            "active_seconds": active / _MICRO,
            "window_seconds": window / _MICRO,
            "total_cost_usd": cost,
            "unpriced_agents": self.unpriced,
            "features_completed": self.feature_count,
            "tasks": self.task_count,
            "retries": self.retries,
            "critic_decisions": self.decisions,
            "critic_rejections": self.rejections,
            "validations": self.validations,
            "validations_passed": self.validations_passed,
            "tasks_completed": self.tasks_completed,
            "completion_seconds": seconds,
        }
        return {**dict(zip(KPIS, values, strict=True)), "counts": counts}

    def to_bytes(self) -> bytes:
        """Return the state as JSON."""
        return _encoder.encode(self)

    @staticmethod
    def from_bytes(data: bytes) -> Kpis:
        """Return the state that `to_bytes` wrote; raises msgspec.DecodeError where it did not."""
        return _decoder.decode(data)

    # ---------------------------------------------------------------- what the events say

    def _queued(self, event: Event, moment: int) -> None:
        payload = event.payload
        task = self._task(payload)
        if task is None:
            return
        queued = amount(payload.get("timestamp"), _MICRO, moment)
        if task.queued is None or queued < task.queued:
            before, task.queued = task.took, queued
            self._retook(before, task.took)
        feature = text(payload.get("feature"))
        if feature and feature not in task.features:
            task.features.append(feature)
            self.kept += 1
            if task.passed:
                self._complete(feature)

    def _agent_started(self, event: Event, moment: int) -> None:
        payload = event.payload
        self.started += 1
        task, agent = self._agent(payload)
        if event.agent_id is None:
            agent.starts.append(moment)
            self.kept += 1
        else:
            self._attempt(event.agent_id).begin(moment)
        agent.attempts += 1
        if agent.attempts > 1 and task is not None:
            self.retries += 1

    def _agent_completed(self, event: Event, moment: int) -> None:
        payload = event.payload
        self.completed += 1
        task, agent = self._agent(payload)
        duration = amount(payload.get("duration_ms"), 1e3, 0)
        if event.agent_id is None:
            agent.ends.append((moment, duration))
            self.kept += 1
        else:
            self._attempt(event.agent_id).finish(moment, duration)
        cost = amount(payload.get("cost_usd"), _NANO, -1)
        if cost < 0:
            self.unpriced += 1
        else:
            self.cost += cost
        status = payload.get("status")
        if task is not None and status in ("success", "approved"):
            self._succeed(task, moment)
        if status in ("approved", "rejected"):
            rejected = status == "rejected"
            agent.told = counted(agent.told, rejected=rejected)
            self._decide(agent.told[rejected], agent.recorded[rejected], rejected=rejected)

    def _validated(self, event: Event, moment: int) -> None:
        payload = event.payload
        self.validations += 1
        self.cost += amount(payload.get("cost"), _NANO, 0)
        task = self._task(payload)
        result = payload.get("result")
        if result == "passed" or result is True:
            self.validations_passed += 1
            if task is not None:
                self._succeed(task, moment)
                if not task.passed:
                    task.passed = True
                    for feature in task.features:
                        self._complete(feature)

    def _decided(self, event: Event, _moment: int) -> None:
        payload = event.payload
        rejected = payload.get("rejected") is True
        if text(payload.get("agent")):
            _, agent = self._agent(payload)
            agent.recorded = counted(agent.recorded, rejected=rejected)
            self._decide(agent.recorded[rejected], agent.told[rejected], rejected=rejected)
        else:
            self._task(payload)
            self.decisions += 1
            self.rejections += rejected

    def _escalated(self, event: Event, moment: int) -> None:
        payload = event.payload
        wait_id = payload.get("wait_id")
        if wait_id is None or payload.get("task_id") != wait_id:
            self._task(payload)  # without a task the wait stands in for one
        if event.agent_id is not None and wait_id is not None:
            self._attempt(event.agent_id).asked += (moment,)
            self.kept += 1

    def _waited(self, event: Event, moment: int) -> None:
        span = moment - round(event.payload["seconds"] * _MICRO), moment
        # Whoever called the agent waits with it.
        for agent_id in (event.agent_id, event.payload.get("caller")):
            if agent_id:
                self._attempt(agent_id).waits += (span,)
                self.kept += 1

    # ---------------------------------------------------------------- what these change

    def _task(self, payload: dict[str, Any]) -> Task | None:
        """Return the task that a payload names, None where it names none."""
        key = text(payload.get("task_id"))
        if not key:
            return None
        task = self.tasks.get(key)
        if task is None:
            self.tasks[key] = task = Task()
            self.task_count += 1
            self.kept += 1
        return task

    def _agent(self, payload: dict[str, Any]) -> tuple[Task | None, Agent]:
        """Return the task that a payload names, if any, and the agent at it."""
        task = owner = self._task(payload)
        if owner is None:
            owner = self.tasks.get("")
            if owner is None:
                self.tasks[""] = owner = Task()
                self.kept += 1
        name = text(payload.get("agent"))
        agent = owner.agents.get(name)
        if agent is None:
            owner.agents[name] = agent = Agent()
            self.kept += 1
        return task, agent

    def _attempt(self, agent_id: str) -> Attempt:
        """Return the attempt of an id."""
        key = text(agent_id)
        found = self.attempts.get(key)
        if found is None:
            self.attempts[key] = found = Attempt()
            self.kept += 1
        return found

    def _decide(self, counted: int, beside: int, *, rejected: bool) -> None:
        """Count a verdict, where as many have not been told in the other way."""
        if counted > beside:
            self.decisions += 1
            self.rejections += rejected

    def _succeed(self, task: Task, moment: int) -> None:
        if task.succeeded is None or moment > task.succeeded:
            before, task.succeeded = task.took, moment
            self._retook(before, task.took)

    def _retook(self, before: int | None, after: int | None) -> None:
        """Count how long a task took, in place of how long it was thought to have taken."""
        if after is not None:
            self.completion += after - (before or 0)
            self.tasks_completed += before is None

    def _complete(self, feature: str) -> None:
        if feature not in self.features:
            self.features[feature] = None
            self.feature_count += 1
            self.kept += 1

    # ---------------------------------------------------------------- merging and forgetting

    def _join(self, key: str, mine: Task, theirs: Task) -> None:
        """Join two parts of one task, both of which the sums have already."""
        self._account(key, mine, -1)
        self._account(key, theirs, -1)
        mine.join(theirs)
        self._account(key, mine, 1)
        if mine.passed:
            for feature in mine.features:
                self._complete(feature)

    def _account(self, key: str, task: Task, sign: int) -> None:
        """Add a task to the sums over tasks, or take it out of them."""
        self.kept += sign * task.size
        self.task_count += sign * bool(key)
        if (took := task.took) is not None:
            self.tasks_completed += sign
            self.completion += sign * took
        for agent in task.agents.values():
            if key and agent.attempts > 1:
                self.retries += sign * (agent.attempts - 1)
            approved, rejected = agent.verdicts
            self.decisions += sign * (approved + rejected)
            self.rejections += sign * rejected

    def _shrink(self) -> None:
        """Sum up the oldest quarter of what is kept; attempts under way are kept, if they can be.

        An attempt that never ends would be kept for ever, and so would those be that leak: where
        they are most of what is there, the oldest of them are left as a number.
        """
        target = self.keep * 3 // 4
        settled: list[Span] = []
        for spare_open in (True, False):
            for key in list(self.attempts):
                if self.kept <= target:
                    break
                self._settle_attempt(key, settled, spare_open=spare_open)
            for key in list(self.tasks):
                if self.kept <= target:
                    break
                self._settle(key, settled, spare_open=spare_open)
        while self.kept > target and self.features:
            del self.features[next(iter(self.features))]
            self.kept -= 1
        self.spans = joined([*self.spans, *settled])
        if len(self.spans) > _KEEP_SPANS:
            early, self.spans = self.spans[: -_KEEP_SPANS // 2], self.spans[-_KEEP_SPANS // 2 :]
            self.active_before += covered(early, max(self.first, self.spans_from))
            self.spans_from = early[-1][1]

    def _settle(self, key: str, settled: list[Span], *, spare_open: bool) -> None:
        task = self.tasks.pop(key)
        self.kept -= task.size
        agents = {}
        for name, agent in task.agents.items():
            still = agent.spans(settled)
            if still and spare_open:
                agent.starts, agent.ends = still, []
                agents[name] = agent
            elif still:
                self.left_open += len(still)
                self.left_since = min(self.left_since, still[0])
        if agents:
            task.agents = agents
            self.tasks[key] = task
            self.kept += task.size

    def _settle_attempt(self, key: str, settled: list[Span], *, spare_open: bool) -> None:
        attempt = self.attempts[key]
        span = attempt.span
        if span is None and spare_open:
            return
        del self.attempts[key]
        self.kept -= attempt.size
        if span is not None:
            settled.extend(attempt.active(span[1]))
        elif attempt.known:
            self.left_open += 1
            self.left_since = min(self.left_since, attempt.start)

    def _activity(self, now: float) -> tuple[int, int, int]:
        """Return µs with an agent at work, how many are at work, and the µs of the window."""
        if not self.events:
            return 0, 0, 0
        spans = self.spans.copy()
        active, since, end = self.left_open, self.left_since, self.last
        under_way = at_work(self.attempts.values(), spans)
        active += sum(attempt.waiting is None for attempt in under_way)
        for agent in chain.from_iterable(task.agents.values() for task in self.tasks.values()):
            if len(agent.starts) == len(agent.ends) == 1 and agent.starts[0] <= agent.ends[0][0]:
                spans.append((agent.starts[0], agent.ends[0][0]))  # nearly all of them
            elif still := agent.spans(spans):
                active += len(still)
                since = min(since, still[0])
        if active or under_way:
            end = max(end, round(now * _MICRO))
        if since < LATEST:
            spans.append((since, end))
        for attempt in under_way:
            spans += attempt.active(end)
        window = end - self.first
        # Of states that were both summed up in part, the parts before may overlap.
        seconds = self.active_before + covered(spans, max(self.first, self.spans_from))
        return min(seconds, window), active, window


_SUMS: Final = (
    "events", "started", "completed", "cost", "unpriced", "validations", "validations_passed",
    "task_count", "retries", "decisions", "rejections", "tasks_completed", "completion",
    "feature_count", "kept", "active_before", "left_open",
)  # fmt: skip
_READERS: Final[dict[str, Callable[[Kpis, Event, int], None]]] = {
    "task_queued": Kpis._queued,  # noqa: SLF001 - the class's own table
    "agent_started": Kpis._agent_started,  # noqa: SLF001
    "agent_completed": Kpis._agent_completed,  # noqa: SLF001
    "validation_complete": Kpis._validated,  # noqa: SLF001
    "hitl_escalated": Kpis._escalated,  # noqa: SLF001
    WAIT: Kpis._waited,  # noqa: SLF001
    CRITIC_DECISION: Kpis._decided,  # noqa: SLF001
}
_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Kpis)


def fold_events(events: Iterable[Event]) -> Kpis:
    """Return the fold over events of a file or store; one with an id that was there is a repeat."""
    kpis, seen = Kpis(), set()
    for event in events:
        if event.id not in seen:
            seen.add(event.id)
            kpis.apply(event)
    return kpis
