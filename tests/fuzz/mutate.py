"""Mutators that know what they change: protobuf's wire format, JSON, and text made of words.

Each takes bytes and a source of chance, and returns other bytes, most of them well-formed: what
is not even parsed reaches nothing behind the parser. An input's first line says how it is to be
taken in and stands apart, so that its words are changed among those that mean something.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    Mutator = Callable[[bytes, Random], bytes]

MOST: Final = 1 << 14  # bytes of an input; what is larger finds nothing more and takes longer

NUMBERS: Final = (
    0, 1, 2, 3, 5, 8, 15, 16, 17, 39, 40, 41, 127, 128, 255, 256, 2**31 - 1, 2**31, 2**32 - 1,
    2**32, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1, 1_700_000_000_000_000_000,
)  # fmt: skip
TEXTS: Final = (
    b"", b"\x00", b"a", b"\xff", b"\xc3\xa4", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80",
    b"__proto__", b"otelagents.signal", b"otelagents.run.id", b"service.name", b"\x1b[2J\r\n",
    b"\xe2\x80\xae", b"0" * 16, b"1" * 16, b"\0" * 16, b"\0" * 8, b"1" * 8, b"1" * 17, b"x" * 65,
    "ä".encode() * 40,
)  # fmt: skip
_DEEPEST: Final = 12
_MOST_FIELDS: Final = 400


# ---------------------------------------------------------------------- bytes


def of_bytes(data: bytes, random: Random) -> bytes:
    """Change some bytes, whatever they mean."""
    out = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(out) + 1)
        match random.randrange(6):
            case 0 if out:
                out[at % len(out)] ^= 1 << random.randrange(8)
            case 1:
                out[at:at] = random.choice(TEXTS)
            case 2:
                del out[at : at + random.randint(1, 8)]
            case 3:
                del out[at:]
            case 4:
                out[at:at] = out[at : at + random.randint(1, 32)] * random.randint(1, 4)
            case _ if out:
                out[at % len(out)] = random.choice((0, 0x7F, 0x80, 0xFF, 0x0A, 0x22, 0x5C, 0x7B))
    return bytes(out)


# ---------------------------------------------------------------------- protobuf

# Number, wire type, value (an int, bytes, or fields), and by how many bytes its key is too long.
Field = list[Any]


def _varint(number: int, padding: int = 0) -> bytes:
    out = bytearray()
    while number > 0x7F or padding:
        out.append(number & 0x7F | 0x80)
        number >>= 7
        padding = padding - 1 if number == 0 and padding else padding
    out.append(number)
    return bytes(out)


def _read(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > 63:
            raise ValueError


def parsed(data: bytes, depth: int = 0) -> list[Field]:
    """Return the fields of a message; raise ValueError or IndexError where it is none."""
    fields: list[Field] = []
    at = 0
    while at < len(data):
        key, at = _read(data, at)
        number, kind = key >> 3, key & 7
        value: Any
        if not number or number > 100_000 or len(fields) > _MOST_FIELDS:
            raise ValueError
        if kind == 0:
            value, at = _read(data, at)
        elif kind in {1, 5}:
            size = 8 if kind == 1 else 4
            if at + size > len(data):
                raise ValueError
            value = int.from_bytes(data[at : at + size], "little")
            at += size
        elif kind == 2:
            size, at = _read(data, at)
            if at + size > len(data):
                raise ValueError
            value = data[at : at + size]
            at += size
            if value and depth < _DEEPEST:
                with suppress(ValueError, IndexError):  # text, or bytes
                    value = parsed(value, depth + 1)
        else:
            raise ValueError
        fields.append([number, kind, value])
    return fields


def encoded(fields: list[Field]) -> bytes:
    """Return fields as they stand on the wire."""
    out = bytearray()
    for number, kind, value, *padding in fields:
        out += _varint(number << 3 | kind, *padding)
        if kind == 2:
            if isinstance(value, int):
                payload = _varint(value & 2**64 - 1)
            else:
                payload = encoded(value) if isinstance(value, list) else value
            out += _varint(len(payload)) + payload
        else:
            given = value if isinstance(value, int) else 0
            if kind == 0:
                out += _varint(given & 2**64 - 1)
            else:
                size = 8 if kind == 1 else 4
                out += (given & 2 ** (8 * size) - 1).to_bytes(size, "little")
    return bytes(out)


def _lists(fields: list[Field]) -> list[list[Field]]:
    found = [fields]
    for field in fields:
        if isinstance(field[2], list):
            found += _lists(field[2])
    return found


def of_wire(data: bytes, random: Random) -> bytes:
    """Change the fields of a protobuf message: values, numbers, lengths, nesting, repetition."""
    try:
        fields = parsed(data)
    except (ValueError, IndexError):
        return of_bytes(data, random)
    for _ in range(random.randint(1, 4)):
        level = random.choice(_lists(fields))
        _change(level, fields, random)
    out = encoded(fields)
    if random.randrange(8) == 0:
        return of_bytes(out, random)  # among others a length that lies
    if random.randrange(12) == 0 and out:
        key, at = _read(out, 0)
        return _varint(key, random.randint(1, 4)) + out[at:]
    return out


def _change(level: list[Field], whole: list[Field], random: Random) -> None:
    action = random.randrange(10)
    if not level or action == 0:
        kind = random.choice((0, 1, 2, 5))
        value = random.choice(TEXTS) if kind == 2 else random.choice(NUMBERS)
        level.insert(random.randrange(len(level) + 1), [random.randint(1, 18), kind, value])
        return
    at = random.randrange(len(level))
    field = level[at]
    match action:
        case 1:
            del level[at]
        case 2:
            level[at:at] = [list(field) for _ in range(random.choice((1, 2, 3, 8, 40)))]
        case 3:
            field[0] = random.randint(1, 16)
        case 4:
            field[1] = random.choice((0, 1, 2, 5))
        case 5:
            depth = random.choice((1, 2, 3, 10, 45))
            for _ in range(depth):
                field[2] = [list(field)]
            field[1] = 2
        case 6:
            random.shuffle(level)
        case 9:
            field[3:] = [random.randint(1, 3)]  # a number longer than it has to be
        case 7:
            other = random.choice(random.choice(_lists(whole)) or [field])
            value = other[2]
            level.append([other[0], other[1], encoded(value) if isinstance(value, list) else value])
        case _:
            field[2] = random.choice(TEXTS) if field[1] == 2 else random.choice(NUMBERS)


# ---------------------------------------------------------------------- JSON


class Pairs(list[Any]):
    """A JSON object as it is written: its members in order, a key as often as it comes."""


_VALUES: Final = (
    None, True, False, 0, 1, -1, 0.5, 1e300, -0.0, "", "0", "-1", "1.5", "1e3", "NaN", "Infinity",
    "-Infinity", "a", "AAAA", "_-8=", "5b8efff798038103d269b633813fc60c", "EEE19B7EC3C1B174", "5b8",
    [], [None], [[]], {}, {"stringValue": "x"}, {"arrayValue": {"values": [{}]}}, "\x00", "\u2028",
    "\U0001f600", "SPAN_KIND_SERVER", *NUMBERS, *map(str, NUMBERS), -(2**63), -(2**63) - 1, "+1",
    str(-(2**63)), " 1", "1_0", "\u0663", 2**64, 10**30, "9" * 30, "x" * 70,
)  # fmt: skip
_KEYS: Final = (
    "resourceSpans", "scopeSpans", "spans", "resourceLogs", "scopeLogs", "logRecords", "resource",
    "resourceMetrics", "scopeMetrics", "metrics", "gauge", "sum", "histogram", "summary", "scope",
    "exponentialHistogram", "dataPoints", "attributes", "key", "value", "stringValue", "boolValue",
    "intValue", "doubleValue", "arrayValue", "kvlistValue", "bytesValue", "values", "traceId",
    "spanId", "parentSpanId", "trace_id", "flags", "name", "kind", "startTimeUnixNano", "events",
    "endTimeUnixNano", "timeUnixNano", "links", "status", "code", "message", "body", "unit",
    "severityNumber", "droppedAttributesCount", "asInt", "asDouble", "bucketCounts", "count",
    "explicitBounds", "quantileValues", "quantile", "min", "max", "schemaUrl", "exemplars",
    "__proto__", "", "unknown", "version", "stringValueStrindex", "isMonotonic", "scale",
    "positive", "negative", "offset", "aggregationTemporality", "entityRefs", "metadata",
)  # fmt: skip


def _said(value: Any, random: Random) -> str:
    """Return JSON in one of the ways that it can be written."""
    if isinstance(value, Pairs):
        inside = ",".join(f"{_said(k, random)}:{_said(v, random)}" for k, v in value)
        return f"{{{inside}}}" if random.randrange(8) else f"{{ {inside}\n}}"
    if isinstance(value, list):
        return f"[{','.join(_said(one, random) for one in value)}]"
    return json.dumps(value, ensure_ascii=bool(random.getrandbits(1)))


def _holders(value: Any) -> list[Any]:
    found = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            found.append(one)
            waiting += [pair[1] for pair in one] if isinstance(one, Pairs) else one
    return found


def of_json(
    data: bytes, random: Random, keys: Sequence[str] = _KEYS, values: Sequence[Any] = _VALUES
) -> bytes:
    """Change what a JSON text holds: members, values, nesting, keys that come twice, spelling."""
    try:
        tree = json.loads(data, object_pairs_hook=lambda pairs: Pairs(map(list, pairs)))
    except (ValueError, RecursionError):
        return of_bytes(data, random)
    tree = [tree]
    for _ in range(random.randint(1, 4)):
        _change_json(random.choice(_holders(tree)), random, keys, values)
    try:
        text = _said(tree[0] if tree else None, random)
    except RecursionError:
        return of_bytes(data, random)
    if random.randrange(12) == 0:
        text = text.replace("\\u0000", "\\ud800") + random.choice(("", " ", "\n", ",", "x", "}"))
    out = text.encode("utf-8", "surrogatepass")
    return of_bytes(out, random) if random.randrange(8) == 0 else out


def _copied(value: Any) -> Any:
    if isinstance(value, Pairs):
        return Pairs([key, _copied(one)] for key, one in value)
    if isinstance(value, dict):
        return Pairs([key, _copied(one)] for key, one in value.items())
    return [_copied(one) for one in value] if isinstance(value, list) else value


def _change_json(holder: Any, random: Random, keys: Sequence[str], values: Sequence[Any]) -> None:
    value = _copied(random.choice(values))
    pairs = isinstance(holder, Pairs)
    action = random.randrange(7)
    if not holder or action == 0:
        holder.append([random.choice(keys), value] if pairs else value)
        return
    at = random.randrange(len(holder))
    match action:
        case 1:
            del holder[at]
        case 2:
            again = random.choice((1, 2, 8))
            holder[at:at] = [_copied_pair(holder[at], pairs) for _ in range(again)]
        case 3 if pairs:
            holder[at][0] = random.choice(keys)
        case 4:
            inner = holder[at][1] if pairs else holder[at]
            for _ in range(random.choice((1, 2, 10, 39, 41, 45))):
                inner = Pairs([["arrayValue", Pairs([["values", [inner]]])]])
            _set(holder, at, inner, pairs)
        case 5:
            random.shuffle(holder)
        case _:
            _set(holder, at, value, pairs)


def _copied_pair(one: Any, pairs: bool) -> Any:
    return [one[0], _copied(one[1])] if pairs else _copied(one)


def _set(holder: Any, at: int, value: Any, pairs: bool) -> None:
    if pairs:
        holder[at] = [holder[at][0], value]
    else:
        holder[at] = value


# ---------------------------------------------------------------------- text, and first lines


def of_words(words: Sequence[str]) -> Mutator:
    """Return a mutator that puts words, and changed bytes, between others."""

    def mutate(data: bytes, random: Random) -> bytes:
        out = data
        for _ in range(random.randint(1, 3)):
            at = random.randrange(len(out) + 1)
            word = random.choice(words).encode("utf-8", "surrogatepass")
            match random.randrange(4):
                case 0:
                    out = out[:at] + word + out[at:]
                case 1:
                    out = out[:at] + word + out[at + len(word) :]
                case 2:
                    lines = out.split(b"\n")
                    lines[random.randrange(len(lines))] = word
                    out = b"\n".join(lines)
                case _:
                    out = of_bytes(out, random)
        return out

    return mutate


def headed(words: Sequence[str], rest: Mutator | None = None) -> Mutator:
    """Return a mutator of inputs with a first line of words, and below it what `rest` changes.

    Without `rest` what is below is taken for JSON where the first line has the word `json`, and
    for protobuf otherwise.
    """

    def mutate(data: bytes, random: Random) -> bytes:
        head, _, body = data.partition(b"\n")
        if random.randrange(4) == 0:
            said = head.split(b" ")
            said[random.randrange(len(said))] = random.choice(words).encode()
            if random.getrandbits(1):
                said.append(random.choice(words).encode())
            head = b" ".join(said[:8])
        else:
            change = rest or (of_json if b"json" in head.split(b" ") else of_wire)
            body = change(body, random)
        return head + b"\n" + body

    return mutate


def mutated(data: bytes, mutator: Mutator, random: Random, most: int = MOST) -> bytes:
    """Return an input that is not the given one, in most cases, of `most` bytes at most."""
    for _ in range(4):
        out = mutator(data, random)
        if len(out) <= most and out != data:
            return out
    return of_bytes(data, random)[:most]
