"""pydantic-ai's deferred tool calls and approvals: waits that nobody had to ask for."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode
from pydantic_ai import (
    Agent,
    CallDeferred,
    DeferredToolRequests,
    DeferredToolResults,
    ToolDenied,
)
from pydantic_ai.capabilities import HandleDeferredToolCalls
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

import otel_agents as oa
from otel_agents.answers import Answer, answer_to
from otel_agents.instrument.pydantic_ai_deferred import scope_id_of
from otel_agents.signals import Signal
from otel_agents.state.run import fold
from otel_agents.state.view import view
from otel_agents.testing import Captured, capture
from otel_agents.vocabulary import ANSWERED_BY, DECISION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

CALLS = {"deploy": "call-deploy", "ask": "call-ask"}


@pytest.fixture(autouse=True)
def _thread_loop() -> Iterator[None]:
    """Close the event loop that `run_sync` takes from the thread and leaves open."""
    forget_waits()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


def agent_of(*tools: str, **options: Any) -> Agent[None, Any]:
    """Make an agent that calls these tools at once and says `done` when it has their results."""

    def over(messages: list[ModelMessage]) -> bool:
        return any(part.part_kind == "tool-return" for part in messages[-1].parts)

    def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if over(messages):
            return ModelResponse(parts=[TextPart("done")])
        calls = [ToolCallPart(tool, {}, tool_call_id=CALLS[tool]) for tool in tools]
        return ModelResponse(parts=calls)

    async def stream(
        messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        if over(messages):
            yield "done"
            return
        for number, tool in enumerate(tools):
            yield {number: DeltaToolCall(tool, "{}", tool_call_id=CALLS[tool])}

    options.setdefault("output_type", [str, DeferredToolRequests])
    model = FunctionModel(reply, stream_function=stream, model_name="priced")
    agent: Agent[None, Any] = Agent(model, name="ops", **options)

    @agent.tool_plain(requires_approval=True)
    def deploy() -> str:
        return "deployed"

    @agent.tool_plain
    def ask() -> str:
        raise CallDeferred

    return agent


def of(captured: Captured, edge: str, kind: str = "human") -> list[Signal]:
    return [one for one in captured.signals if (one.kind, one.edge) == (kind, edge)]


def attributes(captured: Captured, name: str) -> dict[str, Any]:
    return dict(captured.span(name).attributes or {})


def read(captured: Captured, run_id: str | None = None) -> dict[str, Any]:
    """Return the view of the only run, or of one."""
    runs = fold(captured.signals).by_id
    assert run_id or len(runs) == 1
    run = runs[run_id or next(iter(runs))]
    return view(run, now=time.time_ns(), alive=lambda *_: True)


# ---------------------------------------------------------------------- in one process


@pytest.mark.parametrize(
    ("given", "decision"),
    [
        (True, "approved"), (False, "rejected"), (ToolDenied("not today"), "rejected"),
    ],
)  # fmt: skip
def test_a_call_that_needs_approval_waits_until_it_is_given(
    captured: Captured, given: Any, decision: str
) -> None:
    """One wait with the call's id, over the whole time, in one trace; a denial is no error."""
    agent = agent_of("deploy")
    with oa.run("shop", id="r-1"):
        first = agent.run_sync("go")
        assert read(captured)["status"] == "waiting"
        (wait,) = read(captured)["waits"]
        assert (wait["id"], wait["tool"], wait["agent"]) == ("call-deploy", "deploy", "ops")
        results = DeferredToolResults(approvals={"call-deploy": given})
        agent.run_sync(message_history=first.all_messages(), deferred_tool_results=results)
        assert read(captured)["status"] == "running"

    found = attributes(captured, "human approve deploy")
    assert found["otelagents.human.id"] == found["otelagents.human.tool.call.id"] == "call-deploy"
    assert found["otelagents.human.decision"] == decision
    assert "otelagents.human.answer" not in found  # content is not captured
    assert {span.status.status_code for span in captured.spans} == {StatusCode.UNSET}
    assert len({span.context.trace_id for span in captured.spans if span.context}) == 1
    asker, resumed = (span for span in captured.spans if span.name == "invoke_agent ops")
    wait_span = captured.span("human approve deploy")
    assert asker.end_time is not None
    assert wait_span.start_time is not None
    assert asker.end_time <= wait_span.start_time + 50_000  # by two clocks
    assert [link.context for link in resumed.links] == [wait_span.context]
    assert "otelagents.wait.seconds" not in (asker.attributes or {})
    assert attributes(captured, "invoke_workflow shop")["otelagents.wait.seconds"] > 0
    assert captured.metric("otelagents.hitl.escalations", workflow="shop") == 1
    assert captured.metric("otelagents.hitl.waiting", workflow="shop") == 0
    assert captured.metric("otelagents.agent.wait.duration") == 0
    assert read(captured)["status"] == "succeeded"


