"""Waits for a human: `human` in all its forms, and what is told and counted of it."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.trace import StatusCode

import otel_agents as oa
from otel_agents.answers import Answer
from otel_agents.boundary import boundary
from otel_agents.event_types import check, event_of
from otel_agents.humans import HumanScope
from otel_agents.scopes import current
from otel_agents.state.measures import Measures
from otel_agents.state.run import fold
from otel_agents.testing import Captured, capture

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_agents.signals import Signal

DEADLINE = 90.0


class Desk:
    """Answers from elsewhere, as a store or a server has them; `said` is by the wait's scope."""

    def __init__(self) -> None:
        self.said: dict[str, Answer] = {}
        self.polls = 0
        self.threads: set[str] = set()
        self.blocks: threading.Event | None = None

    def poll(self, wait_id: str) -> Answer | None:
        self.polls += 1
        self.threads.add(threading.current_thread().name)
        if self.blocks is not None:
            self.blocks.wait(DEADLINE)
        return self.said.get(wait_id)

    def say(self, scope: HumanScope, decision: str, text: str | None = None) -> None:
        self.said[scope.scope_id] = Answer(scope.scope_id, decision, text, "cli", time.time_ns())


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.005)


def of(captured: Captured, edge: str, kind: str = "human") -> list[Signal]:
    return [one for one in captured.signals if (one.kind, one.edge) == (kind, edge)]


def attributes(captured: Captured, name: str) -> dict[str, Any]:
    return dict(captured.span(name).attributes or {})


def later(act: Callable[[], None], when: Callable[[], Any]) -> threading.Thread:
    """Do something in another thread as soon as something is so."""

    def work() -> None:
        until(when)
        act()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


# ---------------------------------------------------------------------- being answered


@pytest.mark.parametrize("decision", ["approved", "rejected", "answered"])
def test_a_wait_ends_with_the_answer_given_in_the_program(
    captured: Captured, decision: str
) -> None:
    """From another thread; a rejection is an answer, not an error."""
    asked = oa.human("deploy?", id="deploy-1")
    thread = later(lambda: asked.resolve(decision, "because"), lambda: not asked.ended)
    with oa.run("shop"):
        answer = asyncio.run(_awaited(asked))
    thread.join()

    assert (answer.wait_id, answer.decision, answer.text) == ("deploy-1", decision, "because")
    span = captured.span("human deploy?")
    assert span.status.status_code is StatusCode.UNSET
    found = attributes(captured, "human deploy?")
    assert found["otelagents.result"] == "success"
    assert found["otelagents.human.decision"] == decision
    assert found["otelagents.human.answer"] == "because"
    assert found["otelagents.human.answered_by"] == "program"
    (end,) = of(captured, "end")
    assert end.attributes["otelagents.human.decision"] == decision


async def _awaited(asked: HumanScope) -> Answer:
    return await asked


def test_an_answer_given_before_it_is_waited_for_counts(captured: Captured) -> None:
    """And the first one does."""
    asked = oa.human("deploy?")
    asked.resolve("approved")
    asked.resolve("rejected")

    assert asked.wait().decision == "approved"
    assert attributes(captured, "human deploy?")["otelagents.human.decision"] == "approved"


def test_an_answer_from_elsewhere_ends_a_wait_that_blocks_a_thread() -> None:
    """It is asked for by the id of the wait's scope, in a thread of ours."""
    desk = Desk()
    with capture(answers=desk) as captured, oa.run("shop"):
        asked = oa.human("deploy?", id="mine")
        thread = later(lambda: desk.say(asked, "approved", "go"), lambda: desk.polls)
        answer = asked.wait()
        thread.join()

    assert (answer.wait_id, answer.decision, answer.text, answer.by) == (
        "mine", "approved", "go", "cli",
    )  # fmt: skip
    assert desk.threads == {"otel-agents-answers"}
    assert attributes(captured, "human deploy?")["otelagents.human.answered_by"] == "cli"


