"""Lists: pages that miss and double nothing while rows are added, and what is refused."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_agents.errors import InvalidInputError
from otel_agents.signals import Ids, Signal
from otel_agents.store import Batch, LogRecord, Point, Store
from otel_agents.vocabulary import LAYERS, OPERATIONS, RUNTIME_LAYER, RUNTIME_OPERATION
from tests.state.build import shop

from .build import block, every, number, trace_number, wipe, write

if TYPE_CHECKING:
    from collections.abc import Callable

FEW = settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
_BEGIN = 1_767_225_600 * 10**9
_EVENT = {RUNTIME_LAYER.key: LAYERS[0], RUNTIME_OPERATION.key: OPERATIONS[0]}


def put(store: Store, count: int, when: int) -> None:
    """Add one item to every list, of a number and a time."""
    time_ns = _BEGIN + when * 1_000
    store.write(
        Batch(
            signals=[
                Signal(id=f"r-{count}", kind="run", edge="start", time=time_ns, scope_id="run",
                       ids=Ids(run_id=f"r-{count}")),
                Signal(id=f"a-{count}", kind="agent", edge="start", time=time_ns, scope_id="a",
                       ids=Ids(run_id=f"r-{count}", agent_id=f"a-{count % 3}")),
                Signal(id=f"t-{count}", kind="task", edge="start", time=time_ns,
                       ids=Ids(task_id=f"t-{count}")),
                Signal(id=f"e-{count}", kind="runtime", edge="fact", time=time_ns,
                       attributes=_EVENT),
            ],
            blocks=[
                block({"trace": trace_number(count), "span": number(1), "start": time_ns,
                       "end": time_ns, "run": "r-0"})
            ],
            logs=[LogRecord(time=time_ns, body=str(count))],
            points=[Point(name=f"m-{when}", kind="gauge", time=1, attributes={"n": count})],
        )
    )  # fmt: skip


LISTS: Final[dict[str, Callable[[Store], Callable[..., dict[str, Any]]]]] = {
    "runs": lambda store: store.runs,
    "agents": lambda store: store.agents,
    "tasks": lambda store: store.tasks,
    "events": lambda store: store.runtime_events,
    "traces": lambda store: store.traces,
    "logs": lambda store: store.logs,
    "metrics": lambda store: store.metrics,
    "run_spans": lambda store: lambda **page: store.run_spans("r-0", **page),
}


def snapshot(store: Store, name: str) -> list[str]:
    return [repr(stable(item)) for item in every(LISTS[name](store), limit=500)]


def stable(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item less what changes as time goes by."""
    left_out = {"duration_seconds", "age_seconds", "start_ms"}
    return {key: value for key, value in item.items() if key not in left_out}


@FEW
@given(
    before=st.lists(st.integers(0, 6), min_size=1, max_size=9),
    between=st.lists(st.lists(st.integers(0, 6), max_size=2), max_size=5),
    limit=st.integers(1, 4),
)
def test_no_item_of_the_first_snapshot_is_missed_or_doubled(
    database_url: str, before: list[int], between: list[list[int]], limit: int
) -> None:
    """Whatever is added between the pages, before, after and at the same time."""
    store = Store(database_url, durable=False)
    try:
        wipe(store)
        for count, when in enumerate(before):
            put(store, count, when)
        assert store.settle()
        first = {name: snapshot(store, name) for name in LISTS}
        seen: dict[str, list[str]] = {name: [] for name in LISTS}
        cursors: dict[str, str | None] = dict.fromkeys(LISTS)
        left = set(LISTS)
        count = len(before)
        while left:
            for name in sorted(left):
                page = LISTS[name](store)(cursor=cursors[name], limit=limit)
                seen[name] += [repr(stable(item)) for item in page["items"]]
                cursors[name] = page["next_cursor"]
                if cursors[name] is None:
                    left.discard(name)
            for when in between.pop() if between else []:
                put(store, count, when)
                count += 1
            assert store.settle()
        for name in LISTS:
            assert len(seen[name]) == len(set(seen[name])), name
            kept = [item for item in seen[name] if item in set(first[name])]
            assert kept == first[name], name
    finally:
        store.close()


