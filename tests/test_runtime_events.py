"""Runtime events: each layer and operation tells of itself, from real runs, with what is needed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("openai")

from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.output import ToolOutput

import otel_agents as oa
from otel_agents import runtime_events
from otel_agents.boundary import boundary
from otel_agents.runtime_events import tell
from otel_agents.vocabulary import LAYERS, OPERATIONS, REASON_CODES
from tests.instrument.kit import PRICED, answering, calling
from tests.providers.answers import Answer, Failure, rate_limited
from tests.providers.clients import MODELS
from tests.providers.server import ProviderServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from otel_agents.signals import Signal
    from otel_agents.testing import Captured

Place = tuple[str, str, str]


def facts(captured: Captured) -> list[Signal]:
    return [signal for signal in captured.signals if signal.kind == "runtime"]


def place(signal: Signal) -> Place:
    found = signal.attributes
    return (
        found["otelagents.runtime.layer"],
        found["otelagents.runtime.operation"],
        found["otelagents.runtime.reason_code"],
    )


def of(captured: Captured, *wanted: str) -> list[dict[str, Any]]:
    """Return the events of a place, each as its entity and its metadata."""
    return [
        {
            key.replace("otelagents.runtime.entity.id", "entity"): value
            for key, value in signal.attributes.items()
            if key == "otelagents.runtime.entity.id" or not key.startswith("otelagents.")
        }
        for signal in facts(captured)
        if place(signal)[: len(wanted)] == wanted
    ]


# ---------------------------------------------------------------------- what produces them


def fall_back() -> None:
    """Ask a model that is overloaded, with another behind it."""
    broken = answering(ModelHTTPError(503, "big"), name="big")
    Agent(FallbackModel(broken, answering("yes")), name="asker").run_sync("hi")


def ask_twice() -> None:
    """Ask the same model again inside one agent, as a wrapper of the program's would."""
    with oa.agent("asker"):
        for _ in range(2):
            with pytest.raises(TimeoutError), oa.model("m", provider="p"):
                raise TimeoutError


def refuse_output() -> None:
    """Refuse an answer for what it says."""
    agent = Agent(answering("bad", "good"), name="picky")

    @agent.output_validator
    def judge(output: str) -> str:
        if output == "bad":
            raise ModelRetry("better")
        return output

    agent.run_sync("hi")


class Number(BaseModel):
    value: int


def answer_wrongly() -> None:
    """Answer what does not fit the schema."""
    answers = calling(("final_result", {"value": "x"})), calling(("final_result", {"value": 1}))
    Agent(answering(*answers), name="strict", output_type=ToolOutput(Number)).run_sync("hi")


def fail_tools() -> None:
    """Have a tool ask for a retry, and another fail for good."""
    retrying = Agent(answering(calling(("look", {})), calling(("look", {"x": 1})), "yes"), name="a")

    @retrying.tool_plain
    def look(x: int = 0) -> str:
        if not x:
            raise ModelRetry("with x")
        return "seen"

    retrying.run_sync("hi")
    failing = Agent(answering(calling(("burn", {}))), name="b")

    @failing.tool_plain
    def burn() -> str:
        raise OSError("no disk")

    with pytest.raises(OSError, match="no disk"):
        failing.run_sync("hi")


def loop_tools() -> None:
    """Call a tool with the same arguments seven times, and with others in between."""
    same, other = calling(("look", {"x": 1})), calling(("look", {"x": 2}))
    agent = Agent(answering(*[same, same, other, other, *[same] * 5], "yes"), name="looper")
    agent.tool_plain(name="look")(lambda x: "seen")
    agent.run_sync("hi")


def repeat_attempt() -> None:
    """Start an agent twice for one task."""
    with oa.run("shop"), oa.task("build", id="t1"):
        for _ in range(2):
            with oa.agent("coder"):
                pass


def move_tasks() -> None:
    """Take tasks through all their states."""
    for state in ("PENDING", "IN_REVIEW", "DONE", "SKIPPED", "FAILED"):
        oa.task("build", id=state, state=state).record()
    with oa.task("build", id="t1") as scope:
        scope.lease("w1", 60)


def work() -> None:
    """Start a worker, let it work and suffer, and stop it."""
    with oa.Worker("coder", interval=3600) as worker:
        with worker.working("t1"):
            pass
        worker.degraded("slow")


def trip() -> None:
    """Open, half open and close a breaker."""
    breaker = oa.Breaker("api", failures=1, reset_after=0.0)
    breaker.failure()
    assert breaker.allow()
    breaker.success()


