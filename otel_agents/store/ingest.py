"""A batch into the tables: everything in one transaction, and nothing twice."""

from __future__ import annotations

import time
from collections import OrderedDict
from functools import cache
from hashlib import blake2b
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeVar

from otel_agents.signals import event_name
from otel_agents.store import facts, sums, waits
from otel_agents.store.rows import bounded, clean, finite, short, to_json
from otel_agents.vocabulary import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from otel_agents.signals import Signal
    from otel_agents.store.batch import Batch, Block, LogRecord, Point
    from otel_agents.store.database import Connection
    from otel_agents.store.indexing import Pending

_T = TypeVar("_T")
# Series of metrics are a program's to choose, and a mistaken label makes one for every value.
MAX_SERIES: Final = 50_000
_PREFIX: Final = len(NAMESPACE) + 1

_TOGETHER: Final = 64  # rows in one statement
_SIGNAL: Final = """
    INSERT INTO signals (id, run_id, type, time_ns, body) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (id) DO NOTHING
"""
_DIRTY_RUN: Final = """
    INSERT INTO runs (run_id, dirty, status, started_ns, updated_ns)
    VALUES (?, TRUE, 'running', ?, ?)
    ON CONFLICT (run_id) DO UPDATE SET dirty = TRUE
"""
_ROUTE: Final = """
    INSERT INTO routes (provider, model, last_used_ns) VALUES (?, ?, ?)
    ON CONFLICT (provider, model) DO UPDATE SET last_used_ns = excluded.last_used_ns
    WHERE excluded.last_used_ns > routes.last_used_ns
"""
_LOG: Final = """
    INSERT INTO logs (digest, time_ns, severity, severity_text, body, event_name, service,
        run_id, phase, agent_id, trace_id, span_id, attributes)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING
"""
_POINT: Final = """
    INSERT INTO metrics (series, name, unit, kind, service, instance, attributes,
        started_ns, time_ns, value, count, sum, detail)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (series) DO UPDATE SET started_ns = excluded.started_ns,
        time_ns = excluded.time_ns, value = excluded.value, count = excluded.count,
        sum = excluded.sum, detail = excluded.detail
    WHERE excluded.time_ns >= metrics.time_ns
"""


class Ingest:
    """Writes batches; it remembers which series of metrics there are.

    `dropped` is called with a reason and a number for what is not stored.
    """

    def __init__(self, dropped: Callable[[str, int], None]) -> None:
        self._dropped = dropped
        self._series: OrderedDict[bytes, None] | None = None

    def write(self, connection: Connection, batches: Sequence[Batch]) -> list[Pending]:
        """Write batches within the transaction that is open; return the blocks to be indexed."""
        now = time.time_ns()
        pending = _blocks(connection, (block for batch in batches for block in batch.blocks), now)
        write_signals(connection, [signal for batch in batches for signal in batch.signals])
        logs = [_log(record) for batch in batches for record in batch.logs]
        if logs:
            connection.many(_LOG, logs)
        points = [point for batch in batches for point in batch.points]
        if points:
            self._points(connection, points)
        return pending

    def _points(self, connection: Connection, points: list[Point]) -> None:
        if self._series is None:
            rows = connection.rows("SELECT series FROM metrics")
            self._series = OrderedDict.fromkeys(bytes(row["series"]) for row in rows)
        kept = []
        left_out = 0
        for point in points:
            attributes = to_json(dict(sorted(point.attributes.items())))
            names = point.name, point.service, point.instance, attributes, point.kind
            series = blake2b("\0".join(names).encode("utf-8", "replace"), digest_size=16).digest()
            if series not in self._series:
                if len(self._series) >= MAX_SERIES:
                    left_out += 1
                    continue
                self._series[series] = None
            kept.append((
                series, short(point.name), clean(point.unit), point.kind, clean(point.service),
                clean(point.instance), attributes, bounded(point.start), bounded(point.time),
                finite(point.value), None if point.count is None else bounded(point.count),
                finite(point.sum), to_json(point.detail),
            ))  # fmt: skip
        connection.many(_POINT, kept)
        if left_out:
            self._dropped("too many series", left_out)

    def forget_series(self) -> None:
        """Look up anew which series there are, after some were deleted."""
        self._series = None


