"""Values of the host program of any shape, made safe to keep: nested, redacted, bounded in all.

None of them is asked for its text or its items by methods of the host's: a foreign `__str__`,
`get` or `items` can raise, block or never end.
"""

from __future__ import annotations

from itertools import islice
from types import MappingProxyType
from typing import Any, Final

from otel_agents.values import MAX_ITEMS, REDACTED, coerce, cut, plain, readable, redact, whole

MAX_DEPTH: Final = 4
MAX_FIELDS: Final = 1000  # of one dict that are looked at
MAX_VALUES: Final = 500  # of one value, whatever its shape
MAX_TEXT: Final = 20_000  # characters of one value in all
LISTS: Final = frozenset({list, tuple, set, frozenset})
_MAX_KEY: Final = 200
_MARK: Final = "…"


def fields_of(value: Any) -> dict[str, Any]:
    """Return the items of a dict, or the public fields of an object; none of anything else."""
    kind = type(value)
    if issubclass(kind, dict):
        found: Any = dict(list(dict.items(value)))  # not `dict(value)`: it may ask for `keys`
    elif kind is MappingProxyType:
        found = dict(value)
    else:
        found = _attributes(value, kind)
    return {
        whole(cut(plain(key), _MAX_KEY)): item
        for key, item in islice(found.items(), MAX_FIELDS)
        if issubclass(type(key), str)
    }


def _attributes(value: Any, kind: type) -> dict[str, Any]:
    # `readable` knows what is text or a figure; of a list it would look at every item.
    unlike = issubclass(kind, BaseException | type) or kind in LISTS
    if unlike or readable(value) is not None:
        return {}
    found: dict[str, Any] = {}
    for owner in kind.__mro__:
        slots = owner.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            try:
                found[name] = object.__getattribute__(value, name)
            except AttributeError:  # not set, or a name that Python has changed
                continue
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        own = None
    if type(own) is dict:
        found |= own
    return {name: item for name, item in found.items() if not str(name).startswith("_")}


def kept(key: str, value: Any) -> Any:
    """Return a value as JSON types: dicts and lists as such, an object by the name of its class.

    Four levels deep, at most 500 values and 20,000 characters in all; what is too much is left
    away or marked. Text has no half of a surrogate pair, which JSON in UTF-8 cannot hold.
    """
    return _Keeper().keep(key, value, MAX_DEPTH)


def kept_fields(key: str, value: Any) -> Any:
    """Return a value as `kept` does, an object by its fields where it has any."""
    return kept(key, fields_of(value) or value)


def single(value: Any, wanted: type) -> Any:
    """Return a value as text, a figure or a boolean; None for a list, which can hold itself."""
    return None if type(value) in LISTS else coerce(value, wanted)


class _Keeper:
    """How much of one argument may still be kept."""

    def __init__(self) -> None:
        self.values = MAX_VALUES
        self.text = MAX_TEXT

    def keep(self, key: str, value: Any, depth: int) -> Any:
        kind = type(value)
        nested = issubclass(kind, dict) or kind is MappingProxyType
        if nested or kind in LISTS:
            if not depth:
                return _MARK
            # Under a key that names a secret all texts are hidden; figures, of tokens say, are not.
            hidden = key if key and redact(key, None) == REDACTED else ""
            return (self._dict if nested else self._list)(hidden, value, depth)
        found = redact(key, plain(value))
        if isinstance(found, str):
            found = whole(found)
            found = cut(found, max(len(_MARK) * 10, self.text)) if self.text > 0 else _MARK
            self.text -= len(found)
        return found

    def _dict(self, hidden: str, value: Any, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, item in fields_of(value).items():
            if self._spent(len(name)) or len(found) >= MAX_ITEMS:
                break
            found[name] = self.keep(hidden or name, item, depth - 1)
        return found

    def _list(self, hidden: str, value: Any, depth: int) -> list[Any]:
        found: list[Any] = []
        for item in list(value)[: MAX_ITEMS + 1]:
            if self._spent(0) or len(found) >= MAX_ITEMS:
                break
            found.append(self.keep(hidden, item, depth - 1))
        return found

    def _spent(self, characters: int) -> bool:
        self.values -= 1
        self.text -= characters
        return self.values < 0 or self.text <= 0