def test_a_call_that_is_put_off_is_answered() -> None:
    """Whatever its result is; the text is kept where content is."""
    agent = agent_of("ask", "deploy")
    with capture(content=True) as captured, oa.run("shop"):
        first = agent.run_sync("go")
        results = DeferredToolResults(approvals={"call-deploy": True}, calls={"call-ask": "blue"})
        agent.run_sync(message_history=first.all_messages(), deferred_tool_results=results)

    assert len(of(captured, "start")) == len(of(captured, "end")) == 2
    found = attributes(captured, "human answer ask")
    assert found["otelagents.human.decision"] == "answered"
    assert found["otelagents.human.answer"] == "blue"


async def _run(agent: Agent[None, Any], **given: Any) -> Any:
    return (await agent.run(**given)).all_messages()


async def _iter(agent: Agent[None, Any], **given: Any) -> Any:
    async with agent.iter(**given) as run:
        async for _ in run:
            pass
    assert run.result is not None
    return run.result.all_messages()


async def _stream(agent: Agent[None, Any], **given: Any) -> Any:
    async with agent.run_stream(**given) as result:
        await result.get_output()
    return result.all_messages()


async def _events(agent: Agent[None, Any], **given: Any) -> Any:
    async with agent.run_stream_events(**given) as events:
        found = [event async for event in events]
    return found[-1].result.all_messages()  # type: ignore[union-attr]


@pytest.mark.parametrize("way", [_run, _iter, _stream, _events])
def test_every_way_to_run_an_agent_waits(captured: Captured, way: Callable[..., Any]) -> None:
    """Whole, step by step, streamed, as events."""
    agent = agent_of("deploy")

    async def main() -> None:
        with oa.run("shop"):
            history = await way(agent, user_prompt="go")
            results = DeferredToolResults(approvals={"call-deploy": True})
            await way(agent, message_history=history, deferred_tool_results=results)

    asyncio.run(main())
    assert [signal.attributes["otelagents.human.id"] for signal in of(captured, "start")] == [
        "call-deploy"
    ]
    (end,) = of(captured, "end")
    assert end.attributes["otelagents.human.decision"] == "approved"
    assert {one.result for one in of(captured, "end", "agent")} == {"success"}


def test_an_agent_outside_any_run_goes_on_in_its_trace(captured: Captured) -> None:
    """It is one run, which waits in between, though its agent has ended."""
    agent = agent_of("deploy")
    first = agent.run_sync("go")
    assert read(captured)["status"] == "waiting"
    assert read(captured)["percent"] is None
    results = DeferredToolResults(approvals={"call-deploy": True})
    agent.run_sync(message_history=first.all_messages(), deferred_tool_results=results)

    found = read(captured)
    assert found["status"] == "succeeded"
    assert [one["parent_id"] for one in found["agents"]["items"]] == [None, None]
    assert len({span.context.trace_id for span in captured.spans if span.context}) == 1


def test_what_goes_on_inside_a_span_of_the_programs_stays_there(captured: Captured) -> None:
    """Such as that of another request: the ids are the run's, and a link leads to the wait."""
    agent = agent_of("deploy")
    first = agent.run_sync("go")
    results = DeferredToolResults(approvals={"call-deploy": True})
    tracer = captured.tracer_provider.get_tracer("host")
    with trace.use_span(tracer.start_span("POST /approve"), end_on_exit=True):
        agent.run_sync(message_history=first.all_messages(), deferred_tool_results=results)

    request, wait = captured.span("POST /approve"), captured.span("human approve deploy")
    asker, resumed = (span for span in captured.spans if span.name == "invoke_agent ops")
    assert resumed.parent is not None
    assert request.context is not None
    assert resumed.parent.span_id == request.context.span_id
    assert [link.context for link in resumed.links] == [wait.context]
    key = "otelagents.run.id"
    assert (resumed.attributes or {})[key] == (asker.attributes or {})[key]


