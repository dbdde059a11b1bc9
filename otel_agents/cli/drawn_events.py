"""Events as people read them on a terminal, in the layout of the console sink."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from otel_agents.cli.told import Gap
from otel_agents.sinks.console import colour_of, lines_of, painted

if TYPE_CHECKING:
    from otel_agents.cli.told import Told


def print_event(message: Told | Gap) -> None:
    """Print an event, or on one line that some are missing."""
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    if isinstance(message, Gap):
        lines = [painted(gap_line(message), "33", coloured=coloured)]
    else:
        head, *fields = lines_of(message.event)
        lines = [painted(head, colour_of(message.event), coloured=coloured), *fields]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def gap_line(gap: Gap) -> str:
    """Return what is said of events that cannot be had any more."""
    if gap.anew:
        left_out = f"; its events up to {gap.last} are left out" if gap.last else ""
        return f"-- this is another store than before{left_out} --"
    if gap.last == gap.first:
        return f"-- event {gap.first} is no longer stored --"
    return f"-- events {gap.first} to {gap.last} are no longer stored --"
