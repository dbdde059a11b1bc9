"""Connections to the store's database: SQLite by file, PostgreSQL by URL, one way to ask both.

SQL is written once, with `?` for parameters and in the words both know. A connection belongs to
the thread that asks for it, so that readers never wait for the writer's.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import unquote, urlsplit

from otel_agents.errors import SettingsError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Dialect = Literal["sqlite", "postgresql"]
# A writer may hold the file for one commit of 64 MB; ten seconds is far more than that takes.
_PATIENCE_SECONDS: Final = 10.0
# One key for all of a store's writers: their commits stand in line, so that the numbers that
# signals get are in the order of the commits and a reader's cursor misses none.
_WRITER_LOCK: Final = 0x6F74656C
_PLACE: Final = re.compile(r"\?")


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
        self._lock = threading.Lock()

    @property
    def here(self) -> Connection:
        """The connection of the calling thread, opened at its first use."""
        found: Connection | None = getattr(self._local, "connection", None)
        if found is None or found.broken:
            found = self.connect()
            self._local.connection = found
            with self._lock:
                self._open = {one for one in self._open if one.thread.is_alive()} | {found}
        return found

    def connect(self) -> Connection:
        """Open a connection; raises UnavailableError, in one sentence, where that fails."""
        try:
            if self.dialect == "sqlite":
                return Connection(self._sqlite(), "sqlite")
            return Connection(self._postgresql(), "postgresql")
        except (sqlite3.Error, OSError) as error:
            message = f"The store {shown(self.url)} cannot be opened: {error}."
            raise UnavailableError(message) from error

    def _sqlite(self) -> sqlite3.Connection:
        made = sqlite3.connect(
            str(self.path),
            timeout=_PATIENCE_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
        )
        made.row_factory = _as_dict
        made.execute("PRAGMA journal_mode=WAL")
        made.execute(f"PRAGMA synchronous={'FULL' if self.durable else 'NORMAL'}")
        made.execute("PRAGMA foreign_keys=ON")
        made.execute("PRAGMA cache_size=-32000")  # kB; trace ids fall anywhere in their index
        made.execute("PRAGMA wal_autocheckpoint=8000")  # pages
        made.execute("PRAGMA journal_size_limit=67108864")
        return made

    def _postgresql(self) -> Any:
        try:
            import psycopg
            from psycopg.rows import dict_row
        except ImportError as error:
            message = "A PostgreSQL store needs psycopg: pip install 'otel-agents[postgres]'."
            raise UnavailableError(message) from error
        url = self.url.replace("postgres://", "postgresql://", 1)
        try:
            return psycopg.connect(
                url,
                autocommit=True,
                row_factory=dict_row,
                connect_timeout=10,
            )
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


class Connection:
    """One connection; rows are dicts. It is used by one thread at a time."""

    def __init__(self, raw: Any, dialect: Dialect) -> None:
        self.raw = raw
        self.dialect = dialect
        self.thread = threading.current_thread()
        self.broken = False
        self._writing = False

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Run a statement and return its rows."""
        with self._watched():
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

    def many(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        """Run a statement once for each set of parameters."""
        with self._watched():
            self.raw.cursor().executemany(self._spelled(sql), parameters)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the store's one writer's place for a transaction; roll back where it fails."""
        if self._writing:
            yield
            return
        with self._watched():
            self.raw.execute("BEGIN IMMEDIATE" if self.dialect == "sqlite" else "BEGIN")
            if self.dialect == "postgresql":
                self.raw.execute("SELECT pg_advisory_xact_lock(%s)", (_WRITER_LOCK,))
        self._writing = True
        try:
            yield
            with self._watched():
                self.raw.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._writing = False

    @contextmanager
    def reading(self) -> Iterator[None]:
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

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error:
            raise
        except Exception:
            if getattr(self.raw, "closed", False) or getattr(self.raw, "broken", False):
                self.broken = True
            raise

    def _spelled(self, sql: str) -> str:
        return sql if self.dialect == "sqlite" else _for_postgresql(sql)

    def close(self) -> None:
        """Close the connection."""
        self.broken = True
        self.raw.close()


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


def _path(url: str) -> Path:
    parts = urlsplit(url)
    path = unquote(parts.path)
    # sqlite:///relative and sqlite:////absolute, as SQLAlchemy has them; a third way, with one
    # slash, is what people type.
    if not url.startswith("sqlite:///") or parts.query or path in {"", "/"}:
        message = f"The store {shown(url)} names no file: write sqlite:///PATH."
        raise SettingsError(message)
    return Path(path[1:] if path.startswith("//") else path).absolute()


def shown(url: str) -> str:
    """Return a URL without its login, for messages."""
    return re.sub(r"(?<=://)[^/\s@]*(?=@)", "[redacted]", url)
