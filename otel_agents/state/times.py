"""Times as text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_NS: Final = 1_000_000_000
_LAST: Final = 253_402_300_799  # the end of the year 9999, the last a datetime can hold


def rfc3339(time_ns: int) -> str:
    """Return a time, in nanoseconds since the epoch, as RFC 3339 text in UTC to the millisecond.

    A time no calendar holds is brought to the nearest one it does hold.
    """
    seconds, rest = divmod(time_ns, _NS)
    seconds = min(_LAST, max(0, seconds))
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
