"""Model calls outside the plain run: direct requests, overridden, wrapped and fallback models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from genai_prices import Usage as PricedUsage
from genai_prices import calc_price
from pydantic_ai import Agent, direct
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings

import otel_agents as oa
from otel_agents.testing import Captured
from tests.instrument.kit import (
    CALL,
    PRICED,
    WORDS,
    adder,
    answering,
    attributes,
    current,
    named,
    roll_up,
    tokens,
    usage_sum,
    verdicts,
)

pytestmark = pytest.mark.usefixtures("thread_loop")

ASKED = [ModelRequest.user_text_prompt("hi")]


def speaker() -> FunctionModel:
    def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[TextPart("".join(WORDS))])

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        for word in WORDS:
            yield word

    return FunctionModel(reply, stream_function=stream, model_name=PRICED)


async def _stream(model: Model) -> None:
    async with direct.model_request_stream(model, ASKED) as events:
        async for _ in events:
            assert current() == "invoke_workflow shop"


def _stream_sync(model: Model) -> None:
    with direct.model_request_stream_sync(model, ASKED) as events:
        for _ in events:
            assert current() == "invoke_workflow shop"


DIRECT = {
    "model_request": lambda model: asyncio.run(direct.model_request(model, ASKED)),
    "model_request_sync": lambda model: direct.model_request_sync(model, ASKED),
    "model_request_stream": lambda model: asyncio.run(_stream(model)),
    "model_request_stream_sync": _stream_sync,
}


@pytest.mark.parametrize("way", DIRECT)
def test_a_direct_request_is_one_call(captured: Captured, way: str) -> None:
    """A request without an agent is a model call of the run, counted and priced."""
    with oa.run("shop"):
        DIRECT[way](speaker())

    assert captured.tree() == "invoke_workflow shop\n  chat priced"
    found = usage_sum(captured)
    assert found["output_tokens"] == 5
    assert tokens(captured) == {"input": found["input_tokens"], "output": 5}
    assert verdicts(captured, "calls") == {"success": 1}
    assert verdicts(captured, "attempts") == {"success": 1}
    assert captured.metric("otelagents.cost", model=PRICED, result="success") > 0


def test_a_direct_request_that_fails_is_a_failed_call(captured: Captured) -> None:
    """The provider's error passes through as it is; nothing was billed."""
    error = ModelHTTPError(429, "priced")
    with pytest.raises(ModelHTTPError) as raised:
        direct.model_request_sync(answering(error), ASKED)

    assert raised.value is error
    span = captured.span("chat priced")
    assert attributes(span)["error.type"].endswith("ModelHTTPError")
    assert span.status.status_code.name == "ERROR"
    assert attributes(span)["gen_ai.usage.input_tokens"] == 0
    assert "otelagents.usage.complete" not in attributes(span)
    assert verdicts(captured, "calls") == {"error": 1}


def test_a_request_in_a_tool_belongs_to_the_tool(captured: Captured) -> None:
    """A tool that asks a model by itself is the parent of that call; the agent's totals have it."""
    agent = Agent(TestModel(), name="host")

    @agent.tool_plain
    async def ask() -> str:
        return (await direct.model_request(answering("yes"), ASKED)).parts[0].content

    with oa.run("shop"):
        asyncio.run(agent.run("hi"))

    assert captured.tree() == (
        "invoke_workflow shop\n  invoke_agent host\n    chat test\n"
        "    execute_tool ask\n      chat priced\n    chat test"
    )
    assert roll_up(captured.span("invoke_agent host"))["requests"] == 3
    assert verdicts(captured, "calls") == {"success": 3}
    assert captured.metric("otelagents.tokens", agent="host", model=PRICED) == 110


def test_a_failed_request_of_a_tool_is_no_try_of_its_agent(captured: Captured) -> None:
    """A tool's own request is a question of its own, whose error ends it."""
    agent = Agent(TestModel(), name="host")

    @agent.tool_plain
    async def ask() -> str:
        try:
            await direct.model_request(answering(ModelHTTPError(503, PRICED)), ASKED)
        except ModelHTTPError:
            return "nobody answers"
        raise AssertionError

    asyncio.run(agent.run("hi"))

    assert verdicts(captured, "calls") == {"success": 2, "error": 1}
    assert verdicts(captured, "attempts") == {"success": 2, "error": 1}


def test_an_overridden_model_is_the_one_that_is_named(captured: Captured) -> None:
    """`agent.override(model=TestModel())` shows on the agent and on its calls."""
    agent = adder()
    with agent.override(model=TestModel()):
        agent.run_sync("hi")

    assert attributes(captured.span("invoke_agent adder"))["gen_ai.request.model"] == "test"
    assert len(named(captured, "chat test")) == 2
    assert attributes(named(captured, "chat test")[0])["gen_ai.provider.name"] == "test"


