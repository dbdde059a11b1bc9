"""Telemetry that is broken, wherever: the host's results and exceptions stay as they are.

Every function of ours that runs on the way is made to raise, one at a time. What is left out are
the functions whose only work is to catch: they are what the others rely on.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import Span, Tracer
from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, FunctionModel

import otel_agents as oa
from tests.instrument.kit import PRICED, adder, answering, calling, speaking

pytestmark = pytest.mark.usefixtures("thread_loop")


class Broken(Exception):
    """What our own functions raise here; it must never be seen by the host."""


# ---------------------------------------------------------------------- programs of a host


async def runs_well() -> Any:
    result = await adder().run("hi")
    return result.output, result.usage.requests, len(result.all_messages())


async def streams_well() -> Any:
    async with adder().run_stream("hi") as result:
        return [text async for text in result.stream_text(delta=True, debounce_by=None)]


async def leaves_a_stream() -> Any:
    async with speaking().run_stream("hi") as result:
        async for text in result.stream_text(delta=True, debounce_by=None):
            return text


async def retries() -> Any:
    agent = Agent(answering("a", "b"), name="picky")
    refused = []

    @agent.output_validator
    def judge(output: str) -> str:
        if not refused:
            refused.append(output)
            raise ModelRetry("again")
        return output

    return (await agent.run("hi")).output, refused


async def fails_in_a_nested_tool() -> Any:
    inner = Agent(answering(ModelHTTPError(500, PRICED)), name="inner")
    outer = Agent(answering(calling(("ask", {}))), name="outer")

    @outer.tool
    async def ask(ctx: RunContext[None]) -> str:
        try:
            return (await inner.run("hi", usage=ctx.usage)).output
        except ModelHTTPError as error:
            raise LookupError("inner", 7) from error

    return await outer.run("hi")


async def returns_a_failure() -> Any:
    agent = Agent(answering(calling(("look", {})), "done"), name="host")
    agent.tool_plain(name="look")(lambda: {"status": "error"})
    return (await agent.run("hi")).output


async def breaks_in_a_stream() -> Any:
    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        yield "one"
        raise ConnectionResetError(104, "reset")

    async with Agent(FunctionModel(stream_function=stream, model_name=PRICED)).run_stream("x") as r:
        return [text async for text in r.stream_text()]


async def is_cancelled() -> Any:
    reached = asyncio.Event()

    async def look() -> str:
        reached.set()
        await asyncio.Event().wait()
        return ""

    agent = Agent(answering(calling(("look", {}))), name="host")
    agent.tool_plain(look)
    task = asyncio.create_task(agent.run("hi"))
    waiting = asyncio.create_task(reached.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    task.cancel()
    return await task


PROGRAMS = [
    runs_well, streams_well, leaves_a_stream, retries, fails_in_a_nested_tool, returns_a_failure,
    breaks_in_a_stream, is_cancelled,
]  # fmt: skip


def chain(error: BaseException | None) -> list[Any]:
    """Return what can be told of an exception and of those that caused it."""
    found: list[Any] = []
    while error is not None:
        found.append((type(error), error.args, getattr(error, "__notes__", None)))
        error = error.__cause__
    return found


def outcome(program: Callable[[], Any]) -> Any:
    try:
        return "returned", asyncio.run(program())
    except BaseException as error:  # noqa: BLE001 - compared with what it is without us
        return "raised", chain(error)


def in_scopes(program: Callable[[], Any]) -> Callable[[], Any]:
    async def inside() -> Any:
        with oa.run("shop", goal="x"), oa.phase("plan"):
            return await program()

    return inside


# ---------------------------------------------------------------------- what is broken

MODULES = [
    "boundary", "context", "failures", "instrument.content", "instrument.http",
    "instrument.pydantic_ai_agents", "instrument.pydantic_ai_models",
    "instrument.pydantic_ai_realtime", "instrument.pydantic_ai_tools", "location", "measures",
    "metrics", "model_call", "pipeline", "runtime", "scope", "scopes", "signals", "stamping",
    "tally", "usage.plan", "usage.prices", "usage.pydantic_ai", "usage.reading", "usage.record",
    "values",
]  # fmt: skip
# These only catch, or stand in the place of the host's own function.
CATCHING = {
    "boundary": {"_Boundary.caught", "_Boundary.warn", "_Boundary.__init__"},
    "scope": {
        "Scope.__init__", "Scope._reset", "Scope.__enter__", "Scope.__exit__", "Scope.start",
        "Scope.attach", "Scope.detach", "Scope.end",
    },
}  # fmt: skip
LIBRARIES = [
    (Tracer, "start_span"), (Span, "set_attributes"), (Span, "set_status"), (Span, "end"),
    (Span, "get_span_context"), (MeterProvider, "get_meter"),
]  # fmt: skip


def functions() -> Iterator[tuple[str, Any, str]]:
    """Yield every function and method of ours as its label, its owner and its name."""
    for short in MODULES:
        module = importlib.import_module(f"otel_agents.{short}")
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__:
                yield f"{short}:{name}", module, name
            if inspect.isclass(value) and value.__module__ == module.__name__:
                for method, entry in vars(value).items():
                    if inspect.isfunction(entry):
                        yield f"{short}:{name}.{method}", value, method
