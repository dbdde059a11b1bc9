"""Do as many runs as each line of the input says, with ids of their own, and export them.

After each line it says how many there were in all.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
from uuid import uuid4

from opentelemetry import metrics

from otel_agents import agent, get_emitter, model, run
from otel_agents.usage import Usage


class OutOfPaper(Exception):
    """What one run of three fails with."""


ENDS = (None, OutOfPaper, asyncio.CancelledError)


def one(number: int) -> None:
    """Do one run, which ends well, by an error or cancelled; each id in it is a new one."""
    error = ENDS[number % len(ENDS)]
    ids = {name: uuid4().hex for name in ("work_order_id", "correlation_id", "plan_id")}
    with (
        contextlib.suppress(OutOfPaper, asyncio.CancelledError),
        run("shop", id=uuid4().hex, **ids),
        agent("setter", id=uuid4().hex),
    ):
        with model("offline", provider="loopback") as call:
            call.answered(Usage(input_tokens=10, output_tokens=2, requests=1), id=uuid4().hex)
        if error is not None:
            raise error


def main() -> None:
    """Go on until the input ends."""
    numbers = itertools.count()
    for line in sys.stdin:
        for number in itertools.islice(numbers, int(line)):
            one(number)
        get_emitter().flush()
        metrics.get_meter_provider().force_flush()
        sys.stdout.write(f"{number + 1}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
