"""The index of traces: what the blocks say of each, written after the blocks are committed.

A block is durable with its commit, and only then acknowledged; the rows by which its traces are
found follow, when nobody waits or a second has passed. A block stands in `unindexed` from its
commit until its rows are there, so that an index that was left behind by a process that died is
made up for by the next.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from otel_agents.store import blocks
from otel_agents.store.rows import short

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_agents.store.batch import TraceSummary
    from otel_agents.store.database import Connection

    Pending = tuple[int, Mapping[bytes, TraceSummary]]

# Rows that wait in memory, some 20 MB of them; the rest is read from its blocks again.
_MOST_WAITING: Final = 60_000
# Rows written in one transaction: some 20 ms, which is what a request may have to wait for it.
_AT_ONCE: Final = 3_000
_BLOCKS_AT_ONCE: Final = 300
# Blocks that may be behind before more is turned away; of 500 spans each they are 25 million.
MOST_BEHIND: Final = 50_000

_ROW: Final = """
    INSERT INTO traces (trace_id, block_id, started_ns, ended_ns, spans, errors, root, service,
        run_id)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (trace_id, block_id) DO NOTHING
"""
_LEFT: Final = """
    SELECT unindexed.block_id, blocks.body, blocks.received_ns FROM unindexed
    JOIN blocks ON blocks.id = unindexed.block_id
    ORDER BY unindexed.block_id LIMIT ?
"""


class Indexing:
    """What is still to be indexed, and the writing of it."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Mapping[bytes, TraceSummary], int]] = deque()
        self._rows = 0
        self._left = False
        self._at_it = False  # a step is being written
        self._count = 0
        self._until = time.time_ns()

    def begin(self, connection: Connection) -> None:
        """Look what a process before us left without rows."""
        row = connection.row("SELECT COUNT(*) AS number FROM unindexed")
        self._count = row["number"] if row is not None else 0
        self._left = self._count > 0

    def add(self, pending: list[Pending]) -> None:
        """Take note of blocks that were committed."""
        if not pending:
            return
        now = time.time_ns()
        if not self.behind:
            self._until = now
        self._count += len(pending)
        for number, traces in pending:
            if self._left or self._rows >= _MOST_WAITING:
                self._left = True
            else:
                self._waiting.append((number, traces, now))
                self._rows += len(traces)

    @property
    def behind(self) -> bool:
        """Whether anything is still to be indexed."""
        return self._left or self._at_it or bool(self._waiting)

    @property
    def blocks(self) -> int:
        """How many blocks are to be indexed, as far as this process knows."""
        return self._count

    @property
    def seconds(self) -> float:
        """How old what was indexed last had become; 0 where nothing waits."""
        return max(0, time.time_ns() - self._until) / 1e9 if self.behind else 0.0

    def step(self, connection: Connection) -> None:
        """Index some blocks, the oldest first."""
        self._at_it = True
        try:
            with connection.writing(durable=False):
                found = self._some(connection)
                write(connection, _still(connection, found))
                connection.many(
                    "DELETE FROM unindexed WHERE block_id = ?", [(number,) for number, _ in found]
                )
        except BaseException:
            self._left = True  # what was taken for this is not in memory any more
            raise
        finally:
            self._at_it = False
        self._count = max(0, self._count - len(found)) if self.behind else 0
        if self._waiting or found:
            return
        self._left = False
        self._count = 0

    def _some(self, connection: Connection) -> list[Pending]:
        found: list[Pending] = []
        rows = 0
        while self._waiting and rows < _AT_ONCE:
            number, traces, self._until = self._waiting.popleft()
            found.append((number, traces))
            rows += len(traces)
        self._rows -= rows
        if found or not self._left:
            return found
        for row in connection.rows(_LEFT, (_BLOCKS_AT_ONCE,)):
            traces = blocks.summaries(bytes(row["body"]))
            found.append((row["block_id"], traces))
            self._until = row["received_ns"]
            rows += len(traces)
            if rows >= _AT_ONCE:
                break
        return found


def write(connection: Connection, found: list[Pending]) -> None:
    """Write what blocks say of traces."""
    rows = [row for number, traces in found for row in _rows(number, traces)]
    # In the order of the table: neighbours are written together.
    rows.sort(key=_trace_id)
    connection.many(_ROW, rows)


def _still(connection: Connection, found: list[Pending]) -> list[Pending]:
    """Return the blocks among some that nobody has deleted or indexed since."""
    if not found:
        return []
    numbers = [number for number, _ in found]
    rows = connection.rows(
        "SELECT block_id FROM unindexed WHERE block_id BETWEEN ? AND ?",
        (min(numbers), max(numbers)),
    )
    left = {row["block_id"] for row in rows}
    return [one for one in found if one[0] in left]


def _rows(number: int, traces: Mapping[bytes, TraceSummary]) -> list[tuple[Any, ...]]:
    return [
        (
            trace_id, number, one.started, one.ended, one.spans, one.errors,
            short(one.root), short(one.service), short(one.run_id),
        )
        for trace_id, one in traces.items()
    ]  # fmt: skip


def _trace_id(row: tuple[Any, ...]) -> bytes:
    found: bytes = row[0]
    return found
