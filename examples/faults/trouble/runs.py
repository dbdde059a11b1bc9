"""Trouble with the work itself: runs, critics, validations, gates, deliveries."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from otel_agents import (
    agent,
    delivery,
    emit_event,
    gate,
    iteration,
    phase,
    record_critic_decision,
    run,
    validation,
)
from trouble.scale import Scale


class BrokenPlanError(RuntimeError):
    """What a run here fails with."""


@contextlib.asynccontextmanager
async def _work(workflow: str) -> AsyncIterator[None]:
    with run(workflow), iteration(number=1), phase("build"), agent("builder"):
        yield


async def _fail() -> None:
    async with _work("failing"):
        message = "the plan does not hold"
        raise BrokenPlanError(message)


async def _time_out() -> None:
    async with _work("late"), asyncio.timeout(0):
        await asyncio.sleep(1)


async def _wait() -> None:
    async with _work("cancelled"):
        await asyncio.Event().wait()


async def failed_runs(scale: Scale) -> None:
    """Have runs fail, run out of time and be cancelled, beside some that succeed."""
    for number in range(scale.times):
        for trouble in (_fail, _time_out):
            with contextlib.suppress(BrokenPlanError, TimeoutError):
                await trouble()
        waiting = asyncio.create_task(_wait())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        if number % 4 == 0:
            async with _work("failing"):
                pass


async def rejections(scale: Scale) -> None:
    """Have a critic reject three drafts of four."""
    with run("drafts"), phase("review"):
        for number in range(4 * scale.times):
            with agent("critic"):
                record_critic_decision(number % 4 != 0, task_id=f"draft-{number}")


async def failed_validations(scale: Scale) -> None:
    """Have validations, gates and deliveries fail three times of four."""
    with run("releases"):
        for number in range(4 * scale.times):
            good = number % 4 == 0
            validation("tests", passed=good).record()
            gate("lint", passed=good).record()
            delivery(success=good).record()


async def lost_telemetry(scale: Scale) -> None:
    """Tell of events that are none: they are left out, and counted as dropped."""
    for _ in range(scale.times):
        emit_event("task_queued", {"task_id": "t-1"}, strict=False)
