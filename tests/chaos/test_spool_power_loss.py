"""The power fails under a program with a spool: what was on the disk is delivered, nothing else.

The spool promises less than the server: a `kill -9` costs nothing, a loss of power what was written
in the last seconds. It opens by itself whatever it finds, and says what it had to leave out.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

from otel_agents.spool.destination import of_exporter
from otel_agents.spool.spool import Spool

from .apps import Apps, ended, ledger_of
from .backend import Backend
from .clients import Ledger
from .oracle import Verdict, judge
from .power.disk import Disk
from .power.record import recorder, recording, records

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.xdist_group("chaos"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the spool needs the locks of POSIX"),
]

CUTS = int(os.environ.get("CHAOS_CUTS") or 120)
SECONDS = float(os.environ.get("CHAOS_SECONDS") or 12)
_MAY_BE_LOST = 3.0  # seconds: what is told is flushed every second while the backend is away


def delivered(folder: Path, backend: Backend, then: Ledger) -> tuple[Verdict, dict[str, int]]:
    """Send what a spool holds, as the next process does; return what is wrong, and its counts."""
    backend.bodies.clear()
    counts: dict[str, int] = {}

    def told(reason: str, count: int) -> None:
        counts[reason] = counts.get(reason, 0) + count

    spool = Spool(folder, 1 << 30, told)
    exporter = OTLPSpanExporter(f"{backend.endpoint}/v1/traces")
    destination = of_exporter("traces", exporter)
    assert destination is not None
    lane = spool.lane("traces", destination)
    assert lane is not None
    assert lane.drain(0.0)
    spool.close()
    exporter.shutdown()
    assert not list(folder.glob("*.seg"))
    return judge(then, backend.held()), counts


def test_a_power_loss_costs_the_last_seconds_and_no_more(tmp_path: Path, seed: int) -> None:
    """With the backend away: the spool opens, and delivers what it has, exact, or counts it."""
    backend, root, file = Backend(), tmp_path / "disk", tmp_path / "record"
    root.mkdir()
    with closing(Apps(tmp_path, backend.endpoint, backend.held)) as apps:
        more = recording(recorder(tmp_path), root, file)
        program = apps.start("ticking", SECONDS, OTEL_AGENTS_SPOOL=str(root / "spool"), **more)
        assert ended(program) == 0
        ledger = ledger_of(apps.told)
    calls = list(records(file))
    chance = random.Random(seed)  # noqa: S311 - to be repeatable
    places = set(chance.sample(range(len(calls)), min(CUTS, len(calls))))
    disk, then, oldest, spoiled = Disk(root, journal=True), Ledger(issued=ledger.issued), 0.0, 0
    backend.up()
    for place, call in enumerate(calls):
        disk.play(call)
        if place not in places:
            continue
        now = calls[place + 1].time if place + 1 < len(calls) else sys.maxsize
        then.acked = {key for at, keys in ledger.moments if at < now for key in keys}
        disk.leave(chance, tmp_path / "left")
        verdict, counts = delivered(tmp_path / "left" / "spool", backend, then)
        ages = [(call.time - at) / 1e9 for at, keys in ledger.moments if verdict.lost & set(keys)]
        oldest = max([oldest, *ages])
        spoiled += bool(counts)
        assert verdict._replace(lost=set()).clean, f"{verdict} (seed {seed})"
        assert not counts or counts.keys() == {"corrupt"}, counts
        shutil.rmtree(tmp_path / "left")
    backend.down()
    print(  # noqa: T201 - the figures of the report
        f"{CUTS} cuts in {len(calls)} calls; the oldest span that was lost had ended {oldest:.2f} "
        f"s before; {spoiled} times something was corrupt, and counted"
    )

    assert len(ledger.acked) > SECONDS * 20
    assert oldest < _MAY_BE_LOST, f"seed {seed}"
