"""`otel-agents init`: make the workspace."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from otel_agents.cli.envelope import OK, print_data
from otel_agents.cli.text import visible
from otel_agents.errors import SettingsError
from otel_agents.workspace import create


def command(
    directory: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]",
            help="Where the workspace is to stand. By default OTEL_AGENTS_HOME is made, "
            "or else .otel-agents in the working directory.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON envelope.")] = False,
) -> int:
    """Make the workspace .otel-agents, where instrumented programs then keep their signals."""
    try:
        workspace, new = create(directory)
    except (FileExistsError, NotADirectoryError) as error:
        message = f"A file is in the way of the workspace: {error.filename}. Move it or give a DIR."
        raise SettingsError(message) from error
    if as_json:
        print_data({"path": str(workspace.path), "created": new})
    else:
        said = "Made the workspace" if new else "The workspace is there already:"
        sys.stdout.write(
            f"{said} {visible(str(workspace.path))}\n"
            "Programs started with `opentelemetry-instrument` below its parent directory write "
            "their signals there; `otel-agents status --watch` shows them.\n"
        )
    return OK
