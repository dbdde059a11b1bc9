"""Budgets of scopes: what counts to which, what is told and when, and what is refused."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest

import otel_agents as oa
from otel_agents import Budget, BudgetExceeded, model, runtime
from otel_agents.boundary import boundary
from otel_agents.events import emit_event
from otel_agents.state.liveness import alive
from otel_agents.state.report import report
from otel_agents.state.run import fold
from otel_agents.testing import Captured, capture
from otel_agents.usage import Usage
from otel_agents.vocabulary import EVENT_PAYLOAD

PRICES = {"priced": {"input": 1.0, "output": 2.0}}  # USD per million tokens
KINDS = ("budget_warning", "budget_exceeded")


@pytest.fixture
def limited() -> Iterator[Any]:
    """Make captures with budgets, one at a time."""
    opened = []

    def make(*budgets: Budget) -> Captured:
        manager = capture(prices=PRICES, budgets=budgets)
        opened.append(manager)
        return manager.__enter__()

    yield make
    for manager in reversed(opened):
        manager.__exit__(None, None, None)


def call(tokens: int, name: str = "priced") -> None:
    """Call a model that uses so many input tokens; a million of them cost 1 USD."""
    with model(name) as asked:
        asked.answered(Usage(input_tokens=tokens, requests=1))


def told(captured: Captured) -> list[tuple[str, dict[str, Any]]]:
    """Return the budget events, as kinds and payloads."""
    return [
        (signal.kind, signal.attributes[EVENT_PAYLOAD.key])
        for signal in captured.signals
        if signal.kind in KINDS
    ]


def levels(captured: Captured) -> list[tuple[str, str]]:
    return [(kind, payload["scope"]) for kind, payload in told(captured)]


def end_of(captured: Captured, kind: str) -> dict[str, Any]:
    """Return the attributes that the only scope of a kind ended with."""
    (found,) = [s for s in captured.signals if s.kind == kind and s.edge == "end"]
    return found.attributes


def test_a_budget_warns_and_is_exceeded_once_each(limited: Any) -> None:
    """At the share and at the limit an event is told: as a fact, a metric and a span event."""
    captured = limited(Budget(usd=1.0))
    with oa.run("shop"):
        with oa.agent("planner"):
            for _ in range(12):
                call(100_000)
    payload = {"scope": "run", "limit": 1.0, "unit": "USD"}
    assert told(captured) == [
        ("budget_warning", {**payload, "spent": pytest.approx(0.8)}),
        ("budget_exceeded", {**payload, "spent": pytest.approx(1.0)}),
    ]
    for level in ("warning", "exceeded"):
        labels = {"budget": "run", "unit": "USD", "level": level}
        assert captured.metric("otelagents.budget.events", **labels) == 1
    names = [event.name for event in captured.span("invoke_agent planner").events]
    assert names == ["otelagents.budget_warning", "otelagents.budget_exceeded"]


def test_the_events_stand_in_the_run_and_the_agent_that_spent(limited: Any) -> None:
    """A fact has the ids, trace and parent of the agent whose call was one too many."""
    captured = limited(Budget(tokens=10))
    with oa.run("shop", id="r-1"), oa.agent("planner") as agent:
        call(10)
    (fact,) = [signal for signal in captured.signals if signal.kind == "budget_exceeded"]
    assert (fact.ids.run_id, fact.ids.agent, fact.parent_id) == ("r-1", "planner", agent.scope_id)
    assert fact.trace_id == f"{agent.span.get_span_context().trace_id:032x}"


def test_what_may_be_spent_and_was_stands_on_span_and_signals(limited: Any) -> None:
    """The limits are on the scope's start, what was spent on its end, both on its span."""
    captured = limited(Budget(scope="phase", name="build", usd=2.0, tokens=3_000_000, warn_at=0.5))
    with oa.run("shop"), oa.phase("build"):
        call(1_000_000)
    attributes = captured.span("phase build").attributes or {}
    assert attributes["otelagents.budget.usd.limit"] == 2.0
    assert attributes["otelagents.budget.tokens.limit"] == 3_000_000
    assert attributes["otelagents.budget.warn_at"] == 0.5
    assert attributes["otelagents.budget.enforced"] is False
    assert attributes["otelagents.budget.usd.spent"] == pytest.approx(1.0)
    assert attributes["otelagents.budget.tokens.spent"] == 1_000_000
    assert attributes["otelagents.budget.state"] == "warning"
    assert end_of(captured, "phase")["otelagents.budget.state"] == "warning"
    assert not any("budget" in key for key in captured.span("invoke_workflow shop").attributes)


