"""Values of the host program, made safe to keep: plain, bounded, redacted.

Only types that are known are turned into text. A foreign `__str__` or `__repr__` can raise, block
or return a gigabyte, so it is never called: such a value is named by its class.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import pathlib
import re
import uuid
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_TEXT: Final = 4096  # characters of one value; a longer one is cut and marked
MAX_ITEMS: Final = 100  # of one list
GOAL_LENGTH: Final = 100
CUT: Final = "…[cut]"
REDACTED: Final = "[redacted]"

_TEXT_TYPES: Final = (
    uuid.UUID, pathlib.PurePath, decimal.Decimal, datetime.date, datetime.time, datetime.timedelta,
)  # fmt: skip
_TEXT_MODULES: Final = frozenset(
    {"uuid", "pathlib", "pathlib._local", "decimal", "datetime", "_pydatetime"}
)
_LISTS: Final = frozenset({list, tuple, set, frozenset})
_MAX_INT: Final = 2**63 - 1
_MAX_BITS: Final = 4096

# Values that are secrets by their shape, whoever sent them, and keys that name one.
SECRET_PATTERNS: Final = (
    r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}",
    r"\bAKIA[0-9A-Z]{16}\b",
    r"\bgh[pousr]_[A-Za-z0-9]{30,}",
    r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    r"\bAIza[0-9A-Za-z_-]{30,}",
    r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
    r"(?i:\bbearer\s+)[A-Za-z0-9._~+/-]{8,}=*",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?",
    r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)",
)
SECRET_NAMES: Final = (
    "password", "passwd", "secret", "token", "api_key", "apikey", "authorization", "cookie",
    "credential", "private_key",
)  # fmt: skip


_SHORTEST_SECRET: Final = 9  # characters: `x://:p@hh`; many values are names, and shorter
_MAX_KEYS: Final = 1000


def redactor(
    names: tuple[str, ...] = (), patterns: tuple[str, ...] = ()
) -> Callable[[str, Any], Any]:
    """Return a function of (key, value) that hides secrets by the key's name and by their shape."""
    # The caller's patterns each alone: joined, a `\1` in one would mean another's group.
    shapes = [re.compile("|".join(SECRET_PATTERNS)), *map(re.compile, patterns)]
    shortest = 0 if patterns else _SHORTEST_SECRET
    words = re.compile(
        "|".join(
            rf"(?:^|[._\-]){re.escape(name)}s?(?:$|[._\-])" for name in (*SECRET_NAMES, *names)
        ),
        re.IGNORECASE,
    )
    known: dict[str, bool] = {}

    def names_secret(key: str) -> bool:
        found = known.get(key)
        if found is None:
            if len(known) >= _MAX_KEYS:
                known.clear()
            found = known[key] = words.search(key) is not None
        return found

    def redact(key: str, value: Any) -> Any:
        if key and names_secret(key):
            return value if isinstance(value, bool | int | float) else REDACTED
        if isinstance(value, str):
            if len(value) >= shortest:
                for shape in shapes:
                    value = shape.sub(REDACTED, value)
            return value
        if isinstance(value, tuple):
            return tuple(redact("", item) for item in value)
        return value

    return redact


_hidden: list[Callable[[str, Any], Any]] = [redactor()]


def hide(names: tuple[str, ...], patterns: tuple[str, ...]) -> None:
    """Hide these names and patterns too, from now on in the whole process."""
    _hidden[0] = redactor(tuple(names), tuple(patterns))


def redact(key: str, value: Any) -> Any:
    """Return a value without secrets: hidden whole if its key names one, else by shape."""
    return _hidden[0](key, value)


def cut(text: str, limit: int = MAX_TEXT) -> str:
    """Return text of at most `limit` characters, marked where it was cut, and fit for UTF-8."""
    if len(text) > limit:
        text = text[: limit - len(CUT)] + CUT
    return text if text.isascii() else whole(text)


def whole(text: str) -> str:
    """Return text that UTF-8 can hold: half of a surrogate pair is written out."""
    return text.encode("utf-8", "backslashreplace").decode()


def plain(value: Any) -> Any:
    """Return a value as text, bool, int, float, a tuple of these, or None for None."""
    kind = type(value)
    if kind is str:
        return cut(value)
    if kind is int:
        if -_MAX_INT <= value <= _MAX_INT:
            return value
        # Python refuses to write out a number of more than some 4,300 digits.
        bits = value.bit_length()
        return str(value) if bits <= _MAX_BITS else f"<int of {bits} bits>"
    if kind is bool or kind is float or value is None:
        return value
    # By the class, not `isinstance`: a proxy's `__class__` is the host's code, and can raise.
    if issubclass(kind, enum.Enum):
        return plain(value._value_)
    if issubclass(kind, str):
        return cut(str.__str__(value))
    if issubclass(kind, int):
        return plain(int.__int__(value))
    if issubclass(kind, float):
        return float.__float__(value)
    if kind in _LISTS:
        return tuple(item for item in map(_single, list(value)[:MAX_ITEMS]) if item is not None)
    if issubclass(kind, _TEXT_TYPES) and kind.__module__ in _TEXT_MODULES:
        return cut(str(value))
    return f"<{kind.__qualname__}>"


def _single(value: Any) -> Any:
    """Return an item of a list as a plain value; a list in a list, which may be itself, is none."""
    kind = type(value)
    return f"<{kind.__qualname__}>" if kind in _LISTS else plain(value)


def readable(value: Any) -> Any:
    """Return a value made plain, or None for an object, of which only the class could be told."""
    found = plain(value)
    return None if found == f"<{type(value).__qualname__}>" else found


def coerce(value: Any, wanted: type) -> Any:
    """Return a value as the type an attribute wants, or None if it cannot be that."""
    value = plain(value)
    if value is None or type(value) is wanted:
        return value
    if wanted is str:
        return value if isinstance(value, str) else str(value)
    if wanted is bool:
        return _truth(value)
    if wanted in {int, float}:
        try:
            return wanted(value)
        except (TypeError, ValueError, OverflowError):
            return None
    if wanted is list:
        return value if isinstance(value, tuple) else (value,)
    return None


def _truth(value: Any) -> bool | None:
    if isinstance(value, str):
        return {"passed": True, "true": True, "failed": False, "false": False}.get(value.lower())
    return bool(value) if isinstance(value, int | float) else None
