"""OTLP/JSON into protobuf messages, a span, record or point at a time.

It is protobuf's JSON with differences of its own, so `google.protobuf.json_format` does not read
it: ids are hexadecimal (json_format takes them for base64 without complaint), enums are numbers
only, keys are lowerCamelCase only, and unknown ones are ignored. A number of 64 bits is text or a
number.
"""

from __future__ import annotations

import base64
import binascii
import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from google.protobuf.descriptor import FieldDescriptor

from otel_agents.receiver.limits import (
    MAX_BESIDE,
    MAX_JSON_ELEMENT_ITEMS,
    MAX_JSON_ITEMS,
    MAX_VALUE_DEPTH,
    WHOLE,
)
from otel_agents.receiver.status import Refusal, too_large, undecodable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

    from otel_agents.receiver.bounded import Body
    from otel_agents.receiver.shapes import Shape

_HEX: Final = frozenset({"trace_id", "span_id", "parent_span_id"})
_INTEGER: Final = re.compile(r"-?[0-9]{1,20}")
_NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|NaN|-?Infinity")
_NONE: Final = msgspec.Raw(b"")
_list: Final = msgspec.json.Decoder(list[msgspec.Raw] | None)
_any: Final = msgspec.json.Decoder()


class _Field(NamedTuple):
    """A field of a message: its name, how its value is read, or the message type in it."""

    name: str
    repeated: bool
    read: Callable[[Any], Any] | None
    message: Descriptor | None


def _integer(value: Any) -> int:
    if type(value) is int:
        return value
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise ValueError


def _enum(value: Any) -> int:
    if type(value) is int:
        return value
    raise ValueError


def _double(value: Any) -> float:
    if type(value) in {int, float} or (isinstance(value, str) and _NUMBER.fullmatch(value)):
        return float(value)
    raise ValueError


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ValueError


def _hex(value: Any) -> bytes:
    text = _text(value)
    if not text.isalnum():  # fromhex passes over blanks
        if not text:
            return b""
        raise ValueError
    return bytes.fromhex(text)


def _base64(value: Any) -> bytes:
    text = _text(value).replace("-", "+").replace("_", "/").rstrip("=")
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


_READERS: Final = {
    FieldDescriptor.TYPE_STRING: _text,
    FieldDescriptor.TYPE_BYTES: _base64,
    FieldDescriptor.TYPE_BOOL: _bool,
    FieldDescriptor.TYPE_DOUBLE: _double,
    FieldDescriptor.TYPE_FLOAT: _double,
    FieldDescriptor.TYPE_ENUM: _enum,
}


@cache
def _fields(descriptor: Descriptor) -> dict[str, _Field]:
    found = {}
    for field in descriptor.fields:
        read = None
        if field.type != FieldDescriptor.TYPE_MESSAGE:
            read = _hex if field.name in _HEX else _READERS.get(field.type, _integer)
        found[field.json_name] = _Field(field.name, field.is_repeated, read, field.message_type)
    return found


@cache
def _level(descriptor: Descriptor) -> msgspec.json.Decoder[Any]:
    """Return a decoder of a message whose fields stay undecoded; it passes over unknown ones."""
    fields = [(name, msgspec.Raw, _NONE) for name in _fields(descriptor)]
    return msgspec.json.Decoder(msgspec.defstruct(descriptor.name, fields) | None)


def fill(message: Message, data: Any, depth: int = 0) -> None:
    """Write the data of a JSON object into a message; a refusal where it does not fit."""
    if not isinstance(data, dict):
        why = f"{message.DESCRIPTOR.name} is not a JSON object."
        raise undecodable(why)
    if depth > MAX_VALUE_DEPTH * 2:  # a value in a list is two messages deep
        why = f"A value is nested deeper than {MAX_VALUE_DEPTH}."
        raise undecodable(why)
    known = _fields(message.DESCRIPTOR)
    for key, value in data.items():
        field = known.get(key)
        if field is None or value is None:
            continue
        try:
            _put(message, field, value, depth)
        except Refusal:
            raise
        except (ValueError, TypeError, OverflowError, binascii.Error):
            why = f"{message.DESCRIPTOR.name}.{key} does not have a value of its type."
            raise undecodable(why) from None


def _put(message: Message, field: _Field, value: Any, depth: int) -> None:
    name = field.name
    if not field.repeated:
        if field.read is not None:
            setattr(message, name, field.read(value))
            return
        inside = getattr(message, name)
        inside.SetInParent()
        fill(inside, value, depth + 1)
        return
    if not isinstance(value, list):
        raise ValueError  # noqa: TRY004 - said by the caller, with the name of the field
    many = getattr(message, name)
    if field.read is not None:
        many.extend(map(field.read, value))
        return
    for one in value:
        fill(many.add(), one, depth + 1)


