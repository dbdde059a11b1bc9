"""The signal that a scope's start, progress or end is told by."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from otel_agents.signals import Signal, signal_id
from otel_agents.state.liveness import here

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from otel_agents.context import Frame
    from otel_agents.signals import Edge
    from otel_agents.tally import Tally
    from otel_agents.vocabulary import Kind


class Told(Protocol):
    """What is needed of a scope to tell of it."""

    kind: Kind
    name: str | None
    scope_id: str
    parent: Any
    frame: Frame
    span: Span
    own: Tally


def told(scope: Told, edge: Edge, when: int, attributes: dict[str, Any], **ended: Any) -> Signal:
    """Return a signal; `ended` are the fields of one that ends its scope."""
    span = scope.span.get_span_context()
    own = scope.own
    return Signal(
        id=signal_id(),
        kind=scope.kind.name,
        edge=edge,
        time=when,
        scope_id=scope.scope_id,
        parent_id=scope.parent.scope_id if scope.parent is not None else "",
        name=scope.name or "",
        ids=scope.frame.ids,
        trace_id=f"{span.trace_id:032x}",
        span_id=f"{span.span_id:016x}",
        usage=own.usage(),
        cost=own.cost,
        unpriced_tokens=own.unpriced,
        attributes=attributes,
        pid=os.getpid(),
        host=here(),
        **ended,
    )
