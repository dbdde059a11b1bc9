"""A terminal that a command runs in, and that a test reads and types into."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Final, Self

from .conftest import COMMAND

if TYPE_CHECKING:
    from .conftest import Shell

_DEADLINE_SECONDS: Final = 90.0
# Opening the terminal makes it the session's own, so that Ctrl-C typed there becomes a signal.
_LAUNCH: Final = """
import os, sys
os.close(os.open(os.ttyname(0), os.O_RDWR))
os.execv(sys.argv[1], sys.argv[1:])
"""
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
OTHER_SCREEN: Final = "\x1b[?1049h"
USUAL_SCREEN: Final = "\x1b[?1049l"
SHOW_CURSOR: Final = "\x1b[?25h"


class Terminal:
    """A pseudo-terminal with a command in it; `output` is all that it has written so far."""

    def __init__(self, shell: Shell, *arguments: str, columns: int = 100, lines: int = 40) -> None:
        self._master, slave = pty.openpty()
        self.resize(columns, lines)
        self.output = ""
        self.process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-c", _LAUNCH, *COMMAND, *arguments],
            cwd=shell.path,
            env=shell.environment | {"TERM": "xterm-256color"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)

    def resize(self, columns: int, lines: int) -> None:
        """Give the terminal another size."""
        termios.tcsetwinsize(self._master, (lines, columns))

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self._master, text.encode())

    def text(self, since: int = 0) -> str:
        """Return what was written from a place in `output` on, without escape sequences."""
        return _ESCAPES.sub("", self.output[since:])

    def wait_for(self, wanted: str, since: int = 0) -> None:
        """Read until something has been written from a place in `output` on."""
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while wanted not in self.text(since):
            assert time.monotonic() < deadline, f"{wanted!r} never came in {self.text(since)!r}"
            assert self._read(), f"ended without {wanted!r}: {self.text(since)!r}"

    def wait(self) -> int:
        """Read until the command ends; return its exit code."""
        while self._read():
            pass
        return self.process.wait(_DEADLINE_SECONDS)

    def _read(self) -> bool:
        if not select.select([self._master], [], [], _DEADLINE_SECONDS)[0]:
            return False
        try:
            found = os.read(self._master, 1 << 16)
        except OSError:  # how Linux says that the other end was closed
            return False
        self.output += found.decode(errors="replace")
        return bool(found)
