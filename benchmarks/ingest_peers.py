"""The servers that take spans in: ours, the real collector with its queue on disk, and Phoenix.

Each is a process on loopback, on one core, and tells what it used: CPU and memory of itself and of
all below it. A database beside ours counts as ours.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import venv
from pathlib import Path
from typing import Any, Final

import peers
from ingest_process import Process, free_port, wait_for

from otel_agents.store.database import Database

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "deploy" / "native"))
import parts  # type: ignore[import-not-found,unused-ignore]

_START_SECONDS: Final = 60.0
_HERE: Final = Path(__file__).parent
_PHOENIX: Final = "arize-phoenix==20.26.1"
# No batch processor: each request is on disk and flushed before it is answered.
_COLLECTOR: Final = """
extensions:
  file_storage: {{directory: {home}, create_directory: true, fsync: true}}
receivers:
  otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}
exporters:
  otlp_http:
    endpoint: http://127.0.0.1:{backend}
    compression: none
    retry_on_failure: {{max_elapsed_time: 0}}
    sending_queue: {{storage: file_storage, sizer: requests, queue_size: 10000000}}
service:
  extensions: [file_storage]
  pipelines: {{traces: {{receivers: [otlp], exporters: [otlp_http]}}}}
  telemetry: {{metrics: {{level: none}}, logs: {{level: error}}}}
"""


class Ours(Process):
    """`otel-agents serve` on a store; by default on a new file of SQLite."""

    def __init__(self, store: str = "") -> None:
        url = store or "sqlite:///{home}/store.db"
        ports = (
            word
            for name in ("port", "otlp-http-port", "otlp-grpc-port")
            for word in (f"--{name}", "0")
        )
        serve = [sys.executable, "-m", "otel_agents.cli", "serve", "--json", "--store", url, *ports]
        super().__init__("otel-agents", serve, stdout=subprocess.PIPE)
        self.store = self._here(url)
        self._database = Database(self.store)
        line = self.line()
        if not line:
            message = f"otel-agents does not start: {self.tail()}"
            raise RuntimeError(message)
        said = json.loads(line)["data"]
        self.port, self.console = (
            int(said[name].rpartition(":")[2]) for name in ("otlp_http", "console")
        )

    def __exit__(self, *error: object) -> None:
        """End it, and remove its files."""
        self._database.close()
        super().__exit__(*error)

    def caught_up(self) -> bool:
        """Say whether nothing waits to be written or indexed."""
        with contextlib.suppress(urllib.error.HTTPError):
            data = get(self.console, "/readyz")["data"]
            if not data["waiting"] and not data["behind_seconds"]:
                # The last step of the index counts as done while it is still being written.
                return self._database.here.row("SELECT 1 AS one FROM unindexed LIMIT 1") is None
        return False


def get(port: int, path: str) -> Any:
    """Return what a server on loopback answers, as JSON."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        return json.load(answer)


class Collector(Process):
    """The collector, with each request in a queue on disk before it is acknowledged.

    Args:
        core: Where its backend runs: a sink that takes all and keeps nothing; None for no backend.

    """

    def __init__(self, core: int | None) -> None:
        program = parts.stack_parts()["collector"].programs["otelcol"]
        if program is None:
            message = "not installed: deploy/native/install collector"
            raise RuntimeError(message)
        self.port, backend = free_port(), free_port()
        self._sink = None
        if core is not None:
            drain = [sys.executable, _HERE / "ingest_drain.py"]
            self._sink = Process("sink", drain, core=core, stdout=subprocess.PIPE)
            backend = int(self._sink.line())
        self._backend = backend
        super().__init__("collector", [program, "--config", "{home}/config.yaml"])
        # It reads its configuration later than we write it: Go programs take long to start.
        text = _COLLECTOR.format(home=self.home / "queue", port=self.port, backend=backend)
        (self.home / "config.yaml").write_text(text)
        wait_for(self._answers, _START_SECONDS, "the collector's start")

    def _answers(self) -> bool:
        if self.ended:
            message = f"the collector does not start: {self.tail()}"
            raise RuntimeError(message)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def passed_on(self) -> int:
        """Return how many requests have reached the backend."""
        return int(get(self._backend, "/")["requests"]) if self._sink else 0

    def __exit__(self, *error: object) -> None:
        """End it, and its backend."""
        super().__exit__(*error)
        if self._sink is not None:
            self._sink.__exit__(*error)


def install_phoenix() -> str:
    """Make Phoenix's environment; return what went wrong, in one line, or an empty text."""
    home = peers.HOME / "phoenix"
    venv.create(home, with_pip=True, clear=True)
    wrong = peers._pip(home, _PHOENIX)
    if not wrong:
        (home / "installed").touch()
    return wrong


class Phoenix(Process):
    """Arize Phoenix on its SQLite, out of an environment of its own."""

    def __init__(self) -> None:
        python = peers.HOME / "phoenix" / "bin" / "python"
        if not (peers.HOME / "phoenix" / "installed").exists():
            message = "not installed: run with --install"
            raise RuntimeError(message)
        self.port = free_port()
        settings = {
            "PHOENIX_PORT": str(self.port), "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_GRPC_PORT": str(free_port()), "PHOENIX_TELEMETRY_ENABLED": "false",
            "PHOENIX_WORKING_DIR": "{home}",
        }  # fmt: skip
        serve = [python, "-m", "phoenix.server.main", "serve"]
        super().__init__("phoenix", serve, environment=settings)
        wait_for(self._answers, 2 * _START_SECONDS, "Phoenix's start")

    def _answers(self) -> bool:
        if self.ended:
            message = f"Phoenix does not start: {self.tail()}"
            raise RuntimeError(message)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stored(self) -> int:
        """Return how many spans are in its database."""
        import sqlite3

        with contextlib.closing(sqlite3.connect(self.home / "phoenix.db", timeout=30)) as opened:
            return int(opened.execute("SELECT COUNT(*) FROM spans").fetchone()[0])