def test_nothing_is_raised_without_enforce(limited: Any) -> None:
    """A budget that only reports lets every call through."""
    captured = limited(Budget(usd=0.1), Budget(scope="agent", tokens=1))
    with oa.run("shop"), oa.agent("planner"):
        for _ in range(3):
            call(1_000_000)
    assert captured.metric("otelagents.model.calls") == 3
    assert captured.signals[-1].result == "success"


def test_a_spent_budget_that_enforces_refuses_the_next_call(limited: Any) -> None:
    """No span, no request: the agent gets BudgetExceeded and its span says what was refused."""
    captured = limited(Budget(usd=1.0, enforce=True))
    with pytest.raises(BudgetExceeded) as raised:
        with oa.run("shop"), oa.agent("planner"):
            call(1_000_000)
            call(1_000_000)
    refused = raised.value
    assert (refused.budget, refused.unit, refused.limit) == ("run", "USD", 1.0)
    assert refused.spent == pytest.approx(1.0)
    assert str(refused) == "The budget of run is spent: 1 USD of 1 USD."
    assert captured.tree().count("chat priced") == 1
    events = [event.name for event in captured.span("invoke_agent planner").events]
    assert "otelagents.budget_refused" in events
    assert levels(captured) == [("budget_warning", "run"), ("budget_exceeded", "run")]
    assert end_of(captured, "run")["otelagents.result"] == "error"


@pytest.mark.parametrize("content", [False, True])
def test_what_was_refused_says_why_wherever_it_is_read(
    limited: Any, monkeypatch: pytest.MonkeyPatch, content: bool
) -> None:
    """The sentence is our own: it stands on span and run whether content is kept or not."""
    captured = limited(Budget(scope="workflow", tokens=1000, enforce=True))
    monkeypatch.setattr(captured.runtime, "capture", content)
    with oa.run("shop"):
        call(2000)
    with pytest.raises(BudgetExceeded), oa.run("shop", id="r-2"), oa.agent("planner"):
        call(1)
    why = "The budget of workflow shop is spent: 2,000 tokens of 1,000 tokens."
    run = fold(captured.signals).by_id["r-2"]
    read = report(run, now=run.last, alive=alive)
    assert read.error is not None
    assert (read.error.type, read.error.message) == ("otel_agents.errors.BudgetExceeded", why)
    assert captured.span("invoke_agent planner").status.description == why


@pytest.mark.parametrize(
    "budget",
    [
        Budget(scope="agent", tokens=1, enforce=True),
        Budget(name="other", tokens=1, enforce=True),
        Budget(scope="workflow", name="shop", tokens=1, enforce=True),
    ],
)
def test_a_budget_for_another_is_reported_and_left_out(
    limited: Any, monkeypatch: pytest.MonkeyPatch, budget: Budget
) -> None:
    """A scope cannot be given somebody else's limit: it would be stopped by it."""
    monkeypatch.setattr(boundary, "strict", False)
    monkeypatch.setattr(boundary, "counts", {})
    limited()
    with oa.run("shop", budget=budget) as run:
        call(5)
        call(5)
        assert run.ledgers == ()
    assert boundary.counts == {"run field budget": 1}


def test_a_budget_may_name_the_scope_that_it_is_given_to(limited: Any) -> None:
    """By its kind, its name or both."""
    limited()
    with oa.run("shop"):
        for budget in (
            Budget(scope="agent", tokens=1), Budget(name="planner", tokens=1),
            Budget(scope="agent", name="planner", tokens=1),
        ):  # fmt: skip
            with oa.agent("planner", budget=budget) as agent:
                assert len(agent.ledgers) == 1


