"""A receiver with a store that only remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.receiver.kit import Remembering, grpc_receiver, http_receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_agents.receiver.grpc import GrpcServer
    from tests.receiver.kit import Listening


@pytest.fixture
def store() -> Remembering:
    """A store in memory."""
    return Remembering()


@pytest.fixture
def receiver(store: Remembering) -> Iterator[Listening]:
    """A receiver over HTTP."""
    with http_receiver(store) as found:
        yield found


@pytest.fixture
def calls(store: Remembering) -> Iterator[GrpcServer]:
    """A receiver over gRPC."""
    with grpc_receiver(store) as found:
        yield found
