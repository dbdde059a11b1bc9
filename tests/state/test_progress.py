"""Signals of scopes read as progress messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import otel_agents as oa
from otel_agents.signals import Failure, Ids, Signal, decode_line, encode_line
from otel_agents.state.progress import PROGRESS_DETAILS, PROGRESS_TYPES, progress_of
from otel_agents.usage import Usage
from otel_agents.vocabulary import OUTCOMES

if TYPE_CHECKING:
    from otel_agents.testing import Captured

WHERE = {
    "work_order_id": "o1", "run_id": "r1", "correlation_id": "c1",
    "timestamp": "1970-01-01T00:00:01.500Z",
}  # fmt: skip
IDS = Ids(
    run_id="r1", work_order_id="o1", correlation_id="c1", iteration=2, phase="plan", workflow="shop"
)


def signal(kind: str, edge: Any, **fields: Any) -> Signal:
    details = fields.pop("details", None)
    attributes = fields.pop("attributes", {})
    if details is not None:
        attributes = {**attributes, PROGRESS_DETAILS.key: details}
    fields.setdefault("ids", IDS)
    return Signal(id="s", kind=kind, edge=edge, time=1_500_000_000, attributes=attributes, **fields)


def test_a_run_that_starts_says_what_it_is_for() -> None:
    """The goal is cut to a hundred characters; what nobody said is None."""
    found = progress_of(signal("run", "start", attributes={"otelagents.run.goal": "g" * 200}))

    (message,) = found
    spec = message.pop("task_spec")
    assert message == {"type": "run:started", **WHERE}
    assert len(spec.pop("goal")) == 100
    assert spec == {"strategy": None, "max_iterations": None}


def test_what_the_program_added_to_the_task_is_told_too() -> None:
    """Goal, strategy and limit are the scope's, whatever the details say."""
    (message,) = progress_of(
        signal(
            "run", "start",
            attributes={"otelagents.run.strategy": "tdd", "otelagents.iteration.max": 4},
            details={"task_spec": {"goal": "other", "repository": "cart"}},
        )
    )  # fmt: skip

    assert message["task_spec"] == {
        "goal": None, "strategy": "tdd", "max_iterations": 4, "repository": "cart",
    }  # fmt: skip


def test_a_run_that_succeeded_has_one_end_with_its_metrics() -> None:
    """What the program measured itself goes before what the signal knows."""
    found = progress_of(
        signal(
            "run", "end", result="success", duration=1.5,
            attributes={
                "otelagents.usage.total.requests": 2,
                "otelagents.usage.complete": True,
                "otelagents.usage.total.input_tokens": 10,
                "otelagents.usage.total.output_tokens": 5,
                "otelagents.cost.total": 0.25,
            },
            details={"metrics": {"requests": 3, "files": 12}, "result": {"branch": "main"}},
        )
    )  # fmt: skip

    assert found == [
        {
            "type": "run:completed", **WHERE, "result": "succeeded",
            "metrics": {
                "duration_ms": 1500.0, "requests": 3, "usage_complete": True, "input_tokens": 10,
                "output_tokens": 5, "cost_usd": 0.25, "files": 12,
            },
            "details": {"branch": "main"},
        }
    ]  # fmt: skip


@pytest.mark.parametrize("outcome", ["failure", "error", "timeout", "no such outcome"])
def test_a_run_that_failed_is_told_under_two_names(outcome: str) -> None:
    """`run:completed` for who counts ends, `run:failed` for who waits for failures."""
    found = progress_of(
        signal("run", "end", result=outcome, duration=2.0, error=Failure("KeyError", "no key"))
    )

    assert found == [
        {"type": "run:completed", **WHERE, "result": "failed", "metrics": {"duration_ms": 2000.0}},
        {"type": "run:failed", **WHERE, "error": "no key"},
    ]


def test_a_failure_without_a_text_is_named_by_its_class() -> None:
    """The text of an exception may not leave the process; its class may."""
    found = progress_of(signal("run", "end", result="error", error=Failure("KeyError")))

    assert found[1]["error"] == "KeyError"


