"""Metrics made from signals: the same numbers as a program counts by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agents import (
    agent,
    delivery,
    emit_event,
    gate,
    human,
    iteration,
    model,
    phase,
    record_critic_decision,
    run,
    task,
    validation,
)
from otel_agents import metrics as metrics_module
from otel_agents.exposition import exposition
from otel_agents.signals import Ids, ModelUse, Signal, decode_line, encode_line
from otel_agents.state import measures as module
from otel_agents.state.measures import Measures
from otel_agents.usage import Usage
from otel_agents.vocabulary import METRICS

from .build import BEGIN, SECOND, Story, shop, tokens

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_agents.metrics import Point
    from otel_agents.testing import Captured

TOLD = [
    "runs.started", "runs.completed", "run.duration", "run.active", "iterations",
    "iteration.duration", "phase.duration", "agent.duration", "agent.attempts", "task.duration",
    "gate.checks", "validations", "deliveries", "hitl.escalations", "hitl.wait.duration",
    "critic.decisions", "budget.events", "tokens", "tokens.unpriced",
]  # fmt: skip


def fold(signals: Iterable[Signal]) -> Measures:
    measures = Measures()
    for signal in signals:
        measures.apply(signal)
    return measures


def points(measures: Measures, now: int = BEGIN) -> dict[str, list[Point]]:
    """Return the points by metric, our prefix left off."""
    return {
        family.metric.name.removeprefix("otelagents."): family.points
        for family in measures.families(now)
    }


def total(measures: Measures, name: str, now: int = BEGIN, **labels: Any) -> float:
    """Return the sum of a metric's points with these labels; a histogram's are its counts."""
    return sum(
        sum(point.counts) if point.counts else point.value
        for point in points(measures, now).get(name, ())
        if labels.items() <= point.labels.items()
    )


def test_each_signal_of_a_run_is_counted() -> None:
    """A run of three phases and agents, with its durations and what it used."""
    measures = fold(shop().signals)
    assert total(measures, "runs.started", workflow="shop") == 1
    assert total(measures, "runs.completed", workflow="shop", result="succeeded") == 1
    assert total(measures, "phase.duration", result="success") == 3
    assert total(measures, "agent.attempts", workflow="shop", phase="build", agent="builder") == 1
    assert total(measures, "tokens", agent="builder", type="input") == 100
    assert total(measures, "tokens", type="output") == 30
    assert total(measures, "cost") == pytest.approx(0.75)
    assert total(measures, "tokens.unpriced") == 0
    (point,) = points(measures)["run.duration"]
    assert point.value == 100
    assert measures.applied == len(shop().signals)


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("success", "succeeded"), ("failure", "failed"), ("error", "failed"),
        ("timeout", "failed"), ("cancellation", "canceled"), ("skip", "canceled"),
        ("no outcome", "failed"),
    ],
)  # fmt: skip
def test_a_run_ends_in_one_of_three_words(outcome: str, said: str) -> None:
    """However it ended; other scopes keep the outcome's own word."""
    story = Story().start("run", name="shop").start("phase", "p", "plan")
    measures = fold(story.wait(1).end("p", outcome).end("run", outcome).signals)
    assert total(measures, "runs.completed", result=said) == 1
    expected = "error" if outcome == "no outcome" else outcome
    assert total(measures, "phase.duration", result=expected) == 1


def test_the_results_of_runs_are_there_before_the_first_run_ends() -> None:
    """At 0, so that Prometheus sees the first failure as an increase."""
    measures = fold(Story().start("run", name="shop").signals)
    assert {
        (point.labels["workflow"], point.labels["result"], point.value)
        for point in points(measures)["runs.completed"]
    } == {("shop", result, 0) for result in ("succeeded", "failed", "canceled")}


def test_a_program_and_its_signals_tell_the_same_numbers(captured: Captured) -> None:
    """Whatever the scopes and events, and however the runs end: ok, error and cancelled."""
    for error in (None, ValueError("no"), KeyboardInterrupt()):
        try:
            with run("shop"), iteration(), phase("build"), task("t-1", queue="digest"):
                with agent("coder"), model("priced", provider="openai") as call:
                    call.answered(Usage(input_tokens=1000, output_tokens=100, requests=1))
                with agent("coder"), model("unheard-of", provider="openai") as call:
                    call.answered(
                        Usage(input_tokens=90, cache_read_tokens=30, output_tokens=7, requests=1)
                    )
                gate("lint", passed=False).record()
                with validation("tests", passed=True), delivery():
                    pass
                with human("approve?"):
                    pass
                emit_event(
                    "hitl_escalated",
                    {"task_id": "t-1", "attempts": 3, "last_error": "no", "priority": "high"},
                )
                emit_event("budget_warning", {"scope": "run", "limit": 1, "spent": 0.9})
                record_critic_decision(rejected=True, agent="critic", task_id="t-1")
                record_critic_decision(rejected=False, name="style")
                for number, status in enumerate(("rejected", "approved")):
                    told = {"agent": "critic", "task_id": "t-1"}
                    emit_event("agent_started", told)
                    ended = {"status": status, "duration_ms": 5, "cost_usd": number}
                    emit_event("agent_completed", {**told, **ended})
                emit_event("validation_complete", {"task_id": "t-1", "result": True, "cost": 0.5})
                if error is not None:
                    raise error
        except (ValueError, KeyboardInterrupt):
            pass
    emit_event("validation_complete", {"task_id": "t-1", "result": "failed", "cost": 0.25})

    measures = fold(captured.signals)
    counted: dict[tuple[str, frozenset[Any]], float] = {}
    for name, labels, value in captured.points():
        if name.removeprefix("otelagents.") in TOLD:
            counted[name, frozenset(labels.items())] = value
    told_by_signals = {
        (f"otelagents.{name}", frozenset(point.labels.items())): (
            sum(point.counts) if point.counts else point.value
        )
        for name, found in points(measures).items()
        if name in TOLD
        for point in found
    }
    assert told_by_signals == counted
    assert {name for name, _ in counted} == {f"otelagents.{name}" for name in TOLD}
    # A signal does not say how the calls went that its cost is of.
    for agent_ in ("coder", "critic"):
        assert total(measures, "cost", agent=agent_) == pytest.approx(
            captured.metric("otelagents.cost", agent=agent_)
        )
    assert total(measures, "cost") == pytest.approx(captured.metric("otelagents.cost"))


