"""The one place where failures of ours end, so that none reaches the host program.

Each failure is counted; one line is logged a minute at most, since a failure in a hot path would
otherwise fill the host's log. Tests of ours set `strict`, and there a failure is raised.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Final

from otel_agents.values import cut, redact

logger = logging.getLogger("otel_agents")
_QUIET_SECONDS: Final = 60.0


class _Boundary:
    """What was caught: counts by place, and when a place was last logged."""

    def __init__(self) -> None:
        self.strict = False
        self.counts: dict[str, int] = {}
        self._logged: dict[str, float] = {}
        self.renew()

    def renew(self) -> None:
        """Begin with a lock that nobody holds: in a forked child its holder is not there."""
        self._lock = threading.RLock()  # a signal handler of the host's may come in between

    def caught(self, place: str, error: BaseException) -> None:
        """Count a failure at a place of ours; raise it instead where `strict` is set."""
        if self.strict:
            raise error
        try:
            with self._lock:
                self.counts[place] = self.counts.get(place, 0) + 1
                now = time.monotonic()
                quiet = now - self._logged.get(place, -_QUIET_SECONDS) < _QUIET_SECONDS
                if not quiet:
                    self._logged[place] = now
            if not quiet:
                self.warn("otel-agents failed in %s; the program goes on: %s", place, _said(error))
        except Exception:  # noqa: BLE001 - out of memory, or of stack: there is nothing left to do
            return

    @staticmethod
    def warn(message: str, *arguments: object) -> None:
        """Log a warning without secrets, whatever the host did to its handlers.

        An error can quote what the host was given.
        """
        try:
            logger.warning("%s", cut(str(redact("", message % arguments))))
        except Exception:  # noqa: BLE001 - a hostile handler or repr must not reach the host
            return


def _said(error: BaseException) -> str:
    """Return an error as its `repr` does, but by no code of the host's, whose class it can be."""
    kind = type(error)
    arguments = BaseException.__getattribute__(error, "args")
    said = ", ".join(repr(one) for one in arguments if type(one) in {str, int})
    return f"{kind.__name__}({said})"


boundary: Final = _Boundary()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=boundary.renew)
caught: Final = boundary.caught
