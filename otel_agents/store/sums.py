"""Whether what is read is what was written: signals and log records carry a sum of themselves.

SQLite notices a page that is torn or out of its place, and not a letter of it that became another:
a disk can do that, and it would be shown as if it had been told. Requests of spans are deflated,
which has a sum of its own. What does not fit its sum is set aside: it is left where it is, and
not shown.
"""

from __future__ import annotations

import time
import zlib
from collections import Counter
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from otel_agents.boundary import boundary
from otel_agents.signals import decode_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_MARK: Final = ',"~":"'
_LENGTH: Final = len(_MARK) + 8 + len('"}')
_ALIKE: Final = 4  # letters of a mark: one that was hit itself is no row from before
# A digest of this length is of all that a log record's row holds; those of 16 bytes, from before,
# are of a part of it.
LOG_BYTES: Final = 20
LOG_COLUMNS: Final = (
    "time_ns", "severity", "severity_text", "body", "event_name", "service",
    "run_id", "phase", "agent_id", "trace_id", "span_id", "attributes",
)  # fmt: skip

_QUIET_SECONDS: Final = 60.0
damaged: Final[Counter[str]] = Counter()
"""What was found damaged in this process since it began, by kind; the same counts each time."""


def sealed(body: str, run_id: str, kind: str, time_ns: int) -> str:
    """Return the JSON of a signal with the sum of it and of its columns as the last member."""
    return f'{body[:-1]}{_MARK}{_sum(body, run_id, kind, time_ns)}"}}'


def _sum(body: str, run_id: str, kind: str, time_ns: int) -> str:
    text = f"{run_id}\0{kind}\0{time_ns}\0{body}"
    return f"{zlib.crc32(text.encode('utf-8', 'replace')):08x}"


def sound_signal(row: dict[str, Any]) -> bool:
    """Say whether a row of a signal is what was written; one from before sums were is taken."""
    body = row["body"]
    mark = body[-_LENGTH : len(_MARK) - _LENGTH]
    if mark != _MARK:
        alike = sum(one == other for one, other in zip(mark, _MARK, strict=False))
        return alike < _ALIKE and decode_line(body.encode()) is not None
    whole = f"{body[:-_LENGTH]}}}"
    return bool(body[-10:-2] == _sum(whole, row["run_id"], row["type"], row["time_ns"]))


def digest_of_log(values: Iterable[Any]) -> bytes:
    """Return the digest of a log record's row, from its values as they are stored."""
    text = "\0".join(map(str, values))
    return blake2b(text.encode("utf-8", "replace"), digest_size=LOG_BYTES).digest()


def sound_log(row: dict[str, Any]) -> bool:
    """Say whether a row of a log record is what was written, where its digest can tell.

    PostgreSQL brings the attributes' JSON into a form of its own, and has checksums of its own.
    """
    digest, attributes = bytes(row["digest"]), row["attributes"]
    if len(digest) != LOG_BYTES or not isinstance(attributes, str):
        return True
    return digest == digest_of_log(row[name] for name in LOG_COLUMNS)


class _Said:
    """When damage was last spoken of: a log is not for each row."""

    when = -_QUIET_SECONDS


def note(kind: str, count: int = 1) -> None:
    """Count what is damaged, and say so once a minute."""
    damaged[kind] += count
    now = time.monotonic()
    if now - _Said.when >= _QUIET_SECONDS:
        _Said.when = now
        boundary.warn(
            "otel-agents: the store is damaged: a %s is not what was written, and is left out", kind
        )


def _holds(sound: Callable[[dict[str, Any]], bool], row: dict[str, Any]) -> bool:
    """Ask of a row that may lack a column, or have another kind of value in it."""
    try:
        return sound(row)
    except (AttributeError, KeyError, TypeError, ValueError):
        return False


def is_sound(row: dict[str, Any]) -> bool:
    """Say whether a row of a signal is what was written; count it where it is not."""
    found = _holds(sound_signal, row)
    if not found:
        note("signal")
    return found


def paged(
    kind: str,
    sound: Callable[[dict[str, Any]], bool],
    ask: Callable[[dict[str, Any] | None, int], list[dict[str, Any]]],
    limit: int,
) -> list[dict[str, Any]]:
    """Return so many sound rows, where there are; `ask` is given the last one that was read.

    Whoever reads on takes a page that is not full for the last one.
    """
    found: list[dict[str, Any]] = []
    last = None
    while len(found) < limit:
        wanted = limit - len(found)
        rows = ask(last, wanted)
        good = [row for row in rows if _holds(sound, row)]
        if len(good) < len(rows):
            note(kind, len(rows) - len(good))
        found += good
        if len(rows) < wanted:
            break
        last = rows[-1]
    return found
