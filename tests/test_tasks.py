"""Tasks: their states, leases and reasons, what is told of each, and the gauges of their queues."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

import otel_agents as oa
from otel_agents import tasks
from otel_agents.boundary import boundary
from otel_agents.instrument.targets import Targets
from otel_agents.settings import Wrap
from otel_agents.tasks import seconds_of

if TYPE_CHECKING:
    from otel_agents.signals import Signal
    from otel_agents.testing import Captured


@pytest.fixture(autouse=True)
def _no_tasks() -> None:
    tasks._queues.reset()


def told(captured: Captured) -> list[Signal]:
    return [signal for signal in captured.signals if signal.kind == "task"]


def states(captured: Captured) -> list[tuple[str, Any]]:
    return [
        (signal.edge, signal.attributes.get("otelagents.task.state")) for signal in told(captured)
    ]


def events(captured: Captured) -> list[dict[str, Any]]:
    return [
        {key.rpartition(".")[2]: value for key, value in signal.attributes.items()}
        for signal in captured.signals
        if signal.attributes.get("otelagents.runtime.layer") == "dispatcher"
    ]


def codes(captured: Captured) -> list[str]:
    return [event["reason_code"] for event in events(captured)]


@pytest.mark.parametrize(
    ("error", "state", "result"),
    [
        (None, "DONE", "success"),
        (ValueError("no"), "FAILED", "error"),
        (TimeoutError(), "FAILED", "timeout"),
        (asyncio.CancelledError(), "FAILED", "cancellation"),
    ],
)
def test_a_task_is_running_and_then_what_its_outcome_makes_it(
    captured: Captured, error: BaseException | None, state: str, result: str
) -> None:
    """Span, signals, runtime events and the duration's labels say the same."""
    expected = nullcontext() if error is None else pytest.raises(type(error))
    with expected, oa.task("build", id="t1", queue="builds", feature="login"):
        if error is not None:
            raise error

    assert states(captured) == [("start", "RUNNING"), ("end", state)]
    assert told(captured)[0].attributes["otelagents.task.queue"] == "builds"
    assert told(captured)[1].result == result
    assert codes(captured) == ["STARTED", state]
    assert {event["id"] for event in events(captured)} == {"t1"}
    assert captured.span("task build").attributes["otelagents.task.state"] == state
    assert captured.metric("otelagents.task.duration", queue="builds", result=result) == 1


def test_reasons_are_kept(captured: Captured) -> None:
    """A failure and a skip that no exception tells of have their reasons on signal and event."""
    with oa.task("a", id="t1") as scope:
        scope.fail("no disk")
    with oa.task("b", id="t2") as scope:
        scope.skip("was done before")

    ends = [signal for signal in told(captured) if signal.edge == "end"]
    assert [(signal.error.type, signal.error.message) for signal in ends if signal.error] == [
        ("failure", "no disk"), ("skip", "was done before"),
    ]  # fmt: skip
    assert [event.get("reason") for event in events(captured)] == [
        None, "no disk", None, "was done before",
    ]  # fmt: skip
    assert codes(captured) == ["STARTED", "FAILED", "STARTED", "SKIPPED"]


@pytest.mark.parametrize("state", ["IN_REVIEW", "PENDING"])
def test_a_task_that_is_handed_on_stays_there(captured: Captured, state: str) -> None:
    """Put into review, or back into its queue, it is not done when the work on it ends."""
    code = {"IN_REVIEW": "IN_REVIEW", "PENDING": "QUEUED"}[state]
    with oa.task("build", id="t1") as scope:
        scope.state(state.lower().replace("_", " "))
        scope.state(state)

    assert states(captured) == [
        ("start", "RUNNING"), ("fact", state), ("fact", state), ("end", state),
    ]  # fmt: skip
    assert codes(captured) == ["STARTED", code]


