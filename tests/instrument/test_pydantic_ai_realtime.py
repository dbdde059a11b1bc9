"""Realtime sessions: an agent, one model call as long as the session, and its tools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

pytest.importorskip("pydantic_ai.realtime.lifecycle")

from pydantic_ai import Agent, RunContext
from pydantic_ai.realtime import RealtimeError, RealtimeModel
from pydantic_ai.realtime.codec import (
    OutputTranscript,
    RealtimeCodecEvent,
    RealtimeConnection,
    RealtimeInput,
    ResponseDone,
    SessionUsage,
    ToolCall,
    ToolResult,
)
from pydantic_ai.realtime.lifecycle import InferredLifecycle, LifecycleEvent, RealtimeFrame
from pydantic_ai.usage import RequestUsage, RunUsage

import otel_agents as oa
from otel_agents.testing import Captured
from tests.instrument.kit import (
    CALL,
    answering,
    attributes,
    roll_up,
    tokens,
    usage_sum,
    verdicts,
)

RESPONSE = RequestUsage(input_tokens=40, output_tokens=6)


class Line(RealtimeConnection):
    """A connection that answers a text by a tool call, and the tool's result by a text."""

    def __init__(self, broken: Exception | None) -> None:
        self.broken = broken
        self.lifecycle = InferredLifecycle()
        self.events: asyncio.Queue[RealtimeCodecEvent | None] = asyncio.Queue()

    async def send(self, content: RealtimeInput) -> Sequence[LifecycleEvent] | None:
        with self.lifecycle.sending(content):
            if self.broken is not None:
                raise self.broken
            if isinstance(content, ToolResult):
                self.say(
                    OutputTranscript("all is well", is_final=True, output_text=True),
                    SessionUsage(RESPONSE),
                    ResponseDone(),
                )
            elif isinstance(content, str):
                call = ToolCall("c1", tool_name="look", args="{}", response_usage_follows=True)
                self.say(call, SessionUsage(RESPONSE))
        return self.lifecycle.take_pending()

    def say(self, *events: RealtimeCodecEvent) -> None:
        for event in events:
            self.events.put_nowait(event)

    async def _read(self) -> AsyncIterator[RealtimeCodecEvent]:
        while (event := await self.events.get()) is not None:
            yield event

    def frames(self) -> AsyncIterator[RealtimeFrame]:
        return self.lifecycle.frames(self._read())


class Voice(RealtimeModel):
    """A realtime model without a provider."""

    def __init__(self, broken: Exception | None = None, refused: Exception | None = None) -> None:
        super().__init__(
            profile={"supports_session_seeding": True, "supports_text_output": True},
            settings={"output_modality": "text"},
        )
        self.broken = broken
        self.refused = refused

    @asynccontextmanager
    async def connect(self, **_: Any) -> AsyncIterator[RealtimeConnection]:
        if self.refused is not None:
            raise self.refused
        yield Line(self.broken)

    @property
    def model_name(self) -> str:
        return "priced"

    @property
    def system(self) -> str:
        return "voice"


def talker() -> Agent[None, str]:
    agent = Agent(answering("unused"), name="talker")
    agent.tool_plain(name="look")(lambda: "seen")
    return agent


async def talk(agent: Agent[None, str], model: Voice, **options: Any) -> None:
    async with agent.realtime(model, **options).session() as session:
        await session.send("hi")
        await session.wait_for_reply()


def test_a_session_is_an_agent_with_one_call(captured: Captured) -> None:
    """The session is an agent's attempt; its call has the usage of all its responses, once."""
    with oa.run("shop"):
        asyncio.run(talk(talker(), Voice()))

    assert captured.tree() == (
        "invoke_workflow shop\n  invoke_agent talker\n    chat priced\n    execute_tool look"
    )
    assert usage_sum(captured) == {"input_tokens": 80, "output_tokens": 12}
    assert tokens(captured) == {"input": 80, "output": 12}
    agent = captured.span("invoke_agent talker")
    assert roll_up(agent)["input_tokens"] == 80
    assert attributes(agent)["gen_ai.request.model"] == "priced"
    assert attributes(agent)["gen_ai.provider.name"] == "voice"
    assert verdicts(captured, "calls") == {"success": 1}
    assert captured.metric("otelagents.agent.active") == 0


def test_a_total_that_is_carried_in_is_not_counted_again(captured: Captured) -> None:
    """`usage=` begins with what others used; agents that a tool runs count for themselves."""
    inner = Agent(answering("inner"), name="inner")
    agent = Agent(answering("unused"), name="talker")

    @agent.tool
    async def look(ctx: RunContext[None]) -> str:
        return (await inner.run("hi", usage=ctx.usage)).output

    before = RunUsage(input_tokens=1000, output_tokens=1000, requests=7)
    asyncio.run(talk(agent, Voice(), usage=before))

    assert usage_sum(captured) == {
        "input_tokens": 80 + CALL.input_tokens,
        "output_tokens": 12 + CALL.output_tokens,
    }
    assert captured.metric("otelagents.tokens", agent="inner") == 110
    assert captured.metric("otelagents.tokens", agent="talker") == 92


def test_a_session_that_cannot_be_opened_is_an_error(captured: Captured) -> None:
    """The provider's error reaches the host as it is; agent and call say so."""
    error = ConnectionRefusedError("no line")
    with pytest.raises(ConnectionRefusedError) as raised:
        asyncio.run(talk(talker(), Voice(refused=error)))

    assert raised.value is error
    for name in ("invoke_agent talker", "chat priced"):
        span = captured.span(name)
        assert span.status.status_code.name == "ERROR"
        assert attributes(span)["error.type"] == "ConnectionRefusedError"
        assert attributes(span)["otelagents.usage.complete"] is False


def test_a_session_that_is_left_with_an_error_keeps_its_usage(captured: Captured) -> None:
    """What the host raises in a session ends the agent; the model was only left."""

    async def main() -> None:
        async with talker().realtime(Voice()).session() as session:
            await session.send("hi")
            await session.wait_for_reply()
            raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(main())

    assert usage_sum(captured) == {"input_tokens": 80, "output_tokens": 12}
    assert attributes(captured.span("invoke_agent talker"))["error.type"] == "LookupError"
    assert attributes(captured.span("chat priced"))["otelagents.result"] == "cancellation"


def test_a_line_that_breaks_is_an_error(captured: Captured) -> None:
    """A failure of the connection is the call's error and the agent's."""
    with pytest.raises(RealtimeError):
        asyncio.run(talk(talker(), Voice(broken=RealtimeError("priced", "gone"))))

    for name in ("invoke_agent talker", "chat priced"):
        assert attributes(captured.span(name))["error.type"].endswith("RealtimeError")


def test_a_session_that_is_cancelled_is_no_error(captured: Captured) -> None:
    """The task is cancelled while it waits for a reply."""

    async def main() -> None:
        reached = asyncio.Event()

        async def wait() -> str:
            reached.set()
            await asyncio.Event().wait()
            return ""

        agent = Agent(answering("unused"), name="talker")
        agent.tool_plain(name="look")(wait)
        task = asyncio.create_task(talk(agent, Voice()))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    for name in ("invoke_agent talker", "chat priced", "execute_tool look"):
        span = captured.span(name)
        assert span.status.status_code.name == "UNSET"
        assert attributes(span)["otelagents.result"] == "cancellation"
    assert usage_sum(captured) == {"input_tokens": 40, "output_tokens": 6}
