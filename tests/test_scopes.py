"""Scopes by hand: nesting, outcomes, fields, roll-ups, decorators of every shape."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from inline_snapshot import snapshot
from opentelemetry import trace

import otel_agents as oa
from otel_agents.boundary import boundary
from otel_agents.usage import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from otel_agents.testing import Captured


def attributes(captured: Captured, name: str) -> dict[str, Any]:
    return dict(captured.span(name).attributes or {})


def test_spans_nest_as_run_iteration_phase_agent(captured: Captured) -> None:
    """A scope opened inside another is its child."""
    with oa.run("shop"), oa.iteration(), oa.phase("plan"), oa.agent("planner"):
        pass

    assert captured.tree() == snapshot("""\
invoke_workflow shop
  iteration
    phase plan
      invoke_agent planner\
""")


def test_ids_stand_on_every_span_inside(captured: Captured) -> None:
    """Run, iteration, phase, agent and correlation ids reach the innermost span."""
    with (
        oa.run("shop", id="r1", work_order_id="o1", plan_id="p1"),
        oa.iteration(number=2),
        oa.phase("plan"),
        oa.agent("planner", id="a1"),
        oa.tool("search"),
    ):
        pass

    found = attributes(captured, "execute_tool search")
    assert {key: found[key] for key in found if key.startswith("otelagents.")} == snapshot(
        {
            "otelagents.run.id": "r1",
            "otelagents.workflow.name": "shop",
            "otelagents.work_order.id": "o1",
            "otelagents.correlation.id": "r1",
            "otelagents.plan.id": "p1",
            "otelagents.iteration.number": 2,
            "otelagents.phase.name": "plan",
            "otelagents.agent.run.id": "a1",
            "otelagents.result": "success",
        }
    )


def test_ids_stand_on_third_party_spans_too(captured: Captured) -> None:
    """A span of another library inside a scope carries the ids of the scope."""
    tracer = captured.tracer_provider.get_tracer("somebody-else")
    with oa.run("shop", id="r1"), oa.phase("plan"), tracer.start_as_current_span("query"):
        pass

    found = attributes(captured, "query")
    assert (found["otelagents.run.id"], found["otelagents.phase.name"]) == ("r1", "plan")


@pytest.mark.parametrize(
    ("error", "outcome", "status"),
    [
        (None, "success", "UNSET"),
        (ValueError("no"), "error", "ERROR"),
        (TimeoutError(), "timeout", "ERROR"),
        (asyncio.CancelledError(), "cancellation", "UNSET"),
        (KeyboardInterrupt(), "cancellation", "UNSET"),
        (SystemExit(0), "success", "UNSET"),
        (SystemExit(3), "error", "ERROR"),
    ],
)
def test_an_exception_gives_the_outcome_and_passes_through(
    captured: Captured, error: BaseException | None, outcome: str, status: str
) -> None:
    """The exception that leaves a scope is the one that was raised, and says how it ended."""
    raised = None
    try:
        with oa.run("shop"):
            if error is not None:
                raise error
    except BaseException as caught:  # noqa: BLE001 - the test is about which one it is
        raised = caught

    span = captured.span("invoke_workflow shop")
    assert raised is error
    assert (span.attributes or {})["otelagents.result"] == outcome
    assert span.status.status_code.name == status


def test_the_text_of_an_exception_stays_in_the_process(captured: Captured) -> None:
    """Without capture of content, a span and a signal name the class and the place only."""
    with pytest.raises(ValueError), oa.run("shop"):
        message = "the prompt was: canary"
        raise ValueError(message)

    span = captured.span("invoke_workflow shop")
    assert "canary" not in str(span.to_json())
    failure = captured.signals[-1].error
    assert failure is not None
    assert (failure.type, failure.message) == ("ValueError", "")
    assert failure.where.startswith("test_scopes.py:")


def test_a_failure_without_an_exception_is_said_by_fail(captured: Captured) -> None:
    """`fail` ends the scope as a failure, with the reason the caller gave."""
    with oa.phase("review") as scope:
        scope.fail("3 drafts were refused")

    assert attributes(captured, "phase review")["otelagents.result"] == "failure"
    failure = captured.signals[-1].error
    assert failure is not None
    assert failure.message == "3 drafts were refused"


def test_a_gate_that_is_not_passed_is_a_failure_but_no_error(captured: Captured) -> None:
    """A gate that says no did its work: its result is failure, its span's status unset."""
    with oa.gate("tests") as gate:
        gate.set(passed=False)

    span = captured.span("gate tests")
    assert span.status.status_code.name == "UNSET"
    assert captured.metric("otelagents.gate.checks", gate="tests", result="failure") == 1


