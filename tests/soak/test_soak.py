"""The soak of `make soak`, for 20 seconds, and that it finds what it looks for.

`SOAK_SECONDS` says for how long; what an hour and more showed is in docs/reliability.md.
"""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_agents.store import Batch
from otel_agents.store.blocks import block_of

ROOT: Final = Path(__file__).parents[2]
BENCHMARKS: Final = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
try:
    from ingest_process import wait_for
    from soak import Soak
    from soak_faults import KINDS, planned
    from soak_judge import judge
    from soak_ledger import LEASE, NUMBER, RECORD, TEXT, Ledger, checksum
    from soak_samples import Samples, ends, growth
finally:
    sys.path.remove(str(BENCHMARKS))

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_agents.store import Store

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="what processes use is read in /proc"
)

SECONDS: Final = float(os.environ.get("SOAK_SECONDS") or 20)
PROGRAM: Final = "asyncio-1"
LEASED: Final = 1000
BORN: Final = 1_800_000_000_000_000_000


@pytest.mark.xdist_group("stack")
def test_a_soak_breaks_no_promise(tmp_path: Path) -> None:
    """Each fault once; all that ended is in the store, and the spool is empty."""
    figures = tmp_path / "figures.json"
    done = subprocess.run(  # noqa: S603 - this repository's own file
        [sys.executable, BENCHMARKS / "soak.py",
         "--minutes", str(SECONDS / 60), "--json", figures],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())
    assert found["wrong"] == []
    assert {fault["kind"] for fault in found["faults"]} == set(KINDS)
    assert found["ended"] >= SECONDS * 1000 / 4
    assert found["lost"] == 0
    assert found["waiting"] == {"traces": 0, "metrics": 0, "logs": 0}
    assert found["traces_asked"] > 0
    assert found["runs_asked"] > 0
    processes = {row["label"]: row["lives"] for row in found["rows"]}
    assert processes["asyncio agents"] == 1
    assert processes["threads agents"] >= 2
    assert processes["server"] >= 2


@pytest.mark.xdist_group("stack")
def test_without_a_spool_a_soak_finds_what_a_kill_costs(tmp_path: Path) -> None:
    """The same programs with the SDK's own queue, which a kill takes with it."""
    soak = Soak(tmp_path, seconds=6, rate=1000, seed=0)
    del soak.env["OTEL_AGENTS_SPOOL"]
    # So that the queue has been sent to nobody when the kill comes.
    soak.env |= {"OTEL_BSP_SCHEDULE_DELAY": "60000", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "2048"}
    try:
        soak.run()
        ended = [one.end() for one in soak.agents]
        wait_for(soak.server.ready, 60, "an index that has caught up")
        soak.ledger.read()
        # No run is looked for: the kill took their signals as well.
        found = judge(soak.ledger, soak.server, fresh="", kept=0, spans=1_000_000)
    finally:
        soak.close()

    assert ended == [0, 0]
    assert {kind for kind, _ in found.lost} == {"span"}
    assert not found.doubled | found.unknown | found.altered | found.stuck
    assert 900_000 < found.missing < 1_000_000


class Programs:
    """A program's files, and a store, written by hand."""

    def __init__(self, folder: Path, store: Store, ledger: Ledger) -> None:
        self.folder, self.store, self.ledger = folder, store, ledger
        (folder / f"{PROGRAM}.lease").write_bytes(LEASE.pack(LEASED))
        ledger.add(PROGRAM)

    def tell(self, *numbers: int) -> None:
        """Tell that spans have ended."""
        with (self.folder / f"{PROGRAM}.told-000000").open("ab") as file:
            for number in numbers:
                summed = checksum("step", "text", BORN, BORN + number)
                file.write(RECORD.pack(number, *_ids(number), summed))

    def keep(self, *numbers: int, text: str = "text", program: str = PROGRAM) -> None:
        """Store spans, as one request."""
        message = ExportTraceServiceRequest()
        inside = message.resource_spans.add().scope_spans.add()
        for number in numbers:
            trace, known = _ids(number)
            span = inside.spans.add(
                trace_id=trace, span_id=known, name="step",
                start_time_unix_nano=BORN, end_time_unix_nano=BORN + number,
            )  # fmt: skip
            for key, value in ((NUMBER, f"{program}.{number}"), (TEXT, text)):
                span.attributes.add(key=key).value.string_value = value
        block, _ = block_of(message, message.SerializeToString())
        self.store.write(Batch(blocks=[block]))

    def found(self) -> dict[str, Any]:
        """Return what the ledger finds."""
        self.ledger.read()
        return {
            "lost": self.ledger.lost(),
            "again": self.ledger.again,
            "altered": self.ledger.altered,
            "unknown": self.ledger.invented(),
            "untold": self.ledger.untold(),
        }


FINE: Final[dict[str, Any]] = {
    "lost": set(), "again": 0, "altered": set(), "unknown": set(), "untold": 0,
}  # fmt: skip


