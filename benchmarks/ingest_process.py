"""A server under measurement: a process on one core that tells what it uses.

CPU is of the process and of all below it; whoever starts it ends it, by its id.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SERVER_CORE: Final = 0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_TASKSET: Final = shutil.which("taskset") or "taskset"


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait until a condition holds; return how long that took."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > seconds:
            message = f"{what}: not within {seconds:.0f} s"
            raise TimeoutError(message)
        time.sleep(0.02)
    return time.monotonic() - begun


def _family(pid: int) -> list[int]:
    """Return a process and all below it."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


class Process:
    """A program on one core; ended by its id when the `with` ends."""

    def __init__(
        self,
        name: str,
        command: Sequence[object],
        *,
        core: int = SERVER_CORE,
        environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self.name = name
        self.home = Path(tempfile.mkdtemp(prefix="otel-agents-bench-"))
        self.extra: list[int] = []  # ids of processes that work for it
        self._log = (self.home / "log").open("wb")
        kept = {name: text for name, text in os.environ.items() if not name.startswith("OTEL_")}
        added = {name: self._here(text) for name, text in (environment or {}).items()}
        self._started = subprocess.Popen(  # noqa: S603 - programs of this machine
            [_TASKSET, "-c", str(core), *map(self._here, command)],
            stdout=options.pop("stdout", self._log), stderr=self._log, cwd=self.home,
            env=kept | added, **options,
        )  # fmt: skip
        self.pid = self._started.pid

    def _here(self, word: object) -> str:
        """Return a word with `{home}` for the process' own directory."""
        return str(word).replace("{home}", str(self.home))

    def tail(self) -> str:
        """Return the last line of its log."""
        lines = (self.home / "log").read_text(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else f"exit code {self._started.poll()}"

    @property
    def ended(self) -> bool:
        """Whether it is not there any more."""
        return self._started.poll() is not None

    def line(self) -> str:
        """Return the next line of its standard output."""
        assert self._started.stdout is not None
        line: bytes = self._started.stdout.readline()
        return line.decode()

    def cpu(self) -> float:
        """Return the seconds of CPU that it has used, with all below it."""
        used = 0
        for pid in (one for root in (self.pid, *self.extra) for one in _family(root)):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                # Its own, and that of those below it that have ended.
                used += sum(map(int, fields[11:15]))
        return used / _TICKS

    def rss(self, *, peak: bool = False) -> float:
        """Return its memory in MB, now or at the most since it started."""
        wanted = "VmHWM:" if peak else "VmRSS:"
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(wanted):
                return int(line.split()[1]) / 1024
        return 0.0

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it, and remove its files."""
        self._started.send_signal(signal.SIGINT)
        try:
            self._started.wait(20)
        except subprocess.TimeoutExpired:
            self._started.kill()
            self._started.wait()
        if self._started.stdout is not None:
            self._started.stdout.close()
        self._log.close()
        shutil.rmtree(self.home, ignore_errors=True)
