"""`otel-agents verify`: whether all that works for the agents is well."""

from __future__ import annotations

from typing import Any

import click

from otel_agents.cli.envelope import FAILED, OK, print_data
from otel_agents.cli.options import AS_JSON, SERVER
from otel_agents.cli.reader import reader


@click.command("verify")
@SERVER
@AS_JSON
def command(server: str | None, *, as_json: bool) -> int:
    """Check workers, breakers, model routes and queues, and show the latest events.

    Exit codes: 0 healthy, 1 not; what is wrong comes first, a sentence each.
    """
    found: Any = reader(server).verify()
    if as_json:
        print_data(found)
    else:
        from otel_agents.cli.drawn_runtime import health

        health(found)
    return OK if found["healthy"] else FAILED
