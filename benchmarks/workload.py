"""What every contestant runs: an agent that calls its model, then a tool, then its model again.

Nothing waits and nothing leaves the process: pydantic-ai's `FunctionModel` answers from a function.
It passes for a model of OpenAI's, so that prices are looked up as they would be in earnest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

AGENT: Final = "adder"
MODEL: Final = "gpt-5"
PROVIDER: Final = "openai"
PROMPT: Final = "How much is seventeen and twenty-five? Use the tool."
_FIRST: Final = RequestUsage(input_tokens=182, cache_read_tokens=128, output_tokens=21)
_SECOND: Final = RequestUsage(input_tokens=231, cache_read_tokens=128, output_tokens=9)


def _reply(messages: list[ModelMessage]) -> ModelResponse:
    if len(messages) == 1:
        call = ToolCallPart("add", {"a": 17, "b": 25})
        return ModelResponse(parts=[call], usage=_FIRST, finish_reason="tool_call")
    return ModelResponse(
        parts=[TextPart("Seventeen and twenty-five are forty-two.")],
        usage=_SECOND,
        finish_reason="stop",
    )


def _model(function: Any) -> FunctionModel:
    model = FunctionModel(function, model_name=MODEL)
    model._system = PROVIDER
    return model


def plain_agent() -> Agent[None, str]:
    """Return the agent, for instrumentations that find their seams by themselves."""

    async def answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        return _reply(messages)

    agent = Agent(_model(answer), name=AGENT)

    @agent.tool_plain
    async def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    return agent


class ByHand:
    """The agent with four spans of eight attributes, written where a careful author would.

    All eight are given when the span is made, which is the cheapest way; so the bare SDK is not
    made to look slower than it is.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        agent = self._agent = Agent(_model(self._answer), name=AGENT)
        agent.tool_plain(self.add)

    async def run(self) -> object:
        """Run the agent inside its span."""
        attributes: dict[str, str | int] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": AGENT,
            "gen_ai.request.model": MODEL,
            "gen_ai.provider.name": PROVIDER,
            "app.tenant": "north",
            "app.usage.total.input_tokens": 413,
            "app.usage.total.output_tokens": 30,
            "app.result": "success",
        }
        with self._tracer.start_as_current_span(f"invoke_agent {AGENT}", attributes=attributes):
            return await self._agent.run(PROMPT)

    async def _answer(self, messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        reply = _reply(messages)
        attributes: dict[str, str | int] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": MODEL,
            "gen_ai.response.model": MODEL,
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.usage.input_tokens": reply.usage.input_tokens,
            "gen_ai.usage.output_tokens": reply.usage.output_tokens,
            "app.tenant": "north",
            "app.result": "success",
        }
        with self._tracer.start_as_current_span(f"chat {MODEL}", attributes=attributes):
            return reply

    async def add(self, a: int, b: int) -> int:
        """Add two numbers."""
        attributes: dict[str, str | int] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "add",
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": "call_1",
            "app.tenant": "north",
            "app.arguments": 2,
            "app.agent": AGENT,
            "app.result": "success",
        }
        with self._tracer.start_as_current_span("execute_tool add", attributes=attributes):
            return a + b
