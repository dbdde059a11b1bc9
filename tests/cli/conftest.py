"""What the tests of the command line share: the command as a process, and a workspace to ask."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from otel_agents.store import Batch, open_store
from otel_agents.workspace import Workspace

from .forked import Forks

sys.path.append(str(Path(__file__).parent.parent))  # for state.build

COMMAND = (sys.executable, "-m", "otel_agents.cli")
SECONDS = 180.0


@cache
def forks() -> Forks:
    """Return what most commands are forked from, for as long as the tests run."""
    started = Forks()
    atexit.register(started.close)
    return started


class Shell:
    """A directory to run `otel-agents` in, with an environment of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("OTEL_AGENTS_", "COLUMNS", "NO_COLOR", "FORCE_COLOR"))
        }
        self.environment["PYTHONUTF8"] = "1"

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        environment = self.environment | variables
        if forks().can(environment):
            return forks().run(arguments, self.path, environment, SECONDS)
        return subprocess.run(  # noqa: S603 - our own command
            [*COMMAND, *arguments],
            cwd=self.path,
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            timeout=SECONDS,
        )

    def data(self, *arguments: str) -> Any:
        """Run a command with --json and return the data of its envelope."""
        done = self.run(*arguments, "--json")
        found = json.loads(done.stdout)
        assert list(found) == ["data", "error", "meta"], done.stderr
        return found["data"]

    def start(self, *arguments: str, **more: Any) -> subprocess.Popen[str]:
        """Start a command that goes on by itself."""
        return subprocess.Popen(  # noqa: S603 - our own command
            [*COMMAND, *arguments],
            cwd=self.path,
            env=self.environment,
            text=True,
            encoding="utf-8",
            **more,
        )

    @property
    def workspace(self) -> Workspace:
        """The workspace in the directory."""
        return Workspace(self.path / ".otel-agents")

    def put(self, batch: Batch) -> None:
        """Store something, and wait until the rows speak of it."""
        store = open_store(self.environment.get("OTEL_AGENTS_STORE"), self.workspace)
        try:
            store.write(batch)
            assert store.settle()
        finally:
            store.close()

    @property
    def signals(self) -> Path:
        """The file that signals are read from."""
        return self.path / ".otel-agents" / "signals.jsonl"

    def write(self, lines: bytes) -> None:
        """Append to the file that signals are read from."""
        with self.signals.open("ab") as file:
            file.write(lines)


@pytest.fixture
def bare(tmp_path: Path) -> Shell:
    """Give a directory without a workspace."""
    return Shell(tmp_path)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a workspace as `init` makes it, to be copied: migrating takes its time."""
    shell = Shell(tmp_path_factory.mktemp("made"))
    assert shell.run("init").returncode == 0
    return shell.workspace.path


@pytest.fixture
def shell(bare: Shell, made: Path) -> Shell:
    """Give a directory with an empty workspace."""
    shutil.copytree(made, bare.workspace.path)
    return bare