PRODUCERS: tuple[Callable[[], None], ...] = (
    fall_back, ask_twice, refuse_output, answer_wrongly, fail_tools, loop_tools, repeat_attempt,
    move_tasks, work, trip,
)  # fmt: skip
# Codes of what only a provider over a socket, or a status of one, brings about.
ON_THE_WIRE = {"RATE_LIMITED", "SERVER_ERROR", "REFUSED", "CONNECTION"}


@pytest.fixture
def provider_server() -> Iterator[ProviderServer]:
    with ProviderServer() as server:
        yield server


@pytest.fixture
def thread_loop() -> Iterator[None]:
    """Close the event loop that `run_sync` takes from the thread and leaves open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


async def ask(server: ProviderServer) -> None:
    agent: Agent[None, str] = Agent(MODELS["chat"](server), name="asker")
    async with agent:
        await agent.run("hi")


# ---------------------------------------------------------------------- all of them


@pytest.mark.usefixtures("thread_loop")
def test_every_layer_and_operation_has_a_producer(
    captured: Captured, provider_server: ProviderServer
) -> None:
    """All are run here, and every code that they tell stands in the table with its place."""
    for produce in PRODUCERS:
        produce()
    provider_server.reply("chat", rate_limited(), Answer(text="yes"))
    asyncio.run(ask(provider_server))

    found = {place(signal) for signal in facts(captured)}
    assert {layer for layer, _, _ in found} == set(LAYERS)
    assert {operation for _, operation, _ in found} == set(OPERATIONS)
    listed = {
        (reason.layer, reason.operation, code)
        for code, reasons in REASON_CODES.items()
        for reason in reasons
    }
    assert found <= listed
    missing = {code for _, _, code in listed - found}
    assert missing == (ON_THE_WIRE - {"RATE_LIMITED"}) | {"ERROR"}
    assert all(signal.edge == "fact" and signal.trace_id != "0" * 32 for signal in facts(captured))


def test_the_table_has_words_of_row_e1_only() -> None:
    """Each reason has a known layer and operation, a meaning, and its code as its key."""
    for code, reasons in REASON_CODES.items():
        for reason in reasons:
            assert reason.code == code
            assert reason.layer in LAYERS
            assert reason.operation in OPERATIONS
            assert reason.brief.endswith(".")


# ---------------------------------------------------------------------- each


@pytest.mark.usefixtures("thread_loop")
def test_a_fallback_says_from_where_to_where_and_why(captured: Captured) -> None:
    """Models, providers and the error's class; the model that answered is the route."""
    fall_back()
    assert of(captured, "provider_runtime", "FALLBACK") == [
        {
            "entity": "big", "from_provider": "function", "from_model": "big",
            "to_provider": "function", "to_model": PRICED,
            "error": "pydantic_ai.exceptions.ModelHTTPError",
        }
    ]  # fmt: skip
    assert of(captured, "model_adapter", "CALL") == [
        {"entity": PRICED, "provider": "function", "model": PRICED, "agent": "asker"}
    ]
    assert [signal.ids.agent for signal in facts(captured)] == ["asker", "asker"]


@pytest.mark.usefixtures("thread_loop")
def test_an_answer_that_is_rejected_falls_back_too(captured: Captured) -> None:
    """A response handler that wants another model's answer; the next question is none."""

    def poor(response: ModelResponse) -> bool:
        return response.text == "poor"

    models = answering("poor", "fine", name="big"), answering(calling(("look", {})))
    agent = Agent(FallbackModel(*models, fallback_on=[poor]), name="asker")
    agent.tool_plain(name="look")(lambda: "seen")
    assert agent.run_sync("hi").output == "fine"

    events = of(captured, "provider_runtime")
    assert [(one["from_model"], one["to_model"], one["error"]) for one in events] == [
        ("big", PRICED, "rejected")
    ]


