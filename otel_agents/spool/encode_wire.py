"""Values as OTLP protobuf, without a protobuf library: its message objects cost six times as much.

What repeats, small numbers here, is encoded once; see `encode_tables` for keys and texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import index
from struct import Struct
from typing import Any, Final

# Messages inside each other, of a value and what is in it. A reader built on protobuf's C core
# takes 100 in all and refuses the whole request for one value that goes deeper; down to a value
# there are at most six. A list adds two, a mapping three.
MAX_DEPTH: Final = 94

_MAX_KEPT_NUMBER: Final = 1 << 12
_MIN_INT: Final = -(1 << 63)
MAX_INT: Final = (1 << 63) - 1
_ALL_BITS: Final = (1 << 64) - 1
double: Final = Struct("<d").pack


class Unencodable(ValueError):  # noqa: N818 - it is caught by those who count it
    """OTLP has no place for a value; its message says why."""


class _Numbers(dict[int, bytes]):
    """Numbers from 0 as varints; small ones are kept."""

    def __missing__(self, number: int) -> bytes:
        if number < 0x80:  # noqa: PLR2004 - seven bits a byte
            found = bytes((number,))
        elif number < 0x4000:  # noqa: PLR2004
            found = bytes((number & 0x7F | 0x80, number >> 7))
        else:
            left = number
            digits = bytearray()
            while left > 0x7F:  # noqa: PLR2004
                digits.append(left & 0x7F | 0x80)
                left >>= 7
            digits.append(left)
            return bytes(digits)
        if number < _MAX_KEPT_NUMBER:
            self[number] = found
        return found


# `VARINTS[number]` is a number, not negative, as it stands on the wire.
VARINTS: Final = _Numbers()


def framed(tag: bytes, body: bytes) -> bytes:
    """Return a message, text or bytes as a field: its tag, its length, itself."""
    return tag + VARINTS[len(body)] + body


def text(value: Any) -> bytes:
    """Return what protobuf takes for text as UTF-8: text, or bytes that are UTF-8.

    Raises:
        Unencodable: it is neither.
        UnicodeError: half of a surrogate pair, which UTF-8 cannot hold, or bytes of no UTF-8.
    """
    if isinstance(value, str):
        return str.encode(value)
    if isinstance(value, bytes):
        plain = bytes.join(b"", (value,))
        plain.decode()
        return plain
    message = f"not text: {type(value).__name__}"
    raise Unencodable(message)


def integer(value: Any) -> bytes:
    """Return a signed number of 64 bits as a varint; what is negative takes ten bytes.

    Raises:
        Unencodable: more than 64 bits.
    """
    number = index(value)
    if not _MIN_INT <= number <= MAX_INT:
        message = "an integer of more than 64 bits"
        raise Unencodable(message)
    return VARINTS[number & _ALL_BITS]


def value_of(value: Any, depth: int = MAX_DEPTH) -> bytes:
    """Return the body of an `AnyValue`.

    Raises:
        Unencodable: a type that OTLP has no value for, an integer of more than 64 bits, or values
            inside each other so deep that a reader would refuse them.
        UnicodeError: text that is no UTF-8.
    """
    if depth < 0:
        message = "values too deep inside each other"
        raise Unencodable(message)
    if value is None:
        return b""
    if isinstance(value, bool):
        return b"\x10\x01" if index(value) else b"\x10\x00"
    if isinstance(value, str):
        return framed(b"\x0a", text(value))
    if isinstance(value, int):
        return b"\x18" + integer(value)
    if isinstance(value, float):
        return b"\x21" + double(value)
    if isinstance(value, bytes):
        return framed(b"\x3a", bytes.join(b"", (value,)))
    if isinstance(value, Sequence):
        items = [framed(b"\x0a", value_of(item, depth - 2)) for item in value]
        return framed(b"\x2a", b"".join(items))
    if isinstance(value, Mapping):
        pairs = [_pair(b"\x0a", str(key), item, depth - 3) for key, item in value.items()]
        return framed(b"\x32", b"".join(pairs))
    message = f"no type of OTLP: {type(value).__name__}"
    raise Unencodable(message)


def _pair(tag: bytes, key: str, value: Any, depth: int) -> bytes:
    return framed(tag, framed(b"\x0a", text(key)) + framed(b"\x12", value_of(value, depth)))
