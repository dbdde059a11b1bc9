"""The real Prometheus for tests: `promtool` reads a text, and a server of its scrapes programs.

Import the fixtures into a test module:

    from tests.scraping import prometheus, promtool

Without the programs (`deploy/native/install`) these tests are skipped with a reason, and fail where
`CI` is set: nothing is skipped there in silence.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strictly
from prometheus_client.parser import text_string_to_metric_families as loosely

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_NATIVE: Final = Path(__file__).resolve().parents[1] / "deploy" / "native"
_SECONDS: Final = 120.0
# All that promtool's linter says of our names: OpenTelemetry's rules and the KPIs' names want these
# so, and Prometheus takes them.
ACCEPTED: Final = {
    f'{name} non-histogram and non-summary metrics should not have "_count" suffix'
    for name in ("otelagents_worker_count",)
}

Labels = frozenset[tuple[str, str]]


def samples(text: str, *, openmetrics: bool = False) -> dict[tuple[str, Labels], float]:
    """Return a text's samples by name and labels, read by the library's parser."""
    parse = strictly if openmetrics else loosely
    found: dict[tuple[str, Labels], float] = {}
    for family in parse(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def value(found: Mapping[tuple[str, Labels], float], name: str, **labels: str) -> float:
    """Return the sum of a name's samples with these labels, 0 where there is none."""
    return sum(
        number for (one, given), number in found.items()
        if one == name and frozenset(labels.items()) <= given
    )  # fmt: skip


def _program(name: str) -> Path:
    sys.path.insert(0, str(_NATIVE))
    try:
        import parts
    finally:
        sys.path.remove(str(_NATIVE))
    path: Path | None = parts.stack_parts()["prometheus"].programs[name]
    if path is None:
        reason = f"{name} missing: run deploy/native/install"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(scope="session")
def promtool() -> Callable[[bytes], None]:
    """Return what fails where `promtool check metrics` has anything to say of a text."""
    program = _program("promtool")

    def check(text: bytes) -> None:
        done = subprocess.run(  # noqa: S603 - Debian's own program
            [program, "check", "metrics"], input=text, capture_output=True, check=False
        )
        said = {line for line in (done.stdout + done.stderr).decode().splitlines() if line}
        assert said <= ACCEPTED, said - ACCEPTED
        assert done.returncode in ({0, 3} if said else {0})

    return check


class Prometheus:
    """A Prometheus that scrapes a target every 200 ms."""

    def __init__(self, program: Path, home: Path) -> None:
        self._home = home
        self._jobs = count(1)
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._configure([])
        with (home / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - Debian's own program
                [
                    program, f"--config.file={home / 'prometheus.yml'}",
                    f"--storage.tsdb.path={home / 'data'}", "--web.enable-lifecycle",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        self.eventually(lambda: self._get("/-/ready"))

    def scrape(self, url: str, token: str | None = None) -> str:
        """Scrape a target, and nothing else; return its job's name once one scrape came."""
        target = urllib.parse.urlsplit(url)
        job: dict[str, Any] = {
            "job_name": f"job-{next(self._jobs)}", "scheme": target.scheme,
            "static_configs": [{"targets": [target.netloc]}],
        }  # fmt: skip
        if token is not None:
            job["authorization"] = {"credentials": token}
        self._configure([job])
        self._get("/-/reload", "POST")
        up = f'up{{job="{job["job_name"]}"}} == 1'
        assert self.eventually(lambda: self.query(up)), self._get("/api/v1/targets")
        return str(job["job_name"])

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return what an expression gives now: a list of `metric` and `value`."""
        query = urllib.parse.urlencode({"query": expression})
        answer = self._get(f"/api/v1/query?{query}")
        found: list[dict[str, Any]] = json.loads(answer)["data"]["result"] if answer else []
        return found

    def number(self, expression: str) -> float | None:
        """Return the one number that an expression gives, or None where it gives none."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else None

    @staticmethod
    def eventually(question: Callable[[], Any]) -> Any:
        """Ask until the answer is truthy or the time is over, and return the last answer."""
        deadline = time.monotonic() + _SECONDS
        while not (answer := question()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return answer

    def stop(self) -> None:
        """End the server."""
        self._process.terminate()
        self._process.wait(_SECONDS)

    def _get(self, path: str, method: str = "GET") -> bytes:
        request = urllib.request.Request(self.url + path, method=method)  # noqa: S310 - loopback
        with suppress(OSError), urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return bytes(answer.read())
        return b""

    def _configure(self, jobs: list[dict[str, Any]]) -> None:
        times = {"scrape_interval": "200ms", "scrape_timeout": "200ms"}
        # JSON is YAML too.
        (self._home / "prometheus.yml").write_text(
            json.dumps({"global": times, "scrape_configs": jobs})
        )


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Return a Prometheus of this session's own, that scrapes what it is told to."""
    running = Prometheus(_program("prometheus"), tmp_path_factory.mktemp("prometheus"))
    yield running
    running.stop()
