"""Progress told by the program itself, method by method, for orchestrators that have no scopes.

    progress = ProgressEmitter("delivery")
    progress.emit_run_started("o-17", "r-1", {"goal": "Ship the cart", "max_iterations": 5})
    progress.emit_iteration_started("o-17", "r-1", 1)
    ...
    progress.emit_run_completed("o-17", "r-1", "succeeded", {"files": 12})

The methods open and end real scopes, so that spans, metrics, status and messages have one source.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from typing import TYPE_CHECKING, Any, Concatenate, Final, NamedTuple, ParamSpec

from opentelemetry import context as otel_context

from otel_agents import runtime
from otel_agents.boundary import boundary, caught
from otel_agents.context import current_frame, current_ids, enter, leave
from otel_agents.kept import fields_of, kept_fields, single
from otel_agents.listeners import ListenerSink, Subscription
from otel_agents.progress_details import (
    Verdict,
    failed,
    is_word,
    number_of,
    text_of,
    truth_of,
    verdict_of,
)
from otel_agents.progress_scopes import (
    OpenedScope,
    Recorded,
    SpokenScope,
    place,
    registry,
)
from otel_agents.signals import Ids
from otel_agents.state.progress import (
    DELIVERY_COMPLETED,
    DELIVERY_STARTED,
    GATE_CHECKED,
    ITERATION_COMPLETED,
    ITERATION_STARTED,
    PHASE_COMPLETED,
    PHASE_STARTED,
    RUN_CANCELED,
    RUN_COMPLETED,
    RUN_FAILED,
    RUN_STARTED,
)
from otel_agents.vocabulary import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context

    from otel_agents.listeners import Listener

_P = ParamSpec("_P")
logger: Final = logging.getLogger("otel_agents.progress")
MAX_ITERATIONS: Final = 3
_ENDS: Final = frozenset({"completed", "failed", "canceled"})
_SPEC: Final = {"goal": str, "strategy": str, "max_iterations": int}
_DELIVERY: Final = ("success", "url", "pr_url", "ci_status")
_LOGGED: Final = ("run_id", "phase", "iteration", "work_order_id", "correlation_id")


def _safely(
    method: Callable[Concatenate[ProgressEmitter, _P], None],
) -> Callable[Concatenate[ProgressEmitter, _P], None]:
    name = getattr(method, "__name__", "")
    _, kind, edge = name.split("_")

    @functools.wraps(method)
    def emit(self: ProgressEmitter, /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            if edge in _ENDS:
                with contextlib.suppress(Exception):
                    _give_up(kind, *args, **kwargs)
            caught(f"progress {name}", error)

    return emit


def _give_up(
    kind: str, order: Any, run_id: Any, number: Any = None, name: Any = None, *_: Any, **__: Any
) -> None:
    """End what was to be ended and could not be told of: it must not stay current."""
    about = _about("", kind, order, run_id, number, name)
    numbered = kind in {"iteration", "phase"}
    scope = registry.find(
        kind, about.run_id or "", about.number if numbered else None,
        about.name if kind == "phase" else None,
    )  # fmt: skip
    if scope is not None and registry.owner_of(scope) is not None:
        scope.take_back()
        scope.end()


class _About(NamedTuple):
    """What is told of: a kind of scope by its ids."""

    type: str
    kind: str
    run_id: str | None
    work_order_id: str | None
    number: int | None = None
    name: str | None = None

    @property
    def ids(self) -> Ids:
        """The ids as the caller gave them."""
        return Ids(
            run_id=self.run_id,
            work_order_id=self.work_order_id,
            correlation_id=self.run_id,
            iteration=self.number,
            phase=self.name if self.kind == "phase" else None,
        )

    def order(self, ids: Ids | None) -> dict[str, Any]:
        """Return the work order as a detail, where the scope itself does not know it."""
        known = ids is not None and ids.work_order_id is not None
        return {} if known or not self.work_order_id else {"work_order_id": self.work_order_id}


class ProgressEmitter:
    """Tells how runs go on. Any number of emitters may tell of the same runs.

    What is started becomes current where it was started, so that agents called there are part of
    it; its end takes it back, also when told from another task or thread. A run, iteration, phase
    or delivery that is open already, by a scope or another emitter, is not opened again; one that
    a scope opened is ended by that scope, with what was said of it here.

    No method raises, whatever it is given. Ids are text; without a run id the current run is
    meant. `workflow` is the name of the runs that this emitter starts.
    """

    def __init__(self, workflow: str | None = None) -> None:
        self._workflow: str | None = None
        try:
            self._workflow = single(workflow, str)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("progress workflow", error)

    # ------------------------------------------------------------------ runs

    @_safely
    def emit_run_started(self, work_order_id: Any, run_id: Any, task_spec: Any = None) -> None:
        """Tell that a run starts.

        Args:
            work_order_id: The order it works on.
            run_id: Its id; one is made where it is None.
            task_spec: `goal` (cut to 100 characters), `strategy` and `max_iterations` (3), as a
                dict or an object; what else it holds is kept, bounded and without secrets.

        """
        about = _about(RUN_STARTED, "run", work_order_id, run_id, current=False)
        spec = fields_of(task_spec) or ({} if task_spec is None else {"goal": task_spec})
        rest = {name: value for name, value in spec.items() if name not in _SPEC}
        details = {"task_spec": kept_fields("task_spec", rest)} if rest else {}
        fields = {name: single(spec[name], type_) for name, type_ in _SPEC.items() if name in spec}

        def make() -> OpenedScope:
            if fields.get("max_iterations") is None:
                fields["max_iterations"] = MAX_ITERATIONS
            fields["work_order_id"] = about.work_order_id
            return OpenedScope(KINDS["run"], self._workflow, id=about.run_id, fields=fields)

        self._start(about, details, make, again=fields)

    @_safely
    def emit_run_completed(
        self, work_order_id: Any, run_id: Any, result: Any = None, metrics: Any = None
    ) -> None:
        """Tell that a run is over.

        Args:
            work_order_id: The order it worked on.
            run_id: Its id.
            result: How it went: a word such as `succeeded` or `failed`, a boolean, or a dict or
                object whose `success`, `status` or `result` says so. What says nothing succeeded.
            metrics: Figures of the run, told beside those that were measured.

        """
        details = {"metrics": kept_fields("metrics", metrics)} if fields_of(metrics) else {}
        if not is_word(result):
            details["result"] = kept_fields("result", result)
        about = _about(RUN_COMPLETED, "run", work_order_id, run_id)
        self._end(about, details, verdict_of(result))

    @_safely
    def emit_run_failed(self, work_order_id: Any, run_id: Any, error: Any = None) -> None:
        """Tell that a run failed, and why: text or an exception, kept redacted and cut."""
        self._end(_about(RUN_FAILED, "run", work_order_id, run_id), {}, failed(error))

    @_safely
    def emit_run_canceled(self, work_order_id: Any, run_id: Any, reason: Any = None) -> None:
        """Tell that a run was canceled, and why. That is no error."""
        verdict = Verdict("cancellation", text_of(reason))
        self._end(_about(RUN_CANCELED, "run", work_order_id, run_id), {}, verdict)

    # ------------------------------------------------------------------ iterations, phases

    @_safely
    def emit_iteration_started(
        self, work_order_id: Any, run_id: Any, iteration: Any, feedback: Any = None
    ) -> None:
        """Tell that an iteration starts, with the feedback it starts from."""
        about = _about(ITERATION_STARTED, "iteration", work_order_id, run_id, iteration)
        details = {} if feedback is None else {"feedback": kept_fields("feedback", feedback)}
        fields = {"number": about.number}
        self._start(about, details, lambda: OpenedScope(KINDS["iteration"], fields=fields))

    @_safely
    def emit_iteration_completed(
        self, work_order_id: Any, run_id: Any, iteration: Any, success: Any, timings: Any = None
    ) -> None:
        """Tell that an iteration is over; `timings` are milliseconds by phase."""
        about = _about(ITERATION_COMPLETED, "iteration", work_order_id, run_id, iteration)
        details = {"timings": kept_fields("timings", timings)} if fields_of(timings) else {}
        self._end(about, details, _verdict(success))

    @_safely
    def emit_phase_started(
        self, work_order_id: Any, run_id: Any, iteration: Any, phase: Any
    ) -> None:
        """Tell that a phase of an iteration starts."""
        about = _about(PHASE_STARTED, "phase", work_order_id, run_id, iteration, phase)
        self._start(about, {}, lambda: OpenedScope(KINDS["phase"], about.name))

    @_safely
    def emit_phase_completed(
        self,
        work_order_id: Any,
        run_id: Any,
        iteration: Any,
        phase: Any,
        success: Any,
        duration_ms: Any = None,
    ) -> None:
        """Tell that a phase is over; `duration_ms` goes before what was measured."""
        about = _about(PHASE_COMPLETED, "phase", work_order_id, run_id, iteration, phase)
        took = number_of(duration_ms)
        details = {} if took is None else {"duration_ms": took}
        seconds = None if took is None else took / 1000
        self._end(about, details, _verdict(success), seconds=seconds)

    # ------------------------------------------------------------------ gates, delivery

    @_safely
    def emit_gate_checked(
        self, work_order_id: Any, run_id: Any, iteration: Any, gate: Any, passed: Any
    ) -> None:
        """Tell what a gate said; what does not say that it passed did not."""
        about = _about(GATE_CHECKED, "gate", work_order_id, run_id, iteration, gate)
        self._record(about, {}, None, {"passed": truth_of(passed)})

    @_safely
    def emit_delivery_started(self, work_order_id: Any, run_id: Any) -> None:
        """Tell that the delivery of a run's work starts."""
        about = _about(DELIVERY_STARTED, "delivery", work_order_id, run_id)
        self._start(about, {}, lambda: OpenedScope(KINDS["delivery"]))

    @_safely
    def emit_delivery_completed(self, work_order_id: Any, run_id: Any, result: Any = None) -> None:
        """Tell that the delivery is over.

        Args:
            work_order_id: The order.
            run_id: The run.
            result: `success`, `url` or `pr_url`, and `ci_status`, as a dict or an object; or only
                one of them, as a boolean, a word or a URL.

        """
        about = _about(DELIVERY_COMPLETED, "delivery", work_order_id, run_id)
        given = fields_of(result)
        verdict = verdict_of(result)
        fields = {
            "success": verdict.outcome == "success",
            "url": single(given.get("url", given.get("pr_url", _url(result))), str),
            "ci_status": single(given.get("ci_status"), str),
        }
        rest = {name: value for name, value in given.items() if name not in _DELIVERY}
        details = {"result": kept_fields("result", rest)} if rest else {}
        self._end(about, details, verdict, fields)

    # ------------------------------------------------------------------ listeners

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Have a function called with every progress message of the process; return how to stop.

        The messages are those of `state.progress.progress_of`, of all emitters and scopes, each a
        dict of the listener's own. A listener may be a coroutine function: it runs on the event
        loop that runs here, or on one of its own. It is called by another thread, one message at
        a time; when it raises or does not return, the program and other listeners do not notice.
        """
        try:
            if not callable(listener):
                boundary.warn("otel-agents: a progress listener must be callable")
                return _nothing
            rt = runtime.get()
            if rt.disabled:
                return _nothing
            sink = ListenerSink(listener)
            pipeline = rt.require_pipeline()
            pipeline.add(sink)
            return Subscription(pipeline, sink)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("progress subscribe", error)
            return _nothing

    # ------------------------------------------------------------------ how it is done

    def _start(
        self,
        about: _About,
        details: dict[str, Any],
        make: Callable[[], OpenedScope],
        again: dict[str, Any] | None = None,
    ) -> None:
        """Open a scope and make it current; add to the one that is open instead."""
        if runtime.get().disabled:
            _log(about, about.ids, None)
            return
        registry.begin()
        with registry.opening:
            known = None
            if about.run_id is not None:
                known = registry.find(about.kind, about.run_id, about.number, about.name)
            if known is None:
                context = self._outside() if about.kind == "run" else _place(about)
                frame = current_frame(context)
                if about.kind != "run":
                    details |= about.order(None if frame is None else frame.ids)
                opened = make()
                opened.open(context, details, self)
        if known is None:
            opened.come_in(context if about.kind == "run" else None)
            _log(about, opened.frame.ids, opened.context)
        else:
            known.set(**(again or {}))
            known.tell("progress", details | about.order(known.frame.ids))
            _log(about, known.frame.ids, known.context)

    def _end(
        self,
        about: _About,
        details: dict[str, Any],
        verdict: Verdict,
        fields: dict[str, Any] | None = None,
        seconds: float | None = None,
    ) -> None:
        """End a scope of ours; say of another's how it ends; tell of an end without a start."""
        if runtime.get().disabled:
            _log(about, about.ids, None)
            return
        registry.begin()
        scope = None
        if about.run_id is not None:
            scope = registry.find(about.kind, about.run_id, about.number, about.name)
        if scope is None:
            key = (about.kind, about.run_id or "", about.number, about.name)
            if about.run_id is not None and registry.end(key):
                _log(about, about.ids, None)
                return
            self._record(about, details, verdict, fields or {}, seconds)
            return
        scope.set(**(fields or {}))
        scope.judge(verdict)
        scope.tell("end", details | about.order(scope.frame.ids))
        _log(about, scope.frame.ids, scope.context)
        if registry.owner_of(scope) is not None:
            scope.take_back()
            scope.end()

    def _record(
        self,
        about: _About,
        details: dict[str, Any],
        verdict: Verdict | None,
        fields: dict[str, Any],
        seconds: float | None = None,
    ) -> None:
        """Tell of an instant, in the context of its run."""
        if runtime.get().disabled:
            _log(about, about.ids, None)
            return
        registry.begin()
        name = self._workflow if about.kind == "run" else about.name
        if about.kind == "run":
            context = otel_context.get_current()
            fields = fields | {"work_order_id": about.work_order_id}
        else:
            context = _place(about)
            frame = current_frame(context)
            details |= about.order(None if frame is None else frame.ids)
        if about.kind == "iteration":
            fields = fields | {"number": about.number}
        instant = Recorded(KINDS[about.kind], name, id=about.run_id, fields=fields)
        before = enter(context)
        try:
            instant.say(details, verdict, seconds)
        finally:
            leave(context, before)
        _log(about, instant.frame.ids, context)

    def _outside(self) -> Context:
        """Return the context for a run: beside one of ours that was started right here.

        A program that starts many runs one after another, and then works on each, does not mean
        each to be a part of the one before. A run that is started deeper in another is one.
        """
        context = otel_context.get_current()
        while True:
            frame = current_frame(context)
            scope = None if frame is None else frame.scope
            if not isinstance(scope, SpokenScope) or scope.kind.name != "run":
                return context
            before = scope.came_in_here()
            if before is None or registry.owner_of(scope) is not self:
                return context
            context = before


