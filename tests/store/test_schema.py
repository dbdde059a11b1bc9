"""The schema: one history of steps, the same on both databases, and the tables others read."""

from __future__ import annotations

import importlib.util
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic.script import ScriptDirectory

from otel_agents.errors import UnavailableError
from otel_agents.store import Store, open_store
from otel_agents.store.database import Database
from otel_agents.store.schema import HEAD, ensure, revision, scripts, upgrade

if TYPE_CHECKING:
    from types import ModuleType

    from tests.databases import Cluster, Opener

_DOCS = Path(__file__).parents[2] / "docs" / "schema.py"
# Column: whether it may be null, and whether a default is made; product row E1 and interfaces.md.
_EVENTS = {
    "id": (False, True), "layer": (False, False), "operation": (False, False),
    "reason_code": (False, False), "entity_id": (False, False), "task_id": (True, False),
    "persona_id": (True, False), "worker_id": (True, False), "run_id": (True, False),
    "metadata": (False, True), "occurred_at": (False, True), "created_at": (False, True),
}  # fmt: skip
_WORKERS = {
    "id": (False, True), "worker_id": (False, False), "agent_type": (False, False),
    "status": (False, False), "circuit_open": (False, True), "circuit_reason": (True, False),
    "last_heartbeat": (False, True), "current_task_id": (True, False), "metadata": (False, True),
    "created_at": (False, True), "updated_at": (False, True),
}  # fmt: skip
_INDEXES = {
    "ai_runtime_events": {
        ("occurred_at",), ("layer", "occurred_at"), ("reason_code", "occurred_at"),
        ("entity_id", "occurred_at"),
    },
    "ai_worker_status": {("status", "updated_at"), ("circuit_open", "updated_at")},
}  # fmt: skip


def page() -> ModuleType:
    """Return docs/schema.py."""
    spec = importlib.util.spec_from_file_location("docs_schema", _DOCS)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def columns(store: Store, table: str) -> dict[str, tuple[bool, bool]]:
    connection = store._database.here
    if connection.dialect == "sqlite":
        rows = connection.rows("SELECT * FROM pragma_table_info(?)", (table,))
        return {row["name"]: (not row["notnull"], row["dflt_value"] is not None) for row in rows}
    rows = connection.rows(
        "SELECT column_name, is_nullable, column_default FROM information_schema.columns "
        "WHERE table_name = ?",
        (table,),
    )
    return {
        row["column_name"]: (row["is_nullable"] == "YES", row["column_default"] is not None)
        for row in rows
    }


def test_the_head_is_alembic_s() -> None:
    """`HEAD` is the last step; there is one, it has one, and none goes back."""
    found = ScriptDirectory.from_config(scripts())
    assert found.get_heads() == [HEAD]
    assert [step.down_revision for step in found.walk_revisions()][-1] is None
    assert not any(hasattr(step.module, "downgrade") for step in found.walk_revisions())


def test_the_page_is_what_the_migrations_make() -> None:
    """docs/reference/schema.sql is up to date, and its check can fail."""
    found = page()
    assert found.main(["--check"]) == 0
    assert found.schema() != found.schema().replace("worker_id", "x")


def test_the_statements_on_the_page_make_the_schema(tmp_path: Path) -> None:
    """Run by hand on SQLite they give what a migration gives."""

    def master(path: Path) -> dict[str, str]:
        with sqlite3.connect(path) as opened:
            rows = opened.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
            found = {name: re.sub(r"\s+", "", sql) for name, sql in rows}
        opened.close()
        found.pop("alembic_version", None)
        return found

    by_hand, migrated = tmp_path / "by-hand.db", tmp_path / "migrated.db"
    opened = sqlite3.connect(by_hand)
    opened.executescript(page().statements("SQLite"))
    opened.close()
    Store(f"sqlite:///{migrated}").close()
    assert master(by_hand) == master(migrated)


@pytest.mark.parametrize(
    ("table", "expected"), [("ai_runtime_events", _EVENTS), ("ai_worker_status", _WORKERS)]
)
def test_the_tables_that_others_read(
    store: Store, table: str, expected: dict[str, tuple[bool, bool]]
) -> None:
    """Columns, nullability, defaults and indexes of row E1."""
    assert columns(store, table) == expected
    connection = store._database.here
    if connection.dialect == "sqlite":
        rows = connection.rows(
            "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ?", (table,)
        )
    else:
        rows = connection.rows(
            "SELECT indexdef AS sql FROM pg_indexes WHERE tablename = ?", (table,)
        )
    made = set()
    for row in rows:
        if row["sql"] and " DESC" in row["sql"]:
            inside = row["sql"].rpartition("(")[2].rstrip(")").split(", ")
            made.add(tuple(one.partition(" ")[0] for one in inside if not one.startswith("id")))
    assert made >= _INDEXES[table]


