"""Whether a process lives: asked of this very system, with processes of our own."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from otel_agents.state.liveness import alive, here

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes cannot be asked there")


@pytest.fixture
def child() -> subprocess.Popen[bytes]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process  # type: ignore[misc]
        process.kill()


def test_a_process_lives_until_it_is_killed(child: subprocess.Popen[bytes]) -> None:
    """Also while its parent has not yet asked for its exit status."""
    now = time.time_ns()
    assert alive(here(), child.pid, now) is True
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    corpse = alive(here(), child.pid, now)
    child.wait()

    assert corpse is (sys.platform != "linux")
    assert alive(here(), child.pid, now) is False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process started")
def test_a_number_used_again_is_not_the_same_process() -> None:
    """This process was not there an hour before it started."""
    assert alive(here(), os.getpid(), time.time_ns()) is True
    assert alive(here(), os.getpid(), time.time_ns() - 10**9 * 3600 * 24 * 3650) is False


@pytest.mark.parametrize("pid", [0, -1, 1 << 40, 1 << 70])
def test_numbers_no_process_has_are_never_alive(pid: int) -> None:
    """Garbage is not asked after: 0 and below would mean whole groups of processes."""
    assert alive(here(), pid, time.time_ns()) is not True


def test_processes_elsewhere_are_not_known() -> None:
    """Another host's process numbers mean nothing here."""
    assert alive("another host", os.getpid(), time.time_ns()) is None
