"""The spans of the SDK, by their private fields: those cost a tenth of the properties.

A property copies events and links, and wraps the attributes so that each read of one runs the
SDK's code. Each function raises where the fields are others in this version, or hold what does not
fit; `encode_careful` takes over there.
"""
# ruff: noqa: SLF001 - what this module is for

from __future__ import annotations

from struct import Struct
from typing import Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event
from opentelemetry.trace import DEFAULT_TRACE_STATE, Link, StatusCode

from otel_agents.spool.encode_careful import count, trace_state_of
from otel_agents.spool.encode_tables import EVENT, LINK, SPAN, Attributes, Names
from otel_agents.spool.encode_wire import VARINTS, framed, text

# trace_id, span_id, start_time_unix_nano and end_time_unix_nano with their tags.
_fixed: Final = Struct("<2s16s2s8sBQBQ").pack
_moment: Final = Struct("<BQ").pack
# flags: it is known whether the parent is remote, and whether it is; the tag of parent_span_id.
_NO_PARENT: Final = b"\x85\x01\x00\x01\x00\x00"
_LOCAL_PARENT: Final = b"\x85\x01\x00\x01\x00\x00\x22\x08"
_REMOTE_PARENT: Final = b"\x85\x01\x00\x03\x00\x00\x22\x08"
_LOCAL_LINK: Final = b"\x35\x00\x01\x00\x00"
_REMOTE_LINK: Final = b"\x35\x00\x03\x00\x00"
_KINDS: Final = tuple(bytes((0x30, number)) for number in range(1, 6))
_STATUS: Final = {StatusCode.UNSET: b"", StatusCode.OK: b"\x18\x01", StatusCode.ERROR: b"\x18\x02"}
_UNSET: Final = b"\x7a\x00"

_attribute: Final = SPAN.__getitem__
_names: Final = Names(b"\x2a")
_event_names: Final = Names(b"\x12")


def plain_span(span: Any) -> bytes:
    """Return the body of a `Span`.

    Raises:
        Exception: the fields are others in this version, or hold what does not fit.
    """
    trace_id, span_id, _, _, state, _ = span._context
    held, events, links = span._attributes, span._events, span._links
    if type(held) is not BoundedAttributes:
        raise TypeError
    dropped = held.dropped
    parts = [
        _fixed(
            b"\x0a\x10", trace_id.to_bytes(16), b"\x12\x08", span_id.to_bytes(8),
            0x39, span._start_time, 0x41, span._end_time,
        ),
        _names[span._name],
        _KINDS[span._kind._value_],
        _parent(span._parent) if span._parent is not None else _NO_PARENT,
        _status(span._status),
    ]  # fmt: skip
    before = len(parts)
    try:
        parts += map(_attribute, held._dict.items())
    except Exception:  # noqa: BLE001 - one of them does not fit
        del parts[before:]
        found, lost = SPAN.careful(held._dict)
        parts.append(found)
        dropped += lost
    if state is not DEFAULT_TRACE_STATE:
        parts.append(trace_state_of(state))
    if events._dq or links._dq or dropped or events.dropped or links.dropped:
        parts += [_event(event) for event in events._dq]
        parts += [_link(link) for link in links._dq]
        parts += (count(0x50, dropped), count(0x60, events.dropped), count(0x70, links.dropped))
    return b"".join(parts)


def _parent(context: Any) -> bytes:
    """Return parent_span_id and flags."""
    start = _REMOTE_PARENT if context[2] else _LOCAL_PARENT
    return start + context[1].to_bytes(8)  # type: ignore[no-any-return]


def _status(status: Any) -> bytes:
    code, description = status._status_code, status._description
    if code is StatusCode.UNSET and not description:
        return _UNSET
    described = framed(b"\x12", text(description)) if description else b""
    return framed(b"\x7a", described + _STATUS[code])


def _attributes(table: Attributes, held: Any, tag: int) -> bytes:
    """Return attributes, and how many were dropped where any were; `tag` is that of the number."""
    if type(held) is not BoundedAttributes:
        raise TypeError
    dropped = held.dropped
    try:
        found = b"".join(map(table.__getitem__, held._dict.items()))
    except Exception:  # noqa: BLE001 - one of them does not fit
        found, lost = table.careful(held._dict)
        dropped += lost
    return found + count(tag, dropped) if dropped else found


def _event(event: Any) -> bytes:
    if type(event) is not Event:
        raise TypeError
    body = (
        _moment(0x09, event._timestamp)
        + _event_names[event._name]
        + _attributes(EVENT, event._attributes, 0x20)
    )
    return b"\x5a" + VARINTS[len(body)] + body


def _link(link: Any) -> bytes:
    if type(link) is not Link:
        raise TypeError
    trace_id, span_id, remote, _, _, _ = link._context
    body = (
        b"\x0a\x10" + trace_id.to_bytes(16) + b"\x12\x08" + span_id.to_bytes(8)
        + (_REMOTE_LINK if remote else _LOCAL_LINK)
        + _attributes(LINK, link._attributes, 0x28)
    )  # fmt: skip
    return framed(b"\x6a", body)
