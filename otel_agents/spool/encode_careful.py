"""Spans that are not the SDK's own, or hold what does not fit: field by field, by what is public.

What fails here is one field, one event or one link, and the rest of the span is kept.
"""

from __future__ import annotations

from operator import index
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import SpanKind

from otel_agents.spool.encode_tables import EVENT, LINK, SPAN
from otel_agents.spool.encode_wire import VARINTS, framed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_KINDS: Final = {kind: bytes((0x30, number)) for number, kind in enumerate(SpanKind, 1)}
_IS_REMOTE_KNOWN: Final = 0x100
_IS_REMOTE: Final = 0x200
_MAX_COUNT: Final = (1 << 32) - 1
_fixed64: Final = Struct("<BQ").pack
_fixed32: Final = Struct("<I").pack


def lenient(value: Any) -> bytes:
    """Return text as UTF-8, half of a surrogate pair written out; None is empty."""
    if value is None:
        return b""
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    return str.encode(value if isinstance(value, str) else str(value), errors="backslashreplace")


def trace_state_of(state: Any) -> bytes:
    """Return a trace state as its field; None is no field."""
    if state is None:
        return b""
    return framed(b"\x1a", lenient(",".join([f"{key}={value}" for key, value in state.items()])))


def count(tag: int, number: int) -> bytes:
    """Return a count of what was dropped as a field; the field holds 32 bits."""
    return bytes((tag,)) + VARINTS[min(index(number), _MAX_COUNT)] if number > 0 else b""


def moment(tag: int, time: Any) -> bytes:
    """Return nanoseconds as a field; None is no field."""
    return b"" if time is None else _fixed64(tag, index(time))


def fields(made: Iterable[Callable[[], bytes]]) -> bytes:
    """Return those fields that can be made, joined."""
    found = []
    for make in made:
        try:
            found.append(make())
        except Exception:  # noqa: BLE001, S112 - the host's values run the host's code
            continue
    return b"".join(found)


def _flags(context: Any) -> bytes:
    remote = context is not None and context.is_remote
    return _fixed32(_IS_REMOTE_KNOWN | _IS_REMOTE if remote else _IS_REMOTE_KNOWN)


def trace_id_of(tag: bytes, context: Any) -> bytes:
    """Return the id of a context's trace as a field."""
    return framed(tag, index(context.trace_id).to_bytes(16))


def span_id_of(tag: bytes, context: Any) -> bytes:
    """Return the id of a context's span as a field."""
    return framed(tag, index(context.span_id).to_bytes(8))


def _span_attributes(span: Any) -> bytes:
    found, lost = SPAN.careful(span.attributes)
    return found + count(0x50, span.dropped_attributes + lost)


def _event_attributes(event: Any) -> bytes:
    found, lost = EVENT.careful(event.attributes)
    return found + count(0x20, event.dropped_attributes + lost)


def _link_attributes(link: Any) -> bytes:
    found, lost = LINK.careful(link.attributes)
    return found + count(0x28, link.dropped_attributes + lost)


def _event(event: Any) -> bytes:
    return fields(
        (
            lambda: moment(0x09, event.timestamp),
            lambda: framed(b"\x12", lenient(event.name)),
            lambda: _event_attributes(event),
        )
    )


def _link(link: Any) -> bytes:
    return fields(
        (
            lambda: trace_id_of(b"\x0a", link.context),
            lambda: span_id_of(b"\x12", link.context),
            lambda: _link_attributes(link),
            lambda: b"\x35" + _flags(link.context),
        )
    )


def _status(span: Any) -> bytes:
    status = span.status
    if status is None:
        return b""
    return framed(
        b"\x7a",
        fields(
            (
                lambda: framed(b"\x12", lenient(status.description)),
                lambda: b"\x18" + VARINTS[index(status.status_code.value)],
            )
        ),
    )


def careful_span(span: Any) -> bytes:
    """Return the body of a `Span` with every field that can be made; never raises."""
    return fields(
        (
            lambda: trace_id_of(b"\x0a", span.get_span_context()),
            lambda: span_id_of(b"\x12", span.get_span_context()),
            lambda: trace_state_of(span.get_span_context().trace_state),
            lambda: span_id_of(b"\x22", span.parent) if span.parent is not None else b"",
            lambda: framed(b"\x2a", lenient(span.name)),
            lambda: _KINDS[span.kind],
            lambda: moment(0x39, span.start_time),
            lambda: moment(0x41, span.end_time),
            lambda: _span_attributes(span),
            lambda: b"".join([framed(b"\x5a", _event(event)) for event in span.events or ()]),
            lambda: count(0x60, span.dropped_events),
            lambda: b"".join([framed(b"\x6a", _link(link)) for link in span.links or ()]),
            lambda: count(0x70, span.dropped_links),
            lambda: _status(span),
            lambda: b"\x85\x01" + _flags(span.parent),
        )
    )
