"""The signal that a scope's start, progress or end is told by."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from otel_agents.context import told_by
from otel_agents.signals import ModelUse, Signal, signal_id
from otel_agents.state.liveness import here
from otel_agents.usage import Usage
from otel_agents.vocabulary import EVENT_PAYLOAD, EVENT_TYPE

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from otel_agents.context import Frame
    from otel_agents.runtime import Runtime
    from otel_agents.signals import Edge
    from otel_agents.tally import Model, Tally
    from otel_agents.vocabulary import Kind, Outcome


class Told(Protocol):
    """What is needed of a scope to tell of it."""

    kind: Kind
    name: str | None
    scope_id: str
    parent: Any
    frame: Frame
    span: Span
    own: Tally
    event: tuple[Edge, str, dict[str, Any]] | None


class Pending(Protocol):
    """An answer of a model that waits for its verdict until its agent goes on or ends."""

    def settle(self, rt: Runtime, outcome: Outcome) -> None:
        """Take the verdict."""


def told(scope: Told, edge: Edge, when: int, attributes: dict[str, Any], **ended: Any) -> Signal:
    """Return a signal; `ended` are the fields of one that ends its scope."""
    span = scope.span.get_span_context()
    own = scope.own
    if scope.event is not None and scope.event[0] == edge:
        said = {EVENT_TYPE.key: scope.event[1], EVENT_PAYLOAD.key: scope.event[2]}
        attributes = {**attributes, **said}
    return Signal(
        id=signal_id(),
        kind=scope.kind.name,
        edge=edge,
        time=when,
        scope_id=scope.scope_id,
        parent_id=told_by(scope.parent),
        name=scope.name or "",
        ids=scope.frame.ids,
        trace_id=f"{span.trace_id:032x}",
        span_id=f"{span.span_id:016x}",
        usage=own.usage(),
        cost=own.cost,
        unpriced_tokens=own.unpriced,
        models=[] if own.models is None else _by_model(own.models),
        attributes=attributes,
        pid=os.getpid(),
        host=here(),
        **ended,
    )


def _by_model(models: dict[Model, Tally]) -> list[ModelUse]:
    # A list of the items at once: another thread may count the first call of a model meanwhile.
    return [
        ModelUse(
            provider=provider,
            model=model,
            usage=part.usage() or Usage(),
            cost=part.cost,
            unpriced=part.unpriced,
        )
        for (provider, model), part in list(models.items())
    ]
