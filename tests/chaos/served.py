"""`otel-agents serve` as a process that a test kills and starts again on the same ports."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .nursery import Child, Nursery

HOST: Final = "127.0.0.1"
SERVE: Final = ("-m", "otel_agents.cli", "serve")
# Others use the machine too: this is how long anything may take before it is called stuck.
PATIENCE: Final = float(os.environ.get("CHAOS_PATIENCE") or 180)
_PAGE: Final = 500


def until(true: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.005)


def free_port() -> int:
    """Return a port below those that the system gives to clients.

    A client that calls a port of its own range, while nobody listens there, can be connected to
    itself, and then the port is taken.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(lowest // 2, lowest)
        with closing(socket.socket()) as tried, suppress(OSError):
            tried.bind((HOST, port))
            return port


class Served:
    """A server on a store, with ports that stay; a `nursery` forks it rather than starting it.

    Attributes:
        ready_after: For each start, the seconds from the process's begin until it was ready, and
            how many of them it was on a processor.

    """

    def __init__(
        self,
        home: Path,
        store: str,
        *,
        program: tuple[str, ...] = SERVE,
        environment: dict[str, str] | None = None,
        nursery: Nursery | None = None,
    ) -> None:
        self.home = home
        self.store = store
        self.console, self.otlp_http, self.otlp_grpc = (free_port() for _ in range(3))
        self.ready_after: list[tuple[float, float]] = []
        self.process: subprocess.Popen[bytes] | Child | None = None
        self._program = program
        self._nursery = nursery
        self._environment = environment or {}
        self._began = 0.0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def endpoint(self) -> str:
        """The address of OTLP over HTTP."""
        return f"http://{HOST}:{self.otlp_http}"

    @property
    def url(self) -> str:
        """The address of console and API."""
        return f"http://{HOST}:{self.console}"

    @property
    def running(self) -> subprocess.Popen[bytes] | Child:
        """The process, which has to be there."""
        assert self.process is not None
        return self.process

    @property
    def said(self) -> str:
        """What its processes wrote to stderr."""
        return (self.home / "stderr").read_text("utf-8")

    def begin(self) -> None:
        """Start a process, and do not wait for it."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "COVERAGE"))}
        kept |= self._environment
        program = (
            *self._program, "--json", "--store", self.store, "--port", str(self.console),
            "--otlp-http-port", str(self.otlp_http), "--otlp-grpc-port", str(self.otlp_grpc),
        )  # fmt: skip
        self._began = time.monotonic()
        if self._nursery is not None:
            self.process = self._nursery.begin(program, self.home, kept)
            return
        with (self.home / "stderr").open("ab") as stderr:
            self.process = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, *program],
                cwd=self.home, env=kept, stdout=subprocess.DEVNULL, stderr=stderr,
            )  # fmt: skip

    def wait(self) -> None:
        """Wait until it is ready, and note how long that took since it was begun."""

        def ready() -> bool:
            assert self.running.poll() is None, f"it ended by itself: {self.said[-2000:]}"
            return self.is_ready()

        until(ready, "readiness")
        self.ready_after.append((time.monotonic() - self._began, self._processor_seconds()))

    def start(self) -> None:
        """Start a process and wait until it is ready."""
        self.begin()
        self.wait()

    def kill(self) -> None:
        """End it as a crash would."""
        self.end(signal.SIGKILL)

    def end(self, number: signal.Signals) -> int | None:
        """Send a signal and wait for the end; return the exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self.process = None
        return code

    def is_ready(self) -> bool:
        """Ask `/readyz`."""
        try:
            return self._ask("/readyz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def waiting(self) -> int:
        """Return how many requests are not committed yet, ready or not."""
        _, body = self._ask("/readyz")
        said = json.loads(body)
        found: int = (said["data"] or said["error"]["details"])["waiting"]
        return found

    def data(self, path: str, **query: Any) -> Any:
        """Return the data of an answer of the API."""
        status, body = self._ask(f"{path}?{urlencode(query)}" if query else path)
        assert status == 200, (path, status, body[:500])
        return json.loads(body)["data"]

    def pages(self, path: str, place: str = "cursor") -> Iterator[dict[str, Any]]:
        """Yield the items of all pages of a list."""
        asked: dict[str, Any] = {"limit": _PAGE}
        while True:
            page = self.data(path, **asked)
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            asked[place] = page["next_cursor"]

    def caught_up(self) -> bool:
        """Say whether nothing waits to be written or indexed."""
        status, body = self._ask("/readyz")
        if status != 200:  # so far behind that it is not ready, for now
            return False
        found = json.loads(body)["data"]
        return bool(found["waiting"] == 0 and found["behind_seconds"] == 0)

    def _ask(self, path: str) -> tuple[int, bytes]:
        with closing(http.client.HTTPConnection(HOST, self.console, timeout=PATIENCE)) as made:
            made.request("GET", quote(path, safe="/?&=%"))
            answer = made.getresponse()
            return answer.status, answer.read()

    def _processor_seconds(self) -> float:
        with Path(f"/proc/{self.running.pid}/stat").open() as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
