"""Open a breaker, and close it by a call that goes well when a line comes in."""

from __future__ import annotations

import contextlib
import sys

from otel_agents import Breaker, BreakerOpen, run

FAILURES = 2


def main() -> None:
    """Fail, wait, succeed."""
    breaker = Breaker(sys.argv[1], failures=FAILURES, reset_after=0)
    with run("one-breaker"):
        for _ in range(FAILURES):
            with contextlib.suppress(ConnectionError, BreakerOpen), breaker:
                raise ConnectionError
        sys.stdin.readline()
        with breaker:
            pass
        sys.stdin.readline()


if __name__ == "__main__":
    main()
