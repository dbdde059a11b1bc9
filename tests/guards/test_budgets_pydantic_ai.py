"""Budgets in pydantic-ai: refused requests, streams that are cut, many agents at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic_ai import Agent, direct
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.usage import RequestUsage

import otel_agents as oa
from otel_agents import Budget, BudgetExceeded
from otel_agents.model_call import ModelCall
from otel_agents.testing import Captured, capture
from otel_agents.vocabulary import KINDS
from tests.instrument.kit import PRICED, WORDS

ASKED = [ModelRequest.user_text_prompt("hi")]
PRICES = {PRICED: {"input": 1.0, "output": 2.0}}
EVENTS = ("budget_warning", "budget_exceeded")


class Counted:
    """A model that answers with a fixed usage, and how often it was really asked."""

    def __init__(self, *, input_tokens: int = 100, error: Exception | None = None) -> None:
        self.asked = 0
        self.chunks = 0
        self.closed = 0

        async def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            self.asked += 1
            await asyncio.sleep(0)
            if error is not None:
                raise error
            usage = RequestUsage(input_tokens=input_tokens)
            return ModelResponse(parts=[TextPart("fine")], usage=usage)

        async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
            self.asked += 1
            try:
                for word in WORDS * 20:
                    self.chunks += 1
                    yield word
            finally:
                self.closed += 1

        self.model = FunctionModel(reply, stream_function=stream, model_name=PRICED)


@pytest.fixture
def limited() -> Iterator[Any]:
    """Make a capture with budgets."""
    opened = []

    def make(*budgets: Budget) -> Captured:
        manager = capture(prices=PRICES, budgets=budgets)
        opened.append(manager)
        return manager.__enter__()

    yield make
    for manager in opened:
        manager.__exit__(None, None, None)


def told(captured: Captured) -> Counter[str]:
    return Counter(signal.kind for signal in captured.signals if signal.kind in EVENTS)


def spent(captured: Captured) -> int:
    """Return the tokens that the run's budget says were spent."""
    (end,) = [s for s in captured.signals if s.kind == "run" and s.edge == "end"]
    found: int = end.attributes["otelagents.budget.tokens.spent"]
    return found


def test_a_spent_budget_stops_the_agent_before_its_request(limited: Any) -> None:
    """BudgetExceeded leaves `agent.run`; the model is not asked and no span of a call is left."""
    captured = limited(Budget(tokens=150, enforce=True))
    counted = Counted()

    async def main() -> None:
        agent = Agent(counted.model, name="planner")
        with oa.run("shop"):
            await agent.run("one")
            await agent.run("two")
            with pytest.raises(BudgetExceeded) as raised:
                await agent.run("three")
            assert (raised.value.budget, raised.value.unit) == ("run", "token")

    asyncio.run(main())
    assert counted.asked == 2
    assert captured.metric("otelagents.model.calls") == 2
    assert captured.tree().count("chat") == 2
    refused = [span for span in captured.spans if span.name == "invoke_agent planner"][-1]
    assert refused.events[0].name == "otelagents.budget_refused"
    assert told(captured) == {"budget_warning": 1, "budget_exceeded": 1}


def test_fifty_agents_at_once_overspend_by_one_call_each_at_most(limited: Any) -> None:
    """Each agent has one call under way when the budget is spent, and makes no other."""
    captured = limited(
        Budget(tokens=5_000, enforce=True), Budget(scope="agent", usd=0.001, warn_at=0.5)
    )
    counted = Counted()

    async def loop(agent: Agent[None, str]) -> int:
        made = 0
        with pytest.raises(BudgetExceeded):
            while True:
                await agent.run("go")
                made += 1
        return made

    async def main() -> None:
        with oa.run("shop"):
            agents = [Agent(counted.model, name=f"planner {number % 5}") for number in range(50)]
            await asyncio.gather(*(loop(agent) for agent in agents))

    asyncio.run(main())
    assert 5_000 <= spent(captured) <= 5_000 + 50 * 100
    assert counted.asked * 100 == spent(captured)
    labels = [s.name for s in captured.signals if s.kind in EVENTS]
    assert Counter(labels) == {"run": 2, **{f"agent planner {number}": 2 for number in range(5)}}


