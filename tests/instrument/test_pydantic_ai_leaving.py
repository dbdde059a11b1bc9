"""Streams that are left early, cancelled, dropped, or closed elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from opentelemetry import trace
from pydantic_ai import Agent, direct
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    PartDeltaEvent,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

import otel_agents as oa
from otel_agents.testing import Captured, capture
from tests.instrument.kit import (
    PRICED,
    WORDS,
    attributes,
    clean_context,
    named,
    speaking,
    usage_sum,
    verdicts,
)

pytestmark = pytest.mark.usefixtures("thread_loop")

ASKED = [ModelRequest.user_text_prompt("hi")]


def left_early(captured: Captured) -> None:
    """Check what every stream that was left early has to show."""
    for name in ("invoke_agent speaker", "chat priced"):
        assert len(named(captured, name)) == 1
        span = captured.span(name)
        found = attributes(span)
        assert span.status.status_code.name == "UNSET"
        assert found["otelagents.result"] == "cancellation"
        assert found["otelagents.usage.complete"] is False
    assert usage_sum(captured)["input_tokens"] == 50
    assert usage_sum(captured)["output_tokens"] >= 1
    assert captured.metric("otelagents.agent.active") == 0
    assert captured.metric("otelagents.agent.attempts", result="cancellation") == 1
    assert verdicts(captured, "calls") == {"cancellation": 1}
    starts = [signal.edge for signal in captured.signals if signal.kind == "agent"]
    assert (starts.count("start"), starts.count("end")) == (1, 1)


async def break_run_stream() -> None:
    async with speaking().run_stream("hi") as result:
        async for _ in result.stream_text(delta=True, debounce_by=None):
            break


async def return_from_run_stream() -> str:
    async with speaking().run_stream("hi") as result:
        async for text in result.stream_text(delta=True, debounce_by=None):
            return text
    return ""


async def break_events() -> None:
    async with speaking().run_stream_events("hi") as events:
        async for event in events:
            if isinstance(event, PartDeltaEvent):
                break


async def break_node_stream() -> None:
    async with speaking().iter("hi") as run:
        node = run.next_node
        while not Agent.is_model_request_node(node):
            node = await run.next(node)
        async with node.stream(run.ctx) as events:
            async for _ in events:
                break


async def words() -> AsyncIterator[str]:
    """Stream as a web framework's handler does: a generator around `run_stream`."""
    async with speaking().run_stream("hi") as result:
        async for text in result.stream_text(delta=True, debounce_by=None):
            yield text


async def close_generator() -> None:
    generator = words()
    await anext(generator)
    await generator.aclose()


async def close_generator_in_another_task() -> None:
    generator = words()
    await anext(generator)
    await asyncio.create_task(generator.aclose())


async def drop_generator() -> None:
    generator = words()
    await anext(generator)
    del generator
    gc.collect()
    await settled()


async def break_generator() -> None:
    async for _ in words():
        break
    gc.collect()
    await settled()


async def drop_run_stream() -> None:
    stream = speaking().run_stream("hi")
    result = await stream.__aenter__()
    async for _ in result.stream_text(delta=True, debounce_by=None):
        break
    del stream, result
    gc.collect()
    await settled()


async def settled() -> None:
    """Wait until the tasks that close dropped generators are done, though cancelled meanwhile."""
    deadline = time.monotonic() + 120
    cancelled = None
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        assert time.monotonic() < deadline
        try:
            await asyncio.wait(others)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


LEAVING = [
    break_run_stream, return_from_run_stream, break_events, break_node_stream, close_generator,
]  # fmt: skip
# Closed by another task than the one that entered: pydantic-ai itself fails there, and cancels
# the task that entered, with us or without.
LEAVING_ELSEWHERE = [
    close_generator_in_another_task, drop_generator, break_generator, drop_run_stream,
]  # fmt: skip


