"""Every public way to run an agent of pydantic-ai gives the same spans and the same totals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.agent import WrapperAgent

import otel_agents as oa
from otel_agents.testing import Captured
from tests.instrument.kit import (
    ADDER_TREE,
    adder,
    attributes,
    roll_up,
    tokens,
    usage_sum,
    verdicts,
)


async def run(agent: Any) -> None:
    await agent.run("hi")


async def run_stream(agent: Any) -> None:
    async with agent.run_stream("hi") as result:
        async for _ in result.stream_text():
            pass


async def run_stream_output(agent: Any) -> None:
    async with agent.run_stream("hi") as result:
        await result.get_output()


async def run_stream_events(agent: Any) -> None:
    async with agent.run_stream_events("hi") as events:
        async for _ in events:
            pass


async def event_handler(agent: Any) -> None:
    async def handle(_context: Any, events: Any) -> None:
        async for _ in events:
            pass

    await agent.run("hi", event_stream_handler=handle)


async def iterate(agent: Any) -> None:
    async with agent.iter("hi") as steps:
        async for _ in steps:
            pass


async def step_by_hand(agent: Any) -> None:
    async with agent.iter("hi") as steps:
        node = steps.next_node
        while not Agent.is_end_node(node):
            node = await steps.next(node)


async def stream_by_hand(agent: Any) -> None:
    async with agent.iter("hi") as steps:
        node = steps.next_node
        while not Agent.is_end_node(node):
            if Agent.is_model_request_node(node) or Agent.is_call_tools_node(node):
                async with node.stream(steps.ctx) as events:
                    async for _ in events:
                        pass
            node = await steps.next(node)


ASYNC_WAYS = [
    run, run_stream, run_stream_output, run_stream_events, event_handler, iterate, step_by_hand,
    stream_by_hand,
]  # fmt: skip


def in_loop(way: Callable[[Any], Any]) -> Callable[[Any], None]:
    def start(agent: Any) -> None:
        asyncio.run(way(agent))

    start.__name__ = way.__name__
    return start


def run_sync(agent: Any) -> None:
    agent.run_sync("hi")


def run_stream_sync(agent: Any) -> None:
    with agent.run_stream_sync("hi") as result:
        for _ in result.stream_text():
            pass


WAYS = [*map(in_loop, ASYNC_WAYS), run_sync, run_stream_sync]
pytestmark = pytest.mark.usefixtures("thread_loop")
ways = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


@ways
@pytest.mark.parametrize("wrapped", [False, True], ids=["agent", "wrapper"])
def test_every_way_gives_the_same_tree(
    captured: Captured, way: Callable[[Any], None], wrapped: bool
) -> None:
    """Agent, model calls and tools nest in the same way, wrapped agents included."""
    agent = adder()
    with oa.run("shop"):
        way(WrapperAgent(agent) if wrapped else agent)

    assert captured.tree() == ADDER_TREE


@ways
def test_every_way_counts_what_pydantic_ai_counts(
    captured: Captured, way: Callable[[Any], None]
) -> None:
    """The sum over spans, the metric, and the roll-ups of agent and run are one number."""
    with oa.run("shop"):
        way(adder())

    found = usage_sum(captured)
    assert found == {"input_tokens": 103, "output_tokens": 17} or found == {
        "input_tokens": 100, "output_tokens": 10,
    }  # fmt: skip
    assert tokens(captured) == {
        "input": found["input_tokens"],
        "output": found["output_tokens"],
    }
    whole = {**found, "requests": 2, "tool_calls": 1}
    assert roll_up(captured.span("invoke_agent adder")) == whole
    assert roll_up(captured.span("invoke_workflow shop")) == whole
    assert captured.metric("otelagents.cost") == pytest.approx(
        (found["input_tokens"] + 2 * found["output_tokens"]) / 1e6
    )


@ways
def test_every_way_counts_calls_and_attempts(
    captured: Captured, way: Callable[[Any], None]
) -> None:
    """Two questions were asked, each once; one agent and one tool succeeded."""
    way(adder())

    assert verdicts(captured, "calls") == {"success": 2}
    assert verdicts(captured, "attempts") == {"success": 2}
    assert captured.metric("otelagents.agent.attempts", agent="adder", result="success") == 1
    assert captured.metric("otelagents.tool.calls", tool="add", result="success") == 1
    assert captured.metric("otelagents.agent.active") == 0


@ways
def test_every_way_passes_a_tools_error_on(captured: Captured, way: Callable[[Any], None]) -> None:
    """An exception of a tool reaches the caller as it was, and agent and tool say ERROR."""
    error = LookupError("no such shelf")
    agent = adder()

    @agent.tool_plain
    def subtract() -> int:
        raise error

    agent._function_toolset.tools["add"].function_schema.function = lambda a, b: _raise(error)
    with pytest.raises(LookupError) as raised, oa.run("shop"):
        way(agent)

    assert raised.value is error
    for name in ("execute_tool add", "invoke_agent adder"):
        span = captured.span(name)
        assert (span.status.status_code.name, attributes(span)["error.type"]) == (
            "ERROR", "LookupError",
        )  # fmt: skip


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("way", ASYNC_WAYS, ids=lambda way: way.__name__)
def test_every_way_can_be_cancelled_in_a_tool(
    captured: Captured, way: Callable[[Any], Any]
) -> None:
    """A task that is cancelled inside a tool leaves ended spans, none of them an ERROR."""

    async def main() -> None:
        reached = asyncio.Event()
        agent = adder()

        async def wait(a: int, b: int) -> int:
            reached.set()
            await asyncio.Event().wait()
            return 0

        schema = agent._function_toolset.tools["add"].function_schema
        schema.function, schema.is_async = wait, True
        task = asyncio.create_task(way(agent))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert {
        span.name: (span.status.status_code.name, attributes(span)["otelagents.result"])
        for span in captured.spans
    } == {
        "invoke_agent adder": ("UNSET", "cancellation"),
        "chat priced": ("UNSET", "success"),
        "execute_tool add": ("UNSET", "cancellation"),
    }
    assert captured.metric("otelagents.agent.attempts", result="cancellation") == 1
    assert captured.metric("otelagents.agent.active") == 0
