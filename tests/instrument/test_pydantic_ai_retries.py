"""Questions and attempts apart: refused answers, failed calls, limits, and what each one cost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, RunCancelled, UsageLimits
from pydantic_ai.exceptions import (
    ModelHTTPError,
    ModelRequestTimeout,
    RunTimedOut,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
)
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.output import ToolOutput

import otel_agents as oa
from otel_agents.testing import Captured
from tests.instrument.kit import (
    PRICED,
    answering,
    attributes,
    calling,
    named,
    roll_up,
    tokens,
    usage_sum,
    verdicts,
)

pytestmark = pytest.mark.usefixtures("thread_loop")


def picky(refusals: int, **options: Any) -> Agent[None, str]:
    """Make an agent whose output validator refuses the first answers."""
    left = [refusals]
    agent = Agent(answering("a", "b", "c", "d"), name="picky", **options)

    @agent.output_validator
    def judge(output: str) -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise ModelRetry("not good enough")
        return output

    return agent


def costs(captured: Captured) -> dict[str, float]:
    return {
        labels["result"]: value
        for name, labels, value in captured.points()
        if name == "otelagents.cost"
    }


def test_a_refused_answer_is_another_attempt_at_one_question(captured: Captured) -> None:
    """Two refusals and an acceptance are one question and three attempts, each with its verdict."""
    picky(2, retries=3).run_sync("hi")

    assert verdicts(captured, "calls") == {"success": 1}
    assert verdicts(captured, "attempts") == {"failure": 2, "success": 1}
    assert costs(captured) == pytest.approx({"failure": 240e-6, "success": 120e-6})
    assert usage_sum(captured) == {"input_tokens": 300, "output_tokens": 30}
    assert roll_up(captured.span("invoke_agent picky"))["requests"] == 3


def test_answers_refused_to_the_end_are_one_failed_question(captured: Captured) -> None:
    """When the retries run out, the question failed; every answer was paid for."""
    with pytest.raises(UnexpectedModelBehavior):
        picky(9, retries=2).run_sync("hi")

    assert verdicts(captured, "calls") == {"failure": 1}
    assert verdicts(captured, "attempts") == {"failure": 3}
    assert costs(captured) == pytest.approx({"failure": 360e-6})
    agent = captured.span("invoke_agent picky")
    assert attributes(agent)["error.type"] == "pydantic_ai.exceptions.UnexpectedModelBehavior"
    assert roll_up(agent)["input_tokens"] == 300


class Answer(BaseModel):
    value: int


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(ModelResponse(parts=[TextPart("plain text")]), id="text instead of a tool"),
        pytest.param(
            ModelResponse(parts=[ToolCallPart("final_result", {"value": "x"})]), id="wrong type"
        ),
        pytest.param(
            ModelResponse(parts=[ToolCallPart("final_result", "{not json")]), id="no JSON"
        ),
    ],
)
def test_an_output_that_does_not_fit_is_refused(captured: Captured, refused: ModelResponse) -> None:
    """Structured output that does not validate makes its attempt a failure."""
    good = calling(("final_result", {"value": 3}))
    agent = Agent(answering(refused, good), name="strict", output_type=ToolOutput(Answer))
    agent.run_sync("hi")

    assert verdicts(captured, "calls") == {"success": 1}
    assert verdicts(captured, "attempts") == {"failure": 1, "success": 1}
    assert captured.metric("otelagents.tool.calls") == 0


def test_a_tool_that_asks_for_a_retry_refuses_no_answer(captured: Captured) -> None:
    """`ModelRetry` in a tool fails the tool; the answers that called it were good questions."""
    agent = Agent(answering(calling(("look", {})), calling(("look", {})), "yes"), name="keen")
    left = [1]

    @agent.tool_plain
    def look() -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise ModelRetry("look again")
        return "seen"

    agent.run_sync("hi")

    assert verdicts(captured, "calls") == {"success": 3}
    assert verdicts(captured, "attempts") == {"success": 3}
    first, second = named(captured, "execute_tool look")
    assert attributes(first)["error.type"] == "pydantic_ai.exceptions.ModelRetry"
    assert attributes(second)["otelagents.result"] == "success"
    assert captured.span("invoke_agent keen").status.status_code.name == "UNSET"


def test_a_failed_call_bills_what_came_before(captured: Captured) -> None:
    """An error of the provider in the second call leaves the first one's usage where it was."""
    agent = Agent(answering(calling(("look", {})), ModelHTTPError(500, PRICED)), name="unlucky")

    @agent.tool_plain
    def look() -> str:
        return "seen"

    with pytest.raises(ModelHTTPError), oa.run("shop"):
        agent.run_sync("hi")

    assert verdicts(captured, "calls") == {"success": 1, "error": 1}
    assert tokens(captured) == {"input": 100, "output": 10}
    found = attributes(captured.span("invoke_agent unlucky"))
    assert found["otelagents.usage.total.input_tokens"] == 100
    assert found["otelagents.usage.complete"] is True
    assert found["otelagents.cost.total"] == pytest.approx(120e-6)


def test_a_call_that_fails_without_a_word_of_its_usage_is_incomplete(captured: Captured) -> None:
    """Absent is not zero: no usage is invented for a call that broke off."""
    with pytest.raises(ConnectionResetError):
        Agent(answering(ConnectionResetError()), name="unlucky").run_sync("hi")

    found = attributes(captured.span("chat priced"))
    assert found["otelagents.usage.complete"] is False
    assert "gen_ai.usage.input_tokens" not in found
    agent = attributes(captured.span("invoke_agent unlucky"))
    assert agent["otelagents.usage.complete"] is False
    assert "otelagents.usage.total.input_tokens" not in agent