def batched(values: Iterable[_T], most: int) -> Iterator[tuple[_T, ...]]:
    """Yield values in groups of at most so many (`itertools.batched` is of Python 3.12)."""
    left = iter(values)
    while group := tuple(islice(left, most)):
        yield group


def _blocks(connection: Connection, blocks: Iterable[Block], now: int) -> list[Pending]:
    # Of one digest one is enough; a request that came before is not returned by the statement.
    wanted = {block.digest: block for block in blocks if block.spans}
    found: list[Pending] = []
    for digests in batched(wanted, _TOGETHER):
        values = [
            value
            for digest in digests
            for value in (digest, now, wanted[digest].spans, wanted[digest].body)
        ]
        rows = connection.rows(_insert_blocks(len(digests)), values)
        found += [(row["id"], wanted[bytes(row["digest"])].traces) for row in rows]
    found.sort(key=itemgetter(0))
    for numbers in batched([number for number, _ in found], _TOGETHER):
        connection.run(_insert_unindexed(len(numbers)), numbers)
    return found


@cache
def _insert_blocks(rows: int) -> str:
    """Return the statement that inserts so many blocks: for PostgreSQL each one is a journey."""
    values = ", ".join("(?, ?, ?, ?)" for _ in range(rows))
    return (
        f"INSERT INTO blocks (digest, received_ns, spans, body) VALUES {values} "  # noqa: S608
        "ON CONFLICT (digest) DO NOTHING RETURNING id, digest"
    )


@cache
def _insert_unindexed(rows: int) -> str:
    return f"INSERT INTO unindexed (block_id) VALUES {', '.join('(?)' for _ in range(rows))}"  # noqa: S608


def write_signals(connection: Connection, signals: Sequence[Signal]) -> None:
    """Write signals and what the facts among them say, within the transaction that is open.

    The rows of runs are made from their signals afterwards, by `projection`.
    """
    if not signals:
        return
    rows = []
    touched: dict[str, tuple[int, int]] = {}  # from when to when
    for signal in signals:
        run_id = short(signal.ids.run_id or "")
        when = bounded(signal.time)
        kind = short(event_name(signal)[_PREFIX:])
        body = sums.sealed(to_json(signal), run_id, kind, when)
        rows.append((short(signal.id), run_id, kind, when, body))
        if run_id:
            first, last = touched.get(run_id, (when, when))
            touched[run_id] = min(when, first), max(when, last)
    connection.many(_SIGNAL, rows)
    if touched:
        # Until its row is made a run is shown by these: by the first time alone it would be lost.
        connection.many(_DIRTY_RUN, [(run_id, *times) for run_id, times in touched.items()])
    _routes(connection, signals)
    facts.write(connection, signals)
    waits.write(connection, signals)


def _routes(connection: Connection, signals: Sequence[Signal]) -> None:
    """Write which models were used when; what is said of usage later does not undo it."""
    found: dict[tuple[str, str], int] = {}
    for signal in signals:
        for use in signal.models:
            if use.model:
                route = short(use.provider), short(use.model)
                found[route] = max(bounded(signal.time), found.get(route, 0))
    if found:
        connection.many(_ROUTE, [(*route, when) for route, when in sorted(found.items())])


def _log(record: LogRecord) -> tuple[Any, ...]:
    attributes = to_json(record.attributes)
    texts = record.severity_text, record.body, record.event_name, record.service
    ids = record.run_id, record.phase, record.agent_id, record.trace_id, record.span_id
    values = (
        bounded(record.time), bounded(record.severity), *map(clean, texts), *map(short, ids),
        attributes,
    )  # fmt: skip
    return sums.digest_of_log(values), *values
