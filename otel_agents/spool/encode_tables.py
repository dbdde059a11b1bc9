"""Attributes and names as fields of OTLP's messages, with what repeats encoded once.

Keys and short texts repeat from span to span: of a run of the example program, 1 text in 20 is new.
They are kept in tables of a bounded size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otel_agents.spool.encode_wire import MAX_INT, VARINTS, double, framed, text, value_of

if TYPE_CHECKING:
    from collections.abc import Callable

# Tables keep what is short, and are emptied when they are full: half a megabyte at the most each,
# and some 50 µs.
_MAX_KEPT: Final = 1024
_MAX_KEPT_NAMES: Final = 512
_MAX_KEPT_TEXT: Final = 64  # bytes; of a value
_MAX_KEPT_NAME: Final = 200  # bytes; of a name, or a key and what is before it
_MAX_KEPT_BODIES: Final = 256
_MAX_KEPT_TUPLE: Final = 200  # bytes; with the key
# The places of what has one length, among those of texts and, below 0, of numbers.
_DOUBLE: Final = -20
_FALSE: Final = -21
_TRUE: Final = -22


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
    one key of a dictionary. A host's own type that calls itself equal to a text, with the same
    hash, is taken for that text. `table[key, value]` raises what `value_of` raises, and TypeError
    where the value has no hash.
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
        try:
            if kind is int and 0 <= value <= MAX_INT:
                digits = VARINTS[value]
                return self._heads[key][-len(digits)] + digits
            if kind is str:
                data: bytes = value.encode()
                size = len(data)
                if size > _MAX_KEPT_TEXT:
                    return self._long(key, data, size)
                found = self._heads[key][size] + data
                if len(self) >= _MAX_KEPT:
                    self.clear()
                self[item] = found
                return found
            if kind is bool:
                return self._heads[key][_TRUE if value else _FALSE]
            if kind is float:
                return self._heads[key][_DOUBLE] + double(value)
        except KeyError:
            return self._first(key, kind, value)
        body = value_of(value)
        found = self._framed(key, body)
        if kind is tuple and len(found) <= _MAX_KEPT_TUPLE and _are_texts(value):
            if len(self) >= _MAX_KEPT:
                self.clear()
            self[item] = found
        return found

    def _first(self, key: Any, kind: type, value: Any) -> bytes:
        """Encode a value of a length that its key has not had yet, and keep what is before it."""
        body = value_of(value)
        found = self._framed(key, body)
        if type(key) is str and len(key) <= _MAX_KEPT_TEXT:
            if self._count >= _MAX_KEPT:
                self._heads.clear()
                self._count = 0
            self._count += 1
            heads = self._heads.setdefault(key, {})
            if kind is bool:
                heads[_TRUE if value else _FALSE] = found
            elif kind is float:
                heads[_DOUBLE] = found[:-8]
            elif kind is int:
                heads[1 - len(body)] = found[: 1 - len(body)]
            else:
                size = len(body) - 2
                heads[size] = found[: len(found) - size]
        return found

    def _long(self, key: Any, data: bytes, size: int) -> bytes:
        length = VARINTS[size]
        size += 1 + len(length)
        inner = VARINTS[size]
        name = _KEYS[key]
        whole = VARINTS[len(name) + 1 + len(inner) + size]
        return b"".join((self._tag, whole, name, b"\x12", inner, b"\x0a", length, data))

    def _framed(self, key: Any, body: bytes) -> bytes:
        """Return an attribute whose value's body is at hand."""
        name = _KEYS[key]
        length = VARINTS[len(body)]
        whole = VARINTS[len(name) + 1 + len(length) + len(body)]
        return b"".join((self._tag, whole, name, b"\x12", length, body))

    def _any(self, item: tuple[Any, Any]) -> bytes:
        try:
            return self[item]
        except TypeError:  # a list or a mapping has no hash
            return self._framed(item[0], value_of(item[1]))

    def careful(self, attributes: Any) -> tuple[bytes, int]:
        """Return attributes in place, and how many of them had to be left out."""
        if not attributes:
            return b"", 0
        found: list[bytes] = []
        lost = 0
        for item in list(attributes.items()):
            try:
                found.append(self._any(item))
            except Exception:  # noqa: BLE001 - the host's values run the host's code
                lost += 1
        return b"".join(found), lost


class Bodies:
    """Bodies of objects that never change, by identity: their own hashes are slow."""

    def __init__(self, make: Callable[[Any], bytes]) -> None:
        self._make = make
        # The object is held, so that no other takes its place in memory, and its id.
        self._kept: dict[int, tuple[Any, bytes]] = {}

    def __call__(self, thing: Any) -> bytes:
        """Return the body of an object, made once."""
        kept = self._kept.get(id(thing))
        if kept is not None:
            return kept[1]
        body = self._make(thing)
        if len(self._kept) >= _MAX_KEPT_BODIES:
            self._kept.clear()
        self._kept[id(thing)] = (thing, body)
        return body


SPAN: Final = Attributes(9)
EVENT: Final = Attributes(3)  # and of a scope
LINK: Final = Attributes(4)
LOG: Final = Attributes(6)
RESOURCE: Final = Attributes(1)
