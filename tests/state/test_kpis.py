"""The six KPIs, beside a recount that shares nothing with the fold but the definitions."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_agents.event_types import ALL_TYPES, Event
from otel_agents.state.kpis import KPIS, Kpis, fold_events
from otel_agents.state.kpis_buckets import Buckets, hour_of, start_of

START = 1_790_000_000.0
NOW = START + 20_000
Line = dict[str, Any]


def event(line: Line, number: int = 0) -> Event:
    return Event(
        id=f"e{number}", type=line["event_type"], time=line["timestamp"], run_id=None,
        payload=line["payload"],
    )  # fmt: skip


def folded(lines: list[Line]) -> Kpis:
    kpis = Kpis()
    for number, line in enumerate(lines):
        kpis.apply(event(line, number))
    return kpis


def said(type_: str, second: float, **payload: Any) -> Line:
    return {"event_type": type_, "timestamp": START + second, "payload": payload}


# ------------------------------------------------------------------ the recount


def recounted_attempts(
    starts: list[tuple[float, Any]], ends: list[tuple[float, Any]]
) -> tuple[list[tuple[float, float]], list[float]]:
    """Return the attempts that ended, from when to when, and the starts of the others."""
    attempts, opened = [], []
    for pair in {(p["agent"], p["task_id"]) for _, p in starts + ends}:
        mine = [(t, 0, p) for t, p in starts if (p["agent"], p["task_id"]) == pair]
        mine += [(t, 1, p) for t, p in ends if (p["agent"], p["task_id"]) == pair]
        mine.sort(key=lambda one: (one[0], one[1], one[2].get("duration_ms", 0)))
        waiting: list[float] = []
        for moment, ended, payload in mine:
            if not ended:
                waiting.append(moment)
            elif waiting:
                attempts.append((waiting.pop(0), moment))
            else:
                attempts.append((moment - payload["duration_ms"] / 1000, moment))
        opened += waiting
    return attempts, opened


def recount(lines: list[Line], now: float) -> dict[str, Any]:
    """Count the KPIs from lines as the event file has them, each by a search of its own."""
    of = defaultdict(list)
    for line in lines:
        of[line["event_type"]].append((line["timestamp"], line["payload"]))
    tasks = {line["payload"].get("task_id") for line in lines} - {None, ""}

    attempts, opened = recounted_attempts(of["agent_started"], of["agent_completed"])
    times = [line["timestamp"] for line in lines]
    first, last = min(times, default=0), max(times, default=0)
    if opened:
        last = max(last, now)
    attempts += [(begun, last) for begun in opened]
    marks = sorted({first, last, *(min(max(t, first), last) for one in attempts for t in one)})
    active = sum(
        later - earlier
        for earlier, later in pairwise(marks)
        if any(begun <= earlier and later <= ended for begun, ended in attempts)
    )

    costs = [p["cost_usd"] for _, p in of["agent_completed"]]
    cost = sum(c for c in costs if c is not None)
    cost += sum(p.get("cost") or 0 for _, p in of["validation_complete"])
    passed = [(t, p) for t, p in of["validation_complete"] if p["result"] in ("passed", True)]
    features = {
        queued["feature"]
        for _, queued in of["task_queued"]
        if queued["feature"] and any(p["task_id"] == queued["task_id"] for _, p in passed)
    }
    starts = [(p["agent"], p["task_id"]) for _, p in of["agent_started"] if p["task_id"]]
    retries = len(starts) - len(set(starts))

    decisions = {"approved": 0, "rejected": 0}
    told: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
    for _, p in of["agent_completed"]:
        if p["status"] in decisions:
            told[p["agent"], p["task_id"], p["status"]][0] += 1
    for _, p in of["critic_decision"]:
        verdict = "rejected" if p["rejected"] else "approved"
        if p.get("agent"):
            told[p["agent"], p.get("task_id"), verdict][1] += 1
        else:
            decisions[verdict] += 1
    for (_, _, verdict), numbers in told.items():
        decisions[verdict] += max(numbers)

    took = []
    for task in tasks:
        queued_at = [p.get("timestamp") or t for t, p in of["task_queued"] if p["task_id"] == task]
        done = [t for t, p in passed if p["task_id"] == task]
        done += [
            t for t, p in of["agent_completed"]
            if p["task_id"] == task and p["status"] in ("success", "approved")
        ]  # fmt: skip
        if queued_at and done:
            took.append(max(0.0, max(done) - min(queued_at)))

    def share(part: float, whole: float) -> float | None:
        return part / whole if whole else None

    validations, judged = len(of["validation_complete"]), sum(decisions.values())
    return {
        "agent_utilization": share(active, last - first),
        "cost_per_feature": None if None in costs else share(cost, len(features)),
        "average_retry_count": share(retries, len(tasks)),
        "critic_rejection_rate": share(decisions["rejected"], judged),
        "validation_pass_rate": share(len(passed), validations),
        "time_to_completion": share(sum(took), len(took)),
        "counts": {
            "events": len(lines),
            "agents_started": len(of["agent_started"]),
            "agents_completed": len(costs),
            "agents_active": len(opened),
            "active_seconds": active,
            "window_seconds": last - first,
            "total_cost_usd": cost,
            "unpriced_agents": costs.count(None),
            "features_completed": len(features),
            "tasks": len(tasks),
            "retries": retries,
            "critic_decisions": judged,
            "critic_rejections": decisions["rejected"],
            "validations": validations,
            "validations_passed": len(passed),
            "tasks_completed": len(took),
            "completion_seconds": sum(took),
        },
    }


# ------------------------------------------------------------------ the events of the properties

# Steps of an eighth of a second, so that times meet, and the sums of floats are exact.
seconds = st.integers(0, 60_000).map(lambda n: n / 8)
tasks = st.sampled_from(["t1", "t2", "t3", "t4"])
some_task = st.one_of(tasks, st.none())
agents = st.sampled_from(["coder", "critic"])
amounts = st.sampled_from([0.0, 0.125, 0.5, 3.0])


def lines_of(type_: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Line]:
    return st.builds(lambda t, p: said(type_, t, **p), seconds, st.fixed_dictionaries(fields))


all_lines = st.one_of(
    lines_of(
        "task_queued", task_id=tasks, feature=st.sampled_from(["login", "search", ""]),
        est_cost=amounts, timestamp=st.one_of(st.none(), seconds.map(lambda s: START + s)),
    ),
    lines_of("agent_started", agent=agents, task_id=some_task),
    lines_of(
        "agent_completed", agent=agents, task_id=some_task,
        duration_ms=st.integers(0, 70_000).map(lambda n: n * 125),
        status=st.sampled_from(["success", "failed", "approved", "rejected"]),
        cost_usd=st.one_of(amounts, amounts, amounts, st.none()),
    ),
    lines_of(
        "validation_complete", task_id=tasks, cost=st.one_of(st.none(), amounts),
        result=st.sampled_from(["passed", "failed", True, False]),
    ),
    st.builds(
        lambda t, p: said("critic_decision", t, **p),
        seconds,
        st.fixed_dictionaries(
            {"rejected": st.booleans()}, optional={"task_id": tasks, "agent": agents}
        ),
    ),
    lines_of("hitl_escalated", task_id=st.sampled_from(["t1", "t9"])),
    lines_of("budget_warning", scope=st.just("run"), limit=amounts, spent=amounts),
)  # fmt: skip
streams = st.lists(all_lines, max_size=40)


@given(streams)
@settings(max_examples=400)
def test_the_fold_equals_a_recount(lines: list[Line]) -> None:
    """Of any events, also such as make no sense together."""
    assert recount(lines, NOW) == folded(lines).reading(NOW)


@given(streams, st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_matter(lines: list[Line], chance: random.Random) -> None:
    """To the last bit: the sums are of whole numbers."""
    shuffled = chance.sample(lines, len(lines))

    assert folded(lines).reading(NOW) == folded(shuffled).reading(NOW)


@given(streams, st.randoms(use_true_random=False), st.integers(1, 5))
def test_a_merge_is_the_fold_of_the_union(
    lines: list[Line], chance: random.Random, parts: int
) -> None:
    """However the events are spread over states, and in whatever grouping these are merged."""
    spread: list[list[Line]] = [[] for _ in range(parts)]
    for line in lines:
        chance.choice(spread).append(line)
    states = [Kpis.from_bytes(folded(part).to_bytes()) for part in spread]
    while len(states) > 1:
        one, other = chance.sample(states, 2)
        before = other.to_bytes()
        one.merge(other)
        assert before == other.to_bytes()
        states = [state for state in states if state is not other]

    assert folded(lines).reading(NOW) == states[0].reading(NOW)


@given(streams, st.randoms(use_true_random=False))
def test_a_state_goes_on_after_a_merge(lines: list[Line], chance: random.Random) -> None:
    """What is merged and what is applied afterwards meet; the other state does not change."""
    cut, later = sorted(chance.choices(range(len(lines) + 1), k=2))
    one, other = folded(lines[:cut]), folded(lines[cut:later])
    before = other.reading(NOW)
    one.merge(other)
    for line in lines[later:]:
        one.apply(event(line))

    assert folded(lines).reading(NOW) == one.reading(NOW)
    assert before == other.reading(NOW)


@given(streams)
def test_a_day_is_the_fold_over_all_of_its_events(lines: list[Line]) -> None:
    """An attempt that starts in one hour and ends in another is whole in the day."""
    buckets = Buckets()
    for line in lines:
        assert buckets.apply(event(line))
    days: dict[str, list[Line]] = defaultdict(list)
    hours: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        moment = datetime.fromtimestamp(line["timestamp"], UTC)
        days[f"{moment:%Y-%m-%d}"].append(line)
        hours[f"{moment:%Y-%m-%dT%H:00:00}"].append(line)

    assert sorted(hours) == buckets.hours()
    for key, part in hours.items():
        assert folded(part).reading(NOW) == buckets.hour(key).reading(NOW)
    for date, part in days.items():
        assert folded(part).reading(NOW) == buckets.day(date).reading(NOW)
    assert folded(lines).reading(NOW) == buckets.last(48, START + 7_500).reading(NOW)


# ------------------------------------------------------------------ what the definitions say

EMPTY_COUNTS = dict.fromkeys(recount([], NOW)["counts"], 0)


def with_ids(lines: list[Line]) -> list[Event]:
    """Return lines as events that know their attempt: the n-th end of a pair is of its n-th start.

    What is not of an attempt, or is the end of none, has no id.
    """
    found, opened, made = [], defaultdict(list), 0
    for number, line in sorted(enumerate(lines), key=lambda one: one[1]["timestamp"]):
        told = event(line, number)
        pair = line["payload"].get("agent"), line["payload"].get("task_id")
        agent_id = None
        if line["event_type"] == "agent_started":
            made += 1
            agent_id = f"attempt-{made}"
            opened[pair].append(agent_id)
        elif line["event_type"] == "agent_completed" and opened[pair]:
            agent_id = opened[pair].pop(0)
        found.append(msgspec.structs.replace(told, agent_id=agent_id))
    return found


@given(streams, st.randoms(use_true_random=False), st.integers(1, 4))
def test_attempts_that_events_name_count_as_those_in_order(
    lines: list[Line], chance: random.Random, parts: int
) -> None:
    """With ids or without, in whatever order and however spread over states, it is the same."""
    # Two attempts that begin or end at one moment could be told apart in two ways.
    spread = [{**line, "timestamp": line["timestamp"] + n / 1e4} for n, line in enumerate(lines)]
    events = with_ids(spread)
    chance.shuffle(events)
    states = [Kpis() for _ in range(parts)]
    for told in events:
        chance.choice(states).apply(told)

    whole = Kpis()
    for state in states:
        whole.merge(Kpis.from_bytes(state.to_bytes()))

    assert whole.reading(NOW) == folded(spread).reading(NOW)


def test_an_attempt_is_one_whatever_task_its_events_name() -> None:
    """A scope that begins without a task and is told of with one is not active for ever."""
    kpis = Kpis()
    begun = event(said("agent_started", 0, agent="coder", task_id=None))
    ended = event(
        said("agent_completed", 5, agent="coder", task_id="t", status="success", duration_ms=1,
             cost_usd=0.0), 1,
    )  # fmt: skip
    kpis.apply(msgspec.structs.replace(ended, agent_id="a-1"))
    kpis.apply(msgspec.structs.replace(begun, agent_id="a-1"))

    counts = kpis.reading(NOW)["counts"]
    assert (counts["agents_active"], counts["active_seconds"]) == (0, 5.0)


def test_attempts_with_ids_are_bounded_too() -> None:
    """Of a hundred thousand the oldest become sums, and those under way are kept."""
    kpis = Kpis(keep=2_000)
    for number in range(20_000):
        for type_, second in (("agent_started", 0.0), ("agent_completed", 0.5)):
            line = said(type_, number + second, agent="a", task_id=None, duration_ms=1)
            kpis.apply(msgspec.structs.replace(event(line), agent_id=f"attempt-{number}"))
    late = event(said("agent_started", 20_000, agent="a", task_id=None))
    kpis.apply(msgspec.structs.replace(late, agent_id="open"))

    counts = kpis.reading(START + 20_001)["counts"]
    assert kpis.kept <= 2_000
    assert counts["agents_active"] == 1
    assert counts["active_seconds"] == pytest.approx(10_001)


def test_nothing_to_count_gives_none() -> None:
    """Of no events, and of events that say nothing of a KPI."""
    assert dict.fromkeys(KPIS) | {"counts": EMPTY_COUNTS} == Kpis().reading(NOW)
    only = folded([said("budget_warning", 0, scope="run", limit=1, spent=1)]).reading(NOW)
    assert dict.fromkeys(KPIS) == {name: only[name] for name in KPIS}


def test_every_type_of_event_is_read() -> None:
    """Events of every type count, and so do those of types that are not known yet."""
    kpis = folded([said(type_, 0, task_id=f"of {type_}") for type_ in (*ALL_TYPES, "new")])

    assert len(ALL_TYPES) + 1 == kpis.reading(NOW)["counts"]["tasks"]
    assert len(ALL_TYPES) + 1 == kpis.reading(NOW)["counts"]["events"]


def test_a_cost_that_is_not_known_is_not_zero() -> None:
    """One attempt without a price leaves the cost of a feature unknown."""
    lines = [
        said("task_queued", 0, task_id="t", feature="f", est_cost=1),
        said("agent_completed", 1, agent="a", task_id="t", status="success", duration_ms=1,
             cost_usd=1.5),
        said("validation_complete", 2, task_id="t", result=True, cost=0.5),
    ]  # fmt: skip
    assert folded(lines).reading(NOW)["cost_per_feature"] == 2.0
    lines.append(
        said("agent_completed", 3, agent="a", task_id="t", status="failed", duration_ms=1,
             cost_usd=None),
    )  # fmt: skip
    reading = folded(lines).reading(NOW)
    assert reading["cost_per_feature"] is None
    assert reading["counts"]["total_cost_usd"] == 2.0


def test_an_agent_that_is_at_work_lengthens_the_window() -> None:
    """Until it ends; a cancelled or failed attempt ends like any other."""
    lines = [said("agent_started", 0, agent="a", task_id="t")]
    running = folded(lines).reading(START + 100)
    assert running["agent_utilization"] == 1.0
    assert running["counts"]["agents_active"] == 1
    lines.append(
        said("agent_completed", 40, agent="a", task_id="t", status="failed", duration_ms=9,
             cost_usd=0.0),
    )  # fmt: skip
    lines.append(said("hitl_escalated", 80, task_id="t"))
    ended = folded(lines).reading(START + 100)
    assert ended["agent_utilization"] == 0.5
    assert ended["counts"]["agents_active"] == 0


def test_what_cannot_be_is_not_counted() -> None:
    """Events from elsewhere may hold anything; the state stays one that can be written and read."""
    wild: list[Any] = [None, True, -1, float("nan"), float("inf"), 10**400, [], {}]
    wild += ["x", "é" * 9999, "\ud800"]
    lines = []
    for value in wild:
        lines += [
            said("task_queued", 0, task_id=value, feature=value, timestamp=value),
            said("agent_started", 1, agent=value, task_id=value),
            said("agent_completed", 2, agent=value, task_id=value, status=value, duration_ms=value,
                 cost_usd=value),
            said("validation_complete", 3, task_id=value, result=value, cost=value),
            said("critic_decision", 4, task_id=value, agent=value, rejected=value),
        ]  # fmt: skip
    kpis = folded(lines)
    reading = kpis.reading(NOW)

    assert Kpis.from_bytes(kpis.to_bytes()).reading(NOW) == reading
    assert reading["counts"]["tasks"] == 3  # those that are texts
    assert reading["counts"]["total_cost_usd"] == 0
    assert len(kpis.to_bytes()) < 10_000


def test_long_ids_stay_apart() -> None:
    """Though only their beginning is kept."""
    names = ["long " * 1000 + ending for ending in ("a", "b")]
    kpis = folded([said("hitl_escalated", 0, task_id=name) for name in names * 2])

    assert kpis.reading(NOW)["counts"]["tasks"] == 2


def test_a_repeated_event_counts_once_where_files_are_read() -> None:
    """By its id; the state itself counts what it is given."""
    line = said("validation_complete", 0, task_id="t", result="passed")
    events = [event(line, 1), event(line, 2), event(line, 1)]

    assert fold_events(events).reading(NOW)["counts"]["validations"] == 2


def test_a_state_that_is_none_is_refused() -> None:
    """With msgspec's error, which readers of foreign bytes expect."""
    for data in (b"", b"{", b"[1]", b'{"events": "many"}', b'{"tasks": {"t": 7}}'):
        with pytest.raises(msgspec.DecodeError):
            Kpis.from_bytes(data)


