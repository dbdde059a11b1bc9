"""Tools: what failed and what was put off, many at once, agents and spans inside tools."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, DeferredToolRequests, ModelRetry, RunContext, ToolReturn
from pydantic_ai.exceptions import (
    ApprovalRequired,
    CallDeferred,
    ToolFailed,
    UnexpectedModelBehavior,
)
from pydantic_ai.messages import ModelResponse, ToolCallPart
from pydantic_ai.models.test import TestModel

import otel_agents as oa
from otel_agents.testing import Captured
from tests.instrument.kit import (
    answering,
    attributes,
    calling,
    named,
    roll_up,
    usage_sum,
    verdicts,
)

pytestmark = pytest.mark.usefixtures("thread_loop")


def looking(tool: Any, *answers: Any, **options: Any) -> Agent[None, Any]:
    """Make an agent with one tool, `look`, that it calls first."""
    agent = Agent(answering(*(answers or (calling(("look", {})), "done"))), name="host", **options)
    agent.tool_plain(name="look")(tool)
    return agent


class Report(BaseModel):
    success: bool


@dataclass
class McpResult:
    isError: bool  # noqa: N815 - MCP's spelling
    content: str = ""


def returns(value: Any) -> Any:
    def tool() -> Any:
        return value

    return tool


@pytest.mark.parametrize(
    "result",
    [
        {"status": "error"}, {"isError": True}, {"is_error": True}, {"success": False},
        {"success": 0}, Report(success=False), McpResult(isError=True),
        ToolReturn(return_value={"status": "error"}),
    ],
    ids=lambda value: str(type(value).__name__),
)  # fmt: skip
def test_a_failure_that_is_returned_is_a_failure(captured: Captured, result: Any) -> None:
    """A tool that says in its result that it failed has failed; the agent goes on."""
    answer = looking(returns(result)).run_sync("hi")

    span = captured.span("execute_tool look")
    assert span.status.status_code.name == "ERROR"
    assert attributes(span)["error.type"] == "failure"
    assert captured.metric("otelagents.tool.calls", tool="look", result="failure") == 1
    assert answer.output == "done"
    assert attributes(captured.span("invoke_agent host"))["otelagents.result"] == "success"


@pytest.mark.parametrize(
    "result",
    [
        None, "error", {"status": "ok"}, {"success": True}, {"success": None}, {"isError": False},
        {"status": 7}, ["status", "error"], 0, Report(success=True), {"errors": 0},
    ],
    ids=lambda value: str(type(value).__name__),
)  # fmt: skip
def test_a_result_that_says_nothing_of_a_failure_is_none(captured: Captured, result: Any) -> None:
    """Only the usual ways to report a failure count as one."""
    looking(returns(result)).run_sync("hi")

    span = captured.span("execute_tool look")
    assert (span.status.status_code.name, attributes(span)["otelagents.result"]) == (
        "UNSET", "success",
    )  # fmt: skip


def raises(error: BaseException) -> Any:
    def tool() -> str:
        raise error

    return tool


def test_a_tool_that_raises_is_an_error(captured: Captured) -> None:
    """The exception is the tool's error and the agent's, and reaches the caller as it was."""
    error = OSError("disk full")
    with pytest.raises(OSError) as raised:
        looking(raises(error)).run_sync("hi")

    assert raised.value is error
    for name in ("execute_tool look", "invoke_agent host"):
        assert attributes(captured.span(name))["error.type"] == "OSError"
        assert captured.span(name).status.status_code.name == "ERROR"
    assert captured.metric("otelagents.tool.calls", tool="look", result="error") == 1


@pytest.mark.parametrize(
    ("error", "kind"), [(ToolFailed("no"), "ToolFailed"), (ModelRetry("again"), "ModelRetry")]
)
def test_a_tool_that_tells_the_model_of_its_failure_has_failed(
    captured: Captured, error: Exception, kind: str
) -> None:
    """What pydantic-ai hands to the model as a failure is named by what the tool raised."""
    looking(raises(error)).run_sync("hi")

    span = captured.span("execute_tool look")
    assert attributes(span)["error.type"] == f"pydantic_ai.exceptions.{kind}"
    assert attributes(captured.span("invoke_agent host"))["otelagents.result"] == "success"


def test_a_timeout_of_a_tool_is_a_timeout(captured: Captured) -> None:
    """`TimeoutError` has its own outcome."""
    with pytest.raises(TimeoutError):
        looking(raises(TimeoutError())).run_sync("hi")

    assert captured.metric("otelagents.tool.calls", tool="look", result="timeout") == 1


@pytest.mark.parametrize(
    "error", [CallDeferred(), ApprovalRequired()], ids=lambda e: type(e).__name__
)
def test_a_call_that_is_put_off_is_no_error(captured: Captured, error: Exception) -> None:
    """A tool that waits for approval, or is answered elsewhere, is skipped; the agent is done."""
    agent = looking(raises(error), output_type=[str, DeferredToolRequests])
    result = agent.run_sync("hi")

    assert isinstance(result.output, DeferredToolRequests)
    tool = captured.span("execute_tool look")
    assert (tool.status.status_code.name, attributes(tool)["otelagents.result"]) == (
        "UNSET", "skip",
    )  # fmt: skip
    assert captured.span("invoke_agent host").status.status_code.name == "UNSET"
    assert captured.metric("otelagents.tool.calls", result="error") == 0


def test_a_tool_that_needs_approval_is_not_called(captured: Captured) -> None:
    """`requires_approval` ends the run before the tool: there is no tool span at all."""
    agent = Agent(
        answering(calling(("wipe", {}))), name="host", output_type=[str, DeferredToolRequests]
    )

    @agent.tool_plain(requires_approval=True)
    def wipe() -> str:
        raise AssertionError

    agent.run_sync("hi")

    assert captured.tree() == "invoke_agent host\n  chat priced"


def test_arguments_that_do_not_fit_are_the_tools_error(captured: Captured) -> None:
    """A call with wrong arguments never reaches the tool, and is an error of its span."""
    agent = Agent(
        answering(calling(("look", {"far": "x"})), calling(("look", {"far": 1})), "done"),
        name="host",
    )

    @agent.tool_plain
    def look(far: int) -> str:
        return str(far)

    agent.run_sync("hi")

    looks = named(captured, "execute_tool look")
    assert [attributes(span)["otelagents.result"] for span in looks] == [
        "error", "success",
    ]  # fmt: skip
    assert verdicts(captured, "attempts") == {"success": 3}


def test_a_tool_that_the_model_made_up_has_no_name(captured: Captured) -> None:
    """An invented name is content, and no label: it would make a series of every invention."""
    agent = looking(returns("x"), calling(("conjure", {})), "done")
    agent.run_sync("hi")

    span = captured.span("execute_tool")
    assert span.status.status_code.name == "ERROR"
    assert "conjure" not in str(attributes(span))
    assert captured.metric("otelagents.tool.calls", result="error") == 1


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_fifty_tools_at_once_are_fifty_siblings(captured: Captured, kind: str) -> None:
    """pydantic-ai runs them in tasks or threads: one trace, and the agent is their parent."""
    agent = Agent(answering(calling(*(("work", {"n": n}) for n in range(50))), "done"), name="host")
    together = threading.Barrier(2)

    if kind == "async":
        started = []
        all_started = asyncio.Event()

        @agent.tool_plain
        async def work(n: int) -> int:
            started.append(n)
            if len(started) == 50:
                all_started.set()
            await all_started.wait()
            return n
    else:

        @agent.tool_plain
        def work(n: int) -> int:
            if n < 2:
                together.wait(timeout=90)
            return n

    with oa.run("shop"):
        agent.run_sync("hi")

    tools = named(captured, "execute_tool work")
    host = captured.span("invoke_agent host")
    assert len(tools) == 50
    assert {span.parent.span_id for span in tools} == {host.context.span_id}
    assert {span.context.trace_id for span in captured.spans} == {host.context.trace_id}
    assert roll_up(host)["tool_calls"] == 50


def test_spans_inside_tools_have_the_right_parent_and_ids(captured: Captured) -> None:
    """Third-party spans of a tool, in its thread, its tasks and its executors, are its children."""
    tracer = captured.tracer_provider.get_tracer("somebody-else")

    def query(name: str) -> str:
        with tracer.start_as_current_span(name):
            return name

    async def tool() -> str:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as pool:
            await asyncio.gather(
                asyncio.to_thread(query, "thread"),
                loop.run_in_executor(pool, query, "executor"),
                asyncio.create_task(asyncio.to_thread(query, "task")),
            )
        return query("inline")

    with oa.run("shop", id="r1"), oa.phase("plan"):
        looking(tool).run_sync("hi")

    look = captured.span("execute_tool look")
    for name in ("thread", "executor", "task", "inline"):
        span = captured.span(name)
        assert span.parent.span_id == look.context.span_id
        found = attributes(span)
        assert (found["otelagents.run.id"], found["otelagents.phase.name"]) == ("r1", "plan")
        assert found["otelagents.agent.run.id"] == attributes(look)["otelagents.agent.run.id"]


def test_an_agent_in_a_tool_is_a_child_and_counted_once(captured: Captured) -> None:
    """The inner agent names the outer attempt as its parent; totals add up, the sum is the bill."""
    inner = Agent(answering("inner"), name="inner")
    outer = Agent(answering(calling(("ask", {})), "outer"), name="outer")

    @outer.tool
    async def ask(ctx: RunContext[None]) -> str:
        return (await inner.run("hi", usage=ctx.usage)).output

    with oa.run("shop"):
        outer.run_sync("hi")

    assert captured.tree() == (
        "invoke_workflow shop\n  invoke_agent outer\n    chat priced\n    execute_tool ask\n"
        "      invoke_agent inner\n        chat priced\n    chat priced"
    )
    above, below = captured.span("invoke_agent outer"), captured.span("invoke_agent inner")
    assert (
        attributes(below)["otelagents.agent.parent.run.id"]
        == attributes(above)["otelagents.agent.run.id"]
    )
    assert "otelagents.agent.parent.run.id" not in attributes(above)
    assert usage_sum(captured) == {"input_tokens": 300, "output_tokens": 30}
    assert roll_up(above)["input_tokens"] == 300
    assert roll_up(below)["input_tokens"] == 100
    by_agent = [captured.metric("otelagents.tokens", agent=name) for name in ("outer", "inner")]
    assert by_agent == [220, 110]
    ends = [signal for signal in captured.signals if signal.edge == "end" and signal.usage]
    assert sum(signal.usage.total_tokens for signal in ends) == 330


def test_an_agent_that_fails_in_a_tool_is_told_of_where_it_failed(captured: Captured) -> None:
    """The inner agent's error is the tool's and the outer agent's; both bills are kept."""
    error = RuntimeError("provider gone")
    inner = Agent(answering(error), name="inner")
    outer = Agent(answering(calling(("ask", {}))), name="outer")

    @outer.tool_plain
    async def ask() -> str:
        return (await inner.run("hi")).output

    with pytest.raises(RuntimeError) as raised:
        outer.run_sync("hi")

    assert raised.value is error
    assert captured.tree() == (
        "invoke_agent outer (error)\n  chat priced\n  execute_tool ask (error)\n"
        "    invoke_agent inner (error)\n      chat priced (error)"
    )
    assert roll_up(captured.span("invoke_agent outer"))["input_tokens"] == 100


