"""A cluster of PostgreSQL for a benchmark: temporary, on loopback, and flushed to the disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final, Self

from ingest_process import Process, free_port, wait_for

_INSTALLED: Final = Path("/usr/lib/postgresql")
_START_SECONDS: Final = 60.0
# As a distribution ships it, but for memory that a small server of today has.
_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1", "shared_buffers": "256MB", "max_wal_size": "2GB",
    "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on",
}  # fmt: skip


class Cluster:
    """A cluster with one empty database, on one core; ended when the `with` ends."""

    def __init__(self, core: int) -> None:
        programs = max(
            (one.parent for one in _INSTALLED.glob("*/bin/initdb")),
            key=lambda one: float(one.parent.name),
            default=None,
        )
        if programs is None:
            message = "PostgreSQL is not installed (Debian: postgresql)"
            raise RuntimeError(message)
        # As root it does not run, and only root looks into root's own directories.
        user = "postgres" if os.geteuid() == 0 else None
        self._home = Path(tempfile.mkdtemp(prefix="otel-agents-bench-"))
        if user:
            shutil.chown(self._home, user)
        data = self._home / "data"
        subprocess.run(  # noqa: S603 - the package's own program
            [
                programs / "initdb", "-D", data, "-U", "otel", "--auth=trust", "-E", "UTF8",
                "--locale=C.UTF-8",
            ],
            user=user, cwd=self._home, check=True, capture_output=True,
        )  # fmt: skip
        self._port = free_port()
        settings = {
            **_SETTINGS, "port": self._port, "unix_socket_directories": self._home,
        }  # fmt: skip
        words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        self._process = Process(
            "postgresql", [programs / "postgres", "-D", data, *words], core=core, user=user
        )
        self.pid = self._process.pid
        self.url = f"postgresql://otel@127.0.0.1:{self._port}/postgres"
        wait_for(self._answers, _START_SECONDS, "PostgreSQL's start")

    def _answers(self) -> bool:
        import psycopg

        if self._process.ended:
            message = f"PostgreSQL does not start: {self._process.tail()}"
            raise RuntimeError(message)
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *error: object) -> None:
        """End it, and remove its files."""
        self._process.__exit__(*error)
        shutil.rmtree(self._home, ignore_errors=True)
