"""A process that has imported the server, and forks one whenever a test wants another to kill.

Nine tenths of a start are imports, of which a kill shows nothing; what opens the store, listens and
answers is the child's own. Starts as users have them are measured apart, in `test_kill.py`.

It reads requests from its input, a line of JSON each, and answers with a line.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ROOT: Final = Path(__file__).parents[2]
# What a server imports until it is ready, by its own imports or in a function.
_IMPORTED: Final = (
    "alembic.command", "psycopg", "sqlalchemy.dialects.sqlite",
    "uvicorn.protocols.http.httptools_impl", "otel_agents.cli.serve", "otel_agents.receiver.grpc",
    "otel_agents.server.app", "otel_agents.server.serve",
)  # fmt: skip


class Child:
    """A server that was forked, to be used like a `subprocess.Popen`."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        if self.returncode is None:
            self.returncode = self._nursery.ask(poll=self.pid)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait for its end; return the exit code."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a server", timeout)
            time.sleep(0.002)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal; its number is its own until its end was waited for."""
        os.kill(self.pid, number)


class Nursery:
    """The process, from the side of a test."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.nursery"],
            cwd=_ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def begin(self, program: Sequence[str], home: Path, environment: Mapping[str, str]) -> Child:
        """Fork a child that runs a program: `-m` and a module, or a file, and arguments."""
        asked = {"program": list(program), "home": str(home), "environment": dict(environment)}
        return Child(self, self.ask(begin=asked))

    def ask(self, **request: Any) -> Any:
        """Ask the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def _become(asked: dict[str, Any]) -> None:
    """Run a program in a child, which is the test's own from here on."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(asked["home"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    for number, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, os.devnull, os.O_WRONLY),
        (2, "stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    ):
        os.dup2(os.open(name, flags, 0o600), number)
    program = asked["program"]
    if program[0] == "-m":
        sys.argv = program[1:]
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = program
        runpy.run_path(program[0], run_name="__main__")


def _fork(asked: dict[str, Any]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        _become(asked)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    finally:
        sys.stderr.flush()
        os._exit(code)


def _code(child: int) -> int | None:
    found, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _serve() -> None:
    """Answer requests until the input ends."""
    for name in _IMPORTED:
        importlib.import_module(name)
    for line in sys.stdin:
        asked = json.loads(line)
        said = _fork(asked["begin"]) if "begin" in asked else _code(asked["poll"])
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