def test_async_with_and_decorator_are_refused_too(limited: Any) -> None:
    """However a model call is written by hand, a spent budget allows none."""
    limited(Budget(tokens=1, enforce=True))
    made = []

    @model("priced")
    def ask() -> None:
        made.append(1)

    async def calls() -> None:
        async with model("priced"):
            made.append(1)

    with oa.run("shop"):
        call(1)
        with pytest.raises(BudgetExceeded):
            ask()
        with pytest.raises(BudgetExceeded):
            asyncio.run(calls())
    assert made == []


def test_an_agent_that_catches_it_may_end_well(limited: Any) -> None:
    """BudgetExceeded is an exception like another: a program can answer without the model."""
    captured = limited(Budget(scope="agent", tokens=5, enforce=True))
    with oa.run("shop"), oa.agent("planner"):
        call(5)
        with pytest.raises(BudgetExceeded):
            call(5)
    assert end_of(captured, "agent")["otelagents.result"] == "success"


@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError(), None])
def test_calls_that_fail_or_are_cancelled_count(limited: Any, error: Any) -> None:
    """What a call used counts once, whatever became of it."""
    captured = limited(Budget(tokens=100))
    with oa.run("shop"):
        for _ in range(2):
            with nullcontext() if error is None else pytest.raises(type(error)):
                with model("priced") as asked:
                    asked.answered(Usage(input_tokens=30, requests=1))
                    if error is not None:
                        raise error
    assert end_of(captured, "run")["otelagents.budget.tokens.spent"] == 60


def test_failed_attempts_of_an_agent_count_to_its_budget(limited: Any) -> None:
    """All attempts of an agent in a run share a ledger; in another run there is a new one."""
    captured = limited(Budget(scope="agent", name="planner", tokens=100, enforce=True))

    def attempt() -> None:
        with oa.agent("planner"):
            call(60)
            raise RuntimeError

    for _ in range(2):
        with oa.run("shop"):
            for _ in range(2):
                with pytest.raises(RuntimeError):
                    attempt()
            with pytest.raises(BudgetExceeded), oa.agent("planner"):
                call(60)
            with oa.agent("reviewer"):
                call(60)
    assert levels(captured) == [
        ("budget_warning", "agent planner"), ("budget_exceeded", "agent planner"),
    ] * 2  # fmt: skip


def test_unpriced_usage_counts_to_tokens_not_to_money(limited: Any) -> None:
    """A model without a price cannot spend USD, but its tokens are held."""
    captured = limited(Budget(usd=0.001, enforce=True), Budget(tokens=1000, enforce=True))
    with oa.run("shop"):
        call(600, "nobody-knows-it")
        call(600, "nobody-knows-it")
        with pytest.raises(BudgetExceeded) as raised:
            call(600, "nobody-knows-it")
    assert raised.value.unit == "token"
    end = end_of(captured, "run")
    assert end["otelagents.budget.usd.spent"] == 0.0
    assert end["otelagents.budget.tokens.spent"] == 1200


def test_every_scope_has_its_own_ledger(limited: Any) -> None:
    """Run, phase, agent, task and workflow are told by their names, never by an id."""
    captured = limited(*(Budget(scope=scope, tokens=50) for scope in oa.budget.SCOPES))
    with oa.run("shop"), oa.phase("build"), oa.agent("planner"), oa.task("sort", id="t-1"):
        call(50)
    exceeded = {payload["scope"] for kind, payload in told(captured) if kind == KINDS[1]}
    assert exceeded == {"run", "phase build", "agent planner", "task sort", "workflow shop"}


def test_a_name_limits_a_budget_to_those_of_that_name(limited: Any) -> None:
    """A budget with a name holds for no other scope."""
    captured = limited(Budget(scope="phase", name="build", tokens=1))
    with oa.run("shop"), oa.phase("test"):
        call(5)
    assert told(captured) == []


