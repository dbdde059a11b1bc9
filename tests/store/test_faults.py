"""A database that cannot be written, is held by another, goes away and comes back."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from otel_agents.errors import UnavailableError
from otel_agents.store import Batch, Busy, LogRecord, Point, Store, database, writer
from otel_agents.store.ingest import Ingest
from tests.databases import Cluster, sqlite_file, wait_for
from tests.state.build import shop

from .build import block, ids_of, number, trace_number, write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.databases import Opener

_NOBODY = 65534
# As a user who may read the file and nothing more: to root nothing is read-only.
_READING = """
import os, sys
import otel_agents.state.report
from otel_agents.errors import UnavailableError
from otel_agents.store import Batch, Busy, LogRecord, Store
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
try:
    store = Store(sys.argv[1])
except UnavailableError as error:
    print("refused", error)
    sys.exit()
try:
    store.write(Batch(logs=[LogRecord(time=1)]))
except Busy as error:
    print("busy", error)
print(store.health()["writable"], store.dropped.total(), len(store.runs()["items"]))
"""


@pytest.fixture
def file_store(tmp_path: Path, stores: Opener) -> Store:
    """A store in a file of SQLite that has one run."""
    store = stores(sqlite_file(tmp_path / "store.db"))
    write(store, *shop("run-1").signals)
    return store


def one_log(number: int = 1) -> Batch:
    return Batch(logs=[LogRecord(time=number, body=str(number))])


def test_a_foreign_lock_is_waited_for_and_then_turns_writers_away(
    tmp_path: Path, stores: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads go on, health says why, what was not stored is counted; then it goes on by itself."""
    monkeypatch.setattr(database, "_PATIENCE_SECONDS", 0.2)
    url = sqlite_file(tmp_path / "store.db")
    store = stores(url)
    write(store, *shop("run-1").signals)
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Busy, match="locked") as refused:
        store.write(one_log())
    assert refused.value.retry_after > 0
    assert store.run("run-1")["status"] == "succeeded"
    health = store.health()
    assert not health["writable"]
    assert "locked" in health["problem"]
    assert store.dropped == {"OperationalError": 1}
    other.execute("COMMIT")
    other.close()
    assert store.health()["writable"]
    store.write(one_log())
    assert store.health()["problem"] is None


@pytest.mark.parametrize("what", ["file", "directory"])
def test_a_read_only_store_is_read_or_refused_in_one_sentence(tmp_path: Path, what: str) -> None:
    """It is never an error of the host's, and what could not be stored is counted."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    home = Path(os.path.realpath("/tmp")) / f"otel-agents-ro-{os.getpid()}-{what}"  # noqa: S108
    home.mkdir()
    try:
        path = home / "store.db"
        store = Store(sqlite_file(path))
        write(store, *shop("run-1").signals)
        store.close()
        path.chmod(0o444 if what == "file" else 0o666)
        home.chmod(0o777 if what == "file" else 0o555)
        found = subprocess.run(  # noqa: S603
            [sys.executable, "-c", _READING, f"sqlite:///{path}", str(_NOBODY)], check=False,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert found.returncode == 0, found.stderr[-2000:]
        lines = found.stdout.splitlines()
        assert lines[0].startswith(("refused The store", "busy The store")), lines
        assert lines[0].startswith("refused") or lines[1] == "False 1 1"
    finally:
        for one in home.iterdir():
            one.unlink()
        home.rmdir()


@pytest.mark.parametrize("beside", [True, False])
def test_a_file_that_is_removed_is_made_anew(file_store: Store, beside: bool) -> None:
    """Reads say that it is gone; what comes from then on is kept, and found by every thread."""
    path = file_store._database.path
    assert path is not None
    for ending in ("", "-wal", "-shm") if beside else ("",):
        path.with_name(path.name + ending).unlink()
    with pytest.raises(UnavailableError):
        file_store.runs()
    write(file_store, *shop("run-2").signals)
    file_store.write(Batch(points=[Point(name="m", kind="gauge", time=1, value=1.0)]))
    assert ids_of(file_store.runs()["items"], "run_id") == ["run-2"]
    assert file_store.run("run-2")["status"] == "succeeded"
    found: list[int] = []
    reader = threading.Thread(target=lambda: found.append(len(file_store.agents()["items"])))
    reader.start()
    reader.join()
    assert found == [3]
    assert file_store.health()["writable"]


def test_health_finds_that_the_file_is_gone_and_makes_it(file_store: Store) -> None:
    """Without anybody who writes."""
    path = file_store._database.path
    assert path is not None
    path.unlink()
    assert file_store.health()["writable"]
    assert file_store.runs()["items"] == []


def test_a_damaged_file_is_said_to_be_damaged(tmp_path: Path, stores: Opener) -> None:
    """Its answers are errors in one sentence, or what was stored; never anything else."""
    path = tmp_path / "store.db"
    store = stores(sqlite_file(path))
    for count in range(50):
        store.write(Batch(logs=[LogRecord(time=count, body=f"{count}-" + "x" * 2_000)]))
    store.close()
    whole = path.read_bytes()
    answers = set()
    for place in range(5_000, len(whole), len(whole) // 20):
        path.write_bytes(whole[:place] + os.urandom(1_000) + whole[place + 1_000 :])
        try:
            one = Store(f"sqlite:///{path}")
        except UnavailableError:
            answers.add("refused")
            continue
        try:
            one.write(one_log(1_000 + place))
            one.logs(limit=500)
            answers.add("answered")
        except UnavailableError as error:
            answers.add("unavailable" if "\n" not in str(error) else str(error))
        finally:
            one.close()
            for ending in ("-wal", "-shm"):
                path.with_name(path.name + ending).unlink(missing_ok=True)
    assert "unavailable" in answers
    assert answers <= {"unavailable", "refused", "answered"}


@pytest.mark.parametrize("part", range(1, 10))
def test_a_file_that_was_cut_off_is_refused_or_said_to_be(
    tmp_path: Path, stores: Opener, part: int
) -> None:
    """Each tenth of it."""
    path = tmp_path / "store.db"
    store = stores(sqlite_file(path))
    write(store, *shop("run-1").signals)
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * part // 10])
    with pytest.raises(UnavailableError):
        cut = stores(f"sqlite:///{path}")
        cut.write(one_log())
        cut.run("run-1")
        cut._database.here.rows("SELECT * FROM signals, runs, agents, telemetry")


@pytest.fixture
def own_cluster(postgresql: Cluster) -> Iterator[Cluster]:
    """The cluster, running again after the test."""
    yield postgresql
    if postgresql._process is None:
        postgresql.start()


def test_postgresql_that_stops_and_starts_in_mid_work(own_cluster: Cluster, stores: Opener) -> None:
    """Busy and unavailable meanwhile, and all of it goes on by itself with the server."""
    store = stores(own_cluster.make())
    write(store, *shop("run-1").signals)
    own_cluster.stop()
    with pytest.raises(Busy):
        store.write(one_log(1))
    with pytest.raises(UnavailableError):
        store.runs()
    health = store.health()
    assert not health["writable"]
    assert health["problem"]
    assert store.dropped.total() == 1
    own_cluster.start()
    wait_for(lambda: store.health()["writable"])
    store.write(one_log(2))
    assert ids_of(store.logs()["items"], "body") == ["2"]
    assert store.run("run-1")["status"] == "succeeded"
    write(store, *shop("run-2").signals)
    assert len(store.runs()["items"]) == 2


def test_rows_and_index_that_could_not_be_made_are_made_later(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signals and blocks are committed; health says what is wrong meanwhile."""
    monkeypatch.setattr(writer, "_TRY_AGAIN_SECONDS", 0.01)

    def broken(*_: object, **__: object) -> int:
        message = "The store cannot be used: no."
        raise UnavailableError(message)

    with monkeypatch.context() as patch:
        patch.setattr(store._writer.projection, "run", broken)
        patch.setattr(type(store._writer.indexing), "step", broken)
        store.write(Batch(
            signals=shop("run-1").signals,
            blocks=[block({"trace": trace_number(1), "span": number(1)})],
        ))  # fmt: skip
        wait_for(lambda: store._writer._problem is not None)
        assert store.runs()["items"][0]["status"] != "succeeded"
    assert store.settle()
    assert store.runs()["items"][0]["status"] == "succeeded"
    assert len(store.traces()["items"]) == 1
    wait_for(lambda: store.health()["writable"])


