"""A pydantic-ai model made of a function that reads the conversation and says what comes next."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic_ai import RunContext
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters, StreamedResponse
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

CHARACTERS_PER_TOKEN = 4


class Call(NamedTuple):
    """A tool that the agent shall use next."""

    tool: str
    arguments: dict[str, Any]


Reply = list[Call] | BaseModel | str


class Talk:
    """What an agent has been told so far: its prompt, and each tool's answers."""

    def __init__(self, messages: Iterable[ModelMessage]) -> None:
        """Sort the messages by tool; tools answer in the order in which they were called."""
        self.prompt = ""
        self._answers: dict[str, list[str]] = {}
        self._refusals: dict[str, list[str]] = {}
        for part in (p for m in messages if isinstance(m, ModelRequest) for p in m.parts):
            if isinstance(part, UserPromptPart):
                self.prompt = str(part.content)
            elif tool := getattr(part, "tool_name", None):
                # Older pydantic-ai has a class of its own, without an outcome, for refused calls.
                accepted = getattr(part, "outcome", "refused") == "success"
                kept = self._answers if accepted else self._refusals
                kept.setdefault(tool, []).append(_text(part))

    def answers(self, tool: str) -> list[str]:
        """Return what a tool has answered, as text."""
        return self._answers.get(tool, [])

    def refusals(self, tool: str = "final_result") -> list[str]:
        """Return why a tool, or the check of the final answer, has asked for another try."""
        return self._refusals.get(tool, [])


class OfflineModel(FunctionModel):
    """Answers by computing `role` on the conversation; `pace` seconds for each call."""

    def __init__(self, role: Callable[[Talk], Reply], *, name: str, pace: float) -> None:
        """Make the model; `name` is what it reports, and what a price table knows it by."""
        super().__init__(self._answer, stream_function=self._stream, model_name=name)
        self._role = role
        self._pace = pace

    async def _answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        await asyncio.sleep(self._pace)
        reply = self._role(Talk(messages))
        parts: list[ModelResponsePart]
        if isinstance(reply, str):
            parts = [TextPart(reply)]
        elif isinstance(reply, BaseModel):
            parts = [ToolCallPart(info.output_tools[0].name, reply.model_dump(mode="json"))]
        else:
            parts = [ToolCallPart(call.tool, call.arguments) for call in reply]
        usage = _usage(messages, info.instructions or "")
        usage.output_tokens = _tokens(parts)
        return ModelResponse(parts=parts, usage=usage)

    async def _stream(self, messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str]:
        words = str(self._role(Talk(messages))).split(" ")
        for word in words:
            await asyncio.sleep(self._pace / len(words))
            yield f"{word} "

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse, None]:
        """Stream as FunctionModel does, but count the input as in a call that is not streamed.

        FunctionModel counts the words that go out, and takes 50 tokens for whatever came in.
        """
        async with super().request_stream(
            messages, model_settings, model_request_parameters, run_context
        ) as stream:
            instructions = next((m.instructions for m in messages if m.kind == "request"), "")
            stream._usage = _usage(messages, instructions or "")  # noqa: SLF001
            yield stream


def _usage(messages: list[ModelMessage], instructions: str) -> RequestUsage:
    """Count the input; whatever the previous call has sent already comes from the cache."""
    sizes = [_tokens(message.parts) for message in messages]
    known = _length(instructions) + sum(sizes[:-1]) if len(sizes) > 1 else 0
    return RequestUsage(input_tokens=_length(instructions) + sum(sizes), cache_read_tokens=known)


def _tokens(parts: Iterable[object]) -> int:
    return sum(_length(_text(part)) for part in parts)


def _length(text: str) -> int:
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def _text(part: object) -> str:
    """Return what a part says to a model, or a model says by it."""
    if isinstance(part, ToolCallPart):
        return part.args_as_json_str()
    if isinstance(part, ToolReturnPart) and part.outcome == "success":
        return part.model_response_str()
    content = getattr(part, "content", "")
    return content if isinstance(content, str) else json.dumps(content, default=str)