def test_a_run_that_ended_goes_on_waiting(captured: Captured) -> None:
    """Its span is closed and unset; it is over when a resumed run has closed the wait and ends."""
    agent = agent_of("deploy")
    with oa.run("shop", id="r-1"):
        first = agent.run_sync("go")
    assert captured.span("invoke_workflow shop").status.status_code is StatusCode.UNSET
    waiting = read(captured)
    assert (waiting["status"], [one["id"] for one in waiting["waits"]]) == (
        "waiting", ["call-deploy"],
    )  # fmt: skip
    results = DeferredToolResults(approvals={"call-deploy": False})
    with oa.run("shop", id="r-1"):
        assert read(captured)["status"] == "running"
        agent.run_sync(message_history=first.all_messages(), deferred_tool_results=results)
    found = read(captured)
    assert (found["status"], found["waits"]) == ("succeeded", [])
    second = [span for span in captured.spans if span.name == "invoke_workflow shop"][1]
    wait = captured.span("human approve deploy")
    assert [link.context for link in second.links] == [wait.context]


def test_a_call_that_was_answered_waits_to_be_taken_and_for_nobody() -> None:
    """The program asks for the answer by the call's id; until then readers say that it is there."""
    answer = Answer("call-deploy", "approved", "on Monday", "cli", time.time_ns())

    class Place:
        said: Answer | None = None

        def poll(self, wait_id: str) -> Answer | None:
            return self.said if wait_id == "call-deploy" else None

    place = Place()
    with capture(answers=place) as captured:
        with oa.run("shop", id="r-1"):
            agent_of("deploy").run_sync("go")
        assert answer_to("call-deploy") is None
        place.said = answer
        assert answer_to("call-deploy") == answer
        (asked,) = of(captured, "start")
    said = {DECISION.key: "approved", ANSWERED_BY.key: "cli"}
    fact = Signal(
        id="zz", kind="human", edge="fact", name="human.answered", time=time.time_ns(),
        scope_id=asked.scope_id, ids=asked.ids, attributes=said,
    )  # fmt: skip
    late = msgspec.structs.replace(
        fact, id="aa", time=fact.time + 1, attributes={DECISION.key: "rejected"}
    )
    for order in ([*captured.signals, fact, late], [late, fact, *captured.signals]):
        run = fold(order).by_id["r-1"]
        found = view(run, now=time.time_ns(), alive=lambda *_: True)
        assert found["status"] == "waiting"
        assert [one["decision"] for one in found["waits"]] == ["approved"]


def test_without_a_place_there_is_no_answer(captured: Captured) -> None:
    """Nothing is raised, and nothing waited for."""
    assert captured.runtime.answers is None
    assert answer_to("call-deploy") is None


def test_a_run_that_failed_waits_no_more(captured: Captured) -> None:
    """Whatever its agents had put off."""
    with pytest.raises(ValueError, match="no"), oa.run("shop"):
        agent_of("deploy").run_sync("go")
        message = "no"
        raise ValueError(message)
    found = read(captured)
    assert (found["status"], found["waits"]) == ("failed", [])


def test_a_resumed_run_does_not_wait_for_what_was_asked_before(captured: Captured) -> None:
    """It was resumed in another way: nobody will give these results any more."""
    with oa.run("shop", id="r-1"):
        agent_of("deploy").run_sync("go")
    with oa.run("shop", id="r-1"):
        assert read(captured)["status"] == "running"
    assert read(captured)["status"] == "succeeded"


def test_agents_of_several_runs_may_wait_for_calls_of_one_id(captured: Captured) -> None:
    """Models of tests make the same ids; each run closes its own."""
    agent = agent_of("deploy")
    histories = {}
    for run_id in ("r-1", "r-2"):
        with oa.run("shop", id=run_id):
            histories[run_id] = agent.run_sync("go").all_messages()
    for run_id in ("r-1", "r-2"):
        results = DeferredToolResults(approvals={"call-deploy": run_id == "r-1"})
        with oa.run("shop", id=run_id):
            agent.run_sync(message_history=histories[run_id], deferred_tool_results=results)
    assert {
        (one.ids.run_id, one.attributes["otelagents.human.decision"]) for one in of(captured, "end")
    } == {("r-1", "approved"), ("r-2", "rejected")}


# ---------------------------------------------------------------------- handlers in the run


