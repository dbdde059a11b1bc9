"""OTLP messages of any content, and their JSON as the specification has it.

The encoder is written apart from the receiver's reader, so that the two check each other.
"""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.descriptor import FieldDescriptor as Field
from hypothesis import strategies as st

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

IDS: Final = ("trace_id", "span_id", "parent_span_id")
_RANGES: Final = {
    Field.TYPE_FIXED64: (0, 2**64 - 1),
    Field.TYPE_UINT64: (0, 2**64 - 1),
    Field.TYPE_INT64: (-(2**63), 2**63 - 1),
    Field.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    Field.TYPE_UINT32: (0, 2**32 - 1),
    Field.TYPE_FIXED32: (0, 2**32 - 1),
    Field.TYPE_INT32: (-(2**31), 2**31 - 1),
    Field.TYPE_SINT32: (-(2**31), 2**31 - 1),
    Field.TYPE_ENUM: (0, 30),
}
_WIDE: Final = (
    Field.TYPE_FIXED64, Field.TYPE_UINT64, Field.TYPE_INT64, Field.TYPE_SFIXED64,
)  # fmt: skip


def values(field: Field) -> st.SearchStrategy[Any]:
    """Any value of a field that is no message."""
    if field.type == Field.TYPE_STRING:
        return st.text(max_size=8)
    if field.type == Field.TYPE_BYTES:
        return st.binary(max_size=17)
    if field.type == Field.TYPE_BOOL:
        return st.booleans()
    if field.type == Field.TYPE_DOUBLE:
        # A NaN has a sign, which JSON does not keep.
        return st.floats().map(lambda value: math.nan if math.isnan(value) else value)
    return st.integers(*_RANGES[field.type])


@st.composite
def filled(draw: st.DrawFn, kind: type[Message], depth: int = 7) -> Any:
    """A message of any content, nested at most `depth` deep."""
    message = kind()
    _fill(draw, message, depth)
    return message


def _fill(draw: st.DrawFn, message: Any, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None:
            if depth == 0 or not draw(st.booleans()):
                continue
            if field.is_repeated:
                for _ in range(draw(st.integers(0, 2))):
                    _fill(draw, getattr(message, field.name).add(), depth - 1)
            else:
                getattr(message, field.name).SetInParent()
                _fill(draw, getattr(message, field.name), depth - 1)
        elif field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(values(field), max_size=3)))
        elif draw(st.integers(0, 2)) == 0:
            setattr(message, field.name, draw(values(field)))


@st.composite
def spelled(draw: st.DrawFn, message: Any) -> dict[str, Any]:
    """The JSON of a message in any of the spellings that the specification allows."""
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        many = value if field.is_repeated else (value,)
        parts = [
            draw(spelled(one)) if field.message_type is not None else _say(draw, field, one)
            for one in many
        ]
        found[field.json_name] = parts if field.is_repeated else parts[0]
    if draw(st.booleans()):
        found["unknown"] = draw(st.sampled_from([None, 1, "x", [{}], {"traceId": [1, 2]}]))
    absent = [f for f in message.DESCRIPTOR.fields if f.json_name not in found]
    if absent and draw(st.booleans()):
        found[draw(st.sampled_from(absent)).json_name] = None
    return dict(draw(st.permutations(list(found.items()))))


def _say(draw: st.DrawFn, field: Field, value: Any) -> Any:
    if field.name in IDS:
        return draw(st.sampled_from([value.hex(), value.hex().upper()]))
    if field.type == Field.TYPE_BYTES:
        standard = base64.b64encode(value).decode()
        web = base64.urlsafe_b64encode(value).decode()
        return draw(st.sampled_from([standard, web, standard.rstrip("=")]))
    if field.type in _WIDE:
        return draw(st.sampled_from([str(value), value]))
    if field.type == Field.TYPE_DOUBLE:
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return draw(st.sampled_from([value, repr(value)]))
    return value


def every(descriptor: Descriptor) -> dict[str, Descriptor]:
    """Return all message types that a message type is made of, by name."""
    found: dict[str, Descriptor] = {}
    waiting = [descriptor]
    while waiting:
        one = waiting.pop()
        if one.full_name not in found:
            found[one.full_name] = one
            waiting += [f.message_type for f in one.fields if f.message_type is not None]
    return found


def elements(message: Any, around: tuple[bytes, ...] = ()) -> Any:
    """Yield spans, records and points with what stands beside them."""
    stop = {"spans", "log_records", "data_points"}
    inner = (
        "resource_spans", "scope_spans", "spans", "resource_metrics", "scope_metrics", "metrics",
        "resource_logs", "scope_logs", "log_records", "gauge", "sum", "histogram",
        "exponential_histogram", "summary", "data_points",
    )  # fmt: skip
    beside = type(message)()
    beside.CopyFrom(message)
    for name in inner:
        if name in message.DESCRIPTOR.fields_by_name:
            beside.ClearField(name)
    around = (*around, beside.SerializeToString(deterministic=True))
    for name in inner:
        field = message.DESCRIPTOR.fields_by_name.get(name)
        if field is None or (not field.is_repeated and not message.HasField(name)):
            continue
        value = getattr(message, name)
        for one in value if field.is_repeated else (value,):
            if name in stop:
                yield (*around, one.SerializeToString(deterministic=True))
            else:
                yield from elements(one, around)
