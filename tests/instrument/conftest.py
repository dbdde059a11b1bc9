"""What the tests of instrumentations need around them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.providers.server import ProviderServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def provider_server() -> Iterator[ProviderServer]:
    """Serve a provider with an empty script; see `ProviderServer`."""
    with ProviderServer() as server:
        yield server


@pytest.fixture
def thread_loop() -> Iterator[None]:
    """Close the event loop that `run_sync` takes from the thread and leaves open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()
