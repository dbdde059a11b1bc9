"""A store whose file was damaged: a clear error or what was written, and nothing else (47)."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from otel_agents.boundary import boundary
from otel_agents.errors import NotFoundError, OtelAgentsError, UnavailableError
from otel_agents.signals import Ids, Signal
from otel_agents.store import Batch, LogRecord, Store, sums
from tests.databases import sqlite_file, stores
from tests.store.build import block, number, trace_number

if TYPE_CHECKING:
    from tests.databases import Opener

__all__ = ["stores"]

# By hand: CORRUPTIONS=1000 pytest tests/attacks/test_corruption.py
CASES: Final = int(os.environ.get("CORRUPTIONS", "100"))
SEED: Final = int(os.environ.get("CORRUPTION_SEED", "8"))
PATIENCE: Final = 120.0
RUNS: Final = 8


def _signals(run: str) -> list[Signal]:
    ids = Ids(run_id=run, workflow="press", agent="writer", agent_id=f"{run}-a")
    told = [("run", "start"), ("agent", "start"), ("agent", "end"), ("run", "end")]
    return [
        Signal(
            id=f"{run}-{count}", kind=kind, edge=edge, ids=ids, time=time.time_ns() + count,  # type: ignore[arg-type]
            scope_id=f"{run}-{kind}", name=f"{kind} of {run}", attributes={"text": f"{run} " * 40},
            result="success" if edge == "end" else "",
        )
        for count, (kind, edge) in enumerate(told)
    ]  # fmt: skip


def _fill(store: Store) -> None:
    for count in range(RUNS):
        run = f"run-{count:04d}"
        spans = [
            {
                "trace": trace_number(count),
                "span": number(one),
                "run": run,
                "name": f"step {one} " * 9,
            }
            for one in range(10)
        ]
        logs = [
            LogRecord(time=count * 100 + one, body=f"{run} line {one} " * 20, run_id=run,
                      attributes={"number": one})
            for one in range(10)
        ]  # fmt: skip
        store.write(Batch(signals=_signals(run), blocks=[block(*spans)], logs=logs))
    assert store.settle()


def _read(store: Store) -> dict[str, set[str]]:
    """Return all that a store shows of signals, spans and logs; raises what it raises."""
    found: dict[str, set[str]] = {"signals": set(), "spans": set(), "logs": set()}

    def add(kind: str, items: list[dict[str, Any]]) -> None:
        found[kind] |= {json.dumps(one, sort_keys=True) for one in items}

    add("signals", store.feed(0, 500))
    add("logs", store.logs(limit=500)["items"])
    for count in range(RUNS):
        with suppress(NotFoundError):  # one that is damaged where its name stands
            add("signals", store.run_signals(f"run-{count:04d}", limit=500)["items"])
        with suppress(NotFoundError):
            add("spans", store.trace(trace_number(count).hex())["spans"])
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, set[str]]]:
    """A database of some runs with spans and logs, and all that is shown of it."""
    path = tmp_path_factory.mktemp("whole") / "store.db"
    store = Store(sqlite_file(path))
    _fill(store)
    shown = _read(store)
    store.close()
    assert {kind: len(items) for kind, items in shown.items()} == {
        "signals": RUNS * 4, "spans": RUNS * 10, "logs": RUNS * 10,
    }  # fmt: skip
    return path, shown


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundary, "strict", False)


class Seen:
    """What came of a damaged copy: `refused`, `answered` or both, and what was wrong in it."""

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {}
        self.wrong: list[str] = []
        self.missing = 0

    def note(self, outcome: str) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1


def _try(path: Path, shown: dict[str, set[str]], seen: Seen) -> None:
    """Open a damaged file, read all of it, write to it, read again; it is closed afterwards."""
    try:
        store = Store(f"sqlite:///{path}", durable=False)
    except OtelAgentsError as error:
        seen.note("refused" if "\n" not in str(error) else repr(error))
        return
    try:
        for again in (False, True):
            try:
                found = _read(store)
            except UnavailableError as error:
                seen.note("refused" if "\n" not in str(error) else repr(error))
            else:
                seen.note("answered")
                for kind, items in found.items():
                    seen.wrong += [f"{kind}: {one[:300]}" for one in items - shown[kind]]
                    seen.missing += len(shown[kind] - items)
            if not again:
                with suppress(UnavailableError):
                    store.write(Batch(signals=[]))
                    store.health()
    finally:
        store.close(1.0)
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)


def _bits(data: bytes, chance: random.Random, most: int) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, most)):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def test_bits_that_flip_show_nothing_that_was_not_written(
    tmp_path: Path, whole: tuple[Path, dict[str, set[str]]]
) -> None:
    """One to a thousand of them, anywhere: each signal, span and log shown is as it was written."""
    original, shown = whole
    data, chance, seen = original.read_bytes(), random.Random(SEED), Seen()  # noqa: S311
    path = tmp_path / "store.db"
    for case in range(CASES):
        path.write_bytes(_bits(data, chance, (1, 10, 100, 1000)[case % 4]))
        _try(path, shown, seen)

    assert seen.wrong == []
    assert set(seen.outcomes) == {"answered", "refused"}
    assert seen.outcomes["answered"] > CASES // 10, seen.outcomes
    assert seen.outcomes["refused"] > CASES // 10, seen.outcomes
    assert seen.missing > 0


def test_without_sums_wrong_data_would_be_seen(
    tmp_path: Path, whole: tuple[Path, dict[str, set[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the same flips, with nothing compared to its sum."""
    for name in ("sound_signal", "sound_log"):
        monkeypatch.setattr(sums, name, lambda _row: True)
    original, shown = whole
    data, chance, seen = original.read_bytes(), random.Random(SEED), Seen()  # noqa: S311
    path = tmp_path / "store.db"
    for case in range(CASES):
        path.write_bytes(_bits(data, chance, (1, 10, 100, 1000)[case % 4]))
        try:
            _try(path, shown, seen)
        except ValueError:  # JSON that is none
            seen.wrong.append("an answer that is none")
        if seen.wrong:
            break

    assert seen.wrong != []


