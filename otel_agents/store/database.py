"""Connections to the store's database: SQLite by file, PostgreSQL by URL, one way to ask both.

SQL is written once, with `?` for parameters and in the words both know. A connection belongs to
the thread that asks for it, so that readers never wait for the writer's.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote, unquote, urlsplit

from otel_agents.errors import SettingsError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

Dialect = Literal["sqlite", "postgresql"]
# A writer may hold the file for one commit of 64 MB; ten seconds is far more than that takes.
_PATIENCE_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 1.0
# One key for all of a store's writers: their commits stand in line, so that the numbers that
# signals get are in the order of the commits and a reader's cursor misses none.
_WRITER_LOCK: Final = 0x6F74656C
_PLACE: Final = re.compile(r"\?")
_SECRETS: Final = re.compile(r"(?<=://)[^/\s]*(?=@)|(?<=[?&]password=)[^&\s]*")


class Database:
    """A database by URL: `sqlite:///PATH` or `postgresql://USER@HOST/NAME`.

    Raises SettingsError for another URL, in one sentence; nothing is opened before it is used.

    Args:
        url: The URL.
        durable: Whether a commit has to survive a power failure, and not only a crash.

    """

    def __init__(self, url: str, *, durable: bool = True) -> None:
        self.url = url
        self.durable = durable
        self.path: Path | None = None
        self.dialect: Dialect = "sqlite"
        if url.startswith("sqlite:"):
            self.path = _path(url)
        elif url.startswith(("postgresql://", "postgres://")):
            self.dialect = "postgresql"
        else:
            message = (
                f"The store {shown(url)} is of no kind we know: "
                "write sqlite:///PATH or postgresql://USER@HOST/NAME."
            )
            raise SettingsError(message)
        self._local = threading.local()
        self._open: set[Connection] = set()
        self._abandoned: list[Connection] = []
        self._lock = threading.Lock()

    @property
    def here(self) -> Connection:
        """The connection of the calling thread, opened at its first use.

        Raises UnavailableError, in one sentence, where there is no database to connect to.
        """
        found: Connection | None = getattr(self._local, "connection", None)
        if found is None or not found.answers() or found.file != self._file():
            before, found = found, self.connect()
            self._local.connection = found
            with self._lock:
                over = {one for one in self._open if not one.thread.is_alive()}
                over |= {before} if before is not None else set()
                self._open = (self._open - over) | {found}
            now = self._file()
            for one in over:
                if one.file == now:
                    one.close()
                else:
                    # Closing it would remove the log of the file that took the place of its own.
                    self._abandoned.append(one)
        return found

    @property
    def gone(self) -> bool:
        """Whether the file is not there, or not any more."""
        return self.path is not None and self._file() is None

    def _file(self) -> tuple[int, int] | None:
        """Return what tells the file at the path from another one there before or after it."""
        if self.path is None:
            return None
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def connect(self) -> Connection:
        """Open a connection; raises UnavailableError, in one sentence, where that fails."""
        try:
            if self.dialect == "sqlite":
                return Connection(self._sqlite(), "sqlite", file=self._file(), durable=self.durable)
            return Connection(self._postgresql(), "postgresql", durable=self.durable)
        except (*_UNREADABLE, OSError) as error:
            why = " ".join(str(error).split())  # a damaged schema is quoted, with its line breaks
            message = f"The store {shown(self.url)} cannot be opened: {why}."
            raise UnavailableError(message) from error

    def driver(self, **options: Any) -> Any:
        """Open a connection of the driver's own, with its own options."""
        if self.path is not None:
            # A file that was removed is not made anew by who looks for it.
            return sqlite3.connect(
                f"file:{quote(str(self.path))}?mode=rw",
                uri=True, timeout=_PATIENCE_SECONDS, check_same_thread=False, **options,
            )  # fmt: skip
        import psycopg

        url = self.url.replace("postgres://", "postgresql://", 1)
        return psycopg.connect(url, connect_timeout=10, **options)

    def _sqlite(self) -> sqlite3.Connection:
        made: sqlite3.Connection = self.driver(isolation_level=None, cached_statements=512)
        try:
            self._set_up(made)
        except _UNREADABLE:
            made.close()
            raise
        return made

    def _set_up(self, made: sqlite3.Connection) -> None:
        made.row_factory = _as_dict
        # SQLite's own knows the letters of ASCII only.
        made.create_function("LOWER", 1, _lower, deterministic=True)
        # Each of these writes, and a full disk must not keep anybody from reading.
        if not _asked(made, "page_count"):
            # Before anything else: the next one writes the file's head, and then it is settled.
            made.execute("PRAGMA auto_vacuum=INCREMENTAL")
        if _asked(made, "journal_mode") != "wal":
            made.execute("PRAGMA journal_mode=WAL")
        made.execute(f"PRAGMA synchronous={'FULL' if self.durable else 'NORMAL'}")
        made.execute("PRAGMA foreign_keys=ON")
        made.execute("PRAGMA cache_size=-32000")  # kB; trace ids fall anywhere in their index
        made.execute("PRAGMA wal_autocheckpoint=8000")  # pages
        made.execute("PRAGMA journal_size_limit=67108864")

    def _postgresql(self) -> Any:
        try:
            import psycopg
            from psycopg.rows import dict_row
        except ImportError as error:
            message = "A PostgreSQL store needs psycopg: pip install 'otel-agents[postgres]'."
            raise UnavailableError(message) from error
        try:
            return self.driver(autocommit=True, row_factory=dict_row)
        except psycopg.Error as error:
            why = " ".join(str(error).split())
            message = f"The store {shown(self.url)} cannot be opened: {why}."
            raise UnavailableError(message) from error

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            found, self._open = self._open, set()
        for connection in found:
            connection.close()
        self._local = threading.local()


