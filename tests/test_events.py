"""Events that a program tells of: what they must say, and what becomes of them."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import otel_agents as oa
from otel_agents import events as events_module
from otel_agents import runtime
from otel_agents.event_types import SCHEMAS, check, event_of
from otel_agents.usage import Usage
from otel_agents.vocabulary import EVENT_TYPES, INPUT_TOKENS

if TYPE_CHECKING:
    from otel_agents.event_types import Event
    from otel_agents.testing import Captured

QUEUED = {"task_id": "t-1", "feature": "checkout", "est_cost": 0.4}
STARTED = {"agent": "coder", "task_id": "t-1", "model": "priced", "tools": ["read", "write"]}
COMPLETED = {
    "agent": "coder", "task_id": "t-1", "status": "success", "duration_ms": 1500, "cost_usd": 0.25,
}  # fmt: skip
VALIDATED = {"task_id": "t-1", "result": "passed", "cost": 0.01}
ESCALATED = {"task_id": "t-1", "attempts": 2, "last_error": "no tests", "priority": "high"}
BUDGET = {"scope": "run", "limit": 2.0, "spent": 1.7}
EXAMPLES: dict[str, dict[str, Any]] = {
    "task_queued": QUEUED,
    "agent_started": STARTED,
    "agent_completed": COMPLETED,
    "validation_complete": VALIDATED,
    "hitl_escalated": ESCALATED,
    "budget_warning": BUDGET,
    "budget_exceeded": BUDGET,
}


def events(captured: Captured) -> list[Event]:
    return [event for signal in captured.signals if (event := event_of(signal)) is not None]


def told(captured: Captured) -> list[tuple[str, dict[str, Any]]]:
    return [(event.type, event.payload) for event in events(captured)]


# ---------------------------------------------------------------------- what they must say


def test_there_is_a_schema_and_an_example_for_each_type() -> None:
    """The vocabulary, the schemas and these tests know the same seven types."""
    assert EVENT_TYPES == tuple(SCHEMAS) == tuple(EXAMPLES)


@pytest.mark.parametrize(("type_", "payload"), EXAMPLES.items())
def test_an_event_reaches_the_sinks_as_it_was_given(
    captured: Captured, type_: str, payload: dict[str, Any]
) -> None:
    """Type and payload come out as they went in, keys of the program's own too."""
    given = {**payload, "mine": {"deep": [1, "two"]}, "count": 3}

    oa.emit_event(type_, given)

    assert (type_, given) in told(captured)


@pytest.mark.parametrize(
    ("type_", "payload", "field"),
    [
        (type_, {k: v for k, v in payload.items() if k != field.name}, field.name)
        for type_, payload in EXAMPLES.items()
        for field in __import__("msgspec").structs.fields(SCHEMAS[type_])
        if field.required
    ],
)
def test_a_missing_field_is_named(
    captured: Captured, type_: str, payload: dict[str, Any], field: str
) -> None:
    """An event without one of its fields is refused with the type and the field, and not told."""
    with pytest.raises(oa.EventError, match=rf"^{type_}\.{field}: it is missing; ") as raised:
        oa.emit_event(type_, payload)

    assert (raised.value.type, raised.value.field) == (type_, field)
    assert told(captured) == []


@pytest.mark.parametrize(
    ("type_", "field", "value", "said"),
    [
        ("agent_completed", "status", "done", "'done' is none of success, failed, approved"),
        ("agent_completed", "duration_ms", -1, ">= 0"),
        ("agent_completed", "duration_ms", float("nan"), ">= 0"),
        ("agent_completed", "cost_usd", float("inf"), "<= 1"),
        ("agent_completed", "cost_usd", "0.1", "got `str`"),
        ("agent_started", "tools", ["a", 3], "got `int`"),
        ("agent_started", "agent", None, "got `null`"),
        ("task_queued", "est_cost", True, "got `bool`"),
        ("task_queued", "timestamp", 1e30, "<= 9"),
        ("validation_complete", "result", "maybe", "'maybe' is none of passed, failed"),
        ("hitl_escalated", "attempts", 1.5, "got `float`"),
        ("budget_warning", "limit", [], "got `array`"),
    ],
)
def test_a_wrong_field_is_named(type_: str, field: str, value: object, said: str) -> None:
    """A field of another type or out of its bounds is named, with what it takes."""
    with pytest.raises(oa.EventError, match=rf"^{type_}\.{field}: ") as raised:
        oa.emit_event(type_, {**EXAMPLES[type_], field: value})

    assert said in str(raised.value)


