"""Databases to test the store on: files of SQLite, and a real cluster of PostgreSQL.

Import the fixtures into a conftest:

    from tests.databases import database_url, postgresql, store, stores

A test that takes `database_url` runs on both databases, each time with one that is migrated and
empty; `stores(url)` opens stores that are closed after the test, and `store` is one of them.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import closing
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from otel_agents.store import Store
from otel_agents.store.database import Database
from otel_agents.store.schema import ensure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Opener = Callable[..., Store]

_INSTALLED: Final = Path("/usr/lib/postgresql")
_START_SECONDS: Final = 60
_TEMPLATE: Final = "migrated"
_numbers = count()


def _programs() -> Path | None:
    """Return the directory of PostgreSQL's newest programs, or None where it is not installed."""
    found = _INSTALLED.glob("*/bin/initdb")
    return max((one.parent for one in found), key=lambda one: float(one.parent.name), default=None)


class Cluster:
    """A cluster of PostgreSQL in a temporary directory, on a free port of the loopback."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        # Not below pytest's own directory: only root may look in there, and as root PostgreSQL
        # does not run.
        self.home = Path(tempfile.mkdtemp(prefix="otel-agents-pg-"))
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self.home, self._user)
        self._data = self.home / "data"
        self._process: subprocess.Popen[bytes] | None = None
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._run(
            "initdb", "-D", self._data, "-U", "otel", "--auth=trust", "-E", "UTF8",
            "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip

    def _run(self, program: str, *arguments: str | Path) -> None:
        subprocess.run(  # noqa: S603 - the package's own programs
            [self._programs / program, *arguments],
            user=self._user, cwd=self.home, check=True, capture_output=True,
        )  # fmt: skip

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = {
            "port": str(self.port), "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.home), "fsync": "off", "full_page_writes": "off",
            "synchronous_commit": "off", "max_connections": "200", "shared_buffers": "32MB",
            "autovacuum": "off",
        }  # fmt: skip
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [
                    self._programs / "postgres", "-D", self._data,
                    *(word for key, value in settings.items() for word in ("-c", f"{key}={value}")),
                ],
                user=self._user, cwd=self.home, stdout=log, stderr=log,
            )  # fmt: skip
        wait_for(self._answers, seconds=_START_SECONDS)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it by its process id, with whoever is connected."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(_START_SECONDS)
            self._process = None

    def close(self) -> None:
        """End it at once and remove its files: they need no last checkpoint."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.home, ignore_errors=True)

    def url(self, name: str) -> str:
        """Return the URL of one of its databases."""
        return f"postgresql://otel@127.0.0.1:{self.port}/{name}"

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement in the cluster's own database."""
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=60) as opened:
            cursor = opened.execute(sql)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def make(self, template: str = _TEMPLATE) -> str:
        """Make a database and return its URL."""
        name = f"t{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database, with whoever is connected."""
        self.execute(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    def _answers(self) -> bool:
        import psycopg

        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


def wait_for(condition: Callable[[], Any], *, seconds: float = 90.0) -> None:
    """Wait until a condition holds; fail where that takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come to hold"
        time.sleep(0.01)


def migrate(url: str) -> None:
    """Bring a database to the schema of this version."""
    database = Database(url)
    ensure(database)
    database.close()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """A running cluster, one for each process of the tests; `cluster.make()` makes a database."""
    programs = _programs()
    if programs is None:
        message = "PostgreSQL is not installed (Debian: postgresql)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    cluster = Cluster(programs)
    try:
        cluster.start()
        cluster.execute(f"CREATE DATABASE {_TEMPLATE}")
        migrate(cluster.url(_TEMPLATE))
        yield cluster
    finally:
        cluster.close()


@cache
def _migrated_file() -> bytes:
    """Return the bytes of a migrated, empty file of SQLite."""
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "migrated.db"
        migrate(f"sqlite:///{path}")
        return path.read_bytes()


def sqlite_file(path: Path) -> str:
    """Make a migrated, empty file of SQLite and return its URL."""
    path.write_bytes(_migrated_file())
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a migrated, empty database, of SQLite and then of PostgreSQL."""
    if request.param == "sqlite":
        yield sqlite_file(tmp_path / "store.db")
        return
    cluster: Cluster = request.getfixturevalue("postgresql")
    url = cluster.make()
    yield url
    cluster.drop(url)


@pytest.fixture
def stores() -> Iterator[Opener]:
    """Open stores that are closed after the test: `stores(url, **options)`.

    Commits are not flushed to the disk, unless `durable=True` is asked for.
    """
    opened: list[Store] = []

    def open_one(url: str, **options: Any) -> Store:
        made = Store(url, **{"durable": False, **options})
        opened.append(made)
        return made

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def store(stores: Opener, database_url: str) -> Store:
    """An empty store, on SQLite and then on PostgreSQL."""
    return stores(database_url)
