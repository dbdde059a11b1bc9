"""Progress told by method: what it opens and ends, what listeners hear, and what can go wrong."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import io
import json
import logging
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from inline_snapshot import snapshot
from opentelemetry import trace

import otel_agents as oa
from otel_agents import listeners, runtime
from otel_agents.boundary import boundary
from otel_agents.context import current_frame
from otel_agents.listeners import name_of
from otel_agents.logs import JsonFormatter
from otel_agents.progress_emitter import ProgressEmitter
from otel_agents.progress_scopes import registry
from otel_agents.runtime import Runtime
from otel_agents.state.progress import progress_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_agents.testing import Captured


@pytest.fixture
def emitter() -> ProgressEmitter:
    """An emitter of runs of the workflow `shop`."""
    return ProgressEmitter("shop")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `unsubscribe` wait for listeners that are only slow: a second is short on a busy machine.

    Who tests that it waits no longer than that says so.
    """
    monkeypatch.setattr(listeners, "STOP_SECONDS", 90.0)


@pytest.fixture(autouse=True)
def _nothing_is_left(captured: Captured) -> Iterator[None]:
    """After every test nothing is open, held or current."""
    yield
    for scope in list(registry.open.values()):
        scope.take_back()
        scope.end()
    assert registry.held == {}
    assert current_frame() is None


def told(captured: Captured) -> list[dict[str, Any]]:
    """Return the messages so far, without what differs from run to run."""
    found = [message for signal in captured.signals for message in progress_of(signal)]
    for message in found:
        del message["timestamp"]
        if "duration_ms" in message.get("metrics", ()):
            del message["metrics"]["duration_ms"]
    return found


def types(captured: Captured, run_id: str | None = None) -> list[str]:
    return [one["type"] for one in told(captured) if run_id in {None, one["run_id"]}]


def until(holds: Callable[[], bool], seconds: float = 90.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.005)


def nobody_unsubscribes() -> bool:
    return not [one for one in threading.enumerate() if one.name == "otel-agents-unsubscribe"]


def full_run(emitter: ProgressEmitter, run_id: str = "r1", order: str | None = "o1") -> None:
    emitter.emit_run_started(order, run_id, {"goal": "ship", "strategy": "tdd"})
    emitter.emit_iteration_started(order, run_id, 1, "first try")
    emitter.emit_phase_started(order, run_id, 1, "plan")
    with oa.agent("planner"):
        pass
    emitter.emit_gate_checked(order, run_id, 1, "tests", True)
    emitter.emit_phase_completed(order, run_id, 1, "plan", True, 12.5)
    emitter.emit_iteration_completed(order, run_id, 1, True, {"plan": 12.5})
    emitter.emit_delivery_started(order, run_id)
    emitter.emit_delivery_completed(
        order, run_id, {"success": True, "pr_url": "https://x/1", "ci_status": "green"}
    )
    emitter.emit_run_completed(order, run_id, "succeeded", {"files": 12})


# ---------------------------------------------------------------------- what is told


def test_a_run_is_told_from_start_to_end(captured: Captured, emitter: ProgressEmitter) -> None:
    """Every method has its message, with what it was given."""
    full_run(emitter)

    for message in (messages := told(captured)):
        assert message.pop("run_id") == "r1"
        assert message.pop("work_order_id") == "o1"
        assert message.pop("correlation_id") == "r1"
        if message["type"] == "iteration:completed":
            assert message.pop("duration_ms") > 0
    assert messages == snapshot(
        [
            {
                "type": "run:started",
                "task_spec": {"goal": "ship", "strategy": "tdd", "max_iterations": 3},
            },
            {"type": "iteration:started", "iteration": 1, "feedback": "first try"},
            {"type": "phase:started", "iteration": 1, "phase": "plan"},
            {"type": "gate:checked", "iteration": 1, "gate": "tests", "passed": True},
            {
                "type": "phase:completed",
                "iteration": 1,
                "phase": "plan",
                "success": True,
                "duration_ms": 12.5,
            },
            {
                "type": "iteration:completed",
                "iteration": 1,
                "success": True,
                "timings": {"plan": 12.5},
            },
            {"type": "delivery:started"},
            {
                "type": "delivery:completed",
                "result": {"success": True, "url": "https://x/1", "ci_status": "green"},
            },
            {"type": "run:completed", "result": "succeeded", "metrics": {"files": 12}},
        ]
    )


def test_the_methods_open_real_scopes(captured: Captured, emitter: ProgressEmitter) -> None:
    """Agents called in a phase stand under it; spans, metrics and signals agree."""
    full_run(emitter)

    assert captured.tree() == snapshot("""\
invoke_workflow shop
  iteration
    phase plan
      invoke_agent planner
  delivery\
""")
    agent = dict(captured.span("invoke_agent planner").attributes or {})
    assert agent["otelagents.run.id"] == "r1"
    assert agent["otelagents.work_order.id"] == "o1"
    assert agent["otelagents.iteration.number"] == 1
    assert agent["otelagents.phase.name"] == "plan"
    (event,) = captured.span("phase plan").events
    assert event.name == "otelagents.gate"
    for name, labels in (
        ("runs.started", {"workflow": "shop"}),
        ("runs.completed", {"workflow": "shop", "result": "succeeded"}),
        ("run.duration", {"result": "succeeded"}),
        ("iterations", {"result": "success"}),
        ("iteration.duration", {"result": "success"}),
        ("phase.duration", {"phase": "plan", "result": "success"}),
        ("gate.checks", {"gate": "tests", "result": "success"}),
        ("deliveries", {"result": "success"}),
    ):
        assert captured.metric(f"otelagents.{name}", **labels) == 1
    assert captured.metric("otelagents.run.active") == 0


