"""Workers: who takes tasks, is it alive, and what is it at?

    with Worker("coder") as worker:
        for job in queue:
            with worker.working(job.id):
                ...

A worker says so when it starts and stops, takes a task or has none, and every few seconds between.
One that is killed just goes silent; whoever reads its heartbeats sees their age.
"""

from __future__ import annotations

import math
import os
import threading
import time
from copy import copy
from typing import TYPE_CHECKING, Any, Final, Self

from opentelemetry import context as otel_context

from otel_agents import heartbeat
from otel_agents.asyncwith import AsyncWith
from otel_agents.boundary import caught
from otel_agents.context import FRAME_KEY, Frame, current_frame, enter, leave, stamp_of
from otel_agents.reasons import WORKERS
from otel_agents.runtime_events import say
from otel_agents.scope import Scope
from otel_agents.signals import HEARTBEAT_SECONDS
from otel_agents.values import coerce, plain, redact
from otel_agents.vocabulary import (
    CIRCUIT_OPEN,
    CIRCUIT_REASON,
    HEARTBEAT_AGE,
    KINDS,
    WORKER_COUNT,
    WORKER_STATES,
    WORKER_STATUS,
    WORKER_TASK,
    WORKER_TYPE,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from opentelemetry.context import Context

    from otel_agents.runtime import Runtime
    from otel_agents.signals import Edge, Ids
    from otel_agents.vocabulary import Outcome

_MAX_TYPES: Final = 100


class _Open:
    """The workers open in this process, by id, and the types that there were."""

    def __init__(self) -> None:
        self.by_id: dict[str, WorkerScope] = {}
        self.types: dict[str, None] = {}

    def counts(self) -> list[tuple[tuple[Any, ...], float]]:
        """Return how many workers of a type are in a state; none is a number too."""
        states = [state for state in WORKER_STATES if state != "STOPPED"]
        found = {(kind, state): 0 for kind in list(self.types) for state in states}
        for worker in list(self.by_id.values()):
            key = (worker.agent_type, worker.status)
            if key in found:
                found[key] += 1
        return list(found.items())

    def ages(self) -> list[tuple[tuple[Any, ...], float]]:
        """Return the seconds since the oldest of the last heartbeats, by type."""
        now = time.monotonic()
        found: dict[str, float] = {}
        for worker in list(self.by_id.values()):
            kind = worker.agent_type
            found[kind] = max(found.get(kind, 0.0), now - worker.beaten)
        return [((kind,), age) for kind, age in found.items()]


_open: Final = _Open()
if hasattr(os, "register_at_fork"):  # not on Windows
    # They are the parent's: a child that spoke for them would hide that it is gone.
    os.register_at_fork(after_in_child=_open.by_id.clear)


def open_worker(worker_id: str | None) -> WorkerScope | None:
    """Return a worker by its id, if it is open in this process."""
    return None if worker_id is None else _open.by_id.get(worker_id)


def worker_of(ids: Ids | None) -> WorkerScope | None:
    """Return the worker of these ids, if it is open in this process."""
    return None if ids is None else open_worker(ids.worker_id)


class WorkerScope(Scope):
    """A worker while it is there. Make it with `worker` or `Worker`, not by itself.

    Its status is DEGRADED while one of its breakers is not closed or it says so, else RUNNING
    while it has a task, else `RUNNING` where the scope is the work itself and `IDLE` once a task
    of it has ended. The field `interval` is the seconds between two heartbeats, 5 by default.
    """

    __slots__ = (
        "_base", "_circuits", "_kept", "_last", "_lock", "_stopped", "_tasks", "_trouble",
        "agent_type", "beaten", "interval",
    )  # fmt: skip

    def _reset(self) -> None:
        super()._reset()
        self._lock = threading.RLock()
        self._base = "RUNNING"
        self._tasks: list[str] = []
        self._trouble = ""
        self._circuits: dict[str, tuple[bool, str]] = {}
        self._kept: dict[str, Any] = {}
        self._last = 0
        self._stopped = False
        self.agent_type = ""
        self.beaten = 0.0
        self.interval = HEARTBEAT_SECONDS

    @property
    def status(self) -> str:
        """One of `WORKER_STATES`."""
        return str(self._look()[WORKER_STATUS.key])

    # ------------------------------------------------------------------ lifecycle

    def _locate(self, outer: Frame | None) -> tuple[dict[str, Any], dict[str, Any]]:
        attributes, fields = super()._locate(outer)
        fields = dict(fields)
        seconds = coerce(fields.pop("interval", None), float)
        if seconds is not None and not math.isnan(seconds):
            self.interval = seconds
        self._base = str(fields.pop("begins", self._base))
        self.agent_type = coerce(fields.get("agent_type"), str) or self.name or "worker"
        attributes[WORKER_TYPE.key] = self.agent_type
        return attributes, fields

    def _start_in(self, rt: Runtime, context: Context) -> None:
        self.beaten = time.monotonic()
        super()._start_in(rt, context)
        _open.by_id[self.id] = self
        if len(_open.types) < _MAX_TYPES:
            _open.types[self.agent_type] = None
        rt.metrics.watch(WORKER_COUNT, _open.counts)
        rt.metrics.watch(HEARTBEAT_AGE, _open.ages)
        say(self, WORKERS["STARTED"], entity_id=self.id, worker_type=self.agent_type)
        heartbeat.beat(self, self.interval)

    def _finish(
        self, rt: Runtime, outcome: Outcome, seconds: float, attributes: dict[str, Any]
    ) -> None:
        super()._finish(rt, outcome, seconds, attributes)
        heartbeat.rest(self)
        with self._lock:
            self._stopped = True
        if _open.by_id.get(self.id) is self:
            del _open.by_id[self.id]
        say(self, WORKERS["STOPPED"], entity_id=self.id, result=outcome)

    def _look(self) -> dict[str, Any]:
        """Return what every heartbeat says."""
        circuits = [] if self._stopped else list(self._circuits.values())
        if self._stopped:
            status = "STOPPED"
        elif circuits or self._trouble:
            status = "DEGRADED"
        else:
            status = "RUNNING" if self._tasks else self._base
        found = {
            WORKER_TYPE.key: self.agent_type,
            WORKER_STATUS.key: status,
            WORKER_TASK.key: self._tasks[-1] if self._tasks and not self._stopped else "",
            CIRCUIT_OPEN.key: any(is_open for is_open, _ in circuits),
            CIRCUIT_REASON.key: "; ".join(reason for _, reason in circuits),
        }
        if self._trouble and not self._stopped:
            found["reason"] = self._trouble
        return found

    def _emit(self, edge: Edge, when: int, attributes: dict[str, Any], **ended: Any) -> None:
        if edge == "start":
            self._kept = attributes
        # The latest is believed: a heartbeat that was told before the end must not be dated after.
        when = self._last = max(when, self._last + 1)
        told = self._late if edge == "progress" else {}
        super()._emit(edge, when, {**self._kept, **told, **attributes, **self._look()}, **ended)

    # ------------------------------------------------------------------ heartbeats

    def alive(self) -> None:
        """Say that the worker is still there."""
        with self._lock:
            if not self._stopped and self._pid == os.getpid():
                self._beat()

    def _beat(self) -> None:
        self.beaten = time.monotonic()
        self._emit("progress", time.time_ns(), {})

    def _change(self, act: Callable[[], Any]) -> None:
        """Change the state and say so at once, if it is another one then."""
        # A fork copies an open worker; it is the parent's to speak for.
        if self._rt is None or self._pid != os.getpid():
            return
        try:
            with self._lock:
                if self._stopped:
                    return
                before = self._look()
                act()
                after = self._look()
                if before == after:
                    return
                self._beat()
                self._tell(before[WORKER_STATUS.key], after)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("worker", error)

    def _tell(self, before: str, state: dict[str, Any]) -> None:
        status = state[WORKER_STATUS.key]
        if status == before or status not in WORKERS:
            return
        reason = state.get("reason") or state[CIRCUIT_REASON.key] or None
        say(self, WORKERS[status], entity_id=self.id, before=before, reason=reason)

    # ------------------------------------------------------------------ what it is at

    def take(self, task_id: str) -> None:
        """Say that the worker works on a task, and is no longer degraded by its own account."""

        def act() -> None:
            self._trouble = ""
            self._tasks.append(task_id)

        self._change(act)

    def drop(self, task_id: str) -> None:
        """Say that the worker is done with a task; with no other one left it is idle."""

        def act() -> None:
            if task_id in self._tasks:
                self._tasks.remove(task_id)
            self._base = "IDLE"

        self._change(act)

    def idle(self) -> None:
        """Say that the worker has no task, and is no longer degraded by its own account."""

        def act() -> None:
            self._tasks.clear()
            self._trouble = ""
            self._base = "IDLE"

        self._change(act)

    def degraded(self, reason: str) -> None:
        """Say that the worker works badly, and why; until it takes a task or says it is idle."""

        def act() -> None:
            self._trouble = str(redact("", plain(reason)) or "degraded")

        self._change(act)

    def circuit(self, name: str, state: str, reason: str) -> None:
        """Take the state of a breaker that the worker uses; one that is closed is forgotten."""

        def act() -> None:
            if state == "closed":
                self._circuits.pop(name, None)
            else:
                self._circuits[name] = state == "open", f"{name}: {reason}"

        self._change(act)


class Worker(AsyncWith):
    """A process, thread or task that works on tasks of a queue.

    Use it with `with` or `async with`, whose body is then inside the worker's scope; or call
    `start` and `stop` where that is no one block.

    Args:
        agent_type: What kind of worker it is, such as `coder`: a label of metrics, never an id.
        id: Its own id; one is made at each start if none is given.
        interval: Seconds between two heartbeats. A worker that is silent for 30 s counts as stale.
        attributes: What else is known of it, under the caller's own keys.

    """

    def __init__(
        self,
        agent_type: str,
        id: str | None = None,  # noqa: A002 - the public name of the parameter
        interval: float = HEARTBEAT_SECONDS,
        *,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        self._given = (agent_type, id, interval, attributes)
        self._scope = self._make()

    def _make(self) -> WorkerScope:
        agent_type, given_id, interval, attributes = self._given
        name = agent_type if isinstance(agent_type, str) else str(plain(agent_type))
        fields = {"interval": interval, "begins": "IDLE"}
        return WorkerScope(KINDS["worker"], name, id=given_id, attributes=attributes, fields=fields)

    @property
    def id(self) -> str:
        """The worker's id; "" before it was first started."""
        return self._scope.id

    @property
    def status(self) -> str:
        """RUNNING, IDLE, DEGRADED or STOPPED."""
        return "STOPPED" if self._scope.ended else self._scope.status

    def start(self) -> Self:
        """Start it: it is idle and its heart beats. One that has started in this process stays."""
        if self._scope.ended or self._scope._pid != os.getpid():  # noqa: SLF001 - one module
            self._scope = self._make()
            self._scope.start()
        return self

    def stop(self, error: BaseException | None = None) -> None:
        """Say that it stopped, by an exception if one is given."""
        self._scope.end(error)

    def __enter__(self) -> Self:
        """Start it and make its scope the current one."""
        self.start()
        self._scope.attach()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop it; the exception goes on as it was."""
        self._scope.detach()
        self.stop(error)

    def working(self, task_id: str) -> Working:
        """Return a block (`with`, `async with`) in which the worker works on a task.

        Whatever is started inside carries the worker's id and the task's.
        """
        return Working(self._scope, task_id)

    def idle(self) -> None:
        """Say that it has no task."""
        self._scope.idle()

    def degraded(self, reason: str) -> None:
        """Say that it works badly, and why; it holds until it takes a task or says it is idle."""
        self._scope.degraded(reason)


class Working(AsyncWith):
    """The block in which a worker works on a task."""

    __slots__ = ("_before", "_mine", "_scope", "_task_id")

    def __init__(self, scope: WorkerScope, task_id: str) -> None:
        self._scope = scope
        self._task_id = coerce(task_id, str) or ""
        self._mine: Context | None = None
        self._before: tuple[Context, object] | None = None

    def __enter__(self) -> Self:
        """Take the task."""
        self._scope.take(self._task_id)
        try:
            if not self._scope.ended:
                self._mine = self._context()
                self._before = enter(self._mine)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("working", error)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Give the task back."""
        try:
            if self._mine is not None and self._before is not None:
                leave(self._mine, self._before)
                self._mine = self._before = None
        except Exception as failure:  # noqa: BLE001 - telemetry never reaches the host
            caught("working", failure)
        self._scope.drop(self._task_id)

    def _context(self) -> Context:
        """Return the current context, or the worker's outside any scope, with both ids."""
        frame = current_frame()
        inside = frame is not None
        context = otel_context.get_current() if inside else self._scope.context
        frame = frame or self._scope.frame
        ids = copy(frame.ids)
        ids.worker_id, ids.task_id = self._scope.id, self._task_id or ids.task_id
        mine = Frame(ids, stamp_of(ids), frame.counts, frame.scope)
        return otel_context.set_value(FRAME_KEY, mine, context)
