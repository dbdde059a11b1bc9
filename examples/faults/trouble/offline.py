"""Agents of pydantic-ai whose models are functions here: no network, no key, made-up prices."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from trouble.provider import RefusedError, ask

PRICED, UNPRICED = "offline-large", "offline-unheard-of"
"""A model that otel-agents.toml has a price for, and one that nobody has."""
MOST_RETRIES = 3


def answering(name: str, model: str, usage: RequestUsage) -> Agent[None, str]:
    """Make an agent that answers at once, and says that it used so many tokens."""

    def reply(_messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[TextPart("The lamp is lit.")], usage=usage)

    return Agent(FunctionModel(reply, model_name=model), name=name, retries=MOST_RETRIES)


def asking(name: str, url: str, status: int, refusals: int) -> Agent[None, str]:
    """Make an agent whose model asks the provider, by a client that tries again when refused."""

    async def reply(_messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        try:
            answer = await ask(url, status, refusals, uuid4().hex)
        except RefusedError as error:
            raise ModelHTTPError(status, PRICED) from error
        usage = RequestUsage(
            input_tokens=answer["input_tokens"], output_tokens=answer["output_tokens"]
        )
        return ModelResponse(parts=[TextPart(answer["text"])], usage=usage)

    return Agent(FunctionModel(reply, model_name=PRICED), name=name)


def calling(name: str, tool: str) -> Agent[None, str]:
    """Make an agent that calls a tool of its own, and answers when the tool has."""

    def reply(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        used = RequestUsage(input_tokens=80, output_tokens=12)
        if len(messages) == 1:
            return ModelResponse(parts=[ToolCallPart(tool, {})], usage=used)
        return ModelResponse(parts=[TextPart("Done.")], usage=used)

    return Agent(FunctionModel(reply, model_name=PRICED), name=name)


def streaming(name: str) -> Agent[None, str]:
    """Make an agent that answers word by word."""

    async def stream(_messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str]:
        for word in ("The ", "fog ", "lifts ", "at ", "noon."):
            yield word

    return Agent(FunctionModel(stream_function=stream, model_name=PRICED), name=name)


async def run_quietly(agent: Agent[None, Any], prompt: str) -> bool:
    """Run an agent and return whether it answered: that it may fail is what it is here for."""
    try:
        await agent.run(prompt)
    except Exception:  # noqa: BLE001 - trouble on purpose
        return False
    return True