def test_a_batch_that_cannot_be_stored_costs_no_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that share a commit the bad one is refused and counted, the others are stored."""
    go = threading.Event()
    real = Ingest.write

    def slow(self: Ingest, *arguments: object) -> object:
        go.wait(90)
        return real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Ingest, "write", slow)
    answers: dict[int, BaseException | None] = {}
    bad = Batch(points=[Point(name="m", kind="gauge", time="x")])  # type: ignore[arg-type]
    for count in range(4):
        store.submit(bad if count == 2 else one_log(count),
                     lambda error, count=count: answers.__setitem__(count, error))  # fmt: skip
    go.set()
    wait_for(lambda: len(answers) == 4)
    assert [count for count, error in answers.items() if error is not None] == [2]
    assert not isinstance(answers[2], UnavailableError)
    assert sorted(ids_of(store.logs()["items"], "body")) == ["0", "1", "3"]
    assert store.dropped == {"TypeError": 1}
    assert store.health()["writable"]


def test_too_much_that_waits_is_turned_away(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """By bytes and by number, counted, and taken again once there is room."""
    go, begun = threading.Event(), threading.Event()
    real = Ingest.write

    def slow(self: Ingest, *arguments: object) -> object:
        begun.set()
        go.wait(90)
        return real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Ingest, "write", slow)
    monkeypatch.setattr(writer, "MAX_WAITING", 3)
    errors: list[BaseException | None] = []
    store.submit(one_log(0), errors.append)
    assert begun.wait(90)
    for count in range(1, 4):
        store.submit(one_log(count), errors.append)
    with pytest.raises(Busy, match="behind"):
        store.submit(one_log(9), errors.append)
    assert store.health()["waiting"] == 4, "and that which is being written"
    assert store.dropped == {"busy": 1}
    go.set()
    wait_for(lambda: errors == [None] * 4)
    store.write(one_log(9))
    assert len(store.logs()["items"]) == 5


def test_a_listener_hears_of_commits_until_it_leaves(store: Store) -> None:
    """One that fails harms nobody."""
    heard: list[int] = []

    def broken() -> None:
        message = "broken"
        raise ValueError(message)

    store.on_commit(broken)
    leave = store.on_commit(lambda: heard.append(1))
    store.write(one_log(1))
    wait_for(lambda: heard)
    leave()
    before = len(heard)
    store.write(one_log(2))
    store.write(one_log(3))
    assert len(heard) == before


def test_a_store_that_is_closed_takes_nothing_more(store: Store) -> None:
    """What waited is written first; closing again is nothing."""
    errors: list[BaseException | None] = []
    for count in range(20):
        store.submit(one_log(count), errors.append)
    store.close()
    assert errors == [None] * 20
    with pytest.raises(Busy, match="closed"):
        store.write(one_log(99))
    store.close()
