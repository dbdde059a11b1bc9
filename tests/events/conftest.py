"""Programs that tell of events, and what is found of these in the sinks afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any, Final, Protocol

import pytest

from tests.databases import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from otel_agents.pipeline import Pipeline
    from otel_agents.testing import Captured

PATIENCE: Final = 120.0  # seconds until something that hangs has failed
_KEPT_OUT: Final = ("OTEL_", "COVERAGE", "PYTEST")


class Program(Protocol):
    """Run a Python program in a directory of its own, where its event file will be."""

    def __call__(
        self, source: str, *arguments: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Return what became of it; it has a minute."""


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return the environment of a program: its sinks are its event file, and nothing else."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_KEPT_OUT)}
    return kept | {
        "OTEL_AGENTS_HOME": str(home / "no-workspace"), "OTEL_AGENTS_SINKS": "events:",
        "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "NO_COLOR": "1", "PYTHONUNBUFFERED": "1", **more,
    }  # fmt: skip


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Run a program's source and wait for its end."""

    def run(source: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - the test's own program
            [sys.executable, "-c", textwrap.dedent(source), *arguments],
            cwd=tmp_path, env=environment(tmp_path, **more), capture_output=True, text=True,
            timeout=PATIENCE, check=False,
        )  # fmt: skip

    return run


class Started:
    """A program that runs beside the test; what it prints is read line by line."""

    def __init__(self, home: Path, source: str, *arguments: str, **more: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - the test's own program
            [sys.executable, "-c", textwrap.dedent(source), *arguments],
            cwd=home, env=environment(home, **more), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def says(self) -> str:
        """Return the next line that it prints; "" at its end."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def go_on(self) -> None:
        """Give it a line to read."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def send(self, number: int) -> None:
        """Send it a signal of the operating system."""
        self._process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and what it wrote to standard error."""
        _, errors = self._process.communicate(timeout=PATIENCE)
        return self._process.returncode, errors

    def kill(self) -> None:
        """End it at once, where it runs still."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Any]:
    """Start programs, which are ended after the test: `started(source, *arguments, **more)`."""
    running: list[Started] = []

    def start(source: str, *arguments: str, **more: str) -> Started:
        running.append(Started(tmp_path, source, *arguments, **more))
        return running[-1]

    yield start
    for one in running:
        one.kill()


@pytest.fixture
def pipeline(captured: Captured) -> Pipeline:
    """The pipeline of the test's own runtime; `pipeline.add(sink)` adds to it."""
    return captured.runtime.require_pipeline()


def events_in(home: Path, name: str = "agent-events") -> list[dict[str, Any]]:
    """Return the events of a directory's file, rotated ones too; fails on a line that is none."""
    found: list[dict[str, Any]] = []
    for path in [*sorted(home.glob(f"{name}-*.jsonl")), home / f"{name}.jsonl"]:
        if path.exists():
            data = path.read_bytes()
            assert not data or data.endswith(b"\n"), f"{path.name} ends in a torn line"
            found += [json.loads(line) for line in data.splitlines()]
    for one in found:
        assert sorted(one) == ["event_type", "payload", "timestamp"]
    return found


def by_emitter(payloads: list[dict[str, Any]]) -> dict[Any, list[int]]:
    """Return the numbers of the events of each emitter, in the order they came in."""
    found: dict[Any, list[int]] = {}
    for payload in payloads:
        found.setdefault(payload["emitter"], []).append(payload["n"])
    return found


def until(condition: Any) -> None:
    """Wait until a condition holds."""
    wait_for(condition, seconds=PATIENCE)
