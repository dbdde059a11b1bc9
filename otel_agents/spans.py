"""Spans of the SDK, made and filled by the shortest way that ends in the same span.

The SDK asks its sampler about each span and checks each attribute's type as it is set, some 0.7 µs
each; a scope sets a dozen and has made them plain itself. So where every span is sampled whatever
it has (the SDK's default), the sampler is not asked, and attributes that are known to be plain are
put where the SDK keeps them. Where anything else is in use, the public way is taken.
"""
# ruff: noqa: SLF001 - what this module is for

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, cast

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, get_current_span

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    # Of a name, a context, a kind, attributes and a time: a started span, or None.
    Open = Callable[[str, Context, SpanKind, dict[str, Any], int], Span | None]


# What a child has of its parent's flags: sampled, and that the trace's id is random.
_KEPT_FLAGS: Final = 0x03


def start_span(
    tracer: Tracer,
    name: str,
    context: Context,
    kind: SpanKind,
    sampled_by: dict[str, Any],
    attributes: dict[str, Any],
    start: int,
) -> Span:
    """Return a started span; `sampled_by` is what a sampler may want to know of the attributes.

    All are plain: text, bool, int, float or tuples of these. `start` is in ns since the epoch.
    """
    opener = _opener if _opener.tracer is tracer else _found(tracer)
    if opener.open is not None:
        span = opener.open(name, context, kind, {**sampled_by, **attributes}, start)
        if span is not None:
            return span
    span = tracer.start_span(name, context, kind, sampled_by, start_time=start)
    put(span, attributes)
    return span


class _Opener:
    """The short way to a span of a tracer, if there is one."""

    def __init__(self, tracer: Any) -> None:
        self.tracer = tracer
        self.open: Open | None = None
        # Not imported: a program without the SDK does not get it from us.
        sdk: Any = sys.modules.get("opentelemetry.sdk.trace")
        if sdk is not None and type(tracer) is sdk.Tracer:
            self._span = sdk._Span
            self._decision = sdk.sampling.Decision.RECORD_AND_SAMPLE
            every = (sdk.sampling.ALWAYS_ON, sdk.sampling.DEFAULT_ON)
            if any(tracer.sampler is one for one in every):
                self.open = self._open

    def _open(
        self, name: str, context: Context, kind: SpanKind, attributes: dict[str, Any], start: int
    ) -> Span | None:
        """Do as the SDK's `start_span` does for a span that is sampled."""
        tracer = self.tracer
        try:
            parent: SpanContext | None = get_current_span(context).get_span_context()
            if parent is None or not parent.is_valid or not parent.trace_flags.sampled:
                return None  # roots are few
            if not tracer._is_enabled():
                return None
            found = SpanContext(
                parent.trace_id,
                tracer.id_generator.generate_span_id(),
                is_remote=False,
                trace_flags=TraceFlags(parent.trace_flags & _KEPT_FLAGS),
                trace_state=parent.trace_state,
            )
            span: Any = self._span(
                name=name,
                context=found,
                parent=parent,
                sampler=tracer.sampler,
                resource=tracer.resource,
                span_processor=tracer.span_processor,
                kind=kind,
                instrumentation_info=tracer.instrumentation_info,
                limits=tracer._span_limits,
                instrumentation_scope=tracer._instrumentation_scope,
                record_end_metrics=tracer._tracer_metrics.start_span(parent, self._decision),
            )
        except (AttributeError, TypeError):  # another version of the SDK: the public way it is
            self.open = None
            return None
        put(span, attributes)
        span.start(start_time=start, parent_context=context)
        return cast("Span", span)


_opener = _Opener(None)


def _found(tracer: Tracer) -> _Opener:
    global _opener  # noqa: PLW0603 - a program has one tracer of ours
    _opener = _Opener(tracer)
    return _opener


def put(span: Span, attributes: dict[str, Any]) -> None:
    """Set attributes that are text, bool, int, float or tuples of these."""
    held = getattr(span, "_attributes", None)
    if type(held) is BoundedAttributes and held.max_value_len is None:
        kept = held._dict
        with held._lock:
            if held.maxlen is None or len(kept) + len(attributes) <= held.maxlen:
                kept.update(attributes)
                return
    span.set_attributes(attributes)
