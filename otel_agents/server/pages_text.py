"""Values as the console's pages show them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlsplit

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86400
NOTHING: Final = "–"  # noqa: RUF001 - the sign for a value that is not known

# What a browser would obey or hide inside a line: controls but for tab and newline, and the
# marks that turn text around. They are written out, as the command line does.
_OBEYED: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


class Look(NamedTuple):
    """How a state is shown: an icon of the sprite, a tone of the style sheet, and its word."""

    icon: str
    tone: str
    word: str


# Tone and icon by word, whatever surface it is a word of. The word always stands beside.
_LOOKS: Final[dict[str, tuple[str, str]]] = {
    **dict.fromkeys(("running", "RUNNING", "starting"), ("run", "live")),
    **dict.fromkeys(("waiting", "IN_REVIEW", "half_open", "timeout"), ("hand", "wait")),
    **dict.fromkeys(
        ("succeeded", "completed", "passed", "success", "answered", "approved", "delivered"),
        ("check", "good"),
    ),
    **dict.fromkeys(("DONE", "ok", "closed", "healthy"), ("check", "good")),
    **dict.fromkeys(
        ("failed", "FAILED", "error", "failure", "unhealthy", "open", "critical"), ("cross", "bad")
    ),
    "rejected": ("cross", "bad"),
    **dict.fromkeys(("lost", "stale"), ("question", "lost")),
    **dict.fromkeys(("DEGRADED", "degraded", "stuck", "warning"), ("warning", "wait")),
    **dict.fromkeys(("canceled", "cancelled", "cancellation", "STOPPED"), ("stop", "off")),
    **dict.fromkeys(("skipped", "SKIPPED", "skip", "unanswered"), ("minus", "off")),
    **dict.fromkeys(("pending", "PENDING", "IDLE", "unset"), ("ring", "off")),
}
_WORDS: Final = {"IN_REVIEW": "in review", "half_open": "half open", "unset": "unset"}
_SEVERITIES: Final = ((17, "error", "bad"), (13, "warn", "wait"), (9, "info", "off"))


def look(word: str) -> Look:
    """Return how a state is shown; a word that is not known is shown plainly."""
    icon, tone = _LOOKS.get(word, ("dot", "off"))
    return Look(icon, tone, _WORDS.get(word, word.lower() if word.isupper() else word))


def severity(number: int) -> tuple[str, str]:
    """Return the word and tone of an OTLP severity number."""
    for least, word, tone in _SEVERITIES:
        if number >= least:
            return word, tone
    return "debug", "off"


def shown(value: Any) -> Any:
    """Return a value for a template; text in it that a browser would obey is written out."""
    if type(value) is str and _OBEYED.search(value):
        return _OBEYED.sub(lambda found: f"\\u{ord(found.group()):04x}", value)
    return value


def moment(text: str | None) -> datetime | None:
    """Return the time that RFC 3339 text tells."""
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def ago(text: str | None, now: datetime | None = None) -> str:
    """Return how long ago a time was, as `12s ago`; a time to come as `in 40s`."""
    when = moment(text)
    if when is None:
        return NOTHING
    seconds = ((now or datetime.now(UTC)) - when).total_seconds()
    if seconds < -1:
        return f"in {_largest(-seconds)}"
    return "now" if seconds < 1 else f"{_largest(seconds)} ago"


def _largest(seconds: float) -> str:
    for size, letter in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{letter}"
    return f"{int(seconds)}s"


def duration(seconds: float | None) -> str:
    """Return seconds as `8ms`, `4.2s`, `1m 05s`, `2h 10m` or `3d 4h`."""
    if seconds is None:
        return NOTHING
    seconds = max(0.0, seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < _MINUTE:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE}m {whole % _MINUTE:02d}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h {whole % _HOUR // _MINUTE:02d}m"
    return f"{whole // _DAY}d {whole % _DAY // _HOUR}h"


def millis(value: float | None) -> str:
    """Return milliseconds like `duration`; below one, in microseconds."""
    if value is not None and 0 < value < 1:
        return f"{value * 1000:.0f}µs"
    return duration(None if value is None else value / 1000)


def short(number: float | None) -> str:
    """Return a count in at most five characters: `999`, `12.3k`, `4.5M`."""
    if number is None:
        return NOTHING
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            scaled = number / size
            return f"{scaled:.1f}{letter}" if scaled < 100 else f"{scaled:.0f}{letter}"  # noqa: PLR2004
    return f"{number:g}"


def count(number: int | None) -> str:
    """Return a number with its thousands apart."""
    return NOTHING if number is None else f"{number:,}"


def usd(amount: float | None) -> str:
    """Return USD, with as many decimals as a small amount needs; unknown is not zero."""
    if amount is None:
        return NOTHING
    if amount == 0:
        return "$0"
    if amount < 0.0001:  # noqa: PLR2004
        return "<$0.0001"
    return f"${amount:.4f}" if amount < 1 else f"${amount:,.2f}"


def percent(share: float | None, digits: int = 0) -> str:
    """Return a share, 0 to 1, in percent; a little is not nothing, nearly all is not all."""
    if share is None:
        return NOTHING
    cut = int(share * 100 * 10**digits + 1e-9) / 10**digits
    return "<1%" if 0 < share < 0.01 and not digits else f"{cut:.{digits}f}%"  # noqa: PLR2004


def link(value: Any) -> str | None:
    """Return a value if it is a web address a page may link to: `http` or `https`, with a host."""
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        return None
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    return value if parts.scheme in {"http", "https"} and parts.netloc else None


def segment(text: Any) -> str:
    """Return text as one segment of a path."""
    return quote(str(text), safe="")


def pretty(value: Any) -> str:
    """Return an attribute's value as text: text as it is, the rest as JSON."""
    if isinstance(value, str):
        return value
    several = isinstance(value, dict) or (isinstance(value, list) and len(value) > 3)  # noqa: PLR2004
    return json.dumps(value, ensure_ascii=False, indent=2 if several else None, default=str)


def plural(number: int, word: str) -> str:
    """Return `1 agent`, `2 agents`."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