def test_a_stream_is_cut_and_closed_and_counts_once(limited: Any) -> None:
    """The chunk that is too much never reaches the consumer; the provider's stream is closed."""
    captured = limited(Budget(tokens=70, enforce=True))
    counted = Counted()
    words = []

    async def main() -> None:
        agent = Agent(counted.model, name="planner")
        with oa.run("shop"):
            with pytest.raises(BudgetExceeded) as raised:
                async with agent.run_stream("go") as result:
                    async for text in result.stream_text(delta=True, debounce_by=None):
                        words.append(text)
            assert raised.value.spent > 70

    asyncio.run(main())
    assert 0 < counted.chunks < len(WORDS) * 20
    assert counted.closed == 1
    call = captured.span(f"chat {PRICED}").attributes or {}
    assert call["otelagents.result"] == "cancellation"
    assert call["otelagents.usage.complete"] is False
    used = call["gen_ai.usage.input_tokens"] + call["gen_ai.usage.output_tokens"]
    assert spent(captured) == used == captured.metric("otelagents.tokens")
    assert used - 70 <= 5  # one chunk over, at the most
    assert told(captured) == {"budget_warning": 1, "budget_exceeded": 1}
    assert captured.metric("otelagents.model.errors") == 0


def test_a_stream_within_its_budget_is_left_alone(limited: Any) -> None:
    """All of it arrives, and it counts once, as its end says."""
    captured = limited(Budget(tokens=1_000, enforce=True))
    counted = Counted()

    async def main() -> None:
        with oa.run("shop"):
            async with Agent(counted.model, name="planner").run_stream("go") as result:
                assert await result.get_output() == "".join(WORDS * 20)

    asyncio.run(main())
    call = captured.span(f"chat {PRICED}").attributes or {}
    used = call["gen_ai.usage.input_tokens"] + call["gen_ai.usage.output_tokens"]
    assert spent(captured) == used
    assert call["otelagents.result"] == "success"


@pytest.mark.parametrize("errors", [(Exception,), (ModelHTTPError,)])
def test_a_fallback_asks_no_other_model_for_a_budget(limited: Any, errors: Any) -> None:
    """However much a FallbackModel catches, a spent budget is raised as it is."""
    captured = limited(Budget(tokens=100, enforce=True))
    first, second = Counted(), Counted()
    model = FallbackModel(first.model, second.model, fallback_on=errors)

    async def main() -> None:
        agent = Agent(model, name="planner")
        with oa.run("shop"):
            await agent.run("one")
            with pytest.raises(BudgetExceeded):
                await agent.run("two")
            with pytest.raises(BudgetExceeded):
                async with agent.run_stream("three"):
                    pass

    asyncio.run(main())
    assert (first.asked, second.asked) == (1, 0)
    assert captured.metric("otelagents.model.calls") == 1


