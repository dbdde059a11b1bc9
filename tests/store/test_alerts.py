"""Alerts: what was told of each last, in whatever order and however often it came."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_agents.errors import InvalidInputError
from otel_agents.store import alerts
from otel_agents.store.alerts import MOST_ROWS, STALE_SECONDS, Alert, keep
from otel_agents.store.retention import Retention

if TYPE_CHECKING:
    from otel_agents.store import Store

SECOND: Final = 10**9
HOUR: Final = 3600 * SECOND


def told(
    number: int = 0,
    *,
    starts: int,
    ends: int | None = None,
    firing: bool | None = None,
    **more: Any,
) -> Alert:
    """Return what is told of an alert; it fires while it has no end."""
    labels = {"alertname": f"Alert{number}", "severity": "warning", **more.pop("labels", {})}
    return Alert(
        fingerprint=f"f{number}", firing=ends is None if firing is None else firing,
        labels=labels, annotations={"summary": "s"}, starts=starts, ends=ends, **more,
    )  # fmt: skip


def listed(store: Store, **asked: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = store.alerts(**asked)["items"]
    return found


def take(store: Store, *given: Alert, now: int | None = None) -> int:
    return keep(store._database.here, given, now)


def test_an_alert_fires_and_is_resolved(store: Store) -> None:
    """With all that was told of it, and then with its end."""
    begin = time.time_ns() - 60 * SECOND
    more = {"generator_url": "http://p:9090/g", "external_url": "http://a:9093"}
    assert take(store, told(starts=begin, labels={"workflow": "shop"}, **more)) == 1
    (alert,) = listed(store)
    assert (alert["status"], alert["name"], alert["severity"]) == ("firing", "Alert0", "warning")
    assert alert["labels"]["workflow"] == "shop"
    assert alert["annotations"] == {"summary": "s"}
    assert (alert["ends_at"], alert["generator_url"]) == (None, "http://p:9090/g")
    assert store.firing() == {"warning": 1}
    assert take(store, told(starts=begin, ends=begin + SECOND, **more)) == 1
    (alert,) = listed(store)
    assert alert["status"] == "resolved"
    assert alert["ends_at"] > alert["starts_at"]
    assert store.firing() == {}


def test_repeats_say_that_it_goes_on(store: Store) -> None:
    """One row, told of last when it was told of last, with the texts of then."""
    now = time.time_ns()
    take(store, told(starts=now - HOUR), now=now - HOUR)
    changed = told(starts=now - HOUR, labels={"value": "2"})
    assert take(store, changed, now=now) == 1
    (alert,) = listed(store)
    assert alert["labels"]["value"] == "2"
    assert alert["received_at"] > alert["starts_at"]


def test_an_alert_that_nobody_confirms_is_stale(store: Store) -> None:
    """After three hours it is neither firing nor resolved, until it is told of again."""
    now = time.time_ns()
    begin = now - 5 * HOUR
    silent = now - round(STALE_SECONDS * SECOND) - SECOND
    take(store, told(0, starts=begin), told(1, starts=begin), now=silent)
    take(store, told(1, starts=begin), now=now)
    assert {one["name"]: one["status"] for one in listed(store)} == {
        "Alert0": "stale", "Alert1": "firing",
    }  # fmt: skip
    assert [one["name"] for one in listed(store, status="stale")] == ["Alert0"]
    assert [one["name"] for one in listed(store, status="firing")] == ["Alert1"]
    assert listed(store, status="resolved") == []
    assert store.firing() == {"warning": 1}
    take(store, told(0, starts=begin), now=now)
    assert store.firing() == {"warning": 2}


_PARTS: Final = st.lists(st.integers(1, 50), min_size=2, max_size=8)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(parts=_PARTS, data=st.data())
def test_disorder_and_repeats_change_nothing(store: Store, parts: list[int], data: Any) -> None:
    """Whatever arrives when, what holds in the end is what the newest notification says."""
    now = time.time_ns()
    clock = now - HOUR
    whole: list[Alert] = []
    for length in parts:
        starts, clock = clock + SECOND, clock + (length + 1) * SECOND
        whole += [told(starts=starts), told(starts=starts, ends=clock)]
    whole = whole[: data.draw(st.integers(1, len(whole)))]
    came = data.draw(st.permutations([*whole, *data.draw(st.lists(st.sampled_from(whole)))]))
    connection = store._database.here
    with connection.writing():
        connection.run("DELETE FROM alerts")
    for one in came:
        take(store, one, now=now)
    row = connection.row("SELECT * FROM alerts")
    assert row is not None
    newest = whole[-1]
    assert row["starts_ns"] == newest.starts
    assert row["status"] == ("firing" if newest.firing else "resolved")
    assert row["ends_ns"] == newest.ends


def test_an_alert_that_is_told_of_long_after_its_end_is_back(store: Store) -> None:
    """Prometheus was away, which ended the alert for Alertmanager, and goes on where it was."""
    now = time.time_ns()
    begin = now - HOUR
    take(store, told(starts=begin, ends=now - 600 * SECOND), now=now - 600 * SECOND)
    take(store, told(starts=begin), now=now - 590 * SECOND)
    assert listed(store)[0]["status"] == "resolved"
    take(store, told(starts=begin), now=now)
    assert listed(store)[0]["status"] == "firing"


def test_two_tellers_of_one_alert_agree_on_its_end(store: Store) -> None:
    """One saw it begin earlier; either may tell of the end."""
    now = time.time_ns()
    for first, second in ((-100, -90), (-90, -100)):
        take(store, told(starts=now + first * SECOND), told(starts=now + second * SECOND), now=now)
        assert listed(store)[0]["status"] == "firing"
        take(store, told(starts=now - 100 * SECOND, ends=now - 50 * SECOND), now=now)
        assert listed(store)[0]["status"] == "resolved"
        with store._database.here.writing():
            store._database.here.run("DELETE FROM alerts")


def test_a_list_goes_on_where_it_ended(store: Store) -> None:
    """By a cursor, the last to begin first, each alert once."""
    now = time.time_ns()
    take(store, *(told(number, starts=now - number % 3 * SECOND) for number in range(7)))
    found, cursor = [], None
    while True:
        page = store.alerts(limit=2, cursor=cursor)
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len({one["fingerprint"] for one in found}) == len(found) == 7
    assert [one["starts_at"] for one in found] == sorted(
        (one["starts_at"] for one in found), reverse=True
    )
    with pytest.raises(InvalidInputError, match="status"):
        store.alerts(status="open")
    with pytest.raises(InvalidInputError, match="cursor"):
        store.alerts(cursor="nothing")


def test_there_are_never_more_than_so_many(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolved ones go first, the oldest of them first of all."""
    monkeypatch.setattr(alerts, "MOST_ROWS", 5)
    now = time.time_ns()
    for number in range(4):
        take(store, told(number, starts=now, ends=now), now=now + number)
    take(store, *(told(number, starts=now) for number in range(10, 13)), now=now)
    assert sorted(one["name"] for one in listed(store)) == [
        "Alert10", "Alert11", "Alert12", "Alert2", "Alert3",
    ]  # fmt: skip
    take(store, *(told(number, starts=now) for number in range(20, 30)), now=now + 9)
    assert len(listed(store)) == 5
    assert MOST_ROWS <= 5000


def test_old_ones_go_with_all_that_is_old(store: Store) -> None:
    """Those that were not told of for as long as anything is kept."""
    now = time.time_ns()
    day = 86_400 * SECOND
    take(store, told(0, starts=now - 40 * day, ends=now - 31 * day), now=now - 31 * day)
    take(store, told(1, starts=now - 40 * day, ends=now - 29 * day), now=now - 29 * day)
    store.retain = Retention()
    store.maintain()
    assert [one["name"] for one in listed(store)] == ["Alert1"]


def test_any_text_can_be_told(store: Store) -> None:
    """NUL, halves of surrogate pairs and text without end are stored as far as they can be."""
    odd = "\0 \ud800 '; DROP TABLE alerts; -- <b>" + "x" * 10_000
    take(
        store,
        Alert(
            fingerprint=odd, firing=True, labels={"alertname": odd, "severity": odd, odd: odd},
            annotations={odd: odd}, starts=time.time_ns(), generator_url=odd, external_url=odd,
        ),
    )  # fmt: skip
    (alert,) = listed(store)
    assert len(alert["fingerprint"]) < 300
    assert "DROP TABLE" in alert["name"]
    assert len(store.firing()) == 1
