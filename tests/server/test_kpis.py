"""The KPIs of the API: of a day, an hour and a run, as a fold over what is stored says."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agents.errors import UnavailableError
from otel_agents.event_types import Event, event_of
from otel_agents.server import kpis
from otel_agents.server.kpis import Day, Readings
from otel_agents.signals import decode_line
from otel_agents.state.kpis import KPIS, fold_events
from otel_agents.store import Batch
from tests.console.events import task, told

from .kit import ADMIN, INGEST, VIEWER

if TYPE_CHECKING:
    from .conftest import Running, Serving

HOUR: Final = 3600


def asked(running: Running, query: str = "") -> dict[str, Any]:
    answer = running.client.get(f"/api/kpis{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["data"]
    return found


def stored(running: Running, run_id: str | None = None) -> list[Event]:
    found = []
    for row in running.store.signal_rows(0, 10_000, run_id=run_id):
        signal = decode_line(row["body"].encode())
        event = None if signal is None else event_of(signal)
        if event is not None:
            found.append(event)
    return found


def due(events: list[Event]) -> dict[str, Any]:
    """Return what the API says of events, none of which is an attempt under way."""
    reading = fold_events(events).reading()
    counts = reading.pop("counts")
    return {"kpis": reading, "counts": counts}


def said(found: dict[str, Any]) -> dict[str, Any]:
    return {"kpis": found["kpis"], "counts": found["counts"]}


def settled(running: Running, events: list[Event], query: str = "") -> None:
    """Wait until a reading that was good for a moment has been made anew, and compare."""
    deadline = time.monotonic() + 120
    while said(asked(running, query)) != due(events) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert said(asked(running, query)) == due(events)


def test_the_day_is_the_fold_of_its_events(open_server: Running) -> None:
    """At first, and after more was stored; what is older than a day is not counted."""
    store = open_server.store
    store.write(Batch(signals=task("feature-1", seconds_ago=5 * HOUR, tries=3)))
    store.write(Batch(signals=task("ancient-1", seconds_ago=25 * HOUR)))
    ancient = {event.id for event in stored(open_server) if "ancient" in str(event.payload)}

    def recent() -> list[Event]:
        return [event for event in stored(open_server) if event.id not in ancient]

    assert len(ancient) == 5
    settled(open_server, recent())
    for number in range(3):
        store.write(Batch(signals=task(f"more-{number}", seconds_ago=300, good=number != 1)))
        settled(open_server, recent())
    assert asked(open_server)["kpis"]["average_retry_count"] > 0


def test_the_hour_is_shorter_than_the_day(open_server: Running) -> None:
    """With window=1h only events of the last hour count, and the trend is of five minutes."""
    open_server.store.write(Batch(signals=task("long-ago", seconds_ago=3 * HOUR, good=False)))
    open_server.store.write(Batch(signals=task("now-1", seconds_ago=60)))

    hour, day = asked(open_server, "?window=1h"), asked(open_server)
    assert hour["window"] == "1h"
    assert day["window"] == "24h"
    assert hour["kpis"]["validation_pass_rate"] == 1
    assert day["kpis"]["validation_pass_rate"] == 0.5
    assert {len(values) for values in hour["trend"].values()} == {12}
    assert {len(values) for values in day["trend"].values()} == {24}
    rates = day["trend"]["validation_pass_rate"]
    assert [rate for rate in rates if rate is not None] == [0, 1]
    assert rates[-1] == 1


def test_a_run_is_the_fold_of_its_own_events(open_server: Running) -> None:
    """Only what was told in the run counts, however old it is; more of it is added."""
    settled(open_server, stored(open_server, "run-1"), "?run_id=run-1")
    late = {"task_id": "t", "result": False}
    signal = told("validation_complete", late, run_id="run-1", seconds_ago=48 * HOUR)
    open_server.store.write(Batch(signals=[signal]))

    found = asked(open_server, "?run_id=run-1&window=1h")
    assert said(found) == due(stored(open_server, "run-1"))
    assert found["window"] == "run"
    assert found["kpis"]["validation_pass_rate"] == 0
    assert found["trend"] == {name: [] for name in KPIS}


def test_a_run_that_is_told_anew_is_counted_anew(open_server: Running) -> None:
    """After a run was deleted nothing of it is left in its KPIs."""
    assert asked(open_server, "?run_id=run-1")["counts"]["events"] > 0
    open_server.store.delete_run("run-1")
    assert asked(open_server, "?run_id=run-1")["counts"]["events"] == 0
    open_server.store.write(Batch(signals=[told("agent_started", {"agent": "a"}, run_id="run-1")]))
    assert asked(open_server, "?run_id=run-1")["counts"]["events"] == 1


def test_where_nothing_happened_there_is_nothing_to_count(serving: Serving) -> None:
    """An empty store and an unknown run give null for every KPI and count nothing."""
    running = serving()
    for query in ("", "?window=1h", "?run_id=none"):
        found = asked(running, query)
        assert set(found["kpis"].values()) == {None}
        assert set(found["counts"].values()) == {0}
        assert {value for values in found["trend"].values() for value in values} <= {None}


@pytest.mark.parametrize("query", ["?window=2h", "?window=run", "?run_id=a%00", "?since=1"])
def test_what_cannot_be_asked_is_named(kept_server: Running, query: str) -> None:
    """A wrong parameter is refused by name."""
    answer = kept_server.client.get(f"/api/kpis{query}")

    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(query[1:].partition("=")[0])


def test_who_may_read_may_read_the_kpis(guarded: Running) -> None:
    """A viewer's token and the admin's open them; one to send, a guess and none do not."""
    statuses = {
        token: guarded.client.get(
            "/api/kpis", headers={} if token is None else {"Authorization": f"Bearer {token}"}
        ).status_code
        for token in (ADMIN, VIEWER, INGEST, "a-guess", None)
    }

    assert statuses == {ADMIN: 200, VIEWER: 200, INGEST: 403, "a-guess": 401, None: 401}


def test_a_first_count_that_lasts_holds_nobody_up(
    open_server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one request counts, another is told to come back."""
    monkeypatch.setattr(kpis, "_PATIENCE", 0.01)
    readings = Readings(open_server.store)
    with readings._lock, pytest.raises(UnavailableError, match="ask again"):
        readings.window("24h")