@pytest.mark.parametrize(
    ("limits", "calls"),
    [
        pytest.param(UsageLimits(request_limit=1), {"success": 1}, id="requests"),
        pytest.param(UsageLimits(total_tokens_limit=50), {"success": 1}, id="tokens"),
    ],
)
def test_a_usage_limit_ends_the_agent_and_keeps_the_bill(
    captured: Captured, limits: UsageLimits, calls: dict[str, float]
) -> None:
    """What was used up to the limit is counted; the agent says which error ended it."""
    agent = Agent(answering(calling(("look", {})), "yes"), name="thrifty")

    @agent.tool_plain
    def look() -> str:
        return "seen"

    with pytest.raises(UsageLimitExceeded):
        agent.run_sync("hi", usage_limits=limits)

    found = captured.span("invoke_agent thrifty")
    assert attributes(found)["error.type"] == "pydantic_ai.exceptions.UsageLimitExceeded"
    assert roll_up(found)["input_tokens"] == 100
    assert verdicts(captured, "calls") == calls
    assert captured.metric("otelagents.agent.attempts", result="error") == 1


def waiting(reached: asyncio.Event) -> FunctionModel:
    async def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    return FunctionModel(reply, model_name=PRICED)


def test_a_call_that_is_cancelled_is_no_error(captured: Captured) -> None:
    """The task is cancelled while the model is asked: cancellation everywhere, no status."""

    async def main() -> None:
        reached = asyncio.Event()
        task = asyncio.create_task(Agent(waiting(reached), name="slow").run("hi"))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with oa.run("shop"):
        asyncio.run(main())

    for name in ("chat priced", "invoke_agent slow"):
        span = captured.span(name)
        assert span.status.status_code.name == "UNSET"
        assert attributes(span)["otelagents.result"] == "cancellation"
        assert attributes(span)["otelagents.usage.complete"] is False
    assert verdicts(captured, "calls") == {"cancellation": 1}
    assert captured.metric("otelagents.agent.attempts", result="cancellation") == 1


def test_a_run_that_takes_too_long_is_a_timeout(captured: Captured) -> None:
    """pydantic-ai's `timeout=` ends the agent with the outcome timeout."""

    async def main() -> None:
        with pytest.raises(RunTimedOut):
            await Agent(waiting(asyncio.Event()), name="slow").run("hi", timeout=0.01)

    asyncio.run(main())

    agent = captured.span("invoke_agent slow")
    assert attributes(agent)["otelagents.result"] == "timeout"
    assert agent.status.status_code.name == "ERROR"
    assert captured.metric("otelagents.agent.attempts", result="timeout") == 1


def test_a_run_that_cancels_itself_is_no_error(captured: Captured) -> None:
    """`AgentRun.cancel` is a cancellation, though pydantic-ai raises it as an exception."""

    async def main() -> None:
        reached = asyncio.Event()
        agent = Agent(waiting(reached), name="slow")

        async def drive() -> None:
            async with agent.iter("hi") as run:

                async def stop() -> None:
                    await reached.wait()
                    run.cancel()

                stopping = asyncio.create_task(stop())
                async for _ in run:
                    pass
                await stopping

        with pytest.raises(RunCancelled):
            await drive()

    asyncio.run(main())

    agent = captured.span("invoke_agent slow")
    assert attributes(agent)["otelagents.result"] == "cancellation"
    assert agent.status.status_code.name == "UNSET"


def test_a_request_that_takes_too_long_is_a_timeout(captured: Captured) -> None:
    """The setting `request_timeout` ends the agent with the outcome timeout."""

    async def main() -> None:
        agent = Agent(waiting(asyncio.Event()), name="slow")
        with pytest.raises(ModelRequestTimeout):
            await agent.run("hi", model_settings={"request_timeout": 0.01})

    asyncio.run(main())

    agent = captured.span("invoke_agent slow")
    assert attributes(agent)["otelagents.result"] == "timeout"
    assert attributes(agent)["error.type"] == "pydantic_ai.exceptions.ModelRequestTimeout"


def test_the_verdict_on_hand_made_calls_comes_with_the_next(captured: Captured) -> None:
    """Code that asks a model by itself has the same rules: `again` says that it was refused."""
    with oa.agent("byhand"):
        for again in (False, True, False):
            call = oa.model(PRICED)
            call.again = again
            with call:
                call.response(
                    {"model": PRICED, "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
                )

    assert verdicts(captured, "calls") == {"success": 2}
    assert verdicts(captured, "attempts") == {"failure": 1, "success": 2}


def test_asking_beside_another_question_loses_none(captured: Captured) -> None:
    """An agent of a user's own can ask several models at once."""

    async def ask(all_asked: asyncio.Barrier) -> None:
        with oa.model(PRICED) as call:
            await all_asked.wait()
            call.response({"model": PRICED, "usage": {"prompt_tokens": 1, "completion_tokens": 1}})

    async def main() -> None:
        all_asked = asyncio.Barrier(5)
        with oa.agent("byhand"):
            await asyncio.gather(*(ask(all_asked) for _ in range(5)))

    asyncio.run(main())

    assert verdicts(captured, "calls") == {"success": 5}
    assert tokens(captured) == {"input": 5, "output": 5}