def test_passes_of_a_phase_share_a_ledger(limited: Any) -> None:
    """A phase that comes up again in its run goes on where it was."""
    captured = limited(Budget(scope="phase", tokens=100))
    with oa.run("shop"):
        for _ in range(3):
            with oa.iteration(), oa.phase("build"):
                call(40)
    assert levels(captured) == [
        ("budget_warning", "phase build"),
        ("budget_exceeded", "phase build"),
    ]


def test_a_workflow_is_held_over_its_runs(limited: Any) -> None:
    """All runs of a workflow that a process makes spend from one budget."""
    captured = limited(Budget(scope="workflow", name="shop", tokens=100, enforce=True))
    for _ in range(2):
        with oa.run("shop"):
            call(50)
    with oa.run("other"):
        call(50)
    with oa.run("shop"), pytest.raises(BudgetExceeded) as raised:
        call(50)
    assert raised.value.budget == "workflow shop"
    assert levels(captured) == [
        ("budget_warning", "workflow shop"), ("budget_exceeded", "workflow shop"),
    ]  # fmt: skip


def test_a_part_of_a_run_keeps_the_budget_of_the_run(limited: Any) -> None:
    """Where ids come from a carrier, the run's budget holds by its id."""
    captured = limited(Budget(tokens=100, enforce=True))
    carrier: dict[str, str] = {}
    with oa.run("shop", id="far"):
        oa.inject(carrier)
    for _ in range(2):
        with oa.extract(carrier), oa.agent("worker"):
            call(50)
    with oa.extract(carrier), oa.agent("worker"), pytest.raises(BudgetExceeded):
        call(50)
    facts = [signal for signal in captured.signals if signal.kind in KINDS]
    assert [fact.ids.run_id for fact in facts] == ["far", "far"]


def test_the_smallest_limits_hold_and_each_unit_enforces_for_itself(limited: Any) -> None:
    """Limits of the settings and of a scope's fields are merged, unit by unit."""
    captured = limited(Budget(usd=5.0), Budget(usd=4.0, tokens=10), Budget(usd=9.0, enforce=True))
    with oa.run("shop", budget=Budget(usd=3.0, enforce=True)):
        call(2_500_000)  # far over the tokens, which only report
        call(500_000)
        with pytest.raises(BudgetExceeded) as raised:
            call(1)
    assert (raised.value.unit, raised.value.limit) == ("USD", 3.0)
    attributes = captured.span("invoke_workflow shop").attributes or {}
    assert attributes["otelagents.budget.usd.limit"] == 3.0
    assert attributes["otelagents.budget.enforced.units"] == ("USD",)
    assert not [key for key in attributes if key.endswith("enforced.limit")]


def test_a_budget_that_only_reports_stops_nobody_beside_one_that_enforces(limited: Any) -> None:
    """The smaller one is told of, the greater one refuses, and a reader of the run sees both."""
    captured = limited(Budget(tokens=100), Budget(tokens=500, enforce=True))
    with oa.run("shop", id="r-1"):
        for _ in range(5):
            call(100)
        with pytest.raises(BudgetExceeded) as raised:
            call(1)
    assert (raised.value.limit, raised.value.spent) == (500, 500)
    assert [(kind, payload["limit"]) for kind, payload in told(captured)] == [
        (kind, limit) for limit in (100, 500) for kind in KINDS
    ]
    attributes = captured.span("invoke_workflow shop").attributes or {}
    assert attributes["otelagents.budget.tokens.limit"] == 100
    assert attributes["otelagents.budget.tokens.enforced.limit"] == 500
    run = fold(captured.signals).by_id["r-1"]
    read = report(run, now=run.last, alive=alive)
    shown = [(one.limit, one.spent, one.state, one.enforced) for one in read.budgets]
    assert shown == [(100, 500, "exceeded", False), (500, 500, "exceeded", True)]


