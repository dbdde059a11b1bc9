"""Options that several commands have, said once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable

AS_JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print a JSON envelope.")
SERVER: Final = click.option(
    "--server",
    metavar="URL",
    help="Ask this otel-agents server instead of the workspace; also OTEL_AGENTS_SERVER.",
)
LIMIT: Final = click.option(
    "--limit", type=click.IntRange(1, 500), default=50, show_default=True, help="How many at most."
)
CURSOR: Final = click.option("--cursor", metavar="CURSOR", help="Go on where a list ended.")


def follow(help_text: str) -> Callable[[Any], Any]:
    """Return the option --follow with its meaning for a command."""
    return click.option("-f", "--follow", is_flag=True, help=help_text)
