"""`otel-agents init`: make the workspace."""

from __future__ import annotations

from pathlib import Path

import click

from otel_agents.cli.envelope import OK, print_data
from otel_agents.errors import SettingsError
from otel_agents.text import visible
from otel_agents.workspace import create


@click.command("init")
@click.argument(
    "directory", metavar="[DIR]", required=False, type=click.Path(file_okay=False, path_type=Path)
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON envelope.")
def command(directory: Path | None, *, as_json: bool) -> int:
    """Make the workspace .otel-agents in DIR.

    Programs that are started with `opentelemetry-instrument` in DIR or below then keep their
    signals there. Without DIR the one that OTEL_AGENTS_HOME names is made, or else one in the
    working directory.
    """
    try:
        workspace, new = create(directory)
    except (FileExistsError, NotADirectoryError) as error:
        message = f"A file is in the way of the workspace: {error.filename}. Move it or give a DIR."
        raise SettingsError(message) from error
    path = str(workspace.path)
    if as_json:
        print_data({"path": path, "created": new})
        return OK
    said = f"Made {visible(path)}." if new else f"{visible(path)} is there already."
    click.echo(
        f"{said}\n"
        "Start a program below it with `opentelemetry-instrument`, and see it with "
        "`otel-agents status --watch`."
    )
    return OK
