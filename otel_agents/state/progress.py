"""Progress: what the scopes of a run come to for who follows it, as flat messages.

A message is made from one signal alone, so that zero-code programs, `ProgressEmitter` and a replay
of stored signals give the same ones. `docs/reference/progress.md` says what each holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otel_agents.state.times import rfc3339
from otel_agents.values import GOAL_LENGTH, cut
from otel_agents.vocabulary import (
    COST_TOTAL,
    DELIVERY_CI,
    DELIVERY_URL,
    ITERATION_MAX,
    PASSED,
    PROGRESS_DETAILS,
    RUN_GOAL,
    RUN_STRATEGY,
    SAYS,
    TOTAL_CACHE_READ,
    TOTAL_CACHE_WRITE,
    TOTAL_INPUT,
    TOTAL_OUTPUT,
    TOTAL_REASONING,
    TOTAL_REQUESTS,
    TOTAL_TOOL_CALLS,
    UNPRICED,
    USAGE_COMPLETE,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_agents.signals import Signal

    Message = dict[str, Any]

RUN_STARTED: Final = "run:started"
RUN_COMPLETED: Final = "run:completed"
RUN_FAILED: Final = "run:failed"
RUN_CANCELED: Final = "run:canceled"
ITERATION_STARTED: Final = "iteration:started"
ITERATION_COMPLETED: Final = "iteration:completed"
PHASE_STARTED: Final = "phase:started"
PHASE_COMPLETED: Final = "phase:completed"
GATE_CHECKED: Final = "gate:checked"
DELIVERY_STARTED: Final = "delivery:started"
DELIVERY_COMPLETED: Final = "delivery:completed"
PROGRESS_TYPES: Final = (
    RUN_STARTED, RUN_COMPLETED, RUN_FAILED, RUN_CANCELED, ITERATION_STARTED, ITERATION_COMPLETED,
    PHASE_STARTED, PHASE_COMPLETED, GATE_CHECKED, DELIVERY_STARTED, DELIVERY_COMPLETED,
)  # fmt: skip
"""Every type of message. Count runs by `run:completed`: the other two ends repeat it."""

# A run's metrics, from the roll-up on its end.
_METRICS: Final = {
    "requests": TOTAL_REQUESTS.key,
    "tool_calls": TOTAL_TOOL_CALLS.key,
    "input_tokens": TOTAL_INPUT.key,
    "output_tokens": TOTAL_OUTPUT.key,
    "cache_read_tokens": TOTAL_CACHE_READ.key,
    "cache_write_tokens": TOTAL_CACHE_WRITE.key,
    "reasoning_tokens": TOTAL_REASONING.key,
    "usage_complete": USAGE_COMPLETE.key,
    "cost_usd": COST_TOTAL.key,
    "unpriced_tokens": UNPRICED.key,
}
_TASK_SPEC: Final = {
    "goal": RUN_GOAL.key, "strategy": RUN_STRATEGY.key, "max_iterations": ITERATION_MAX.key,
}  # fmt: skip


def progress_of(signal: Signal) -> list[dict[str, Any]]:
    """Return the progress messages of a signal: none, one, or two for a run that did not succeed.

    Each is a new dict with `type`, `work_order_id`, `run_id`, `correlation_id`, `timestamp` (RFC
    3339, UTC) and the fields of its type. What a program said goes before what was measured, and
    what nobody knows is None or left away.
    """
    make = _MAKERS.get((signal.kind, signal.edge))
    if make is None:
        return []
    given = signal.attributes.get(PROGRESS_DETAILS.key)
    return make(signal, given if isinstance(given, dict) else {})


def _message(type_: str, signal: Signal, given: Message, **fields: Any) -> Message:
    ids = signal.ids
    return {
        "type": type_,
        "work_order_id": ids.work_order_id or given.get("work_order_id"),
        "run_id": ids.run_id,
        "correlation_id": ids.correlation_id or ids.run_id,
        "timestamp": rfc3339(signal.time),
        **fields,
    }


def _dict(value: Any) -> Message:
    return dict(value) if isinstance(value, dict) else {}


def _milliseconds(signal: Signal) -> float | None:
    return None if signal.duration is None else round(signal.duration * 1000, 3)


def _succeeded(signal: Signal) -> bool:
    return signal.result == "success"


def _run_started(signal: Signal, given: Message) -> list[Message]:
    spec = {name: signal.attributes.get(key) for name, key in _TASK_SPEC.items()}
    spec = {**spec, **_dict(given.get("task_spec")), **spec}
    if isinstance(spec["goal"], str):
        spec["goal"] = cut(spec["goal"], GOAL_LENGTH)
    return [_message(RUN_STARTED, signal, given, task_spec=spec)]


def _run_ended(signal: Signal, given: Message) -> list[Message]:
    result = SAYS["run"].get(signal.result, "failed")  # type: ignore[call-overload]
    metrics: Message = {"duration_ms": _milliseconds(signal)}
    for name, key in _METRICS.items():
        if key in signal.attributes:
            metrics[name] = signal.attributes[key]
    metrics.update(_dict(given.get("metrics")))
    fields = {"result": result, "metrics": metrics}
    if "result" in given:
        fields["details"] = given["result"]
    found = [_message(RUN_COMPLETED, signal, given, **fields)]
    failure = signal.error
    said = "" if failure is None else failure.message
    if result == "failed":
        error = said or (None if failure is None else failure.type)
        found.append(_message(RUN_FAILED, signal, given, error=error))
    elif result == "canceled":
        found.append(_message(RUN_CANCELED, signal, given, reason=said or None))
    return found


def _iteration_started(signal: Signal, given: Message) -> list[Message]:
    feedback = given.get("feedback")
    number = signal.ids.iteration
    return [_message(ITERATION_STARTED, signal, given, iteration=number, feedback=feedback)]


def _iteration_ended(signal: Signal, given: Message) -> list[Message]:
    fields = {
        "iteration": signal.ids.iteration,
        "success": _succeeded(signal),
        "timings": _dict(given.get("timings")),
        "duration_ms": _milliseconds(signal),
    }
    return [_message(ITERATION_COMPLETED, signal, given, **fields)]


def _phase_started(signal: Signal, given: Message) -> list[Message]:
    fields = {"iteration": signal.ids.iteration, "phase": signal.ids.phase}
    return [_message(PHASE_STARTED, signal, given, **fields)]


def _phase_ended(signal: Signal, given: Message) -> list[Message]:
    said = given.get("duration_ms")
    fields = {
        "iteration": signal.ids.iteration,
        "phase": signal.ids.phase,
        "success": _succeeded(signal),
        "duration_ms": _milliseconds(signal) if said is None else said,
    }
    return [_message(PHASE_COMPLETED, signal, given, **fields)]


def _gate_checked(signal: Signal, given: Message) -> list[Message]:
    passed = signal.attributes.get(PASSED.key, _succeeded(signal))
    fields = {"iteration": signal.ids.iteration, "gate": signal.name, "passed": passed}
    return [_message(GATE_CHECKED, signal, given, **fields)]


def _delivery_started(signal: Signal, given: Message) -> list[Message]:
    return [_message(DELIVERY_STARTED, signal, given)]


def _delivery_ended(signal: Signal, given: Message) -> list[Message]:
    result = {
        **_dict(given.get("result")),
        "success": _succeeded(signal),
        "url": signal.attributes.get(DELIVERY_URL.key),
        "ci_status": signal.attributes.get(DELIVERY_CI.key),
    }
    return [_message(DELIVERY_COMPLETED, signal, given, result=result)]


_MAKERS: Final[dict[tuple[str, str], Callable[[Signal, Message], list[Message]]]] = {
    ("run", "start"): _run_started,
    ("run", "end"): _run_ended,
    ("iteration", "start"): _iteration_started,
    ("iteration", "end"): _iteration_ended,
    ("phase", "start"): _phase_started,
    ("phase", "end"): _phase_ended,
    ("gate", "end"): _gate_checked,
    ("gate", "fact"): _gate_checked,
    ("delivery", "start"): _delivery_started,
    ("delivery", "end"): _delivery_ended,
}