def test_another_try_of_a_run_goes_on_with_its_sum_and_may_have_more(limited: Any) -> None:
    """A run that is opened again under its id has spent what it had; its new limit holds."""
    captured = limited()
    with oa.run("shop", id="r-1", budget=Budget(tokens=100, enforce=True)):
        call(100)
    with oa.run("shop", id="r-1", budget=Budget(tokens=100, enforce=True)):
        with pytest.raises(BudgetExceeded):
            call(1)
    assert len(told(captured)) == 2
    with oa.run("shop", id="r-1", budget=Budget(tokens=200, enforce=True)):
        call(100)
        with pytest.raises(BudgetExceeded) as raised:
            call(1)
    assert raised.value.spent == 200
    assert [payload["limit"] for _, payload in told(captured)] == [100, 100, 200, 200]


def test_a_jump_past_both_tells_both(limited: Any) -> None:
    """One call that spends it all still warns first: every listener hears what it waits for."""
    captured = limited(Budget(scope="task", tokens=10))
    with oa.task("sort"):
        call(1000)
    assert levels(captured) == [("budget_warning", "task sort"), ("budget_exceeded", "task sort")]


def test_warn_at_says_when(limited: Any) -> None:
    """The share that is warned at is the budget's own."""
    captured = limited(Budget(tokens=100, warn_at=0.25))
    with oa.run("shop"):
        call(24)
        assert told(captured) == []
        call(1)
        assert levels(captured) == [("budget_warning", "run")]


def test_ten_times_a_tenth_is_the_whole(limited: Any) -> None:
    """The noise of binary fractions keeps no budget from being exceeded."""
    captured = limited(Budget(usd=1.0))
    with oa.run("shop"):
        for _ in range(10):
            call(100_000)
    assert levels(captured)[-1] == ("budget_exceeded", "run")


def test_seconds_leave_out_waits_for_a_human(limited: Any) -> None:
    """A limit of time is checked before a call; while a human is waited for it stands still."""
    captured = limited(Budget(seconds=0.02, enforce=True))
    with oa.run("shop") as run:
        from otel_agents.waits import Waits

        run.waits = Waits()
        run.waits.begin(0)  # since long before the run began
        call(1)
        run.waits = None
        deadline = threading.Event()
        deadline.wait(0.03)
        with pytest.raises(BudgetExceeded) as raised:
            call(1)
    assert raised.value.unit == "second"
    assert levels(captured) == [("budget_warning", "run"), ("budget_exceeded", "run")]
    assert end_of(captured, "run")["otelagents.budget.seconds.spent"] >= 0.02


def test_a_limit_of_time_is_told_while_a_tool_hangs(limited: Any) -> None:
    """No call and no end is needed for it: both events come while the run stands still."""
    captured = limited(Budget(seconds=0.2), Budget(scope="phase", seconds=100))
    with oa.run("shop", id="r-1"), oa.phase("build"), oa.tool("hangs"):
        deadline = time.monotonic() + 20
        while len(told(captured)) < 2 and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        assert levels(captured) == [("budget_warning", "run"), ("budget_exceeded", "run")]
        facts = [signal for signal in captured.signals if signal.kind in KINDS]
        assert {(fact.ids.run_id, fact.trace_id != "") for fact in facts} == {("r-1", True)}
        # Killed now, it would have been heard of last when it told of the limit.
        run = fold(captured.signals).by_id["r-1"]
        read = report(run, now=run.last + 10**12, alive=lambda *_: False)
        shown = {one.scope: (one.state, one.spent >= 0.2) for one in read.budgets}
        assert shown == {"run": ("exceeded", True), "phase": ("within", False)}
    assert len(told(captured)) == 2
    labels = {"budget": "run", "unit": "second", "level": "exceeded"}
    assert captured.metric("otelagents.budget.events", **labels) == 1


