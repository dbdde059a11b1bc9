"""Cursors: where a list goes on, as opaque text that stays right while rows are added."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from otel_agents.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LIMIT: Final = 50
MOST: Final = 500
_LONGEST: Final = 2000
_LAST: Final = (1 << 63) - 1


def page(
    name: str,
    rows: Sequence[dict[str, Any]],
    limit: int,
    key: Callable[[dict[str, Any]], Sequence[Any]],
    shape: Callable[[dict[str, Any]], Any],
) -> dict[str, Any]:
    """Return `{items, next_cursor}` of rows of which one more than `limit` was asked for.

    `name` is the list's, so that a cursor of one list is none of another.
    """
    more = len(rows) > limit
    kept = rows[:limit]
    following = encode(name, key(kept[-1])) if more and kept else None
    return {"items": [shape(row) for row in kept], "next_cursor": following}


def encode(name: str, position: Sequence[Any]) -> str:
    """Return a position in a list as a cursor."""
    return urlsafe_b64encode(msgspec.json.encode([name, *position])).decode().rstrip("=")


def decode(name: str, cursor: str | None, *types: type) -> list[Any] | None:
    """Return the position that a cursor holds, or None for the beginning.

    Raises InvalidInputError where it is no cursor of the list of this name.
    """
    if not cursor:
        return None
    try:
        if len(cursor) > _LONGEST:
            raise ValueError  # noqa: TRY301 - one way out
        padded = cursor + "=" * (-len(cursor) % 4)
        said, *found = msgspec.json.decode(urlsafe_b64decode(padded), type=list[Any])
        right = (
            said == name
            and len(found) == len(types)
            and all(type(one) is kind for one, kind in zip(found, types, strict=True))
        )
        if not right or any(isinstance(one, int) and abs(one) > _LAST for one in found):
            raise ValueError  # noqa: TRY301
        if any(isinstance(one, str) and "\0" in one for one in found):
            raise ValueError  # noqa: TRY301
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        message = "cursor: this is no cursor of this list; leave it out to begin at the start."
        raise InvalidInputError(message, parameter="cursor") from error
    return found


def checked_limit(limit: int) -> int:
    """Return a limit that is one; raises InvalidInputError for any other."""
    if not 1 <= limit <= MOST:
        message = f"limit: it is {limit}, and must be from 1 to {MOST}."
        raise InvalidInputError(message, parameter="limit")
    return limit


def number(parameter: str, value: int) -> int:
    """Return a number that a column can be compared with; raises InvalidInputError otherwise."""
    if not 0 <= value <= _LAST:
        message = f"{parameter}: it is {value:.6g}, and must be from 0 to {_LAST}."
        raise InvalidInputError(message, parameter=parameter)
    return value


def one_of(parameter: str, value: str | None, known: Sequence[str]) -> str | None:
    """Return a filter's value if it is a known one, or None where there is none."""
    if value is None or value in known:
        return value
    message = f"{parameter}: {value[:100]!r} is none of {', '.join(known)}."
    raise InvalidInputError(message, parameter=parameter)


def text(parameter: str, value: str | None) -> str | None:
    """Return a filter's text if a database can be asked for it."""
    if value is not None and ("\0" in value or len(value) > _LONGEST):
        message = f"{parameter}: it must be text of at most {_LONGEST} characters without NUL."
        raise InvalidInputError(message, parameter=parameter)
    try:
        if value is not None:
            value.encode()
    except UnicodeEncodeError as error:
        message = f"{parameter}: it is no valid Unicode text."
        raise InvalidInputError(message, parameter=parameter) from error
    return value


def moment(parameter: str, value: str | float | None) -> int | None:
    """Return a time, given as RFC 3339 text or epoch seconds, in nanoseconds since the epoch."""
    if value is None or value == "":
        return None
    try:
        try:
            seconds = float(value)
        except ValueError:
            parsed = datetime.fromisoformat(str(value))
            zoned = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
            seconds = zoned.timestamp()
        found = round(seconds * 1e9)
    except (ValueError, OverflowError) as error:
        message = (
            f"{parameter}: {str(value)[:100]!r} is no time; "
            "write 2026-01-31T12:00:00Z or seconds since the epoch."
        )
        raise InvalidInputError(message, parameter=parameter) from error
    return min(_LAST, max(0, found))


def contains(dialect: str, columns: Sequence[str], q: str) -> tuple[str, list[str]]:
    """Return the condition that one of some columns holds a text, in any case, and its values.

    SQLite's LIKE knows the case of ASCII letters, and asks Python's `lower` for others.
    """
    if dialect == "postgresql":
        clause, pattern = "{} ILIKE ? ESCAPE '!'", like(q)
    elif q.isascii():
        clause, pattern = "{} LIKE ? ESCAPE '!'", like(q)
    else:
        clause, pattern = "LOWER({}) LIKE ? ESCAPE '!'", like(q.lower())
    found = " OR ".join(clause.format(column) for column in columns)
    return f"({found})", [pattern] * len(columns)


def like(value: str) -> str:
    """Return the pattern of texts that contain a value, for `LIKE … ESCAPE '!'`."""
    escaped = value.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return f"%{escaped}%"