def test_an_error_beats_the_state_it_was_in(captured: Captured) -> None:
    """Work that failed after the task went into review has failed."""
    with pytest.raises(ValueError, match="no"), oa.task("build", id="t1") as scope:
        scope.state("IN_REVIEW")
        raise ValueError("no")

    assert states(captured)[-1] == ("end", "FAILED")
    assert codes(captured) == ["STARTED", "IN_REVIEW", "FAILED"]


@pytest.mark.parametrize(
    ("state", "result"), [("DONE", "success"), ("FAILED", "failure"), ("SKIPPED", "skip")]
)
def test_a_final_state_is_an_outcome(captured: Captured, state: str, result: str) -> None:
    """Said by `state` or set as a field, it judges the scope as an outcome would."""
    with oa.task("a", id="t1") as scope:
        scope.state(state)
    with oa.task("b", id="t2") as scope:
        scope.set(state=state)

    ends = [signal for signal in told(captured) if signal.edge == "end"]
    assert [(signal.attributes["otelagents.task.state"], signal.result) for signal in ends] == [
        (state, result)
    ] * 2
    assert codes(captured) == ["STARTED", state] * 2


def test_a_lease_is_told_when_taken_and_when_renewed(captured: Captured) -> None:
    """Owner, when it was taken and when it ends; a renewal keeps when it was taken."""
    with oa.task("build", id="t1", persona_id="p1") as scope:
        scope.lease("w1", 60)
        scope.lease("w1", 120)

    first, second = (signal for signal in told(captured) if signal.edge == "fact")
    acquired = first.attributes["otelagents.task.lease.acquired_at"]
    assert first.attributes["otelagents.task.lease.owner"] == "w1"
    assert first.attributes["otelagents.task.lease.expires_at"] == pytest.approx(acquired + 60)
    assert "otelagents.task.lease.acquired_at" not in second.attributes
    assert second.attributes["otelagents.task.lease.expires_at"] >= acquired + 120
    assert "otelagents.task.state" not in second.attributes
    assert codes(captured) == ["STARTED", "LEASED", "LEASED", "DONE"]
    assert [event.get("renewed") for event in events(captured)] == [None, False, True, None]
    # The persona's key ends in `id` as the entity's does; both are told.
    assert {
        signal.attributes["otelagents.task.persona.id"]
        for signal in captured.signals
        if signal.kind == "runtime"
    } == {"p1"}


def test_a_task_is_told_of_without_working_on_it(captured: Captured) -> None:
    """`record` is a fact in the state given, PENDING by default, with the reason that was said."""
    oa.task("build", id="t1", queue="builds", lease_expires_at=1.5).record()
    oa.task("build", id="t2", state="in_review").record()
    failed = oa.task("build", id="t3")
    failed.fail("no disk")
    failed.record()
    oa.task("build", id="t4").lease("w1", 60)
    oa.task("build", id="t5").state("SKIPPED")

    assert states(captured) == [
        ("fact", "PENDING"), ("fact", "IN_REVIEW"), ("fact", "FAILED"), ("fact", None),
        ("fact", "SKIPPED"),
    ]  # fmt: skip
    assert [signal.ids.task_id for signal in told(captured)] == ["t1", "t2", "t3", "t4", "t5"]
    assert told(captured)[0].attributes["otelagents.task.lease.expires_at"] == 1.5
    assert told(captured)[2].error is not None
    assert told(captured)[2].error.message == "no disk"
    assert codes(captured) == ["QUEUED", "IN_REVIEW", "FAILED", "LEASED", "SKIPPED"]
    assert captured.spans == []


def test_a_recorded_task_goes_on(captured: Captured) -> None:
    """The object that was recorded tells of the next state too; of one that is over, nothing."""
    waiting = oa.task("build", id="t1", queue="builds")
    waiting.record()
    waiting.state("FAILED")
    waiting.state("PENDING")
    with oa.task("build", id="t2") as worked:
        pass
    worked.state("PENDING")

    assert states(captured) == [
        ("fact", "PENDING"), ("fact", "FAILED"), ("fact", "PENDING"), ("start", "RUNNING"),
        ("end", "DONE"),
    ]  # fmt: skip


