"""Keeping the store small: by age, by size, and by giving the disk back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from otel_agents.errors import SettingsError
from otel_agents.store import alerts, blocks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_agents.store.database import Connection, Database

RETAIN_DAYS: Final = 30.0
MAX_BYTES: Final = 4 * 1024**3
_STEP: Final = 500  # blocks or rows that one transaction deletes: writers wait no longer than that
_DAY: Final = 86_400 * 10**9
_SHARE: Final = 0.9  # once full, a tenth is made free, so that not every request has to delete
_METRICS_DAYS: Final = 1.0  # a series that is silent for a day is gone


class Retention(msgspec.Struct, frozen=True):
    """How long and how much is kept: the table `[store]` of the settings."""

    retain_days: float = RETAIN_DAYS
    max_bytes: int = MAX_BYTES


def retention_of(table: Mapping[str, Any] | None) -> Retention:
    """Return the retention that a `[store]` table asks for.

    Raises SettingsError, in one sentence, where a value cannot be used.
    """
    found: dict[str, Any] = {}
    for key in Retention.__struct_fields__:
        value = (table or {}).get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            message = f"[store] {key} is {value!r}, and must be a number above 0."
            raise SettingsError(message)
        found[key] = float(value) if key == "retain_days" else int(value)
    return Retention(**found)


def maintain(database: Database, retention: Retention, now: int | None = None) -> dict[str, int]:
    """Delete what is too old or too much; return how many runs, blocks and rows went."""
    connection = database.here
    moment = time.time_ns() if now is None else now
    gone = {"runs": 0, "signals": 0, "blocks": 0, "logs": 0}
    oldest = moment - int(retention.retain_days * _DAY)
    _delete_before(connection, oldest, gone)
    with connection.writing():
        silent = moment - int(min(_METRICS_DAYS, retention.retain_days) * _DAY)
        connection.run("DELETE FROM metrics WHERE time_ns < ?", (silent,))
    target = retention.max_bytes
    if size(connection) > target:
        while size(connection) > target * _SHARE and _delete_oldest(connection, gone):
            pass
    if connection.dialect == "sqlite" and any(gone.values()):
        connection.script("PRAGMA incremental_vacuum(20000)")
        connection.rows("PRAGMA wal_checkpoint(PASSIVE)")
    return gone


def size(connection: Connection) -> int:
    """Return the bytes in use, without what deletions left free."""
    if connection.dialect == "postgresql":
        # Its files do not shrink when rows go, so what the rows hold is added up; a third more is
        # about what pages and indexes cost.
        row = connection.row(
            "SELECT (SELECT COALESCE(SUM(octet_length(body)), 0) FROM blocks) + "
            "(SELECT COALESCE(SUM(octet_length(body)), 0) FROM signals) + "
            "(SELECT COALESCE(SUM(octet_length(body) + octet_length(attributes::text)), 0) "
            "FROM logs) AS bytes"
        )
        return int(row["bytes"]) * 4 // 3 if row else 0
    row = connection.row(
        "SELECT (page_count - freelist_count) * page_size AS bytes "
        "FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()"
    )
    return int(row["bytes"]) if row else 0


def _delete_before(connection: Connection, oldest: int, gone: dict[str, int]) -> None:
    while True:
        with connection.writing():
            rows = connection.rows(
                "SELECT run_id FROM runs WHERE updated_ns < ? AND NOT dirty "
                "ORDER BY updated_ns LIMIT 50",
                (oldest,),
            )
            for row in rows:
                gone["signals"] += delete_run_rows(connection, row["run_id"])
            gone["runs"] += len(rows)
        if not rows:
            break
    for table, column in (("signals", "time_ns"), ("logs", "time_ns")):
        while True:
            with connection.writing():
                free = " AND run_id = ''" if table == "signals" else ""
                count = connection.run(
                    f"DELETE FROM {table} WHERE seq IN (SELECT seq FROM {table} "  # noqa: S608
                    f"WHERE {column} < ?{free} LIMIT {_STEP * 10})",
                    (oldest,),
                )
            gone[table] += count
            if count < _STEP * 10:
                break
    while True:
        with connection.writing():
            numbers = _blocks(connection, "WHERE received_ns < ?", (oldest,))
            delete_blocks(connection, numbers)
        gone["blocks"] += len(numbers)
        if len(numbers) < _STEP:
            break
    _delete_facts(connection, oldest)


def _delete_facts(connection: Connection, oldest: int) -> None:
    from otel_agents.store.rows import stamp

    with connection.writing():
        connection.run("DELETE FROM ai_runtime_events WHERE occurred_at < ?", (stamp(oldest),))
        connection.run("DELETE FROM ai_worker_status WHERE updated_at < ?", (stamp(oldest),))
        connection.run("DELETE FROM facts WHERE updated_ns < ?", (oldest,))
        connection.run("DELETE FROM tasks WHERE updated_ns < ?", (oldest,))
        connection.run("DELETE FROM breakers WHERE changed_ns < ?", (oldest,))
        connection.run("DELETE FROM waits WHERE run_id = '' AND updated_ns < ?", (oldest,))
        alerts.prune(connection, oldest)


def _delete_oldest(connection: Connection, gone: dict[str, int]) -> bool:
    """Delete the oldest spans, logs and ended runs; say whether there was anything."""
    with connection.writing():
        numbers = _blocks(connection, "", ())
        delete_blocks(connection, numbers)
        logs = connection.run(
            f"DELETE FROM logs WHERE seq IN (SELECT seq FROM logs ORDER BY seq LIMIT {_STEP * 4})"  # noqa: S608
        )
        # Runs are what people look for, and small: they go ten at a time, those under way never.
        runs = connection.rows(
            "SELECT run_id FROM runs WHERE status NOT IN ('running', 'waiting') "
            "ORDER BY updated_ns LIMIT 10"
        )
        for row in runs:
            gone["signals"] += delete_run_rows(connection, row["run_id"])
        free = connection.run(
            f"DELETE FROM signals WHERE seq IN (SELECT seq FROM signals WHERE run_id = '' "  # noqa: S608
            f"ORDER BY seq LIMIT {_STEP})"
        )
    gone["blocks"] += len(numbers)
    gone["logs"] += logs
    gone["runs"] += len(runs)
    gone["signals"] += free
    return bool(numbers or logs or runs or free)


def _blocks(connection: Connection, where: str, parameters: tuple[Any, ...]) -> list[int]:
    rows = connection.rows(
        f"SELECT id FROM blocks {where} ORDER BY received_ns LIMIT {_STEP}",  # noqa: S608
        parameters,
    )
    return [row["id"] for row in rows]


def delete_blocks(connection: Connection, numbers: list[int]) -> None:
    """Delete blocks, and what they say of traces; which ones those are, they know themselves."""
    for number in numbers:
        row = connection.row("SELECT body FROM blocks WHERE id = ?", (number,))
        if row is None:
            continue
        places = [(trace_id, number) for trace_id in blocks.runs_in(bytes(row["body"]))]
        connection.many("DELETE FROM traces WHERE trace_id = ? AND block_id = ?", places)
        connection.run("DELETE FROM unindexed WHERE block_id = ?", (number,))
        connection.run("DELETE FROM unindexed WHERE block_id = ?", (number,))
        connection.run("DELETE FROM blocks WHERE id = ?", (number,))


# What is kept of a run beside its signals.
_OF_A_RUN: Final = ("iterations", "phases", "agents", "telemetry", "waits", "runs")


def delete_run_rows(connection: Connection, run_id: str) -> int:
    """Delete a run's signals and rows; return how many signals there were."""
    count = connection.run("DELETE FROM signals WHERE run_id = ?", (run_id,))
    for table in _OF_A_RUN:
        connection.run(f"DELETE FROM {table} WHERE run_id = ?", (run_id,))  # noqa: S608
    return count