def test_no_dict_reaches_a_span(captured: Captured, emitter: ProgressEmitter) -> None:
    """A span takes plain values; what else was said is on signals only."""
    emitter.emit_run_started("o1", "r1", {"goal": "ship", "repository": {"name": "cart"}})
    emitter.emit_run_completed("o1", "r1", {"status": "ok", "pr": 7}, {"files": [1, 2]})

    span = captured.span("invoke_workflow shop")
    assert "otelagents.progress.details" not in (span.attributes or {})
    json.loads(span.to_json())
    start, end = captured.signals
    assert start.attributes["otelagents.progress.details"] == {
        "task_spec": {"repository": {"name": "cart"}}
    }
    assert end.attributes["otelagents.progress.details"] == {
        "metrics": {"files": [1, 2]}, "result": {"status": "ok", "pr": 7},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (None, "succeeded"), (True, "succeeded"), ("succeeded", "succeeded"), ("DONE", "succeeded"),
        ("merged the branch", "succeeded"), ({"pr": 1}, "succeeded"),
        ({"success": True, "status": "failed"}, "succeeded"),
        (False, "failed"), ("failed", "failed"), ({"success": False}, "failed"),
        ({"status": "error", "error": "no"}, "failed"), (ValueError("no"), "failed"),
        ("cancelled", "canceled"), ({"outcome": "canceled"}, "canceled"),
    ],
)  # fmt: skip
def test_a_result_says_how_the_run_went(
    captured: Captured, emitter: ProgressEmitter, result: Any, expected: str
) -> None:
    """A word, a boolean, a dict or an exception; what says nothing succeeded."""
    emitter.emit_run_started("o1", "r1", {})
    emitter.emit_run_completed("o1", "r1", result, {})

    end = next(one for one in told(captured) if one["type"] == "run:completed")
    assert end["result"] == expected
    assert captured.metric("otelagents.runs.completed", result=expected) == 1
    assert captured.metric("otelagents.runs.completed") == 1


class ThisError(Exception):
    """An error of a program's own."""


def test_a_run_that_failed(captured: Captured, emitter: ProgressEmitter) -> None:
    """The text is kept, since the caller passes it on purpose; an exception gives its class."""
    emitter.emit_run_started("o1", "r1", {})
    emitter.emit_iteration_started("o1", "r1", 1)
    emitter.emit_phase_started("o1", "r1", 1, "build")
    emitter.emit_run_failed("o1", "r1", ThisError("no space left, sk-abcdefghijklmnopqrstu"))

    assert types(captured)[-4:] == [
        "phase:completed", "iteration:completed", "run:completed", "run:failed",
    ]  # fmt: skip
    assert told(captured)[-1]["error"] == "no space left, [redacted]"
    assert captured.tree() == snapshot("""\
invoke_workflow shop (error)
  iteration (error)
    phase build (error)\
""")
    span = captured.span("invoke_workflow shop")
    assert span.status.status_code.name == "ERROR"
    assert (span.attributes or {})["error.type"].endswith("ThisError")
    assert captured.metric("otelagents.runs.completed", result="failed") == 1


@pytest.mark.parametrize("error", ["it broke", {"message": "it broke", "code": 3}])
def test_a_failure_told_in_words(captured: Captured, emitter: ProgressEmitter, error: Any) -> None:
    """Text without an exception is a failure with this reason."""
    emitter.emit_run_started("o1", "r1", {})
    emitter.emit_run_failed("o1", "r1", error)

    assert told(captured)[-1]["error"] == "it broke"
    assert (captured.span("invoke_workflow shop").attributes or {})["otelagents.result"] == (
        "failure"
    )


def test_a_run_that_was_canceled_is_no_error(captured: Captured, emitter: ProgressEmitter) -> None:
    """Neither its span nor those of what was open in it are errors."""
    emitter.emit_run_started("o1", "r1", {})
    emitter.emit_iteration_started("o1", "r1", 1)
    emitter.emit_run_canceled("o1", "r1", "superseded")

    assert [span.status.status_code.name for span in captured.spans] == ["UNSET", "UNSET"]
    assert told(captured)[-2]["result"] == "canceled"
    assert told(captured)[-1] == {
        "type": "run:canceled", "work_order_id": "o1", "run_id": "r1", "correlation_id": "r1",
        "reason": "superseded",
    }  # fmt: skip


def test_a_phase_and_an_iteration_that_failed(captured: Captured, emitter: ProgressEmitter) -> None:
    """`success` says how they went."""
    emitter.emit_run_started("o1", "r1", {})
    emitter.emit_iteration_started("o1", "r1", 1)
    emitter.emit_phase_started("o1", "r1", 1, "build")
    emitter.emit_gate_checked("o1", "r1", 1, "tests", False)
    emitter.emit_phase_completed("o1", "r1", 1, "build", False, 5)
    emitter.emit_iteration_completed("o1", "r1", 1, False, None)
    emitter.emit_delivery_started("o1", "r1")
    emitter.emit_delivery_completed("o1", "r1", {"error": "rejected", "success": False})
    emitter.emit_run_completed("o1", "r1", "succeeded", None)

    said = [one.get("success", one.get("passed")) for one in told(captured)]
    assert [one for one in said if one is not None] == [False, False, False]
    assert told(captured)[-2]["result"] == {
        "error": "rejected", "success": False, "url": None, "ci_status": None,
    }  # fmt: skip
    assert captured.metric("otelagents.phase.duration", phase="build", result="failure") == 1
    assert captured.metric("otelagents.deliveries", result="failure") == 1


def test_a_phase_left_open_is_stepped_out_of(captured: Captured, emitter: ProgressEmitter) -> None:
    """Phases, and iterations, stand side by side even where an end was forgotten."""
    emitter.emit_run_started("o1", "r1", {})
    for number in (1, 2):
        emitter.emit_iteration_started("o1", "r1", number)
        emitter.emit_phase_started("o1", "r1", number, "plan")
        emitter.emit_phase_started("o1", "r1", number, "build")
    emitter.emit_run_completed("o1", "r1", True)

    assert captured.tree() == snapshot("""\
invoke_workflow shop
  iteration
    phase plan
    phase build
  iteration
    phase plan
    phase build\
""")


