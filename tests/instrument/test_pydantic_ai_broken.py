"""Telemetry that is broken, wherever: the host's results and exceptions stay as they are.

Every function of ours that runs on the way is made to raise, one at a time. What is left out are
the functions whose only work is to catch: they are what the others rely on.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import Meter, MeterProvider
from opentelemetry.sdk.trace import Span, Tracer
from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelRequest
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.function import AgentInfo, FunctionModel

import otel_agents as oa
from otel_agents.boundary import boundary
from otel_agents.testing import Captured, capture
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
    "context", "details", "failures", "instrument.content", "instrument.pydantic_ai_agents",
    "instrument.pydantic_ai_models", "instrument.pydantic_ai_tools", "location", "measures",
    "metrics", "model_call", "pipeline", "runtime", "scope", "signals", "spans", "stamping",
    "tally",
    "telling", "usage.plan", "usage.prices", "usage.pydantic_ai", "usage.reading", "usage.record",
    "values",
]  # fmt: skip
# These stand in the place of the host's own functions, or only pass on to others that catch.
CATCHING = {
    "_AgentContext.__init__", "_AgentContext.__aenter__", "_AgentContext.__aexit__",
    "_AgentContext.__del__", "_ask",
    "_end_agent", "_end_tool", "_fail", "_judge_result", "_keep_answer", "_keep_request",
    "_left_early", "_note_chunk", "_open_agent", "_open_call", "_open_tool", "_parameters",
    "_remember", "_StreamContext.__init__", "_StreamContext.__aenter__",
    "_StreamContext.__aexit__", "_StreamContext._finish", "_StreamContext._watch",
    "_take_answer", "_timed_out", "watching",
    "Scope.__init__", "Scope._reset", "Scope.__enter__", "Scope.__exit__", "Scope.start",
    "Scope.attach", "Scope.detach", "Scope.end",
}  # fmt: skip
LIBRARIES = [
    (Tracer, "start_span"), (Span, "set_status"), (Span, "end"),
    (MeterProvider, "get_meter"), (Meter, "create_observable_counter"),
    (Meter, "create_histogram"),
]  # fmt: skip


def own_functions(short: str) -> Iterator[tuple[str, list[tuple[Any, str]]]]:
    """Yield each function and method of a module, with every place where it can be looked up."""
    module = importlib.import_module(f"otel_agents.{short}")
    loaded = [value for name, value in list(sys.modules.items()) if name.startswith("otel_agents")]
    for name, value in list(vars(module).items()):
        if getattr(value, "__module__", "") != module.__name__:
            continue
        if inspect.isfunction(value):
            places = [
                (other, key)
                for other in loaded
                for key, there in list(vars(other).items())
                if there is value
            ]
            yield name, places
        elif inspect.isclass(value):
            for method, entry in list(vars(value).items()):
                if inspect.isfunction(entry):
                    yield f"{name}.{method}", [(value, method)]


@contextlib.contextmanager
def broken(label: str, places: list[tuple[Any, str]], hit: set[str]) -> Iterator[None]:
    """Make a function raise wherever it is looked up."""

    def breaks(*_args: Any, **_kwargs: Any) -> Any:
        hit.add(label)
        raise Broken(label)

    originals = [(owner, name, vars(owner)[name]) for owner, name in places]
    for owner, name in places:
        setattr(owner, name, breaks)
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


@pytest.fixture
def tolerant(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Let failures of ours be swallowed, as in a user's program."""
    monkeypatch.setattr(boundary, "strict", False)


@pytest.fixture(scope="module")
def expected() -> list[Any]:
    """Run the programs without any telemetry."""
    return [outcome(program) for program in PROGRAMS]


def differences(
    functions: Iterator[tuple[str, list[tuple[Any, str]]]], expected: list[Any], hit: set[str]
) -> dict[str, list[str]]:
    """Break each function in turn and return which programs then end differently."""
    found: dict[str, list[str]] = {}
    for label, places in functions:
        with capture(prices={PRICED: {"input": 1.0, "output": 2.0}}, content=True):
            with broken(label, places, hit):
                ended = [outcome(in_scopes(program)) for program in PROGRAMS]
        different = [
            program.__name__
            for program, mine, theirs in zip(PROGRAMS, ended, expected, strict=True)
            if mine != theirs
        ]
        if different:
            found[label] = different
    return found


