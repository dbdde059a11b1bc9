"""The scopes that a progress emitter opens, and those of others that it speaks for.

A run is one run whoever tells of it: `run(...)`, a wrapped function and any number of emitters.
So what is open is known by its ids for the whole process, and a second start of the same finds it.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from copy import copy
from typing import TYPE_CHECKING, Any, Final, cast

from opentelemetry import context as otel_context

from otel_agents import runtime, under_way
from otel_agents.boundary import caught
from otel_agents.context import (
    FRAME_KEY,
    Counts,
    Frame,
    current_frame,
    current_task,
    stamp_of,
    vacate,
)
from otel_agents.measures import labels_of
from otel_agents.metrics import labelled
from otel_agents.scope import Scope
from otel_agents.signals import Failure, Ids
from otel_agents.vocabulary import ERROR_TYPE, PROGRESS_DETAILS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.context import Context

    from otel_agents.progress_details import Verdict
    from otel_agents.runtime import Runtime
    from otel_agents.signals import Edge
    from otel_agents.vocabulary import Kind, Outcome

    Key = tuple[str, str, int | None, str | None]

MAX_OVER: Final = 10_000  # ends that are remembered, so that none is told twice
MAX_LEFT: Final = 1000


class Held:
    """What is known of a scope besides the scope: who opened it, what to say of it, what is in it.

    `details` are for the signal of an edge. `owner` is the emitter that opened it, if one did.
    `left` are the contexts of scopes in it that are over, where tasks may still be.
    """

    __slots__ = ("children", "details", "failure", "key", "left", "owner", "thread")

    def __init__(self, key: Key, owner: object = None) -> None:
        self.key = key
        self.owner = owner
        self.details: dict[str, dict[str, Any]] = {}
        self.failure: Failure | None = None
        self.children: list[SpokenScope] = []
        self.left: list[Context] = []
        self.thread = 0


class SpokenScope(Scope):
    """A scope that an emitter speaks for. It adds no field, so that any plain scope can become one.

    What is said of it goes on its signals, and what emitters opened in it ends with it.
    """

    __slots__ = ()

    def end(self, error: BaseException | None = None) -> None:
        """End the scope, and what emitters opened in it before."""
        try:
            super().end(error)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        try:
            registry.forget(self)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("progress end", error)

    def judge(self, verdict: Verdict) -> None:
        """Say how the work went, where no exception will."""
        self._judge(verdict.outcome, verdict.reason)
        held = registry.held_by(self)
        if held is not None and verdict.type:
            held.failure = Failure(type=verdict.type, message=self._reason)

    def tell(self, edge: Edge, details: dict[str, Any]) -> None:
        """Let the signal of an edge carry details; one of progress is emitted now."""
        held = registry.held_by(self)
        if held is not None and details:
            held.details[edge] = details
            if edge == "progress":
                self.alive()

    def come_in(self, beside: Context | None = None) -> None:
        """Become the current scope, until `take_back` makes the one before current again.

        With `beside` that is this context instead of the current one.
        """
        held = registry.held_by(self)
        if held is not None:
            held.thread = threading.get_ident()
            if beside is not None:
                otel_context.attach(beside)
            self.attach()

    def take_back(self) -> None:
        """Be current nowhere any more, whichever task, thread or context this is called from.

        A task that was started inside keeps the context, and goes on outside: in that of the scope
        around, whose end takes it further out.
        """
        before = self._before
        held = registry.held_by(self)
        if before is None or held is None:
            return
        mine = self.context
        self.detach()
        for context in (mine, *held.left):
            vacate(context, before[0])
        outer = next((one for one in map(registry.held_by, chain(self.parent)) if one), None)
        if outer is not None and len(outer.left) < MAX_LEFT:
            outer.left += [mine, *held.left]

    def came_in_here(self) -> Context | None:
        """Return what was current before, if this became current in this very task and thread."""
        held = registry.held_by(self)
        if held is None or self._before is None or held.thread != threading.get_ident():
            return None
        before, task = self._before
        return before if task is current_task() else None

    def _emit(self, edge: Edge, when: int, attributes: dict[str, Any], **ended: Any) -> None:
        held = registry.held_by(self)
        if held is not None:
            details = held.details.pop(edge, None)
            if details:
                attributes = {**attributes, PROGRESS_DETAILS.key: details}
            if edge == "end" and held.failure is not None and ended.get("error") is not None:
                ended["error"] = held.failure
        super()._emit(edge, when, attributes, **ended)

    def _finish(
        self, rt: Runtime, outcome: Outcome, seconds: float, attributes: dict[str, Any]
    ) -> None:
        super()._finish(rt, outcome, seconds, attributes)
        held = registry.held_by(self)
        if held is None:
            return
        if held.failure is not None and ERROR_TYPE.key in attributes:
            attributes[ERROR_TYPE.key] = held.failure.type
        for child in reversed(held.children):
            if not child.ended:
                child._judge(outcome, "")  # noqa: SLF001 - one class
                child.take_back()
                child.end()

    def _measure(self, rt: Runtime, seconds: float, failure: Failure | None) -> None:
        held = registry.held_by(self)
        if failure is not None and held is not None and held.failure is not None:
            failure = held.failure
        super()._measure(rt, seconds, failure)


class OpenedScope(SpokenScope):
    """A scope that an emitter opens; `first` is what its first signal carries."""

    __slots__ = ("first",)

    def open(self, context: Context, first: dict[str, Any], owner: object) -> None:
        """Start in a context, without being current."""
        self.first = first
        self.start(context)
        registry.add(self, owner)

    def _emit(self, edge: Edge, when: int, attributes: dict[str, Any], **ended: Any) -> None:
        if edge == "start" and self.first:
            attributes = {**attributes, PROGRESS_DETAILS.key: self.first}
        super()._emit(edge, when, attributes, **ended)


class Recorded(Scope):
    """An instant that an emitter tells of: a gate, or an end whose start was not seen here."""

    __slots__ = ("details", "failure", "seconds")

    def say(
        self, details: dict[str, Any], verdict: Verdict | None = None, seconds: float | None = None
    ) -> None:
        """Record the instant, in the context that is current."""
        self.details = details
        self.failure: Failure | None = None
        self.seconds = seconds
        if verdict is not None and verdict.outcome != "success":
            self._judge(verdict.outcome, verdict.reason)
            if verdict.reason or verdict.type:
                type_ = verdict.type or verdict.outcome
                self.failure = Failure(type=type_, message=self._reason)
        self.record()

    def _emit(self, edge: Edge, when: int, attributes: dict[str, Any], **ended: Any) -> None:
        if self.details:
            attributes = {**attributes, PROGRESS_DETAILS.key: self.details}
        if self.seconds is not None and self.kind.duration is not None and self._rt is not None:
            metric = self.kind.duration
            labels = labelled(metric.labels, labels_of(self, metric, ended["result"]))
            here = otel_context.get_current()
            self._rt.metrics.record(metric, self.seconds, labels, here)
        super()._emit(edge, when, attributes, duration=self.seconds, error=self.failure, **ended)


class _Registry:
    """The scopes that emitters speak for: open ones by their key, and the keys that are over."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        # Held from looking for a scope to having opened it, so that two threads open one.
        self.opening = threading.RLock()
        self.open: dict[Key, SpokenScope] = {}
        self.held: dict[str, Held] = {}
        self.over: OrderedDict[Key, None] = OrderedDict()
        self._rt: Runtime | None = None

    def begin(self) -> None:
        """Know every run of the process from now on, whoever opens it."""
        with self.lock:
            self._renew()
            if self.opened not in under_way.run_listeners:
                under_way.run_listeners.append(self.opened)
                for run in list(under_way.open_runs.values()):
                    self.adopt(run)

    def opened(self, run: Scope) -> None:
        """Speak for a run that somebody else opens."""
        with self.lock:
            self._renew()
            self.adopt(run)

    def _renew(self) -> None:
        """Forget what was told under another configuration: it was told elsewhere."""
        rt = runtime.get()
        if self._rt is not rt:
            self._rt = rt
            for scope in list(self.open.values()):
                scope.take_back()
            self.open.clear()
            self.held.clear()
            self.over.clear()

    def adopt(self, scope: Scope) -> SpokenScope | None:
        """Speak for a scope that somebody else opened; None where that is not possible."""
        if self.held_by(scope) is not None:
            return cast("SpokenScope", scope)
        # Not a subclass of another shape; and one of ours that is opened again is as good as new.
        if type(scope) not in {Scope, SpokenScope} or scope.ended:
            return None
        key = key_of(scope)
        if key is None:
            return None
        with self.lock:
            self.held[scope.scope_id] = Held(key)
            scope.__class__ = SpokenScope
            spoken = cast("SpokenScope", scope)
            self.open.setdefault(key, spoken)
            self.over.pop(key, None)
        return spoken

    def add(self, scope: SpokenScope, owner: object) -> None:
        """Speak for a scope of our own that has just started."""
        key = key_of(scope)
        if key is None or scope.ended:
            return
        with self.lock:
            held = self.held.setdefault(scope.scope_id, Held(key))
            held.owner = owner
            self.open[key] = scope
            self.over.pop(key, None)
            for outer in chain(scope.parent):
                known = self.held_by(outer)
                if known is not None:
                    known.children.append(scope)
                    break

    def forget(self, scope: SpokenScope) -> None:
        """Let go of a scope that has ended."""
        with self.lock:
            held = self.held.pop(scope.scope_id, None)
            if held is None:
                return
            for outer in chain(scope.parent):
                known = self.held_by(outer)
                if known is not None and scope in known.children:
                    known.children.remove(scope)
                    break
            if self.open.get(held.key) is scope:
                del self.open[held.key]
                self.end(held.key)

    def end(self, key: Key) -> bool:
        """Note that something is over; return whether it was already."""
        with self.lock:
            known = key in self.over
            self.over[key] = None
            self.over.move_to_end(key)
            while len(self.over) > MAX_OVER:
                self.over.popitem(last=False)
            return known

    def find(
        self, kind: str, run_id: str, number: int | None = None, name: str | None = None
    ) -> SpokenScope | None:
        """Return the open scope of these ids, or None.

        Where the number of an iteration is not known, it is the innermost here or the last one.
        """

        def fits(key: Key | None) -> bool:
            return (
                key is not None
                and key[:2] == (kind, run_id)
                and number in {None, key[2]}
                and name in {None, key[3]}
            )

        exact = self.open.get((kind, run_id, number, name))
        if exact is not None:
            return exact
        for scope in around():
            if not scope.ended and fits(key_of(scope)):
                return self.adopt(scope)
        with self.lock:
            ours = [scope for key, scope in self.open.items() if fits(key)]
        return ours[-1] if ours else None

    def held_by(self, scope: Scope) -> Held | None:
        """Return what is known of a scope, or None."""
        return self.held.get(scope.scope_id)

    def owner_of(self, scope: Scope) -> object:
        """Return the emitter that opened a scope, or None."""
        held = self.held_by(scope)
        return None if held is None else held.owner

    def after_fork(self) -> None:
        """Begin anew in a forked child: what is open is the parent's to end."""
        self.lock, self.opening = threading.RLock(), threading.RLock()
        self.open.clear()
        self.held.clear()


