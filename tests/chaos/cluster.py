"""A cluster of PostgreSQL that is made to be killed: what it has committed outlives a process."""

from __future__ import annotations

import os
import signal
import subprocess

from tests.databases import Cluster

from .served import PATIENCE, until


class Mortal(Cluster):
    """A cluster that commits for good; only a power failure would cost something."""

    def start(self) -> None:
        """Start it, again and again while processes of the one before still end."""

        def started() -> bool:
            if self._process is None or self._process.poll() is not None:
                self._begin()
            return self._answers()

        until(started, "PostgreSQL")

    def _begin(self) -> None:
        # With `user=` Python forks by itself, which clients of gRPC in this process do not survive.
        user = self._user
        as_user = (
            ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        )
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the package's own program
                [
                    *as_user, self._programs / "postgres", "-D", self._data, "-p", str(self.port),
                    "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off",
                    "-c", f"unix_socket_directories={self.home}", "-c", "shared_buffers=32MB",
                ],
                cwd=self.home, stdout=log, stderr=log,
            )  # fmt: skip

    def kill(self) -> None:
        """Kill the process that all others of the cluster are children of."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE)

    def kill_backend(self, name: str) -> None:
        """Kill a process that serves a client of a database; the others then begin anew."""
        [(pid,)] = self.execute(
            f"SELECT pid FROM pg_stat_activity WHERE datname = '{name}' "  # noqa: S608
            "ORDER BY state = 'active' DESC, query_start DESC LIMIT 1"
        )
        os.kill(pid, signal.SIGKILL)