def test_the_correlation_id_of_the_context_wins(
    captured: Captured, emitter: ProgressEmitter
) -> None:
    """It joins runs of one cause; without any it is the run's id."""
    with oa.log_context(correlation_id="c1"):
        emitter.emit_run_started("o1", "r1", {})
        emitter.emit_run_completed("o1", "r1", True)
    emitter.emit_run_started("o2", "r2", {})
    emitter.emit_run_completed("o2", "r2", True)

    assert {one["run_id"]: one["correlation_id"] for one in told(captured)} == {
        "r1": "c1", "r2": "r2",
    }  # fmt: skip


def test_runs_started_one_after_another_stand_side_by_side(
    captured: Captured, emitter: ProgressEmitter
) -> None:
    """A dispatcher's runs are no parts of each other, in whatever order they end."""
    for number in range(4):
        emitter.emit_run_started("o", f"r{number}", {})
    for number in (1, 0, 3, 2):
        emitter.emit_iteration_started("o", f"r{number}", 1)
        emitter.emit_run_completed("o", f"r{number}", True)
        trace.get_current_span()

    roots = [span for span in captured.spans if span.parent is None]
    assert len(roots) == 4
    assert {one["correlation_id"] for one in told(captured)} == {"r0", "r1", "r2", "r3"}
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_run_inside_a_phase_is_a_part_of_it(captured: Captured, emitter: ProgressEmitter) -> None:
    """A run that another one starts while at work is under it, and shares its correlation id."""
    emitter.emit_run_started("o", "outer", {})
    emitter.emit_iteration_started("o", "outer", 1)
    emitter.emit_run_started("o", "inner", {})
    emitter.emit_run_completed("o", "inner", True)
    emitter.emit_run_completed("o", "outer", True)

    assert captured.tree() == snapshot("""\
invoke_workflow shop
  iteration
    invoke_workflow shop\
""")
    assert {one["correlation_id"] for one in told(captured)} == {"outer"}


# ---------------------------------------------------------------------- counted once


def test_two_emitters_tell_of_one_run(captured: Captured) -> None:
    """The second start adds to the first, and any of them ends it."""
    first, second = ProgressEmitter("shop"), ProgressEmitter()
    first.emit_run_started("o1", "r1", {"goal": "ship"})
    second.emit_run_started("o1", "r1", {"strategy": "tdd"})
    second.emit_iteration_started("o1", "r1", 1)
    first.emit_iteration_started("o1", "r1", 1)
    first.emit_iteration_completed("o1", "r1", 1, True, {})
    second.emit_iteration_completed("o1", "r1", 1, True, {})
    second.emit_run_completed("o1", "r1", True, {})
    first.emit_run_completed("o1", "r1", True, {})
    first.emit_run_failed("o1", "r1", "too late")

    assert types(captured) == [
        "run:started", "iteration:started", "iteration:completed", "run:completed",
    ]  # fmt: skip
    assert captured.metric("otelagents.runs.started") == 1
    assert captured.metric("otelagents.runs.completed") == 1
    span = captured.span("invoke_workflow shop")
    assert (span.attributes or {})["otelagents.run.strategy"] == "tdd"


def test_many_threads_that_start_one_run_open_it_once(captured: Captured) -> None:
    """Two emitters in two threads at once are no reason to count a run twice."""
    for number in range(20):
        gate = threading.Barrier(8)

        def start(run_id: str, gate: threading.Barrier) -> None:
            gate.wait()
            ProgressEmitter("shop").emit_run_started("o1", run_id, {})

        threads = [
            threading.Thread(target=start, args=(f"r{number}", gate)) for _ in range(8)
        ]  # fmt: skip
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ProgressEmitter().emit_run_completed("o1", f"r{number}", True)

    assert captured.metric("otelagents.runs.started") == 20
    assert captured.metric("otelagents.runs.completed") == 20


def test_scopes_that_are_open_are_told_of_and_not_opened_again(
    captured: Captured, emitter: ProgressEmitter
) -> None:
    """Run, iteration and phase by scopes, with an emitter inside: the scopes end by themselves."""
    with oa.run("shop", id="r1") as run:
        emitter.emit_run_started("o1", "r1", {"goal": "ship", "repository": "cart"})
        with oa.iteration(number=1), oa.phase("plan") as phase:
            emitter.emit_iteration_started("o1", "r1", 1, "go")
            emitter.emit_phase_started("o1", "r1", 1, "plan")
            emitter.emit_phase_completed("o1", "r1", 1, "plan", False, 7)
            assert not phase.ended
        emitter.emit_run_completed("o1", "r1", {"status": "failed", "pr": 3}, {"files": 2})
        assert not run.ended

    assert types(captured) == [
        "run:started", "iteration:started", "phase:started", "phase:completed",
        "iteration:completed", "run:completed", "run:failed",
    ]  # fmt: skip
    phase_end, end = told(captured)[3], told(captured)[5]
    assert (phase_end["success"], phase_end["duration_ms"]) == (False, 7)
    assert end == {
        "type": "run:completed", "work_order_id": "o1", "run_id": "r1", "correlation_id": "r1",
        "result": "failed", "metrics": {"files": 2}, "details": {"status": "failed", "pr": 3},
    }  # fmt: skip
    assert captured.tree() == snapshot("""\
invoke_workflow shop (failure)
  iteration
    phase plan (failure)\
""")
    attributes = captured.span("invoke_workflow shop").attributes or {}
    assert attributes["otelagents.run.goal"] == "ship"
    assert "otelagents.progress.details" not in attributes