@pytest.mark.usefixtures("thread_loop")
def test_a_streamed_fallback_is_seen_too(captured: Captured) -> None:
    """The stream of the first model breaks before it brings anything."""

    async def broken(_: list[ModelMessage], __: AgentInfo) -> AsyncIterator[str]:
        raise ModelHTTPError(503, "big")
        yield ""

    async def good(_: list[ModelMessage], __: AgentInfo) -> AsyncIterator[str]:
        yield "yes"

    async def stream() -> None:
        models = [
            FunctionModel(stream_function=broken, model_name="big"),
            FunctionModel(stream_function=good, model_name=PRICED),
        ]
        agent = Agent(FallbackModel(*models), name="asker")
        async with agent.run_stream("hi") as result:
            assert await result.get_output() == "yes"

    asyncio.run(stream())
    assert [event["to_model"] for event in of(captured, "provider_runtime", "FALLBACK")] == [PRICED]


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (rate_limited(), "RATE_LIMITED"),
        (Failure(status=503, headers={"retry-after-ms": "1"}), "SERVER_ERROR"),
        (Failure(status=408, headers={"retry-after-ms": "1"}), "TIMEOUT"),
        (Failure(status=409, headers={"retry-after-ms": "1"}), "REFUSED"),
        (Answer(text="x", break_after=0), "CONNECTION"),
    ],
)
def test_a_clients_own_retry_is_seen(
    captured: Captured, provider_server: ProviderServer, failure: Any, code: str
) -> None:
    """The request that follows a failed one is the retry, with what the failed one met."""
    provider_server.reply("chat", failure, Answer(text="yes"))
    asyncio.run(ask(provider_server))

    retries = [place(signal) for signal in facts(captured) if place(signal)[1] == "RETRY"]
    assert retries == [("provider_runtime", "RETRY", code)]
    model = MODELS["chat"](provider_server).model_name
    assert of(captured, "provider_runtime", "RETRY") == [{"entity": model, "provider": "openai"}]


@pytest.mark.parametrize(
    ("produce", "code", "agent"),
    [(refuse_output, "MODEL_RETRY", "picky"), (answer_wrongly, "OUTPUT_INVALID", "strict")],
)
@pytest.mark.usefixtures("thread_loop")
def test_a_refused_answer_is_told_with_its_cause(
    captured: Captured, produce: Callable[[], None], code: str, agent: str
) -> None:
    """The schema refused it, or the program did."""
    produce()
    assert of(captured, "model_adapter", "RETRY", code) == [{"entity": PRICED, "agent": agent}]
    assert len(of(captured, "model_adapter", "RETRY")) == 1


@pytest.mark.usefixtures("thread_loop")
def test_failed_tools_are_told(captured: Captured) -> None:
    """One that the model is to call again is no failure for good."""
    fail_tools()
    assert of(captured, "tool_runtime", "TOOL_CALL", "RETRY") == [
        {"entity": "look", "error": "pydantic_ai.exceptions.ModelRetry"}
    ]
    assert of(captured, "tool_runtime", "TOOL_CALL", "FAILED") == [
        {"entity": "burn", "error": "OSError"}
    ]


def test_a_tool_by_hand_that_is_cancelled_has_not_failed(captured: Captured) -> None:
    """An error is told, a cancellation is not."""
    with pytest.raises(asyncio.CancelledError), oa.tool("look"):
        raise asyncio.CancelledError
    with pytest.raises(ValueError, match="no"), oa.tool("burn"):
        raise ValueError("no")
    assert of(captured, "tool_runtime") == [{"entity": "burn", "error": "ValueError"}]


@pytest.mark.usefixtures("thread_loop")
def test_a_tool_loop_is_told_at_the_third_and_at_each_doubling(captured: Captured) -> None:
    """Seven equal calls make two events; calls with other arguments are others."""
    loop_tools()
    assert of(captured, "tool_runtime", "TOOL_LOOP") == [
        {"entity": "look", "count": 3, "agent": "looper"},
        {"entity": "look", "count": 6, "agent": "looper"},
    ]


@pytest.mark.usefixtures("thread_loop")
def test_a_route_is_told_once(captured: Captured) -> None:
    """Once for an agent, provider and model, however often it is called; anew for another agent."""
    for name in ("one", "one", "two"):
        Agent(answering("yes"), name=name).run_sync("hi")
    assert [event["agent"] for event in of(captured, "model_adapter", "CALL")] == ["one", "two"]


def test_another_attempt_is_told_with_its_number(captured: Captured) -> None:
    """The first try of an agent at a task is none; a sub-agent called twice is none either."""
    repeat_attempt()
    with oa.run("shop"), oa.agent("boss"):
        for _ in range(2):
            with oa.agent("helper"):
                pass
    assert of(captured, "execution", "RETRY") == [{"entity": "coder", "attempt": 2}]


# ---------------------------------------------------------------------- by the program itself


