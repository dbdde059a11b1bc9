"""The events that are stored: those of a run, or the latest ones, page by page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from otel_agents.cli.told import told
from otel_agents.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_agents.cli.reader import Reader
    from otel_agents.cli.told import Told, Wanted

_CURSOR: Final = re.compile(r"[0-9]{1,19}")
_PAGE: Final = 500
_MOST: Final = 20_000  # signals that one page of a listing is looked for in
_LARGEST: Final = 1 << 62


def all_events(source: Reader, wanted: Wanted, after: int = 0) -> Iterator[Told]:
    """Yield the events stored after a number, in the order they were."""
    while True:
        page = source.feed(after, _PAGE, wanted.run_id)
        for envelope in page:
            found = told(envelope, wanted)
            if found is not None:
                yield found
        if len(page) < _PAGE:
            return
        after = page[-1]["seq"]


def latest(
    source: Reader, wanted: Wanted, cursor: str | None, limit: int
) -> tuple[list[Told], str | None]:
    """Return the events stored last, the latest first, and the cursor of what was before them.

    Where events are few, a page can be short and have a cursor still: it is looked for in a
    bounded number of signals.

    Raises:
        InvalidInputError: The cursor is none.

    """
    if cursor is not None and not _CURSOR.fullmatch(cursor):
        message = "cursor: it must be one that a list of events gave."
        raise InvalidInputError(message, parameter="cursor")
    end = _end(source) if cursor is None else min(int(cursor), _LARGEST)
    if wanted.run_id is not None:
        found = [each for each in all_events(source, wanted) if each.seq < end]
        more = len(found) > limit
        found = found[-limit:][::-1]
        return found, str(found[-1].seq) if more else None
    found, looked, size = [], 0, _PAGE
    while end > 1 and len(found) < limit and looked < _MOST:
        begin = max(0, end - size - 1)
        found += reversed(list(_between(source, wanted, begin, end)))
        end, looked, size = begin + 1, looked + size, size * 2
    if len(found) > limit:
        return found[:limit], str(found[limit - 1].seq)
    return found, str(end) if _begins(source) < end else None


def _between(source: Reader, wanted: Wanted, after: int, end: int) -> Iterator[Told]:
    while after + 1 < end:
        page = source.feed(after, min(_PAGE, end - after - 1))
        for envelope in page:
            if envelope["seq"] >= end:
                return
            found = told(envelope, wanted)
            if found is not None:
                yield found
        if not page:
            return
        after = page[-1]["seq"]


def _begins(source: Reader) -> int:
    page = source.feed(0, 1)
    return int(page[0]["seq"]) if page else _LARGEST


def _end(source: Reader) -> int:
    """Return a number past all that is stored: asked for step by step, as a server has no other."""
    low, high = 0, 1024
    while page := source.feed(high, 1):
        low = int(page[0]["seq"])
        high = low * 2
    while high - low > _PAGE:
        middle = (low + high) // 2
        if page := source.feed(middle, 1):
            low = int(page[0]["seq"])
        else:
            high = middle
    return high + 1
