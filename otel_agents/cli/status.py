"""`otel-agents status`: how a run stands, once or for as long as it goes on."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any, Final

import click

from otel_agents.cli.envelope import FAILED, INTERRUPTED, OK, print_data
from otel_agents.cli.follow import Follower
from otel_agents.cli.kpis import Asked, Counted
from otel_agents.cli.options import SERVER
from otel_agents.cli.reader import here, named_server, reader, settings_here
from otel_agents.errors import NotFoundError
from otel_agents.state.estimate import history
from otel_agents.state.liveness import alive
from otel_agents.state.report import report
from otel_agents.state.run import Runs, fold
from otel_agents.state.view import as_data

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from otel_agents.cli.reader import Reader
    from otel_agents.settings import Settings
    from otel_agents.state.report import RunReport
    from otel_agents.workspace import Workspace

# A program writes its signals and the store within about a second. Where the store has been
# written this much later, it was by a server, with runs that are in no file here.
_APART_SECONDS: Final = 10.0
EXIT_CODES: Final[Mapping[str, int]] = {
    "running": OK,
    "waiting": OK,
    "succeeded": OK,
    "failed": FAILED,
    "canceled": INTERRUPTED,
    "lost": INTERRUPTED,
}


@click.command("status")
@click.option("--run-id", metavar="ID", help="The run; by default the one that started last.")
@click.option("--watch", is_flag=True, help="Follow the run until it ends; Ctrl-C leaves it.")
@SERVER
@click.option(
    "--json", "as_json", is_flag=True,
    help="Print a JSON envelope; with --watch one a line, at each change.",
)  # fmt: skip
def command(run_id: str | None, server: str | None, *, watch: bool, as_json: bool) -> int:
    """Show a run: phases, agents, progress, tokens, cost, KPIs, and what failed and why.

    Exit codes: 0 running or succeeded, 1 failed, 3 cancelled, lost or interrupted,
    4 no such run or no workspace.
    """
    settings = settings_here()
    if named_server(server, settings) is not None:
        read = _of_reader(reader(server), run_id, watch=watch, as_json=as_json)
    else:
        read = _of_workspace(settings, run_id, watch=watch, as_json=as_json)
    return EXIT_CODES[read.status]


def _of_workspace(
    settings: Settings, run_id: str | None, *, watch: bool, as_json: bool
) -> RunReport:
    """Show a run of the workspace's files, or else of its store."""
    from otel_agents.settings import workspace_of

    workspace = here(workspace_of(settings))
    follower = Follower(workspace)
    # Ten thousand signals are made and none is let go: collecting would only look in vain.
    gc.disable()
    signals = list(follower.new())
    runs = fold(signals)
    run = runs.latest if run_id is None else runs.by_id.get(run_id)
    if run is None or (run_id is None and _store_is_ahead(workspace)):
        gc.enable()
        later = _in_store(run_id, since=0 if run is None else run.started)
        if later is not None:
            return _of_reader(later, run_id, watch=watch, as_json=as_json)
    if run is None:
        raise _not_found(runs, run_id, workspace)
    counted = Counted(run.id)
    counted.take(signals)
    if watch:
        from otel_agents.cli.watch import follow_run, output  # only where watched

        del signals
        gc.enable()
        return follow_run(follower, runs, run, counted, output(as_json=as_json))
    read = report(run, now=time.time_ns(), alive=alive, history=history(runs, run))
    _print(read, counted.reading(), as_json=as_json)
    return read


def _of_reader(source: Reader, run_id: str | None, *, watch: bool, as_json: bool) -> RunReport:
    """Show a run as a server or a store reads it."""
    if watch:
        from otel_agents.cli.watch import follow_reader, output

        return follow_reader(source, run_id, output(as_json=as_json))
    read = source.report(run_id)
    _print(read, Asked(source).reading(read.id), as_json=as_json)
    return read


def _print(read: RunReport, kpis: dict[str, Any] | None, *, as_json: bool) -> None:
    if as_json:
        print_data({**as_data(read), "kpis": kpis})
    else:
        from otel_agents.cli.screen import print_report  # Rich takes its time

        print_report(read, kpis)


def _store_is_ahead(workspace: Workspace) -> bool:
    """Say whether the store was written well after the files."""
    written = [_written(path) for path in workspace.signal_files()]
    database = workspace.database
    stored = max(_written(path) for path in (database, database.with_name(f"{database.name}-wal")))
    return stored > max(written, default=0.0) + _APART_SECONDS


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _in_store(run_id: str | None, since: int) -> Reader | None:
    """Return the local store if it has the run, or one that started after a time."""
    try:
        source = reader(None)
        return source if source.report(run_id).started > since else None
    except NotFoundError:
        return None


def _not_found(runs: Runs, run_id: str | None, workspace: Workspace) -> NotFoundError:
    latest = runs.latest
    if latest is None:
        return NotFoundError(
            f"No run has been recorded in {workspace.path} yet: start a program with "
            f"`opentelemetry-instrument` in {workspace.path.parent} or below."
        )
    return NotFoundError(
        f"No run {run_id} is recorded in {workspace.path}; the latest one is {latest.id}."
    )
