"""The fixture of the local provider."""

from collections.abc import Iterator

import pytest

from .server import ProviderServer


@pytest.fixture
def provider_server() -> Iterator[ProviderServer]:
    """Serve a provider with an empty script; see `ProviderServer`."""
    with ProviderServer() as server:
        yield server
