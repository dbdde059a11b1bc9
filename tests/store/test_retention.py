"""What is kept: by age, by size, and with room left on the disk."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, NamedTuple

import pytest

from otel_agents.store import Batch, Busy, LogRecord, Point
from otel_agents.store.retention import Retention, maintain, size
from otel_agents.vocabulary import LAYERS, OPERATIONS, RUNTIME_LAYER, RUNTIME_OPERATION, TASK_STATE
from tests.databases import sqlite_file
from tests.state.build import Story, shop

from .build import block, fact, ids_of, number, seconds_ago, trace_number, write

if TYPE_CHECKING:
    from pathlib import Path

    from otel_agents.store import Store
    from tests.databases import Opener

_DAY = 86_400.0


class _Usage(NamedTuple):
    free: int


def keep(store: Store, retention: Retention) -> dict[str, int]:
    store.retain = retention
    return store.maintain()


def test_what_is_older_than_is_kept_goes(store: Store) -> None:
    """Runs, signals, logs, events, workers, tasks, breakers and series; what is young stays."""
    event = {RUNTIME_LAYER.key: LAYERS[0], RUNTIME_OPERATION.key: OPERATIONS[0]}
    for name, days, silent in (("old", 40, 2 * _DAY), ("new", 1, 0)):
        when = seconds_ago(days * _DAY)
        write(
            store,
            *shop(name, begin=when).signals,
            fact("worker", days, when, "w", worker_id=name),
            fact("task", days, when, "t", task_id=name, attributes={TASK_STATE.key: "DONE"}),
            fact("breaker", days, when, name, attributes={"otelagents.breaker.state": "open"}),
            fact("runtime", days, when, task_id=name, attributes=event),
        )
        store.write(Batch(
            logs=[LogRecord(time=when, body=name)],
            points=[Point(name=name, kind="gauge", time=seconds_ago(silent))],
        ))  # fmt: skip
    gone = keep(store, Retention(retain_days=30))
    assert gone == {"runs": 1, "signals": 18, "blocks": 0, "logs": 1}
    assert ids_of(store.runs()["items"], "run_id") == ["new"]
    assert ids_of(store.logs()["items"], "body") == ["new"]
    assert ids_of(store.runtime_status()["workers"], "worker_id") == ["new"]
    assert ids_of(store.runtime_status()["breakers"], "name") == ["new"]
    assert ids_of(store.tasks()["items"], "task_id") == ["new"]
    assert ids_of(store.runtime_events()["items"], "task_id") == ["new"]
    assert ids_of(store.metrics()["items"], "name") == ["new"]
    assert all(event["run_id"] in {"new", None} for event in store.feed(0))
    assert set(keep(store, Retention(retain_days=30)).values()) == {0}


def test_blocks_go_by_the_time_they_came(store: Store) -> None:
    """With what they say of traces; a trace that has another block stays."""
    one, two = trace_number(1), trace_number(2)
    store.write(Batch(blocks=[
        block({"trace": one, "span": number(1)}, {"trace": two, "span": number(1)}),
        block({"trace": two, "span": number(2)}),
    ]))  # fmt: skip
    assert store.settle()
    connection = store._database.here
    connection.run("UPDATE blocks SET received_ns = 1 WHERE id = (SELECT MIN(id) FROM blocks)")
    assert keep(store, Retention())["blocks"] == 1
    assert ids_of(store.traces()["items"], "trace_id") == [two.hex()]
    assert ids_of(store.trace(two.hex())["spans"], "span_id") == [number(2).hex()]


def test_a_block_that_is_deleted_before_it_is_indexed_leaves_no_trace(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index speaks of blocks that are there."""
    monkeypatch.setattr(store._writer, "_index", lambda **_: None)
    store.write(Batch(blocks=[block({"trace": trace_number(1), "span": number(1)})]))
    store._database.here.run("UPDATE blocks SET received_ns = 1")
    assert keep(store, Retention())["blocks"] == 1
    monkeypatch.undo()
    assert store.settle()
    assert store._database.here.rows("SELECT * FROM traces") == []


def test_a_store_that_is_too_large_loses_its_oldest(store: Store) -> None:
    """Runs that are over go, the oldest first; those under way stay."""
    write(store, *Story("live", begin=seconds_ago(2)).start("run", name="shop").signals)
    for count in range(60):
        story = shop(f"run-{count:02d}", begin=seconds_ago(9_000 - count * 100))
        for signal in story.signals:
            signal.attributes = {"text": os.urandom(2_000).hex()}
        write(store, *story.signals)
    connection = store._database.here
    before = size(connection)
    gone = keep(store, Retention(max_bytes=before // 2))
    assert size(connection) < before // 2
    left = ids_of(store.runs(limit=500)["items"], "run_id")
    assert left[0] == "live"
    assert 0 < gone["runs"] == 61 - len(left)
    assert left[1:] == [f"run-{count:02d}" for count in range(59, gone["runs"] - 1, -1)]


def test_even_a_store_without_room_keeps_the_runs_under_way(store: Store) -> None:
    """And it ends, where there is nothing left to delete."""
    write(store, *Story("live", begin=seconds_ago(2)).start("run", name="shop").signals)
    write(store, *shop("over", begin=seconds_ago(900)).signals)
    store.write(Batch(logs=[LogRecord(time=seconds_ago(1), body="x")]))
    gone = keep(store, Retention(max_bytes=1))
    assert (gone["runs"], gone["logs"]) == (1, 1)
    assert ids_of(store.runs()["items"], "run_id") == ["live"]


def test_the_disk_is_given_back(tmp_path: Path, stores: Opener) -> None:
    """A file of SQLite shrinks once half of what it held is gone."""
    path = tmp_path / "store.db"
    store = stores(sqlite_file(path))
    for count in range(40):
        bodies = [LogRecord(time=count, body=os.urandom(50_000).hex()) for _ in range(4)]
        store.write(Batch(logs=bodies))
    store._database.here.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.stat().st_size
    assert before > 8_000_000
    maintain(store._database, Retention(retain_days=1))
    store._database.here.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    assert path.stat().st_size < before / 4


def test_a_full_disk_turns_writers_away_and_reads_go_on(
    tmp_path: Path, stores: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything fails; deleting works; writers are let in again by themselves."""
    store = stores(sqlite_file(tmp_path / "store.db"))
    write(store, *shop("run-1").signals)
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(1_000_000))
    store._writer._looked = 0.0
    with pytest.raises(Busy, match="0 MiB left: make room") as refused:
        store.write(Batch(logs=[LogRecord(time=1)]))
    assert refused.value.retry_after > 0
    health = store.health()
    assert (health["writable"], health["free_bytes"]) == (False, 1_000_000)
    assert "make room" in health["problem"]
    assert store.dropped.total() == 1
    assert store.run("run-1")["status"] == "succeeded"
    assert store.delete_run("run-1")["signals"] == len(shop().signals)
    monkeypatch.setattr(shutil, "disk_usage", real)
    store._writer._looked = 0.0
    store.write(Batch(logs=[LogRecord(time=1)]))
    assert store.health()["writable"]