def test_the_loop_goes_on_while_answers_are_asked_for() -> None:
    """A server that is slow keeps nobody from working."""
    desk = Desk()
    desk.blocks = threading.Event()

    async def main() -> list[str]:
        told: list[str] = []
        asked = oa.human("deploy?")

        async def work() -> None:
            while not desk.polls:  # noqa: ASYNC110 - a thread of ours counts them
                await asyncio.sleep(0)
            told.append("worked")
            desk.say(asked, "approved")
            assert desk.blocks is not None
            desk.blocks.set()

        worker = asyncio.create_task(work())
        await asked
        told.append("answered")
        await worker
        return told

    with capture(answers=desk):
        assert asyncio.run(main()) == ["worked", "answered"]


def test_many_waits_are_asked_about_by_one_thread() -> None:
    """Each gets the answer that was meant for it."""
    desk = Desk()

    async def main() -> list[str | None]:
        waits = [oa.human("number?", id=f"w{number}") for number in range(20)]

        async def answers() -> None:
            for number, asked in enumerate(waits):
                while not asked.scope_id:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                desk.say(asked, "answered", str(number))

        found, _ = await asyncio.gather(asyncio.gather(*waits), answers())
        return [answer.text for answer in found]

    with capture(answers=desk) as captured, oa.run("shop"):
        assert asyncio.run(main()) == [str(number) for number in range(20)]
        assert desk.threads == {"otel-agents-answers"}
    assert captured.metric("otelagents.hitl.escalations", workflow="shop") == 20
    assert captured.metric("otelagents.hitl.waiting", workflow="shop") == 0
    assert captured.metric("otelagents.hitl.wait.duration", workflow="shop") == 20


def test_a_place_that_fails_to_say_is_asked_again() -> None:
    """An error while asking is ours, and ends nothing."""
    desk = Desk()
    failures: list[str] = []
    poll = desk.poll

    def fails_first(wait_id: str) -> Answer | None:
        if not failures:
            failures.append(wait_id)
            message = "away"
            raise ConnectionError(message)
        return poll(wait_id)

    desk.poll = fails_first  # type: ignore[method-assign]
    with capture(answers=desk):
        asked = oa.human("deploy?")
        thread = later(lambda: desk.say(asked, "approved"), lambda: desk.polls)
        assert asked.wait().decision == "approved"
        thread.join()
    assert len(failures) == 1


# ---------------------------------------------------------------------- not being answered


@pytest.mark.parametrize("how", ["await", "wait"])
def test_a_wait_that_takes_too_long_raises_where_that_was_asked_for(
    captured: Captured, how: str
) -> None:
    """`TimeoutError`, with the outcome timeout."""
    asked = oa.human("deploy?", timeout=0.01)
    with pytest.raises(TimeoutError):
        asyncio.run(_awaited(asked)) if how == "await" else asked.wait()

    assert attributes(captured, "human deploy?")["otelagents.result"] == "timeout"
    (end,) = of(captured, "end")
    assert end.result == "timeout"
    assert "otelagents.human.decision" not in end.attributes


def test_a_wait_that_is_cancelled_is_no_error(captured: Captured) -> None:
    """The span is unset, and whoever answers then has nobody to tell."""
    asked = oa.human("deploy?")

    async def main() -> None:
        waiting = asyncio.create_task(_awaited(asked))
        while asked.ended:  # noqa: ASYNC110
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
    asked.resolve("approved")

    span = captured.span("human deploy?")
    assert span.status.status_code is StatusCode.UNSET
    assert (span.attributes or {})["otelagents.result"] == "cancellation"
    assert captured.metric("otelagents.hitl.waiting") == 0


def test_a_block_that_fails_is_an_error_of_its_own(captured: Captured) -> None:
    """The program asks by itself inside `with`; what goes wrong there passes through."""
    with pytest.raises(ValueError, match="no"), oa.waiting_for_human("call them"):
        message = "no"
        raise ValueError(message)

    assert captured.span("human call them").status.status_code is StatusCode.ERROR