# ------------------------------------------------------------------ bounded


def attempts(number: int, *, ends: bool = True) -> list[Line]:
    key = f"task {number}"
    found = [
        said("task_queued", number, task_id=key, feature=f"feature {number // 4}", est_cost=0.1),
        said("agent_started", number + 0.125, agent="coder", task_id=key),
        said("agent_started", number + 0.25, agent="coder", task_id=key),
    ]
    if ends:
        found += [
            said("agent_completed", number + 0.375, agent="coder", task_id=key, duration_ms=250.0,
                 status="rejected", cost_usd=0.25),
            said("agent_completed", number + 0.625, agent="coder", task_id=key, duration_ms=250.0,
                 status="success", cost_usd=0.25),
            said("validation_complete", number + 0.75, task_id=key, result="passed"),
        ]  # fmt: skip
    return found


def test_memory_stays_flat_and_sums_exact_over_many_tasks() -> None:
    """What is no longer kept has become sums, which say the same."""
    kpis, sizes = Kpis(keep=50_000), []
    for number in range(100_000):
        for line in attempts(number):
            kpis.apply(event(line))
        if number in (20_000, 99_999):
            sizes.append(len(kpis.to_bytes()))
    reading = kpis.reading(NOW)
    counts = reading["counts"]

    assert sizes[1] < sizes[0] * 1.25
    assert kpis.kept <= kpis.keep
    assert len(kpis.tasks) < 10_000
    assert counts["tasks"] == counts["retries"] == counts["validations"] == 100_000
    assert counts["tasks_completed"] == counts["critic_rejections"] == 100_000
    assert counts["features_completed"] == 25_000
    assert counts["active_seconds"] == 50_000.0
    assert reading["time_to_completion"] == 0.75
    assert reading["cost_per_feature"] == 2.0