def test_what_a_scope_used_is_counted_as_it_says_so() -> None:
    """Each report is of all that it used so far, and each token is counted once."""
    story = Story().start("run", name="shop").start("agent", "a", "coder")
    story.progress("a", usage=tokens(100), cost=0.1).progress("a", usage=tokens(300), cost=0.3)
    measures = fold(story.signals)
    assert total(measures, "tokens", agent="coder", type="input") == 300
    # The one before comes late, on another way; then the end.
    late = story.signals[-2]
    measures.apply(late)
    story.end("a", usage=tokens(350), cost=0.35)
    measures.apply(story.signals[-1])
    assert total(measures, "tokens", agent="coder", type="input") == 350
    assert total(measures, "tokens", agent="coder", type="output") == 35
    assert total(measures, "cost") == pytest.approx(0.35)


def test_a_long_agent_among_many_short_ones_is_counted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it said before is remembered while it is under way, however many end meanwhile."""
    monkeypatch.setattr(module, "_ENDED", 5)
    monkeypatch.setattr(module, "_UNDER_WAY", 5)
    story = Story().start("run", name="shop").start("agent", "long", "coder")
    story.progress("long", usage=tokens(100), cost=0.1)
    for number in range(50):
        story.start("agent", f"a-{number}", "helper").end(f"a-{number}", usage=tokens(10))
    measures = fold(story.end("long", usage=tokens(100), cost=0.1).signals)
    assert total(measures, "tokens", agent="coder", type="input") == 100
    assert total(measures, "tokens", agent="helper", type="input") == 500
    assert len(measures._ended) == 5


def test_a_lost_agents_spending_is_counted() -> None:
    """It never ends, and its tokens were billed all the same."""
    story = Story().start("run", name="shop").start("agent", "a", "coder")
    measures = fold(story.progress("a", usage=tokens(100)).signals)
    assert total(measures, "tokens") == 110
    assert total(measures, "tokens.unpriced") == 110


def test_tokens_and_cost_are_split_by_model() -> None:
    """What no model is named for stands without one, and the sum is the scope's."""
    story = Story().start("run", name="shop").start("agent", "a", "coder", phase="build")
    models = [
        ModelUse(provider="openai", model="gpt-5", usage=tokens(100), cost=0.1),
        ModelUse(provider="openai", model="new", usage=tokens(50), unpriced=55),
    ]
    story.end("a", usage=tokens(200), cost=0.15, unpriced_tokens=55, models=models)
    measures = fold(story.signals)
    assert total(measures, "tokens", model="gpt-5", provider="openai", phase="build") == 110
    assert total(measures, "tokens", model="new") == 55
    assert total(measures, "tokens.unpriced", model="new") == 55
    assert total(measures, "tokens.unpriced") == 55
    assert total(measures, "tokens") == 220
    assert total(measures, "cost", model="gpt-5") == pytest.approx(0.1)
    assert total(measures, "cost") == pytest.approx(0.15)


# ---------------------------------------------------------------------- runs under way


def test_a_run_is_active_from_its_start_to_its_end() -> None:
    """The gauge stays there at 0."""
    story = Story().start("run", name="shop")
    measures = fold(story.signals)
    assert total(measures, "run.active", story.now, workflow="shop") == 1
    story.wait(5).end("run")
    measures.apply(story.signals[-1])
    assert points(measures, story.now)["run.active"][0].value == 0


def test_a_run_that_is_lost_is_not_active() -> None:
    """It counts until nothing was heard of it for 30 s, and again when it speaks again."""
    story = Story().start("run", name="shop").wait(20).progress("run")
    measures = fold(story.signals)
    assert total(measures, "run.active", story.now + 29 * SECOND) == 1
    assert total(measures, "run.active", story.now + 31 * SECOND) == 0
    assert total(measures, "run.active", story.now) == 0
    story.wait(60).progress("run")
    measures.apply(story.signals[-1])
    assert total(measures, "run.active", story.now) == 1
    assert total(measures, "runs.started") == 1


