"""One thread that writes: batches that wait together are committed together.

A commit costs a flush of the disk whatever it holds, so under load many requests share one, and a
request is acknowledged when its own commit is done. What waits is bounded: beyond that, and while
the disk is short or the database cannot be written, a request is turned away at once, to be sent
again.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Final

from otel_agents.boundary import boundary
from otel_agents.errors import UnavailableError
from otel_agents.store import schema
from otel_agents.store.indexing import MOST_BEHIND, Indexing
from otel_agents.store.ingest import Ingest
from otel_agents.store.projection import Projection

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_agents.store.batch import Batch
    from otel_agents.store.database import Database

    Done = Callable[[BaseException | None], None]

MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
MAX_WAITING: Final = 4096  # batches
MAX_COMMIT_BYTES: Final = 16 * 1024 * 1024
# At "no space left" not even a deletion works, so writing ends before.
MIN_FREE_BYTES: Final = 256 * 1024 * 1024
_LOOK_SECONDS: Final = 1.0  # between two looks at the disk
_TRY_AGAIN_SECONDS: Final = 1.0
_RETRY_AFTER: Final = 2
_CLOSED: Final = "The store is being closed."
# The index waits for a pause this long, or under load for this long since it was last added to.
_IDLE_SECONDS: Final = 0.02
# After making rows of runs, so many times as long for other things.
_REST: Final = 3.0
_INDEX_SECONDS: Final = 0.25
# Between two looks for what another process on the same store left behind when it died.
_AROUND_SECONDS: Final = 5.0

_LEFT: Final = """
    SELECT 1 AS one FROM runs WHERE dirty UNION ALL SELECT 1 AS one FROM unindexed LIMIT 1
