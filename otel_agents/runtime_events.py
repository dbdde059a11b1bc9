"""Runtime events: what went on in a layer of the program, and why, as one fact each.

The instrumentation tells of fallbacks, retries, routes, tool loops and the edges of tasks, workers
and breakers by itself; a program tells of its own with `tell`. Nothing here raises into the host.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry.trace import get_current_span

from otel_agents import runtime
from otel_agents.boundary import caught
from otel_agents.context import Frame, current_frame, told_by
from otel_agents.reasons import EXECUTION_RETRIES, ROUTES, Reason
from otel_agents.signals import Ids, Signal, signal_id
from otel_agents.state.liveness import here
from otel_agents.values import cut, plain, redact
from otel_agents.vocabulary import (
    ENTITY_ID,
    LAYERS,
    OPERATIONS,
    PERSONA_ID,
    REASON_CODE,
    RUNTIME_LAYER,
    RUNTIME_OPERATION,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.trace import Span

    from otel_agents.pipeline import Pipeline

MAX_METADATA: Final = 20
MAX_TEXT: Final = 200  # characters of a code or id, which fields of an index hold
_MAX_ROUTES: Final = 1000


class Place(Protocol):
    """What is needed of a scope for an event to stand in it."""

    frame: Frame
    span: Span
    scope_id: str


def tell(
    layer: str,
    operation: str,
    reason_code: str,
    *,
    entity_id: str,
    persona_id: str | None = None,
    **metadata: Any,
) -> None:
    """Tell of something that happened in the running program, as one row of its runtime events.

    It carries the run, agent, task and worker that are current here. It never raises: an unknown
    layer or operation is reported once and nothing is told.

    Args:
        layer: One of `vocabulary.LAYERS`, such as `tool_runtime`.
        operation: One of `vocabulary.OPERATIONS`, such as `RETRY`.
        reason_code: Why: a code of `vocabulary.REASON_CODES` or one of the program's own.
        entity_id: What it was done to: a model, tool, task, worker or breaker.
        persona_id: The persona it concerns, where there are such.
        metadata: At most 20 plain values, redacted and cut like attributes.

    """
    try:
        if layer not in LAYERS or operation not in OPERATIONS:
            message = (
                f"no runtime event of layer {layer!r} and operation {operation!r}; "
                f"layers are {', '.join(LAYERS)}, operations {', '.join(OPERATIONS)}"
            )
            raise ValueError(message)  # noqa: TRY301 - it ends at the boundary below
        reason = Reason(_text(reason_code), layer, operation, "")
        say(None, reason, entity_id=entity_id, persona_id=persona_id, **metadata)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("runtime event", error)


def say(
    place: Place | None,
    reason: Reason,
    /,
    *,
    entity_id: str | None,
    persona_id: str | None = None,
    **metadata: Any,
) -> None:
    """Tell of a reason of ours, in a scope or, without one, where the code runs."""
    try:
        attributes = _described(metadata)
        attributes[RUNTIME_LAYER.key] = reason.layer
        attributes[RUNTIME_OPERATION.key] = reason.operation
        attributes[REASON_CODE.key] = reason.code
        attributes[ENTITY_ID.key] = _text(entity_id) or "unknown"
        if persona_id is not None:
            attributes[PERSONA_ID.key] = _text(persona_id)
        emit_fact("runtime", reason.code, attributes, place=place)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("runtime event", error)


def emit_fact(
    kind: str,
    name: str,
    attributes: dict[str, Any],
    *,
    place: Place | None = None,
    when: int | None = None,
) -> None:
    """Emit a fact with the ids and the span of a scope, by default of the current one.

    `when` is nanoseconds since the epoch, by default now. It can raise; the callers bound it.
    """
    rt = runtime.get()
    pipeline = None if rt.disabled else rt.pipeline
    if pipeline is None:
        return
    if place is not None:
        ids, span, parent = place.frame.ids, place.span.get_span_context(), place.scope_id
    else:
        frame = current_frame()
        ids = Ids() if frame is None else frame.ids
        parent = "" if frame is None else told_by(frame.scope)
        span = get_current_span().get_span_context()
    pipeline.emit(
        Signal(
            id=signal_id(),
            kind=kind,
            edge="fact",
            time=time.time_ns() if when is None else when,
            parent_id=parent,
            name=name,
            ids=ids,
            trace_id=f"{span.trace_id:032x}" if span.is_valid else "",
            span_id=f"{span.span_id:016x}" if span.is_valid else "",
            attributes=attributes,
            pid=os.getpid(),
            host=here(),
        )
    )


def _text(value: object) -> str:
    return "" if value is None else cut(str(redact("", plain(value))), MAX_TEXT)


def _described(metadata: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in metadata.items():
        kept = redact(key, plain(value))
        if kept is not None and len(found) < MAX_METADATA:
            found[cut(key, MAX_TEXT)] = kept
    return found


def attempted(place: Place, agent: str | None, tries: int) -> None:
    """Tell of an agent's attempt that is not its first at the task."""
    if tries > 1:
        say(place, EXECUTION_RETRIES["ATTEMPT_REPEATED"], entity_id=agent, attempt=tries)


# ---------------------------------------------------------------------- routes


class _Routes:
    """The routes that were told: agent, provider and model, since the signals go where they go."""

    def __init__(self) -> None:
        self.told: set[tuple[str | None, str, str]] = set()
        self.pipeline: Pipeline | None = None


_routes: Final = _Routes()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_routes.told.clear)


def route(place: Place, pipeline: Pipeline, provider: str, model: str) -> None:
    """Tell once that an agent is answered by a provider's model; after that it costs a look-up."""
    agent = place.frame.ids.agent
    key = (agent, provider, model)
    if _routes.pipeline is not pipeline:
        _routes.pipeline = pipeline
        _routes.told.clear()
    if key in _routes.told or len(_routes.told) >= _MAX_ROUTES:
        return
    _routes.told.add(key)
    say(place, ROUTES["ROUTE"], entity_id=model, provider=provider, model=model, agent=agent)
