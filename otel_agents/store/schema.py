"""Which schema this version works with, and bringing a database to it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from otel_agents.errors import UnavailableError
from otel_agents.store.database import shown

if TYPE_CHECKING:
    from alembic.config import Config

    from otel_agents.store.database import Connection, Database

# Alembic's `context` is one for the whole process: two threads that migrate at once take it away
# from each other, and can end the process.
_migrating = threading.Lock()


def _after_fork() -> None:
    global _migrating  # noqa: PLW0603 - a thread of the parent may have it
    _migrating = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)

# The last step of `migrations/versions`; a test holds the two together.
HEAD: Final = "0003"
_MIGRATIONS: Final = Path(__file__).parent / "migrations"


def revision(connection: Connection) -> str | None:
    """Return the schema's revision, or None where there is no schema yet."""
    if connection.dialect == "sqlite":
        there = "SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'alembic_version'"
    else:
        there = "SELECT to_regclass('alembic_version') AS name"
    found = connection.row(there)
    if found is None or found["name"] is None:
        return None
    row = connection.row("SELECT version_num FROM alembic_version")
    return None if row is None else str(row["version_num"])


def ensure(database: Database) -> None:
    """Bring a database to `HEAD`, making it where there is none.

    Raises UnavailableError, in one sentence, where it is of a later version or cannot be changed.
    """
    if database.path is not None:
        _make(database.path)
    found = revision(database.here)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        message = (
            f"The store {shown(database.url)} was made by a later version of otel-agents "
            f"(schema {found}, this one knows {HEAD}): upgrade otel-agents."
        )
        raise UnavailableError(message)
    try:
        upgrade(database)
    except UnavailableError:
        # Of two that open a new store at once one comes second, and finds all done.
        if revision(database.here) != HEAD:
            raise


def _make(path: Path) -> None:
    """Make an empty file, where there is none: what agents say and do is nobody else's business."""
    try:
        made = [one.parent for one in path.parents if not one.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        for directory in made:
            _flush(directory)
        if path.exists():
            return
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        # A log left over from a file that was removed is not of this one.
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
    except FileExistsError:
        if not path.is_file():
            message = f"The store {path} cannot be made: something else is there."
            raise UnavailableError(message) from None
    except OSError as error:
        message = f"The store {path} cannot be made: {error}."
        raise UnavailableError(message) from error


def _flush(directory: Path) -> None:
    """Bring the names in a directory to the disk; SQLite does so with the one of its file only.

    Without that a power failure takes a new directory, and in it all that was acknowledged.
    """
    if os.name != "posix":  # a directory is opened in another way there, and has no need of it
        return
    found = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(found)
    finally:
        os.close(found)


def scripts() -> Config:
    """Return what tells Alembic where the migrations are."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def upgrade(database: Database, to: str = "head") -> None:
    """Run the migrations up to a revision."""
    from alembic import command
    from sqlalchemy import create_engine, event, text
    from sqlalchemy.pool import NullPool

    # The URL is read as it is everywhere else, and not once more by SQLAlchemy.
    engine = create_engine(
        "sqlite://" if database.path is not None else "postgresql+psycopg://",
        creator=database.driver,
        poolclass=NullPool,
    )
    if database.dialect == "sqlite":
        # pysqlite commits before DDL; a step is to be done wholly or not at all.
        @event.listens_for(engine, "connect")
        def _no_commits(connection: Any, _record: object) -> None:
            connection.isolation_level = None

        @event.listens_for(engine, "begin")
        def _begin(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    config = scripts()
    try:
        with engine.connect() as connection:
            if database.dialect == "sqlite":
                connection.exec_driver_sql("PRAGMA busy_timeout=10000")
                connection.rollback()
            else:
                # Two servers that start at once: the second waits, and then finds all done.
                connection.execute(text("SELECT pg_advisory_lock(1869898093)"))
                connection.commit()
            config.attributes["connection"] = connection
            with _migrating:
                command.upgrade(config, to)
            connection.commit()
    except Exception as error:
        why = " ".join(str(error).split())
        message = f"The store {shown(database.url)} cannot be brought to this version: {why}."
        raise UnavailableError(message) from error
    finally:
        engine.dispose()