@pytest.mark.parametrize("task", [None, "the only one"])
def test_one_agent_for_ever_is_bounded_too(task: str | None) -> None:
    """A task that never ends, and agents that work without one."""
    kpis = Kpis(keep=1_000)
    for number in range(5_000):
        kpis.apply(event(said("agent_started", number, agent="a", task_id=task)))
        kpis.apply(event(said("agent_completed", number + 0.5, agent="a", task_id=task,
                              status="success", duration_ms=1, cost_usd=0.0)))  # fmt: skip
    reading = kpis.reading(NOW)

    assert kpis.kept <= 1_000
    assert len(kpis.to_bytes()) < 300_000
    assert reading["counts"]["active_seconds"] == 2_500.0
    assert reading["counts"]["agents_active"] == 0


def test_attempts_that_never_end_are_bounded_and_still_active() -> None:
    """The oldest are left as a number."""
    kpis = Kpis(keep=1_000)
    for number in range(5_000):
        for line in attempts(number, ends=False):
            kpis.apply(event(line))
    reading = kpis.reading(NOW)

    assert kpis.kept <= 1_000
    assert reading["counts"]["agents_active"] == 10_000
    assert reading["counts"]["retries"] == 5_000
    assert reading["counts"]["active_seconds"] == NOW - START - 0.125