def test_where_nothing_can_answer_one_sentence_says_so(
    captured: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    """There is no store and no server."""
    with pytest.raises(TimeoutError):
        oa.human("deploy?", timeout=0.01).wait()

    assert [record.getMessage().split(":")[1] for record in caplog.records] == [
        " nothing can answer 'deploy?' but the program itself"
    ]
    assert len(captured.spans) == 1


def test_a_word_that_is_no_decision_answers_all_the_same(
    captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than to keep the program waiting; it is said once."""
    monkeypatch.setattr(boundary, "strict", False)
    asked = oa.human("deploy?")
    asked.resolve("maybe", "hm")
    assert asked.wait().decision == "answered"
    assert boundary.counts["human resolve"] >= 1
    assert len(captured.spans) == 1


# ---------------------------------------------------------------------- its forms


def test_a_block_may_say_what_came_of_it(captured: Captured) -> None:
    """With `with`, `async with` and as a decorator."""
    with oa.human("one") as asked:
        asked.resolve("rejected", "no")

    async def main() -> None:
        async with oa.human("two") as second:
            second.resolve("approved")
            assert (await second).decision == "approved"

    @oa.human("three")
    def third() -> int:
        return 3

    asyncio.run(main())
    assert third() == third() == 3
    assert [span.name for span in captured.spans] == [
        "human one", "human two", "human three", "human three",
    ]  # fmt: skip
    assert attributes(captured, "human one")["otelagents.human.decision"] == "rejected"
    assert attributes(captured, "human two")["otelagents.human.decision"] == "approved"
    assert captured.metric("otelagents.hitl.escalations") == 4


def test_a_block_takes_an_answer_from_elsewhere() -> None:
    """It is there as soon as it came, the first that counts, and stands on the span."""
    desk = Desk()
    with capture(answers=desk) as captured:

        @oa.human("second?")
        def decorated() -> None:
            (own,) = of(captured, "start")[1:]
            desk.said[own.scope_id] = Answer(own.scope_id, "approved", None, "console", 1)
            until(lambda: current_answer() is not None)

        def current_answer() -> Answer | None:
            scope = current()
            assert isinstance(scope, HumanScope)
            return scope.answer

        async def main() -> None:
            async with oa.human("third?", timeout=0.01) as third:
                with pytest.raises(TimeoutError):
                    await third
                desk.say(third, "approved", "late, but not too late")
                await asyncio.to_thread(until, lambda: third.answer is not None)

        with oa.human("first?", id="go") as first:
            desk.say(first, "rejected", "no")
            until(lambda: first.answer is not None)
            first.resolve("approved")
        decorated()
        asyncio.run(main())
    assert first.answer is not None
    assert (first.answer.wait_id, first.answer.text) == ("go", "no")
    found = [one.attributes["otelagents.human.decision"] for one in of(captured, "end")]
    assert found == ["rejected", "approved", "approved"]


def test_nobody_is_told_that_a_block_has_no_place_to_ask(
    captured: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    """The program asks by itself."""
    with oa.waiting_for_human("call them"):
        pass
    assert caplog.records == []
    assert len(of(captured, "end")) == 1


def test_two_waits_of_one_id_are_each_answered(caplog: pytest.LogCaptureFixture) -> None:
    """While the first is open the second goes by its scope's id, which a warning tells."""
    desk = Desk()

    async def main() -> tuple[Answer, Answer]:
        waits = [oa.human("deploy?", id="deploy") for _ in range(2)]
        both = asyncio.gather(*(_awaited(one) for one in waits))
        await asyncio.to_thread(until, lambda: all(not one.ended for one in waits))
        first, second = waits
        assert (first.wait_id, second.wait_id) == ("deploy", second.scope_id)
        desk.say(first, "approved")
        desk.say(second, "rejected")
        return tuple(await both)

    with capture(answers=desk) as captured, oa.run("shop", id="r-1"):
        one, other = asyncio.run(main())
        assert (one.decision, other.decision) == ("approved", "rejected")
        with oa.human("deploy?", id="deploy") as again:
            assert again.wait_id == "deploy"  # nobody else has it any more
            with oa.run("another"), oa.human("deploy?", id="deploy") as elsewhere:
                assert elsewhere.wait_id == "deploy"
    said = [one.getMessage() for one in caplog.records if "'deploy'" in one.getMessage()]
    assert len(said) == 1
    assert said[0].endswith(f"answered by {of(captured, 'start')[1].scope_id}")


def test_a_wait_that_is_used_again_is_asked_anew(captured: Captured) -> None:
    """The answer of the first time is not that of the second."""
    asked = oa.human("again?", timeout=0.01)
    asked.resolve("approved")
    assert asked.wait().decision == "approved"
    with pytest.raises(TimeoutError):
        asked.wait()
    assert len(of(captured, "start")) == 2


def test_a_disabled_program_can_still_answer_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """No telemetry, the same program."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    asked = oa.human("deploy?")
    asked.resolve("approved", "go")
    assert asked.wait().text == "go"


# ---------------------------------------------------------------------- what is told of it


def test_the_start_is_an_escalation(captured: Captured) -> None:
    """With task, attempts, last error, priority and the wait's id; counted once on both sides."""
    with oa.run("shop"), oa.task("build", id="t-1"):
        with oa.agent("coder"), pytest.raises(ValueError, match="x"):
            message = "x"
            raise ValueError(message)
        with (
            oa.agent("coder"),
            oa.human("which way?", last_error="ValueError: x", priority="high"),
        ):
            pass
    (start,) = of(captured, "start")
    event = event_of(start)

    assert event is not None
    assert event.type == "hitl_escalated"
    assert event.payload == {
        "task_id": "t-1", "attempts": 2, "last_error": "ValueError: x", "priority": "high",
        "reason": "which way?", "wait_id": start.scope_id,
    }  # fmt: skip
    check(event.type, event.payload)
    assert start.attributes["otelagents.human.id"] == start.scope_id
    measures = Measures()
    for signal in captured.signals:
        measures.apply(signal)
    told = {family.metric.name: family.points for family in measures.families(0)}
    assert [point.value for point in told["otelagents.hitl.escalations"]] == [1]
    assert captured.metric("otelagents.hitl.escalations", workflow="shop") == 1


def test_without_task_and_fields_there_are_defaults(captured: Captured) -> None:
    """The wait's id stands for the task's; the user's id is the wait's."""
    with oa.human("deploy?", id="deploy-7", attempts=4):
        pass
    (start,) = of(captured, "start")
    assert start.attributes["otelagents.event.payload"] == {
        "task_id": "deploy-7", "attempts": 4, "last_error": "", "priority": "normal",
        "reason": "deploy?", "wait_id": "deploy-7",
    }  # fmt: skip


def test_secrets_are_kept_out(captured: Captured) -> None:
    """Of the reason, the error, the answer; whoever waits gets the answer as it was said."""
    secret = "sk-" + "a" * 30
    asked = oa.human(f"is {secret} right?", last_error=f"bad {secret}")
    asked.resolve("answered", f"no, {secret}{'x' * 9000}")
    answer = asked.wait()

    assert answer.text is not None
    assert secret in answer.text
    assert secret not in repr((captured.signals, [span.attributes for span in captured.spans]))
    (end,) = of(captured, "end")
    assert len(end.attributes["otelagents.human.answer"]) < 5000


def test_a_task_is_in_review_while_a_human_is_asked(captured: Captured) -> None:
    """And goes on when the last of them has answered."""
    with oa.task("build", id="t-1"):
        first, second = oa.human("one"), oa.human("two")
        with first:
            with second:
                pass
            assert _states(captured, "t-1")[-1] == "IN_REVIEW"
        assert _states(captured, "t-1")[-1] == "RUNNING"
    assert _states(captured, "t-1")[-1] == "DONE"


def test_a_task_that_an_event_told_of_is_in_review_too(captured: Captured) -> None:
    """As with `hitl_escalated` of the program's own."""
    oa.emit_event("task_queued", {"task_id": "t-9", "feature": "f", "est_cost": 1})
    oa.emit_event("agent_started", {"task_id": "t-9", "agent": "coder"})
    captured.spans  # noqa: B018 - both are dealt with
    with oa.run("shop"), oa.human("which?"):
        pass
    assert "IN_REVIEW" not in _states(captured, "t-9")
    oa.emit_event("task_queued", {"task_id": "t-8", "feature": "f", "est_cost": 1})
    captured.spans  # noqa: B018
    with oa.extract({"baggage": "otelagents.task.id=t-8"}), oa.human("which?"):
        pass
    assert _states(captured, "t-8")[-1] == "IN_REVIEW"


def _states(captured: Captured, task_id: str) -> list[str]:
    captured.spans  # noqa: B018 - what is told is dealt with
    return [
        signal.attributes["otelagents.task.state"]
        for signal in captured.signals
        if signal.kind == "task"
        and signal.ids.task_id == task_id
        and "otelagents.task.state" in signal.attributes
    ]


# ---------------------------------------------------------------------- time apart


def test_waits_count_once_in_every_scope_around(captured: Captured) -> None:
    """Two at a time are the time in which at least one was open; the span is wall time."""
    with oa.run("shop"), oa.phase("review"), oa.agent("boss"):
        asked = oa.human("one"), oa.human("two")
        barrier = threading.Barrier(3)

        def wait(one: HumanScope) -> None:
            with one:
                barrier.wait(DEADLINE)
                barrier.wait(DEADLINE)

        import contextvars

        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(wait, one))
            for one in asked
        ]
        for thread in threads:
            thread.start()
        barrier.wait(DEADLINE)
        barrier.wait(DEADLINE)
        for thread in threads:
            thread.join()
    one, two = (captured.span(f"human {name}") for name in ("one", "two"))
    union = (max(_end(one), _end(two)) - min(_start(one), _start(two))) / 1e9
    for name in ("invoke_workflow shop", "phase review", "invoke_agent boss"):
        waited = attributes(captured, name)["otelagents.wait.seconds"]
        assert waited == pytest.approx(union, abs=1e-6)
        span = captured.span(name)
        assert waited < (_end(span) - _start(span)) / 1e9


