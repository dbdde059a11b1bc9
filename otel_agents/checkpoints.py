"""Checkpoints that are taken by themselves, before scopes and tools, and restores by agents.

What is slow runs in one thread of ours: whoever starts a scope waits for it there, `max_seconds`
at the most. `async with`, coroutine functions and agents wait without their event loop (`aside`);
a plain `with` in a coroutine holds it up, as all synchronous code does. Those who ask while another
checkpoint is under way share the next one.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections import OrderedDict, deque
from contextlib import ExitStack
from contextvars import ContextVar
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import get_current_span

from otel_agents import runtime
from otel_agents.boundary import boundary, caught
from otel_agents.checkpoint import catalog, locks, snapshot
from otel_agents.checkpoint.record import About
from otel_agents.checkpoint.repository import Repository
from otel_agents.checkpoint.restore import restore
from otel_agents.context import current_frame, current_ids
from otel_agents.drive import in_thread
from otel_agents.errors import CheckpointError, NotFoundError, OtelAgentsError
from otel_agents.runtime_events import emit_fact
from otel_agents.vocabulary import (
    CHECKPOINT_BYTES,
    CHECKPOINT_FILES,
    CHECKPOINT_ID,
    CHECKPOINT_MESSAGE,
    CHECKPOINTS,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from opentelemetry.trace import Span

    from otel_agents.checkpoint.record import Checkpoint
    from otel_agents.checkpoint.restore import Restored
    from otel_agents.metrics import Metrics
    from otel_agents.settings_guards import CheckpointSettings

_QUIET_SECONDS: Final = 60.0
# How long a checkpoint waits for those that are about to ask for one: they need a thread each.
_GATHER_SECONDS: Final = 0.25
_PRUNE_EVERY: Final = 20  # checkpoints
_MAX_RUNS: Final = 256  # whose checkpoints are remembered
_NOT_HELD: Final = "restores are not held off by the agents at work"


class _Batch:
    """One checkpoint, and how many wait for it."""

    __slots__ = ("about", "checkpoint", "done", "error", "fresh", "key", "waiting")

    def __init__(self, key: tuple[str | None, str | None], about: About) -> None:
        self.key = key
        self.about = about
        self.waiting = 0
        self.done = threading.Event()
        self.checkpoint: Checkpoint | None = None
        self.fresh = False
        self.error: Exception | None = None


class _Coming:
    """Somebody who is about to ask for a checkpoint; one that is to be taken waits for it."""

    __slots__ = ("_by", "_counted")

    def __init__(self, by: AutoCheckpoints) -> None:
        self._by = by
        self._counted = True
        with by.changed:
            by.coming += 1

    def arrived(self) -> None:
        """Be awaited no more."""
        with self._by.changed:
            if self._counted:
                self._counted = False
                self._by.coming = max(0, self._by.coming - 1)
                self._by.changed.notify_all()


_coming: Final[ContextVar[_Coming | None]] = ContextVar("otelagents-coming", default=None)


class AutoCheckpoints:
    """The checkpoints of a process: taken, remembered by run, told of, and restored for agents.

    `root` is the directory whose repository is saved. Nothing here raises into the host, but for
    `restore`, which is called for those who want to know.
    """

    def __init__(self, settings: CheckpointSettings, root: Path, metrics: Metrics) -> None:
        self.settings = settings
        self._root = root
        self._metrics = metrics
        self._reset()
        _all.add(self)

    def _reset(self) -> None:
        """Begin anew; in a forked child what is under way is the parent's."""
        self.changed = threading.Condition(threading.Lock())
        self.coming = 0
        self._queue: deque[_Batch] = deque()
        self._open: dict[tuple[str | None, str | None], _Batch] = {}
        self._thread: threading.Thread | None = None
        self._repository: Repository | None = None
        self._none = False
        self._told_none = False
        self._quiet_until = 0.0
        self._taken = 0
        self._untold: dict[str, Checkpoint] = {}
        # By run: its checkpoints, and when the tree was last seen to be as in each.
        self._seen: OrderedDict[str, dict[str, tuple[Checkpoint, int]]] = OrderedDict()
        self._restores: OrderedDict[str, int] = OrderedDict()
        # The agents at work, and what holds off the restores of others meanwhile.
        self._agents: dict[str, Any] = {}
        self._work = threading.Lock()
        self._held = ExitStack()
        self._holds = False

    def after_fork(self) -> None:
        """Begin anew in a child, which holds nothing: its copy of a lock is closed, not let go."""
        held = self._held
        self._reset()
        held.close()

    # ------------------------------------------------------------------ scopes

    def concern(self, scope: Any) -> bool:
        """Say whether a scope may wait for git when it starts."""
        if not scope.ended:  # it is open already
            return False
        if self._none and current_frame() is not None:
            return False
        if self._wanted(scope):
            return True
        if scope.kind.name != "agent" or self._holds:
            return False
        # To hold off restores takes microseconds, but where git is asked, or one is under way.
        return self._repository is None or locks.is_restoring(self._repository)

    def _wanted(self, scope: Any) -> bool:
        # What an event tells of has begun already.
        if not self.settings.auto or scope.dated is not None:
            return False
        return scope.kind.guarded or (scope.kind.name == "tool" and self._writes(scope))

    def _writes(self, scope: Any) -> bool:
        declared: bool | None = getattr(scope, "writes", None)
        if declared is not None:
            return declared
        name = scope.name or ""
        return any(fnmatchcase(name, pattern) for pattern in self.settings.write_tools)

    def before(self, scope: Any, attributes: dict[str, Any]) -> None:
        """Save the tree before a guarded scope or a tool that writes; put the id on its attributes.

        It waits, `max_seconds` at the most; without a checkpoint the scope starts all the same.
        """
        if not self._wanted(scope) or (self._none and scope.parent is not None):
            return
        # The scope's own span is made after the checkpoint: the record links to the one around.
        around = get_current_span() if scope.parent is None else scope.parent.span
        batch = self._join(_about(scope, around), shared=scope.kind.name != "phase")
        if not batch.done.wait(self.settings.max_seconds):
            with self.changed:
                batch.waiting -= 1
            self._trouble(f"it was not there after {self.settings.max_seconds:g} seconds")
            return
        if batch.error is not None:
            caught("checkpoint", batch.error)
        elif batch.checkpoint is not None:
            attributes[CHECKPOINT_ID.key] = batch.checkpoint.id
            self._remember(scope, batch)

    def opened(self, scope: Any) -> None:
        """Tell of the checkpoint before a scope, whose span is known now; count agents at work."""
        checkpoint = self._untold.pop(scope.scope_id, None)
        if checkpoint is not None:
            attributes = {
                CHECKPOINT_ID.key: checkpoint.id,
                CHECKPOINT_MESSAGE.key: checkpoint.message or "",
                CHECKPOINT_FILES.key: checkpoint.files,
                CHECKPOINT_BYTES.key: checkpoint.bytes,
            }
            emit_fact("checkpoint", checkpoint.id, attributes, place=scope)
        if scope.kind.name == "agent" and not (self._none and scope.parent is not None):
            with self.changed:
                self._agents[scope.scope_id] = scope
            self._hold_or_let_go()

    def closed(self, scope: Any) -> None:
        """Count an agent less at work."""
        with self.changed:
            known = self._agents.pop(scope.scope_id, None)
        # While a restore is under way it sees to that itself, and nobody waits for it here.
        if known is not None and self._work.acquire(blocking=False):
            try:
                self._hold_as_needed()
            except Exception as error:  # noqa: BLE001 - the scope has still to end
                caught("checkpoint", error)
            finally:
                self._work.release()

    async def aside(self, start: Callable[[], None], end: Callable[[BaseException], None]) -> None:
        """Start a scope in a thread, since it waits for git, and let the event loop go on.

        Where the caller is cancelled meanwhile, the scope is ended as soon as it has started.
        """
        coming = _Coming(self)

        def come() -> None:
            _coming.set(coming)
            try:
                start()
            finally:
                coming.arrived()

        try:
            # All that start in one step of the loop have come before the first of them asks.
            await asyncio.sleep(0)
            await in_thread(come, end)
        finally:
            coming.arrived()

    # ------------------------------------------------------------------ taking

    def _join(self, about: About, *, shared: bool) -> _Batch:
        """Wait for the checkpoint that is next, or let one be taken.

        A phase has one of its own, so that it is found by the phase's name.
        """
        key = (about.run_id, None if shared else about.message)
        with self.changed:
            batch = self._open.get(key)
            if batch is None:
                batch = self._open[key] = _Batch(key, about)
                self._queue.append(batch)
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._take_all, name="otel-agents-checkpoints", daemon=True
                    )
                    self._thread.start()
            batch.waiting += 1
        coming = _coming.get()
        if coming is not None:
            coming.arrived()
        return batch

    def _take_all(self) -> None:
        while True:
            with self.changed:
                if not self._queue:
                    self._thread = None
                    return
                self.changed.wait_for(lambda: not self.coming, _GATHER_SECONDS)
                batch = self._queue.popleft()
                del self._open[batch.key]
                wanted = batch.waiting > 0
            try:
                if wanted:
                    self._take(batch)
            finally:
                batch.done.set()
            if batch.fresh:
                self._prune()

    def _take(self, batch: _Batch) -> None:
        began = time.time_ns()
        settings = self.settings
        result = "error"
        try:
            repository = self._find()
            if repository is not None:
                batch.checkpoint = snapshot.create(
                    repository, batch.about, max_bytes=settings.max_bytes,
                    max_seconds=settings.max_seconds, deduplicate=batch.key[1] is None,
                )  # fmt: skip
                batch.fresh = batch.checkpoint.created_at >= began
                result = "success" if batch.fresh else "skip"
        except OtelAgentsError as error:
            self._trouble(str(error))
        except Exception as error:  # noqa: BLE001 - those who wait for it tell of it
            batch.error = error
        self._metrics.add(CHECKPOINTS, (result,))

    def _find(self) -> Repository | None:
        """Return the repository; where there is none, say so once."""
        if self._repository is None:
            try:
                self._repository = Repository.find(self._root)
            except CheckpointError as error:
                self._none = True
                if not self._told_none:
                    self._told_none = True
                    what = "no checkpoints are taken" if self.settings.auto else _NOT_HELD
                    boundary.warn("otel-agents: %s: %s", what, error)
                return None
            self._none = False
        return self._repository

    def _prune(self) -> None:
        self._taken += 1
        if self._taken % _PRUNE_EVERY != 1 or self._repository is None:
            return
        try:
            catalog.prune(self._repository, self.settings.keep, self.settings.keep_days)
        except OtelAgentsError as error:
            self._trouble(str(error))
        except Exception as error:  # noqa: BLE001 - the thread has others to serve
            self._trouble(repr(error))

    def _trouble(self, sentence: str, what: str = "no checkpoint was taken") -> None:
        """Log what went wrong, once a minute at the most."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET_SECONDS
            boundary.warn("otel-agents: %s: %s", what, sentence)

    def _remember(self, scope: Any, batch: _Batch) -> None:
        checkpoint = batch.checkpoint
        if checkpoint is None:
            return
        with self.changed:
            if batch.fresh:  # whoever comes first tells of it
                batch.fresh = False
                self._untold[scope.scope_id] = checkpoint
            run_id = scope.frame.ids.run_id
            if run_id is None:
                return
            seen = self._seen.setdefault(run_id, {})
            self._seen.move_to_end(run_id)
            while len(self._seen) > _MAX_RUNS:
                self._seen.popitem(last=False)
            seen.pop(checkpoint.id, None)
            seen[checkpoint.id] = (checkpoint, time.time_ns())
            while len(seen) > self.settings.keep:
                del seen[next(iter(seen))]

    # ------------------------------------------------------------------ restoring

    def of_run(self, run_id: str | None) -> list[Checkpoint]:
        """Return what this process took for a run, the tree that was last seen first."""
        with self.changed:
            return [found for found, _ in reversed(self._seen.get(run_id or "", {}).values())]

    def last_seen(self, run_id: str | None, checkpoint_id: str) -> int | None:
        """Return when the tree was last seen to be as in a checkpoint of a run, in epoch ns."""
        with self.changed:
            found = self._seen.get(run_id or "", {}).get(checkpoint_id)
        return None if found is None else found[1]

    def restorable(self, scope: Any, checkpoint_id: str) -> Checkpoint:
        """Return a checkpoint that an agent's scope may bring the tree back to.

        Raises:
            CheckpointError: The run has restored as often as it may, other agents are at work in
                the tree, or there is no repository.
            NotFoundError: It is no checkpoint of this run.
            InvalidInputError: It is no id.

        """
        repository = self._find()
        if repository is None:
            message = f"There is no git repository in {self._root}."
            raise CheckpointError(message)
        run_id = scope.frame.ids.run_id or ""
        done = self._restores.get(run_id, 0)
        if done >= self.settings.max_restores:
            message = f"This run has restored {done} times, which is as often as it may."
            raise CheckpointError(message)
        try:
            found = catalog.get(repository, checkpoint_id)
        except NotFoundError:
            found = None
        if found is None or not run_id or found.run_id != run_id:
            message = f"{checkpoint_id} is no checkpoint of this run."
            raise NotFoundError(message)
        self._refuse_beside(scope)
        return found

    def restore(self, scope: Any, checkpoint: Checkpoint, span: Span) -> Restored:
        """Bring the tree back to what `restorable` returned; `span` is that of the restore.

        Raises:
            CheckpointError: Other agents are at work in the tree, or it cannot be done.

        """
        run_id = scope.frame.ids.run_id or ""
        repository = self._find()
        if repository is None:
            message = f"There is no git repository in {self._root}."
            raise CheckpointError(message)
        with self._work:
            self._refuse_beside(scope)
            self._held.close()
            self._holds = False
            try:
                found = restore(repository, checkpoint.id, run_id=run_id, about=_about(scope, span))
            finally:
                self._hold_as_needed()
            self._restores[run_id] = self._restores.get(run_id, 0) + 1
            while len(self._restores) > _MAX_RUNS:
                self._restores.popitem(last=False)
        return found

    def _refuse_beside(self, scope: Any) -> None:
        """Refuse where agents of this process are at work that did not call the one that asks."""
        above = set()
        while scope is not None:
            above.add(scope.scope_id)
            scope = scope.parent
        with self.changed:
            others = [agent for id_, agent in self._agents.items() if id_ not in above]
        if others:
            message = f"Another agent is at work in this tree: {others[0].name or 'one unnamed'}."
            raise CheckpointError(message)

    def _hold_or_let_go(self) -> None:
        if not self._work.acquire(timeout=self.settings.max_seconds):
            self._trouble("one is under way", _NOT_HELD)
            return
        try:
            self._hold_as_needed()
        finally:
            self._work.release()

    def _hold_as_needed(self) -> None:
        """Hold off the restores of others while agents are at work, and not longer."""
        with self.changed:
            needed = bool(self._agents)
        if needed == self._holds:
            return
        if not needed:
            self._held.close()
            self._holds = False
            return
        try:
            repository = self._find()
            if repository is not None:
                self._held.enter_context(locks.at_work(repository))
                self._holds = True
        except OtelAgentsError as error:
            self._trouble(str(error), _NOT_HELD)


def _about(scope: Any, linked: Span) -> About:
    ids = scope.frame.ids
    span = linked.get_span_context()
    return About(
        message=f"Before {scope.name or scope.kind.name}",
        run_id=ids.run_id,
        phase=ids.phase,
        agent=ids.agent,
        agent_id=ids.agent_id,
        task_id=ids.task_id,
        trace_id=f"{span.trace_id:032x}" if span.is_valid else None,
        span_id=f"{span.span_id:016x}" if span.is_valid else None,
    )


def taken() -> list[Checkpoint]:
    """Return the checkpoints of the run that the code is in, the latest state of the tree first.

    Those that this process took by itself. Give their ids to an agent that may restore one.
    """
    ids = current_ids()
    rt = runtime.peek()
    found = None if rt is None else rt.checkpoints
    if ids is None or not isinstance(found, AutoCheckpoints):
        return []
    return found.of_run(ids.run_id)


_all: Final[weakref.WeakSet[AutoCheckpoints]] = weakref.WeakSet()


def _after_fork() -> None:
    for one in list(_all):
        one.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