def test_nobody_looks_at_the_time_where_no_limit_is_of_time(limited: Any) -> None:
    """A budget of tokens has no look at the clock; one of time has none once its run is over."""
    captured = limited(Budget(tokens=100), Budget(scope="phase", seconds=100))
    ledgers: Any = captured.runtime.budgets
    with oa.run("shop"):
        assert ledgers.look() is None
        with oa.phase("build"):
            assert 0 < (ledgers.look() or 0) <= 80
    assert ledgers.look() is None
    assert ledgers._timed == set()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("budget_usd", -1.0), ("budget_usd", float("nan")), ("budget_usd", float("inf")),
        ("budget_usd", "much"), ("budget_tokens", 0), ("budget_seconds", object()),
        ("budget_warn_at", 1.5), ("budget_warn_at", -0.1),
    ],
)  # fmt: skip
def test_a_wrong_limit_is_reported_and_left_out(
    limited: Any, monkeypatch: pytest.MonkeyPatch, field: str, value: Any
) -> None:
    """A limit that cannot be harms neither the scope nor the limits beside it."""
    monkeypatch.setattr(boundary, "strict", False)
    monkeypatch.setattr(boundary, "counts", {})
    captured = limited()
    beside = "budget_tokens" if field != "budget_tokens" else "budget_usd"
    with oa.run("shop", **{field: value, beside: 7}):
        call(1)
    assert boundary.counts == {f"run field {field}": 1}
    attributes = captured.span("invoke_workflow shop").attributes or {}
    spelled = {"budget_usd": "usd", "budget_tokens": "tokens", "budget_seconds": "seconds"}
    assert attributes[f"otelagents.budget.{spelled[beside]}.limit"] == 7
    assert attributes["otelagents.budget.warn_at"] == 0.8
    if field in spelled:
        assert f"otelagents.budget.{spelled[field]}.limit" not in attributes


def test_a_stream_by_hand_is_cut_and_counts_once(limited: Any) -> None:
    """What the chunks say was used so far ends the stream, and is what the call used."""
    captured = limited(Budget(tokens=100, enforce=True))
    seen = []
    with oa.run("shop"), pytest.raises(BudgetExceeded) as raised:
        with model("priced") as asked:
            for number in range(1, 20):
                asked.chunk(Usage(input_tokens=20, output_tokens=10 * number, requests=1))
                seen.append(number)
    assert seen == list(range(1, 9))  # 100 is all of it, 110 is too much
    assert raised.value.spent == 110
    end = end_of(captured, "run")
    assert end["otelagents.budget.tokens.spent"] == 110
    assert captured.metric("otelagents.tokens") == 110
    span = captured.span("chat priced").attributes or {}
    assert span["otelagents.result"] == "cancellation"
    assert span["otelagents.usage.complete"] is False


def test_a_stream_warns_while_it_runs(limited: Any) -> None:
    """With the chunk that reaches the share, and not a second time with the answer."""
    captured = limited(Budget(tokens=100, enforce=True))
    with oa.run("shop"), model("priced") as asked:
        asked.chunk(Usage(input_tokens=20, output_tokens=40, requests=1))
        assert told(captured) == []
        asked.chunk(Usage(input_tokens=20, output_tokens=60, requests=1))
        assert levels(captured) == [("budget_warning", "run")]
        asked.answered(Usage(input_tokens=20, output_tokens=65, requests=1))
    assert [payload["spent"] for _, payload in told(captured)] == [80]


def test_the_answer_replaces_what_the_chunks_said(limited: Any) -> None:
    """A stream that comes to its end counts what its answer says, and nothing of its chunks."""
    captured = limited(Budget(tokens=100, enforce=True))
    with oa.run("shop"), model("priced") as asked:
        asked.chunk(Usage(input_tokens=20, requests=1))
        asked.answered(Usage(input_tokens=20, output_tokens=5, requests=1))
    assert end_of(captured, "run")["otelagents.budget.tokens.spent"] == 25


def test_gauges_show_what_is_open_the_most_utilised_of_a_name(limited: Any) -> None:
    """Of two runs the fuller one is shown."""
    captured = limited(Budget(tokens=100))
    with oa.run("shop"):
        call(10)
        with oa.run("shop"):
            call(60)
            labels = {"budget": "run", "unit": "token"}
            assert captured.metric("otelagents.budget.limit", **labels) == 100
            assert captured.metric("otelagents.budget.usage", **labels) == 70
            assert captured.metric("otelagents.budget.utilization", **labels) == pytest.approx(0.7)


