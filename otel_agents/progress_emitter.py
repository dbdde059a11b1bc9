"""Progress told by the program itself, method by method, for orchestrators that have no scopes.

    progress = ProgressEmitter("delivery")
    progress.emit_run_started("o-17", "r-1", {"goal": "Ship the cart", "max_iterations": 5})
    progress.emit_iteration_started("o-17", "r-1", 1)
    ...
    progress.emit_run_completed("o-17", "r-1", "succeeded", {"files": 12})

The methods open and end real scopes, so that spans, metrics, status and messages have one source.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context

from otel_agents import runtime
from otel_agents.boundary import boundary, caught
from otel_agents.context import current_frame, enter, leave
from otel_agents.listeners import ListenerSink, Subscription
from otel_agents.progress_details import (
    Verdict,
    failed,
    fields_of,
    is_word,
    kept,
    number_of,
    text_of,
    truth_of,
    verdict_of,
)
from otel_agents.progress_scopes import Recorded, SpokenScope, around, place, registry
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
from otel_agents.values import coerce
from otel_agents.vocabulary import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context

    from otel_agents.listeners import Listener
    from otel_agents.signals import Ids

logger: Final = logging.getLogger("otel_agents.progress")
MAX_ITERATIONS: Final = 3
_SPEC: Final = ("goal", "strategy", "max_iterations")
_DELIVERY: Final = ("success", "url", "ci_status")


class ProgressEmitter:
    """Tells how runs go on. Any number of emitters may tell of the same runs.

    What is started becomes current where it was started, so that agents called there are part of
    it; its end takes it back, also when told from another task or thread. A run, iteration, phase
    or delivery that is open already, by a scope or another emitter, is not opened again; one that
    somebody else opened is ended by them, with what was said of it here.

    No method raises, whatever it is given. Ids are text; without a run id the current run is
    meant. `workflow` is the name of the runs that this emitter starts.
    """

    def __init__(self, workflow: str | None = None) -> None:
        self._workflow = coerce(workflow, str)

    # ------------------------------------------------------------------ runs

    def emit_run_started(self, work_order_id: Any, run_id: Any, task_spec: Any = None) -> None:
        """Tell that a run starts.

        Args:
            work_order_id: The order it works on.
            run_id: Its id; one is made where it is None.
            task_spec: `goal` (cut to 100 characters), `strategy` and `max_iterations` (3), as a
                dict or an object; what else it holds is kept, bounded and without secrets.

        """
        with _Told(RUN_STARTED, work_order_id, run_id, here=False) as told:
            spec = fields_of(task_spec) or ({"goal": task_spec} if task_spec else {})
            rest = {name: value for name, value in spec.items() if name not in _SPEC}
            details = {"task_spec": kept("task_spec", rest)} if rest else {}
            fields = {name: spec.get(name) for name in _SPEC}
            run = None if told.run_id is None else registry.find("run", told.run_id)
            if run is not None:
                run.set(**fields)
                told.annotate(run, "progress", details)
                return
            fields["max_iterations"] = coerce(spec.get("max_iterations"), int) or MAX_ITERATIONS
            fields["work_order_id"] = told.work_order_id
            run = SpokenScope(KINDS["run"], self._workflow, id=told.run_id, fields=fields)
            told.open(run, self, self._outside(), details)

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
        details = {}
        if fields_of(metrics):
            details["metrics"] = ("metrics", metrics)
        if not is_word(result):
            details["result"] = ("result", result)
        self._end_run(RUN_COMPLETED, work_order_id, run_id, lambda: verdict_of(result), details)

    def emit_run_failed(self, work_order_id: Any, run_id: Any, error: Any = None) -> None:
        """Tell that a run failed, and why: text or an exception, kept redacted and cut."""
        self._end_run(RUN_FAILED, work_order_id, run_id, lambda: failed(error), {})

    def emit_run_canceled(self, work_order_id: Any, run_id: Any, reason: Any = None) -> None:
        """Tell that a run was canceled, and why. That is no error."""
        self._end_run(
            RUN_CANCELED, work_order_id, run_id,
            lambda: Verdict("cancellation", text_of(reason)), {},
        )  # fmt: skip

    def _end_run(
        self,
        type_: str,
        work_order_id: Any,
        run_id: Any,
        verdict: Callable[[], Verdict],
        details: dict[str, tuple[str, Any]],
    ) -> None:
        with _Told(type_, work_order_id, run_id) as told:
            said = {name: kept(*given) for name, given in details.items()}
            fields = {"work_order_id": told.work_order_id}
            told.end("run", None, self._workflow, verdict(), said, fields=fields)

    def _outside(self) -> Context:
        """Return the context for a run: beside one of ours that was started right here.

        A program that starts many runs one after another, and then works on each, does not mean
        each to be a part of the one before. A run that is started deeper in another is.
        """
        here = otel_context.get_current()
        while True:
            scope = next(around(), None)
            ours = isinstance(scope, SpokenScope) and registry.owner_of(scope) is self
            if not ours or scope.kind.name != "run":
                return here
        return here

    # ------------------------------------------------------------------ iterations, phases
