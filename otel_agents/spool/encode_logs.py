"""Signals and log records as the bodies of `LogRecord`s."""

from __future__ import annotations

from operator import index
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.attributes import BoundedAttributes

from otel_agents.signals import STAMPED, attributes_of, encode, event_name
from otel_agents.spool.encode_careful import (
    count,
    fields,
    lenient,
    moment,
    span_id_of,
    trace_id_of,
)
from otel_agents.spool.encode_tables import LOG, Bodies, Names
from otel_agents.spool.encode_wire import VARINTS, framed, value_of
from otel_agents.vocabulary import AGENT_NAME, ERROR_OUTCOMES, ERROR_TYPE, RESULT, SIGNAL

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord

    from otel_agents.signals import Ids, Signal

_fixed32: Final = Struct("<BI").pack
_moments: Final = Struct("<BQBQ").pack
# severity_number and severity_text, an empty body, and flags: sampled.
_FINE: Final = b"\x10\x09\x1a\x04INFO\x2a\x00\x45\x01\x00\x00\x00"
_WRONG: Final = b"\x10\x0d\x1a\x04WARN\x2a\x00\x45\x01\x00\x00\x00"

_SIGNAL: Final = framed(b"\x0a", SIGNAL.key.encode()) + b"\x12"
_event_names: Final = Names(b"\x62")


def encode_signal(signal: Signal) -> bytes:
    """Return the body of a `LogRecord`: what the sink `otlp:` emits, encoded; never raises.

    The limits on attributes that a logger provider may have do not apply: they would cut a signal's
    JSON in two.
    """
    try:
        return _plain_signal(signal)
    except Exception:  # noqa: BLE001 - one of its fields does not fit
        return _careful_signal(signal)


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
_stamps: Final = Bodies(_stamp)


def _trace_id(digits: str) -> bytes:
    number = int(digits or "0", 16)
    return b"\x4a\x10" + number.to_bytes(16) if number else b""


def _span_id(digits: str) -> bytes:
    number = int(digits or "0", 16)
    return b"\x52\x08" + number.to_bytes(8) if number else b""


def encode_log(readable: ReadableLogRecord) -> bytes:
    """Return the body of a `LogRecord` of the SDK; never raises.

    Field by field, since the SDK hands them over in a thread of its own.
    """
    record: Any = readable.log_record

    def attributes() -> bytes:
        found, lost = LOG.careful(record.attributes)
        return found + count(0x38, readable.dropped_attributes + lost)

    return fields(
        (
            lambda: moment(0x09, record.timestamp),
            lambda: moment(0x59, record.observed_timestamp),
            lambda: count(0x10, getattr(record.severity_number, "value", 0)),
            lambda: framed(b"\x1a", lenient(record.severity_text)),
            lambda: framed(b"\x2a", _body(record.body)),
            attributes,
            lambda: _fixed32(0x45, index(record.trace_flags)),
            lambda: trace_id_of(b"\x4a", record) if record.trace_id else b"",
            lambda: span_id_of(b"\x52", record) if record.span_id else b"",
            lambda: framed(b"\x62", lenient(record.event_name)),
        )
    )


def _body(value: Any) -> bytes:
    """Return a log record's body; one that OTLP has no value for is written as text."""
    try:
        return value_of(value)
    except Exception:  # noqa: BLE001 - it is what the record says: better as text than not at all
        return framed(b"\x0a", lenient(value))