def test_agents_side_by_side_do_not_mix(captured: Captured) -> None:
    """Twenty agents in tasks of one phase: each has its own calls, and ids of its own."""

    async def main() -> None:
        agents = [Agent(answering(calling(("look", {})), "done"), name=f"a{n}") for n in range(20)]
        for agent in agents:
            agent.tool_plain(name="look")(returns("seen"))
        with oa.run("shop"), oa.phase("work"):
            await asyncio.gather(*(agent.run("hi") for agent in agents))

    asyncio.run(main())

    phase = captured.span("phase work")
    for n in range(20):
        agent = captured.span(f"invoke_agent a{n}")
        assert agent.parent.span_id == phase.context.span_id
        mine = [s for s in captured.spans if s.parent and s.parent.span_id == agent.context.span_id]
        assert [span.name for span in mine] == ["chat priced", "execute_tool look", "chat priced"]
        assert {attributes(span)["otelagents.agent.run.id"] for span in mine} == {
            attributes(agent)["otelagents.agent.run.id"]
        }
    assert roll_up(phase)["requests"] == 40


def test_five_hundred_tools_leave_the_model_and_the_tokens(captured: Captured) -> None:
    """The list of tools is one bounded attribute: it evicts nothing."""
    agent = Agent(answering("done"), name="host")
    for n in range(500):
        agent.tool_plain(name=f"tool_{n}")(returns(n))
    agent.run_sync("hi")

    host, call = (
        attributes(captured.span("invoke_agent host")),
        attributes(captured.span("chat priced")),
    )
    assert host["gen_ai.request.model"] == "priced"
    assert host["otelagents.usage.total.input_tokens"] == 100
    assert len(host["otelagents.agent.tools"]) <= 500
    assert (call["gen_ai.usage.input_tokens"], call["gen_ai.response.model"]) == (100, "priced")
    assert captured.span("invoke_agent host").dropped_attributes == 0


