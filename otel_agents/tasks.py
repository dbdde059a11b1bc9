"""Tasks: pieces of work that stand in a queue, are leased, worked on, reviewed and done.

    with task("build", id=job.id, queue="builds") as scope:     # RUNNING, then DONE or FAILED
        scope.lease("worker-7", 60)                             # again to renew it
        ...
    task("build", id="17", queue="builds").record()             # PENDING: told of, not worked on

What happens to a task is told at once, as a fact and as a runtime event of the dispatcher.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections import OrderedDict
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from otel_agents import runtime
from otel_agents.boundary import caught
from otel_agents.reasons import TASKS
from otel_agents.runtime_events import say
from otel_agents.scope import Scope
from otel_agents.signals import Failure
from otel_agents.values import coerce, plain, redact
from otel_agents.vocabulary import (
    ERROR_TYPE,
    LEASE_ACQUIRED,
    LEASE_EXPIRES,
    LEASE_OWNER,
    QUEUE_OLDEST,
    QUEUE_SIZE,
    SAYS,
    TASK_STATE,
    TASK_STATES,
)
from otel_agents.workers import worker_of

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from otel_agents.runtime import Runtime
    from otel_agents.signals import Edge
    from otel_agents.vocabulary import Outcome
    from otel_agents.workers import WorkerScope

MAX_KNOWN: Final = 10_000
_OPEN: Final = frozenset({"PENDING", "RUNNING", "IN_REVIEW"})
# How a task's state is told as a reason code, where the words differ.
_CODES: Final = {"PENDING": "QUEUED", "RUNNING": "STARTED"}
_MEANS: Final[dict[str, Outcome]] = {"DONE": "success", "SKIPPED": "skip", "FAILED": "failure"}
_LEASE: Final = {"lease_acquired_at", "lease_expires_at"}


class _Queues:
    """The open tasks that this process heard of, for the gauges; of too many the oldest go."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._tasks: OrderedDict[str, tuple[str, str, float]] = OrderedDict()
        self._seen: dict[tuple[str, str], None] = {}

    def note(self, task_id: str, queue: str, state: str) -> None:
        """Take in a task's state; one that says no queue stays in the one it is known to be in."""
        now = time.monotonic()
        with self._lock:
            known = self._tasks.get(task_id)
            if known is not None:
                queue = queue or known[0]
            if state not in _OPEN:
                self._tasks.pop(task_id, None)
            elif known is None or known[:2] != (queue, state):
                self._tasks[task_id] = queue, state, now
                self._tasks.move_to_end(task_id)
                if len(self._seen) < MAX_KNOWN:
                    self._seen[queue, state] = None
                if len(self._tasks) > MAX_KNOWN:
                    self._tasks.popitem(last=False)

    def sizes(self) -> list[tuple[tuple[Any, ...], float]]:
        """Return the tasks by queue and state; a pair that had some is told of at zero too."""
        with self._lock:
            found: dict[tuple[str, str], float] = dict.fromkeys(self._seen, 0)
            for queue, state, _ in self._tasks.values():
                found[queue, state] = found.get((queue, state), 0) + 1
        return list(found.items())

    def ages(self) -> list[tuple[tuple[Any, ...], float]]:
        """Return the seconds that the oldest pending task of each queue has waited."""
        now = time.monotonic()
        with self._lock:
            found = {queue: 0.0 for queue, state in self._seen if state == "PENDING"}
            for queue, state, since in self._tasks.values():
                if state == "PENDING":
                    found[queue] = max(found.get(queue, 0.0), now - since)
        return [((queue,), age) for queue, age in found.items()]


_queues: Final = _Queues()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_queues.reset)


def seconds_of(value: Any) -> float | None:
    """Return a time as seconds since the epoch: of seconds, a `datetime` or its ISO text.

    A time without a zone is local, as Python itself takes it. None for anything else.
    """
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = datetime.fromisoformat(value)
    seconds = value.timestamp() if isinstance(value, datetime) else coerce(value, float)
    return seconds if seconds is not None and math.isfinite(seconds) else None


def state_of(value: Any) -> str:
    """Return one of `TASK_STATES`, in whatever case it is given; ValueError for another word."""
    state = str(plain(value)).strip().upper().replace("-", "_").replace(" ", "_")
    if state not in TASK_STATES:
        message = f"no task has the state {plain(value)!r}; there are {', '.join(TASK_STATES)}"
        raise ValueError(message)
    return state


def _state_or_none(value: Any) -> str | None:
    """Return a state, or None where it is none: a field that cannot be is left away."""
    try:
        return state_of(value)
    except ValueError:
        return None