@pytest.mark.parametrize("leave", LEAVING, ids=lambda way: way.__name__)
def test_a_stream_that_is_left_keeps_what_it_used(
    captured: Captured, leave: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Left, closed or dropped: spans end once, without an error, with the usage so far."""

    async def main() -> None:
        with oa.run("shop"):
            before = trace.get_current_span()
            await leave()
            assert trace.get_current_span() is before
            with oa.phase("next"):
                pass

    with clean_context(caplog):
        asyncio.run(main())

    left_early(captured)
    run = captured.span("invoke_workflow shop")
    assert captured.span("phase next").parent.span_id == run.context.span_id
    assert "otelagents.agent.run.id" not in attributes(captured.span("phase next"))


def outcome_of(leave: Callable[[], Any], after: Callable[[], None]) -> str:
    """Leave a stream, call `after` in the same task, and return how leaving it ended."""
    ended = []

    async def main() -> None:
        with oa.run("shop"):
            try:
                await leave()
                ended.append("well")
            except BaseException as error:  # noqa: BLE001 - whatever pydantic-ai makes of it
                ended.append(type(error).__name__)
            after()

    with contextlib.suppress(BaseException):
        asyncio.run(main())
    return ended[0]


@pytest.mark.parametrize("leave", LEAVING_ELSEWHERE, ids=lambda way: way.__name__)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stream_that_is_closed_elsewhere_ends_once(
    captured: Captured, leave: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Closed by the garbage collector or another task: spans end once, without an error.

    What runs afterwards in the task that was left is no part of the agent.
    """
    tracer = captured.tracer_provider.get_tracer("somebody-else")

    with clean_context(caplog):
        outcome_of(leave, lambda: tracer.start_span("after").end())

    left_early(captured)
    after = captured.span("after")
    assert after.parent.span_id == captured.span("invoke_workflow shop").context.span_id
    assert "otelagents.agent.run.id" not in attributes(after)


@pytest.mark.parametrize("leave", LEAVING + LEAVING_ELSEWHERE, ids=lambda way: way.__name__)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_leaving_a_stream_ends_as_it_does_without_us(leave: Callable[[], Any]) -> None:
    """The host sees the same result or the same exception, instrumented or not."""
    without = outcome_of(leave, lambda: None)
    with capture():
        instrumented = outcome_of(leave, lambda: None)

    assert instrumented == without


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_block_that_was_entered_by_hand_and_dropped_is_ended(
    captured: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody calls `__aexit__` of a dropped context manager; its scope ends all the same."""

    async def drop_iter() -> None:
        block = speaking().iter("hi")
        await block.__aenter__()
        del block
        gc.collect()
        await settled()

    with clean_context(caplog):
        outcome_of(drop_iter, lambda: None)

    agent = captured.span("invoke_agent speaker")
    assert attributes(agent)["otelagents.result"] == "cancellation"
    assert captured.metric("otelagents.agent.active") == 0


async def cancel_run_stream(reached: asyncio.Event) -> None:
    async with pausing(reached).run_stream("hi") as result:
        async for _ in result.stream_text(delta=True, debounce_by=None):
            pass


async def cancel_events(reached: asyncio.Event) -> None:
    async with pausing(reached).run_stream_events("hi") as events:
        async for _ in events:
            pass


async def cancel_event_handler(reached: asyncio.Event) -> None:
    async def handle(_context: Any, events: Any) -> None:
        async for _ in events:
            pass

    await pausing(reached).run("hi", event_stream_handler=handle)


async def cancel_node_stream(reached: asyncio.Event) -> None:
    async with pausing(reached).iter("hi") as run:
        async for node in run:
            if Agent.is_model_request_node(node):
                async with node.stream(run.ctx) as events:
                    async for _ in events:
                        pass


def pausing(reached: asyncio.Event) -> Agent[None, str]:
    """Make an agent whose model says one word and then nothing more."""

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        yield WORDS[0]
        reached.set()
        await asyncio.Event().wait()

    return Agent(FunctionModel(stream_function=stream, model_name=PRICED), name="speaker")


@pytest.mark.parametrize(
    "way",
    [cancel_run_stream, cancel_events, cancel_event_handler, cancel_node_stream],
    ids=lambda way: way.__name__,
)
def test_a_stream_that_is_cancelled_keeps_what_it_used(
    captured: Captured, way: Callable[[asyncio.Event], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The task is cancelled while it waits for the next chunk."""

    async def main() -> None:
        reached = asyncio.Event()
        task = asyncio.create_task(way(reached))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with clean_context(caplog):
        asyncio.run(main())

    left_early(captured)


def test_a_stream_that_breaks_keeps_what_it_used(captured: Captured) -> None:
    """An error in the middle is the call's and the agent's; the usage so far is a lower bound."""
    error = ConnectionResetError("gone")

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        yield WORDS[0]
        yield WORDS[1]
        raise error

    async def main() -> None:
        model = FunctionModel(stream_function=stream, model_name=PRICED)
        async with Agent(model, name="speaker").run_stream("hi") as result:
            async for _ in result.stream_text(delta=True, debounce_by=None):
                pass

    with pytest.raises(ConnectionResetError) as raised:
        asyncio.run(main())

    assert raised.value is error
    call = captured.span("chat priced")
    assert call.status.status_code.name == "ERROR"
    assert attributes(call)["error.type"] == "ConnectionResetError"
    assert attributes(call)["otelagents.usage.complete"] is False
    assert usage_sum(captured) == {"input_tokens": 50, "output_tokens": 2}
    assert verdicts(captured, "calls") == {"error": 1}


def test_a_consumers_own_error_is_not_the_models(captured: Captured) -> None:
    """The model was only left; the agent says which error left it."""
    error = ZeroDivisionError()

    async def main() -> None:
        async with speaking().run_stream("hi") as result:
            async for _ in result.stream_text(delta=True, debounce_by=None):
                raise error

    with pytest.raises(ZeroDivisionError) as raised:
        asyncio.run(main())

    assert raised.value is error
    assert attributes(captured.span("chat priced"))["otelagents.result"] == "cancellation"
    assert attributes(captured.span("invoke_agent speaker"))["error.type"] == "ZeroDivisionError"


def test_a_consumers_error_in_a_direct_stream_is_not_the_models(captured: Captured) -> None:
    """Nothing stands between the consumer and the call there; it was left all the same."""

    async def main() -> None:
        model = speaking().model
        async with direct.model_request_stream(model, ASKED) as events:
            async for _ in events:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())

    assert attributes(captured.span("chat priced"))["otelagents.result"] == "cancellation"
    assert verdicts(captured, "calls") == {"cancellation": 1}


def test_many_streams_at_once_do_not_mix(captured: Captured, caplog: Any) -> None:
    """Thirty consumers of one run, each with a stream of its own, half of which leave early."""

    async def read(early: bool) -> None:
        before = trace.get_current_span()
        async with contextlib.aclosing(words()) as generator:
            async for _ in generator:
                if early:
                    break
        assert trace.get_current_span() is before

    async def main() -> None:
        with oa.run("shop"):
            await asyncio.gather(*(read(n % 2 == 0) for n in range(30)))

    with clean_context(caplog):
        asyncio.run(main())

    run = captured.span("invoke_workflow shop")
    agents = named(captured, "invoke_agent speaker")
    results = [attributes(span)["otelagents.result"] for span in agents]
    assert (results.count("cancellation"), results.count("success")) == (15, 15)
    assert {span.context.trace_id for span in agents} == {run.context.trace_id}
    assert {span.parent.span_id for span in agents} == {run.context.span_id}
