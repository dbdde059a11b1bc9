"""What others make of the same bytes: google's parsers and Python's gzip, and where we depart.

Departures, each on purpose:

- ids are hexadecimal in OTLP/JSON, base64 in protobuf's own: they are turned before the comparison;
- in OTLP/JSON snake_case keys and names of enums do not count, in protobuf's own they do;
- numbers and base64 in text are read as the specification spells them; `json_format` asks
  Python's `int`, `float` and a decoder that passes over what is not base64;
- `json_format` raises where two members of a oneof are given, where we keep the last one;
- values are nested 40 deep at most in JSON, and as deep as protobuf parses on the wire;
- a body that is `null` is an empty request; half of a surrogate pair is no text, wherever it is;
- what stands under an unknown key is passed over unread, so it need not be valid JSON text;
- groups, which OTLP never had, are refused where a body is walked;
- a gzip body may have 100 members, and nothing behind the last, not even padding.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from typing import TYPE_CHECKING, Any, Final

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor

from otel_agents.receiver.limits import MAX_GZIP_MEMBERS, MAX_VALUE_DEPTH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

    from otel_agents.receiver.decode import Kind
    from otel_agents.receiver.shapes import Shape

# Why we may take what `json_format` refuses.
TAKEN: Final = frozenset({"two of a oneof", "unread"})
_IDS: Final = frozenset({"trace_id", "span_id", "parent_span_id"})
_DATA: Final = frozenset({5, 7, 9, 10, 11})
_NUMBER: Final = re.compile(r"-?[0-9]{1,20}")
_DOUBLE: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?|NaN|-?Infinity")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")


# ---------------------------------------------------------------------- the wire


def _read(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, int, tuple[int, int], bytes]]:
    """Yield a message's fields: number, wire type, where it stands, payload; -1 for a group."""
    at = 0
    while at < len(data):
        begin = at
        key, at = _read(data, at)
        number, kind = key >> 3, key & 7
        if kind == 2:
            size, at = _read(data, at)
            start, at = at, at + size
        elif kind == 0:
            start = at
            _, at = _read(data, at)
        elif kind in {1, 5}:
            start, at = at, at + (8 if kind == 1 else 4)
        else:
            yield -1, kind, (begin, at), b""
            return
        yield number, kind, (begin, at), data[start:at]


def has_group(body: bytes, descriptor: Descriptor) -> bool:
    """Say whether a message that parses, or one inside it, holds a group."""
    for number, kind, _, payload in _fields(body):
        if number < 0:
            return True
        field = descriptor.fields_by_number.get(number)
        inside = None if field is None or kind != 2 else field.message_type
        if inside is not None and has_group(payload, inside):
            return True
    return False


def has_two_of_one(kind: Kind, body: bytes) -> bool:
    """Say whether a metric has its data more than once: as a whole the last kind of it counts.

    In slices each is kept, as of a request that was split by its sender.
    """
    levels = [body]
    for wanted in (1, 2, 2) if kind.items == "data points" else ():
        levels = [
            payload
            for level in levels
            for number, wire, _, payload in _fields(level)
            if number == wanted and wire == 2
        ]
    if kind.items != "data points":
        return False
    return any(
        sum(1 for number, wire, _, _ in _fields(metric) if number in _DATA and wire == 2) > 1
        for metric in levels
    )


def cut_texts(kind: Kind, body: bytes, most: int, mark: str) -> tuple[bytes, int]:
    """Return the message of a body whose texts above `most` bytes are cut, and how many were."""
    data, cuts = _cut(body, kind.shape, most, mark.encode())
    return kind.request.FromString(data).SerializeToString(deterministic=True), cuts


def _cut(data: bytes, shape: Shape, most: int, mark: bytes) -> tuple[bytes, int]:
    out = bytearray()
    cuts = lost = dropped = 0
    for number, kind, (begin, end), payload in _fields(data):
        if kind == 0 and number == shape.dropped:
            dropped = _read(payload, 0)[0] & 0xFFFFFFFF
        count, inner = 0, payload
        if kind == 2 and len(payload) > most:
            inside = shape.fields.get(number)
            if inside is not None:
                inner, count = _cut(payload, inside, most, mark)
            elif number in shape.texts:
                inner, count = _shortened(payload, most - len(mark)) + mark, 1
        cuts += count
        lost += count if number == shape.attributes else 0
        if count:
            out += _varint(number << 3 | kind) + _varint(len(inner)) + inner
        else:
            out += data[begin:end]
    if lost and shape.dropped:
        out += _varint(shape.dropped << 3) + _varint(min(dropped + lost, 2**32 - 1))
    return bytes(out), cuts


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])


