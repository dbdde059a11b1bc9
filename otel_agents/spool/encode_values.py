"""Attributes and values as OTLP protobuf, without a protobuf library.

A finished span is encoded in the thread that ended it, where the library's message objects cost six
times as much. What repeats, keys and short texts, is encoded once and kept in bounded tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import index
from struct import Struct
from typing import Any, Final

# Tables keep what is short, and are emptied when they are full: a megabyte at the most each.
_MAX_KEPT: Final = 2048
_MAX_KEPT_NAMES: Final = 512
_MAX_KEPT_NUMBER: Final = 1 << 12
_MAX_KEPT_TEXT: Final = 64  # bytes; of a value
_MAX_KEPT_NAME: Final = 200  # bytes; of a name, or a key and what is before it
_MAX_KEPT_TUPLE: Final = 200  # bytes; with the key

# Messages inside each other, of a value and what is in it. A reader built on protobuf's C core
# takes 100 in all and refuses the whole request for one value that goes deeper; down to a value
# there are at most six. A list adds two, a mapping three.
MAX_DEPTH: Final = 94

_MIN_INT: Final = -(1 << 63)
_MAX_INT: Final = (1 << 63) - 1
_ALL_BITS: Final = (1 << 64) - 1
_double: Final = Struct("<d").pack


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
    if not _MIN_INT <= number <= _MAX_INT:
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
        return b"\x21" + _double(value)
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


def _pair(tag: bytes, key: Any, value: Any, depth: int = MAX_DEPTH) -> bytes:
    name = b"" if key is None else framed(b"\x0a", text(key))
    return framed(tag, name + framed(b"\x12", value_of(value, depth)))


class Names(dict[str, bytes]):
    """Texts as fields of one kind of message: `table[name]` is the field; they are kept.

    `table[name]` raises what `text` raises; None is no field.
    """

    def __init__(self, tag: bytes) -> None:
        super().__init__()
        self._tag = tag

    def __missing__(self, name: Any) -> bytes:
        found = b"" if name is None else framed(self._tag, text(name))
        if len(self) >= _MAX_KEPT_NAMES:
            self.clear()
        if type(name) is str and len(found) <= _MAX_KEPT_NAME:
            self[name] = found
        return found


def _are_texts(values: tuple[Any, ...]) -> bool:
    return all(type(value) is str for value in values)


_KEYS: Final = Names(b"\x0a")


class Attributes(dict[tuple[str, Any], bytes]):
    """Attributes as fields of one kind of message: `table[key, value]` is a `KeyValue` in place.

    Only short texts and short tuples of texts are kept: of other values `1`, `1.0` and `True` are
    one key of a dictionary. `table[key, value]` raises what `value_of` raises, and TypeError where
    the value has no hash.
    """

    def __init__(self, field: int) -> None:
        super().__init__()
        self._tag = bytes((field << 3 | 2,))
        # What stands before a value, by its key and the value's length: a text's bytes, or those
        # of a number's varint, negative.
        self._heads: dict[str, dict[int, bytes]] = {}
        self._count = 0

    def __missing__(self, item: tuple[str, Any]) -> bytes:
        key, value = item
        kind = type(value)
        if kind is str:
            data: bytes = value.encode()
            size = len(data)
            if size > _MAX_KEPT_TEXT:
                length = VARINTS[size]
                return self._before(key, b"\x0a" + length, 1 + len(length) + size) + data
            try:
                found = self._heads[key][size] + data
            except KeyError:
                found = self._head(key, size) + data
            return self._keep(item, found)
        if kind is int and 0 <= value <= _MAX_INT:
            digits = VARINTS[value]
            try:
                return self._heads[key][-len(digits)] + digits
            except KeyError:
                return self._head(key, -len(digits)) + digits
        body = value_of(value)
        found = self._before(key, body, len(body))
        if kind is tuple and len(found) <= _MAX_KEPT_TUPLE and _are_texts(value):
            return self._keep(item, found)
        return found

    def _keep(self, item: tuple[str, Any], found: bytes) -> bytes:
        if len(self) >= _MAX_KEPT:
            self.clear()
        if type(item[0]) is str:
            self[item] = found
        return found

    def _head(self, key: Any, length: int) -> bytes:
        if length >= 0:
            start = b"\x0a" + VARINTS[length]
            head = self._before(key, start, len(start) + length)
        else:
            head = self._before(key, b"\x18", 1 - length)
        if self._count >= _MAX_KEPT:
            self._heads.clear()
            self._count = 0
        if type(key) is str and len(head) <= _MAX_KEPT_NAME:
            self._count += 1
            self._heads.setdefault(key, {})[length] = head
        return head

    def _before(self, key: Any, start: bytes, size: int) -> bytes:
        """Return an attribute up to where `start` ends, whose value takes `size` bytes in all."""
        name = _KEYS[key]
        length = VARINTS[size]
        whole = VARINTS[len(name) + 1 + len(length) + size]
        return b"".join((self._tag, whole, name, b"\x12", length, start))

    def careful(self, attributes: Any) -> tuple[bytes, int]:
        """Return attributes in place, and how many of them had to be left out."""
        if not attributes:
            return b"", 0
        found: list[bytes] = []
        lost = 0
        for key, value in list(attributes.items()):
            try:
                body = value_of(value)
                found.append(self._before(key, body, len(body)))
            except Exception:  # noqa: BLE001 - the host's values run the host's code
                lost += 1
        return b"".join(found), lost


SPAN: Final = Attributes(9)
EVENT: Final = Attributes(3)  # and of a scope
LINK: Final = Attributes(4)
LOG: Final = Attributes(6)
RESOURCE: Final = Attributes(1)
