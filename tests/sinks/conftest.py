"""A real Redis, which a test can stop, kill and start again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.databases import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator


class Server:
    """A Redis server in a temporary directory, on a free port and a socket; it keeps no files."""

    def __init__(self, program: str) -> None:
        self._program = program
        self.home = Path(tempfile.mkdtemp(prefix="otel-agents-redis-"))
        self.socket = self.home / "socket"
        self._process: subprocess.Popen[bytes] | None = None
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self, *options: str) -> None:
        """Start it, empty, and wait until it answers."""
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [
                    self._program, "--port", str(self.port), "--bind", "127.0.0.1",
                    "--unixsocket", self.socket, "--dir", self.home,
                    "--save", "", "--appendonly", "no", *options,
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        wait_for(self._answers)

    def send(self, number: signal.Signals) -> None:
        """Send the server's process a signal: to stop it there, or to have it go on."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once, with all that it holds."""
        if self._process is not None:
            self.send(signal.SIGKILL)
            self._process.wait(120)
            self._process = None

    def close(self) -> None:
        """End it and remove its files."""
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def client(self) -> Any:
        """Return a connection of the test's own."""
        import redis

        return redis.Redis.from_url(self.url, decode_responses=True, socket_timeout=20)

    def _answers(self) -> bool:
        import redis

        try:
            with closing(self.client()) as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True
        except redis.ConnectionError:
            return False


@pytest.fixture
def stopped_server() -> Iterator[Server]:
    """A server that a test starts itself."""
    pytest.importorskip("redis")
    program = shutil.which("redis-server")
    if program is None:
        message = "redis-server is not installed (Debian: redis-server)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    server = Server(program)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def server(stopped_server: Server) -> Server:
    """A running, empty server."""
    stopped_server.start()
    return stopped_server