@pytest.mark.parametrize("wrong", ["agent_begun", "", "AGENT_STARTED", None, 3, ["agent_started"]])
def test_a_type_that_is_none_is_refused(wrong: Any) -> None:
    """The sentence lists the types there are."""
    with pytest.raises(oa.EventError, match="the types are task_queued, agent_started"):
        oa.emit_event(wrong, {})


@pytest.mark.parametrize("wrong", [None, [], "text", 3])
def test_a_payload_that_is_no_mapping_is_refused(wrong: Any) -> None:
    """The sentence says what came instead."""
    with pytest.raises(oa.EventError, match="the payload must be a dict, not "):
        oa.emit_event("task_queued", wrong)


def test_an_event_error_is_a_value_error() -> None:
    """A program that catches ValueError catches it."""
    assert issubclass(oa.EventError, ValueError)


def test_where_the_caller_is_not_strict_a_wrong_event_is_counted_and_logged(
    captured: Captured, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not raised and not told, but it is not lost silently either."""
    monkeypatch.setattr(events_module._Refused, "said", {})  # other tests said it, too
    for _ in range(3):
        oa.emit_event("agent_completed", {"agent": "strange"}, strict=False)

    assert captured.metric("otelagents.telemetry.dropped", sink="events", reason="invalid") == 3
    said = (
        "otel-agents: an event is left out: agent_completed.task_id: it is missing; "
        "agent_completed takes agent, task_id, status, duration_ms, cost_usd"
    )
    assert [record.getMessage() for record in caplog.records] == [said]
    assert told(captured) == []


@given(
    st.sampled_from(sorted(EXAMPLES)),
    st.dictionaries(st.text(), st.none() | st.integers() | st.floats() | st.text(), max_size=4),
)
def test_no_payload_raises_anything_but_an_event_error(type_: str, extra: dict[str, Any]) -> None:
    """Whatever stands in a payload, it is taken or refused in one sentence."""
    try:
        check(type_, {**EXAMPLES[type_], **extra})
    except oa.EventError as error:
        assert "\n" not in str(error)  # noqa: PT017 - most payloads are right


# ---------------------------------------------------------------------- what becomes of them


@pytest.mark.parametrize(
    ("status", "result", "state"),
    [
        ("success", "success", "DONE"),
        ("failed", "failure", "FAILED"),
        ("approved", "success", "DONE"),
        ("rejected", "success", "IN_REVIEW"),
    ],
)
def test_a_pair_of_agent_events_is_a_real_agent(
    captured: Captured, status: str, result: str, state: str
) -> None:
    """It has a span, a duration, a cost and a status, and its run's total has the cost."""
    with oa.run("shop"):
        oa.emit_event("task_queued", QUEUED)
        oa.emit_event("agent_started", STARTED)
        oa.emit_event("agent_completed", {**COMPLETED, "status": status})

    span = captured.span("invoke_agent coder")
    assert span.attributes is not None
    assert span.parent == captured.span("invoke_workflow shop").context
    assert span.attributes["otelagents.task.id"] == "t-1"
    assert span.attributes["otelagents.result"] == result
    assert span.attributes["otelagents.cost.total"] == 0.25
    assert span.attributes["otelagents.agent.tools"] == ("read", "write")
    assert (span.status.status_code.name == "ERROR") is (status == "failed")
    assert captured.span("invoke_workflow shop").attributes["otelagents.cost.total"] == 0.25  # type: ignore[index]
    assert captured.metric("otelagents.agent.attempts", agent="coder", result=result) == 1
    assert captured.metric("otelagents.agent.active") == 0
    assert captured.metric("otelagents.cost", agent="coder", result=result) == 0.25
    states = [
        signal.attributes["otelagents.task.state"]
        for signal in captured.signals
        if signal.kind == "task"
    ]
    assert states == ["PENDING", "RUNNING", state]


def test_a_span_lasts_from_the_start_told_to_the_end_told(captured: Captured) -> None:
    """Not from when a thread of ours got to it: other events may have been before it."""
    oa.emit_event("agent_started", STARTED)
    oa.emit_event("agent_completed", COMPLETED)

    start, end = (event.time for event in events(captured))
    span = captured.span("invoke_agent coder")
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.start_time / 1e9 == pytest.approx(start, abs=1e-6)
    assert span.end_time / 1e9 == pytest.approx(end, abs=1e-6)


def test_an_end_without_a_start_takes_the_duration_it_states(captured: Captured) -> None:
    """The agent is counted once, and no start is made up in the stream."""
    oa.emit_event("agent_completed", COMPLETED)

    span = captured.span("invoke_agent coder")
    assert span.start_time is not None
    assert span.end_time is not None
    assert (span.end_time - span.start_time) / 1e9 == pytest.approx(1.5)
    assert [name for name, _ in told(captured)] == ["agent_completed"]
    assert captured.metric("otelagents.agent.attempts") == 1


def test_the_first_end_closes_the_first_start_of_an_agent_and_task(captured: Captured) -> None:
    """Attempts at one task are numbered, and each ends once."""
    with oa.run("shop"):
        for _ in range(2):
            oa.emit_event("agent_started", STARTED)
        for status in ("failed", "success"):
            oa.emit_event("agent_completed", {**COMPLETED, "status": status})

    found = [
        (span.attributes["otelagents.agent.attempt"], span.attributes["otelagents.result"])
        for span in captured.spans
        if span.name == "invoke_agent coder" and span.attributes is not None
    ]
    assert found == [(1, "failure"), (2, "success")]


def test_an_end_that_is_told_outside_its_run_closes_the_agent(captured: Captured) -> None:
    """The agent stays in the run it began in, and is not counted again."""
    with oa.run("shop"):
        oa.emit_event("agent_started", STARTED)
    oa.emit_event("agent_completed", COMPLETED)

    assert captured.tree().splitlines() == ["invoke_workflow shop", "  invoke_agent coder"]
    assert captured.metric("otelagents.agent.attempts") == 1
    assert captured.metric("otelagents.agent.active") == 0


def test_the_time_of_an_event_is_when_it_was_told(captured: Captured) -> None:
    """A task may have been queued long before; the time to completion counts from then."""
    before = time.time() - 3600
    oa.emit_event("task_queued", {**QUEUED, "timestamp": before})
    oa.emit_event("validation_complete", VALIDATED)

    assert events(captured)[0].time > before + 3000
    assert oa.get_emitter().get_metrics()["time_to_completion"] == pytest.approx(3600, abs=60)


def test_an_announced_agent_and_its_instrumented_call_are_one_agent(captured: Captured) -> None:
    """The call's span lies under the announcement's; its usage decides the cost over the report."""
    with oa.run("shop"):
        oa.emit_event("agent_started", STARTED)
        with oa.agent("coder"), oa.model("priced", provider="p") as call:
            call.answered(Usage(input_tokens=1000, output_tokens=500, requests=1))
        oa.emit_event("agent_completed", COMPLETED)

    assert captured.tree().splitlines() == [
        "invoke_workflow shop",
        "  invoke_agent coder",
        "    invoke_agent coder",
        "      chat priced",
    ]
    assert captured.metric("otelagents.agent.attempts") == 1
    assert captured.metric("otelagents.agent.active") == 0
    ended = [payload for name, payload in told(captured) if name == "agent_completed"]
    assert [payload["cost_usd"] for payload in ended] == [0.002]
    outer = next(span for span in captured.spans if span.name == "invoke_agent coder")
    assert outer.attributes is not None
    assert outer.attributes["otelagents.cost.reported"] == 0.25
    assert outer.attributes["otelagents.cost.difference"] == 0.248
    billed = [
        span.attributes[INPUT_TOKENS.key]
        for span in captured.spans
        if span.attributes is not None and INPUT_TOKENS.key in span.attributes
    ]
    assert billed == [1000]


def test_an_announcement_that_nobody_concluded_is_of_its_run_only(captured: Captured) -> None:
    """A later run's agent of that name is an agent of its own."""
    with oa.run("first"):
        oa.emit_event("agent_started", STARTED)
    with oa.run("second"), oa.agent("coder"):
        pass

    assert captured.tree().splitlines() == [
        "invoke_workflow first", "invoke_workflow second", "  invoke_agent coder",
    ]  # fmt: skip
    assert captured.metric("otelagents.agent.attempts") == 1


def test_events_inside_an_agents_scope_annotate_it(captured: Captured) -> None:
    """There is one agent, told of once, with what the program says of it."""
    with oa.agent("coder"):
        oa.emit_event("agent_started", STARTED)
        oa.emit_event("agent_completed", {**COMPLETED, "status": "failed", "ticket": "X-7"})

    span = captured.span("invoke_agent coder")
    assert span.attributes is not None
    assert span.attributes["otelagents.result"] == "failure"
    assert span.attributes["ticket"] == "X-7"
    assert span.attributes["otelagents.agent.tools"] == ("read", "write")
    assert [name for name, _ in told(captured)] == ["agent_started", "agent_completed"]
    assert told(captured)[1][1]["ticket"] == "X-7"
    assert captured.metric("otelagents.agent.attempts", result="failure") == 1
    assert captured.metric("otelagents.cost") == 0.25


def test_an_event_of_another_agent_inside_a_scope_is_an_agent_of_its_own(
    captured: Captured,
) -> None:
    """A lead that tells of a coder is not annotated by it; the coder stands under the lead."""
    with oa.agent("lead"):
        oa.emit_event("agent_started", STARTED)
        oa.emit_event("agent_completed", COMPLETED)

    assert captured.tree().splitlines() == ["invoke_agent lead", "  invoke_agent coder"]


@pytest.mark.parametrize(
    ("result", "counted"),
    [("passed", "success"), (True, "success"), ("failed", "failure"), (False, "failure")],
)
def test_a_validation_is_counted_by_its_result(
    captured: Captured, result: object, counted: str
) -> None:
    """Its cost is part of what the run cost."""
    with oa.run("shop"):
        oa.emit_event("validation_complete", {**VALIDATED, "result": result})

    assert captured.metric("otelagents.validations", result=counted) == 1
    assert captured.span("invoke_workflow shop").attributes["otelagents.cost.total"] == 0.01  # type: ignore[index]


def test_an_escalation_is_counted_and_stands_on_the_span(captured: Captured) -> None:
    """It is no error of the run."""
    with oa.run("shop"):
        oa.emit_event("hitl_escalated", ESCALATED)

    span = captured.span("invoke_workflow shop")
    assert captured.metric("otelagents.hitl.escalations", workflow="shop") == 1
    assert [event.name for event in span.events] == ["otelagents.hitl_escalated"]
    assert span.status.status_code.name == "UNSET"


@pytest.mark.parametrize("level", ["warning", "exceeded"])
def test_a_budget_event_is_counted_and_its_gauges_hold_it(captured: Captured, level: str) -> None:
    """Limit, use and share are what the last event of the budget said."""
    oa.emit_event(f"budget_{level}", {**BUDGET, "spent": 0.1})
    oa.emit_event(f"budget_{level}", {**BUDGET, "unit": "token", "limit": 10})
    oa.emit_event(f"budget_{level}", BUDGET)

    assert captured.signals
    labels = {"budget": "run", "unit": "USD"}
    assert captured.metric("otelagents.budget.events", **labels, level=level) == 2
    assert captured.metric("otelagents.budget.limit", **labels) == 2.0
    assert captured.metric("otelagents.budget.usage", **labels) == 1.7
    assert captured.metric("otelagents.budget.utilization", **labels) == 0.85
    assert captured.metric("otelagents.budget.limit", budget="run", unit="token") == 10


# ---------------------------------------------------------------------- critics and KPIs


def decisions(captured: Captured) -> tuple[float, float]:
    counts = oa.get_emitter().get_metrics()["counts"]
    assert captured.metric("otelagents.critic.decisions") == counts["critic_decisions"]
    assert (
        captured.metric("otelagents.critic.decisions", result="failure")
        == counts["critic_rejections"]
    )
    return counts["critic_decisions"], counts["critic_rejections"]


def test_a_decision_told_in_both_ways_is_counted_once(captured: Captured) -> None:
    """Recorded inside the critic's scope, after its end, or by agent and task: it is the same."""
    critic = {**COMPLETED, "agent": "critic", "status": "rejected"}
    oa.emit_event("agent_started", {"agent": "critic", "task_id": "t-1"})
    oa.record_critic_decision(rejected=True)
    oa.emit_event("agent_completed", critic)
    oa.emit_event("agent_completed", {**critic, "task_id": "t-2"})
    oa.record_critic_decision(rejected=True)
    oa.record_critic_decision(rejected=False, task_id="t-3", agent="critic")
    oa.emit_event("agent_completed", {**critic, "task_id": "t-3", "status": "approved"})

    assert decisions(captured) == (3, 2)


def test_decisions_that_are_not_the_same_count_each(captured: Captured) -> None:
    """Without an agent there is nothing to match them by."""
    oa.record_critic_decision(rejected=True)
    oa.record_critic_decision(rejected=False)
    oa.record_critic_decision(rejected=False, name="style")

    assert decisions(captured) == (3, 1)
    assert captured.metric("otelagents.critic.decisions", name="style") == 1


def test_get_metrics_knows_what_was_told_just_before(captured: Captured) -> None:
    """Nobody has to wait for a thread of ours."""
    assert oa.get_emitter().get_metrics()["validation_pass_rate"] is None

    oa.emit_event("validation_complete", VALIDATED)

    assert oa.get_emitter().get_metrics()["validation_pass_rate"] == 1.0
    assert captured.metric("otelagents.kpi.validation_pass_rate") == 1.0


def test_scopes_count_like_events(captured: Captured) -> None:
    """A program that emits nothing has KPIs all the same."""
    emitter = oa.get_emitter()
    emitter.get_metrics()
    oa.task("build", id="t-1").record()
    with oa.task("build", id="t-1"):
        for _ in range(2):
            with oa.agent("coder"):
                pass
    oa.validation("tests", passed=True).record()

    found = emitter.get_metrics()
    assert found["average_retry_count"] == 1.0
    assert found["validation_pass_rate"] == 1.0
    assert found["counts"]["agents_completed"] == 2
    assert captured.signals


# ---------------------------------------------------------------------- threads and loops


def test_events_come_in_the_order_in_which_a_thread_told_them(captured: Captured) -> None:
    """Eight threads at once: all is there, each thread's own in its order."""

    def work(number: int) -> None:
        for step in range(200):
            oa.emit_event("validation_complete", {**VALIDATED, "task_id": f"{number}", "n": step})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found: dict[str, list[int]] = {}
    for _, payload in told(captured):
        found.setdefault(payload["task_id"], []).append(payload["n"])
    assert found == {f"{number}": list(range(200)) for number in range(8)}


def test_scopes_and_events_of_a_thread_come_in_its_order(captured: Captured) -> None:
    """A scope does not overtake what was told before it, though that takes another thread."""
    for number in range(300):
        oa.emit_event("validation_complete", {**VALIDATED, "task_id": f"{number}"})
        with oa.agent(f"{number}"):
            pass

    found = [payload.get("agent") or payload["task_id"] for _, payload in told(captured)]
    assert found == [f"{number}" for number in range(300) for _ in range(3)]


def test_each_task_of_a_loop_has_its_own_announcements(captured: Captured) -> None:
    """Fifty coroutines announce the same agent; each call lies under its own announcement."""

    async def work(number: int) -> None:
        task_id = f"t-{number}"
        oa.emit_event("agent_started", {"agent": "coder", "task_id": task_id})
        await asyncio.sleep(0)
        async with oa.agent("coder"):
            await asyncio.sleep(0)
        oa.emit_event("agent_completed", {**COMPLETED, "task_id": task_id})

    async def main() -> None:
        async with oa.run("shop"):
            await asyncio.gather(*map(work, range(50)))

    asyncio.run(main())

    spans = [span for span in captured.spans if span.name == "invoke_agent coder"]
    by_id = {span.context.span_id: span for span in spans if span.context is not None}
    pairs = [
        (span.attributes["otelagents.task.id"], by_id[span.parent.span_id].attributes)
        for span in spans
        if span.parent is not None and span.parent.span_id in by_id and span.attributes is not None
    ]
    assert len(spans) == 100
    assert len(pairs) == 50
    assert all(above is not None and above["otelagents.task.id"] == task for task, above in pairs)
    assert captured.metric("otelagents.agent.attempts") == 50


def test_where_telemetry_is_off_events_are_checked_and_go_nowhere() -> None:
    """A wrong payload is a mistake of the program all the same."""
    runtime.put(runtime.Runtime(disabled=True))

    oa.emit_event("task_queued", QUEUED)
    with pytest.raises(oa.EventError):
        oa.emit_event("task_queued", {})

    assert runtime.get().pipeline is None
