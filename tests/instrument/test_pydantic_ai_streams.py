"""Streams: what is current between chunks, how long a call takes, when its first chunk came."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic_ai import direct
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ToolCallPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

import otel_agents as oa
from otel_agents.instrument.pydantic_ai_models import has_content
from otel_agents.testing import Captured
from tests.instrument.kit import (
    PRICED,
    attributes,
    current,
    speaking,
)

pytestmark = pytest.mark.usefixtures("thread_loop")

ASKED = [ModelRequest.user_text_prompt("hi")]


def test_the_current_span_is_the_same_between_chunks(captured: Captured) -> None:
    """Inside the block the agent is current on purpose; the model's span never is."""
    seen: list[str] = []

    async def main() -> None:
        with oa.run("shop"):
            seen.append(current())
            async with speaking().run_stream("hi") as result:
                async for _ in result.stream_text(delta=True, debounce_by=None):
                    seen.append(current())
            seen.append(current())
            async with speaking().run_stream_events("hi") as events:
                async for _ in events:
                    seen.append(current())
            seen.append(current())

    asyncio.run(main())

    run, agent = "invoke_workflow shop", "invoke_agent speaker"
    assert seen[:7] == [run, *[agent] * 5, run]
    assert set(seen[7:]) == {run}


def test_a_call_lasts_to_its_last_chunk(captured: Captured) -> None:
    """The model's span covers all chunks, and the agent's covers the model's."""
    moments: list[int] = []

    async def main() -> None:
        async with speaking().run_stream("hi") as result:
            async for _ in result.stream_text(delta=True, debounce_by=None):
                moments.append(time.time_ns())

    asyncio.run(main())

    call, agent = captured.span("chat priced"), captured.span("invoke_agent speaker")
    assert call.start_time <= moments[0] <= moments[-1] <= call.end_time
    assert agent.start_time <= call.start_time <= call.end_time <= agent.end_time
    assert attributes(call)["gen_ai.request.stream"] is True


def test_a_call_ends_with_its_last_chunk(captured: Captured) -> None:
    """What the consumer does afterwards in the block is the agent's time, not the model's."""
    ended: list[str] = []

    async def main() -> None:
        async with speaking().run_stream("hi") as result:
            async for _ in result.stream_text(delta=True, debounce_by=None):
                assert captured.spans == []
            ended.extend(span.name for span in captured.spans)

    asyncio.run(main())

    assert ended == ["chat priced"]


@pytest.mark.parametrize(
    ("event", "content"),
    [
        (PartStartEvent(index=0, part=TextPart("")), False),
        (PartStartEvent(index=0, part=TextPart("a")), True),
        (PartStartEvent(index=0, part=ThinkingPart("")), False),
        (PartStartEvent(index=0, part=ThinkingPart("hm")), True),
        (PartStartEvent(index=0, part=ToolCallPart("look")), True),
        (PartDeltaEvent(index=0, delta=TextPartDelta("")), False),
        (PartDeltaEvent(index=0, delta=TextPartDelta("a")), True),
        (object(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_counts_as_the_first_chunk(event: Any, content: bool) -> None:
    """A role or an empty piece is not the first chunk; reasoning and a tool's name are."""
    assert has_content(event) is content


def test_the_first_chunk_is_timed(captured: Captured) -> None:
    """The time to the first chunk stands on the span and in the conventions' metric."""

    async def main() -> None:
        async with speaking().run_stream("hi") as result:
            await result.get_output()

    asyncio.run(main())

    call = captured.span("chat priced")
    first = attributes(call)["gen_ai.response.time_to_first_chunk"]
    assert 0 < first <= (call.end_time - call.start_time) / 1e9
    assert captured.metric("gen_ai.client.operation.time_to_first_chunk") == 1


def test_an_empty_stream_has_no_first_chunk(captured: Captured) -> None:
    """A stream without content has no time to its first chunk, rather than a zero."""

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        yield ""

    async def main() -> None:
        model = FunctionModel(stream_function=stream, model_name=PRICED)
        async with direct.model_request_stream(model, ASKED) as events:
            async for _ in events:
                pass

    asyncio.run(main())

    found = attributes(captured.span("chat priced"))
    assert "gen_ai.response.time_to_first_chunk" not in found
    assert captured.metric("gen_ai.client.operation.time_to_first_chunk") == 0