def _shortened(payload: bytes, room: int) -> bytes:
    """Return the first bytes, less those of a character that does not end there."""
    for end in range(room, room - 4, -1):
        if payload[end] & 0xC0 != 0x80:
            return payload[:end]
    return payload[:room]


# ---------------------------------------------------------------------- JSON


class _Odd(ValueError):
    """What no reader takes."""


def from_json(request: type[Message], body: bytes) -> tuple[Message | None, set[str]]:
    """Return the message that `json_format` makes of an OTLP/JSON body, or None.

    Beside it stand the departures that the body gives occasion to.
    """
    departures: set[str] = set()
    try:
        tree = json.loads(body.decode(), parse_constant=_refused)
        all_of_it = json.loads(body.decode(), object_pairs_hook=list)
    except (ValueError, RecursionError):
        return None, {"unread"}
    if tree is None:
        return request(), departures
    try:
        json.dumps(all_of_it, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        departures.add("half a character")
    except RecursionError:
        departures.add("deep")
    try:
        tree = _translated(request.DESCRIPTOR, tree, departures, 0)
        # Far deeper than any value that we take: what it refuses is not refused for its depth.
        return json_format.ParseDict(
            tree, request(), ignore_unknown_fields=True, max_recursion_depth=300
        ), departures
    except (json_format.ParseError, ValueError, TypeError, AttributeError, OverflowError):
        return None, departures
    except RecursionError:
        return None, departures | {"deep"}


def _refused(_text: str) -> None:
    raise _Odd


def _translated(descriptor: Descriptor, data: Any, departures: set[str], depth: int) -> Any:
    if not isinstance(data, dict):
        raise _Odd  # `json_format` takes an empty text or list for an empty object
    if depth > MAX_VALUE_DEPTH:
        departures.add("deep")
    known = {field.json_name: field for field in descriptor.fields}
    found = {}
    chosen: set[str] = set()
    for key, value in data.items():
        field = known.get(key)
        if field is None or value is None:
            continue
        oneof = field.containing_oneof
        # An optional scalar stands in a oneof of its own.
        if oneof is not None and len(oneof.fields) > 1:
            if oneof.name in chosen:
                departures.add("two of a oneof")
            chosen.add(oneof.name)
        if field.is_repeated:
            many = value if isinstance(value, list) else _refuse()
            found[key] = [_said(field, one, departures, depth) for one in many]
        else:
            found[key] = _said(field, value, departures, depth)
    return found


def _refuse() -> Any:
    raise _Odd


def _said(field: FieldDescriptor, value: Any, departures: set[str], depth: int) -> Any:
    if field.message_type is not None:
        return _translated(field.message_type, value, departures, depth + 1)
    if field.name in _IDS:
        return _base64_of_hex(value)
    if field.type == FieldDescriptor.TYPE_ENUM and type(value) is not int:
        departures.add("no number of an enum")
    elif field.type == FieldDescriptor.TYPE_BYTES:
        text = value if isinstance(value, str) else _refuse()
        if not _BASE64.fullmatch(text) or len(text.rstrip("=")) % 4 == 1:
            departures.add("no base64")
    elif field.type == FieldDescriptor.TYPE_DOUBLE:
        if isinstance(value, bool) or (isinstance(value, str) and not _DOUBLE.fullmatch(value)):
            departures.add("no number")
    elif (
        isinstance(value, str)
        and field.type != FieldDescriptor.TYPE_STRING
        and not _NUMBER.fullmatch(value)
    ):
        departures.add("no number")
    return value


def _base64_of_hex(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"([0-9a-fA-F]{2})*", value):
        raise _Odd
    return base64.b64encode(bytes.fromhex(value)).decode()


# ---------------------------------------------------------------------- gzip


def gzip_is_stricter(body: bytes) -> bool:
    """Say whether zlib itself, or our limit, refuses what Python's gzip reads.

    Python passes over padding behind the last member and over flags that no RFC has.
    """
    members = 0
    while body:
        member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            member.decompress(body)
        except zlib.error:
            return True
        if not member.eof:
            return not body.strip(b"\0")
        body = member.unused_data
        members += 1
    return members > MAX_GZIP_MEMBERS
