"""Message content: never there unless it was asked for, then redacted and bounded."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.messages import (
    BinaryContent,
    ImageUrl,
    ModelMessage,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

import otel_agents as oa
from otel_agents.instrument.content import MAX_CONTENT, input_messages, tool_text
from otel_agents.testing import Captured, capture
from otel_agents.values import CUT, REDACTED
from tests.instrument.kit import CALL, PRICED, answering, attributes, calling, everything

CANARY = "canary-7f3a"
# Secrets by their shape, made up.
KEYS = (
    "sk-proj-" + "a1B2" * 8,
    "AKIA" + "ABCDEFGH12345678",
    "ghp_" + "a" * 36,
    "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl",
    "postgres://joe:hunter2@db/x",
)


class Weather(BaseModel):
    place: str
    degrees: int


class Hidden:
    """A result with a text of its own, which is never asked for."""

    def __repr__(self) -> str:
        return CANARY

    __str__ = __repr__


def talkative(secret: str) -> Agent[None, str]:
    """Make an agent that carries a text in every place where content can be."""

    def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if len(messages) == 1:
            parts = [
                ThinkingPart(f"thought {secret}"),
                ToolCallPart("look", {"where": f"argument {secret}"}),
                ToolCallPart("fail", {"why": f"reason {secret}"}),
                ToolCallPart(f"invented {secret}", {}),
            ]
        else:
            parts = [TextPart(f"output {secret}")]
        return ModelResponse(parts=parts, usage=CALL)

    agent = Agent(
        FunctionModel(reply, model_name=PRICED),
        name="talker",
        system_prompt=f"system {secret}",
        instructions=f"instruction {secret}",
        retries=3,
    )

    @agent.tool_plain
    def look(where: str) -> Weather:
        return Weather(place=f"result {secret}", degrees=7)

    @agent.tool_plain
    def fail(why: str) -> str:
        raise ModelRetry(f"error {secret}")

    return agent


def raising(secret: str) -> Agent[None, str]:
    agent = Agent(answering(calling(("fail", {}))), name="raiser")

    @agent.tool_plain
    def fail() -> str:
        raise ValueError(f"error {secret}")

    return agent


async def streaming(secret: str) -> None:
    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        yield "output "
        yield secret

    model = FunctionModel(stream_function=stream, model_name=PRICED)
    async with Agent(model, name="speaker").run_stream(f"prompt {secret}") as result:
        await result.get_output()


def converse(secret: str) -> None:
    """Run all of them under a run, with a prompt, and an exception that quotes it."""
    asyncio.run(talkative(secret).run(f"prompt {secret}"))
    asyncio.run(streaming(secret))
    with pytest.raises(ValueError, match="error"):
        asyncio.run(raising(secret).run(f"prompt {secret}"))


def test_content_does_not_leave_unless_asked_for(
    captured: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    """A canary in prompts, arguments, results, errors and output is in nothing we record."""
    with caplog.at_level(logging.DEBUG):
        with oa.run("shop"):
            converse(CANARY)

    recorded = everything(captured)
    assert "invoke_agent talker" in recorded
    assert CANARY not in recorded
    assert CANARY not in "".join(
        record.getMessage() for record in caplog.records if record.name.startswith("otel_agents")
    )


@pytest.fixture
def recorded() -> Iterator[Captured]:
    with capture(content=True) as found:
        yield found


def test_content_is_there_where_it_was_asked_for(recorded: Captured) -> None:
    """With capture on, every place has its text, under the conventions' keys."""
    with oa.run("shop"):
        converse(CANARY)

    def texts(key: str) -> str:
        return "".join(str(attributes(span).get(key, "")) for span in recorded.spans)

    asked = texts("gen_ai.input.messages")
    for place in ("prompt", "system", "argument", "result", "error", "thought"):
        assert f"{place} {CANARY}" in asked, place
    assert f"instruction {CANARY}" in texts("gen_ai.system_instructions")
    assert f"output {CANARY}" in texts("gen_ai.output.messages")
    assert f"argument {CANARY}" in texts("gen_ai.tool.call.arguments")
    assert f"result {CANARY}" in texts("gen_ai.tool.call.result")
    errors = [span.status.description or "" for span in recorded.spans]
    assert any(f"error {CANARY}" in text for text in errors)


