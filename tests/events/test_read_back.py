"""What was told is what is read back; the KPIs are what a count by hand of the file gives."""

from __future__ import annotations

import contextvars
import json
from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_agents import emit_event, get_emitter, record_critic_decision
from otel_agents.event_types import Event
from otel_agents.sinks.events import EventsSink
from otel_agents.state.kpis import KPIS, fold_events
from otel_agents.testing import capture

from .conftest import events_in

if TYPE_CHECKING:
    from pathlib import Path

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_amount = st.floats(0, 1e6) | st.integers(0, 10**6)
# Few of each, so that events are of the same task, agent and feature.
_task = st.sampled_from(["t1", "t2", "t3", "ü/4"]) | _text
_agent = st.sampled_from(["coder", "critic"]) | _text


def _payload(required: dict[str, Any], **optional: Any) -> Any:
    return st.fixed_dictionaries(required, optional=optional)


_events = st.one_of(
    st.tuples(
        st.just("task_queued"),
        _payload({"task_id": _task, "feature": st.sampled_from("fg"), "est_cost": _amount}),
    ),
    st.tuples(
        st.just("agent_started"),
        _payload({"agent": _agent, "task_id": _task}, model=_text, tools=st.lists(_text)),
    ),
    st.tuples(
        st.just("agent_completed"),
        _payload(
            {
                "agent": _agent,
                "task_id": _task,
                "status": st.sampled_from(["success", "failed", "approved", "rejected"]),
                "duration_ms": st.floats(0, 5),
                "cost_usd": _amount | st.none(),
            }
        ),
    ),
    st.tuples(
        st.just("validation_complete"),
        _payload(
            {"task_id": _task, "result": st.sampled_from(["passed", "failed", True, False])},
            cost=_amount, duration_ms=_amount, screenshots=st.lists(_text),
        ),
    ),
    st.tuples(
        st.just("hitl_escalated"),
        _payload(
            {
                "task_id": _task,
                "attempts": st.integers(0, 9),
                "last_error": _text,
                "priority": _text,
            }
        ),
    ),
    st.tuples(
        st.sampled_from(["budget_warning", "budget_exceeded"]),
        _payload({"scope": _text, "limit": _amount, "spent": _amount}, unit=_text),
    ),
    st.tuples(
        st.just("critic_decision"),
        _payload({"rejected": st.booleans()}, task_id=_task, agent=_agent, name=_text),
    ),
)  # fmt: skip


def tell(events: list[tuple[str, dict[str, Any]]]) -> None:
    """Tell of events by the functions that there are for them."""
    for type_, payload in events:
        if type_ == "critic_decision":
            record_critic_decision(**payload)
        else:
            emit_event(type_, dict(payload))


def recount(lines: list[dict[str, Any]]) -> tuple[dict[str, float | None], dict[str, float]]:
    """Return KPIs and counts, each by its definition alone, of lines with no agent under way."""
    told = [(one["event_type"], round(one["timestamp"], 6), one["payload"]) for one in lines]

    def of(type_: str) -> list[tuple[float, dict[str, Any]]]:
        return [(moment, payload) for name, moment, payload in told if name == type_]

    started, completed, validations = (
        of("agent_started"), of("agent_completed"), of("validation_complete"),
    )  # fmt: skip
    ids = {payload["task_id"] for _, _, payload in told if payload.get("task_id")}

    # An agent is active from its start to its end; time is counted once.
    spans = []
    for key in {(one["task_id"], one["agent"]) for _, one in completed}:
        begins = sorted(t for t, one in started if (one["task_id"], one["agent"]) == key)
        ends = sorted(
            (t, one["duration_ms"] / 1000)
            for t, one in completed
            if (one["task_id"], one["agent"]) == key
        )
        for end, duration in ends:
            if begins and begins[0] <= end:
                spans.append((begins.pop(0), end))
            else:
                spans.append((end - duration, end))
    first, last = min(t for _, t, _ in told), max(t for _, t, _ in told)
    marks = sorted({first, last, *(min(max(t, first), last) for span in spans for t in span)})
    active = sum(
        after - before
        for before, after in pairwise(marks)
        if any(begin <= before and after <= end for begin, end in spans)
    )

    # Money, and the features that it went into.
    passed = [(t, one) for t, one in validations if one["result"] in ("passed", True)]
    money = [one["cost_usd"] for _, one in completed]
    cost = sum(amount or 0 for amount in money)
    cost += sum(one.get("cost") or 0 for _, one in validations)
    done = {one["task_id"] for _, one in passed if one["task_id"]}
    features = {one["feature"] for _, one in of("task_queued") if one["task_id"] in done}

    attempts = Counter((one["task_id"], one["agent"]) for _, one in started if one["task_id"])

    # Each decision once, whether it was told in one way, in the other or in both.
    ways: dict[Any, Counter[str]] = defaultdict(Counter)
    alone = []
    for _, one in completed:
        if one["status"] in ("approved", "rejected"):
            ways[one["task_id"], one["agent"], one["status"]]["completed"] += 1
    for _, one in of("critic_decision"):
        if one.get("agent"):
            verdict = "rejected" if one["rejected"] else "approved"
            ways[one.get("task_id", ""), one["agent"], verdict]["recorded"] += 1
        else:
            alone.append(one["rejected"])
    decisions = len(alone) + sum(max(one.values()) for one in ways.values())
    rejections = sum(alone) + sum(
        max(one.values()) for (_, _, verdict), one in ways.items() if verdict == "rejected"
    )

    # From queue to last success.
    took = []
    for key in ids:
        queued = [
            one["timestamp"] if one.get("timestamp") is not None else t
            for t, one in of("task_queued")
            if one["task_id"] == key
        ]
        good = [t for t, one in passed if one["task_id"] == key] + [
            t for t, one in completed
            if one["task_id"] == key and one["status"] in ("success", "approved")
        ]  # fmt: skip
        if queued and good:
            took.append(max(0.0, max(good) - min(queued)))

    def ratio(part: float, whole: float) -> float | None:
        return part / whole if whole else None

    counts = {
        "events": len(told),
        "agents_started": len(started),
        "agents_completed": len(completed),
        "agents_active": 0,
        "active_seconds": active,
        "window_seconds": last - first,
        "total_cost_usd": cost,
        "unpriced_agents": money.count(None),
        "features_completed": len(features),
        "tasks": len(ids),
        "retries": sum(number - 1 for number in attempts.values()),
        "critic_decisions": decisions,
        "critic_rejections": rejections,
        "validations": len(validations),
        "validations_passed": len(passed),
        "tasks_completed": len(took),
        "completion_seconds": sum(took),
    }
    kpis = {
        "agent_utilization": ratio(active, last - first),
        "cost_per_feature": None if None in money else ratio(cost, len(features)),
        "average_retry_count": ratio(counts["retries"], len(ids)),
        "critic_rejection_rate": ratio(rejections, decisions),
        "validation_pass_rate": ratio(len(passed), len(validations)),
        "time_to_completion": ratio(sum(took), len(took)),
    }
    return kpis, counts