def test_a_run_that_a_scope_has_ended_is_not_told_again(
    captured: Captured, emitter: ProgressEmitter
) -> None:
    """An end that comes after the scope's own adds nothing."""
    emitter.emit_run_started("o0", "r0", {})
    emitter.emit_run_completed("o0", "r0", True)
    with oa.run("shop", id="r1"):
        pass
    emitter.emit_run_completed("o1", "r1", True, {})

    assert types(captured, "r1") == ["run:started", "run:completed"]
    assert captured.metric("otelagents.runs.completed") == 2


def test_a_scope_that_is_opened_again_is_known_again(
    captured: Captured, emitter: ProgressEmitter
) -> None:
    """Each opening of the same object is a run, with an end that carries what was said."""
    emitter.emit_run_started("o0", "r0", {})
    emitter.emit_run_completed("o0", "r0", True)
    run = oa.run("shop", id="r1")
    for number in (1, 2):
        with run:
            emitter.emit_run_completed("o1", "r1", True, {"files": number})

    ends = [one for one in told(captured) if one["type"] == "run:completed"]
    assert [one["metrics"] for one in ends] == [{}, {"files": 1}, {"files": 2}]


def test_what_an_emitter_opened_in_a_scopes_run_ends_with_it(
    captured: Captured, emitter: ProgressEmitter
) -> None:
    """Also where the run leaves by an exception."""
    with pytest.raises(ThisError), oa.run("shop", id="r1"):
        emitter.emit_iteration_started("o1", "r1", 1)
        emitter.emit_phase_started("o1", "r1", 1, "plan")
        raise ThisError

    assert captured.tree() == snapshot("""\
invoke_workflow shop (error)
  iteration (error)
    phase plan (error)\
""")
    assert current_frame() is None


def test_a_run_can_be_taken_up_again(captured: Captured, emitter: ProgressEmitter) -> None:
    """A second start after the end is a second try, and has an end of its own."""
    for _ in range(2):
        emitter.emit_run_started("o1", "r1", {})
        emitter.emit_run_completed("o1", "r1", True)

    assert types(captured) == ["run:started", "run:completed"] * 2


def test_ends_without_a_start_are_told_and_counted_once(
    captured: Captured, emitter: ProgressEmitter
) -> None:
    """An emitter made after a restart ends what it did not start; nothing is invented."""
    for _ in range(2):
        emitter.emit_phase_completed("o1", "r7", 2, "build", False, 1500)
        emitter.emit_iteration_completed("o1", "r7", 2, True, {"build": 1500})
        emitter.emit_delivery_completed("o1", "r7", {"url": "https://x/1"})
        emitter.emit_run_failed("o1", "r7", "it broke")

    common = {"work_order_id": "o1", "run_id": "r7", "correlation_id": "r7"}
    assert told(captured) == [
        {
            "type": "phase:completed", **common, "iteration": 2, "phase": "build",
            "success": False, "duration_ms": 1500.0,
        },
        {
            "type": "iteration:completed", **common, "iteration": 2, "success": True,
            "timings": {"build": 1500}, "duration_ms": None,
        },
        {
            "type": "delivery:completed", **common,
            "result": {"success": True, "url": "https://x/1", "ci_status": None},
        },
        {"type": "run:completed", **common, "result": "failed", "metrics": {}},
        {"type": "run:failed", **common, "error": "it broke"},
    ]  # fmt: skip
    assert captured.metric("otelagents.runs.completed", result="failed", workflow="shop") == 1
    assert captured.metric("otelagents.runs.started") == 0
    assert captured.metric("otelagents.run.active") == 0
    assert captured.metric("otelagents.run.duration") == 0
    assert captured.metric("otelagents.iterations", result="success") == 1
    assert captured.metric("otelagents.phase.duration", phase="build", result="failure") == 1
    assert captured.metric("otelagents.deliveries", result="success") == 1


def test_an_iteration_of_a_run_that_started_elsewhere(
    captured: Captured, emitter: ProgressEmitter
) -> None:
    """It bears the ids of its run all the same."""
    emitter.emit_iteration_started("o1", "r8", 4)
    emitter.emit_phase_started("o1", "r8", 4, "plan")
    emitter.emit_phase_completed("o1", "r8", 4, "plan", True, 1)
    emitter.emit_iteration_completed("o1", "r8", 4, True)

    phase = captured.span("phase plan").attributes or {}
    assert (phase["otelagents.run.id"], phase["otelagents.iteration.number"]) == ("r8", 4)
    assert {(one["work_order_id"], one["correlation_id"]) for one in told(captured)} == {
        ("o1", "r8")
    }  # fmt: skip


# ---------------------------------------------------------------------- tasks, threads, contexts


def test_fifty_runs_at_once_in_asyncio(captured: Captured, emitter: ProgressEmitter) -> None:
    """Each has its own tree, its own ids and its own messages."""

    async def one(number: int) -> None:
        run_id = f"r{number}"
        emitter.emit_run_started(f"o{number}", run_id, {})
        for step in (1, 2):
            emitter.emit_iteration_started(f"o{number}", run_id, step)
            await asyncio.sleep(0)
            emitter.emit_phase_started(f"o{number}", run_id, step, "plan")
            async with oa.agent("a"):
                await asyncio.sleep(0)
            emitter.emit_phase_completed(f"o{number}", run_id, step, "plan", True, 1)
            await asyncio.sleep(0)
            emitter.emit_iteration_completed(f"o{number}", run_id, step, True)
        emitter.emit_run_completed(f"o{number}", run_id, True)
        assert current_frame() is None

    async def main() -> None:
        await asyncio.gather(*(one(number) for number in range(50)))

    asyncio.run(main())

    assert captured.metric("otelagents.runs.completed", result="succeeded") == 50
    heard = Counter(message["run_id"] for message in told(captured))
    assert heard == {f"r{number}": 10 for number in range(50)}
    traces: dict[int, set[Any]] = {}
    for span in captured.spans:
        assert span.context is not None
        run_id = (span.attributes or {})["otelagents.run.id"]
        traces.setdefault(span.context.trace_id, set()).add(run_id)
    assert len(traces) == 50
    assert all(len(runs) == 1 for runs in traces.values())
    assert {(m["run_id"][1:], m["work_order_id"][1:]) for m in told(captured)} == {
        (str(number), str(number)) for number in range(50)
    }


