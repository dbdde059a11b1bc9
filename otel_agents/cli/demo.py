"""`otel-agents demo`: the example program, instrumented with no line changed, and its status."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import click

from otel_agents.cli.envelope import OK
from otel_agents.errors import UnavailableError
from otel_agents.signals import new_id
from otel_agents.text import visible
from otel_agents.workspace import Workspace, create, find

_COLLECTOR: Final = ("127.0.0.1", 4317)
_PLACES: Final = (
    Path(__file__).parent.parent / "_examples" / "lighthouse",  # in the wheel
    Path(__file__).parent.parent.parent / "examples" / "lighthouse",  # in a checkout
)


@click.command("demo")
@click.option("--failure", is_flag=True, help="A run that ends with a question to a human.")
@click.option("--model", metavar="PROVIDER:NAME", help="A real model instead of the offline ones.")
@click.option(
    "--pace",
    default=0.02,
    show_default=True,
    help="Seconds that an offline model takes for a call.",
)
def command(*, failure: bool, model: str | None, pace: float) -> int:
    """Run the example under opentelemetry-instrument, then show its status.

    It needs no network and no key. Signals go to the workspace, which is made if there is none;
    traces, metrics and logs to OTEL_EXPORTER_OTLP_ENDPOINT, or to a collector on this machine.
    Exit codes: those of `status` for the run.
    """
    example = next((place for place in _PLACES if place.is_dir()), None)
    if example is None or find_spec("pydantic_ai") is None:
        message = "The demo needs pydantic-ai: pip install 'otel-agents[pydantic-ai]'."
        raise UnavailableError(message)
    workspace = find() or create(None)[0]
    run_id = new_id()
    arguments = [str(example / "app.py"), "--run-id", run_id, "--pace", str(pace)]
    arguments += ["--out", str(workspace.path / "demo")]
    arguments += ["--failure"] if failure else []
    arguments += ["--model", model] if model else []
    environment = _environment(example, workspace)
    click.echo(f"$ opentelemetry-instrument python {example.name}/app.py")
    instrument = Path(sys.executable).with_name("opentelemetry-instrument")
    subprocess.run([instrument, sys.executable, *arguments], env=environment, check=False)  # noqa: S603 - our own example
    click.echo("\n$ otel-agents status")
    status = [sys.executable, "-m", "otel_agents.cli", "status", "--run-id", run_id]
    code = subprocess.run(status, env=environment, check=False).returncode  # noqa: S603 - ourselves
    where = visible(str(workspace.path))
    click.echo(f"\nThe signals are in {where}; the report is in {where}/demo.")
    return code or OK


def _environment(example: Path, workspace: Workspace) -> dict[str, str]:
    found = {
        **os.environ,
        "OTEL_AGENTS_CONFIG": str(example / "otel-agents.toml"),
        "OTEL_AGENTS_HOME": str(workspace.path),
    }
    found.setdefault("OTEL_SERVICE_NAME", "lighthouse")
    if "OTEL_EXPORTER_OTLP_ENDPOINT" not in found and not _listens():
        for signal in ("TRACES", "METRICS", "LOGS"):
            found.setdefault(f"OTEL_{signal}_EXPORTER", "none")
    return found


def _listens() -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(_COLLECTOR) == 0