def test_a_run_s_signals_and_the_feed_come_in_the_order_of_their_numbers(store: Store) -> None:
    """Each once, from any number on, as far as the last."""
    put(store, 0, 0)
    write(store, *shop("one").signals)
    numbers = [one["seq"] for one in store.feed(0)]
    assert numbers == sorted(set(numbers))
    assert store.feed_bounds() == (numbers[0], numbers[-1])
    assert [one["seq"] for one in store.feed(numbers[3], limit=2)] == numbers[4:6]
    found = []
    after = 0
    while True:
        page = store.run_signals("one", after=after, limit=2)
        found += [one["seq"] for one in page["items"]]
        if page["next_cursor"] is None:
            break
        after = int(page["next_cursor"])
    assert len(found) == len(shop("one").signals)
    assert found == sorted(set(found))


FOREIGN: Final = (
    "x", "====", "é", "\ud800", "W10", "bnVsbA", "WzFd", "eyJhIjoxfQ", "[1]", "A" * 3_000,
    "WyJydW5zIiwiYSIsMV0", "WyJydW5zIiwxZTMwMCwiYSJd",
)  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
def test_a_foreign_cursor_is_refused(store: Store, name: str) -> None:
    """Garbage, and what another list gave out, are refused as `cursor`."""
    for count in range(3):
        put(store, count, count)
    assert store.settle()
    others = [LISTS[other](store)(limit=1)["next_cursor"] for other in LISTS if other != name]
    assert None not in others
    for cursor in (*FOREIGN, *others):
        with pytest.raises(InvalidInputError, match="cursor") as refused:
            LISTS[name](store)(cursor=cursor)
        assert refused.value.parameter == "cursor"


@pytest.mark.parametrize("limit", [0, -1, 501, 10**12])
def test_a_limit_out_of_bounds_is_refused(store: Store, limit: int) -> None:
    """From 1 to 500 items a page."""
    put(store, 0, 0)
    asks = [ask(store) for ask in LISTS.values()]
    asks += [lambda **page: store.run_signals("r-0", **page), lambda **page: store.feed(0, **page)]
    for ask in asks:
        with pytest.raises(InvalidInputError) as refused:
            ask(limit=limit)
        assert refused.value.parameter == "limit"


def test_a_filter_that_is_none_is_refused_by_its_name(store: Store) -> None:
    """States, layers, groups, times and numbers."""
    put(store, 0, 0)
    refusals: list[tuple[str, Callable[[], Any]]] = [
        ("status", lambda: store.runs(status="x")),
        ("status", lambda: store.agents(status="succeeded")),
        ("status", lambda: store.traces(status="unset")),
        ("status", lambda: store.tasks(status="pending")),
        ("layer", lambda: store.runtime_events(layer="x")),
        ("operation", lambda: store.runtime_events(operation="x")),
        ("by", lambda: store.usage(by="run_id; --")),
        ("after", lambda: store.feed(-1)),
        ("after", lambda: store.feed(1 << 63)),
        ("after", lambda: store.run_signals("r-0", after=1 << 80)),
        ("severity", lambda: store.logs(severity=1 << 63)),
        *(
            (name, lambda ask=ask, key=key, value=value: ask(**{key: value}))
            for ask in (store.runs, store.usage, store.traces, store.runtime_events)
            for name, key in (("from", "since"), ("to", "until"))
            for value in ("yesterday", "nan", "inf", "2026-13-01", "1e400")
        ),
    ]
    for parameter, ask in refusals:
        with pytest.raises(InvalidInputError, match=parameter) as refused:
            ask()
        assert refused.value.parameter == parameter


@pytest.mark.parametrize("when", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59+14:00", -5, 1e200])
def test_a_time_beyond_all_calendars_is_the_nearest_one(store: Store, when: str | float) -> None:
    """It selects all or nothing, and is no error."""
    put(store, 0, 0)
    assert store.settle()
    for ask in (store.runs, store.traces, store.runtime_events):
        kept = sorted(len(ask(**{bound: when})["items"]) for bound in ("since", "until"))
        assert kept == [0, len(ask()["items"])]


def test_a_page_of_a_list_that_is_long_is_of_the_limit(store: Store) -> None:
    """Fifty items unless more are asked for."""
    now = time.time_ns()
    logs = [LogRecord(time=now, body=str(count)) for count in range(60)]
    store.write(Batch(logs=logs))
    assert len(store.logs()["items"]) == 50
    assert len(store.logs(limit=500)["items"]) == 60
    assert store.logs(limit=60)["next_cursor"] is None