def _start(span: Any) -> int:
    return int(span.start_time)


def _end(span: Any) -> int:
    return int(span.end_time)


def test_program_and_signals_measure_the_same_active_time(captured: Captured) -> None:
    """Durations leave the waits out on both sides, to the last digit; the agent's have a metric."""
    for error in (None, ValueError("no"), KeyboardInterrupt()):
        try:
            with oa.run("shop"), oa.phase("review"), oa.agent("boss"):
                with oa.human("ok?"), oa.human("inner?"):
                    pass
                if error is not None:
                    raise error
        except (ValueError, KeyboardInterrupt):
            pass
    measures = Measures()
    for signal in captured.signals:
        measures.apply(signal)
    told = {family.metric.name: family.points for family in measures.families(0)}
    counted = _histograms(captured)
    for name in ("run", "phase", "agent", "agent.wait", "hitl.wait"):
        metric = f"otelagents.{name}.duration"
        found = {frozenset(point.labels.items()): point.value for point in told[metric]}
        assert found == pytest.approx(counted[metric], abs=1e-9), name
        assert found
    assert captured.metric("otelagents.agent.wait.duration", result="success") == 1


def _histograms(captured: Captured) -> dict[str, dict[frozenset[Any], float]]:
    """Return the sums of the program's own histograms by metric and labels."""
    data = captured._reader.get_metrics_data()
    found: dict[str, dict[frozenset[Any], float]] = {}
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    if hasattr(point, "sum"):
                        key = frozenset((point.attributes or {}).items())
                        found.setdefault(metric.name, {})[key] = point.sum
    return found


def test_the_read_model_says_who_is_waited_for() -> None:
    """The run is waiting, and says since when and under which id."""
    from otel_agents.state.view import view

    with capture() as captured, oa.run("shop", id="r-1"), oa.agent("boss"):
        with oa.human("deploy?", id="deploy-1", priority="high"):
            run = fold(captured.signals).by_id["r-1"]
            found = view(run, now=time.time_ns() + 15 * 10**9, alive=lambda *_: True)
        run = fold(captured.signals).by_id["r-1"]
        after = view(run, now=time.time_ns(), alive=lambda *_: True)

    assert found["status"] == "waiting"
    assert found["eta_seconds"] is None
    (wait,) = found["waits"]
    assert {key: wait[key] for key in ("id", "reason", "priority", "agent")} == {
        "id": "deploy-1", "reason": "deploy?", "priority": "high", "agent": "boss",
    }  # fmt: skip
    assert (after["status"], after["waits"]) == ("running", [])
    assert found["waiting_seconds"] >= 15 > after["waiting_seconds"]
    assert found["agents"]["items"][0]["waiting_seconds"] == found["waiting_seconds"]
