"""Whether a process lives, asked of the system that it ran on.

A process is named by its host and its number, and the number means something in one process
namespace only: containers can share a host's name. `here` names the two together; whoever writes
signals and whoever reads them must both use it.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Final

# The inode of the first process namespace of a Linux system (PROC_PID_INIT_INO in proc_ns.h).
_FIRST_NAMESPACE: Final = 0xEFFFFFFC
# Fields of /proc/PID/stat after the name, counted from the state (proc_pid_stat(5)).
_STATE: Final = 0
_START_TICKS: Final = 19
# The boot time moves when the clock is set; nobody gets an old number again this soon.
_CLOCK_SECONDS: Final = 60.0


@functools.cache
def here() -> str:
    """Return the name of this host, with its process namespace where that is not the first."""
    name = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return name
    return name if namespace == _FIRST_NAMESPACE else f"{name}#{namespace}"


def alive(host: str, pid: int, since: int) -> bool | None:
    """Say whether a process still lives; None where that cannot be known from here.

    Args:
        host: Where it ran, as its `here` said.
        pid: Its number there.
        since: A time it was seen at, in nanoseconds since the epoch. A process that started later
            only bears the same number.

    """
    if pid <= 0 or host != here() or sys.platform == "win32":
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OverflowError:  # no number of a process
        return None
    except OSError:  # somebody else's process
        pass
    return _same(pid, since) if sys.platform == "linux" else True


def _same(pid: int, since: int) -> bool | None:
    """Say whether the process of a number that is in use is the one seen then, and not a corpse."""
    try:
        # The name stands in brackets and may hold anything, brackets too.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        state, ticks = fields[_STATE], int(fields[_START_TICKS])
    except (OSError, IndexError, ValueError):
        return None
    if state in {b"Z", b"X"}:  # ended, and only waited for by its parent
        return False
    started = _boot_time() + ticks / os.sysconf("SC_CLK_TCK")
    return started <= since / 1e9 + _CLOCK_SECONDS


@functools.cache
def _boot_time() -> int:
    """Return when the system started, in seconds since the epoch."""
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        if line.startswith("btime "):
            return int(line.split()[1])
    return 0