def test_what_a_failed_model_used_refuses_the_one_behind_it(limited: Any) -> None:
    """A budget that is spent while models are tried in turn is raised, not kept in a group."""
    limited(Budget(tokens=10, enforce=True))
    second = Counted()

    def spend(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        with oa.model("other") as call:
            call.answered(oa.usage.Usage(input_tokens=50, requests=1))
        raise ValueError

    first = FunctionModel(spend, model_name=PRICED)

    async def main() -> None:
        agent = Agent(FallbackModel(first, second.model, fallback_on=(Exception,)), name="a")
        with oa.run("shop"), pytest.raises(BudgetExceeded):
            await agent.run("one")

    asyncio.run(main())
    assert second.asked == 0


def test_a_wrapped_model_and_direct_requests_are_held(limited: Any) -> None:
    """A request without an agent, and one through a wrapper, are refused like any other."""
    limited(Budget(tokens=100, enforce=True))
    counted = Counted()

    async def main() -> None:
        with oa.run("shop"):
            await direct.model_request(counted.model, ASKED)
            with pytest.raises(BudgetExceeded):
                await direct.model_request(WrapperModel(counted.model), ASKED)
            with pytest.raises(BudgetExceeded):
                async with direct.model_request_stream(counted.model, ASKED):
                    pass

    asyncio.run(main())
    assert counted.asked == 1


def test_another_instrumentation_changes_nothing(limited: Any) -> None:
    """With pydantic-ai's own instrumentation on, a budget is raised once and counts once."""
    captured = limited(Budget(tokens=150, enforce=True))
    counted = Counted()

    async def main() -> None:
        agent = Agent(counted.model, name="planner")
        with oa.run("shop"):
            await agent.run("one")
            await agent.run("two")
            with pytest.raises(BudgetExceeded):
                await agent.run("three")

    Agent.instrument_all(True)
    try:
        asyncio.run(main())
    finally:
        Agent.instrument_all(False)
    assert (counted.asked, spent(captured)) == (2, 200)


def test_failed_requests_count_what_they_used(limited: Any) -> None:
    """An agent that repeats itself after errors spends from the same budget, and is stopped."""
    captured = limited(Budget(scope="agent", name="planner", tokens=250, enforce=True))

    def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        parts = [TextPart("no number")]
        return ModelResponse(parts=parts, usage=RequestUsage(input_tokens=100))

    async def main() -> None:
        agent = Agent(FunctionModel(reply, model_name=PRICED), name="planner", output_type=int)
        with oa.run("shop"):
            for _ in range(2):
                with pytest.raises(Exception, match=r"."):
                    await agent.run("go")
            with pytest.raises(BudgetExceeded):
                await agent.run("go")

    asyncio.run(main())
    assert captured.metric("otelagents.model.attempts") == 3
    assert told(captured) == {"budget_warning": 1, "budget_exceeded": 1}


def test_a_cancelled_agent_leaves_its_ledger_right(limited: Any) -> None:
    """A run that is cancelled in a call ends its budget with what was used."""
    captured = limited(Budget(tokens=1_000))

    asked = asyncio.Event()

    async def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if "wait" in str(messages[0]):
            asked.set()
            await asyncio.Event().wait()
        return ModelResponse(parts=[TextPart("fine")], usage=RequestUsage(input_tokens=100))

    async def main() -> None:
        agent = Agent(FunctionModel(reply, model_name=PRICED), name="planner")
        with oa.run("shop"):
            await agent.run("go")
            task = asyncio.ensure_future(agent.run("wait"))
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert spent(captured) == 100


def test_a_realtime_session_is_not_begun(limited: Any) -> None:
    """A session is a model call: where nothing is left it is not connected."""
    pytest.importorskip("pydantic_ai.realtime.lifecycle")
    from tests.instrument.test_pydantic_ai_realtime import Voice, talk, talker

    captured = limited(Budget(tokens=80, enforce=True))

    async def main() -> None:
        with oa.run("shop"):
            await talk(talker(), Voice())  # its two answers use 46 tokens each
            with pytest.raises(BudgetExceeded):
                await talk(talker(), Voice(refused=AssertionError("it was connected")))

    asyncio.run(main())
    assert spent(captured) == 92
    assert captured.tree() == (
        "invoke_workflow shop\n  invoke_agent talker\n    chat priced\n"
        "    execute_tool look\n  invoke_agent talker (error)"
    )


def test_a_batch_that_is_billed_already_is_taken(limited: Any) -> None:
    """The answers of a batch cost what they cost: a budget tells of them and refuses none."""
    captured = limited(Budget(tokens=5, enforce=True))
    with oa.run("shop"):
        for _ in range(2):
            call = ModelCall(KINDS["model"], PRICED)
            call.billed = True
            call.start()
            call.answered(oa.usage.Usage(input_tokens=10, requests=1))
            call.end()
    assert spent(captured) == 20
