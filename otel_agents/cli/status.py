"""`otel-agents status`: how a run stands, once or for as long as it goes on."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from otel_agents.cli.envelope import FAILED, INTERRUPTED, OK, print_data
from otel_agents.cli.follow import Follower
from otel_agents.errors import NotFoundError
from otel_agents.state.estimate import history
from otel_agents.state.liveness import alive
from otel_agents.state.report import report
from otel_agents.state.run import Runs, RunState, fold
from otel_agents.state.view import as_data
from otel_agents.workspace import DIRECTORY, HOME_VARIABLE, Workspace, find

if TYPE_CHECKING:
    from collections.abc import Mapping

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
@click.option(
    "--json", "as_json", is_flag=True,
    help="Print a JSON envelope; with --watch one a line, at each change.",
)  # fmt: skip
def command(run_id: str | None, *, watch: bool, as_json: bool) -> int:
    """Show a run: phases, agents, progress, tokens, cost, and what failed and why.

    Exit codes: 0 running or succeeded, 1 failed, 3 cancelled, lost or interrupted,
    4 no such run or no workspace.
    """
    workspace = _workspace()
    follower = Follower(workspace)
    # Ten thousand signals are made and none is let go: collecting would only look in vain.
    gc.disable()
    runs = fold(follower.new())
    run = _chosen(runs, run_id, workspace)
    if watch:
        from otel_agents.cli.watch import follow_run, output  # only where watched

        gc.enable()
        read = follow_run(follower, runs, run, output(as_json=as_json))
    else:
        read = report(run, now=time.time_ns(), alive=alive, history=history(runs, run))
        if as_json:
            print_data(as_data(read))
        else:
            from otel_agents.cli.screen import print_report  # Rich takes its time

            print_report(read)
    return EXIT_CODES[read.status]


def _workspace() -> Workspace:
    found = find()
    if found is not None:
        return found
    home = os.environ.get(HOME_VARIABLE)
    if home:
        where = f"{HOME_VARIABLE} names {home}, which is no directory"
    else:
        where = f"There is no workspace {DIRECTORY} in {_here()} or above it"
    message = f"{where}: make one with `otel-agents init`, then start the program below it."
    raise NotFoundError(message)


def _here() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return "the working directory, which was removed,"


def _chosen(runs: Runs, run_id: str | None, workspace: Workspace) -> RunState:
    run = runs.latest if run_id is None else runs.by_id.get(run_id)
    if run is not None:
        return run
    latest = runs.latest
    if latest is None:
        message = (
            f"No run has been recorded in {workspace.path} yet: start a program with "
            f"`opentelemetry-instrument` in {workspace.path.parent} or below."
        )
    else:
        message = f"No run {run_id} is recorded in {workspace.path}; the latest one is {latest.id}."
    raise NotFoundError(message)