def test_content_has_the_conventions_form(recorded: Captured) -> None:
    """Messages are JSON: a role, and parts with their type."""
    asyncio.run(talkative("x").run("hello"))

    first, last = (span for span in recorded.spans if span.name == "chat priced")
    given = json.loads(attributes(first)["gen_ai.input.messages"])
    assert [message["role"] for message in given] == ["system", "user"]
    assert given[1]["parts"] == [{"type": "text", "content": "hello"}]
    said = json.loads(attributes(first)["gen_ai.output.messages"])
    assert [part["type"] for part in said[0]["parts"]] == ["reasoning", *["tool_call"] * 3]
    answered = json.loads(attributes(last)["gen_ai.input.messages"])
    assert {part["type"] for message in answered for part in message["parts"]} >= {
        "text", "reasoning", "tool_call", "tool_call_response",
    }  # fmt: skip


@pytest.mark.parametrize("secret", KEYS)
def test_a_secret_by_its_shape_is_hidden(recorded: Captured, secret: str) -> None:
    """Captured content has no secrets, wherever they stood."""
    with oa.run("shop"):
        converse(secret)

    found = everything(recorded)
    assert "prompt" in found
    assert REDACTED in found
    hidden = "hunter2" if "hunter2" in secret else secret
    assert hidden not in found


@pytest.mark.parametrize("size", [100, MAX_CONTENT - 1, MAX_CONTENT, MAX_CONTENT + 1, 12_000_000])
def test_a_result_is_cut_with_a_mark(size: int) -> None:
    """A result of 12 MB costs the trace 64 Ki characters, and says that it was cut."""
    text = tool_text("x" * size)

    assert len(text) == min(size, MAX_CONTENT)
    assert text.endswith(CUT) is (size > MAX_CONTENT)


def test_a_large_result_of_a_tool_reaches_the_host_whole(recorded: Captured) -> None:
    """Only our copy is cut; model and tokens still stand on the span."""
    agent = Agent(answering(calling(("look", {})), "done"), name="host")
    agent.tool_plain(name="look")(lambda: "x" * 12_000_000)
    result = asyncio.run(agent.run("hi"))

    returned = result.all_messages()[2].parts[0].content
    assert len(returned) == 12_000_000
    kept = attributes(recorded.span("execute_tool look"))["gen_ai.tool.call.result"]
    assert len(kept) == MAX_CONTENT
    call = attributes(recorded.spans[-1])
    assert (call["gen_ai.request.model"], call["gen_ai.usage.input_tokens"]) == ("priced", 100)
    assert len(call["gen_ai.input.messages"]) <= MAX_CONTENT


@pytest.mark.parametrize("before", range(MAX_CONTENT - 60, MAX_CONTENT + 20, 7))
def test_a_secret_at_the_cut_is_hidden(before: int) -> None:
    """A secret of which only the beginning would be kept is recognised all the same."""
    text = tool_text("x " * (before // 2) + KEYS[0] + " y" * 50)

    assert "sk-proj" not in text


def test_the_oldest_messages_are_cut_first() -> None:
    """What is too long loses its beginning, and stays JSON."""
    agent_sent = [
        ModelResponse(parts=[TextPart(f"{n} " + "x" * 30_000)], usage=CALL) for n in range(2)
    ]
    from pydantic_ai.messages import ModelRequest

    messages: list[Any] = []
    for answer in agent_sent:
        messages += [ModelRequest.user_text_prompt("y" * 20_000), answer]
    kept = json.loads(input_messages(messages))

    assert kept[-1]["parts"][0]["content"].startswith("1 ")
    assert len(kept) < len(messages)


def test_files_are_named_and_not_copied(recorded: Captured) -> None:
    """An image in a prompt is its type and size; a link is its type."""
    image = BinaryContent(data=b"\x89PNG" * 100, media_type="image/png")
    link = ImageUrl(url=f"https://example.test/{CANARY}.png")
    asyncio.run(Agent(answering("ok"), name="seer").run(["see:", image, link]))

    given = attributes(recorded.span("chat priced"))["gen_ai.input.messages"]
    assert "see:" in given
    assert "<image/png, 400 bytes>" in given
    assert "iVBO" not in given
    assert CANARY not in given


def test_an_object_of_the_hosts_is_not_asked_for_its_text(recorded: Captured) -> None:
    """A result that only its own `__repr__` could show is named by its class."""
    assert tool_text(Hidden()) == '"<Hidden>"'
    assert CANARY not in tool_text({"inner": Hidden(), "also": [Hidden()]})
    assert json.loads(tool_text(Weather(place="here", degrees=7))) == {
        "place": "here", "degrees": 7,
    }  # fmt: skip


def test_a_result_that_holds_itself_is_named(recorded: Captured) -> None:
    """A circular value neither hangs nor raises."""
    circle: dict[str, Any] = {}
    circle["self"] = circle

    assert tool_text(circle) == "<dict>"