@pytest.mark.parametrize("kind", ["signals", "logs", "blocks"])
def test_one_damaged_row_costs_that_row_only(
    tmp_path: Path, whole: tuple[Path, dict[str, set[str]]], kind: str
) -> None:
    """It is counted, and left where it is; all the others are there."""
    original, shown = whole
    path = tmp_path / "store.db"
    shutil.copy(original, path)
    with closing(sqlite3.connect(path)) as raw:
        key = "id" if kind == "blocks" else "seq"
        where = f"{key} = (SELECT MIN({key}) + 2 FROM {kind})"  # noqa: S608
        (body,) = raw.execute(f"SELECT CAST(body AS BLOB) FROM {kind} WHERE {where}").fetchone()  # noqa: S608
        at = len(body) // 2
        damaged = body[:at] + bytes([body[at] ^ 0x81]) + body[at + 1 :]  # no UTF-8 either
        cast = "?" if kind == "blocks" else "CAST(? AS TEXT)"
        raw.execute(f"UPDATE {kind} SET body = {cast} WHERE {where}", (damaged,))  # noqa: S608
        raw.commit()
    before = sums.damaged.total()
    seen = Seen()
    _try(path, shown, seen)

    assert (seen.wrong, seen.outcomes) == ([], {"answered": 2})
    assert seen.missing == 2 * (10 if kind == "blocks" else 1)
    assert sums.damaged.total() > before


def test_a_file_cut_anywhere_is_refused_or_shows_what_is_left(
    tmp_path: Path, whole: tuple[Path, dict[str, set[str]]]
) -> None:
    """At each hundredth of it."""
    original, shown = whole
    data, seen, path = original.read_bytes(), Seen(), tmp_path / "store.db"
    for part in range(1, 100):
        path.write_bytes(data[: len(data) * part // 100])
        _try(path, shown, seen)

    assert seen.wrong == []
    assert seen.outcomes["refused"] > 50


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes, dict[str, set[str]]]:
    """A database as a kill leaves it: its file, its log of what is not in there yet, and all."""
    path = tmp_path_factory.mktemp("logged") / "store.db"
    store = Store(sqlite_file(path))
    store._database.here.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    _fill(store)
    shown = _read(store)
    found = path.read_bytes(), path.with_name("store.db-wal").read_bytes(), shown
    store.close()
    assert len(found[1]) > 100_000
    return found


@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_a_damaged_log_shows_what_was_committed_before(
    tmp_path: Path, logged: tuple[bytes, bytes, dict[str, set[str]]], how: str
) -> None:
    """Cut at each hundredth or with bits flipped: SQLite's own sums end the log there."""
    data, log, shown = logged
    chance, seen, path = random.Random(SEED), Seen(), tmp_path / "store.db"  # noqa: S311
    for case in range(1, 100, 1 if CASES > 100 else 3):
        path.write_bytes(data)
        spoilt = log[: len(log) * case // 100] if how == "cut" else _bits(log, chance, 20)
        path.with_name("store.db-wal").write_bytes(spoilt)
        _try(path, shown, seen)

    assert seen.wrong == []
    assert set(seen.outcomes) == {"answered"}
    assert seen.missing > 0


def test_a_damaged_request_does_not_keep_others_from_being_indexed(
    tmp_path: Path, stores: Opener
) -> None:
    """A block that cannot be read is passed over: what comes after it is found."""
    path = tmp_path / "store.db"
    store = stores(sqlite_file(path))
    store.write(Batch(blocks=[block({"trace": trace_number(1), "span": number(1)})]))
    store.close()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("UPDATE blocks SET body = x'789c00'")
        raw.execute("DELETE FROM traces")
        raw.execute("INSERT OR IGNORE INTO unindexed (block_id) SELECT id FROM blocks")
        raw.commit()
    again = stores(f"sqlite:///{path}")
    again.write(Batch(blocks=[block({"trace": trace_number(2), "span": number(2)})]))

    assert again.settle()
    assert [one["trace_id"] for one in again.traces()["items"]] == [trace_number(2).hex()]


# ---------------------------------------------------------------- whose file it is


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory for a server."""
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def _serve(home: Path, url: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "otel_agents.cli", "serve", "--store", url, "--port", "0",
         "--otlp-http-port", "0", "--otlp-grpc-port", "0"],
        cwd=home, env=kept, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("what", ["garbage", "directory", "another program's", "head"])
def test_a_server_says_why_a_file_is_no_store(home: Path, what: str) -> None:
    """One sentence and an exit code; the file is left as it was."""
    path = home / "store.db"
    if what == "directory":
        path.mkdir()
    elif what == "garbage":
        path.write_bytes(random.Random(SEED).randbytes(100_000))  # noqa: S311
    elif what == "head":
        path.write_bytes(b"SQLite format 3\0" + bytes(4080))
    else:
        with closing(sqlite3.connect(path)) as raw:
            raw.execute("CREATE TABLE runs (mine TEXT)")
            raw.commit()
    before = None if what == "directory" else path.read_bytes()
    done = _serve(home, f"sqlite:///{path}")

    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert "store" in done.stderr
    if before is not None and what != "another program's":
        assert path.read_bytes() == before
