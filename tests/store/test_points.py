"""Metrics keep the latest point of each series, log records are kept once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from otel_agents.store import Batch, LogRecord, Point, ingest
from tests.state.build import BEGIN

from .build import every, ids_of

if TYPE_CHECKING:
    from otel_agents.store import Store


def point(value: float, when: int, **more: object) -> Point:
    return Point(name="m", kind="gauge", time=BEGIN + when, value=value, **more)  # type: ignore[arg-type]


def test_the_latest_point_of_a_series_wins(store: Store) -> None:
    """In whatever order points come, in one batch or several."""
    store.write(Batch(points=[point(2, 2), point(1, 1)]))
    store.write(Batch(points=[point(0, 0)]))
    assert ids_of(store.metrics()["items"], "value") == [2]
    store.write(Batch(points=[point(3, 3)]))
    assert ids_of(store.metrics()["items"], "value") == [3]


def test_what_tells_series_apart(store: Store) -> None:
    """Attributes in any order, service and instance; not the unit."""
    store.write(Batch(points=[
        point(1, 1, attributes={"a": 1, "b": 2}), point(2, 2, attributes={"b": 2, "a": 1}),
        point(3, 3, attributes={"a": "1", "b": 2}), point(4, 4, service="s"),
        point(5, 5, service="s", instance="i"), point(6, 6, service="s", instance="i", unit="s"),
    ]))  # fmt: skip
    assert sorted(ids_of(every(store.metrics, limit=2), "value")) == [2, 3, 4, 6]


def test_series_beyond_the_cap_are_dropped_and_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are known go on."""
    monkeypatch.setattr(ingest, "MAX_SERIES", 3)
    points = [point(n, n, attributes={"n": n}) for n in range(5)]
    store.write(Batch(points=points))
    assert ids_of(every(store.metrics), "value") in ([0, 1, 2], [1, 0, 2], [2, 1, 0], [0, 2, 1],
                                                     [1, 2, 0], [2, 0, 1])  # fmt: skip
    assert store.dropped == {"too many series": 2}
    store.write(Batch(points=[point(9, 9, attributes={"n": 1})]))
    assert 9 in ids_of(every(store.metrics), "value")
    assert store.dropped == {"too many series": 2}


def test_a_log_record_that_is_sent_again_is_kept_once(store: Store) -> None:
    """The same time, severity, body and attributes; another of any of them is another record."""
    one = LogRecord(time=BEGIN, body="hi", severity=9, attributes={"a": 1})
    store.write(Batch(logs=[one, one]))
    store.write(Batch(logs=[one]))
    assert len(store.logs()["items"]) == 1
    others = [
        LogRecord(time=BEGIN + 1, body="hi", severity=9, attributes={"a": 1}),
        LogRecord(time=BEGIN, body="ho", severity=9, attributes={"a": 1}),
        LogRecord(time=BEGIN, body="hi", severity=13, attributes={"a": 1}),
        LogRecord(time=BEGIN, body="hi", severity=9, attributes={"a": 2}),
    ]
    store.write(Batch(logs=others))
    assert len(store.logs()["items"]) == 5
    assert ids_of(store.logs(severity=10)["items"], "severity") == [13]
