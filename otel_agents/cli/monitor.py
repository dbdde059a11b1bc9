"""`otel-agents monitor`: the agents there are and were, and what they used and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from otel_agents.cli.envelope import FAILED, INTERRUPTED, OK, print_data
from otel_agents.cli.options import AS_JSON, CURSOR, LIMIT, SERVER
from otel_agents.cli.reader import Reader, reader
from otel_agents.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EXIT_CODES: Final[Mapping[str, int]] = {
    "failed": FAILED,
    "cancelled": INTERRUPTED,
    "lost": INTERRUPTED,
}
_STATUSES: Final = ("starting", "running", "completed", "failed", "cancelled", "lost")
_MOST: Final = 500


@click.group("monitor")
def command() -> None:
    """Show agents: their lifecycle, tokens and cost.

    AGENT_ID is the id of one attempt; the name of an agent is taken too and lists its attempts.
    """


@command.command("status")
@click.argument("agent_id", metavar="[AGENT_ID]", required=False)
@SERVER
@AS_JSON
def status_command(agent_id: str | None, server: str | None, *, as_json: bool) -> int:
    """Show one attempt of an agent, or the agents of the latest run.

    The name of an agent lists its attempts, the latest first.

    Exit codes for one attempt: 0 under way or completed, 1 failed, 3 cancelled or lost,
    4 no such agent.
    """
    source = reader(server)
    if agent_id is None:
        items, more = _of_latest_run(source), None
    else:
        one, items, more = _named(source, agent_id)
        if one is not None:
            _show(one, _one, as_json=as_json)
            return EXIT_CODES.get(one["status"], OK)
    _show(items, _table, as_json=as_json, more=more)
    return OK


@command.command("list")
@click.option("--status", type=click.Choice(_STATUSES), help="Only those in this state.")
@click.option("--run-id", metavar="ID", help="Only those of this run.")
@LIMIT
@CURSOR
@SERVER
@AS_JSON
def list_command(
    status: str | None,
    run_id: str | None,
    limit: int,
    cursor: str | None,
    server: str | None,
    *,
    as_json: bool,
) -> int:
    """List the agents of all runs, the latest first.

    With --json, `meta.next_cursor` is what --cursor takes to go on, or null at the end.
    """
    found = reader(server).agents(status=status, run_id=run_id, cursor=cursor, limit=limit)
    _show(found["items"], _table, as_json=as_json, more=found["next_cursor"])
    return OK


@command.command("telemetry")
@click.argument("agent_id", metavar="[AGENT_ID]", required=False)
@SERVER
@AS_JSON
def telemetry_command(agent_id: str | None, server: str | None, *, as_json: bool) -> int:
    """Show the tokens and cost of an attempt by model, and what the cache saved.

    Without AGENT_ID it lists the agents of the latest run, with a name the agent's attempts.
    """
    source = reader(server)
    if agent_id is None:
        items = _of_latest_run(source)
    else:
        one, items, _ = _named(source, agent_id)
        if one is not None:
            _show(source.telemetry(one["id"]), _bill, as_json=as_json)
            return OK
    named = {each["id"]: each["name"] for each in items}
    told = [source.telemetry(each) for each in named]
    _show(told, lambda all_of_them: _bills(all_of_them, named), as_json=as_json)
    return OK


def _named(source: Reader, text: str) -> tuple[Any, list[Any], str | None]:
    """Return the attempt of that id, or else the attempts of the agents of that name."""
    try:
        return source.agent(text), [], None
    except NotFoundError:
        found = source.agents(name=text, limit=_MOST)
        if not found["items"]:
            message = f"No agent has the id or the name {text}: `otel-agents monitor list` has all."
            raise NotFoundError(message) from None
        return None, found["items"], found["next_cursor"]


def _of_latest_run(source: Reader) -> list[Any]:
    runs = source.runs(limit=1)["items"]
    if not runs:
        message = "No run has been recorded yet: start a program with `opentelemetry-instrument`."
        raise NotFoundError(message)
    items: list[Any] = source.agents(run_id=runs[0]["run_id"], limit=_MOST)["items"]
    return items


def _show(
    data: Any, draw: Callable[[Any], None], *, as_json: bool, more: str | None = None
) -> None:
    if as_json:
        print_data(data, **({"next_cursor": more} if isinstance(data, list) else {}))
        return
    draw(data)
    if more:
        click.echo(f"\nThere are more: go on with --cursor {more}")


def _table(items: list[Any]) -> None:
    from otel_agents.cli.drawn_agents import agents_table

    agents_table(items)


def _one(item: Any) -> None:
    from otel_agents.cli.drawn_agents import one_agent

    one_agent(item)


def _bill(told: Any) -> None:
    from otel_agents.cli.drawn_agents import one_bill

    one_bill(told)


def _bills(told: list[Any], names: dict[str, str]) -> None:
    from otel_agents.cli.drawn_agents import bills_table

    bills_table(told, names)
