"""`otel-agents demo`: the example program, instrumented with no line changed, and what is seen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import click

from otel_agents.cli.child import Server
from otel_agents.cli.envelope import FAILED, OK
from otel_agents.cli.init import made
from otel_agents.cli.reader import settings_here
from otel_agents.errors import UnavailableError
from otel_agents.signals import new_id
from otel_agents.text import visible
from otel_agents.workspace import find

if TYPE_CHECKING:
    from collections.abc import Mapping

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_PACE, _SHOWN_PACE = 0.02, 0.1
_PLACES: Final = (
    Path(__file__).parent.parent / "_examples" / "lighthouse",  # in the wheel
    Path(__file__).parent.parent.parent / "examples" / "lighthouse",  # in a checkout
)
# Batches leave at once, so that the run is seen while it goes on (milliseconds).
_LIVE: Final = {
    "OTEL_BSP_SCHEDULE_DELAY": "500",
    "OTEL_BLRP_SCHEDULE_DELAY": "200",
    "OTEL_METRIC_EXPORT_INTERVAL": "1000",
    "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "true",
}


@click.command("demo")
@click.option("--failure", is_flag=True, help="A run that ends with a question to a human.")
@click.option("--model", metavar="PROVIDER:NAME", help="A real model instead of the offline ones.")
@click.option(
    "--pace",
    type=click.FloatRange(0),
    help=f"Seconds that an offline model takes for a call; {_PACE}, on a terminal {_SHOWN_PACE}.",
)
@click.option(
    "--serve/--no-serve",
    default=None,
    help="Keep the server until Ctrl-C; by default on a terminal only.",
)
def command(*, failure: bool, model: str | None, pace: float | None, serve: bool | None) -> int:
    """Run the example under opentelemetry-instrument, and show it in a browser and here.

    It needs no network and no key. A server is started for it, on free ports where the usual ones
    are taken; the workspace is made if there is none. Where OTEL_EXPORTER_OTLP_ENDPOINT is set,
    traces, metrics and logs go there instead, and no server is started.
    Exit codes: those of `status` for the run.
    """
    example = next((place for place in _PLACES if place.is_dir()), None)
    if example is None or find_spec("pydantic_ai") is None:
        message = "The demo needs pydantic-ai: pip install 'otel-agents[pydantic-ai]'."
        raise UnavailableError(message)
    workspace = find() or made()[0]
    run_id = new_id()
    at_terminal = sys.stdout.isatty()
    if pace is None:
        pace = _SHOWN_PACE if at_terminal else _PACE
    arguments = [str(example / "app.py"), "--run-id", run_id, "--pace", str(pace)]
    arguments += ["--out", str(workspace.path / "demo")]
    arguments += ["--failure"] if failure else []
    arguments += ["--model", model] if model else []
    environment = {
        **os.environ,
        "OTEL_AGENTS_CONFIG": str(example / "otel-agents.toml"),
        "OTEL_AGENTS_HOME": str(workspace.path),
    }
    environment.setdefault("OTEL_SERVICE_NAME", "lighthouse")
    # It says that observability is off, which it is not.
    environment.setdefault("PYDANTIC_AI_NO_BANNER", "1")
    where = visible(str(workspace.path))
    left = f"\nThe signals are in {where}; the report is in {where}/demo."
    if os.environ.get(ENDPOINT):
        _run(example, arguments, environment)
        code = _show(["status", "--run-id", run_id])
        click.echo(left)
        return code
    keep = at_terminal if serve is None else serve
    # Being asked to end must end the server too.
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with Server(workspace) as server:
            _announce(server.console)
            _run(example, arguments, environment | _exporting(server))
            asked = ["--server", server.console]
            code = _show(["status", "--run-id", run_id, *asked])
            if _show(["verify", *asked]) not in {OK, FAILED}:
                code = code or FAILED
            click.echo(left)
            if keep:
                _wait(server)
    finally:
        signal.signal(signal.SIGTERM, before)
    return code


def _announce(console: str) -> None:
    from otel_agents.cli.tables import panel

    panel(
        f"Follow the run live in a browser:  {console}\n"
        "or in another terminal:\n"
        f"otel-agents status --watch --server {console}"
    )


def _exporting(server: Server) -> dict[str, str]:
    """Return what makes a program export all three signals to a server of ours."""
    settings = settings_here()
    token = settings.ingest_token or settings.token
    found = {
        ENDPOINT: server.otlp_http,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        **{f"OTEL_{name}_EXPORTER": "otlp" for name in ("TRACES", "METRICS", "LOGS")},
        **{name: os.environ.get(name, value) for name, value in _LIVE.items()},
    }
    if token:
        found["OTEL_EXPORTER_OTLP_HEADERS"] = f"authorization={quote(f'Bearer {token}')}"
    return found


def _run(example: Path, arguments: list[str], environment: Mapping[str, str]) -> None:
    click.echo(f"$ opentelemetry-instrument python {example.name}/app.py")
    instrument = Path(sys.executable).with_name("opentelemetry-instrument")
    subprocess.run([instrument, sys.executable, *arguments], env=environment, check=False)  # noqa: S603 - our own example


def _show(arguments: list[str]) -> int:
    """Run one of our commands as a user would; return its exit code."""
    click.echo(f"\n$ otel-agents {' '.join(arguments)}")
    own = [sys.executable, "-m", "otel_agents.cli", *arguments]
    return subprocess.run(own, check=False).returncode  # noqa: S603 - ourselves


def _wait(server: Server) -> None:
    try:
        # Inside: whoever reads it may press Ctrl-C at once.
        click.echo(f"\nThe console stays at {server.console} until Ctrl-C.")
        while server.runs():
            time.sleep(0.2)
    except KeyboardInterrupt:
        click.echo("")


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
