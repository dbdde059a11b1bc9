"""`otel-agents serve`: receive OTLP, store it, and show it in a browser and by API."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from otel_agents.cli.envelope import OK, print_data
from otel_agents.cli.init import made
from otel_agents.cli.options import AS_JSON
from otel_agents.cli.reader import settings_here
from otel_agents.errors import SettingsError, UnavailableError
from otel_agents.workspace import HOME_VARIABLE, Workspace

if TYPE_CHECKING:
    from otel_agents.server.serve import Addresses
    from otel_agents.settings import Settings

# The names of what a plain install leaves away.
_EXTRA: Final = frozenset({"fastapi", "starlette", "uvicorn", "grpc", "jinja2", "markdown_it"})
_NOT_BOUND: Final = frozenset({errno.EADDRINUSE, errno.EACCES})
_PORT: Final = click.IntRange(0, 65535)
_FILE: Final = click.Path(dir_okay=False, path_type=Path)


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=_PORT,
    default=3010,
    show_default=True,
    help="The port of console, API and live feed; 0 takes a free one, here and below.",
)
@click.option(
    "--otlp-http-port", type=_PORT, default=4318, show_default=True, help="OTLP over HTTP."
)
@click.option(
    "--otlp-grpc-port", type=_PORT, default=4317, show_default=True, help="OTLP over gRPC."
)
@click.option(
    "--store",
    metavar="URL",
    help="sqlite:///PATH or postgresql://…; by default the settings', or the workspace's database.",
)
@click.option("--tls-cert", metavar="FILE", type=_FILE, help="A certificate chain as PEM, for TLS.")
@click.option("--tls-key", metavar="FILE", type=_FILE, help="Its key as PEM.")
@AS_JSON
def command(
    *,
    host: str,
    port: int,
    otlp_http_port: int,
    otlp_grpc_port: int,
    store: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    as_json: bool,
) -> int:
    """Receive traces, metrics and logs, and show them at http://127.0.0.1:3010, until Ctrl-C.

    The workspace is made where there is none. On any address but this machine's own it needs
    OTEL_AGENTS_TOKEN.

    Exit codes: 0 ended by Ctrl-C or SIGTERM, 2 a port is taken or an option cannot be used.
    """
    settings = settings_here()
    wrong_token = next((each for each in settings.problems if "token" in each.lower()), None)
    if wrong_token is not None:  # left out it would leave the server open
        raise SettingsError(wrong_token)
    for problem in settings.problems:
        click.echo(f"otel-agents: {problem}", err=True)
    try:
        from otel_agents.server.serve import Options, run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        message = "The server needs more packages: pip install 'otel-agents[server]'."
        raise UnavailableError(message) from error
    workspace = None if store or settings.store else _workspace(settings)
    options = Options(host, port, otlp_http_port, otlp_grpc_port, store, tls_cert, tls_key)
    where = _shown(store or settings.store, workspace)

    def announce(addresses: Addresses) -> None:
        if as_json:
            print_data({**addresses._asdict(), "store": where})
        else:
            _panel(addresses, where)

    try:
        run(options, settings, workspace, announce)
    except UnavailableError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _NOT_BOUND:
            raise SettingsError(str(error)) from error
        raise
    return OK


def _workspace(settings: Settings) -> Workspace:
    from otel_agents.settings import workspace_of

    found = workspace_of(settings)
    if found is not None and not found.path.is_dir():
        os.environ[HOME_VARIABLE] = str(found.path)  # where the settings file wants it made
    return found if found is not None and found.path.is_dir() else made()[0]


def _shown(url: str | None, workspace: Workspace | None) -> str:
    from otel_agents.store import store_url
    from otel_agents.store.database import shown

    return shown(store_url(url, workspace))


def _panel(addresses: Addresses, store: str) -> None:
    from otel_agents.cli.tables import panel

    panel(
        f"console    {addresses.console}\n"
        f"OTLP/HTTP  {addresses.otlp_http}\n"
        f"OTLP/gRPC  {addresses.otlp_grpc}\n"
        f"store      {store}",
        title="otel-agents",
    )
    click.echo("Ctrl-C ends it.")