def test_gauges_show_a_run_that_is_shorter_than_an_export(
    limited: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last values stay for a while, and then go; one that is open comes before them."""
    captured = limited(Budget(tokens=100))

    def use() -> float:
        found: float = captured.metric("otelagents.budget.usage", budget="run", unit="token")
        return found

    for tokens in (30, 20):
        with oa.run("shop"):
            call(tokens)
    assert [use(), use()] == [30, 30]
    with oa.run("shop"):
        call(10)
        assert use() == 10
    monkeypatch.setattr("otel_agents.ledgers.gauges._SECONDS", -1.0)
    with oa.run("shop"):
        call(40)
    assert use() == 0
    assert captured.metric("otelagents.budget.limit") == 0


def test_a_budget_told_by_hand_stands_beside(limited: Any) -> None:
    """What a program tells of a budget of its own is in the same gauges and the same report."""
    captured = limited(Budget(tokens=100))
    with oa.run("shop", id="r-1"):
        call(50)
        payload = {"scope": "daily", "limit": 10.0, "spent": 9.0}
        emit_event("budget_warning", payload)
        assert captured.metric("otelagents.budget.utilization", budget="daily") == 0.9
        assert captured.metric("otelagents.budget.utilization", budget="run") == 0.5
    run = fold(captured.signals).by_id["r-1"]
    read = report(run, now=run.last, alive=alive)
    shown = [(one.scope, one.unit, one.spent, one.state) for one in read.budgets]
    assert shown == [("run", "token", 50, "within"), ("daily", "USD", 9.0, "warning")]


def test_cost_that_an_event_reports_is_spent(limited: Any) -> None:
    """An agent that is only told of by events spends what they report."""
    captured = limited(Budget(usd=1.0))
    with oa.run("shop"):
        emit_event("agent_started", {"agent": "a", "task_id": "t"})
        done = {"agent": "a", "task_id": "t", "status": "success", "duration_ms": 1}
        emit_event("agent_completed", {**done, "cost_usd": 1.5})
        runtime.get().require_pipeline().catch_up()
    assert levels(captured) == [("budget_warning", "run"), ("budget_exceeded", "run")]


def test_threads_tell_each_event_once_and_lose_nothing(limited: Any) -> None:
    """Sixteen threads in one run: the sum is exact and each event is told once."""
    captured = limited(Budget(tokens=1000), Budget(scope="agent", tokens=900))
    from contextvars import copy_context

    with oa.run("shop"):
        together = threading.Barrier(16)

        def work() -> None:
            together.wait()
            for _ in range(25):
                with oa.agent("planner"):
                    call(4)

        threads = [threading.Thread(target=copy_context().run, args=(work,)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert end_of(captured, "run")["otelagents.budget.tokens.spent"] == 1600
    assert Counter(levels(captured)) == {
        (kind, scope): 1 for kind in KINDS for scope in ("run", "agent planner")
    }


def test_finished_runs_are_forgotten(limited: Any) -> None:
    """The ledgers of a great many runs do not stay."""
    captured = limited(Budget(tokens=10), Budget(scope="agent", tokens=10))
    for _ in range(600):
        with oa.run("shop"), oa.agent("planner"):
            pass
    ledgers: Any = captured.runtime.budgets
    assert len(ledgers._ledgers) == 512
    assert len(ledgers._groups) == 256


def test_the_ledger_of_a_scope_that_is_open_is_never_forgotten(limited: Any) -> None:
    """A run goes on with its sum, however many others came and went meanwhile."""
    captured = limited(Budget(tokens=100, enforce=True))
    with oa.run("shop"):
        call(99)
        for _ in range(300):
            with oa.run("other"):
                pass
        call(1)
        with pytest.raises(BudgetExceeded):
            call(1)
    assert captured.metric("otelagents.model.calls") == 2


def test_a_scope_without_a_budget_has_no_ledger(limited: Any) -> None:
    """Where nothing is limited nothing is kept."""
    captured = limited(Budget(scope="agent", name="planner", tokens=10))
    with oa.run("shop") as run, oa.agent("reviewer") as agent:
        call(1)
        assert run.ledgers == agent.ledgers == ()
    ledgers: Any = captured.runtime.budgets
    assert ledgers._ledgers == {}