class _Gate:
    """Keeps a fork from coming in the middle of a transaction.

    SQLite notes a process's locks in its memory. A child that inherits the note of a lock that its
    parent held just then finds the database locked for good.
    """

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._forking = False

    @contextmanager
    def through(self) -> Generator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._forking, _FORK_SECONDS)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def shut(self) -> None:
        with self._changed:
            self._forking = True
            self._changed.wait_for(lambda: not self._inside, _FORK_SECONDS)

    def open(self) -> None:
        with self._changed:
            self._forking = False
            self._changed.notify_all()


_FORK_SECONDS: Final = 1.0  # the longest that a fork waits for a transaction to end
_gate: Final = _Gate()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_gate.shut, after_in_parent=_gate.open, after_in_child=_gate.renew)


class Connection:
    """One connection; rows are dicts. It is used by one thread at a time.

    Whatever is asked of it raises UnavailableError, in one sentence, where the database cannot be
    used: it is down, read-only, full, damaged or held by another for too long. `file` tells which
    file it has open.
    """

    def __init__(
        self,
        raw: Any,
        dialect: Dialect,
        *,
        file: tuple[int, int] | None = None,
        durable: bool = True,
    ) -> None:
        self.raw = raw
        self.dialect = dialect
        self.file = file
        self.thread = threading.current_thread()
        self.broken = False
        self._writing = False
        self._used = time.monotonic()
        self._may_be_durable = durable
        self._durable = durable

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Run a statement and return its rows."""
        with self._watched():
            try:
                return self._fetched(sql, parameters)
            except sqlite3.OperationalError as error:
                if _NO_TEXT not in str(error):
                    raise
            # One letter that is damaged must not cost the rows beside it: their sums tell.
            self.raw.text_factory = _any_text
            return self._fetched(sql, parameters)

    def _fetched(self, sql: str, parameters: Sequence[Any]) -> list[dict[str, Any]]:
        cursor = self.raw.execute(self._spelled(sql), parameters)
        return list(cursor.fetchall()) if cursor.description else []

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> dict[str, Any] | None:
        """Run a statement and return its first row, or None."""
        with self._watched():
            found: dict[str, Any] | None = self.raw.execute(
                self._spelled(sql), parameters
            ).fetchone()
            return found

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement that returns nothing; return how many rows it changed."""
        with self._watched():
            count: int = self.raw.execute(self._spelled(sql), parameters).rowcount
            return max(0, count)

    def script(self, sql: str) -> None:
        """Run SQLite's own statements to their end; `run` takes one step of those without rows."""
        with self._watched():
            self.raw.executescript(sql)

    def many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each set of parameters."""
        with self._watched():
            self.raw.cursor().executemany(self._spelled(sql), parameters)

    @contextmanager
    def writing(self, *, durable: bool = True) -> Generator[None]:
        """Hold the store's one writer's place for a transaction; roll back where it fails.

        One that is not `durable` can be lost by a power failure, as long as no later one that is
        has been committed: it is for what can be made again.
        """
        if self._writing:
            yield
            return
        with _gate.through(), self._transaction(durable=durable):
            yield

    @contextmanager
    def _transaction(self, *, durable: bool) -> Generator[None]:
        with self._watched():
            if self.dialect == "sqlite" and durable != self._durable:
                level = "FULL" if durable and self._may_be_durable else "NORMAL"
                self.raw.execute(f"PRAGMA synchronous={level}")
                self._durable = durable
            self.raw.execute("BEGIN IMMEDIATE" if self.dialect == "sqlite" else "BEGIN")
        self._writing = True
        try:
            if self.dialect == "postgresql":
                self.row("SELECT pg_advisory_xact_lock(?)", (_WRITER_LOCK,))
                if not durable:
                    self.run("SET LOCAL synchronous_commit TO OFF")
            yield
            with self._watched():
                self.raw.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._writing = False

    @contextmanager
    def reading(self) -> Generator[None]:
        """See one state of the store over several statements."""
        with self._watched():
            begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
            self.raw.execute("BEGIN" if self.dialect == "sqlite" else begin)
        try:
            yield
        finally:
            self._roll_back()

    def _roll_back(self) -> None:
        try:
            self.raw.execute("ROLLBACK")
        except Exception as error:  # noqa: BLE001 - SQLite has rolled back by itself at some errors
            self.broken = self.broken or self.dialect == "postgresql"
            if not isinstance(error, sqlite3.OperationalError):
                self.broken = True

    def answers(self) -> bool:
        """Say whether the connection can be used; one to a server is asked after a pause.

        A server that was restarted meanwhile is not known to have gone until it is.
        """
        if self.broken or self.dialect == "sqlite" or self._writing:
            return not self.broken
        if time.monotonic() - self._used > _PAUSE_SECONDS:
            try:
                self.row("SELECT 1")
            except UnavailableError:
                self.broken = True
        return not self.broken

    @contextmanager
    def _watched(self) -> Generator[None]:
        self._used = time.monotonic()
        try:
            yield
        except Exception as error:
            if getattr(self.raw, "closed", False) or getattr(self.raw, "broken", False):
                self.broken = True
            if not _of_the_database(error):
                raise
            why = " ".join(str(error).split()).rstrip(".")
            message = f"The store cannot be used: {why}."
            raise UnavailableError(message) from error

    def _spelled(self, sql: str) -> str:
        return sql if self.dialect == "sqlite" else _for_postgresql(sql)

    def close(self) -> None:
        """Close the connection."""
        self.broken = True
        self.raw.close()


# What quotes a damaged name is not even text.
_UNREADABLE: Final = (sqlite3.Error, UnicodeDecodeError)


def _of_the_database(error: Exception) -> bool:
    """Say whether an error is of the database, and not of what was asked or to be written."""
    if isinstance(error, UnicodeDecodeError):
        return True
    if isinstance(error, sqlite3.Error):
        # "malformed" is a plain DatabaseError, and only a connection that was closed since is
        # used in a way that is wrong.
        kinds = sqlite3.OperationalError, sqlite3.ProgrammingError
        return isinstance(error, kinds) or type(error) is sqlite3.DatabaseError
    if not hasattr(error, "sqlstate"):
        return False
    import psycopg

    state = str(error.sqlstate or "")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return not state.startswith("54")  # a limit of the program: a value that is too long
    return state in {"25006", "42501", "42P01"}  # read-only, no permission, no such table


_NO_TEXT: Final = "Could not decode to UTF-8"


def _any_text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


_spellings: Final[dict[str, str]] = {}


def _for_postgresql(sql: str) -> str:
    found = _spellings.get(sql)
    if found is None:
        found = _PLACE.sub("%s", sql.replace("%", "%%"))
        if len(_spellings) < 1000:  # noqa: PLR2004 - filters make some hundred at the most
            _spellings[sql] = found
    return found


def _as_dict(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip([column[0] for column in cursor.description], row, strict=True))


def _asked(made: sqlite3.Connection, pragma: str) -> Any:
    """Return what a pragma says that is only asked."""
    return made.execute(f"PRAGMA {pragma}").fetchone()[pragma]


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _path(url: str) -> Path:
    parts = urlsplit(url)
    path = unquote(parts.path)
    # sqlite:///relative and sqlite:////absolute, as SQLAlchemy has them; a third way, with one
    # slash, is what people type.
    if not url.startswith("sqlite:///") or parts.query or parts.fragment or path in {"", "/"}:
        message = f"The store {shown(url)} names no file: write sqlite:///PATH."
        raise SettingsError(message)
    return Path(path[1:] if path.startswith("//") else path).absolute()


def shown(url: str) -> str:
    """Return a URL without its login, for messages."""
    return _SECRETS.sub("[redacted]", url)