def _nothing() -> None:
    """End a subscription that never began."""


def _about(
    type_: str,
    kind: str,
    work_order_id: Any,
    run_id: Any,
    iteration: Any = None,
    name: Any = None,
    *,
    current: bool = True,
) -> _About:
    """Return what is told of; without a run id it is of the current run."""
    run = single(run_id, str) or None
    order = single(work_order_id, str) or None
    if run is None and current:
        ids = current_ids()
        run = None if ids is None else ids.run_id
    number = single(iteration, int)
    return _About(type_, kind, run, order, number, single(name, str))


def _place(about: _About) -> Context:
    number = None if about.kind in {"iteration", "delivery"} else about.number
    return place(KINDS[about.kind], about.run_id, about.work_order_id, number)


def _verdict(success: Any) -> Verdict:
    return Verdict("success" if truth_of(success) else "failure")


def _url(result: Any) -> str | None:
    found = single(result, str) if issubclass(type(result), str) else None
    return found if found is not None and "://" in found else None


def _log(about: _About, ids: Ids, context: Context | None) -> None:
    """Log a message with the ids of its scope, whether or not log records are instrumented."""
    if not logger.isEnabledFor(logging.INFO):
        return
    known = {name: getattr(ids, name) for name in _LOGGED}
    extra = {name: value for name, value in known.items() if value is not None}
    before = None if context is None else enter(context)
    try:
        try:
            logger.info("Progress: %s", about.type, extra=extra, stacklevel=5)
        except KeyError:  # the program's own record factory has set a field of that name
            logger.info("Progress: %s", about.type, stacklevel=5)
    except Exception as error:  # noqa: BLE001 - a filter of the program's must not keep ends back
        caught("progress log", error)
    finally:
        if context is not None and before is not None:
            leave(context, before)
