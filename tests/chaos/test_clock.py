"""A store whose machine's clock is set, and one that another process left half done."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from otel_agents.signals import Ids, Signal
from otel_agents.store import Batch, writer
from otel_agents.store.ingest import Ingest
from tests.databases import sqlite_file
from tests.store.build import block, every, number, trace_number

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from otel_agents.store import Store

_DAY = 86_400 * 10**9
_real = time.time_ns


@pytest.fixture
def shift(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set the clock by so many nanoseconds."""

    def set_by(nanoseconds: int) -> None:
        monkeypatch.setattr(time, "time_ns", lambda: _real() + nanoseconds)
        monkeypatch.setattr(time, "time", lambda: (_real() + nanoseconds) / 1e9)

    return set_by


def batch(place: int) -> Batch:
    """Return a batch of a trace and a whole run of this moment."""
    told = [
        Signal(
            id=f"{place}-{edge}", kind="run", edge=edge, time=time.time_ns(), scope_id=f"r{place}",
            ids=Ids(run_id=f"run-{place}", workflow="w"), result=result, duration=duration,
        )
        for edge, result, duration in (("start", "", None), ("end", "success", 1.5))
    ]  # fmt: skip
    now = time.time_ns()
    spans = {"trace": trace_number(place), "span": number(place), "start": now, "end": now + 1}
    return Batch(blocks=[block(spans)], signals=told)


@pytest.mark.parametrize("first", [0, _DAY, 365 * _DAY])
def test_the_order_of_the_feed_is_not_the_clock_s(
    stores: Callable[..., Store], tmp_path: Path, shift: Callable[[int], None], first: int
) -> None:
    """Whether the clock is set back a day or forward: all is there, once, and numbers go up."""
    store = stores(sqlite_file(tmp_path / "store.db"))
    store.start()
    for place, by in enumerate((first, -_DAY, _DAY, 0)):
        shift(by)
        store.write(batch(place))
        assert store.settle()
        assert store.health()["behind_seconds"] == 0
        assert store.health()["writable"]

    assert [event["run_id"] for event in store.feed(0)] == [
        f"run-{place}" for place in (0, 0, 1, 1, 2, 2, 3, 3)
    ]
    runs = every(store.runs)
    assert sorted(row["run_id"] for row in runs) == [f"run-{place}" for place in range(4)]
    assert {row["status"] for row in runs} == {"succeeded"}
    assert len(every(store.traces)) == 4


def test_a_clock_set_back_within_a_run(
    stores: Callable[..., Store], tmp_path: Path, shift: Callable[[int], None]
) -> None:
    """Its end is an hour before its start: it has ended, and took what it took."""
    store = stores(sqlite_file(tmp_path / "store.db"))
    start, _ = batch(0).signals
    shift(-_DAY // 24)
    _, end = batch(0).signals
    store.write(Batch(signals=[start]))
    store.write(Batch(signals=[end]))
    assert store.settle()

    [row] = store.runs()["items"]
    assert (row["status"], store.run("run-0")["status"]) == ("succeeded", "succeeded")
    assert row["duration_seconds"] >= 0


@pytest.mark.parametrize("busy", [False, True])
def test_what_another_process_left_is_finished(
    stores: Callable[..., Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    """A process dies after its commit: whoever serves the store makes the rows, idle or not."""
    monkeypatch.setattr(writer, "_AROUND_SECONDS", 0.05)
    store = stores(sqlite_file(tmp_path / "store.db"))
    store.start()
    assert store.settle()
    connection = store._database.here
    with connection.writing():
        Ingest(lambda *_: None).write(connection, [batch(1)])
    deadline = time.monotonic() + 20
    while not store.traces()["items"] or store.runs()["items"][0]["status"] != "succeeded":
        assert time.monotonic() < deadline
        if busy:
            store.write(Batch(signals=[Signal(id="x", kind="run", edge="fact", time=1)]))
        time.sleep(0.01)
