"""`otel-agents events`: what happened below the agents: retries, fallbacks, breakers, workers."""

from __future__ import annotations

import time
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from otel_agents.cli.envelope import OK, print_data
from otel_agents.cli.options import AS_JSON, CURSOR, LIMIT, SERVER, follow
from otel_agents.cli.reader import Reader, reader
from otel_agents.errors import InvalidInputError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

_POLL_SECONDS: Final = 0.5
# What happened this long before the latest that was seen may still arrive: exporters wait.
_LATE: Final = timedelta(seconds=60)
_SEEN: Final = 10_000  # events that are remembered so as not to be told twice
_PAGE: Final = 500


@click.command("events")
@follow("Go on with those that happen from now; Ctrl-C leaves.")
@click.option("--layer", metavar="LAYER", help="Only those of this layer, such as tool_runtime.")
@click.option("--reason-code", metavar="CODE", help="Only those with this reason.")
@click.option("--entity-id", metavar="ID", help="Only those about this model, tool, worker….")
@click.option("--task-id", metavar="ID", help="Only those of this task.")
@click.option("--from", "since", metavar="TIME", help="From this time on, as RFC 3339.")
@click.option("--to", "until", metavar="TIME", help="Before this time, as RFC 3339.")
@LIMIT
@CURSOR
@SERVER
@AS_JSON
def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    layer: str | None,
    reason_code: str | None,
    entity_id: str | None,
    task_id: str | None,
    since: str | None,
    until: str | None,
    limit: int,
    cursor: str | None,
    server: str | None,
    *,
    follow: bool,
    as_json: bool,
) -> int:
    """Show runtime events, the latest first; with --follow in the order they happen.

    With --json the answer is an array and `meta.next_cursor` what --cursor takes to go on; with
    --follow each event is an envelope of its own.
    """
    filters = {
        "layer": layer,
        "reason_code": reason_code,
        "entity_id": entity_id,
        "task_id": task_id,
    }
    source = reader(server)
    if follow:
        if cursor or until:
            message = "--follow goes on to what is to come: give it neither --cursor nor --to."
            raise InvalidInputError(message, parameter="cursor" if cursor else "to")
        return _follow(source, filters, since, limit, as_json=as_json)
    found = source.runtime_events(**filters, since=since, until=until, cursor=cursor, limit=limit)
    if as_json:
        print_data(found["items"], next_cursor=found["next_cursor"])
        return OK
    from otel_agents.cli.drawn_runtime import events_table

    events_table(found["items"])
    if found["next_cursor"]:
        click.echo(f"\nThere are more: go on with --cursor {found['next_cursor']}")
    return OK


def _follow(
    source: Reader, filters: dict[str, Any], since: str | None, limit: int, *, as_json: bool
) -> int:
    """Print events as they come, until Ctrl-C."""
    for each in new_events(source, filters, since, limit):
        if as_json:
            print_data(each)
        else:
            from otel_agents.cli.drawn_runtime import event_line  # Rich, only where it is drawn

            event_line(each)
    return OK


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
