"""Forked children of a test: none outlives its time, and one that fails says where and why."""

from __future__ import annotations

import faulthandler
import os
import signal
import tempfile
import time
import traceback
import warnings
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE: Final = 60.0  # seconds that a child has
_GRACE: Final = 1.0  # more, for it to say where it hangs
_LOOK: Final = 0.01


class Forked:
    """A child that calls `act`; one that hangs says where its threads are, and is killed."""

    def __init__(self, act: Callable[[], object], seconds: float = PATIENCE) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - the child writes to it
        self._ends = time.monotonic() + seconds
        with warnings.catch_warnings():  # a parent with threads is what most of the tests are about
            warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            self._do(act)

    def _do(self, act: Callable[[], object]) -> None:
        code = 1
        try:
            # Not `dump_traceback_later`, which waits for a thread that pytest's own has begun.
            faulthandler.register(signal.SIGUSR1, file=self._said, all_threads=True)
            act()
            code = 0
        except BaseException:  # noqa: BLE001 - it must not go on as another pytest
            traceback.print_exc(file=self._said)
            self._said.flush()
        finally:
            os._exit(code)

    def end(self) -> None:
        """Wait for its end; fail with what it said unless that was well."""
        found, status = os.waitpid(self.pid, os.WNOHANG)
        while not found:
            if time.monotonic() > self._ends:
                os.kill(self.pid, signal.SIGUSR1)  # it says where its threads are
                time.sleep(_GRACE)
                os.kill(self.pid, signal.SIGKILL)
                _, status = os.waitpid(self.pid, 0)
                break
            time.sleep(_LOOK)
            found, status = os.waitpid(self.pid, os.WNOHANG)
        self._said.seek(0)
        with self._said as file:
            said = file.read()
        assert status == 0, f"the child ended with {os.waitstatus_to_exitcode(status)}: {said}"
