"""`otel-agents init`: make the workspace."""

from __future__ import annotations

from pathlib import Path

import click

from otel_agents.cli.envelope import OK, print_data
from otel_agents.cli.options import AS_JSON
from otel_agents.cli.reader import settings_here
from otel_agents.errors import SettingsError
from otel_agents.text import visible
from otel_agents.workspace import Workspace, create


@click.command("init")
@click.argument(
    "directory", metavar="[DIR]", required=False, type=click.Path(file_okay=False, path_type=Path)
)
@AS_JSON
def command(directory: Path | None, *, as_json: bool) -> int:
    """Make the workspace .otel-agents in DIR, with its database and the directory of its logs.

    Programs that are started with `opentelemetry-instrument` in DIR or below then keep their
    signals there. Without DIR the one that OTEL_AGENTS_HOME names is made, or else one in the
    working directory. A database that is there is brought to this version.
    """
    workspace, new = made(directory)
    from otel_agents.store import open_store, store_url
    from otel_agents.store.database import shown

    url = settings_here().store
    open_store(url, workspace).close()
    path = str(workspace.path)
    if as_json:
        print_data({"path": path, "created": new, "store": shown(store_url(url, workspace))})
        return OK
    said = f"Made {visible(path)}." if new else f"{visible(path)} is there already."
    click.echo(
        f"{said}\n"
        "Start a program below it with `opentelemetry-instrument`, and see it with "
        "`otel-agents status --watch`, or in a browser with `otel-agents serve`."
    )
    return OK


def made(directory: Path | None = None) -> tuple[Workspace, bool]:
    """Make a workspace, or complete the one that is there; say whether it is new.

    Raises:
        SettingsError: A file is in its place.

    """
    try:
        return create(directory)
    except (FileExistsError, NotADirectoryError) as error:
        message = f"A file is in the way of the workspace: {error.filename}. Move it or give a DIR."
        raise SettingsError(message) from error
