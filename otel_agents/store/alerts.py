"""Alerts as Alertmanager tells of them: one row for each fingerprint, and what it came to last.

A notification says nothing of when it was sent. What it says of an alert is put in order by the
times of the alert itself: an episode that began later is newer, and within one its end is. An
alert that goes on is told of again and again, at every `repeat_interval` of Alertmanager's route;
one that was not confirmed for three times that long is stale: nobody knows any more.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from otel_agents.state.times import rfc3339
from otel_agents.state.view import moment
from otel_agents.store import paging
from otel_agents.store.rows import clean, from_json, short, to_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_agents.store.database import Connection

STATUSES: Final = ("firing", "resolved", "stale")
# Three times the `repeat_interval` of the route in deploy/alertmanager.
STALE_SECONDS: Final = 3 * 3600.0
MOST_ROWS: Final = 2000
# Alertmanager tries a notification again until the next one of its group is due, after the
# `group_interval` of that route (1 min). What says that an ended episode goes on is late for twice
# that long; later it says so because Prometheus was away, and is back.
_LATE: Final = 120 * 10**9
_STALE: Final = int(STALE_SECONDS * 1e9)

_KEEP: Final = """
    INSERT INTO alerts (fingerprint, status, name, severity, labels, annotations, generator_url,
        external_url, starts_ns, ends_ns, received_ns)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (fingerprint) DO UPDATE SET status = excluded.status, name = excluded.name,
        severity = excluded.severity, labels = excluded.labels, annotations = excluded.annotations,
        generator_url = excluded.generator_url, external_url = excluded.external_url,
        starts_ns = excluded.starts_ns, ends_ns = excluded.ends_ns,
        received_ns = excluded.received_ns
"""
_OLDEST: Final = """
    DELETE FROM alerts WHERE fingerprint IN (
        SELECT fingerprint FROM alerts ORDER BY status = 'firing', received_ns LIMIT ?
    )
"""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """What a notification says of one alert; times are nanoseconds since the epoch."""

    fingerprint: str
    firing: bool
    labels: dict[str, str]
    annotations: dict[str, str]
    starts: int
    ends: int | None = None
    generator_url: str = ""
    external_url: str = ""


def keep(connection: Connection, told: Iterable[Alert], now: int | None = None) -> int:
    """Take in what a notification says; return how many alerts it said something new of.

    Args:
        connection: Where to write.
        told: The alerts.
        now: When it came, in nanoseconds since the epoch.

    """
    moment_ns = time.time_ns() if now is None else now
    count = 0
    with connection.writing():
        for one in told:
            key = short(one.fingerprint)
            before = connection.row("SELECT * FROM alerts WHERE fingerprint = ?", (key,))
            if before is not None and not _newer(one, before, moment_ns):
                if one.firing and before["status"] == "firing":
                    # Of two tellers one saw it begin before; it goes on.
                    connection.run(
                        "UPDATE alerts SET received_ns = ? WHERE fingerprint = ?", (moment_ns, key)
                    )
                continue
            count += 1
            connection.run(
                _KEEP,
                (
                    key, "firing" if one.firing else "resolved",
                    short(one.labels.get("alertname", "")), short(one.labels.get("severity", "")),
                    to_json(one.labels), to_json(one.annotations), clean(one.generator_url),
                    clean(one.external_url), one.starts, None if one.firing else one.ends,
                    moment_ns,
                ),
            )  # fmt: skip
        _bound(connection)
    return count


def _newer(one: Alert, before: dict[str, Any], now: int) -> bool:
    """Say whether what is told of an alert is not older than what is known of it."""
    began: int = before["starts_ns"]
    ends = one.ends or 0
    if before["status"] == "firing":
        return one.starts >= began or (not one.firing and ends > began)
    ended: int = before["ends_ns"] or began
    received: int = before["received_ns"]
    if one.firing:
        return one.starts > ended or now - received > _LATE
    return ends >= ended


def _bound(connection: Connection) -> None:
    row = connection.row("SELECT COUNT(*) AS number FROM alerts")
    over = 0 if row is None else row["number"] - MOST_ROWS
    if over > 0:
        connection.run(_OLDEST, (over,))


def prune(connection: Connection, oldest: int) -> None:
    """Delete the alerts that were last told of before a time."""
    connection.run("DELETE FROM alerts WHERE received_ns < ?", (oldest,))


def list_alerts(
    connection: Connection, *, status: str | None, cursor: str | None, limit: int
) -> dict[str, Any]:
    """Return a page of alerts, the last to begin first."""
    now = time.time_ns()
    where: list[str] = ["TRUE"]
    values: list[Any] = []
    if status is not None:
        where.append("status = ?")
        values.append("resolved" if status == "resolved" else "firing")
    if status in {"firing", "stale"}:
        where.append("received_ns >= ?" if status == "firing" else "received_ns < ?")
        values.append(now - _STALE)
    position = paging.decode("alerts", cursor, int, str)
    if position is not None:
        where.append("(starts_ns < ? OR (starts_ns = ? AND fingerprint > ?))")
        values += [position[0], position[0], position[1]]
    rows = connection.rows(
        f"SELECT * FROM alerts WHERE {' AND '.join(where)} "  # noqa: S608 - the clauses above
        "ORDER BY starts_ns DESC, fingerprint LIMIT ?",
        [*values, limit + 1],
    )
    return paging.page(
        "alerts",
        rows,
        limit,
        lambda row: (row["starts_ns"], row["fingerprint"]),
        lambda row: _alert_row(row, now),
    )


def _alert_row(row: dict[str, Any], now: int) -> dict[str, Any]:
    stale = row["status"] == "firing" and row["received_ns"] < now - _STALE
    return {
        "fingerprint": row["fingerprint"],
        "status": "stale" if stale else row["status"],
        "name": row["name"] or None,
        "severity": row["severity"] or None,
        "labels": from_json(row["labels"]),
        "annotations": from_json(row["annotations"]),
        "starts_at": rfc3339(row["starts_ns"]),
        "ends_at": moment(row["ends_ns"]),
        "received_at": rfc3339(row["received_ns"]),
        "generator_url": row["generator_url"] or None,
        "external_url": row["external_url"] or None,
    }


def count_firing(connection: Connection, now: int | None = None) -> dict[str, int]:
    """Return how many alerts fire, by severity; stale ones do not count."""
    since = (time.time_ns() if now is None else now) - _STALE
    rows = connection.rows(
        "SELECT severity, COUNT(*) AS number FROM alerts "
        "WHERE status = 'firing' AND received_ns >= ? GROUP BY severity",
        (since,),
    )
    return {row["severity"]: row["number"] for row in rows}
