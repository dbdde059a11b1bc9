"""The backend is away while a program ends a thousand spans a second: none is lost.

`CHAOS_OUTAGE_SECONDS` says for how long; a quarter of an hour was run by hand, see
docs/reliability.md.
"""

from __future__ import annotations

import os
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from .apps import Apps
from .backend import Backend
from .clients import NUMBER, TEXT
from .served import until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.xdist_group("chaos"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the spool needs the locks of POSIX"),
]

OUTAGE = float(os.environ.get("CHAOS_OUTAGE_SECONDS") or 15)
_AROUND = 3.0  # seconds with the backend there, before and after
RATE = 1_000
_LEAST = 50  # bytes of a span in the spool


class Counting(Backend):
    """A backend that keeps how often each number came, and what came otherwise than it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.times = bytearray()
        self.altered = self.fresh = self.requests = 0

    def take(self, body: bytes) -> None:
        """Count the spans of a request."""
        self.requests += 1
        message = ExportTraceServiceRequest.FromString(body)
        for span in message.resource_spans[0].scope_spans[0].spans:
            if span.name != "paced":  # the next process's
                self.fresh += 1
                continue
            said = {one.key: one.value for one in span.attributes}
            number = said[NUMBER].int_value
            if number >= len(self.times):
                self.times.extend(bytes(number + 1 - len(self.times)))
            self.times[number] = min(255, self.times[number] + 1)
            text = f"{number * 2_654_435_761 % 2**32:08x}"
            self.altered += said[TEXT].string_value != text


def test_an_outage_loses_nothing(tmp_path: Path) -> None:
    """Refused connections for a while; then all that was issued is there, exact."""
    backend = Counting()
    backend.up()
    with closing(Apps(tmp_path, backend.endpoint, backend.held)) as apps:
        program = apps.start("paced", RATE, OUTAGE + 2 * _AROUND)
        until(lambda: backend.times, "the first spans")
        time.sleep(_AROUND)
        backend.down()
        before = backend.requests
        time.sleep(OUTAGE)  # the fault itself, not a wait for something
        assert backend.requests == before, "the backend was not away"
        kept = sum(one.stat().st_size for one in apps.spool.glob("*.seg"))
        backend.up()
        assert program.stdout is not None
        issued, *took = program.stdout.readline().split()
        following = apps.start("next", folder=apps.fresh)
        until(
            lambda: not apps.waiting() or sum(map(bool, backend.times)) >= int(issued), "all", 300
        )
        until(lambda: backend.fresh, "the next process's span")
        following.communicate()
        backend.down()
        losses = apps.losses()
    times = backend.times[: int(issued)]
    print(  # noqa: T201 - the figures of the report
        f"{issued} spans, away {OUTAGE:.0f} s, {kept / 1e6:.1f} MB kept; {times.count(0)} lost, "
        f"{sum(one > 1 for one in times)} delivered more than once; span.end took µs (p50 p99 max) "
        f"{took}"
    )

    assert len(times) == int(issued) >= RATE * OUTAGE * 0.8
    assert kept > RATE * OUTAGE * _LEAST
    assert times.count(0) == 0, losses
    assert (backend.altered, backend.fresh) == (0, 1)
    assert not losses