registry: Final = _Registry()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=registry.after_fork)


def key_of(scope: Scope) -> Key | None:
    """Return what an open scope is known by; None where it is of no run, or of another kind."""
    ids, kind = scope.frame.ids, scope.kind.name
    if not ids.run_id:
        return None
    if kind in {"run", "delivery"}:
        return kind, ids.run_id, None, None
    if kind == "iteration":
        return kind, ids.run_id, ids.iteration, None
    if kind == "phase":
        return kind, ids.run_id, ids.iteration, scope.name
    return None


def chain(scope: Scope | None) -> Iterator[Scope]:
    """Yield a scope and those around it, from the inside out."""
    while scope is not None:
        yield scope
        scope = scope.parent


def around() -> Iterator[Scope]:
    """Yield the scopes of the current context, from the inside out."""
    frame = current_frame()
    found = None if frame is None else frame.scope
    return chain(found if isinstance(found, Scope) else None)


def place(kind: Kind, run_id: str | None, work_order_id: str | None, number: int | None) -> Context:
    """Return the context that a scope of a run, and an iteration if given, is to be opened in.

    The current one, if it is inside; of what emitters left open there, only what can be around
    such a scope. Else that of the open iteration or run, and without any one made of the ids.
    """
    here = otel_context.get_current()
    frame = current_frame(here)
    if kind.name != "gate":
        # Two phases, iterations or deliveries stand side by side.
        for scope in around():
            if scope.kind.name in {"run", "iteration"} and scope.kind.name != kind.name:
                break
            if registry.owner_of(scope) is not None and scope.parent is not None:
                here = scope.parent.context
                frame = current_frame(here)
    inside = frame is not None and frame.ids.run_id == run_id
    if run_id is None or (inside and frame is not None and number in {None, frame.ids.iteration}):
        return here
    if kind.name in {"phase", "gate"}:
        iteration = registry.find("iteration", run_id, number)
        if iteration is not None:
            return iteration.context
    if not inside:
        run = registry.find("run", run_id)
        if run is not None:
            here, frame, inside = run.context, run.frame, True
    return _made(here, frame if inside else None, run_id, work_order_id, number)


def _made(
    here: Context, frame: Frame | None, run_id: str, order: str | None, number: int | None
) -> Context:
    """Return a context with these ids: those of a frame, or new ones."""
    if frame is not None and number is None:
        return here
    if frame is not None:
        counts, scope = frame.counts, frame.scope
        ids = copy(frame.ids)
        ids.iteration, ids.phase = number, None
    else:
        outer = current_frame(here)
        counts, scope = Counts(), None if outer is None else outer.scope
        correlation = None if outer is None else outer.ids.correlation_id
        ids = Ids(
            run_id=run_id,
            work_order_id=order,
            correlation_id=correlation or run_id,
            iteration=number,
        )
    return otel_context.set_value(FRAME_KEY, Frame(ids, stamp_of(ids), counts, scope), here)