def test_unexpected_model_behaviour_of_tools_ends_the_agent(captured: Captured) -> None:
    """A tool that exceeds its retries ends the agent with pydantic-ai's own error."""
    agent = Agent(answering(*[calling(("look", {}))] * 3), name="host")
    agent.tool_plain(name="look")(raises(ModelRetry("again")))
    with pytest.raises(UnexpectedModelBehavior):
        agent.run_sync("hi")

    assert len(named(captured, "execute_tool look")) == 2
    assert attributes(captured.span("invoke_agent host"))["error.type"].endswith(
        "UnexpectedModelBehavior"
    )


def test_the_models_call_id_stands_on_the_tool(captured: Captured) -> None:
    """`gen_ai.tool.call.id` joins the tool to the answer that asked for it."""
    answer = ModelResponse(parts=[ToolCallPart("look", {}, tool_call_id="call-7")])
    looking(returns("x"), answer, "done").run_sync("hi")

    found = attributes(captured.span("execute_tool look"))
    assert (found["gen_ai.tool.call.id"], found["gen_ai.tool.name"]) == ("call-7", "look")
    assert found["gen_ai.operation.name"] == "execute_tool"


def test_an_agents_tools_are_named(captured: Captured) -> None:
    """The agent's span lists the tools it may call."""
    agent = Agent(TestModel(call_tools=[]), name="host")
    agent.tool_plain(name="look")(returns("x"))
    agent.tool_plain(name="listen")(returns("y"))
    agent.run_sync("hi")

    found = attributes(captured.span("invoke_agent host"))
    assert found["otelagents.agent.tools"] == ("look", "listen")