"""


class Busy(UnavailableError):  # noqa: N818 - a state rather than a fault
    """The store cannot take more just now; `retry_after` is seconds to wait before another try."""

    def __init__(self, message: str, retry_after: int = _RETRY_AFTER) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Writer:
    """The store's one writer in this process."""

    def __init__(self, database: Database, *, min_free_bytes: int = MIN_FREE_BYTES) -> None:
        self._database = database
        self._min_free = min_free_bytes
        self._waiting: deque[tuple[Batch, Done]] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._closing = False
        self._thread: threading.Thread | None = None
        self._oldest = 0.0
        self._under_way = 0  # batches that are being committed, and since when they waited
        self._begun = 0.0
        self._problem: str | None = None
        self._looked = 0.0
        self._free: int | None = None
        self._dirty = True  # a process before us may have left runs without their rows
        self.dropped: Counter[str] = Counter()
        self._counting = threading.Lock()
        self.listeners: list[Callable[[], None]] = []
        self.ingest = Ingest(self._drop)
        self.indexing = Indexing()
        self.indexing.begin(database.here)
        self._indexed = 0.0
        self._project_from = 0.0
        self._keeps = False
        self._looked_around = time.monotonic()
        self.projection = Projection()

    def _drop(self, reason: str, count: int) -> None:
        with self._counting:
            self.dropped[reason] += count

    def submit(self, batch: Batch, done: Done) -> None:
        """Queue a batch; `done` is called after its commit, or with what went wrong.

        Raises Busy at once where it cannot be taken.
        """
        with self._wake:
            if (refusal := self._refusal(batch)) is not None:
                reason, busy = refusal
                self._drop(reason, 1)
                raise busy
            if not self._waiting:
                self._oldest = time.monotonic()
            self._waiting.append((batch, done))
            self._bytes += batch.size
            self._begin()
            self._wake.notify()

    def _refusal(self, batch: Batch) -> tuple[str, Busy] | None:
        """Return why a batch cannot be taken, counted and as an error, or None where it can."""
        if self._closing:
            return "closed", Busy(_CLOSED)
        if problem := self._short_of_disk():
            return "disk", Busy(problem, 30)
        if self._waiting and (
            self._bytes + batch.size > MAX_WAITING_BYTES or len(self._waiting) >= MAX_WAITING
        ):
            message = f"The store is behind: {self._bytes} bytes wait to be written."
            return "busy", Busy(message)
        if self.indexing.blocks > MOST_BEHIND:
            message = f"The index is {self.indexing.blocks} requests behind."
            return "busy", Busy(message, 10)
        return None

    def start(self) -> None:
        """Begin with what an earlier process left undone, and see to what others leave."""
        with self._wake:
            self._keeps = True
            self._begin()

    def _begin(self) -> None:
        """Start the thread unless there is one, or no more is to come; the lock is held."""
        if self._thread is None and not self._closing:
            self._thread = threading.Thread(
                target=self._work, name="otel-agents-store", daemon=True
            )
            self._thread.start()

    def write(self, batch: Batch) -> None:
        """Write a batch and wait for its commit; raises what went wrong."""
        finished = threading.Event()
        failed: list[BaseException] = []

        def done(error: BaseException | None) -> None:
            if error is not None:
                failed.append(error)
            finished.set()

        self.submit(batch, done)
        finished.wait()
        if failed:
            raise failed[0]

    def wrote(self) -> None:
        """Take note of signals that were committed otherwise: rows follow, listeners are told."""
        with self._wake:
            self._dirty = True
            self._begin()
            self._wake.notify()
        self._tell()

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._closing:
                    if not self._wake.wait(self._pause()):
                        break
                if not self._waiting and self._closing:
                    return
                taken = self._take()
            if taken:
                self._commit(taken)
                self._under_way = 0
            if self._dirty:
                self._project()
            if self.indexing.behind:
                self._index(idle=not taken)
            elif self._keeps:
                self._look_around()

    def _pause(self) -> float | None:
        """Return how long there is nothing to do but to wait for a batch; None for ever."""
        pauses = []
        if self._dirty:
            pauses.append(max(0.0, self._project_from - time.monotonic()))
        if self.indexing.behind:
            # Whoever sends on and on is answered first; see `_index`.
            pauses.append(_IDLE_SECONDS)
        if pauses:
            return min(pauses)
        return _AROUND_SECONDS if self._keeps else None

    def _look_around(self) -> None:
        """Take over what a process that died left without rows; only its signals or blocks came."""
        now = time.monotonic()
        if now - self._looked_around < _AROUND_SECONDS:
            return
        self._looked_around = now
        try:
            connection = self._database.here
            if connection.row(_LEFT) is not None:
                self.indexing.begin(connection)
                self._dirty = True
        except UnavailableError:
            return  # whoever writes next says so

    def _take(self) -> list[tuple[Batch, Done]]:
        taken: list[tuple[Batch, Done]] = []
        weight = 0
        while self._waiting and (not taken or weight + self._waiting[0][0].size < MAX_COMMIT_BYTES):
            taken.append(self._waiting.popleft())
            weight += taken[-1][0].size
        self._bytes -= weight
        self._under_way, self._begun = len(taken), self._oldest
        if self._waiting:
            self._oldest = time.monotonic()
        return taken

    def _commit(self, taken: list[tuple[Batch, Done]]) -> None:
        error = self._try([batch for batch, _ in taken])
        if error is not None and len(taken) > 1 and not isinstance(error, Busy):
            # One of them may be what the database does not take; it must not cost the others.
            for one in taken:
                self._commit([one])
            return
        if error is not None:
            self._drop(type(error.__cause__ or error).__name__, len(taken))
        for _, done in taken:
            try:
                done(error)
            except Exception as broken:  # noqa: BLE001 - a client that has gone, say
                boundary.warn("otel-agents: an acknowledgement failed: %r", broken)
        if error is None:
            if any(batch.signals for batch, _ in taken):
                self._dirty = True
            self._tell()

    def _try(self, batches: list[Batch], *, tried: bool = False) -> BaseException | None:
        """Commit batches; with `tried` something that changes nothing, but is flushed as they are.

        An empty transaction succeeds on a disk that takes nothing any more.
        """
        try:
            if self._database.gone:
                # Somebody removed the file: what comes from now on goes into a new one.
                schema.ensure(self._database)
                self.ingest.forget_series()
            connection = self._database.here
            with connection.writing():
                pending = self.ingest.write(connection, batches)
                if tried:
                    connection.run("UPDATE alembic_version SET version_num = version_num")
            self.indexing.add(pending)
        except UnavailableError as error:
            self._problem = str(error)
            busy = Busy(self._problem)
            busy.__cause__ = error.__cause__
            return busy
        except Exception as error:  # noqa: BLE001 - handed to whoever waits, and counted
            return error
        self._problem = None
        return None

    def _project(self) -> None:
        """Make the rows of some runs, unless that took too much of the time lately.

        The rows of a run of a thousand agents take a tenth of a second, whatever came of it.
        """
        began = time.monotonic()
        if began < self._project_from and not self._closing:
            return
        try:
            self._dirty = bool(self.projection.run(self._database.here))
        except Exception as error:  # noqa: BLE001 - the signals are there; the rows follow later
            self._problem = f"The rows of runs cannot be written: {error!r}."
            boundary.warn("otel-agents: %s", self._problem)
            with self._wake:
                self._wake.wait(_TRY_AGAIN_SECONDS)
            return
        ended = time.monotonic()
        self._project_from = ended + (ended - began) * _REST
        if self._dirty:
            self._tell()

    def _index(self, *, idle: bool) -> None:
        """Index some blocks if nobody waits, or if it was last done a while ago."""
        now = time.monotonic()
        if not idle and now - self._indexed < _INDEX_SECONDS:
            return
        try:
            self.indexing.step(self._database.here)
        except Exception as error:  # noqa: BLE001 - the blocks are there; their rows follow later
            self._problem = f"The index of traces cannot be written: {error!r}."
            boundary.warn("otel-agents: %s", self._problem)
            with self._wake:
                self._wake.wait(_TRY_AGAIN_SECONDS)
        if not idle:
            self._indexed = time.monotonic()

    def _tell(self) -> None:
        for listener in list(self.listeners):
            try:
                listener()
            except Exception as error:  # noqa: BLE001 - a listener harms nobody
                boundary.warn("otel-agents: a listener of the store failed: %r", error)

    def _short_of_disk(self) -> str | None:
        path = self._database.path
        if path is None:
            return None
        now = time.monotonic()
        if now - self._looked > _LOOK_SECONDS or self._free is None:
            self._looked = now
            try:
                self._free = shutil.disk_usage(path.parent).free
            except OSError as error:
                return f"The disk of the store cannot be looked at: {error}."
        if self._free < self._min_free:
            mib = self._free // (1024 * 1024)
            return f"The disk of the store has {mib} MiB left: make room."
        return None

    def health(self) -> dict[str, object]:
        """Return whether the store can be written, what is not committed yet and for how long."""
        with self._lock:
            waiting, weight = len(self._waiting) + self._under_way, self._bytes
            oldest = self._begun if self._under_way else self._oldest
            behind = time.monotonic() - oldest if waiting else 0.0
            unindexed = self.indexing.blocks
            unindexed_for = self.indexing.seconds
            short = self._short_of_disk()
        problem = short or self._problem
        return {
            "writable": problem is None and not self._closing,
            "waiting": waiting,
            "waiting_bytes": weight,
            "behind_seconds": round(max(behind, unindexed_for), 3),
            "unindexed": unindexed,
            "free_bytes": self._free,
            "problem": problem,
        }

    def checked(self) -> None:
        """Try whether the database can be written again, where it could not."""
        if self._problem is not None or self._database.gone:
            self._try([], tried=True)

    def close(self, seconds: float = 5.0) -> None:
        """Write what waits and stop."""
        with self._wake:
            self._closing = True
            self._wake.notify()
            thread = self._thread
        if thread is not None:
            thread.join(seconds)
        with self._wake:
            left, self._waiting = list(self._waiting), deque()
        for _, done in left:
            self._drop("closed", 1)
            done(Busy(_CLOSED))