def test_a_row_of_another_program_gets_its_defaults(store: Store) -> None:
    """An id, an empty object and the time of now, as text or value that our own reading takes."""
    connection = store._database.here
    with connection.writing():
        connection.run(
            "INSERT INTO ai_runtime_events (layer, operation, reason_code, entity_id) "
            "VALUES ('worker', 'TASK', 'X', 'e')"
        )
        connection.run(
            "INSERT INTO ai_worker_status (worker_id, agent_type, status) VALUES ('w', 'c', 'IDLE')"
        )
    (event,) = store.runtime_events()["items"]
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", event["id"]
    )
    assert event["metadata"] == {}
    (worker,) = store.runtime_status()["workers"]
    assert (worker["stale"], worker["circuit_open"], worker["metadata"]) == (False, False, {})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", worker["last_heartbeat"])


def test_an_empty_database_is_brought_up_once_and_again(
    postgresql: Cluster, tmp_path: Path
) -> None:
    """From nothing, from Alembic's base, and from the head itself."""
    for url in (f"sqlite:///{tmp_path}/new/dir/store.db", postgresql.make("template1")):
        database = Database(url)
        for _ in range(2):
            ensure(database)
            assert revision(database.here) == HEAD
        upgrade(database, HEAD)
        database.close()
    assert (tmp_path / "new/dir/store.db").stat().st_mode & 0o777 == 0o600


def test_a_store_of_an_earlier_version_keeps_what_it_holds(
    postgresql: Cluster, tmp_path: Path
) -> None:
    """From the first schema on: its runs are read, and what is told of them next is counted."""
    now = time.time_ns()
    for url in (f"sqlite:///{tmp_path}/old.db", postgresql.make("template1")):
        database = Database(url)
        if database.path is not None:
            database.path.touch()
        upgrade(database, "0001")
        with database.here.writing():
            database.here.run(
                "INSERT INTO runs (run_id, folded, workflow, status, started_ns, updated_ns) "
                "VALUES ('r', 1, 'shop', 'running', ?, ?)",
                (now - 60 * 10**9, now),
            )
        database.close()
        store = Store(url)
        assert [one["run_id"] for one in store.runs()["items"]] == ["r"]
        (row,) = store.standing(now).runs
        assert (row["number"], row["told_ns"]) == (1, now - 60 * 10**9)
        assert store.alerts()["items"] == []
        store.close()


def test_a_store_of_a_later_version_is_refused_and_not_touched(
    stores: Opener, database_url: str
) -> None:
    """In one sentence that names both versions and no password."""
    connection = stores(database_url)._database.here
    connection.run("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(UnavailableError, match=r"later version .*9999.*upgrade otel-agents\.$"):
        Store(database_url)
    assert revision(connection) == "9999"


def test_many_that_open_a_new_store_at_once_all_can(postgresql: Cluster, tmp_path: Path) -> None:
    """Four processes, on each database."""
    program = "import sys; from otel_agents.store import Store; Store(sys.argv[1]).close()"
    for url in (f"sqlite:///{tmp_path}/store.db", postgresql.make("template1")):
        running = [
            subprocess.Popen([sys.executable, "-c", program, url], stderr=subprocess.PIPE)  # noqa: S603
            for _ in range(4)
        ]
        for one in running:
            _, said = one.communicate(timeout=60)
            assert one.returncode == 0, said.decode()[-2000:]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sqlite:////proc/nothing/store.db", "cannot be made"),
        ("postgresql://u:se%40cret@127.0.0.1:1/x?password=secret", "cannot be opened"),
    ],
)
def test_a_store_that_cannot_be_opened_says_so_in_one_sentence(url: str, why: str) -> None:
    """UnavailableError, without the login."""
    with pytest.raises(UnavailableError, match=why) as refused:
        open_store(url)
    assert "cret" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["a b", "100%", "q?x", "h#x", "%41", "é", "a;b", "a&b=c"])
def test_a_workspace_may_have_any_name(tmp_path: Path, name: str) -> None:
    """Its database is there, whatever its path means in a URL."""
    from otel_agents.workspace import Workspace

    (tmp_path / name).mkdir()
    workspace = Workspace(tmp_path / name)
    open_store(None, workspace).close()
    assert workspace.database.exists()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """It is left as it is."""
    path = tmp_path / "store.db"
    path.write_bytes(b"not a database at all" * 1000)
    with pytest.raises(UnavailableError, match="not a database"):
        Store(f"sqlite:///{path}")
    (tmp_path / "dir.db").mkdir()
    with pytest.raises(UnavailableError):
        Store(f"sqlite:///{tmp_path}/dir.db")
    assert path.read_bytes().startswith(b"not a database at all")