def test_a_program_tells_of_its_own(captured: Captured) -> None:
    """With the ids of where it is, redacted and bounded metadata, and its own reason code."""
    with oa.run("shop", id="r1"), oa.task("build", id="t1"), oa.agent("coder", id="a1"):
        tell(
            "execution", "CALL", "SANDBOX_COLD", entity_id="box-1", persona_id="p1",
            seconds=1.5, api_key="sk-abcdefghijklmnop", reason="first", nothing=None,
            long="x" * 10_000,
        )  # fmt: skip
    signal = next(one for one in facts(captured) if place(one)[2] == "SANDBOX_COLD")
    assert (signal.ids.run_id, signal.ids.task_id, signal.ids.agent_id) == ("r1", "t1", "a1")
    assert signal.trace_id == f"{captured.span('invoke_agent coder').context.trace_id:032x}"
    assert signal.attributes["otelagents.runtime.entity.id"] == "box-1"
    assert signal.attributes["otelagents.task.persona.id"] == "p1"
    assert signal.attributes["seconds"] == 1.5
    assert signal.attributes["reason"] == "first"
    assert "sk-abc" not in signal.attributes["api_key"]
    assert "nothing" not in signal.attributes
    assert len(signal.attributes["long"]) < 10_000


def test_metadata_is_bounded(captured: Captured) -> None:
    """Of more than twenty values the rest is left away, and long codes and ids are cut."""
    many = {f"k{number}": number for number in range(100)}
    tell("worker", "CALL", "C" * 1000, entity_id="E" * 1000, **many)
    (signal,) = facts(captured)
    assert len(signal.attributes) == runtime_events.MAX_METADATA + 4
    assert len(signal.attributes["otelagents.runtime.reason_code"]) == runtime_events.MAX_TEXT
    assert len(signal.attributes["otelagents.runtime.entity.id"]) == runtime_events.MAX_TEXT


class Hostile:
    """Raises at whatever is done to it."""

    def __str__(self) -> str:
        raise RuntimeError("hostile")

    __repr__ = __str__


@pytest.mark.parametrize("layer", ["nowhere", "worker"])
def test_telling_never_raises(
    captured: Captured, monkeypatch: pytest.MonkeyPatch, layer: str
) -> None:
    """An unknown layer is reported and not told; hostile values are told as their class."""
    monkeypatch.setattr(boundary, "strict", False)
    tell(layer, "CALL", "X", entity_id=Hostile(), thing=Hostile())  # type: ignore[arg-type]
    assert len(facts(captured)) == (layer == "worker")


# ---------------------------------------------------------------------- usage by model


def test_usage_is_split_by_model(captured: Captured) -> None:
    """An agent's end has each model's part of its usage and cost, and the parts are the whole."""
    with oa.run("shop"), oa.agent("mixer"):
        with oa.model("priced", provider="a") as call:
            call.response(
                {"model": "priced", "usage": {"prompt_tokens": 10, "completion_tokens": 5}}
            )
        for _ in range(2):
            with oa.model("other", provider="b") as call:
                call.response({"usage": {"prompt_tokens": 3, "completion_tokens": 1}})
        with oa.tool("look"):
            pass

    end = next(one for one in captured.signals if (one.kind, one.edge) == ("agent", "end"))
    found = {(one.provider, one.model): one for one in end.models}
    assert set(found) == {("a", "priced"), ("b", "other")}
    assert found["a", "priced"].cost == pytest.approx(20e-6)
    assert found["a", "priced"].usage.input_tokens == 10
    assert found["b", "other"].cost is None
    assert found["b", "other"].unpriced == 8
    assert found["b", "other"].usage.requests == 2
    assert end.usage is not None
    assert end.usage.tool_calls == 1
    for field in ("input_tokens", "output_tokens", "requests"):
        parts = sum(getattr(one.usage, field) for one in end.models)
        assert parts == getattr(end.usage, field)
    run_end = next(one for one in captured.signals if (one.kind, one.edge) == ("run", "end"))
    assert run_end.models == []


def test_too_many_models_are_one_part(captured: Captured) -> None:
    """Names come from providers; of one scope fifty are told apart, and nothing is lost."""
    with oa.agent("mixer"):
        for number in range(60):
            with oa.model(f"m{number}", provider="p") as call:
                call.response({"usage": {"prompt_tokens": 1, "completion_tokens": 0}})
    end = next(one for one in captured.signals if (one.kind, one.edge) == ("agent", "end"))
    assert len(end.models) == 51
    assert sum(one.usage.input_tokens for one in end.models) == 60
