"""The power fails: what the server had acknowledged by then is there when it is back, and exact.

A process that is killed says nothing of that, since the system keeps what it wrote. So every write
and every flush of a real server under load is recorded, and replayed up to many moments onto a disk
that loses what was not flushed. `CHAOS_CUTS` says up to how many.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from otel_agents.errors import UnavailableError
from otel_agents.store import Store
from otel_agents.store.blocks import opened

from .clients import NUMBER, TEXT, Ledger, Load, some
from .oracle import Held, judge
from .power.disk import Disk
from .power.record import Record, recorder, recording, records

if TYPE_CHECKING:
    from collections.abc import Callable

    from .oracle import Verdict
    from .served import Served

pytestmark = pytest.mark.xdist_group("chaos")

CUTS = int(os.environ.get("CHAOS_CUTS") or 120)
CONTROL_CUTS = 40
REQUESTS = 300
_OFTEN = str(Path(__file__).with_name("often.py"))
_OLD_INDEX = 0.3
Read = list[tuple[str, str, tuple[Any, ...]]]
Known = dict[Any, Read]


class Recorded(NamedTuple):
    """A record, what was sent meanwhile, and the place of the files."""

    root: Path
    calls: list[Record]
    ledger: Ledger


class Stored(Held):
    """All that a store holds of what clients sent, read from its tables.

    Args:
        store: The store.
        known: What rows come to; the next store has most of them too.

    """

    def __init__(self, store: Store, known: Known) -> None:
        super().__init__()
        here = store._database.here
        for sql, read in (
            ("SELECT body FROM blocks", _spans),
            ("SELECT type, body FROM signals", _signal),
            ("SELECT body, attributes FROM logs", _line),
        ):
            for row in here.rows(sql):
                key = tuple(row.values())
                if key not in known:
                    known[key] = read(**row)
                for item in known[key]:
                    self.put(*item)


def _spans(body: bytes) -> Read:
    found = []
    for span in opened(body).resource_spans[0].scope_spans[0].spans:
        said = {one.key: one.value.string_value for one in span.attributes}
        told = span.trace_id.hex(), span.span_id.hex(), span.name, said[TEXT]
        found.append(("span", said[NUMBER], told))
    return found


def _signal(type: str, body: str) -> Read:  # noqa: A002 - a column
    told = json.loads(body)
    said, usage = told["attributes"], told.get("usage") or {}
    values = (
        told["ids"]["run_id"], type, told["scope_id"], told.get("name", ""), said[TEXT],
        usage.get("input_tokens"),
    )  # fmt: skip
    return [("signal", said[NUMBER], values)]


def _line(body: str, attributes: str) -> Read:
    return [("log", json.loads(attributes)[NUMBER], (body,))]


@pytest.fixture
def recorded(
    serving: Callable[..., Served], tmp_path: Path, seed: int
) -> Callable[[str], Recorded]:
    """Record a server under load; `full` or `normal` is how its store commits."""

    def record(synchronous: str) -> Recorded:
        root, file = tmp_path / "disk", tmp_path / "record"
        root.mkdir()
        served = serving(
            f"sqlite:///{root}/made/store.db", whole=True, program=(_OFTEN, synchronous, "serve"),
            environment=recording(recorder(tmp_path), root, file),
        )  # fmt: skip
        served.start()
        with Load(served, seed) as load:
            some(load, REQUESTS)
            ledger = load.finish()
        served.kill()
        return Recorded(root, list(records(file)), ledger)

    return record


class Outcome(NamedTuple):
    """What was found after the power failed at many moments: each with the call it was after."""

    cuts: int
    wrong: list[tuple[int, Verdict | str]]

    def __str__(self) -> str:
        such = "; ".join(f"after call {place}: {what}" for place, what in self.wrong[:3])
        return f"{len(self.wrong)} of {self.cuts} cuts wrong, such as {such}"


def fail(
    found: Recorded, seed: int, folder: Path, *, cuts: int = CUTS, flushes: bool = True
) -> Outcome:
    """Let the power fail at many moments, and look each time at what is there."""
    chance = random.Random(seed)  # noqa: S311 - to be repeatable
    calls, ledger = found.calls, found.ledger
    places = set(chance.sample(range(len(calls)), min(cuts, len(calls))))
    disk, known = Disk(found.root, flushes=flushes), Known()
    moments = sorted(ledger.moments)
    wrong: list[tuple[int, Verdict | str]] = []
    then = Ledger(issued=ledger.issued)
    for place, call in enumerate(calls):
        disk.play(call)
        if place not in places:
            continue
        # What is acknowledged before the next call is done with what was done up to this one.
        until = calls[place + 1].time if place + 1 < len(calls) else sys.maxsize
        while moments and moments[0][0] < until:
            then.acked.update(moments.pop(0)[1])
        disk.leave(chance, folder)
        if problem := look(folder / "made" / "store.db", then, known, chance):
            wrong.append((place, problem))
        shutil.rmtree(folder)
    assert then.acked, f"nothing was acknowledged before any cut (seed {seed})"
    return Outcome(cuts, wrong)


def look(path: Path, then: Ledger, known: Known, chance: random.Random) -> Verdict | str | None:
    """Open a store as the next process does; return what is wrong with it, or None."""
    if chance.random() < _OLD_INDEX and path.with_name("store.db-wal").exists():
        # Nobody flushes it, and nobody may believe it.
        path.with_name("store.db-shm").write_bytes(chance.randbytes(32_768))
    try:
        store = Store(f"sqlite:///{path}")
    except UnavailableError as error:
        return str(error)
    try:
        sound = store._database.here.rows("PRAGMA integrity_check")
        if sound != [{"integrity_check": "ok"}]:
            return str(sound[:3])
        verdict = judge(then, Stored(store, known))
    except UnavailableError as error:
        return str(error)
    finally:
        store.close()
    return None if verdict.clean else verdict


def test_a_power_loss_costs_nothing_that_was_acknowledged(
    recorded: Callable[[str], Recorded], tmp_path: Path, seed: int
) -> None:
    """Whenever it comes, the store opens, is sound, and has all that was acknowledged, exact."""
    found = recorded("full")
    outcome = fail(found, seed, tmp_path / "left")
    print(f"{CUTS} cuts in {len(found.calls)} calls, {len(outcome.wrong)} wrong")  # noqa: T201

    assert not outcome.wrong, f"{outcome} (seed {seed})"


@pytest.mark.parametrize(("synchronous", "flushes"), [("normal", True), ("full", False)])
def test_the_replay_finds_what_is_not_flushed(
    recorded: Callable[[str], Recorded], tmp_path: Path, seed: int, synchronous: str, flushes: bool
) -> None:
    """A store that commits without a flush, and a disk that only says it has flushed, lose some."""
    found = recorded(synchronous)
    outcome = fail(found, seed, tmp_path / "left", cuts=CONTROL_CUTS, flushes=flushes)

    print(f"{len(outcome.wrong)} of {CONTROL_CUTS} cuts wrong")  # noqa: T201

    assert len(outcome.wrong) > CONTROL_CUTS // 10, f"{outcome} (seed {seed})"