def test_what_happens_inside_a_run_is_a_sign_of_its_life() -> None:
    """Its agents speak for it."""
    story = Story().start("run", name="shop").wait(29).start("agent", "a", "coder")
    measures = fold(story.signals)
    assert total(measures, "run.active", story.now + 29 * SECOND) == 1


def test_a_run_that_began_before_the_server_is_active() -> None:
    """Its heartbeat tells of it; it is not one that started since."""
    story = Story().start("run", name="shop").progress("run")
    measures = fold(story.signals[1:])
    assert total(measures, "run.active", story.now) == 1
    assert total(measures, "runs.started") == 0


def test_a_heartbeat_that_comes_after_the_end_does_not_revive_a_run() -> None:
    """Exporters try again, and what was told before comes after."""
    story = Story().start("run", name="shop").progress("run").end("run")
    start, beat, end = story.signals
    measures = fold([start, end, beat])
    assert total(measures, "run.active", story.now) == 0


def test_a_clock_that_is_ahead_does_not_keep_a_run_alive() -> None:
    """From when it is read a run has 30 s to speak again."""
    story = Story(begin=BEGIN + 10**6 * SECOND).start("run", name="shop")
    measures = fold(story.signals)
    assert total(measures, "run.active", BEGIN) == 1
    assert total(measures, "run.active", BEGIN + 31 * SECOND) == 0


def test_runs_of_one_workflow_add_up() -> None:
    """Each by its own heartbeat."""
    stories = [Story(f"run-{number}").start("run", f"s-{number}", "shop") for number in range(5)]
    measures = fold(story.signals[0] for story in stories)
    assert total(measures, "run.active", workflow="shop") == 5


# ---------------------------------------------------------------------- whatever comes


def test_names_without_end_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name for every run makes no series for every run, and nothing is lost."""
    monkeypatch.setattr(metrics_module, "MAX_SERIES", 10)
    stories = [Story(f"r-{n}", f"shop-{n}").start("run", f"s-{n}").end(f"s-{n}") for n in range(99)]
    measures = fold(signal for story in stories for signal in story.signals)
    for name in ("runs.started", "runs.completed", "run.duration"):
        assert len(points(measures)[name]) <= 11
        assert total(measures, name) == 99
    long = Story(workflow="x" * 10_000).start("run")
    (point,) = points(fold(long.signals))["runs.started"]
    assert len(point.labels["workflow"]) <= 500


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 63), 1 << 63), st.floats(), st.text(max_size=9),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.integers()),
    st.sampled_from(
        [
            "critic_decision", "agent_completed", "budget_warning", "hitl_escalated",
            "validation_complete", "approved", "rejected",
        ]
    ),
)  # fmt: skip
KEYS = [
    "otelagents.event.type", "otelagents.event.payload", "otelagents.task.queue",
]  # fmt: skip
PAYLOADS = st.dictionaries(
    st.sampled_from(["status", "rejected", "agent", "name", "scope", "unit", "task_id", "cost"]),
    ODD,
)
SIGNALS = st.builds(
    Signal,
    id=st.text(max_size=3),
    kind=st.sampled_from(["run", "agent", "task", "validation", "gate", "human", "odd", ""]),
    edge=st.sampled_from(["start", "progress", "end", "fact"]),
    time=st.integers(-(1 << 63), 1 << 63),
    scope_id=st.sampled_from(["", "a", "b"]),
    name=st.text(max_size=3),
    ids=st.builds(Ids, run_id=st.none() | st.text(max_size=2), workflow=st.none() | st.text()),
    result=st.text(max_size=9) | st.sampled_from(["success", "failure"]),
    duration=st.none() | st.floats(),
    usage=st.none() | st.builds(Usage, input_tokens=st.integers(), output_tokens=st.integers()),
    cost=st.none() | st.floats(),
    unpriced_tokens=st.integers(),
    attributes=st.dictionaries(st.sampled_from(KEYS), ODD | PAYLOADS),
)


@given(st.lists(SIGNALS, max_size=30))
def test_no_signal_breaks_the_page(signals: list[Signal]) -> None:
    """Whatever a sender makes up: the text can be made, and no counter ever falls."""
    measures = Measures()
    before: dict[Any, float] = {}
    for signal in signals:
        measures.apply(signal)
        now = {
            (family.metric.name, *point.labels.items()): point.value
            for family in measures.families(BEGIN)
            if family.metric.instrument in {"counter", "histogram"}
            for point in family.points
        }
        assert all(now[key] >= value for key, value in before.items())
        before = now
    exposition(measures.families(BEGIN))


def test_the_metrics_are_those_of_the_vocabulary() -> None:
    """A page has no names of its own for what programs tell of."""
    measures = fold(decode_line(encode_line(one)) or one for one in shop().signals)
    for family in measures.families(BEGIN):
        assert METRICS[family.metric.name] == family.metric
