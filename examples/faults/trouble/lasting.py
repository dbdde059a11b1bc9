"""Trouble that lasts: what stands still, waits, is open, is silent or dead."""

import asyncio
import contextlib
import os
import signal
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from otel_agents import Breaker, BreakerOpen, Worker, agent, human, run, task
from trouble.scale import Scale, told_late

HERE = Path(__file__).resolve().parent
FAILURES = 3


async def slow_agents(scale: Scale) -> None:
    """Have agents take very long."""
    with run("slow-agents"):
        for _ in range(scale.times):
            with told_late(agent("sleeper"), scale.since):
                await asyncio.sleep(0)


async def stuck_run(scale: Scale) -> None:
    """Have a run that lives and tells of nothing."""
    with told_late(run("stuck"), scale.since):
        await asyncio.sleep(scale.hold)


async def human_wait(scale: Scale) -> None:
    """Ask a human, who answers late, and then not at all."""
    with told_late(run("approval"), scale.since):
        with told_late(human("Which of the two dates?"), scale.since):
            pass
        with told_late(human("Publish the timetable?"), scale.since):
            await asyncio.sleep(scale.hold)


async def open_breaker(scale: Scale) -> None:
    """Have a worker call what is down, until its breaker opens and refuses."""
    breaker = Breaker("tide-service", failures=FAILURES, reset_after=scale.hold)
    async with Worker("caller") as worker, worker.working("tides"):
        for _ in range(FAILURES + 1):
            with contextlib.suppress(ConnectionError, BreakerOpen), breaker:
                message = "nobody answers"
                raise ConnectionError(message)
        await asyncio.sleep(scale.hold)


async def backlog(scale: Scale) -> None:
    """Leave old tasks in a queue that nobody works on, and one with a lease that ran out."""
    queue_up("printing", scale)
    held = task("print", id="printing-held", queue="printing", state="RUNNING")
    held.record()
    held.lease("printer-1", -1)
    await asyncio.sleep(scale.hold)


async def dead_worker(scale: Scale) -> None:
    """Kill a worker with -9 at its work, in a run, before a queue that waits for it."""
    queue_up("indexing", scale)
    async with _child("work"):
        pass
    await asyncio.sleep(scale.hold)


async def failing_checkpoints(scale: Scale) -> None:
    """Have agents work in a repository that is too large to be saved."""
    with tempfile.TemporaryDirectory() as folder:
        await _git(folder, "init", "--quiet")
        (Path(folder) / "chart.txt").write_text("Here be dragons.")
        settings = {"OTEL_AGENTS_CONFIG": str(HERE.parent / "small-checkpoints.toml")}
        async with _child("save", folder, **settings):
            await asyncio.sleep(scale.hold)


async def missing_target(scale: Scale) -> None:
    """Run a program whose settings wrap a function that is not there."""
    async with _child("miss", OTEL_AGENTS_CONFIG=str(HERE.parent / "missing-target.toml")):
        await asyncio.sleep(scale.hold)


def queue_up(queue: str, scale: Scale) -> None:
    """Tell of tasks that have waited in a queue for long."""
    for number in range(scale.times):
        waiting = task("read", id=f"{queue}-{number}", queue=queue)
        waiting.dated = scale.since
        waiting.record()


async def _git(folder: str, *arguments: str) -> None:
    """Run git in a folder."""
    git = await asyncio.create_subprocess_exec("git", *arguments, cwd=folder)
    await git.wait()


@contextlib.asynccontextmanager
async def _child(
    what: str, folder: str | Path = HERE.parent, **environment: str
) -> AsyncIterator[None]:
    """Start a program of its own, instrumented as this one; once it is under way, go on.

    At the end it is killed with -9.
    """
    path = os.pathsep.join(filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH"))))
    instrument = Path(sysconfig.get_path("scripts")) / "opentelemetry-instrument"
    child = await asyncio.create_subprocess_exec(
        instrument, sys.executable, "-m", "trouble.child", what,
        cwd=folder, env={**os.environ, "PYTHONPATH": path, **environment},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert child.stdout is not None  # noqa: S101 - it was asked for
        await child.stdout.readline()
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
        await child.wait()
