"""Commands in processes of their own, without an interpreter's start for each.

One process has imported all commands and runs none: each is a child that it forks, with the
directory, the environment, the files and the exit code of a process that was started the usual way.
What begins before `main` is not seen of such a command: who tests that starts one the usual way.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What the interpreter reads when it starts.
_EARLY: Final = ("PYTHON", "LC_", "LANG", "TZ", "LD_")
_LAZY: Final = (
    "http.client", "otel_agents.answers", "otel_agents.cli.child", "otel_agents.cli.remote",
    "otel_agents.doctor", "otel_agents.settings", "otel_agents.state.view", "otel_agents.store",
    "otel_agents.store.schema", "sqlite3", "ssl", "urllib.request",
)  # fmt: skip
_CONTROL: Final = 3
_KEPT: Final = 1 << 20


class Forks:
    """The process that commands are forked from; any thread may ask it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._early = early(os.environ | {"PYTHONUTF8": "1"})
        self._control, other = socket.socketpair()
        with other:
            self._process = subprocess.Popen(  # noqa: S603 - this file
                [sys.executable, __file__, str(other.fileno())],
                env=os.environ | {"PYTHONUTF8": "1"}, pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )  # fmt: skip

    def can(self, environment: Mapping[str, str]) -> bool:
        """Say whether a command with this environment needs no interpreter of its own."""
        return early(environment) == self._early

    def run(
        self, arguments: Sequence[str], path: Path, environment: Mapping[str, str], seconds: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        asked = {"arguments": arguments, "path": str(path), "environment": dict(environment)}
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
            mine, other = socket.socketpair()
            with mine, other, tempfile.TemporaryFile() as request:
                request.write(json.dumps(asked).encode())
                request.flush()
                fds = [one.fileno() for one in (request, out, error, other)]
                with self._lock:
                    socket.send_fds(self._control, [b"."], fds)
                other.close()
                mine.settimeout(seconds)
                with mine.makefile("r") as answers:
                    child = int(answers.readline())
                    try:
                        code = int(answers.readline())
                    except TimeoutError:
                        os.kill(child, signal.SIGKILL)
                        raise subprocess.TimeoutExpired(list(arguments), seconds) from None
            written = []
            for file in (out, error):
                file.seek(0)
                written.append(file.read().decode().replace("\r\n", "\n"))
        return subprocess.CompletedProcess(list(arguments), code, *written)

    def close(self) -> None:
        """End the process."""
        self._control.close()
        self._process.wait(60)


def early(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what the interpreter reads of an environment."""
    return {key: value for key, value in environment.items() if key.startswith(_EARLY)}


def _serve(control: socket.socket) -> None:
    """Fork what is asked for until nobody can ask any more; return in each child."""
    ended, wake = socket.socketpair()
    ended.setblocking(False)
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([control, ended], [], [])
        if ended in ready:
            ended.recv(_KEPT)
            while running and (found := os.waitpid(-1, os.WNOHANG))[0]:
                with running.pop(found[0]) as asking:
                    asking.sendall(b"%d\n" % os.waitstatus_to_exitcode(found[1]))
        if control in ready:
            said, fds, _, _ = socket.recv_fds(control, 1, 4)
            if not said:
                os._exit(0)
            child = os.fork()
            if child == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for one in (control, ended, wake, *running.values()):
                    one.close()
                _become(*fds)
                return
            running[child] = socket.socket(fileno=fds.pop())
            running[child].sendall(b"%d\n" % child)
            for fd in fds:
                os.close(fd)


def _become(request: int, out: int, error: int, asking: int) -> None:
    """Be the process that is asked for."""
    os.close(asking)
    asked: dict[str, Any] = json.loads(os.pread(request, os.fstat(request).st_size, 0))
    for fd, place in ((out, 1), (error, 2)):
        os.dup2(fd, place)
        os.close(fd)
    os.close(request)
    os.chdir(asked["path"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.path[0] = asked["path"]  # as with `python -m`
    sys.argv[1:] = asked["arguments"]


if __name__ == "__main__":
    from otel_agents.cli.main import COMMANDS, main

    for name in (*_LAZY, *(f"otel_agents.cli.{command}" for command in COMMANDS)):
        import_module(name)
    _serve(socket.socket(fileno=int(sys.argv[1])))
    main()