# ---------------------------------------------------------------------- the day that moves

NOW: Final = 1_800_000_123.0


def event(number: int, type_: str, ago: float) -> Event:
    payload: dict[str, Any] = {"task_id": f"t{number % 7}", "agent": f"a{number % 3}"}
    if type_ == "agent_completed":
        payload |= {"status": "success", "duration_ms": 1000, "cost_usd": 0.5}
    if type_ == "validation_complete":
        payload |= {"result": number % 2 == 0}
    if type_ == "task_queued":
        payload |= {"feature": f"f{number % 2}"}
    return Event(id=str(number), type=type_, time=NOW - ago, run_id=None, payload=payload)


TYPES: Final = ("task_queued", "agent_started", "agent_completed", "validation_complete")
HAPPENED: Final = st.lists(st.tuples(st.sampled_from(TYPES), st.floats(0, 30 * HOUR)), max_size=40)


@given(HAPPENED, st.floats(0, 8 * HOUR), st.integers(0, 40))
def test_a_day_that_moved_is_the_fold_of_what_is_left(
    happened: list[tuple[str, float]], later: float, split: int
) -> None:
    """Whether events came before or after the day moved on, it counts those of its 24 hours."""
    events = [event(number, *one) for number, one in enumerate(happened)]
    day = Day(NOW)
    for one in events[:split]:
        day.add(one)
    day.trend("24h", NOW)
    day.move(NOW + later)
    for one in events[split:]:
        day.add(one)

    now = NOW + later
    edge = int(now // 300) * 300
    left = [one for one in events if one.time >= edge - 287 * 300]
    recent = [one for one in left if one.time >= edge - 11 * 300]
    assert day.fold("24h").reading(now) == fold_events(left).reading(now)
    assert day.fold("1h").reading(now) == fold_events(recent).reading(now)
    hours = day.trend("24h", now)["validation_pass_rate"]
    assert hours[-1] == fold_events(recent).reading(now)["validation_pass_rate"]
    assert any(hour is not None for hour in hours) == any(
        one.type == "validation_complete" for one in left
    )


def test_a_clock_that_is_ahead_counts_as_now() -> None:
    """An event of a minute from now is in the last hour, and not lost."""
    day = Day(NOW)
    day.add(event(1, "agent_started", -400))

    assert day.fold("1h").events == day.fold("24h").events == 1
    assert day.trend("1h", NOW)["average_retry_count"][-1] == 0


def test_an_attempt_is_at_work_to_the_end_of_its_hour_and_no_longer() -> None:
    """In the trend an attempt that goes on counts for the hour it began in, not up to now."""
    day = Day(NOW)
    day.add(event(1, "agent_started", 5 * HOUR))

    shares = day.trend("24h", NOW)["agent_utilization"]
    assert [share for share in shares if share is not None] == [1]
    assert shares[-1] is None