# A thread of ours that dies of it is ours alone.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.usefixtures("tolerant")
@pytest.mark.parametrize("module", MODULES)
def test_the_host_does_not_notice_that_we_are_broken(module: str, expected: list[Any]) -> None:
    """Whichever function of ours raises, results and exceptions are those of an unwatched run."""
    functions = (
        (label, places) for label, places in own_functions(module) if label not in CATCHING
    )

    assert differences(functions, expected, set()) == {}


@pytest.mark.usefixtures("tolerant")
def test_the_host_does_not_notice_that_the_sdk_is_broken(expected: list[Any]) -> None:
    """A tracer, span or meter that raises changes nothing for the host."""
    hit: set[str] = set()
    functions = ((f"{owner.__name__}.{name}", [(owner, name)]) for owner, name in LIBRARIES)

    assert differences(functions, expected, hit) == {}
    assert hit == {f"{owner.__name__}.{name}" for owner, name in LIBRARIES}


@pytest.mark.usefixtures("tolerant")
def test_what_is_broken_here_does_run(expected: list[Any]) -> None:
    """The functions that matter most are among those that were reached and made to raise."""
    wanted = {
        "metrics": {"Metrics.add", "Metrics.record"},
        "pipeline": {"Pipeline.emit"},
        "usage.prices": {"Prices.cost"},
        "usage.pydantic_ai": {"from_pydantic_ai"},
        "runtime": {"get"},
        "context": {"enter", "leave"},
    }
    hit: set[str] = set()
    for module, names in wanted.items():
        functions = (found for found in own_functions(module) if found[0] in names)
        differences(functions, expected, hit)

    assert hit == set().union(*wanted.values())


def test_a_failure_of_ours_is_counted_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, captured: Captured
) -> None:
    """What broke is logged, once a minute for each place, and the rest is still recorded."""
    monkeypatch.setattr(boundary, "strict", False)
    monkeypatch.setattr(boundary, "_logged", {})
    monkeypatch.setattr(captured.runtime, "prices", None)
    monkeypatch.setattr(type(captured.runtime.metrics), "record", _raise)
    for _ in range(3):
        asyncio.run(runs_well())

    assert len(captured.spans) == 3 * 4
    said = [record.getMessage() for record in caplog.records if record.name == "otel_agents"]
    assert len(said) == len(set(said)) > 0
    assert all("Broken" in message for message in said)


def _raise(*_args: Any, **_kwargs: Any) -> None:
    raise Broken


def test_an_exception_keeps_its_identity_and_its_cause(captured: Captured) -> None:
    """The very object that the host raised comes out, with its cause, context and notes."""
    error, cause = LookupError("x"), ValueError("y")
    error.add_note("from the host")

    async def look() -> str:
        raise error from cause

    agent = Agent(answering(calling(("look", {}))), name="host")
    agent.tool_plain(look)
    with pytest.raises(LookupError) as raised:
        agent.run_sync("hi")

    assert raised.value is error
    assert raised.value.__cause__ is cause
    assert raised.value.__notes__ == ["from the host"]
    assert raised.value.args == ("x",)


def test_a_result_is_the_very_object(captured: Captured) -> None:
    """A model's answer and a tool's result are handed on, not copied."""
    answer, thing = calling(("look", {})), {"found": 7}
    returned = []
    agent = Agent(answering(answer, "done"), name="host")

    @agent.tool_plain
    def look() -> Any:
        return thing

    async def main() -> None:
        asked = [ModelRequest.user_text_prompt("hi")]
        model = answering(answer)
        returned.append(await model.request(asked, None, ModelRequestParameters()))
        async with agent.iter("hi") as run:
            async for node in run:
                if Agent.is_model_request_node(node):
                    returned.extend(getattr(part, "content", None) for part in node.request.parts)

    asyncio.run(main())

    assert returned[0] is answer
    assert any(value is thing for value in returned)