def test_a_model_given_to_the_run_is_the_one_that_is_named(captured: Captured) -> None:
    """`agent.run(model=…)` wins over the agent's own model."""
    adder().run_sync("hi", model=TestModel())

    assert attributes(captured.span("invoke_agent adder"))["gen_ai.request.model"] == "test"


def test_a_model_given_by_its_name_is_split(captured: Captured, monkeypatch: Any) -> None:
    """`provider:model` gives provider and model in the conventions' words."""
    agent = Agent("google:gemini-2.5-pro", name="named", defer_model_check=True)
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    with pytest.raises(Exception, match="API"):
        agent.run_sync("hi")

    found = attributes(captured.span("invoke_agent named"))
    assert found["gen_ai.request.model"] == "gemini-2.5-pro"
    assert found["gen_ai.provider.name"] == "gcp.gemini"


def test_an_unnamed_agent_has_the_name_that_pydantic_ai_gives_it(captured: Captured) -> None:
    """pydantic-ai takes the name of the caller's variable; our wrapper does not hide it."""
    bookkeeper = Agent(TestModel())
    bookkeeper.run_sync("hi")

    assert bookkeeper.name == "bookkeeper"
    assert captured.span("invoke_agent bookkeeper")


def test_a_wrapped_model_is_one_call(captured: Captured) -> None:
    """A `WrapperModel` passes the call on, and only the model inside is a call."""

    async def main() -> None:
        agent = Agent(WrapperModel(speaker()), name="wrapped")
        await agent.run("hi")
        async with agent.run_stream("hi") as result:
            await result.get_output()

    asyncio.run(main())

    assert len(named(captured, "chat priced")) == 2
    assert verdicts(captured, "calls") == {"success": 2}


class Router(Model):
    """A model of a user's own that asks another one, as no class of pydantic-ai does."""

    def __init__(self, inner: Model) -> None:
        super().__init__()
        self.inner = inner

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        return await self.inner.request(messages, model_settings, model_request_parameters)

    @property
    def model_name(self) -> str:
        return "router"

    @property
    def system(self) -> str:
        return "in-house"


def test_a_model_that_asks_another_is_one_call(captured: Captured) -> None:
    """The outer call has the usage, once, under the model that answered."""
    agent = Agent(Router(answering("yes")), name="routed")
    agent.run_sync("hi")

    assert captured.tree() == "invoke_agent routed\n  chat router"
    assert usage_sum(captured) == {"input_tokens": 100, "output_tokens": 10}
    assert captured.metric("otelagents.tokens", provider="in-house") == 110


class Strict(FunctionModel):
    """A model that extends another and calls it by `super`."""

    async def request(self, *args: Any, **kwargs: Any) -> ModelResponse:
        return await super().request(*args, **kwargs)


def test_a_model_that_extends_another_is_one_call(captured: Captured) -> None:
    """`super().request` is the same call."""

    def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[TextPart("yes")], usage=CALL)

    Agent(Strict(reply, model_name=PRICED), name="heir").run_sync("hi")

    assert captured.tree() == "invoke_agent heir\n  chat priced"
    assert tokens(captured) == {"input": 100, "output": 10}


class Resold(Router):
    """A model of one maker that another provider serves."""

    async def request(self, *args: Any, **kwargs: Any) -> ModelResponse:
        return ModelResponse(
            parts=[TextPart("yes")],
            usage=CALL,
            model_name="llama-3.3-70b-versatile",
            provider_url="https://api.groq.com/openai/v1",
        )


def test_a_resellers_price_goes_by_its_address(captured: Captured) -> None:
    """A provider that no table knows by name is priced by the address that was called."""
    Agent(Resold(answering()), name="thrifty").run_sync("hi")

    price = calc_price(
        PricedUsage(input_tokens=100, output_tokens=10),
        "llama-3.3-70b-versatile", provider_id="groq",
    ).total_price  # fmt: skip
    assert captured.metric("otelagents.cost") == pytest.approx(float(price), abs=1e-12)
    assert captured.metric("otelagents.tokens.unpriced") == 0


def test_an_unknown_price_is_not_zero(captured: Captured) -> None:
    """Tokens of a model without a price are counted as such, and no cost is told."""
    Agent(answering("yes", name="nobody-knows"), name="host").run_sync("hi")

    found = attributes(captured.span("invoke_agent host"))
    assert found["otelagents.usage.unpriced_tokens"] == 110
    assert "otelagents.cost.total" not in found
    assert captured.metric("otelagents.tokens.unpriced", model="nobody-knows") == 110
    assert [name for name, *_ in captured.points() if name == "otelagents.cost"] == []