def test_a_word_that_is_no_state_harms_nobody(
    captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a field it is left away; said outright it is reported once."""
    monkeypatch.setattr(boundary, "strict", False)
    before = boundary.counts.get("task state", 0)
    with oa.task("build", id="t1", state="BLOCKED") as scope:
        scope.state("HUNG")

    assert states(captured) == [("start", "RUNNING"), ("end", "DONE")]
    assert boundary.counts["task state"] == before + 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (12.5, 12.5),
        ("12.5", 12.5),
        (datetime(2026, 1, 1, tzinfo=UTC), 1767225600.0),
        ("2026-01-01T00:00:00+00:00", 1767225600.0),
        (float("nan"), None),
        (float("inf"), None),
        ("soon", None),
        (None, None),
        ([], None),
    ],
)
def test_times_are_seconds_or_datetimes(value: Any, seconds: float | None) -> None:
    """Anything else is no time."""
    assert seconds_of(value) == seconds


def sizes(captured: Captured) -> dict[tuple[Any, ...], float]:
    return {
        (labels.get("queue"), labels["state"]): value
        for name, labels, value in captured.points()
        if name == "otelagents.queue.size"
    }


def test_the_gauges_follow_the_tasks(captured: Captured) -> None:
    """Open tasks by queue and state; one that left a state is not counted there any more."""
    for number in range(3):
        oa.task("build", id=f"t{number}", queue="builds").record()
    oa.task("other", id="x").record()
    assert sizes(captured) == {("builds", "PENDING"): 3, (None, "PENDING"): 1}
    with oa.task("build", id="t0") as scope:
        assert sizes(captured)["builds", "RUNNING"] == 1
        assert sizes(captured)["builds", "PENDING"] == 2
        scope.state("IN_REVIEW")
    assert sizes(captured)["builds", "IN_REVIEW"] == 1
    with oa.task("build", id="t1", queue="builds"):
        pass
    assert sizes(captured) == {
        ("builds", "PENDING"): 1, ("builds", "RUNNING"): 0, ("builds", "IN_REVIEW"): 1,
        (None, "PENDING"): 1,
    }  # fmt: skip
    ages = {
        labels.get("queue"): value
        for name, labels, value in captured.points()
        if name == "otelagents.queue.oldest.age"
    }
    assert set(ages) == {"builds", None}
    assert ages["builds"] > 0
    oa.task("other", id="x", state="DONE").record()
    assert captured.metric("otelagents.queue.oldest.age") >= ages["builds"]


def test_the_tasks_that_are_known_are_bounded(
    captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of too many, those that were heard of first are forgotten."""
    monkeypatch.setattr(tasks, "MAX_KNOWN", 5)
    for number in range(20):
        oa.task("build", id=f"t{number}", queue="builds").record()
    assert sizes(captured) == {("builds", "PENDING"): 5}


def test_a_wrapped_target_is_a_task(captured: Captured) -> None:
    """`[[wrap]]` sets queue, lease and state from arguments and from the result."""
    wrap = Wrap(
        target="json:dumps",
        scope="task",
        name="dump",
        fields={
            "task_id": "{obj[id]}", "queue": "{obj[queue]}", "lease_owner": "me",
            "lease_expires_at": "{obj[until]}", "state": "{result[0]}",
        },
    )  # fmt: skip
    targets = Targets([wrap])
    targets.install()
    try:
        json.dumps({"id": "t9", "queue": "dumps", "until": datetime(2026, 1, 1, tzinfo=UTC)},
                   default=str)  # fmt: skip
    finally:
        targets.uninstall()
    start, end = told(captured)
    assert (start.ids.task_id, start.attributes["otelagents.task.queue"]) == ("t9", "dumps")
    assert start.attributes["otelagents.task.lease.expires_at"] == 1767225600.0
    assert end.attributes["otelagents.task.state"] == "DONE"
