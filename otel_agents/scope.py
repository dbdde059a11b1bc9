"""One `Scope` for every kind of work: a span, metrics and signals, opened and ended together.

A scope is used with `with`, `async with` or as a decorator. It ends once, in one of three ways:
without an exception, with one, or cancelled. The host's result and exception pass through
untouched, and a failure of ours stays here.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from random import getrandbits
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    SpanKind,
    Status,
    StatusCode,
    set_span_in_context,
)

from otel_agents import runtime, under_way
from otel_agents.announced import call_of
from otel_agents.asyncwith import AsyncWith
from otel_agents.boundary import caught
from otel_agents.context import FRAME_KEY, Counts, Frame, current_frame, enter, leave
from otel_agents.drive import begin, decorate
from otel_agents.failures import failure_of, outcome_of
from otel_agents.location import field_of, locate
from otel_agents.measures import labels_of, measure_conventions, measure_duration
from otel_agents.runtime_events import attempted
from otel_agents.signals import Ids
from otel_agents.spans import put, start_span
from otel_agents.tally import Tally, add
from otel_agents.telling import told
from otel_agents.values import coerce, plain, redact
from otel_agents.vocabulary import (
    AGENT_ATTEMPT,
    ERROR_OUTCOMES,
    ERROR_TYPE,
    OPERATION,
    PROGRESS_DONE,
    PROGRESS_TOTAL,
    RESULT,
    WAITED,
    Kind,
    Outcome,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from opentelemetry.trace import Span

    from otel_agents.pipeline import Pipeline
    from otel_agents.signals import Edge, Failure
    from otel_agents.tally import Model
    from otel_agents.telling import Pending
    from otel_agents.usage import Usage
    from otel_agents.waits import Waits

_F = TypeVar("_F", bound="Callable[..., Any]")
# Progress of an agent is told after a model call, this often at the most.
_PROGRESS_SECONDS: Final = 1.0

# What a scope points to when it is over.
_NOWHERE: Final = Context()
_OVER: Final = Frame(Ids(), {}, Counts())


class Scope(AsyncWith):
    """One piece of work of a kind. Make it with `run`, `phase` and so on, not by itself.

    `id` is the scope's own where its kind has one (run, agent, task, worker); one is made if none
    is given. `attributes` keep the caller's keys. `fields` are those of the kind (see
    `vocabulary.KINDS`); an unknown one is reported once and left away. `known` are attributes of an
    instrumentation's own making, taken as they are: plain, bounded, without secrets.
    """

    __slots__ = (
        "_active_key", "_attributes", "_before", "_ended", "_fields", "_given_id", "_known",
        "_late", "_outcome", "_pid", "_reason", "_rt", "_start", "_started", "_told",
        "awaited", "context", "dated", "event", "frame", "id", "kind", "ledgers", "name", "own",
        "parent", "question", "scope_id", "span", "total", "waits",
    )  # fmt: skip

    def __init__(
        self,
        kind: Kind,
        name: str | None = None,
        *,
        id: str | None = None,  # noqa: A002 - the public name of the parameter
        attributes: Mapping[str, Any] | None = None,
        fields: dict[str, Any] | None = None,
        known: dict[str, Any] | None = None,
    ) -> None:
        self.kind = kind
        self.name = name
        self._given_id = id
        self._attributes = attributes
        self._fields = fields or {}
        self._known = known
        self._reset()

    def _reset(self) -> None:
        self._rt: runtime.Runtime | None = None
        self._started = 0
        self._ended = False
        self._outcome: Outcome | None = None
        self._reason = ""
        self._late: dict[str, Any] = {}
        self._before: tuple[Context, object] | None = None
        self._active_key: tuple[Any, ...] = ()
        self._told = 0.0
        self.question: Pending | None = None
        # When it happens, where that is told later; an edge whose signal is the program's event.
        self.dated: int | None = None
        self.event: tuple[Edge, str, dict[str, Any]] | None = None
        # What was told inside and is not dealt with yet has to be, before the end.
        self.awaited: Pipeline | None = None
        # The budgets it spends from, and how long it waited for humans.
        self.ledgers: tuple[Any, ...] = ()
        self.waits: Waits | None = None
        self.id = ""
        self.scope_id = ""
        self.span: Span = INVALID_SPAN
        self.parent: Scope | None = None

    def fresh(self) -> Scope:
        """Return a scope like this one, not started: a decorator opens one a call."""
        return type(self)(
            self.kind,
            self.name,
            id=self._given_id,
            attributes=self._attributes,
            fields=dict(self._fields),
            known=self._known,
        )

    # ------------------------------------------------------------------ with, async with

    def __enter__(self) -> Self:
        """Open the scope and make it the current one."""
        self.start()
        self.attach()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the scope; the exception goes on as it was."""
        self.detach()
        self.end(error)

    async def __aenter__(self) -> Self:
        """Open the scope as `with` does, but wait without the event loop where it has to."""
        await begin(self, self.start)
        self.attach()
        return self

    def __call__(self, function: _F) -> _F:
        """Decorate a function, coroutine function, generator or async generator."""
        return decorate(function, self.fresh)

    # ------------------------------------------------------------------ start, attach, end

    def start(self, context: Context | None = None) -> None:
        """Open the span, count the start and emit its signal, without making it current."""
        try:
            if self._started:
                self._reset()
            rt = runtime.get()
            if rt.disabled:
                return
            context = otel_context.get_current() if context is None else context
            if self.kind.name == "agent" and (call := call_of(self.name, context, rt.pipeline)):
                self.kind, context = call
            self._start_in(rt, context)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught(f"{self.kind.name} start", error)

    def begin(self) -> None:
        """Start the scope unless it has been started."""
        if not self._started:
            self.start()

    def _start_in(self, rt: runtime.Runtime, context: Context) -> None:
        kind = self.kind
        attributes = self._take_place(context)
        if rt.checkpoints is not None:
            rt.checkpoints.before(self, attributes)  # its time is none of the scope's
        # What a sampler may want to know; the rest is put on the span once there is one.
        sampled_by = {OPERATION.key: kind.operation} if kind.operation else {}
        if self.name and kind.name_key is not None:
            sampled_by[kind.name_key.key] = self.name
        self.context = context
        self._rt = rt
        self._pid = os.getpid()
        now = time.time_ns()
        self._start = self.dated or now
        self._started = time.perf_counter_ns() - (now - self._start)
        self._told = time.monotonic()
        span_name = kind.span.replace("{}", self.name) if self.name else kind.unnamed
        span_kind = SpanKind.CLIENT if kind.name == "model" else SpanKind.INTERNAL
        budgets = rt.budgets if kind.guarded else None
        limits = None if budgets is None else budgets.limits(self, attributes)
        self.span = start_span(
            rt.tracer, span_name, context, span_kind, sampled_by, attributes, self._start
        )
        if self.parent is not None:
            self.ledgers = self.parent.ledgers
        if budgets is not None and limits is not None:
            budgets.opened(self, limits)
        self.context = otel_context.set_value(
            FRAME_KEY, self.frame, set_span_in_context(self.span, context)
        )
        metrics = rt.metrics
        if kind.started is not None:
            metrics.add(kind.started, labels_of(self, kind.started))
        if kind.active is not None:
            self._active_key = labels_of(self, kind.active)
            metrics.add(kind.active, self._active_key)
        if kind.starts and rt.pipeline is not None:
            stamp = self.frame.stamp
            own = {key: value for key, value in attributes.items() if key not in stamp}
            self._emit("start", self._start, own)
            attempted(self, self.name, attributes.get(AGENT_ATTEMPT.key, 1))
        under_way.note(self, rt)

    def _take_place(self, context: Context | None = None) -> dict[str, Any]:
        """Stand where the context is; return the attributes that say where that is, and its own."""
        outer = current_frame(context)
        self.parent = outer.scope if outer is not None else None
        self.own, self.total = Tally(), Tally()
        attributes, fields = self._locate(outer)
        for field, value in fields.items():
            self._apply(field, value, attributes)
        if self._known:
            attributes.update(self._known)
        for key, value in (self._attributes or {}).items():
            kept = redact(str(key), plain(value))
            if kept is not None:
                attributes[str(key)] = kept
        return attributes

    def _locate(self, outer: Frame | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Set the frame; return the attributes that say where it is, and the other fields."""
        self.scope_id = f"{getrandbits(64):016x}"
        given = self.kind, self.name, self._given_id, self._fields
        self.frame, self.id, fields = locate(*given, outer)
        self.frame.scope = self
        return dict(self.frame.stamp), fields

    def around(self, kind: str) -> Scope | None:
        """Return the nearest open scope of a kind around this one, in this process."""
        scope = self.parent
        while scope is not None and scope.kind.name != kind:
            scope = scope.parent
        return scope

    def _apply(self, field: str, value: Any, attributes: dict[str, Any]) -> None:
        attribute, kept = field_of(self.kind, field, value)
        if attribute is None or kept is None:
            return
        attributes[attribute.key] = kept
        if self.kind.judges and attribute.type is bool:
            self._outcome = "success" if kept else "failure"

    def attach(self) -> None:
        """Make the scope the current one."""
        try:
            if self._rt is not None and not self._ended:
                self._before = enter(self.context)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("attach", error)

    def detach(self) -> None:
        """Make current what was current before `attach`."""
        before, self._before = self._before, None
        if before is not None:
            try:
                leave(self.context, before)
            except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
                caught("detach", error)

    def end(self, error: BaseException | None = None) -> None:
        """End the span, count the end and emit its signal. A second call does nothing."""
        # A bare fork copies the open scopes; they are the parent's to end.
        if self._rt is None or self._ended or self._pid != os.getpid():
            return
        if self.awaited is not None:
            with suppress(Exception):  # the scope ends all the same
                self.awaited.catch_up()
        self._ended = True
        try:
            self._end_in(self._rt, error)
        except Exception as failure:  # noqa: BLE001 - telemetry never reaches the host
            caught(f"{self.kind.name} end", failure)
        # Scope, frame and context hold each other. Let go, they are freed at once; otherwise only
        # the garbage collector finds them, at a third of what a run costs in all.
        self.frame, self.context = _OVER, _NOWHERE

    def _end_in(self, rt: runtime.Runtime, error: BaseException | None) -> None:
        kind = self.kind
        outcome = outcome_of(error)
        if outcome == "success" and self._outcome is not None:
            outcome = self._outcome
        taken = time.perf_counter_ns() - self._started
        seconds = (taken if self.dated is None else max(0, self.dated - self._start)) / 1e9
        end = self._start + int(seconds * 1e9)
        attributes = self._late
        attributes[RESULT.key] = outcome
        if not self.total.empty:
            attributes.update(self.total.attributes())
        waited = 0.0 if self.waits is None else self.waits.seconds(end)
        if waited:
            attributes[WAITED.key] = waited
        wrong = outcome in ERROR_OUTCOMES and not (kind.judges and error is None)
        failure = None
        if wrong or self._reason:
            failure = failure_of(
                error if wrong else None, outcome, message=rt.capture, said=self._reason
            )
            if wrong:
                attributes[ERROR_TYPE.key] = failure.type
        if self.ledgers and rt.budgets is not None:
            rt.budgets.closing(self, attributes)
        under_way.over(self, rt)
        span = self.span
        try:
            self._finish(rt, outcome, seconds, attributes)
            put(span, attributes)
            if wrong and failure is not None:
                span.set_status(Status(StatusCode.ERROR, failure.message or None))
        except Exception as broken:  # noqa: BLE001 - a span that is not ended is lost
            caught(f"{kind.name} finish", broken)
        finally:
            span.end(end)
        metrics = rt.metrics
        if self._active_key and kind.active is not None:
            metrics.add(kind.active, self._active_key, -1)
        if kind.ended is not None:
            metrics.add(kind.ended, labels_of(self, kind.ended, outcome))
        measure_duration(self, rt, outcome, seconds, waited)
        self._measure(rt, seconds, failure)
        if kind.ends and rt.pipeline is not None:
            if rt.log_file is not None and kind.name == "agent":
                attributes |= rt.log_file(self.id)  # a path of this machine: not for the span
            self._emit("end", end, attributes, result=outcome, duration=seconds, error=failure)

    def _finish(
        self,
        rt: runtime.Runtime,
        outcome: Outcome,  # noqa: ARG002 - for the kinds that know more
        seconds: float,  # noqa: ARG002
        attributes: dict[str, Any],  # noqa: ARG002
    ) -> None:
        """Add what only this kind knows, before the span ends."""
        question, self.question = self.question, None
        if question is not None:
            question.settle(rt, "success")

    def _measure(self, rt: runtime.Runtime, seconds: float, failure: Failure | None) -> None:
        """Record what the conventions want of this kind, for other people's dashboards."""
        measure_conventions(self, rt, seconds, failure)

    def _emit(self, edge: Edge, when: int, attributes: dict[str, Any], **ended: Any) -> None:
        pipeline = None if self._rt is None else self._rt.pipeline
        if pipeline is not None:
            pipeline.emit(told(self, edge, when, attributes, **ended))

    # ------------------------------------------------------------------ while it is open

    @property
    def ended(self) -> bool:
        """The scope has ended, or was never opened."""
        return self._ended or self._rt is None

    def set(self, **fields: Any) -> None:
        """Set fields that are known only now, such as `passed` or `url`."""
        try:
            for field, value in fields.items():
                self._apply(field, value, self._late)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught(f"{self.kind.name} set", error)

    def set_attribute(self, key: str, value: Any) -> None:
        """Set an attribute under the caller's own key; None leaves it away."""
        try:
            kept = redact(key, plain(value))
            if kept is not None:
                self._late[key] = kept
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught(f"{self.kind.name} attribute", error)

    def keep(self, key: str, value: Any) -> None:
        """Set an attribute to a value that is plain, bounded and redacted already."""
        self._late[key] = value

    def fail(self, reason: str = "") -> None:
        """Say that the work failed though no exception will; the reason is kept, redacted, cut."""
        self._judge("failure", reason)

    def skip(self, reason: str = "") -> None:
        """Say that the work was left out, and why."""
        self._judge("skip", reason)

    def _judge(self, outcome: Outcome, reason: str) -> None:
        try:
            self._outcome = outcome
            self._reason = str(redact("", plain(reason)) or "")
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught(f"{self.kind.name} outcome", error)

    def progress(self, done: float, total: float | None = None) -> None:
        """Say how much of the scope's work is done, in units of the caller's choice."""
        try:
            attributes: dict[str, Any] = {}
            for key, value in ((PROGRESS_DONE.key, done), (PROGRESS_TOTAL.key, total)):
                kept = coerce(value, int)
                if kept is not None:
                    attributes[key] = kept
            self._late.update(attributes)
            self._emit("progress", time.time_ns(), attributes)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("progress", error)

    def alive(self) -> None:
        """Say that the scope is still open: a heartbeat."""
        self._emit("progress", time.time_ns(), {})

    def count(
        self,
        usage: Usage,
        cost: float | None = None,
        unpriced: int = 0,
        model: Model | None = None,
    ) -> None:
        """Add usage to the nearest scope that reports its own, and to the totals of all around.

        `model` is the provider and the model it was used for, where it was one's.
        """
        around = []
        owner = None
        scope: Scope | None = self
        while scope is not None:
            if scope._rt is not None:  # noqa: SLF001 - one class
                if owner is None and scope.kind.ends and not scope._ended:  # noqa: SLF001
                    owner = scope
                around.append(scope.total)
            scope = scope.parent
        add((owner or self).own, around, usage, cost, unpriced, model)
        if self.ledgers and self._rt is not None and self._rt.budgets is not None:
            self._rt.budgets.spend(self, usage, cost)
        if owner is not None and usage.requests and owner.kind.name == "agent":
            now = time.monotonic()
            # A budget has to be known to the last call after a kill, too.
            if now - owner._told >= _PROGRESS_SECONDS or self.ledgers:  # noqa: SLF001 - one class
                owner._told = now  # noqa: SLF001 - one class
                owner._emit("progress", time.time_ns(), {})  # noqa: SLF001 - one class

    def record(self) -> None:
        """Record the scope as an instant: an event on the current span, its metrics and signal."""
        try:
            rt = runtime.get()
            if rt.disabled:
                return
            attributes = self._stand(rt)
            attributes[RESULT.key] = outcome = self._outcome or "success"
            self._mark(attributes)
            if self.kind.ended is not None:
                rt.metrics.add(self.kind.ended, labels_of(self, self.kind.ended, outcome))
            self._emit("end", self.dated or time.time_ns(), attributes, result=outcome)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught(f"{self.kind.name} record", error)

    def _stand(self, rt: runtime.Runtime) -> dict[str, Any]:
        """Take a place as an instant, that is over at once; return its attributes."""
        attributes = self._take_place()
        self._rt, self._pid, self._ended = rt, os.getpid(), True
        return attributes

    def _mark(self, attributes: dict[str, Any]) -> None:
        """Leave an event on the span around."""
        if self.name and self.kind.name_key is not None:
            attributes[self.kind.name_key.key] = self.name
        if self.parent is not None:
            self.span = self.parent.span
            self.span.add_event(f"otelagents.{self.kind.name}", attributes)
