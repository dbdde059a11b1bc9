"""Spans and signals as OTLP protobuf: what the SDK's encoder makes of them, at a fraction of it.

All functions return the body of a message, without its tag and length, so that it can be kept as it
is and framed by who sends it (`spans_request`, `logs_request`). Fields may stand in another order
than the library writes them, and zeros may be written out: the messages read back equal.

Nothing raises for a single bad value. An attribute that OTLP has no place for (a type of its own,
an integer of more than 64 bits, half of a surrogate pair, values more than 47 lists or 31 mappings
deep, which readers would refuse with the whole request) is left out and counted in the message's
`dropped_attributes_count`; the SDK leaves it out too, and counts nothing. Where the SDK's encoder
raises, and loses the batch, a text is written with its half pairs written out, and a number, kind
or id that does not fit is left out.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import ReadableSpan

from otel_agents.signals import STAMPED, attributes_of, encode, event_name
from otel_agents.spool.encode_careful import (
    careful_log,
    careful_span,
    count,
    fields,
    lenient,
    moment,
)
from otel_agents.spool.encode_plain import plain_span
from otel_agents.spool.encode_values import EVENT, LOG, RESOURCE, VARINTS, Names, framed
from otel_agents.vocabulary import AGENT_NAME, ERROR_OUTCOMES, ERROR_TYPE, RESULT, SIGNAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from otel_agents.signals import Ids, Signal

    # The body of a scope, its schema URL, and the bodies of its spans or log records.
    Scoped = tuple[bytes, str | None, Iterable[bytes]]
    # The body of a resource, its schema URL, and its scopes.
    Group = tuple[bytes, str | None, Iterable[Scoped]]

_MAX_KEPT: Final = 256

_moments: Final = Struct("<BQBQ").pack
# severity_number and severity_text, an empty body, and flags: sampled.
_FINE: Final = b"\x10\x09\x1a\x04INFO\x2a\x00\x45\x01\x00\x00\x00"
_WRONG: Final = b"\x10\x0d\x1a\x04WARN\x2a\x00\x45\x01\x00\x00\x00"

_SIGNAL: Final = framed(b"\x0a", SIGNAL.key.encode()) + b"\x12"
_event_names: Final = Names(b"\x62")


def encode_span(span: ReadableSpan) -> bytes:
    """Return the body of a `Span`; never raises."""
    if type(span) is ReadableSpan:
        try:
            return plain_span(span)
        except Exception:  # noqa: BLE001 - whatever it is, the careful way keeps the rest
            return careful_span(span)
    return careful_span(span)


class _Bodies:
    """Bodies of objects that never change, by identity: their own hashes are slow."""

    def __init__(self, make: Callable[[Any], bytes]) -> None:
        self._make = make
        # The object is held, so that no other takes its place in memory, and its id.
        self._kept: dict[int, tuple[Any, bytes]] = {}

    def __call__(self, thing: Any) -> bytes:
        kept = self._kept.get(id(thing))
        if kept is not None:
            return kept[1]
        body = self._make(thing)
        if len(self._kept) >= _MAX_KEPT:
            self._kept.clear()
        self._kept[id(thing)] = (thing, body)
        return body


def _resource(resource: Any) -> bytes:
    def attributes() -> bytes:
        found, lost = RESOURCE.careful(resource.attributes)
        return found + count(0x10, lost)

    return fields((attributes,))


def _scope(scope: Any) -> bytes:
    def attributes() -> bytes:
        found, lost = EVENT.careful(scope.attributes)
        return found + count(0x20, lost)

    return fields(
        (
            lambda: framed(b"\x0a", lenient(scope.name)),
            lambda: framed(b"\x12", lenient(scope.version)),
            attributes,
        )
    )


_resources: Final = _Bodies(_resource)
_scopes: Final = _Bodies(_scope)


def encode_resource(resource: Resource) -> bytes:
    """Return the body of a `Resource`, the same object for the same resource; never raises."""
    return _resources(resource)


def encode_scope(scope: InstrumentationScope | None) -> bytes:
    """Return the body of an `InstrumentationScope`, empty for None; never raises."""
    return b"" if scope is None else _scopes(scope)


def encode_signal(signal: Signal) -> bytes:
    """Return the body of a `LogRecord`: what the sink `otlp:` emits, encoded; never raises.

    The limits on attributes that a logger provider may have do not apply: they would cut a signal's
    JSON in two.
    """
    try:
        return _plain_signal(signal)
    except Exception:  # noqa: BLE001 - one of its fields does not fit
        return _careful_signal(signal)


def encode_log(record: ReadableLogRecord) -> bytes:
    """Return the body of a `LogRecord` of the SDK; never raises.

    The SDK hands them over in its batches' own thread, so this is the careful way, half as quick
    as the one for spans.
    """
    return careful_log(record)


def _plain_signal(signal: Signal) -> bytes:
    """Return the body of a `LogRecord`; raises where a field does not fit."""
    json = encode(signal)
    length = VARINTS[len(json)]
    size = len(length) + 1 + len(json)
    parts = [
        _moments(0x09, signal.time, 0x59, signal.time),
        _WRONG if signal.result in ERROR_OUTCOMES else _FINE,
        b"\x32", VARINTS[len(_SIGNAL) + len(VARINTS[size]) + size],
        _SIGNAL, VARINTS[size], b"\x0a", length, json,
        _stamps(signal.ids),
        _event_names[event_name(signal)],
    ]  # fmt: skip
    if signal.result:
        parts.append(LOG[RESULT.key, signal.result])
    if signal.error is not None:
        parts.append(LOG[ERROR_TYPE.key, signal.error.type])
    if signal.trace_id:
        parts.append(_trace_id(signal.trace_id))
    if signal.span_id:
        parts.append(_span_id(signal.span_id))
    return b"".join(parts)


def _careful_signal(signal: Signal) -> bytes:
    def attributes() -> bytes:
        # As the SDK does: what is of another type becomes text.
        held = BoundedAttributes(attributes=attributes_of(signal))
        found, lost = LOG.careful(held)
        return found + count(0x38, held.dropped + lost)

    return fields(
        (
            lambda: moment(0x09, signal.time),
            lambda: moment(0x59, signal.time),
            lambda: _WRONG if signal.result in ERROR_OUTCOMES else _FINE,
            attributes,
            lambda: _trace_id(signal.trace_id),
            lambda: _span_id(signal.span_id),
            lambda: framed(b"\x62", lenient(event_name(signal))),
        )
    )


def _stamp(ids: Ids) -> bytes:
    values = ((key, getattr(ids, field)) for field, key in STAMPED.items())
    found = [LOG[item] for item in values if item[1] is not None]
    if ids.agent:
        found.append(LOG[AGENT_NAME.key, ids.agent])
    return b"".join(found)


# Ids are shared by all inside a scope, and never changed after they are made.
_stamps: Final = _Bodies(_stamp)


def _trace_id(digits: str) -> bytes:
    number = int(digits or "0", 16)
    return b"\x4a\x10" + number.to_bytes(16) if number else b""


def _span_id(digits: str) -> bytes:
    number = int(digits or "0", 16)
    return b"\x52\x08" + number.to_bytes(8) if number else b""


def spans_request(groups: Iterable[Group]) -> bytes:
    """Return the body of an `ExportTraceServiceRequest` made of bodies.

    Args:
        groups: for each resource its body, its schema URL and its scopes; for each scope its body,
            its schema URL and the bodies of its spans.
    """
    return b"".join([framed(b"\x0a", _group(*group)) for group in groups])


# An `ExportLogsServiceRequest` has the same shape, and the same numbers of fields.
logs_request = spans_request


def _group(resource: bytes, schema_url: str | None, scopes: Iterable[Scoped]) -> bytes:
    parts = [framed(b"\x0a", resource)]
    for scope, url, bodies in scopes:
        inner = [framed(b"\x0a", scope), *[framed(b"\x12", body) for body in bodies]]
        if url:
            inner.append(framed(b"\x1a", lenient(url)))
        parts.append(framed(b"\x12", b"".join(inner)))
    if schema_url:
        parts.append(framed(b"\x1a", lenient(schema_url)))
    return b"".join(parts)
