"""`otel-agents alerts`: what Alertmanager told the server of."""

from __future__ import annotations

from typing import Final

import click

from otel_agents.cli.envelope import OK, print_data
from otel_agents.cli.options import AS_JSON, CURSOR, LIMIT, SERVER
from otel_agents.cli.reader import reader

_STATUSES: Final = ("firing", "resolved", "stale")


@click.command("alerts")
@click.option("--status", type=click.Choice(_STATUSES), help="Only those in this state.")
@LIMIT
@CURSOR
@SERVER
@AS_JSON
def command(
    status: str | None, limit: int, cursor: str | None, server: str | None, *, as_json: bool
) -> int:
    """List alerts, the last to begin first.

    An alert that fires and that Alertmanager has not confirmed for three hours is stale.

    Exit codes: 0, whatever fires.
    """
    found = reader(server).alerts(status=status, cursor=cursor, limit=limit)
    if as_json:
        print_data(found["items"], next_cursor=found["next_cursor"])
        return OK
    from otel_agents.cli.drawn_alerts import alerts_table

    alerts_table(found["items"])
    if found["next_cursor"]:
        click.echo(f"\nThere are more: go on with --cursor {found['next_cursor']}")
    return OK