@pytest.mark.parametrize("outcome", ["cancellation", "skip"])
def test_a_canceled_run_is_told_under_two_names(outcome: str) -> None:
    """A reason is told where there is one."""
    found = progress_of(signal("run", "end", result=outcome))

    assert found == [
        {"type": "run:completed", **WHERE, "result": "canceled", "metrics": {"duration_ms": None}},
        {"type": "run:canceled", **WHERE, "reason": None},
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            signal("iteration", "start", details={"feedback": "again"}),
            {"type": "iteration:started", **WHERE, "iteration": 2, "feedback": "again"},
        ),
        (
            signal("iteration", "end", result="success", duration=0.25),
            {
                "type": "iteration:completed", **WHERE, "iteration": 2, "success": True,
                "timings": {}, "duration_ms": 250.0,
            },
        ),
        (
            signal("iteration", "end", result="failure", details={"timings": {"plan": 12.5}}),
            {
                "type": "iteration:completed", **WHERE, "iteration": 2, "success": False,
                "timings": {"plan": 12.5}, "duration_ms": None,
            },
        ),
        (
            signal("phase", "start"),
            {"type": "phase:started", **WHERE, "iteration": 2, "phase": "plan"},
        ),
        (
            signal("phase", "end", result="success", duration=0.5),
            {
                "type": "phase:completed", **WHERE, "iteration": 2, "phase": "plan",
                "success": True, "duration_ms": 500.0,
            },
        ),
        (
            signal("phase", "end", result="cancellation", duration=9, details={"duration_ms": 7.0}),
            {
                "type": "phase:completed", **WHERE, "iteration": 2, "phase": "plan",
                "success": False, "duration_ms": 7.0,
            },
        ),
        (
            signal(
                "gate", "end", name="tests", result="failure",
                attributes={"otelagents.passed": False},
            ),
            {"type": "gate:checked", **WHERE, "iteration": 2, "gate": "tests", "passed": False},
        ),
        (
            signal("gate", "fact", name="tests", result="success"),
            {"type": "gate:checked", **WHERE, "iteration": 2, "gate": "tests", "passed": True},
        ),
        (signal("delivery", "start"), {"type": "delivery:started", **WHERE}),
        (
            signal(
                "delivery", "end", result="success",
                attributes={
                    "otelagents.delivery.url": "https://x/1",
                    "otelagents.delivery.ci_status": "green",
                },
                details={"result": {"commits": 3}},
            ),
            {
                "type": "delivery:completed", **WHERE,
                "result": {
                    "commits": 3, "success": True, "url": "https://x/1", "ci_status": "green",
                },
            },
        ),
    ],
)  # fmt: skip
def test_each_edge_has_its_message(given: Signal, expected: dict[str, Any]) -> None:
    """The shape of every message, to the field."""
    assert progress_of(given) == [expected]


@pytest.mark.parametrize(
    "given",
    [
        signal("agent", "start"),
        signal("run", "progress"),
        signal("validation", "end"),
        signal("runtime", "fact"),
        signal("nothing", "end"),
    ],
)
def test_other_signals_are_no_progress(given: Signal) -> None:
    """Heartbeats, agents and facts of other kinds give no message."""
    assert progress_of(given) == []


def test_an_order_that_the_scope_does_not_know_is_taken_from_the_details() -> None:
    """And the correlation id is the run's where there is none."""
    found = progress_of(
        signal("phase", "start", ids=Ids(run_id="r2"), details={"work_order_id": "o9"})
    )

    assert (found[0]["work_order_id"], found[0]["correlation_id"]) == ("o9", "r2")
    assert found[0]["iteration"] is None


def test_scopes_alone_give_the_messages(captured: Captured) -> None:
    """A program without an emitter is followed too."""
    with oa.run("shop", id="r1", goal="ship") as run, oa.iteration(), oa.phase("plan"):
        oa.gate("style", passed=True).record()
        run.count(Usage(requests=1, input_tokens=3, output_tokens=4), 0.5)

    found = [message for one in captured.signals for message in progress_of(one)]
    assert [message["type"] for message in found] == [
        "run:started", "iteration:started", "phase:started", "gate:checked", "phase:completed",
        "iteration:completed", "run:completed",
    ]  # fmt: skip
    assert {message["run_id"] for message in found} == {"r1"}
    metrics = found[-1]["metrics"]
    assert metrics.pop("duration_ms") > 0
    assert metrics == {
        "requests": 1, "usage_complete": True, "input_tokens": 3, "output_tokens": 4,
        "cost_usd": 0.5,
    }  # fmt: skip


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(
    kind=st.sampled_from(["run", "iteration", "phase", "gate", "delivery"]),
    edge=st.sampled_from(["start", "progress", "end", "fact"]),
    result=st.sampled_from(OUTCOMES) | st.text(),
    time=st.integers(-(2**63), 2**63 - 1),
    duration=st.none() | st.floats(),
    details=anything,
    attributes=st.dictionaries(
        st.sampled_from(["otelagents.run.goal", "otelagents.passed", "otelagents.cost.total"]),
        anything,
    ),
)
def test_any_signal_can_be_read(kind: str, edge: Any, details: Any, **fields: Any) -> None:
    """Whatever a foreign signal holds, each message has a known type and the common fields."""
    attributes = {**fields.pop("attributes"), PROGRESS_DETAILS.key: details}
    given = Signal(id="s", kind=kind, edge=edge, attributes=attributes, **fields)

    for message in progress_of(given):
        assert message["type"] in PROGRESS_TYPES
        assert {"work_order_id", "run_id", "correlation_id", "timestamp"} <= set(message)


def test_a_signal_says_the_same_after_a_journey() -> None:
    """Read from disk or the wire, a signal gives the messages it gave in the process."""
    given = signal(
        "run", "end", result="success", duration=1.0,
        details={"metrics": {"by_phase": [1, 2]}, "result": {"url": None}},
    )  # fmt: skip
    read = decode_line(encode_line(given))

    assert read is not None
    assert progress_of(read) == progress_of(given)