def test_a_handler_in_the_run_is_waited_for(captured: Captured) -> None:
    """The wait is its time, and a part of the agent's."""

    async def handler(_: Any, requests: DeferredToolRequests) -> DeferredToolResults:
        assert read(captured)["status"] == "waiting"
        await asyncio.sleep(0)
        return requests.build_results(approve_all=True, calls={"call-ask": 4})

    agent = agent_of(
        "deploy", "ask", output_type=str, capabilities=[HandleDeferredToolCalls(handler)]
    )
    with oa.run("shop"):
        assert agent.run_sync("go").output == "done"

    assert {
        (one.name, one.attributes["otelagents.human.decision"]) for one in of(captured, "end")
    } == {("approve deploy", "approved"), ("answer ask", "answered")}
    assert attributes(captured, "invoke_agent ops")["otelagents.wait.seconds"] > 0
    assert captured.metric("otelagents.hitl.escalations") == 2
    assert captured.metric("otelagents.agent.wait.duration", agent="ops") == 1
    assert read(captured)["status"] == "succeeded"


def test_what_a_handler_leaves_to_others_is_asked_once(captured: Captured) -> None:
    """It was waited for in the run, and goes on to be when the agent has ended with it."""

    def handler(_: Any, requests: DeferredToolRequests) -> DeferredToolResults:
        return requests.build_results(approvals={"call-deploy": True})

    agent = agent_of("deploy", "ask", capabilities=[HandleDeferredToolCalls(handler)])
    with oa.run("shop"):
        result = agent.run_sync("go")
        assert isinstance(result.output, DeferredToolRequests)
        assert [one["id"] for one in read(captured)["waits"]] == ["call-ask"]
        results = DeferredToolResults(calls={"call-ask": 1})
        agent.run_sync(message_history=result.all_messages(), deferred_tool_results=results)
    assert captured.metric("otelagents.hitl.escalations") == 2
    assert len(of(captured, "end")) == 2


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(ValueError("no"), "error"), (asyncio.CancelledError(), "cancellation")],
)
def test_a_handler_that_fails_ends_its_waits(
    captured: Captured, error: BaseException, outcome: str
) -> None:
    """With what it failed with; cancelled, they are no error."""

    async def handler(_: Any, __: DeferredToolRequests) -> DeferredToolResults:
        raise error

    agent = agent_of("deploy", capabilities=[HandleDeferredToolCalls(handler)])
    with pytest.raises(type(error)):
        asyncio.run(agent.run("go"))
    (end,) = of(captured, "end")
    assert end.result == outcome
    wrong = captured.span("human approve deploy").status.status_code is StatusCode.ERROR
    assert wrong is (outcome == "error")


def test_waits_end_with_an_agent_that_may_not_end_with_them(captured: Captured) -> None:
    """Nobody will be able to give their results: it was given no such output."""

    def handler(_: Any, __: DeferredToolRequests) -> None:
        return None

    agent = agent_of("deploy", output_type=str, capabilities=[HandleDeferredToolCalls(handler)])
    with pytest.raises(UserError):
        agent.run_sync("go")
    assert len(of(captured, "start")) == len(of(captured, "end")) == 1
    assert captured.metric("otelagents.hitl.waiting") == 0


def test_without_a_handler_nothing_waits_in_the_run(captured: Captured) -> None:
    """The agent ends, and has not waited."""
    with pytest.raises(UserError):
        agent_of("deploy", output_type=str).run_sync("go")
    assert of(captured, "start") == []


# ---------------------------------------------------------------------- elsewhere


def test_another_process_closes_the_wait_of_its_run(captured: Captured) -> None:
    """It knows the wait by the run and the call, and tells of its end."""
    agent = agent_of("deploy")
    with oa.run("shop", id="r-1"):
        first = agent.run_sync("go")
    before = captured.signals
    with capture() as other, oa.run("shop", id="r-1"):
        forget_waits()
        results = DeferredToolResults(approvals={"call-deploy": True})
        agent.run_sync(message_history=first.all_messages(), deferred_tool_results=results)
    (end,) = of(other, "end")
    assert end.scope_id == scope_id_of("r-1", "call-deploy")
    assert end.attributes["otelagents.human.decision"] == "approved"

    run = fold([*before, *other.signals]).by_id["r-1"]
    found = view(run, now=time.time_ns(), alive=lambda *_: True)
    assert (found["status"], found["waits"]) == ("succeeded", [])


def forget_waits() -> None:
    """Be another process, which knows nothing of what this one left open."""
    from otel_agents.instrument import pydantic_ai_deferred

    pydantic_ai_deferred._pending.reset()
