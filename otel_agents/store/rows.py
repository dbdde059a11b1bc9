"""Values on their way into and out of the database, where SQLite and PostgreSQL differ."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from math import isfinite
from typing import Any, Final

import msgspec

from otel_agents.state.view import usage_data, usd
from otel_agents.usage import COUNTS, Usage

_encode: Final = msgspec.json.Encoder(enc_hook=str).encode
_SPENT: Final = (*COUNTS, "complete", "cost_usd", "unpriced_tokens")
# The columns of usage and cost, in the order of `spent`.
SPENT_COLUMNS: Final = ", ".join(_SPENT)
SPENT_PLACES: Final = ", ".join("?" for _ in _SPENT)
SPENT_SET: Final = ", ".join(f"{name} = excluded.{name}" for name in _SPENT)
# What adds them up over rows.
SPENT_SUMS: Final = ", ".join(
    (
        *(f"CAST(COALESCE(SUM({name}), 0) AS BIGINT) AS {name}" for name in COUNTS),
        "MIN(CASE WHEN complete THEN 1 ELSE 0 END) AS complete",
        "SUM(cost_usd) AS cost_usd",
        "CAST(COALESCE(SUM(unpriced_tokens), 0) AS BIGINT) AS unpriced_tokens",
    )
)
_MOST: Final = (1 << 63) - 1
# Tokens of one scope; more is garbage, and a sum over many such would not fit a column.
_MOST_TOKENS: Final = 10**12
# A row of a PostgreSQL index holds 2,704 bytes, and up to four texts make a key.
_SHORT_BYTES: Final = 256
_WORDS_BYTES: Final = 200
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# An escaped NUL; a backslash that is itself escaped may stand before the same letters.
_NUL: Final = re.compile(r"(\\\\)|\\u0000")


def to_json(value: Any) -> str:
    """Return JSON text that every database holds: no NUL, no half of a surrogate pair."""
    try:
        found = _encode(value).decode()
    except UnicodeEncodeError:
        found = _encode(_scrubbed(msgspec.to_builtins(value, enc_hook=str))).decode()
    return _NUL.sub(lambda match: match[1] or "␀", found) if "\\u0000" in found else found


def _scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {_scrubbed(key): _scrubbed(one) for key, one in value.items()}
    return [_scrubbed(one) for one in value] if isinstance(value, list | tuple) else value


def clean(text: str) -> str:
    """Return text that every database holds: no NUL, no half of a surrogate pair."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "␀").encode("utf-8", "replace").decode()


def short(text: str) -> str:
    """Return an id or name as an index holds it: of a very long one the beginning and a digest."""
    found = clean(text)
    if len(found) * 4 <= _SHORT_BYTES:
        return found
    encoded = found.encode()
    if len(encoded) <= _SHORT_BYTES:
        return found
    digest = blake2b(encoded, digest_size=16).hexdigest()
    return f"{encoded[:_WORDS_BYTES].decode(errors='ignore')}…{digest}"


def maybe(text: str | None) -> str | None:
    """Return an id or name as `short` does, or None where there is none."""
    return short(text) if text else None


def from_json(value: Any) -> Any:
    """Return what a JSON column holds; PostgreSQL has decoded it already."""
    return msgspec.json.decode(value) if isinstance(value, str | bytes) else value


def bounded(number: int) -> int:
    """Return a count or time that a column holds."""
    return min(_MOST, max(0, number))


def finite(number: float | None) -> float | None:
    """Return a number that JSON can hold, or None where there is none."""
    return number if number is not None and isfinite(number) else None


def whole(number: int | None) -> int | None:
    """Return a number that a column holds, or None where there is none."""
    return None if number is None else min(_MOST, max(-_MOST, number))


def spent(usage: Usage, cost: float | None, unpriced: int) -> tuple[Any, ...]:
    """Return the values of the columns of usage and cost."""
    counts = (_tokens(getattr(usage, name)) for name in COUNTS)
    return (*counts, usage.complete, cost, _tokens(unpriced))


def _tokens(number: int) -> int:
    return min(_MOST_TOKENS, max(0, number))


def counted(row: dict[str, Any]) -> Usage:
    """Return a row's usage."""
    return Usage(**{name: row[name] for name in COUNTS}, complete=bool(row["complete"]))


def usage_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row's usage as data."""
    return usage_data(counted(row))


def cost_of(row: dict[str, Any]) -> float | None:
    """Return a row's cost in USD to the nano-dollar, None where any token has no known price."""
    return None if row["unpriced_tokens"] else usd(row["cost_usd"])


def error_of(row: dict[str, Any]) -> dict[str, str] | None:
    """Return a row's error as data."""
    if not row["error_type"]:
        return None
    return {"type": row["error_type"], "message": row["error_message"] or ""}


def stamp(time_ns: int) -> str:
    """Return a time as the text that the columns of type timestamp take: it sorts by time."""
    seconds, rest = divmod(bounded(time_ns), 10**9)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def stamped(value: Any) -> str:
    """Return a timestamp column as RFC 3339 text in UTC, to the microsecond."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return str(value)


def nanoseconds(value: Any) -> int:
    """Return a timestamp column in nanoseconds since the epoch."""
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