_settings = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@_settings
@given(st.lists(_events, min_size=1, max_size=25))
def test_a_sequence_is_read_back_as_it_was_told_and_counted_as_it_is_read(
    tmp_path: Path, events: list[tuple[str, dict[str, Any]]]
) -> None:
    """The file has each event, in order, with its fields; three ways to count it agree."""
    path = tmp_path / "agent-events.jsonl"
    path.unlink(missing_ok=True)
    with capture() as captured:
        pipeline = captured.runtime.require_pipeline()
        pipeline.add(EventsSink(path))
        contextvars.copy_context().run(tell, events)
        metrics = get_emitter().get_metrics()
        assert pipeline.flush(90)
    lines = events_in(tmp_path)

    assert [one["event_type"] for one in lines] == [type_ for type_, _ in events]
    for line, (_, payload) in zip(lines, events, strict=True):
        if line["event_type"] == "critic_decision":  # agent and task can come from the context
            assert line["payload"].items() >= payload.items()
        else:
            assert line["payload"] == payload

    read = (
        Event(id=str(number), type=one["event_type"], time=one["timestamp"], run_id=None,
              payload=one["payload"])
        for number, one in enumerate(lines)
    )  # fmt: skip
    folded = fold_events(read).reading()
    assert folded["counts"]["agents_active"] == metrics["counts"]["agents_active"]
    kpis, counts = recount(lines)
    rough = pytest.approx
    passing = {"agents_active", "active_seconds", "window_seconds"}
    if metrics["counts"]["agents_active"]:
        # The window goes on, and what was read a moment later is a moment longer.
        assert 0 <= metrics["agent_utilization"] <= 1
        for found in (kpis, metrics, folded):
            del found["agent_utilization"]
        for found in (counts, metrics["counts"], folded["counts"]):
            for key in passing:
                del found[key]
    assert metrics == folded
    same = {key: metrics[key] for key in KPIS if key in metrics}
    # Times in the file are floats of seconds since 1970: a µs is what they tell apart.
    assert metrics["counts"] == {key: rough(one, rel=1e-9, abs=2e-5) for key, one in counts.items()}
    for key, value in kpis.items():
        if value is None or same[key] is None or key != "agent_utilization":
            assert same[key] == (None if value is None else rough(value, rel=1e-6, abs=2e-5)), key


def test_the_count_by_hand_is_that_of_the_definitions(tmp_path: Path) -> None:
    """A story counted on paper: a retry, a rejection told twice, a feature of two tasks."""
    done = {"duration_ms": 1000, "cost_usd": 0.5}
    stories = [
        (10, "task_queued", {"task_id": "1", "feature": "cart", "est_cost": 1}),
        (10, "task_queued", {"task_id": "2", "feature": "cart", "est_cost": 1}),
        (12, "agent_started", {"agent": "coder", "task_id": "1"}),
        (14, "agent_completed", {"agent": "coder", "task_id": "1", "status": "failed", **done}),
        (14, "agent_started", {"agent": "coder", "task_id": "1"}),
        (15, "agent_completed", {"agent": "coder", "task_id": "1", "status": "success", **done}),
        (17, "agent_completed", {"agent": "critic", "task_id": "1", "status": "rejected", **done}),
        (18, "critic_decision", {"agent": "critic", "task_id": "1", "rejected": True}),
        (19, "critic_decision", {"rejected": False}),
        (20, "validation_complete", {"task_id": "1", "result": "passed", "cost": 0.25}),
        (20, "validation_complete", {"task_id": "2", "result": False}),
    ]
    lines = [{"event_type": type_, "timestamp": t, "payload": one} for t, type_, one in stories]
    path = tmp_path / "lines"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    read = [json.loads(one) for one in path.read_text().splitlines()]
    expected = {
        "agent_utilization": 4 / 10, "cost_per_feature": 1.75, "average_retry_count": 0.5,
        "critic_rejection_rate": 0.5, "validation_pass_rate": 0.5, "time_to_completion": 10.0,
    }  # fmt: skip

    assert recount(read)[0] == expected
    events = (
        Event(id=str(number), type=one["event_type"], time=one["timestamp"], run_id=None,
              payload=one["payload"])
        for number, one in enumerate(read)
    )  # fmt: skip
    folded = fold_events(events).reading()
    assert {key: folded[key] for key in KPIS} == expected
