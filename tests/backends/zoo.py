"""An OTLP backend on loopback, in a process of its own, that can be any of many beasts.

It has one address for HTTP and one for gRPC; both stay the same whatever it becomes, also while
nothing listens there. What it holds is known by id.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

ROOT: Final = Path(__file__).resolve().parents[2]
SIGNALS: Final = ("traces", "metrics", "logs")


@dataclass
class Seen:
    """Ids by signal with how often each came, and requests in the order in which they came.

    `taken` is what the backend holds, having said so, or having tried to; `refused` is the rest.
    """

    taken: dict[str, dict[str, int]] = field(default_factory=dict)
    refused: dict[str, dict[str, int]] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)

    def again(self, signal: str) -> set[str]:
        """Return the ids that the backend took more than once."""
        return {id_ for id_, times in self.taken[signal].items() if times > 1}


class Zoo:
    """The backend's process; as a context manager it ends with the block.

    Args:
        directory: where its certificates go.
        tls: whether both addresses speak TLS.
    """

    def __init__(self, directory: Path, *, tls: bool = False) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this repository's own module
            [sys.executable, "-m", "tests.backends.beasts", directory, *(["tls"] if tls else [])],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={key: value for key, value in os.environ.items() if not key.startswith("OTEL_")},
        )  # fmt: skip
        found = self._answer()
        scheme = "https" if tls else "http"
        self.http: str = f"{scheme}://127.0.0.1:{found['http']}"
        self.grpc: str = f"{scheme}://127.0.0.1:{found['grpc']}"
        self.canary_url: str = f"http://127.0.0.1:{found['canary']}"
        self.authority: str = found["authority"]
        self.pid = self._process.pid

    def environment(self, protocol: str) -> dict[str, str]:
        """Return the `OTEL_*` variables that lead a program here by `http/protobuf` or `grpc`."""
        found = {
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.grpc if protocol == "grpc" else self.http,
        }
        if self.authority:
            found["OTEL_EXPORTER_OTLP_CERTIFICATE"] = self.authority
        return found

    def become(self, beast: str) -> None:
        """Be this beast from now on; connections that are open are reset."""
        self._ask(do="become", beast=beast)

    def seen(self) -> Seen:
        """Return all that came since the beginning, or since `forget`."""
        return Seen(**self._ask(do="seen"))

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of ids taken by signal, and how often one came again."""
        found: dict[str, dict[str, int]] = self._ask(do="counts")
        return found

    def connections(self) -> dict[str, int]:
        """Return how many connections were accepted, by protocol."""
        found: dict[str, int] = self._ask(do="connections")
        return found

    def canary(self) -> list[str]:
        """Return the heads of the requests that came where redirects lead to."""
        found: list[str] = self._ask(do="canary")
        return found

    def forget(self) -> None:
        """Begin anew with what was seen."""
        self._ask(do="forget")

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            try:
                self._process.communicate(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()

    def _ask(self, **order: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            message = f"the zoo ended with {self._process.wait()}"
            raise RuntimeError(message)
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()
