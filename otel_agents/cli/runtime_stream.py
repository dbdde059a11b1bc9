"""Following runtime events by their time, with the filters that lists of them take."""

from __future__ import annotations

import time
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from otel_agents.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_agents.cli.reader import Reader

_POLL_SECONDS: Final = 0.5
# What happened this long before the latest that was seen may still arrive: exporters wait.
_LATE: Final = timedelta(seconds=60)
_SEEN: Final = 10_000  # events that are remembered so as not to be told twice
_PAGE: Final = 500


def new_events(
    source: Reader, filters: dict[str, Any], since: str | None, limit: int
) -> Iterator[Any]:
    """Yield the last events there are, and then new ones for ever, in the order of their time.

    A server that goes away meanwhile is waited for; one that is not there at first is an error.
    """
    seen: OrderedDict[str, None] = OrderedDict()
    first = source.runtime_events(**filters, since=since, limit=limit)["items"]
    after = datetime.now(UTC) - _LATE
    if first:
        after = min(after, _time(first[0]) - _LATE)
        # What was left out by the limit is old, and stays left out.
        for each in _since(source, filters, after):
            seen[each["id"]] = None
        for each in first:
            seen[each["id"]] = None
    yield from reversed(first)
    gone = False
    while True:
        time.sleep(_POLL_SECONDS)
        try:
            found = [each for each in _since(source, filters, after) if each["id"] not in seen]
        except UnavailableError as error:
            if not gone:
                click.echo(f"otel-agents: {error} Waiting for it.", err=True)
            gone = True
            continue
        gone = False
        for each in reversed(found):
            seen[each["id"]] = None
            yield each
        if found:
            after = max(after, _time(found[0]) - _LATE)
        while len(seen) > _SEEN:
            seen.popitem(last=False)


def _since(source: Reader, filters: dict[str, Any], after: datetime) -> list[Any]:
    """Return all events from a time on, the latest first."""
    found: list[Any] = []
    cursor: str | None = None
    text = after.isoformat().replace("+00:00", "Z")
    while len(found) < _SEEN:
        page = source.runtime_events(**filters, since=text, cursor=cursor, limit=_PAGE)
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    return found


def _time(event: Any) -> datetime:
    return datetime.fromisoformat(event["occurred_at"])