def test_an_end_told_in_another_task_takes_the_run_back(
    captured: Captured, emitter: ProgressEmitter, caplog: pytest.LogCaptureFixture
) -> None:
    """What the first task does next is no part of the run, and no context error is logged."""

    async def main() -> None:
        emitter.emit_run_started("o1", "r1", {})
        emitter.emit_iteration_started("o1", "r1", 1)
        emitter.emit_phase_started("o1", "r1", 1, "plan")

        async def finish() -> None:
            emitter.emit_run_completed("o1", "r1", True)
            assert current_frame() is None

        await asyncio.create_task(finish())
        assert current_frame() is None
        with oa.agent("later"):
            pass

    asyncio.run(main())

    assert captured.span("invoke_agent later").parent is None
    assert [one for one in caplog.records if one.name == "opentelemetry.context"] == []


@pytest.mark.parametrize("instrumented", [True, False])
def test_an_end_told_in_another_thread_takes_the_run_back(
    captured: Captured, emitter: ProgressEmitter, instrumented: bool
) -> None:
    """Whether or not the thread was handed the context."""
    emitter.emit_run_started("o1", "r1", {})
    emitter.emit_iteration_started("o1", "r1", 1)
    seen: list[Any] = []

    def finish() -> None:
        emitter.emit_run_completed("o1", "r1", True)
        seen.append(current_frame())

    thread = threading.Thread(target=finish)
    if not instrumented:
        contextvars.Context().run(thread.start)
    else:
        thread.start()
    thread.join()

    assert seen == [None]
    assert current_frame() is None
    assert captured.metric("otelagents.runs.completed") == 1


def test_parts_of_a_run_can_be_told_from_anywhere(
    captured: Captured, emitter: ProgressEmitter
) -> None:
    """Each call from a context of its own still gives one tree."""
    for act in (
        lambda: emitter.emit_run_started("o1", "r1", {}),
        lambda: emitter.emit_iteration_started("o1", "r1", 1),
        lambda: emitter.emit_phase_started("o1", "r1", 1, "plan"),
        lambda: emitter.emit_gate_checked("o1", "r1", 1, "tests", True),
        lambda: emitter.emit_phase_completed("o1", "r1", 1, "plan", True, 3),
        lambda: emitter.emit_iteration_completed("o1", "r1", 1, True),
        lambda: emitter.emit_run_completed("o1", "r1", True),
    ):
        contextvars.Context().run(act)

    assert captured.tree() == snapshot("""\
invoke_workflow shop
  iteration
    phase plan\
""")
    gate = next(one for one in told(captured) if one["type"] == "gate:checked")
    assert (gate["run_id"], gate["iteration"], gate["work_order_id"]) == ("r1", 1, "o1")


def test_parallel_phases_of_an_iteration(captured: Captured, emitter: ProgressEmitter) -> None:
    """Each task's agents stand under the phase that the task began."""

    async def phase(name: str) -> None:
        emitter.emit_phase_started("o1", "r1", 1, name)
        await asyncio.sleep(0)
        with oa.agent(name):
            await asyncio.sleep(0)
        emitter.emit_phase_completed("o1", "r1", 1, name, True, 1)

    async def main() -> None:
        emitter.emit_run_started("o1", "r1", {})
        emitter.emit_iteration_started("o1", "r1", 1)
        await asyncio.gather(*(phase(name) for name in "abc"))
        emitter.emit_run_completed("o1", "r1", True)

    asyncio.run(main())

    assert captured.tree() == snapshot("""\
invoke_workflow shop
  iteration
    phase a
      invoke_agent a
    phase b
      invoke_agent b
    phase c
      invoke_agent c\
""")


def test_nothing_grows_with_the_runs(captured: Captured, emitter: ProgressEmitter) -> None:
    """What has ended is let go of."""
    for number in range(300):
        full_run(emitter, f"r{number}")
    gc.collect()

    assert registry.open == {}
    assert registry.held == {}


# ---------------------------------------------------------------------- what can go wrong


class Hostile:
    """Raises whatever is asked of it."""

    def _raise(self, *_: Any) -> Any:
        raise RuntimeError("hostile")

    __str__ = __repr__ = __bool__ = __len__ = __iter__ = __eq__ = __hash__ = _raise  # type: ignore[assignment]
    __int__ = __float__ = __index__ = keys = items = get = __getitem__ = _raise

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return Hostile
        raise RuntimeError("hostile")


class HostileDict(dict):  # type: ignore[type-arg]
    """A dict whose methods raise."""

    def items(self) -> Any:
        raise RuntimeError("hostile")

    __iter__ = keys = get = items


HOLDS_ITSELF: list[Any] = []
HOLDS_ITSELF.append(HOLDS_ITSELF)
WIDE: Any = ["x"]
for _ in range(8):
    WIDE = [WIDE] * 100  # 10^16 items, in as many as 800