def test_an_instant_gate_is_an_event_on_the_current_span(captured: Captured) -> None:
    """`record` makes no span of its own."""
    with oa.phase("review"):
        oa.gate("style", passed=True).record()

    (event,) = captured.span("phase review").events
    assert event.name == "otelagents.gate"
    assert captured.tree() == "phase review"
    assert captured.metric("otelagents.gate.checks", gate="style", result="success") == 1


def test_iterations_number_themselves(captured: Captured) -> None:
    """Without a number, iterations of a run count from one."""
    with oa.run("shop"):
        for _ in range(2):
            with oa.iteration():
                pass

    numbers = [
        (span.attributes or {}).get("otelagents.iteration.number")
        for span in captured.spans
        if span.name == "iteration"
    ]
    assert numbers == [1, 2]


def test_an_agent_that_tries_a_task_again_counts_its_attempts(captured: Captured) -> None:
    """Attempts count by task and agent, over the iterations of a run."""
    with oa.run("shop"):
        for _ in range(2):
            with oa.task("t", id="t1"), oa.agent("writer"):
                pass
        with oa.task("t", id="t2"), oa.agent("writer"):
            pass

    attempts = [
        (span.attributes or {}).get("otelagents.agent.attempt")
        for span in captured.spans
        if span.name == "invoke_agent writer"
    ]
    assert attempts == [1, 2, 1]


def test_an_agent_knows_the_agent_that_called_it(captured: Captured) -> None:
    """The attempt around an agent is its parent."""
    with oa.agent("lead", id="a1"), oa.agent("helper", id="a2"):
        pass

    found = attributes(captured, "invoke_agent helper")
    assert found["otelagents.agent.parent.run.id"] == "a1"
    assert found["otelagents.agent.run.id"] == "a2"


def test_usage_rolls_up_under_our_own_keys_only(captured: Captured) -> None:
    """A sum of `gen_ai.usage.*` over all spans is the bill; totals stand under other keys."""
    with oa.run("shop"), oa.phase("plan"), oa.agent("planner"):
        for _ in range(2):
            with oa.model("priced", provider="test") as call:
                call.answered(Usage(input_tokens=100, output_tokens=10, requests=1))

    naive = sum(
        (span.attributes or {}).get("gen_ai.usage.input_tokens", 0) for span in captured.spans
    )
    found = attributes(captured, "invoke_workflow shop")
    assert naive == 200
    assert found["otelagents.usage.total.input_tokens"] == 200
    assert found["otelagents.usage.total.requests"] == 2
    assert found["otelagents.cost.total"] == pytest.approx(2 * (100 + 20) / 1e6)
    assert captured.metric("otelagents.tokens", type="input") == 200
    assert captured.metric("otelagents.cost") == pytest.approx(0.00024)


def test_an_unknown_price_is_unknown_and_counted(captured: Captured) -> None:
    """Tokens of a model without a price are no zero cost."""
    with oa.run("shop"), oa.model("nobody-knows", provider="test") as call:
        call.answered(Usage(input_tokens=5, output_tokens=5, requests=1))

    found = attributes(captured, "invoke_workflow shop")
    assert "otelagents.cost.total" not in found
    assert found["otelagents.usage.unpriced_tokens"] == 10
    assert captured.metric("otelagents.tokens.unpriced", model="nobody-knows") == 10


def test_a_raw_answer_gives_its_usage(captured: Captured) -> None:
    """A program without pydantic-ai hands the provider's answer over as it is."""
    payload = {
        "id": "x1",
        "model": "gpt-4o",
        "object": "chat.completion",
        "choices": [],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }
    with oa.model("gpt-4o", provider="openai") as call:
        call.response(payload)

    found = attributes(captured, "chat gpt-4o")
    assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (7, 3)
    assert found["gen_ai.response.id"] == "x1"


def test_user_attributes_keep_their_keys_and_lose_their_secrets(captured: Captured) -> None:
    """A value that is a secret by name or shape is hidden."""
    with oa.phase("x", attributes={"shop.order": 7, "db.password": "hunter2"}) as scope:
        scope.set_attribute("note", "key sk-abcdefghijklmnopqrstuvwx")

    found = attributes(captured, "phase x")
    assert found["shop.order"] == 7
    assert found["db.password"] == "[redacted]"
    assert found["note"] == "key [redacted]"


class Hostile:
    """An object that breaks whoever looks at it."""

    def __str__(self) -> str:
        message = "no"
        raise RuntimeError(message)

    __repr__ = __str__


def test_a_hostile_value_is_named_by_its_class(captured: Captured) -> None:
    """A foreign `__str__` is never called."""
    with oa.phase("x", attributes={"thing": Hostile()}, number=Hostile()):
        pass

    assert attributes(captured, "phase x")["thing"] == "<Hostile>"


