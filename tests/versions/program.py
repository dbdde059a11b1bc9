"""Agents in all main ways, and what was recorded of each, as JSON on stdout.

Runs in environments of many versions of pydantic-ai, OpenTelemetry and wrapt, so it uses only what
all of them have. `python -m tests.versions.program` from the root of the repository.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, RunContext, ToolOutput
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.usage import RequestUsage

import otel_agents as oa
from otel_agents.boundary import boundary
from otel_agents.checkpoints import taken
from otel_agents.settings_guards import CheckpointSettings
from otel_agents.testing import Captured, capture

PRICES = {"priced": {"input": 1.0, "output": 2.0}}


def answering(*answers: Any, name: str = "priced") -> FunctionModel:
    left = iter(answers)

    def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        parts = [TextPart(answer)] if isinstance(answer, str) else [ToolCallPart(*answer)]
        return ModelResponse(parts=parts, usage=RequestUsage(input_tokens=100, output_tokens=10))

    return FunctionModel(reply, model_name=name)


def worker(*answers: Any, **options: Any) -> Agent[None, Any]:
    async def stream(
        messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        if len(messages) == 1:
            yield {0: DeltaToolCall(name="look", json_args="{}")}
        else:
            for word in ("one ", "two ", "three"):
                yield word

    model = answering(*(answers or (("look", {}), "done")))
    model.stream_function = stream
    agent = Agent(model, name="worker", **options)
    agent.tool_plain(name="look")(lambda: "seen")
    return agent


async def run() -> Any:
    return (await worker().run("hi")).output


async def run_stream() -> Any:
    async with worker().run_stream("hi") as result:
        return [text async for text in result.stream_text(delta=True, debounce_by=None)]


async def left_stream() -> Any:
    async with worker().run_stream("hi") as result:
        async for text in result.stream_text(delta=True, debounce_by=None):
            return text


async def run_stream_events() -> Any:
    events = worker().run_stream_events("hi")
    if hasattr(events, "__aenter__"):
        async with events as entered:
            found = [event async for event in entered]
    else:
        found = [event async for event in events]
    return found[-1].result.output


async def iterate() -> Any:
    async with worker().iter("hi") as steps:
        async for node in steps:
            if Agent.is_model_request_node(node):
                async with node.stream(steps.ctx) as events:
                    async for _ in events:
                        pass
    return steps.result.output


async def refused_output() -> Any:
    agent = worker("bad", "worse", "good", retries=3)

    @agent.output_validator
    def judge(output: str) -> str:
        if output != "good":
            raise ModelRetry("better")
        return output

    return (await agent.run("hi")).output


class Answer(BaseModel):
    value: int


async def structured_output() -> Any:
    answers = (("final_result", {"value": "x"}), ("look", {}), ("final_result", {"value": 3}))
    agent = worker(*answers, output_type=ToolOutput(Answer))
    return (await agent.run("hi")).output.value


async def exhausted_retries() -> Any:
    agent = worker("bad", "bad", "bad", retries=1)

    @agent.output_validator
    def judge(output: str) -> str:
        raise ModelRetry("better")

    return (await agent.run("hi")).output


async def retried_tool() -> Any:
    agent = worker(("look_again", {}), ("look_again", {}), "done")
    left = [1]

    @agent.tool_plain
    def look_again() -> str:
        if left:
            left.pop()
            raise ModelRetry("again")
        return "seen"

    return (await agent.run("hi")).output


async def failing_tool() -> Any:
    agent = worker(("fail", {}))

    @agent.tool_plain
    def fail() -> str:
        raise LookupError("no such thing")

    return await agent.run("hi")


async def wrong_arguments() -> Any:
    agent = worker(("add", {"a": "x"}), ("add", {"a": 1}), "done")

    @agent.tool_plain
    def add(a: int) -> int:
        return a

    return (await agent.run("hi")).output


async def nested() -> Any:
    inner = Agent(answering("inner"), name="inner")
    outer = worker(("ask", {}), "outer")

    @outer.tool
    async def ask(ctx: RunContext[None]) -> str:
        return (await inner.run("hi", usage=ctx.usage)).output

    return (await outer.run("hi")).output


async def parallel() -> Any:
    return [
        result.output for result in await asyncio.gather(*(worker().run("hi") for _ in range(5)))
    ]


async def interleaved() -> Any:
    first, second = Agent(answering("one"), name="first"), Agent(answering("two"), name="second")
    async with first.iter("hi") as one, second.iter("hi") as two:
        steps = [(one, one.next_node), (two, two.next_node)]
        while steps:
            run_, node = steps.pop(0)
            node = await run_.next(node)
            if not Agent.is_end_node(node):
                steps.append((run_, node))
    return one.result.output, two.result.output


async def fallback() -> Any:
    from pydantic_ai.exceptions import ModelHTTPError

    model = FallbackModel(answering(ModelHTTPError(503, "first"), name="first"), answering("yes"))
    return (await Agent(model, name="careful").run("hi")).output


async def cancelled() -> Any:
    reached = asyncio.Event()
    agent = worker(("wait", {}))

    @agent.tool_plain
    async def wait() -> str:
        reached.set()
        await asyncio.Event().wait()
        return ""

    task = asyncio.create_task(agent.run("hi"))
    await reached.wait()
    task.cancel()
    return await task


PROGRAMS = [
    run, run_stream, left_stream, run_stream_events, iterate, refused_output, structured_output,
    exhausted_retries, retried_tool, failing_tool, wrong_arguments, nested, parallel, interleaved,
    fallback, cancelled,
]  # fmt: skip


def verdicts(captured: Captured, metric: str) -> dict[str, float]:
    found: Counter[str] = Counter()
    for name, labels, value in captured.points():
        if name == metric:
            found[f"{labels.get('agent')} {labels['result']}"] += value
    return dict(sorted(found.items()))


def observe(program: Callable[[], Any]) -> dict[str, Any]:
    """Run a program and return how it ended and what was recorded of it."""
    with capture(prices=PRICES) as captured:
        with oa.run("shop"):
            try:
                ended: Any = asyncio.run(program())
            except BaseException as error:  # noqa: BLE001 - part of what is compared
                ended = type(error).__name__
        summed: Counter[str] = Counter()
        for span in captured.spans:
            for key, value in (span.attributes or {}).items():
                if key.startswith("gen_ai.usage."):
                    summed[key] += value
        shop = dict(captured.span("invoke_workflow shop").attributes or {})
        return {
            "ended": ended,
            "tree": captured.tree().splitlines(),
            "usage": dict(sorted(summed.items())),
            "tokens": captured.metric("otelagents.tokens"),
            "cost": round(captured.metric("otelagents.cost") * 1e6, 3),
            "complete": shop.get("otelagents.usage.complete"),
            "calls": verdicts(captured, "otelagents.model.calls"),
            "attempts": verdicts(captured, "otelagents.model.attempts"),
            "tools": verdicts(captured, "otelagents.tool.calls"),
            "agents": verdicts(captured, "otelagents.agent.attempts"),
            "active": captured.metric("otelagents.agent.active"),
        }


def synchronous() -> dict[str, Any]:
    """Run the two synchronous ways, each with a loop of its own."""

    def run_sync() -> Any:
        return worker().run_sync("hi").output

    def run_stream_sync() -> Any:
        entered = worker().run_stream_sync("hi")
        with (
            entered if hasattr(entered, "__enter__") else contextlib.nullcontext(entered) as result
        ):
            return list(result.stream_text(delta=True, debounce_by=None))

    found = {}
    for way in (run_sync, run_stream_sync):
        with capture(prices=PRICES) as captured:
            with oa.run("shop"):
                ended = way()
            found[way.__name__] = {
                "ended": ended,
                "tree": captured.tree().splitlines(),
                "calls": verdicts(captured, "otelagents.model.calls"),
            }
    return found


def restored() -> dict[str, Any]:
    """Run an agent that spoils a file, restores it and is asked again."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        subprocess.run(["git", "init", "-q", folder], check=True)  # noqa: S603, S607 - our own
        (root / "a.txt").write_text("one")

        def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            kinds = [part.part_kind for message in messages for part in message.parts]
            usage = RequestUsage(input_tokens=100, output_tokens=10)
            if "tool-return" not in kinds:
                text = "right" if "was restored" in str(messages) else "spoiled"
                return ModelResponse(
                    parts=[ToolCallPart("write_file", {"text": text})], usage=usage
                )
            told = "done" if "was restored" in str(messages) else f"/restore {taken()[0].id}"
            return ModelResponse(parts=[TextPart(told)], usage=usage)

        agent = Agent(FunctionModel(reply, model_name="priced"), name="worker")

        @agent.tool_plain
        def write_file(text: str) -> str:
            (root / "a.txt").write_text(text)
            return "written"

        settings = CheckpointSettings(auto=True, allow_restore=True)
        with capture(prices=PRICES, checkpoint=settings, root=root) as captured:
            with oa.run("shop"):
                result = asyncio.run(agent.run("hi"))
            return {
                "ended": [result.output, (root / "a.txt").read_text(), len(result.new_messages())],
                "tree": captured.tree().splitlines(),
                "calls": verdicts(captured, "otelagents.model.calls"),
            }


def main() -> None:
    """Print what every program left behind."""
    boundary.strict = True
    found = {program.__name__: observe(program) for program in PROGRAMS}
    found |= synchronous()
    found["restored"] = restored()
    json.dump(found, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