class JsonSlices:
    """The slices of a JSON body, as protobuf messages of a given class."""

    def __init__(self, body: Body, request: type[Message], shape: Shape, whole: int) -> None:
        self._body = body
        self._request = request
        self._shape = shape
        self._large = body.size > whole
        self._most = whole // 2
        # What leads to the current element: field names, and what stands beside the inner ones.
        self._path: list[tuple[_Field, bytes]] = []
        self._open: list[Message] = []
        self._weight = 0

    def __iter__(self) -> Iterator[bytes]:
        """Yield messages; only of a body above `whole` bytes there are several."""
        data = memoryview(self._body.data)[: self._body.size]
        if self._large and _items(data) > MAX_JSON_ITEMS:
            why = f"The request has more than {MAX_JSON_ITEMS} values."
            raise too_large(why)
        self._open = [self._request()]
        try:
            yield from self._inside(msgspec.Raw(data), self._request.DESCRIPTOR, self._shape)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            why = f"The body is not OTLP/JSON: {error}."
            raise undecodable(why) from None
        except RecursionError:
            why = "The body is nested too deeply."
            raise undecodable(why) from None
        yield self._open[0].SerializeToString()

    def _inside(self, raw: msgspec.Raw, descriptor: Any, shape: Shape) -> Iterator[bytes]:
        """Read a level above the elements into the innermost open message."""
        found = _level(descriptor).decode(raw)
        if found is None:
            return
        fields = _fields(descriptor)
        inner = {descriptor.fields_by_number[number].json_name: number for number in shape.inner}
        beside = {
            name: _any.decode(part)
            for name in fields
            if name not in inner and self._bounded(part := getattr(found, name))
        }
        fill(self._open[-1], beside)
        if self._path:
            self._path[-1] = (self._path[-1][0], self._open[-1].SerializeToString())
        for name, number in inner.items():
            part = getattr(found, name)
            if bytes(memoryview(part)[:4]) in {b"", b"null"}:
                continue
            field = fields[name]
            for one in _list.decode(part) or () if field.repeated else (part,):
                yield from self._one(one, field, shape.fields[number])

    def _one(self, raw: msgspec.Raw, field: _Field, shape: Shape) -> Iterator[bytes]:
        """Read one inner message."""
        size = memoryview(raw).nbytes
        if not shape.element:
            if bytes(memoryview(raw)[:4]) == b"null":  # in a list it stands for no message
                why = f"{field.name} holds what is not a JSON object."
                raise undecodable(why)
            self._open.append(_child(self._current(), field))
            self._path.append((field, b""))
            yield from self._inside(raw, self._open[-1].DESCRIPTOR, shape)
            self._path.pop()
            if len(self._open) > len(self._path) + 1:
                self._open.pop()
            return
        if size > WHOLE and _items(memoryview(raw)) > MAX_JSON_ELEMENT_ITEMS:
            why = f"An element has more than {MAX_JSON_ELEMENT_ITEMS} values."
            raise too_large(why)
        fill(_child(self._current(), field), _any.decode(raw))
        self._weight += size
        if self._large and self._weight > self._most:
            yield self._open[0].SerializeToString()
            self._open = [self._request()]
            self._weight = 0

    def _current(self) -> Message:
        """Return the innermost open message, opened again after a cut."""
        while len(self._open) <= len(self._path):
            field, beside = self._path[len(self._open) - 1]
            self._open.append(_child(self._open[-1], field))
            self._open[-1].MergeFromString(beside)
        return self._open[-1]

    def _bounded(self, raw: msgspec.Raw) -> bool:
        """Say whether there is something, of a length that can be repeated in each slice."""
        size = memoryview(raw).nbytes
        if self._large and size > MAX_BESIDE:
            why = f"A resource or scope of a large request is above {MAX_BESIDE} bytes."
            raise too_large(why)
        return size > 0


def _child(message: Message, field: _Field) -> Message:
    inside = getattr(message, field.name)
    if field.repeated:
        return inside.add()  # type: ignore[no-any-return]
    inside.SetInParent()
    return inside  # type: ignore[no-any-return]


def _items(data: memoryview) -> int:
    """Return about how many objects, lists and members there are; more where text has commas."""
    count = 0
    for begin in range(0, data.nbytes, WHOLE):
        part = bytes(data[begin : begin + WHOLE])
        count += part.count(b"{") + part.count(b"[") + part.count(b",")
    return count