def test_an_unknown_field_is_reported_and_left_away(
    captured: Captured, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A misspelt field warns in one sentence that names the right ones."""
    monkeypatch.setattr(boundary, "strict", False)
    with oa.phase("x", nubmer=1):
        pass

    assert "nubmer" in caplog.text
    assert "number" in caplog.text
    assert captured.tree() == "phase x"


def test_progress_is_a_signal_and_an_attribute(captured: Captured) -> None:
    """`progress` tells at once, and the span keeps the last word."""
    with oa.phase("x"):
        oa.progress(1, 4)
        oa.progress(3, 4)

    told = [signal for signal in captured.signals if signal.edge == "progress"]
    assert [signal.attributes["otelagents.progress.done"] for signal in told] == [1, 3]
    assert attributes(captured, "phase x")["otelagents.progress.done"] == 3


def test_signals_mark_starts_and_ends_but_no_model_or_tool_call(captured: Captured) -> None:
    """Their spans tell of them."""
    with oa.run("shop"), oa.agent("a"), oa.tool("t"), oa.model("m") as call:
        call.answered(Usage(input_tokens=1, requests=1))

    told = [
        (signal.kind, signal.edge) for signal in captured.signals if signal.edge in {"start", "end"}
    ]
    assert told == [("run", "start"), ("agent", "start"), ("agent", "end"), ("run", "end")]


def test_a_signal_carries_its_own_usage_without_that_of_inner_scopes(captured: Captured) -> None:
    """A sum over signals is the bill."""
    with oa.run("shop"), oa.agent("outer"):
        with oa.model("priced") as call:
            call.answered(Usage(input_tokens=1, requests=1))
        with oa.agent("inner"), oa.model("priced") as call:
            call.answered(Usage(input_tokens=10, requests=1))

    ends = {
        signal.name: signal.usage.input_tokens if signal.usage else 0
        for signal in captured.signals
        if signal.edge == "end"
    }
    assert ends == {"inner": 10, "outer": 1, "shop": 0}


def test_active_counts_return_to_zero_whatever_happened(captured: Captured) -> None:
    """Ok, error and cancelled runs all stop being active."""
    for error in (None, ValueError(), asyncio.CancelledError()):
        try:
            with oa.run("shop"), oa.agent("a"):
                if error is not None:
                    raise error
        except BaseException:  # noqa: BLE001, S110 - raised just above
            pass

    assert captured.metric("otelagents.run.active") == 0
    assert captured.metric("otelagents.agent.active") == 0
    assert captured.metric("otelagents.runs.completed", result="succeeded") == 1
    assert captured.metric("otelagents.runs.completed", result="failed") == 1
    assert captured.metric("otelagents.runs.completed", result="canceled") == 1


# ---------------------------------------------------------------------- decorators


@oa.phase("sync")
def sync_work(x: int) -> int:
    """Work."""
    return x


@oa.phase("async")
async def async_work(x: int) -> int:
    await asyncio.sleep(0)
    return x


@oa.phase("gen")
def generator_work(x: int) -> Iterator[int]:
    yield x
    yield x + 1


@oa.phase("agen")
async def async_generator_work(x: int) -> AsyncIterator[int]:
    yield x
    yield x + 1


class Shop:
    @oa.phase("method")
    def method(self) -> Shop:
        return self

    @classmethod
    @oa.phase("class")
    def cls_method(cls) -> type:
        return cls

    @staticmethod
    @oa.phase("static")
    def static(x: int) -> int:
        return x


def test_a_decorated_function_of_any_shape_gives_what_it_gave(captured: Captured) -> None:
    """Sync, async, generator, async generator, methods: results are the same, one span each."""

    async def collect() -> list[int]:
        return [item async for item in async_generator_work(1)]

    shop = Shop()
    assert sync_work(1) == 1
    assert asyncio.run(async_work(2)) == 2
    assert list(generator_work(1)) == [1, 2]
    assert asyncio.run(collect()) == [1, 2]
    assert shop.method() is shop
    assert Shop.cls_method() is Shop
    assert Shop.static(3) == 3
    assert sorted(span.name for span in captured.spans) == sorted(
        f"phase {name}" for name in ("sync", "async", "gen", "agen", "method", "class", "static")
    )


def test_a_decorator_without_parentheses_takes_the_functions_name(captured: Captured) -> None:
    """`@phase` right on a function names the scope after it."""

    @oa.phase
    def tidy() -> int:
        return 1

    assert tidy() == 1
    assert captured.tree() == "phase tidy"


def test_the_current_span_is_the_same_before_between_and_after_items(captured: Captured) -> None:
    """A generator's scope is current only while the generator runs."""
    with oa.run("shop"):
        outside = trace.get_current_span()
        seen = []
        for _ in generator_work(1):
            seen.append(trace.get_current_span() is outside)
        seen.append(trace.get_current_span() is outside)

    assert seen == [True, True, True]
    assert captured.tree() == "invoke_workflow shop\n  phase gen"


async def _break_early() -> None:
    async for _ in async_generator_work(1):
        break
    gc.collect()
    await asyncio.sleep(0)


async def _close_from_another_task() -> None:
    stream: Any = async_generator_work(1)
    await anext(stream)
    await asyncio.create_task(stream.aclose())


async def _cancel() -> None:
    @oa.phase("agen")
    async def endless() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    async def consume() -> None:
        async for _ in endless():
            started.set()

    started = asyncio.Event()
    task = asyncio.create_task(consume())
    await started.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("leave", [_break_early, _close_from_another_task, _cancel])
def test_leaving_a_stream_early_ends_its_span_once_and_quietly(
    captured: Captured, caplog: pytest.LogCaptureFixture, leave: Any
) -> None:
    """No "Failed to detach context", one span, cancelled and not an error."""
    with caplog.at_level(logging.DEBUG, logger="opentelemetry.context"):
        asyncio.run(leave())

    span = captured.span("phase agen")
    assert [record for record in caplog.records if record.name == "opentelemetry.context"] == []
    assert (span.attributes or {})["otelagents.result"] == "cancellation"
    assert span.status.status_code.name == "UNSET"


def test_values_can_be_sent_and_thrown_into_a_decorated_generator(captured: Captured) -> None:
    """`send`, `throw` and the return value pass through."""

    @oa.phase("echo")
    def echo() -> Any:
        try:
            got = yield "first"
            yield got
        except KeyError:
            return "caught"
        return "done"

    talk = echo()
    assert next(talk) == "first"
    assert talk.send("hello") == "hello"
    with pytest.raises(StopIteration) as stop:
        talk.throw(KeyError())
    assert stop.value.value == "caught"
    assert captured.tree() == "phase echo"


def test_a_disabled_runtime_records_nothing(captured: Captured) -> None:
    """With telemetry off a scope does nothing at all."""
    captured.runtime.disabled = True
    with oa.run("shop") as scope:
        scope.set_attribute("a", 1)
        scope.progress(1, 2)

    assert captured.spans == []
    assert captured.signals == []


class Unbound:
    """A proxy that raises whenever it is looked at, as one outside its request does."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        message = "outside of its request"
        raise RuntimeError(message)


def test_a_proxy_that_raises_when_looked_at_harms_nobody(captured: Captured) -> None:
    """Neither as a result nor as an attribute."""
    proxy = Unbound()

    @oa.phase("look", attributes={"proxy": proxy})
    def look() -> object:
        return proxy

    assert look() is proxy
    assert attributes(captured, "phase look")["proxy"] == "<Unbound>"


def test_a_decorated_function_can_be_pickled_and_copied() -> None:
    """As any function can that stands in a module."""
    assert pickle.loads(pickle.dumps(sync_work)) is sync_work  # noqa: S301 - our own
    assert copy.deepcopy(sync_work) is sync_work


@pytest.mark.parametrize("way", ["ok", "error", "cancelled"])
def test_a_scope_lasts_as_long_as_the_task_its_function_returns(
    captured: Captured, way: str
) -> None:
    """A function that starts a task and returns it is not done when it returns."""

    async def work(gate: asyncio.Event) -> str:
        await gate.wait()
        if way == "error":
            raise ValueError
        return "done"

    @oa.phase("started")
    def begin(gate: asyncio.Event) -> asyncio.Task[str]:
        return asyncio.create_task(work(gate))

    async def main() -> None:
        gate = asyncio.Event()
        task = begin(gate)
        await asyncio.sleep(0)
        assert captured.spans == []
        if way == "cancelled":
            task.cancel()
        gate.set()
        await asyncio.wait([task])

    asyncio.run(main())
    outcome = {"ok": "success", "error": "error", "cancelled": "cancellation"}[way]
    assert attributes(captured, "phase started")["otelagents.result"] == outcome


def test_a_sub_agent_that_is_called_twice_is_not_tried_twice(captured: Captured) -> None:
    """Only an agent that is put to the task itself has attempts at it."""
    with oa.run("shop"), oa.task("t", id="t1"), oa.agent("lead"):
        for _ in range(2):
            with oa.agent("helper"):
                pass

    attempts = [
        (span.attributes or {}).get("otelagents.agent.attempt")
        for span in captured.spans
        if span.name == "invoke_agent helper"
    ]
    assert attempts == [1, 1]


def test_what_is_inside_a_tool_is_inside_its_agent(captured: Captured) -> None:
    """A tool has no signals: the tree of those that have leads past it."""
    with oa.run("shop"), oa.agent("clerk") as clerk, oa.tool("ask"), oa.agent("helper"):
        pass
    helper = next(one for one in captured.signals if one.name == "helper" and one.edge == "start")

    assert helper.parent_id == clerk.scope_id