ODD: list[Any] = [
    None, "", "x" * 100_000, "\ud800", b"bytes", 0, -1, 10**30, float("nan"), float("inf"), True,
    [], {}, [1, [2, [3, [4, [5, [6]]]]]], {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}},
    {1: 2, None: 3, "status": object()}, object(), Hostile(), HostileDict(goal="g", status="ok"),
    ValueError(Hostile()), {str(number): "v" * 5000 for number in range(2000)}, Hostile, len,
    HOLDS_ITSELF, WIDE, {"self": HOLDS_ITSELF, "status": WIDE},
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_whatever_is_passed_nothing_is_raised(captured: Captured, odd: Any) -> None:
    """Every argument of every method, and what was kept of it can be written and stays bounded."""
    emitter = ProgressEmitter(odd)
    for order, run_id, number in ((odd, odd, odd), ("o1", "r1", 1), ("o1", "r2", odd)):
        emitter.emit_run_started(order, run_id, odd)
        emitter.emit_run_started(order, run_id, {"goal": odd, "max_iterations": odd, "x": odd})
        emitter.emit_iteration_started(order, run_id, number, odd)
        emitter.emit_phase_started(order, run_id, number, odd)
        emitter.emit_gate_checked(order, run_id, number, odd, odd)
        emitter.emit_phase_completed(order, run_id, number, odd, odd, odd)
        emitter.emit_iteration_completed(order, run_id, number, odd, odd)
        emitter.emit_delivery_started(order, run_id)
        emitter.emit_delivery_completed(order, run_id, odd)
        emitter.emit_run_completed(order, run_id, odd, odd)
        emitter.emit_run_failed(order, run_id, odd)
        emitter.emit_run_canceled(order, run_id, odd)

    for message in told(captured):
        assert len(json.dumps(message)) < 200_000
    # A run whose id nobody can name may be left; of the others none is.
    assert {"r1", "r2"} & {key[1] for key in registry.open} == set()
    assert captured.metric("otelagents.runs.completed") >= 2


def test_a_run_without_an_id_is_the_current_one(
    captured: Captured, emitter: ProgressEmitter
) -> None:
    """One is made for it, and later calls without an id mean it."""
    emitter.emit_run_started("o1", None, {})
    emitter.emit_iteration_started(None, None, None)
    emitter.emit_phase_started(None, None, None, "plan")
    emitter.emit_phase_completed(None, None, None, "plan", True, 1)
    emitter.emit_iteration_completed(None, None, None, True)
    emitter.emit_run_completed(None, None, True)

    assert types(captured) == [
        "run:started", "iteration:started", "phase:started", "phase:completed",
        "iteration:completed", "run:completed",
    ]  # fmt: skip
    assert len({one["run_id"] for one in told(captured)}) == 1
    assert {one["work_order_id"] for one in told(captured)} == {"o1"}


def test_secrets_are_hidden_and_figures_are_not(
    captured: Captured, emitter: ProgressEmitter
) -> None:
    """By key and by shape, however deep; the number of tokens is no secret."""
    emitter.emit_run_started("o1", "r1", {"env": {"api_key": "k", "list": ["Bearer abcdefgh1"]}})
    emitter.emit_run_completed("o1", "r1", True, {"tokens": {"input": 5, "as_text": "t"}})

    start, end = told(captured)
    assert start["task_spec"]["env"] == {"api_key": "[redacted]", "list": ["[redacted]"]}
    assert end["metrics"]["tokens"] == {"input": 5, "as_text": "[redacted]"}


def test_objects_are_read_by_their_fields(captured: Captured, emitter: ProgressEmitter) -> None:
    """A task or a result may be an object, with or without slots."""

    class Task:
        def __init__(self) -> None:
            self.goal = "ship"
            self.max_iterations = 7
            self._hidden = "x"

    class Result:
        __slots__ = ("branch", "status")

        def __init__(self) -> None:
            self.status = "failed"
            self.branch = "main"

    emitter.emit_run_started("o1", "r1", Task())
    emitter.emit_run_completed("o1", "r1", Result())

    start, end = told(captured)[:2]
    assert start["task_spec"] == {"goal": "ship", "strategy": None, "max_iterations": 7}
    assert (end["result"], end["details"]) == ("failed", {"status": "failed", "branch": "main"})


