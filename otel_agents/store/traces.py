"""Questions about traces, log records and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_agents.errors import InvalidInputError, NotFoundError
from otel_agents.state.times import rfc3339
from otel_agents.store import blocks, indexing, paging, sums
from otel_agents.store.rows import from_json, short
from otel_agents.vocabulary import RUN_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    from otel_agents.store.database import Connection

STATUSES: Final = ("ok", "error")
# What one question decodes at the most; a trace of more spans is shown as far as this goes.
MAX_SPANS: Final = 20_000
_MAX_BLOCKS: Final = 2_000


def list_traces(
    connection: Connection,
    *,
    q: str | None,
    service: str | None,
    status: str | None,
    since: int | None,
    until: int | None,
    cursor: str | None,
    limit: int,
) -> dict[str, Any]:
    """Return a page of traces, the last to start first."""
    where: list[str] = ["TRUE"]
    values: list[Any] = []
    if q:
        clause, patterns = paging.contains(connection.dialect, ("root",), q)
        where.append(f"({clause} OR run_id = ? OR trace_id = ?)")
        values += [*patterns, short(q), _as_bytes(q) or b"-"]
    if status is not None:
        where.append("errors > 0" if status == "error" else "errors = 0")
    for clause, value in (
        ("service = ?", service), ("started_ns >= ?", since), ("started_ns < ?", until),
    ):  # fmt: skip
        if value is not None:
            where.append(clause)
            values.append(value)
    wanted = _Wanted(connection, " AND ".join(where), values)
    position = paging.decode("traces", cursor, int, str)
    after = None if position is None else (position[0], _as_bytes(position[1]) or b"")
    rows = wanted.firsts(after, limit + 1)
    whole = {bytes(row["trace_id"]): row for row in _whole(connection, rows)}
    return paging.page(
        "traces",
        rows,
        limit,
        lambda row: (row["started_ns"], bytes(row["trace_id"]).hex()),
        lambda row: _trace_row(whole[bytes(row["trace_id"])]),
    )


class _Wanted(NamedTuple):
    """Rows of traces that a question is about."""

    connection: Connection
    where: str
    values: list[Any]

    def firsts(self, after: tuple[int, bytes] | None, most: int) -> list[dict[str, Any]]:
        """Return the rows of the next traces, the last to start first.

        A trace that came in several blocks has several rows; the first of those that are wanted
        stands for it, so that it is listed once. They are looked up for the rows at hand: asked
        in one statement, PostgreSQL would look them up for all rows there are.
        """
        found: list[dict[str, Any]] = []
        while len(found) < most:
            place: list[Any] = []
            clause = ""
            if after is not None:
                clause = " AND (started_ns < ? OR (started_ns = ? AND trace_id > ?))"
                place = [after[0], after[0], after[1]]
            rows = self.connection.rows(
                f"SELECT trace_id, started_ns FROM traces WHERE {self.where}{clause} "  # noqa: S608
                "ORDER BY started_ns DESC, trace_id LIMIT ?",
                [*self.values, *place, most],
            )
            firsts = self._starts({bytes(row["trace_id"]) for row in rows})
            seen = {bytes(row["trace_id"]) for row in found}
            for row in rows:
                trace_id = bytes(row["trace_id"])
                if row["started_ns"] == firsts[trace_id] and trace_id not in seen:
                    seen.add(trace_id)
                    found.append(row)
            if len(rows) < most:
                break
            after = rows[-1]["started_ns"], bytes(rows[-1]["trace_id"])
        return found[:most]

    def _starts(self, trace_ids: set[bytes]) -> dict[bytes, int]:
        if not trace_ids:
            return {}
        places = ", ".join("?" for _ in trace_ids)
        rows = self.connection.rows(
            "SELECT trace_id, MIN(started_ns) AS first FROM traces "  # noqa: S608
            f"WHERE trace_id IN ({places}) AND {self.where} GROUP BY trace_id",
            [*trace_ids, *self.values],
        )
        return {bytes(row["trace_id"]): row["first"] for row in rows}


def _whole(connection: Connection, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what all blocks together say of some traces."""
    if not rows:
        return []
    places = ", ".join("?" for _ in rows)
    return connection.rows(
        "SELECT trace_id, MIN(started_ns) AS started_ns, MAX(ended_ns) AS ended_ns, "  # noqa: S608
        "CAST(SUM(spans) AS BIGINT) AS spans, CAST(SUM(errors) AS BIGINT) AS errors, "
        "MAX(root) AS root, MAX(service) AS service, MAX(run_id) AS run_id "
        f"FROM traces WHERE trace_id IN ({places}) GROUP BY trace_id",
        [row["trace_id"] for row in rows],
    )


