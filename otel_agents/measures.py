"""What a scope's metrics are split by, and the conventions' own metrics of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from otel_agents.metrics import labelled
from otel_agents.vocabulary import (
    AGENT_NAME,
    AGENT_WAIT_DURATION,
    ERROR_TYPE,
    SAYS,
    TOOL_NAME,
    WORKFLOW_NAME,
)

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from otel_agents.context import Frame
    from otel_agents.runtime import Runtime
    from otel_agents.signals import Failure
    from otel_agents.vocabulary import Kind, Metric, Outcome

_PLACES: Final = frozenset({"workflow", "phase", "agent"})


class Measured(Protocol):
    """What is needed of a scope to measure it."""

    kind: Kind
    name: str | None
    frame: Frame
    context: Context


def labels_of(scope: Measured, metric: Metric, outcome: Outcome | None = None) -> tuple[Any, ...]:
    """Return the values of a metric's labels for a scope, in the labels' order."""
    ids = scope.frame.ids
    found: list[Any] = []
    for label in metric.labels:
        if label == "result":
            said = SAYS["run"] if scope.kind.name == "run" else {}
            found.append(said.get(outcome, outcome) if outcome else outcome)
        elif label in _PLACES:
            found.append(getattr(ids, label))
        else:
            # A task's queue; of the others a scope's name is the gate, tool or validation.
            found.append(getattr(scope, "queue", None) if label == "queue" else scope.name)
    return tuple(found)


def measure_duration(
    scope: Measured, rt: Runtime, outcome: Outcome, seconds: float, waited: float
) -> None:
    """Record how long a scope took; the seconds that it `waited` for humans are told apart."""
    metric = scope.kind.duration
    if metric is None:
        return
    labels = labelled(metric.labels, labels_of(scope, metric, outcome))
    # Two clocks: the length is one's that never goes back, the waits' are times of the day.
    rt.metrics.record(metric, max(0.0, seconds - waited), labels, scope.context)
    if waited and scope.kind.name == "agent":
        rt.metrics.record(AGENT_WAIT_DURATION, waited, labels, scope.context)


def measure_conventions(
    scope: Measured, rt: Runtime, seconds: float, failure: Failure | None
) -> None:
    """Record the conventions' duration of a run, agent or tool, where the profile has one."""
    kind = scope.kind.name
    if kind == "run":
        metric, key = rt.profile.workflow_duration, WORKFLOW_NAME.key
    elif kind == "agent" and rt.profile.agent_duration is not None:
        metric, key = rt.profile.agent_duration, AGENT_NAME.key
    elif kind == "tool" and rt.profile.tool_duration is not None:
        metric, key = rt.profile.tool_duration, TOOL_NAME.key
    else:
        return
    attributes = {key: scope.name} if scope.name else {}
    if failure is not None:
        attributes[ERROR_TYPE.key] = failure.type
    rt.metrics.record(metric, seconds, attributes, scope.context)