def test_falling_back_is_another_attempt_at_the_same_question(captured: Captured) -> None:
    """One question, two attempts: an error of the first model and the answer of the second."""
    model = FallbackModel(answering(ModelHTTPError(503, "first"), name="first"), answering("yes"))
    Agent(model, name="careful").run_sync("hi")

    assert captured.tree() == "invoke_agent careful\n  chat first (error)\n  chat priced"
    assert verdicts(captured, "calls") == {"success": 1}
    assert verdicts(captured, "attempts") == {"error": 1, "success": 1}
    assert captured.metric("otelagents.model.attempts", model="first", result="error") == 1
    assert captured.metric("otelagents.model.errors", model="first", reason="SERVER_ERROR") == 1
    assert captured.metric("otelagents.model.errors") == 1
    assert usage_sum(captured) == {"input_tokens": 100, "output_tokens": 10}
    assert captured.span("invoke_agent careful").status.status_code.name == "UNSET"


def test_a_fallback_that_runs_out_is_one_failed_question(captured: Captured) -> None:
    """Each model's refusal is an attempt; the question ends once, with an error."""
    model = FallbackModel(
        answering(ModelHTTPError(503, "first"), name="first"),
        answering(ModelHTTPError(503, "second"), name="second"),
    )
    with pytest.raises(ExceptionGroup):
        Agent(model, name="careful").run_sync("hi")

    assert verdicts(captured, "calls") == {"error": 1}
    assert verdicts(captured, "attempts") == {"error": 2}
    assert captured.span("invoke_agent careful").status.status_code.name == "ERROR"


def test_two_agents_stepped_in_turn_keep_their_own_calls(captured: Captured) -> None:
    """Each call belongs to the agent whose run asks, not to the one that was entered last."""

    async def main() -> None:
        first = Agent(answering("one"), name="first")
        second = Agent(answering("two"), name="second")
        async with first.iter("hi") as one, second.iter("hi") as two:
            steps = [(one, one.next_node), (two, two.next_node)]
            while steps:
                run, node = steps.pop(0)
                node = await run.next(node)
                if not Agent.is_end_node(node):
                    steps.append((run, node))

    asyncio.run(main())

    owners = {
        span.context.span_id: span.name
        for span in captured.spans
        if span.name.startswith("invoke_agent")
    }
    assert [owners[span.parent.span_id] for span in named(captured, "chat priced")] == [
        "invoke_agent first", "invoke_agent second",
    ]  # fmt: skip
    assert captured.metric("otelagents.tokens", agent="first") == 110
    assert captured.metric("otelagents.tokens", agent="second") == 110


def test_a_span_inside_a_call_is_its_child(captured: Captured) -> None:
    """What a client does while the model is asked, whole or streamed, belongs to the call."""
    tracer = captured.tracer_provider.get_tracer("somebody-else")

    def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        tracer.start_span("post").end()
        return ModelResponse(parts=[TextPart("yes")], usage=CALL)

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        for word in WORDS:
            tracer.start_span("read").end()
            yield word

    async def main() -> None:
        model = FunctionModel(reply, stream_function=stream, model_name=PRICED)
        agent = Agent(model, name="host")
        with oa.run("shop", id="r1"), oa.phase("plan"):
            await agent.run("hi")
            async with agent.run_stream("hi") as result:
                await result.get_output()

    asyncio.run(main())

    whole, streamed = named(captured, "chat priced")
    assert [span.parent.span_id for span in named(captured, "post")] == [whole.context.span_id]
    reads = named(captured, "read")
    assert len(reads) == len(WORDS)
    assert {span.parent.span_id for span in reads} == {streamed.context.span_id}
    for span in reads:
        found = attributes(span)
        assert (found["otelagents.run.id"], found["otelagents.phase.name"]) == ("r1", "plan")
        assert found["otelagents.agent.run.id"] == attributes(streamed)["otelagents.agent.run.id"]


class Compacting(TestModel):
    """A model that makes a history shorter."""

    async def compact_messages(
        self, request_context: Any, *, instructions: str | None = None
    ) -> ModelResponse:
        if instructions == "fail":
            raise ModelHTTPError(500, "test")
        return ModelResponse(parts=[TextPart("short")], usage=CALL, model_name=PRICED)


def test_a_history_that_a_model_shortens_is_billed(captured: Captured) -> None:
    """`compact_messages` asks the provider as a request does, and costs as much."""
    context = SimpleNamespace(messages=ASKED)
    answer = asyncio.run(Compacting().compact_messages(context))
    with pytest.raises(ModelHTTPError):
        asyncio.run(Compacting().compact_messages(context, instructions="fail"))

    assert answer.parts[0].content == "short"
    assert tokens(captured) == {"input": 100, "output": 10}
    assert verdicts(captured, "calls") == {"success": 1, "error": 1}
