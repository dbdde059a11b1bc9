"""Start programs that outlive this one, know them again, and end them; for Linux.

A process is known by its id and the time it started, both from /proc: an id alone may have been
given to somebody else's process by the time it is to be ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Process:
    """A process: its id, and its start in clock ticks since the machine's own."""

    pid: int
    started: int


def spawn(argv: Sequence[str | Path], env: Mapping[str, str], log: Path) -> Process:
    """Start a program in a session of its own, its output appended to a log.

    In its own session it does not get the terminal's Ctrl-C; whoever started it ends it.
    """
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        argv[0],
        [str(word) for word in argv],
        env,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGPIPE],
    )
    # The child is there until it is waited for, be it as a zombie: its start can be read.
    return Process(pid, _stat(pid)[1])


def is_alive(process: Process) -> bool:
    """Tell whether this very process still runs."""
    # A child of ours that has ended stays a zombie until it is waited for. Anybody else's child
    # is waited for by its own parent.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)
    try:
        state, started = _stat(process.pid)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX" and started == process.started


def end(processes: Iterable[Process], grace: float = 10.0) -> None:
    """End processes together: SIGTERM, and SIGKILL for what still runs after `grace` seconds."""
    left = list(processes)
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, grace)):
        left = [process for process in left if is_alive(process)]
        for process in left:
            send(process, number)
        wait_for(lambda: not any(map(is_alive, left)), patience)  # noqa: B023 - called here only


def send(process: Process, number: signal.Signals) -> None:
    """Send a signal to this very process, and to no other that got its id since."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        # The handle holds on to one process: if that is the right one now, it stays the right one.
        if is_alive(process):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
    finally:
        os.close(handle)


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition holds and return whether it did within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _stat(pid: int) -> tuple[str, int]:
    """Return a process' state and start time, fields 3 and 22 of /proc/PID/stat.

    The second field is the program's name in parentheses, which may hold anything.
    """
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    state, *rest = fields.rpartition(")")[2].split()
    return state, int(rest[18])