def _ids(number: int) -> tuple[bytes, bytes]:
    return struct.pack(">QQ", 7, number), struct.pack(">Q", number)


@pytest.fixture
def programs(tmp_path: Path, stores: Callable[..., Store]) -> Programs:
    """Make a store that is empty, and a ledger that follows one program."""
    told = tmp_path / "told"
    told.mkdir()
    store = stores(f"sqlite:///{tmp_path}/store.db")
    return Programs(told, store, Ledger(told, tmp_path / "store.db"))


def test_what_was_told_and_stored_is_fine_in_any_order(programs: Programs) -> None:
    """Told before it is stored, and stored before it is told; nothing is kept of it."""
    programs.tell(1, 2)
    programs.ledger.read()
    programs.keep(1, 2, 3)
    assert programs.found() == FINE | {"untold": 1}
    programs.tell(3)

    assert programs.found() == FINE
    assert programs.ledger.ended == 3


def test_what_was_told_and_is_not_stored_is_lost(programs: Programs) -> None:
    """One of three."""
    programs.tell(1, 2, 3)
    programs.keep(1, 3)

    assert programs.found() == FINE | {"lost": {f"{PROGRAM}.2"}}


def test_what_is_stored_otherwise_is_altered(programs: Programs) -> None:
    """Told before it is stored, and after."""
    programs.tell(1)
    programs.ledger.read()
    programs.keep(1, 2, text="other")
    programs.ledger.read()
    programs.tell(2)

    assert programs.found() == FINE | {"altered": {f"{PROGRAM}.1", f"{PROGRAM}.2"}}


def test_what_no_program_can_have_made_is_unknown(programs: Programs) -> None:
    """A number that was not leased, and another program; one that was not told yet is neither."""
    programs.keep(LEASED, LEASED + 1)
    programs.keep(5, program="nobody")
    found = programs.found()

    assert len(found.pop("unknown")) == 2
    assert found == {key: FINE[key] for key in found} | {"untold": 2}


def test_what_is_stored_twice_is_counted(programs: Programs) -> None:
    """In two requests, as after an answer that did not come."""
    programs.tell(1, 2)
    programs.keep(1, 2)
    programs.keep(2)

    assert programs.found() == FINE | {"again": 1}


def test_a_file_that_was_read_goes_when_there_is_another(programs: Programs) -> None:
    """So that hours of it fit on a disk."""
    programs.tell(1)
    programs.keep(1)
    (programs.folder / f"{PROGRAM}.told-000001").write_bytes(b"")

    assert programs.found() == FINE
    assert [one.name for one in programs.folder.glob("*told*")] == [f"{PROGRAM}.told-000001"]


@given(
    percent=st.floats(-20, 20),
    bases=st.lists(st.floats(50, 500), min_size=1, max_size=5),
    seed=st.integers(0, 1 << 32),
)
def test_growth_is_found_through_noise_and_restarts(
    percent: float, bases: list[float], seed: int
) -> None:
    """Lives of twenty minutes, each from another size; a peak now and then changes little."""
    chance = random.Random(seed)  # noqa: S311 - to be repeatable
    lives = [
        [
            (at, base * (1 + percent / 100 * at / 3600) * (1.5 if chance.random() < 0.02 else 1))
            for at in range(number * 1200, number * 1200 + 1200, 5)
        ]
        for number, base in enumerate(bases)
    ]
    found = growth([[(at, value + chance.uniform(-0.1, 0.1)) for at, value in x] for x in lives])

    assert found is not None
    assert found.low <= found.percent <= found.high
    assert abs(found.percent - percent) < 5


def test_a_short_life_says_nothing_of_growth() -> None:
    """Three points are no line."""
    assert growth([[(0, 50.0), (5, 51.0), (10, 52.0)]]) is None
    assert ends([1, 2]) == (None, None)


def test_descriptors_that_stay_are_seen(tmp_path: Path) -> None:
    """In this process, twenty of them."""
    samples = Samples()
    opened = []
    for turn in range(6):
        samples.take("this", os.getpid())
        if turn >= 2:
            opened += [(tmp_path / "file").open("ab") for _ in range(5)]
    risen = samples.risen("this", 0)
    for one in opened:
        one.close()

    assert risen["descriptors"] == pytest.approx(12.5)
    assert samples.row("this", 0)["lives"] == 1


@given(seconds=st.floats(20, 30_000), seed=st.integers(0, 1 << 32))
def test_faults_follow_from_the_seed(seconds: float, seed: int) -> None:
    """Of every kind, in the order of their moments, and each over before the next begins."""
    plan = planned(seconds, seed)

    assert planned(seconds, seed) == plan
    assert {one.kind for one in plan} == set(KINDS)
    for one, following in pairwise(plan):
        assert one.at + one.lasts < following.at
    assert plan[0].at > 0
    assert plan[-1].at + plan[-1].lasts < seconds
