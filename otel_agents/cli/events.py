"""`otel-agents events`: what programs tell of, as it happens, afterwards, or as a page to share."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, cast

import click

from otel_agents.cli.envelope import OK, print_data
from otel_agents.cli.options import AS_JSON, CURSOR, LIMIT, SERVER, follow
from otel_agents.cli.reader import reader
from otel_agents.errors import InvalidInputError
from otel_agents.text import visible

if TYPE_CHECKING:
    from otel_agents.cli.reader import Reader
    from otel_agents.cli.told import Wanted
    from otel_agents.store import Store

_RUNTIME: Final = ("layer", "reason_code", "entity_id", "task_id", "from", "to")


@click.command("events")
@follow("Go on with those that happen from now; Ctrl-C leaves.")
@click.option(
    "--type", "types", metavar="TYPE", multiple=True,
    help="Only events of this type, such as agent_completed; more with commas or given again.",
)  # fmt: skip
@click.option("--run-id", metavar="ID", help="Only events of this run.")
@click.option(
    "--since", "seq", metavar="SEQ", type=click.IntRange(0, (1 << 62) - 1),
    help="With --follow: first those stored after this number; 0 for all there are.",
)  # fmt: skip
@click.option("--layer", metavar="LAYER", help="Only runtime events of this layer.")
@click.option("--reason-code", metavar="CODE", help="Only runtime events with this reason.")
@click.option(
    "--entity-id", metavar="ID", help="Only runtime events about this model, tool, worker…."
)
@click.option("--task-id", metavar="ID", help="Only runtime events of this task.")
@click.option("--from", "since", metavar="TIME", help="From this time on, as RFC 3339.")
@click.option("--to", "until", metavar="TIME", help="Before this time, as RFC 3339.")
@LIMIT
@CURSOR
@click.option(
    "--export", "form", type=click.Choice(["html"]),
    help="Write a run as one self-contained file to share: the latest one, or that of --run-id.",
)  # fmt: skip
@click.option(
    "--output", metavar="FILE",
    help="Where --export writes; by default otel-agents-RUN.html, and - is standard output.",
)  # fmt: skip
@SERVER
@AS_JSON
def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    types: tuple[str, ...],
    run_id: str | None,
    seq: int | None,
    layer: str | None,
    reason_code: str | None,
    entity_id: str | None,
    task_id: str | None,
    since: str | None,
    until: str | None,
    limit: int,
    cursor: str | None,
    form: str | None,
    output: str | None,
    server: str | None,
    *,
    follow: bool,
    as_json: bool,
) -> int:
    """Show events: what programs tell of, and what happened below their agents.

    With --follow all of them as they are stored, domain events such as agent_started and runtime
    events, each with its fields; with filters of runtime events these alone, a line each.

    Without it the runtime events that are stored, the latest first; with --type or --run-id the
    events of these types (`runtime` is one) or of this run instead, the latest first too.

    With --json a list is an array and `meta.next_cursor` what --cursor takes to go on; with
    --follow each event is an envelope of its own.
    """
    runtime = {
        "layer": layer,
        "reason_code": reason_code,
        "entity_id": entity_id,
        "task_id": task_id,
        "from": since,
        "to": until,
    }
    stream = {"type": types or None, "run_id": run_id, "since": seq}
    given = {**runtime, **stream, "cursor": cursor, "output": output}
    if form is not None:
        _refuse(given, *(name for name in given if name not in {"run_id", "output"}),
                because="--export writes a whole run", follow=follow)  # fmt: skip
        from otel_agents.cli.export import export

        return export(reader(server), run_id, output, as_json=as_json)
    _refuse(given, "output", because="--output goes with --export html")
    if any(value is not None for value in stream.values()):
        _refuse(given, *_RUNTIME, because="--type, --run-id and --since choose from all events")
    else:
        filters = {name: value for name, value in runtime.items() if name not in {"from", "to"}}
        if follow and any(value is not None for value in runtime.values()):
            _refuse(given, "cursor", "to", because="--follow goes on to what is to come")
            return _follow_runtime(reader(server), filters, since, limit, as_json=as_json)
        if not follow:
            found = reader(server).runtime_events(
                **filters, since=since, until=until, cursor=cursor, limit=limit
            )
            return _list_runtime(found, as_json=as_json)
    if follow:
        _refuse(given, "cursor", because="--follow goes on to what is to come")
        return _follow(reader(server), _wanted(types, run_id), seq, as_json=as_json)
    _refuse(given, "since", because="--since goes with --follow")
    return _list(reader(server), _wanted(types, run_id), cursor, limit, as_json=as_json)


def _refuse(given: dict[str, Any], *names: str, because: str, follow: bool = False) -> None:
    """Refuse options that say nothing beside what was asked for."""
    wrong = [name for name in names if given[name] is not None]
    if follow:
        wrong.append("follow")
    if wrong:
        option = wrong[0].replace("_", "-")
        message = f"{because}: leave --{option} away."
        raise InvalidInputError(message, parameter=wrong[0])


def _wanted(types: tuple[str, ...], run_id: str | None) -> Wanted:
    from otel_agents.cli.told import TYPES, Wanted

    named = [name.strip() for given in types for name in given.split(",") if name.strip()]
    unknown = next((name for name in named if name not in TYPES), None)
    if unknown is not None or (types and not named):
        message = f"There is no event type {unknown!r}; the types are {', '.join(TYPES)}."
        raise InvalidInputError(message, parameter="type")
    return Wanted(named, run_id)


# ---------------------------------------------------------------------- all events


def _follow(source: Reader, wanted: Wanted, since: int | None, *, as_json: bool) -> int:
    """Print events of the stream as they come, until Ctrl-C."""
    from otel_agents.cli.drawn_events import print_event
    from otel_agents.cli.remote import Remote
    from otel_agents.cli.stream import of_server, of_store

    if isinstance(source, Remote):
        stream = of_server(source, wanted, since, _say)
    else:
        stream = of_store(cast("Store", source), wanted, since, _say)
    for message in stream:
        if as_json:
            print_data(message.data())
        else:
            print_event(message)
    return OK


def _say(sentence: str, *, hint: bool = False) -> None:
    """Say something about the stream on standard error; a hint to people only."""
    if not hint or sys.stderr.isatty():
        click.echo(f"otel-agents: {visible(sentence)}", err=True)


def _list(source: Reader, wanted: Wanted, cursor: str | None, limit: int, *, as_json: bool) -> int:
    from otel_agents.cli.listing import latest

    found, following = latest(source, wanted, cursor, limit)
    if as_json:
        print_data([each.data() for each in found], next_cursor=following)
        return OK
    from otel_agents.cli.drawn_events import print_event

    for each in found:
        print_event(each)
    if not found:
        click.echo("No event is stored that fits.")
    _more(following)
    return OK


# ---------------------------------------------------------------------- runtime events


def _list_runtime(found: Any, *, as_json: bool) -> int:
    if as_json:
        print_data(found["items"], next_cursor=found["next_cursor"])
        return OK
    from otel_agents.cli.drawn_runtime import events_table

    events_table(found["items"])
    _more(found["next_cursor"])
    return OK


def _more(cursor: str | None) -> None:
    if cursor:
        click.echo(f"\nThere are more: go on with --cursor {cursor}")


def _follow_runtime(
    source: Reader, filters: dict[str, Any], since: str | None, limit: int, *, as_json: bool
) -> int:
    """Print runtime events as they come, until Ctrl-C."""
    from otel_agents.cli.runtime_stream import new_events

    for each in new_events(source, filters, since, limit):
        if as_json:
            print_data(each)
        else:
            from otel_agents.cli.drawn_runtime import event_line  # Rich, only where it is drawn

            event_line(each)
    return OK