def test_an_attempt_under_way_is_kept_while_others_are_summed_up() -> None:
    """Its end finds its start after thousands of tasks."""
    kpis = Kpis(keep=1_000)
    kpis.apply(event(said("agent_started", 0, agent="slow", task_id="t")))
    for number in range(1, 2_000):
        for line in attempts(number):
            kpis.apply(event(line))
    kpis.apply(event(said("agent_completed", 2_000, agent="slow", task_id="t", status="success",
                          duration_ms=1, cost_usd=0.0)))  # fmt: skip
    reading = kpis.reading(NOW)

    assert reading["counts"]["agents_active"] == 0
    assert reading["agent_utilization"] == 1.0


def test_buckets_forget_the_oldest_hours() -> None:
    """And take no event of an hour before those."""
    buckets = Buckets(keep=3)
    for hour in (5, 1, 2, 3, 4):
        buckets.apply(event(said("budget_warning", hour * 3600)))

    assert [hour_of(START + hour * 3600) for hour in (3, 4, 5)] == buckets.hours()
    assert buckets.apply(event(said("budget_warning", 0))) is False
    assert buckets.last(2, START + 5 * 3600).events == 2
    assert buckets.hour("2001-01-01T00:00:00").events == 0


@pytest.mark.parametrize("time", [-5.0, 0.0, START, 9e18])
def test_every_time_has_an_hour(time: float) -> None:
    """Those that no calendar holds are in the first or last there is."""
    key = hour_of(time)

    assert len(key) == 19
    assert hour_of(start_of(key)) == key


# ------------------------------------------------------------------ the worked example


def test_the_worked_example_of_the_reference_is_right() -> None:
    """Its events give the reading that stands below them."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "kpis.md"
    blocks = page.read_text().split("```")
    events, reading = (
        block.removeprefix(kind).strip()
        for kind, block in zip(("jsonl", "json"), blocks[1::2], strict=True)
    )
    lines = [msgspec.json.decode(line) for line in events.splitlines()]

    assert msgspec.json.decode(reading) == folded(lines).reading(now=0.0)
    assert msgspec.json.decode(reading) == recount(lines, 0.0)
