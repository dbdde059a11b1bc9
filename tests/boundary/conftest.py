"""Failures of ours are caught here, as in a program: what is tested is that nobody notices."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

import pytest

from otel_agents import runtime
from otel_agents.boundary import boundary
from tests.boundary.kit import Ours, bare, instrumented
from tests.boundary.seen import Seen, seen
from tests.boundary.workload import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catch our own failures instead of raising them, in these tests alone."""
    monkeypatch.setattr(boundary, "strict", False)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Give the program's event loop, which is the thread's too, as `run_sync` wants it."""
    found = asyncio.new_event_loop()
    asyncio.set_event_loop(found)
    yield found
    found.run_until_complete(found.shutdown_asyncgens())
    found.run_until_complete(found.shutdown_default_executor())
    asyncio.set_event_loop(None)
    found.close()


@pytest.fixture(scope="module")
def controls(loop: asyncio.AbstractEventLoop) -> dict[str, Seen]:
    """Run every scenario without us; twice, since a first time can leave something behind."""
    host = bare(loop)
    for act in SCENARIOS.values():
        seen(lambda act=act: act(host))
    return {name: seen(lambda act=act: act(host)) for name, act in SCENARIOS.items()}


@pytest.fixture(scope="module")
def ours(
    loop: asyncio.AbstractEventLoop,
    controls: dict[str, Seen],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ours]:
    """Instrument the process, for all tests here; the controls ran before."""
    directory = tmp_path_factory.mktemp("boundary")
    before = runtime.put(None)
    home = os.environ.get("OTEL_AGENTS_HOME")
    os.environ["OTEL_AGENTS_HOME"] = str(directory / ".otel-agents")
    # A broken sink of the program's own would log each fault; the count is what is looked at.
    logger = logging.getLogger("otel_agents")
    level, logger.level = logger.level, logging.CRITICAL
    try:
        with instrumented(loop, directory) as found:
            yield found
    finally:
        logger.setLevel(level)
        runtime.put(before)
        if home is None:
            del os.environ["OTEL_AGENTS_HOME"]
        else:
            os.environ["OTEL_AGENTS_HOME"] = home