def test_a_failure_of_ours_stays_here(
    captured: Captured, emitter: ProgressEmitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside our tests it is counted, and the program goes on."""
    monkeypatch.setattr(boundary, "strict", False)
    monkeypatch.setattr(registry, "begin", lambda: 1 / 0)
    emitter.emit_run_started("o1", "r1", {})

    assert boundary.counts["progress emit_run_started"] >= 1


def test_nothing_is_told_where_telemetry_is_off(emitter: ProgressEmitter) -> None:
    """The methods and `subscribe` do nothing but log."""
    before = runtime.put(Runtime(disabled=True))
    try:
        stop = emitter.subscribe(print)
        full_run(emitter)
        emitter.emit_run_failed("o", "r", "x")
        stop()
    finally:
        runtime.put(before)

    assert registry.open == {}


# ---------------------------------------------------------------------- log lines


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the logger of progress writes, as JSON lines."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("otel_agents.progress")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(before)


def logged(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_call_is_logged_with_its_ids(
    captured: Captured, emitter: ProgressEmitter, lines: io.StringIO
) -> None:
    """As `Progress: <type>`, inside the span that it tells of."""
    full_run(emitter)

    found = logged(lines)
    assert [line["message"] for line in found] == [
        f"Progress: {type_}"
        for type_ in (
            "run:started", "iteration:started", "phase:started", "gate:checked", "phase:completed",
            "iteration:completed", "delivery:started", "delivery:completed", "run:completed",
        )
    ]  # fmt: skip
    for line in found:
        assert (line["run_id"], line["work_order_id"], line["correlation_id"]) == ("r1", "o1", "r1")
        assert line["level"] == "INFO"
        assert line["module"] == "otel_agents.progress"
    assert [line["phase"] for line in found[2:5]] == ["plan"] * 3
    context = captured.span("phase plan").context
    assert context is not None
    assert found[4]["span_id"] == f"{context.span_id:016x}"


def test_the_ids_are_logged_without_the_instrumentor(
    emitter: ProgressEmitter, caplog: pytest.LogCaptureFixture
) -> None:
    """Records bear the ids as attributes for any formatter, from whatever context."""
    before = runtime.put(Runtime())
    caplog.set_level(logging.INFO, "otel_agents.progress")
    try:
        emitter.emit_run_started("o1", "r1", {})
        contextvars.Context().run(lambda: emitter.emit_iteration_started("o1", "r1", 2))
        contextvars.Context().run(lambda: emitter.emit_run_failed("o1", "r1", "x"))
    finally:
        runtime.put(before)

    records: list[Any] = caplog.records
    assert [(one.getMessage(), one.run_id, one.work_order_id) for one in records] == [
        ("Progress: run:started", "r1", "o1"),
        ("Progress: iteration:started", "r1", "o1"),
        ("Progress: run:failed", "r1", "o1"),
    ]
    assert records[1].iteration == 2


# ---------------------------------------------------------------------- listeners


def test_a_listener_hears_everything_in_order(captured: Captured, emitter: ProgressEmitter) -> None:
    """Of scopes and of all emitters, until it unsubscribes, what was emitted before included."""
    heard: list[dict[str, Any]] = []
    stop = emitter.subscribe(heard.append)
    full_run(ProgressEmitter("other"), "r1")
    with oa.run("by-scope", id="r2"):
        pass
    stop()
    stop()
    full_run(emitter, "r3")

    expected = [
        message
        for signal in captured.signals
        if signal.ids.run_id != "r3"
        for message in progress_of(signal)
    ]
    assert heard == expected
    assert len(heard) == 11


def test_every_listener_has_its_own_copy(captured: Captured, emitter: ProgressEmitter) -> None:
    """What one does to a message, however deep, nobody else sees."""
    heard: list[dict[str, Any]] = []

    def spoil(message: dict[str, Any]) -> None:
        if "metrics" in message:
            message["metrics"]["by_phase"].clear()
        message.clear()

    stops = [emitter.subscribe(spoil), emitter.subscribe(heard.append), emitter.subscribe(spoil)]
    emitter.emit_run_started("o1", "r1", {})
    emitter.emit_run_completed("o1", "r1", True, {"by_phase": [1]})
    for stop in stops:
        stop()

    assert heard[-1]["metrics"]["by_phase"] == [1]
    assert told(captured)[-1]["metrics"]["by_phase"] == [1]


def raises(message: dict[str, Any]) -> None:
    """Fail."""
    raise ThisError(message)


async def raises_later(message: dict[str, Any]) -> None:
    """Fail a little later."""
    await asyncio.sleep(0)
    raise ThisError(message)


def leaves(message: dict[str, Any]) -> None:
    """Try to end the program."""
    raise SystemExit(1)


@pytest.mark.parametrize("listener", [raises, raises_later, leaves])
def test_a_listener_that_raises_harms_nobody(
    captured: Captured,
    emitter: ProgressEmitter,
    caplog: pytest.LogCaptureFixture,
    listener: Any,
) -> None:
    """It is named in the log, once a minute, and every message it failed at is counted."""
    heard: list[dict[str, Any]] = []
    stops = [emitter.subscribe(listener), emitter.subscribe(heard.append)]
    full_run(emitter)
    for stop in stops:
        stop()

    assert len(heard) == 9
    name = f"{__name__}.{listener.__qualname__}"
    warned = [one for one in caplog.records if name in one.getMessage()]
    assert len(warned) == 1
    assert captured.metric("otelagents.telemetry.dropped", sink=f"listener {name}") == 9


def test_a_listener_that_never_returns_harms_nobody(
    captured: Captured, emitter: ProgressEmitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the caller nor the others wait for it; unsubscribing gives it a moment."""
    hung, heard = threading.Event(), []
    stuck = threading.Event()

    def hangs(_: dict[str, Any]) -> None:
        stuck.set()
        hung.wait(90)

    stop_hung, stop = emitter.subscribe(hangs), emitter.subscribe(heard.append)
    full_run(emitter)
    assert stuck.wait(90)
    stop()
    assert len(heard) == 9
    monkeypatch.setattr(listeners, "STOP_SECONDS", 0.5)
    stop_hung()
    assert not hung.is_set()
    hung.set()
    # What waited, and the one that it has in hand: nobody knows whether that will be heard.
    until(lambda: captured.metric("otelagents.telemetry.dropped", reason="closed") == 11)


def test_an_async_listener_runs_on_the_loop_it_was_subscribed_on(
    captured: Captured, emitter: ProgressEmitter
) -> None:
    """One message at a time, in order, and outside of any run."""
    heard: list[tuple[Any, ...]] = []

    async def listen(message: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        heard.append((message["type"], asyncio.get_running_loop(), current_frame()))

    async def main() -> asyncio.AbstractEventLoop:
        stop = emitter.subscribe(listen)
        full_run(emitter)
        stop()
        await asyncio.to_thread(until, lambda: len(heard) == 9)
        return asyncio.get_running_loop()

    loop = asyncio.run(asyncio.wait_for(main(), 90))

    assert [one for one, _, _ in heard] == types(captured)
    assert {one for _, one, _ in heard} == {loop}
    assert {one for _, _, one in heard} == {None}


def test_a_program_can_flush_on_the_loop_of_its_listener(
    captured: Captured, emitter: ProgressEmitter
) -> None:
    """It does not wait for itself; what the loop ends before is counted."""
    started: list[str] = []

    async def listen(message: dict[str, Any]) -> None:
        started.append(message["type"])
        await asyncio.Event().wait()

    async def main() -> bool:
        emitter.subscribe(listen)
        full_run(emitter)
        pipeline = runtime.get().pipeline
        assert pipeline is not None
        flushed = pipeline.flush(90)
        await asyncio.to_thread(until, lambda: len(started) == 1)
        return flushed

    assert asyncio.run(main())
    assert started == ["run:started"]
    assert captured.metric("otelagents.telemetry.dropped", reason="CancelledError") == 8


def test_an_async_listener_cannot_end_the_programs_loop(
    captured: Captured, emitter: ProgressEmitter
) -> None:
    """Neither by leaving nor by cancelling itself, and it hears the next message."""
    heard: list[str] = []

    async def listen(message: dict[str, Any]) -> None:
        heard.append(message["type"])
        if len(heard) == 1:
            raise SystemExit(3)
        if len(heard) == 2:
            raise asyncio.CancelledError
        await asyncio.sleep(0)

    async def main() -> str:
        stop = emitter.subscribe(listen)
        full_run(emitter)
        await asyncio.to_thread(stop)
        return "done"

    assert asyncio.run(main()) == "done"
    assert heard == types(captured)
    assert captured.metric("otelagents.telemetry.dropped") == 2


def test_an_async_listener_without_a_loop_gets_one(
    captured: Captured, emitter: ProgressEmitter
) -> None:
    """The same one for every message; a function that returns a coroutine is awaited too."""
    loops: list[Any] = []

    class Listening:
        async def __call__(self, message: dict[str, Any]) -> None:
            await asyncio.sleep(0)
            loops.append(asyncio.get_running_loop())

    listening = Listening()

    def returns_a_coroutine(message: dict[str, Any]) -> Any:
        return listening(message)

    stops = [emitter.subscribe(listening), emitter.subscribe(returns_a_coroutine)]
    full_run(emitter)
    for stop in stops:
        stop()

    assert len(loops) == 18
    assert len(set(loops)) == 2
    until(lambda: all(loop.is_closed() for loop in loops))


def test_a_loop_that_is_gone_costs_the_messages_only(
    captured: Captured, emitter: ProgressEmitter
) -> None:
    """A listener whose loop is closed loses them, counted."""

    async def listen(_: dict[str, Any]) -> None:
        """Hear nothing."""

    async def subscribe() -> Callable[[], None]:
        return emitter.subscribe(listen)

    stop = asyncio.run(subscribe())
    emitter.emit_run_started("o1", "r1", {})
    emitter.emit_run_completed("o1", "r1", True)
    stop()

    assert captured.metric("otelagents.telemetry.dropped", reason="RuntimeError") == 2


def test_a_hanging_async_listener_does_not_keep_unsubscribe(
    captured: Captured, emitter: ProgressEmitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither on its own loop nor from another thread; its loop goes on meanwhile."""
    monkeypatch.setattr(listeners, "STOP_SECONDS", 0.5)
    started: list[str] = []

    async def main() -> None:
        never = asyncio.Event()

        async def listen(message: dict[str, Any]) -> None:
            started.append(message["type"])
            await never.wait()

        first, second = emitter.subscribe(listen), emitter.subscribe(listen)
        full_run(emitter)
        await asyncio.to_thread(until, lambda: len(started) == 2)
        first()
        await asyncio.to_thread(second)
        await asyncio.to_thread(until, nobody_unsubscribes)
        never.set()
        await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(main(), 90))

    assert started == ["run:started"] * 2


@pytest.mark.parametrize("on_a_loop", [True, False])
def test_a_listener_may_unsubscribe_itself(
    captured: Captured, emitter: ProgressEmitter, on_a_loop: bool
) -> None:
    """It returns at once, and the listener hears no more."""
    heard: list[str] = []
    done = threading.Event()
    stops: list[Callable[[], None]] = []

    def listen(message: dict[str, Any]) -> None:
        heard.append(message["type"])
        stops[0]()
        done.set()

    async def listen_async(message: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        listen(message)

    async def main() -> None:
        stops.append(emitter.subscribe(listen_async))
        full_run(emitter)
        await asyncio.to_thread(done.wait, 10)

    if on_a_loop:
        asyncio.run(asyncio.wait_for(main(), 90))
    else:
        stops.append(emitter.subscribe(listen))
        full_run(emitter)
        assert done.wait(90)
    full_run(emitter, "r2")
    pipeline = runtime.get().pipeline
    assert pipeline is not None
    until(lambda: not [one for one in pipeline.sinks if one.name.startswith("listener")])

    assert heard == ["run:started"]


def test_a_listener_may_emit_and_open_scopes(captured: Captured, emitter: ProgressEmitter) -> None:
    """What it opens is no part of the run it hears of."""

    def listen(message: dict[str, Any]) -> None:
        if message["run_id"] == "r1" and message["type"] == "run:started":
            with oa.run("follow-up", id="r2"):
                pass

    stop = emitter.subscribe(listen)
    emitter.emit_run_started("o1", "r1", {})
    until(lambda: types(captured, "r2") == ["run:started", "run:completed"])
    emitter.emit_run_completed("o1", "r1", True)
    stop()

    assert captured.span("invoke_workflow follow-up").parent is None


def test_a_listener_needs_no_sink() -> None:
    """A program that sends its signals nowhere can listen to them."""
    heard: list[dict[str, Any]] = []
    before = runtime.put(Runtime())
    try:
        emitter = ProgressEmitter()
        stop = emitter.subscribe(heard.append)
        full_run(emitter)
        stop()
        full_run(emitter, "r2")
    finally:
        runtime.put(before)

    assert len(heard) == 9


def test_what_cannot_be_called_is_no_listener(
    captured: Captured, emitter: ProgressEmitter, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, and nothing is raised."""
    not_callable: Any = "listen"
    emitter.subscribe(not_callable)()

    assert "must be callable" in caplog.text


def test_a_listener_is_named_by_what_it_is() -> None:
    """Functions by their qualified name, objects by their class, partials by their function."""
    import functools

    assert name_of(raises) == f"{__name__}.raises"
    assert name_of(functools.partial(functools.partial(raises))) == f"{__name__}.raises"
    assert name_of([].append) == "?.list.append"
    assert name_of(functools.partial) == "functools.partial"
