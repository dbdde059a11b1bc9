"""Servers over a filled store: one without tokens and one with them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import httpx
import pytest

from otel_agents.server.serve import Addresses, Options, Server
from otel_agents.store import open_store
from tests.databases import postgresql

from .kit import OPEN, TOKENS, fill

__all__ = ["postgresql"]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from otel_agents.settings import Settings
    from otel_agents.store import Store
    from tests.databases import Cluster


class Running(NamedTuple):
    """A server that listens, its store, and a client of its console's port."""

    server: Server
    store: Store
    addresses: Addresses
    client: httpx.Client

    @property
    def url(self) -> str:
        """The address of the console."""
        return self.addresses.console


Serving: TypeAlias = "Callable[..., Running]"


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a filled database, to be copied: to migrate and fill one takes a second."""
    path = tmp_path_factory.mktemp("stored") / "filled.db"
    store = open_store(f"sqlite:///{path}")
    fill(store)
    store.close()
    return path


def begun(settings: Settings = OPEN, **options: Any) -> Running:
    """Start a server on free ports."""
    server = Server(
        Options(**{"port": 0, "otlp_http_port": 0, "otlp_grpc_port": 0, **options}), settings, None
    )
    addresses = server.start()
    assert server.store is not None
    # A connection that is kept may be closed by the server just as it is used again.
    limits = httpx.Limits(max_keepalive_connections=0)
    client = httpx.Client(base_url=addresses.console, timeout=90, trust_env=False, limits=limits)
    return Running(server, server.store, addresses, client)


def ended(running: Running) -> None:
    """Stop a server."""
    running.client.close()
    running.server.stop()


@pytest.fixture
def serving(tmp_path: Path, stored: Path) -> Iterator[Serving]:
    """Return what starts a server on free ports; all of them are stopped at the end."""
    started: list[Running] = []

    def start(settings: Settings = OPEN, *, full: bool = False, **options: Any) -> Running:
        path = tmp_path / f"{len(started)}.db"
        if full:
            shutil.copy(stored, path)
        running = begun(settings, **{"store": f"sqlite:///{path}", **options})
        started.append(running)
        return running

    yield start
    for running in started:
        ended(running)


@pytest.fixture(scope="session")
def filled(postgresql: Cluster) -> str:
    """Return the name of a filled database, to be copied."""
    url = postgresql.make()
    store = open_store(url)
    fill(store)
    store.close()
    return url.rpartition("/")[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def open_server(request: pytest.FixtureRequest, serving: Serving) -> Running:
    """Return a server without tokens whose store is filled, on each database."""
    if request.param == "sqlite":
        return serving(OPEN, full=True)
    cluster: Cluster = request.getfixturevalue("postgresql")
    return serving(OPEN, store=cluster.make(request.getfixturevalue("filled")))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def kept_server(
    request: pytest.FixtureRequest, stored: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """Return an `open_server` for all tests of a module that only ask it what it refuses."""
    if request.param == "sqlite":
        path = shutil.copy(stored, tmp_path_factory.mktemp("kept") / "kept.db")
        running = begun(store=f"sqlite:///{path}")
    else:
        cluster: Cluster = request.getfixturevalue("postgresql")
        running = begun(store=cluster.make(request.getfixturevalue("filled")))
    yield running
    ended(running)


@pytest.fixture
def guarded(serving: Serving) -> Running:
    """Return a server with all three tokens whose store is filled."""
    return serving(TOKENS, full=True)