class TaskScope(Scope):
    """The work on a task. Make it with `task`, not by itself.

    It is RUNNING from its start, or whatever `state` says, and at its end DONE, SKIPPED or FAILED
    by its outcome; a task that was put into review or back into its queue stays there.
    """

    __slots__ = ("_last", "_persona", "_said", "_worker", "queue")

    def _reset(self) -> None:
        super()._reset()
        self.queue = ""
        self._persona: str | None = None
        self._last = 0
        self._said = ""
        self._worker: WorkerScope | None = None

    # ------------------------------------------------------------------ by its users

    def state(self, state: str) -> None:
        """Say at once in which of `TASK_STATES` the task is now."""
        try:
            self._now({"state": state_of(state)})
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("task state", error)

    def lease(self, owner: str, seconds: float) -> None:
        """Say at once that the owner holds the task for so many seconds from now, or still does."""
        try:
            now = time.time()
            held = {**self._fields, **self._late}
            before = held.get(LEASE_OWNER.key) or held.get("lease_owner")
            acquired = {} if before == owner else {"lease_acquired_at": now}
            expires = now + (coerce(seconds, float) or 0.0)
            self._now({"lease_owner": owner, **acquired, "lease_expires_at": expires})
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("task lease", error)

    def _now(self, fields: dict[str, Any]) -> None:
        """Tell of fields: inside the task's scope, or of a task that nobody here works on."""
        if self._started and self._ended:
            return
        if self.ended:
            self._fields = {**self._fields, **fields}
            if "state" in fields:
                self._outcome = None
            self.record()
            return
        told: dict[str, Any] = {}
        for field, value in fields.items():
            self._apply(field, value, told)
        self._late.update(told)
        self._tell(told)

    # ------------------------------------------------------------------ how it is told

    def _apply(self, field: str, value: Any, attributes: dict[str, Any]) -> None:
        if field == "state":
            value = _state_or_none(value)
            if value is None:
                return
            self._outcome = _MEANS.get(value)
        elif field in _LEASE:
            value = seconds_of(value)
        super()._apply(field, value, attributes)
        if field == "queue":
            self.queue = str(redact("", coerce(value, str) or ""))
        elif field == "persona_id":
            self._persona = coerce(value, str)

    def _tell(self, told: dict[str, Any]) -> None:
        """Emit a fact and the event that goes with it."""
        state = str(told.get(TASK_STATE.key) or "")
        failure = None
        if state in {"FAILED", "SKIPPED"}:
            failure = Failure(type=self._outcome or "failure", message=self._reason)
        self._emit("fact", self.dated or time.time_ns(), told, error=failure)
        if state:
            self._enter(state, failure)
        if LEASE_OWNER.key in told:
            self._event(
                "LEASED",
                owner=told[LEASE_OWNER.key],
                expires_at=told.get(LEASE_EXPIRES.key),
                renewed=LEASE_ACQUIRED.key not in told,
            )

    def _emit(self, edge: Edge, when: int, attributes: dict[str, Any], **ended: Any) -> None:
        # The latest is believed: what was told before the end must not be dated after it.
        when = self._last = max(when, self._last + 1)
        super()._emit(edge, when, attributes, **ended)

    def _enter(self, state: str, failure: Failure | None = None, **more: Any) -> None:
        """Take the task into a state, for the gauges and as an event, unless it is in it."""
        if state == self._said:
            return
        self._said = state
        _queues.note(self.id, self.queue, state)
        if failure is not None:
            more |= {"error": failure.type, "reason": failure.message or None}
        self._event(_CODES.get(state, state), **more)

    def _event(self, code: str, **more: Any) -> None:
        say(
            self,
            TASKS[code],
            entity_id=self.id,
            persona_id=self._persona,
            name=self.name,
            queue=self.queue or None,
            **more,
        )

    @staticmethod
    def _watch(rt: Runtime) -> None:
        rt.metrics.watch(QUEUE_SIZE, _queues.sizes)
        rt.metrics.watch(QUEUE_OLDEST, _queues.ages)

    # ------------------------------------------------------------------ lifecycle

    def _start_in(self, rt: Runtime, context: Context) -> None:
        first = _state_or_none(self._fields.get("state")) or "RUNNING"
        self._fields = {**self._fields, "state": first}
        super()._start_in(rt, context)
        # What it is in at first says nothing about how it ends.
        self._outcome = None
        self._watch(rt)
        self._enter(first, lease_owner=self._fields.get("lease_owner"))
        self._worker = worker_of(self.frame.ids)
        if self._worker is not None:
            self._worker.take(self.id)

    def _finish(
        self, rt: Runtime, outcome: Outcome, seconds: float, attributes: dict[str, Any]
    ) -> None:
        super()._finish(rt, outcome, seconds, attributes)
        state = attributes.get(TASK_STATE.key)
        if outcome != "success" or state not in {"PENDING", "IN_REVIEW"}:
            state = attributes[TASK_STATE.key] = SAYS["task"][outcome]
        failure = None
        if state in {"FAILED", "SKIPPED"}:
            failure = Failure(attributes.get(ERROR_TYPE.key, outcome), self._reason)
        self._enter(state, failure, seconds=seconds)
        if self._worker is not None:
            self._worker.drop(self.id)
            self._worker = None

    def record(self) -> None:
        """Tell of the task without working on it: in the state that was given, or PENDING."""
        try:
            rt = runtime.get()
            if rt.disabled:
                return
            said, reason = self._outcome, self._reason
            attributes = self._stand(rt)
            state = attributes.get(TASK_STATE.key)
            if said is not None:
                state, self._outcome = SAYS["task"][said], said
            if state is None and LEASE_OWNER.key not in attributes:
                state = "PENDING"
            if state is not None:
                attributes[TASK_STATE.key] = state
            self._reason = reason
            self._said = ""
            self._mark(attributes)
            self._watch(rt)
            stamp = self.frame.stamp
            self._tell({key: value for key, value in attributes.items() if key not in stamp})
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("task record", error)
