"""The real stack for tests: all that runs without containers, on free ports.

A test module that asks for `stack` or `backends` carries

    pytestmark = pytest.mark.xdist_group("stack")

so that with `pytest -n N --dist loadgroup` one worker runs all of them, on one stack. Under another
distribution each worker starts a stack of its own, which works too and costs more memory.

Without the programs (`deploy/native/install`) these tests are skipped with a reason, and fail where
`CI` is set: nothing is skipped there in silence.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "deploy" / "native"))

import parts  # noqa: E402 - found through the line above
from stack import Stack  # noqa: E402

from tests.stack.faulty import shown  # noqa: E402, F401 - a fixture
from tests.stack.hurry import hurried  # noqa: E402, F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


class Backends:
    """Questions to Jaeger, Prometheus and the server of a stack."""

    def __init__(self, stack: Stack) -> None:
        """Ask the backends of this stack."""
        self.stack = stack

    def services(self) -> list[str]:
        """Return the names of the services that Jaeger has spans of."""
        answer = _get(f"{self.stack.jaeger_query}/api/services")
        return sorted(answer["data"] or [])

    def traces(self, service: str, **tags: str) -> list[dict[str, Any]]:
        """Return Jaeger's traces of a service, in its own JSON, that have a span with these tags.

        A tag's name is written with two underscores for each dot: `otelagents__run__id`.
        """
        wanted = {name.replace("__", "."): value for name, value in tags.items()}
        query = {"service": service, "tags": json.dumps(wanted), "limit": "1000"}
        url = f"{self.stack.jaeger_query}/api/traces?{urllib.parse.urlencode(query)}"
        traces: list[dict[str, Any]] = _get(url)["data"]
        return traces

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return what a PromQL expression gives now: a list of `metric` and `value`."""
        query = urllib.parse.urlencode({"query": expression})
        answer = _get(f"{self.stack.prometheus}/api/v1/query?{query}")
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def exemplars(self, expression: str) -> list[dict[str, Any]]:
        """Return the exemplars of an expression's series of the last hour."""
        now = time.time()
        asked = {"query": expression, "start": str(now - 3600), "end": str(now)}
        found: list[dict[str, Any]] = self.prometheus(
            f"/api/v1/query_exemplars?{urllib.parse.urlencode(asked)}"
        )
        return found

    def prometheus(self, path: str) -> Any:
        """Return the data that Prometheus answers for a path of its API."""
        return _get(f"{self.stack.prometheus}{path}")["data"]

    def monitor(self, what: str, service: str) -> Any:
        """Return what Jaeger's Monitor tab shows of a service: `calls`, `errors` or `latencies`."""
        asked = {
            "service": service, "quantile": "0.95", "spanKind": "internal", "step": "5000",
            "endTs": str(int(time.time() * 1000)), "lookback": "600000", "ratePer": "60000",
        }  # fmt: skip
        if what != "latencies":
            del asked["quantile"]
        return _get(f"{self.stack.jaeger_query}/api/metrics/{what}?{urllib.parse.urlencode(asked)}")

    def server(self, path: str) -> Any:
        """Return the data that the otel-agents server answers for a path of its API."""
        asked = urllib.request.Request(  # noqa: S310 - loopback only
            f"{self.stack.console}{path}", headers={"Authorization": f"Bearer {self.stack.token}"}
        )
        with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310
            return json.load(answer)["data"]

    def served(self, path: str) -> list[dict[str, Any]]:
        """Return every item of one of the server's lists, page after page."""
        items: list[dict[str, Any]] = []
        cursor = ""
        while True:
            separator = "&" if "?" in path else "?"
            page = self.server(f"{path}{separator}limit=500{cursor}")
            items += page["items"]
            if page["next_cursor"] is None:
                return items
            cursor = f"&cursor={urllib.parse.quote(page['next_cursor'])}"

    def collector_metric(self, name: str) -> float:
        """Return the sum of one of the collector's own metrics, read from the collector itself."""
        url = f"http://127.0.0.1:{self.stack.ports['collector_metrics']}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(
            float(line.split()[-1]) for line in lines if line.startswith((name + "{", name + " "))
        )

    @staticmethod
    def eventually(question: Callable[[], T], seconds: float = 120.0) -> T:
        """Ask until the answer is truthy or the time is over, and return the last answer."""
        deadline = time.monotonic() + seconds
        while not (answer := question()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return answer


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - loopback only
        return json.load(answer)


@pytest.fixture(scope="session")
def programs() -> dict[str, Path]:
    """The stack's programs by name; without one of them the test is skipped, and fails in CI."""
    found = {
        name: path for part in parts.stack_parts().values() for name, path in part.programs.items()
    }
    if missing := sorted(name for name, path in found.items() if path is None):
        reason = f"{', '.join(missing)} missing: run deploy/native/install"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return {name: path for name, path in found.items() if path is not None}


@pytest.fixture(scope="session")
def stack(
    programs: dict[str, Path],  # asked for its skip
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    """One running stack on free ports, for all tests that leave it running."""
    with Stack.start(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture(scope="session")
def backends(stack: Stack) -> Backends:
    """The backends of the shared stack."""
    return Backends(stack)


@pytest.fixture
def fresh(
    programs: dict[str, Path],  # asked for its skip
    tmp_path: Path,
) -> Iterator[Backends]:
    """The backends of a stack of the test's own, whose parts it may kill."""
    with Stack.start(tmp_path / "stack") as running:
        yield Backends(running)