def _trace_row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "trace_id": bytes(row["trace_id"]).hex(),
        "root": row["root"] or None,
        "service": row["service"] or None,
        "started_at": rfc3339(row["started_ns"]),
        "duration_ms": (row["ended_ns"] - row["started_ns"]) / 1e6,
        "spans": row["spans"],
        "errors": row["errors"],
        "run_id": row["run_id"] or None,
    }


def _as_bytes(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def trace(connection: Connection, trace_id: str) -> dict[str, Any]:
    """Return a trace with its spans, parents before their children.

    Raises InvalidInputError where the id is none, NotFoundError where there is no such trace.
    """
    known = _as_bytes(trace_id)
    if known is None or len(known) != 16:  # noqa: PLR2004 - as long as a trace id is
        message = f"trace_id: {trace_id[:100]!r} is no trace id of 32 hexadecimal digits."
        raise InvalidInputError(message, parameter="trace_id")
    spans = blocks.spans_of(_bodies(connection, [known]), {known}, MAX_SPANS)
    if not spans:
        message = f"There is no trace {trace_id} in the store."
        raise NotFoundError(message)
    ordered = in_tree_order(spans)
    runs = connection.rows(
        "SELECT DISTINCT run_id FROM traces WHERE trace_id = ? AND run_id <> ''", (known,)
    )
    first = min(spans, key=lambda span: span["start_ms"])
    return {
        "trace_id": trace_id.lower(),
        "started_at": first["started_at"],
        "duration_ms": max(span["start_ms"] + span["duration_ms"] for span in spans),
        "services": sorted({span["service"] for span in spans}),
        "spans": ordered,
        "run_ids": sorted(row["run_id"] for row in runs),
    }


def _bodies(connection: Connection, trace_ids: list[bytes]) -> Iterator[bytes]:
    """Yield the blocks that hold spans of some traces, one at a time: they can be large."""
    places = ", ".join("?" for _ in trace_ids)
    rows = connection.rows(
        "SELECT DISTINCT block_id FROM traces "  # noqa: S608 - places only
        f"WHERE trace_id IN ({places}) ORDER BY block_id LIMIT {_MAX_BLOCKS}",
        trace_ids,
    )
    for row in rows:
        found = connection.row("SELECT body FROM blocks WHERE id = ?", (row["block_id"],))
        if found is not None:
            yield bytes(found["body"])


def in_tree_order(spans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return spans with each parent before its children, siblings by time.

    A span whose parent is not there, or that is its own ancestor, stands as a root; `depth` says
    how far down each one is.
    """
    by_id = {(span["trace_id"], span["span_id"]): span for span in spans}
    children: dict[tuple[str, str], list[dict[str, Any]]] = {}
    roots = []
    for span in sorted(spans, key=lambda one: (one["start_ms"], one["span_id"])):
        parent = span["trace_id"], span["parent_id"] or ""
        if parent in by_id and parent[1] != span["span_id"]:
            children.setdefault(parent, []).append(span)
        else:
            roots.append(span)
    ordered: list[dict[str, Any]] = []
    seen: set[tuple[str, str]] = set()

    def walk(start: dict[str, Any]) -> None:
        # By hand: a chain of a hundred thousand spans is deeper than Python recurses.
        stack = [(start, 0)]
        while stack:
            span, depth = stack.pop()
            key = span["trace_id"], span["span_id"]
            if key in seen:
                continue
            seen.add(key)
            ordered.append({**span, "depth": depth})
            stack += [(child, depth + 1) for child in reversed(children.get(key, []))]

    for root in roots:
        walk(root)
    for span in spans:  # what is left goes round in a circle
        walk(span)
    return ordered


def run_spans(
    connection: Connection, trace_ids: list[str], run_id: str, cursor: str | None, limit: int
) -> dict[str, Any]:
    """Return a page of the spans of a run's traces, by time of start."""
    known = [found for one in trace_ids if (found := _as_bytes(one)) is not None]
    position = paging.decode("run_spans", cursor, str, str, str)
    if not known:
        return {"items": [], "next_cursor": None}
    spans = blocks.spans_of(_bodies(connection, known[:500]), set(known), MAX_SPANS)
    key = RUN_ID.key
    # Other runs may share the trace; a span without an id belongs to whoever owns the trace.
    mine = [span for span in spans if span["attributes"].get(key, run_id) == run_id]
    mine.sort(key=_place)
    if position is not None:
        mine = [span for span in mine if _place(span) > tuple(position)]
    return paging.page("run_spans", mine, limit, _place, lambda span: span)


def _place(span: dict[str, Any]) -> tuple[str, str, str]:
    return span["started_at"], span["trace_id"], span["span_id"]


def delete_spans(connection: Connection, trace_ids: list[str], run_id: str) -> int:
    """Take the spans of a run out of the blocks that hold them; return how many went.

    Those of other runs in the same traces stay. A span that names no run goes with the run, where
    its trace is of no other.
    """
    wanted = {known for one in trace_ids if (known := _as_bytes(one)) is not None}
    numbers: set[int] = set()
    for known in wanted:
        rows = connection.rows("SELECT block_id FROM traces WHERE trace_id = ?", (known,))
        numbers |= {row["block_id"] for row in rows}
    shared: set[bytes] = set()
    for _, body in _bodies_of(connection, numbers):
        shared |= {known for known, ids in blocks.runs_in(body).items() if ids - {"", run_id}}

    def unwanted(span: Span) -> bool:
        if span.trace_id not in wanted:
            return False
        said = blocks.run_of(span)
        return said == run_id or (not said and span.trace_id not in shared)

    removed = 0
    for number, body in _bodies_of(connection, numbers):
        block, count = blocks.without(body, unwanted)
        if not count:
            continue
        removed += count
        # The digest stays, and an emptied block with it: the request that brought the spans must
        # not bring them again.
        connection.run(
            "UPDATE blocks SET body = ?, spans = ? WHERE id = ?", (block.body, block.spans, number)
        )
        connection.many(
            "DELETE FROM traces WHERE trace_id = ? AND block_id = ?",
            [(known, number) for known in blocks.runs_in(body)],
        )
        indexing.write(connection, [(number, block.traces)])
    return removed


def _bodies_of(connection: Connection, numbers: set[int]) -> Iterator[tuple[int, bytes]]:
    for number in sorted(numbers):
        row = connection.row("SELECT body FROM blocks WHERE id = ?", (number,))
        if row is not None:
            yield number, bytes(row["body"])


def list_logs(
    connection: Connection,
    *,
    run_id: str | None,
    agent_id: str | None,
    trace_id: str | None,
    q: str | None,
    severity: int | None,
    cursor: str | None,
    limit: int,
) -> dict[str, Any]:
    """Return a page of log records, the latest first; `severity` is the least number."""
    where: list[str] = ["TRUE"]
    values: list[Any] = []
    for column, value in (("run_id", run_id), ("agent_id", agent_id), ("trace_id", trace_id)):
        if value is not None:
            where.append(f"{column} = ? AND {column} <> ''")
            values.append(short(value))
    if severity is not None:
        where.append("severity >= ?")
        values.append(severity)
    if q:
        clause, patterns = paging.contains(connection.dialect, ("body",), q)
        where.append(clause)
        values += patterns
    position = paging.decode("logs", cursor, int, int)

    def ask(last: dict[str, Any] | None, wanted: int) -> list[dict[str, Any]]:
        clauses, given = list(where), list(values)
        after = position if last is None else (last["time_ns"], last["seq"])
        if after is not None:
            clauses.append("(time_ns < ? OR (time_ns = ? AND seq > ?))")
            given += [after[0], after[0], after[1]]
        return connection.rows(
            f"SELECT * FROM logs WHERE {' AND '.join(clauses)} "  # noqa: S608 - clauses of ours
            "ORDER BY time_ns DESC, seq LIMIT ?",
            [*given, wanted],
        )

    rows = sums.paged("log record", sums.sound_log, ask, limit + 1)
    return paging.page("logs", rows, limit, lambda row: (row["time_ns"], row["seq"]), _log_row)


def _log_row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "seq": row["seq"],
        "timestamp": rfc3339(row["time_ns"]),
        "severity": row["severity"],
        "severity_text": row["severity_text"] or None,
        "body": row["body"],
        "event_name": row["event_name"] or None,
        "service": row["service"] or None,
        "run_id": row["run_id"] or None,
        "phase": row["phase"] or None,
        "agent_id": row["agent_id"] or None,
        "trace_id": row["trace_id"] or None,
        "span_id": row["span_id"] or None,
        "attributes": from_json(row["attributes"]),
    }


def list_metrics(
    connection: Connection, *, name: str | None, cursor: str | None, limit: int
) -> dict[str, Any]:
    """Return a page of the latest points of metrics, by name."""
    where: list[str] = ["TRUE"]
    values: list[Any] = []
    if name is not None:
        where.append("name = ?")
        values.append(short(name))
    position = paging.decode("metrics", cursor, str, str)
    if position is not None:
        where.append("(name > ? OR (name = ? AND series > ?))")
        values += [position[0], position[0], _as_bytes(position[1]) or b""]
    rows = connection.rows(
        f"SELECT * FROM metrics WHERE {' AND '.join(where)} ORDER BY name, series LIMIT ?",  # noqa: S608
        [*values, limit + 1],
    )
    return paging.page(
        "metrics", rows, limit, lambda row: (row["name"], bytes(row["series"]).hex()), _metric_row
    )


def _metric_row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": row["name"],
        "unit": row["unit"],
        "kind": row["kind"],
        "service": row["service"] or None,
        "instance": row["instance"] or None,
        "attributes": from_json(row["attributes"]),
        "timestamp": rfc3339(row["time_ns"]),
        "value": row["value"],
        "count": row["count"],
        "sum": row["sum"],
        "detail": from_json(row["detail"]),
    }
