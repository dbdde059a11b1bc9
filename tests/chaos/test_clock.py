"""A store whose machine's clock is set, and one that another process left half done."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

import otel_agents as oa
from otel_agents.signals import Ids, Signal
from otel_agents.store import Batch, writer
from otel_agents.store.ingest import Ingest
from tests.databases import sqlite_file
from tests.store.build import block, every, number, trace_number

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from otel_agents.signals import Edge
    from otel_agents.store import Store
    from otel_agents.testing import Captured

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


@pytest.mark.parametrize("reported", ["in order", "the end first"])
@pytest.mark.parametrize("by", [_DAY // 24, _DAY])
def test_a_clock_set_back_within_a_task_and_a_worker(
    stores: Callable[..., Store], tmp_path: Path, reported: str, by: int
) -> None:
    """Both have ended, though their ends are dated before their starts; the next start counts."""
    store = stores(sqlite_file(tmp_path / "store.db"))
    now = time.time_ns()
    ids = Ids(task_id="t", worker_id="w")

    def told(kind: str, edge: Edge, when: int, scope: str, result: str = "") -> Signal:
        return Signal(
            id=f"{kind}-{edge}-{scope}", kind=kind, edge=edge, time=when, ids=ids, name="n",
            scope_id=f"{kind}-{scope}", result=result,
        )  # fmt: skip

    one = [
        signal
        for kind in ("task", "worker")
        for signal in (
            told(kind, "start", now, "1"), told(kind, "end", now - by, "1", "success"),
        )
    ]  # fmt: skip
    for signal in one if reported == "in order" else reversed(one):
        store.write(Batch(signals=[signal]))
    assert store.settle()
    found = store._database.here
    task, worker = "SELECT status FROM tasks", "SELECT status FROM ai_worker_status"
    assert (found.row(task), found.row(worker)) == ({"status": "DONE"}, {"status": "STOPPED"})

    later = max(now, now - by) + 1
    store.write(
        Batch(signals=[told("task", "start", later, "2"), told("worker", "start", later, "2")])
    )
    assert store.settle()
    assert (found.row(task), found.row(worker)) == ({"status": "RUNNING"}, {"status": "RUNNING"})


@pytest.mark.parametrize("by", [-_DAY, 365 * _DAY])
def test_durations_are_not_the_clock_s(
    captured: Captured, shift: Callable[[int], None], by: int
) -> None:
    """A clock that is set within a scope, a day back or a year on: it took what it took."""
    begun = time.monotonic()
    with oa.run("shop"), oa.phase("plan"), oa.agent("planner"):
        shift(by)
    longest = time.monotonic() - begun
    took = [one.duration for one in captured.signals if one.edge == "end"]

    assert len(took) == 3
    assert all(each is not None and 0 <= each <= longest for each in took)


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


def test_what_was_sent_late_does_not_make_a_run_lost(
    stores: Callable[..., Store], tmp_path: Path
) -> None:
    """An outage is over and hours come at once: it was heard of now, before its row is made."""
    store = stores(sqlite_file(tmp_path / "store.db"))
    now = time.time_ns()
    told = [
        Signal(
            id=f"s{number}", kind="run", edge=edge, time=when, scope_id="r",
            ids=Ids(run_id="late", workflow="w"),
        )
        for number, (edge, when) in enumerate((("start", now - _DAY), ("progress", now)))
    ]  # fmt: skip
    connection = store._database.here
    with connection.writing():
        Ingest(lambda *_: None).write(connection, [Batch(signals=told)])

    assert store.runs()["items"][0]["status"] == "running"
