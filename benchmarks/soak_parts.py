"""The parts of a soak that are broken on purpose: server, programs, and the way between them."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from ingest_process import wait_for

if TYPE_CHECKING:
    import signal

HOST: Final = "127.0.0.1"
_HERE: Final = Path(__file__).parent
_BIN: Final = Path(sys.executable).parent
_PATIENCE: Final = 120.0


def free_port() -> int:
    """Return a port below those of clients, one of which could else be given it meanwhile."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(lowest // 2, lowest)
        with contextlib.closing(socket.socket()) as tried, contextlib.suppress(OSError):
            tried.bind((HOST, port))
            return port


class Relay:
    """The port that programs send to; it can be refused while the server lives.

    Attributes:
        port: The port, which stays.

    """

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def listen(self) -> None:
        """Take connections."""
        self._do(self._listen())

    def refuse(self) -> None:
        """Take none, and cut those that there are."""
        self._do(self._refuse())

    def close(self) -> None:
        """End it."""
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, what: Any) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(_PATIENCE)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, HOST, self.port)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            there, back = await asyncio.open_connection(HOST, self._target)
        except OSError:  # the server is dead
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(back)
        await asyncio.gather(self._copy(reader, back), self._copy(there, writer))
        self._writers -= {writer, back}

    async def _copy(self, source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                to.write(data)
                await to.drain()
        with contextlib.suppress(OSError):
            to.close()


def environment(home: Path, endpoint: str | None) -> dict[str, str]:
    """Return the environment of programs that send to an end point, or of the server."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("OTEL_")} | {
        "OTEL_AGENTS_HOME": str(home / ".otel-agents"),
        "OTEL_AGENTS_CONFIG": str(home / "otel-agents.toml"),
    }
    if endpoint is None:
        return kept
    return kept | {
        "OTEL_AGENTS_SINKS": "otlp:",
        "OTEL_AGENTS_SPOOL": str(home / "spool"),
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_METRIC_EXPORT_INTERVAL": "5000",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
    }


class Part:
    """A process that is killed and started again; what it says goes to a file."""

    def __init__(self, name: str, home: Path, env: dict[str, str]) -> None:
        self.name = name
        self._home, self._env = home, env
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The id of its process; None while there is none."""
        return None if self._process is None else self._process.pid

    @property
    def fell(self) -> bool:
        """Whether it ended without being asked to."""
        return self._process is not None and self._process.poll() is not None

    @property
    def said(self) -> str:
        """The end of what it wrote to stderr."""
        return (self._home / f"{self.name}.stderr").read_text(errors="replace")[-2000:]

    def begin(self, *command: object) -> None:
        """Start a process."""
        with (self._home / f"{self.name}.stderr").open("ab") as stderr:
            self._process = subprocess.Popen(  # noqa: S603 - our own programs
                [str(word) for word in command], cwd=self._home, env=self._env,
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=stderr,
            )  # fmt: skip

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process is not None:
            self._process.send_signal(number)

    def end(self, number: signal.Signals | None = None) -> int | None:
        """End its input, or send a signal; wait for its end and return the exit code."""
        process, self._process = self._process, None
        if process is None:
            return None
        if number is not None:
            process.send_signal(number)
        assert process.stdin is not None
        _close(process.stdin)
        try:
            return process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return None


def _close(stdin: IO[bytes]) -> None:
    with contextlib.suppress(OSError):
        stdin.close()


class Server(Part):
    """`otel-agents serve` on a file of SQLite, on ports that stay."""

    def __init__(self, home: Path, env: dict[str, str], retain_days: float) -> None:
        super().__init__("server", home, env)
        self.store = home / "store" / "store.db"
        self.store.parent.mkdir()
        self._served: int | None = None
        self._console, self.otlp, self._grpc = (free_port() for _ in range(3))
        (home / "otel-agents.toml").write_text(f"[store]\nretain_days = {retain_days}\n")

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.begin(
            _BIN / "otel-agents", "serve", "--json", "--store", f"sqlite:///{self.store}",
            "--port", self._console, "--otlp-http-port", self.otlp, "--otlp-grpc-port", self._grpc,
        )  # fmt: skip
        wait_for(lambda: self.fell or self.ready(), _PATIENCE, "the server")
        assert not self.fell, self.said
        self._served = self.pid

    @property
    def started(self) -> bool:
        """Whether its process has been ready."""
        return self.pid is not None and self.pid == self._served

    def ready(self) -> bool:
        """Say whether it is ready, and nothing waits to be written or indexed."""
        try:
            status, body = self._ask("/readyz")
        except (OSError, http.client.HTTPException):
            return False
        if status != 200:
            return False
        found = json.loads(body)["data"]
        return bool(found["waiting"] == 0 and found["behind_seconds"] == 0)

    def data(self, path: str) -> Any:
        """Return the data of an answer of the API; None where there is no such thing."""
        status, body = self._ask(path)
        if status == 404:
            return None
        assert status == 200, (path, status, body[:500])
        return json.loads(body)["data"]

    def _ask(self, path: str) -> tuple[int, bytes]:
        made = http.client.HTTPConnection(HOST, self._console, timeout=_PATIENCE)
        with contextlib.closing(made):
            made.request("GET", path)
            answer = made.getresponse()
            return answer.status, answer.read()


class Agents(Part):
    """A program of agents; each of its processes has a name of its own in the ledger."""

    def __init__(self, label: str, way: str, home: Path, env: dict[str, str], rate: float) -> None:
        super().__init__(f"{label} agents", home, env)
        self._label, self._way, self._rate = label, way, rate
        self.known = ""
        self._number = 0

    def start(self) -> str:
        """Start a process, and return the name that it tells under."""
        self._number += 1
        self.known = f"{self._label}-{self._number}"
        self.begin(
            _BIN / "opentelemetry-instrument", sys.executable, _HERE / "soak_agents.py",
            self._home / "told", self.known, self._way, self._rate,
        )  # fmt: skip
        return self.known


def spool(env: dict[str, str], *words: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code of `otel-agents spool …`, and its data."""
    done = subprocess.run(  # noqa: S603 - our own command
        [_BIN / "otel-agents", "spool", *words, "--json"],
        env=env, capture_output=True, check=False, timeout=5 * _PATIENCE,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout)["data"] or {}
