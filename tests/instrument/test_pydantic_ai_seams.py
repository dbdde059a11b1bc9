"""What is replaced, and that it is put back: twice on, off again, switched off, suppressed."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.instrumentation.utils import suppress_instrumentation
from pydantic_ai import Agent
from pydantic_ai.agent import AgentRealtime
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models import Model
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.tool_manager import ToolManager

import otel_agents as oa
from otel_agents import OtelAgentsInstrumentor, runtime
from otel_agents.instrument import pydantic_ai as instrumented
from otel_agents.instrument.seams import Seams
from otel_agents.runtime import Runtime
from otel_agents.testing import Captured, capture
from tests.instrument.kit import ADDER_TREE, CALL, adder, answering, tokens, usage_sum, verdicts

pytestmark = pytest.mark.usefixtures("thread_loop")


def classes() -> Iterator[type]:
    yield from (Agent, AgentRealtime, ToolManager, Model)
    left = [Model]
    while left:
        for child in left.pop().__subclasses__():
            left.append(child)
            yield child


def entries() -> dict[tuple[type, str], Any]:
    """Return every entry of every class that could be replaced."""
    return {(cls, name): value for cls in classes() for name, value in vars(cls).items()}


def test_uninstrument_puts_every_original_back() -> None:
    """Each entry of each class is the very object it was."""
    before = entries()
    seams = Seams()
    instrumented.install(seams)
    assert {key for key, value in entries().items() if before.get(key) is not value} >= {
        (Agent, "iter"),
        (ToolManager, "execute_tool_call"),
        (TestModel, "request"),
        (FunctionModel, "request_stream"),
    }
    seams.restore()

    assert {key for key, value in entries().items() if before.get(key) is not value} == set()
    assert before.keys() == entries().keys()


def test_classes_that_are_made_meanwhile_are_put_back_too() -> None:
    """A model class defined while instrumented has its own functions back afterwards."""

    async def request(self: Any, *args: Any, **kwargs: Any) -> ModelResponse:
        raise NotImplementedError

    plain = type("Plain", (TestModel,), {"request": request})
    seams = Seams()
    instrumented.install(seams)
    made = type("Made", (TestModel,), {"request": request})
    watched = vars(made)["request"]
    seams.restore()

    assert inspect.unwrap(vars(made)["request"]) is request
    assert vars(made)["request"] is not watched
    assert vars(plain)["request"].__code__ is vars(made)["request"].__code__


def test_what_a_class_inherits_is_inherited_again() -> None:
    """A function that was replaced where it was only inherited leaves no entry behind."""

    class Base:
        def greet(self) -> str:
            return "hi"

    class Child(Base):
        pass

    seams = Seams()
    seams.replace(Child, "greet", lambda original: lambda self: original(self) + "!")
    seams.each_new_subclass(Child, lambda cls: None)
    assert Child().greet() == "hi!"
    seams.restore()

    assert Child().greet() == "hi"
    assert {"greet", "__init_subclass__"} & vars(Child).keys() == set()


def test_a_class_that_is_made_afterwards_is_left_alone() -> None:
    """After `uninstrument` a new model class is not wrapped."""
    seams = Seams()
    instrumented.install(seams)
    seams.restore()

    async def request(self: Any, *args: Any, **kwargs: Any) -> ModelResponse:
        raise NotImplementedError

    late = type("Late", (TestModel,), {"request": request})
    assert not hasattr(vars(late)["request"], "__otelagents_original__")


def test_instrumenting_twice_counts_once(captured: Captured) -> None:
    """A second instrumentor, and a second pass over the seams, change nothing."""
    OtelAgentsInstrumentor().instrument()
    seams = Seams()
    instrumented.install(seams)
    with oa.run("shop"):
        adder().run_sync("hi")

    assert captured.tree() == ADDER_TREE
    assert verdicts(captured, "calls") == {"success": 2}
    assert tokens(captured)["input"] == usage_sum(captured)["input_tokens"]
    assert [name for name in seams.names if not name.endswith("__init_subclass__")] == []
    seams.restore()


def test_a_wrapped_function_looks_like_the_original() -> None:
    """Signatures, names and docs are those that pydantic-ai gave."""
    signature, doc = inspect.signature(Agent.iter), Agent.iter.__doc__
    with capture():
        assert inspect.signature(Agent.iter) == signature
        assert (Agent.iter.__doc__, Agent.iter.__name__) == (doc, "iter")
        assert inspect.iscoroutinefunction(TestModel.request)


def test_a_disabled_runtime_hands_out_what_pydantic_ai_made() -> None:
    """Switched off, nothing stands between the program and pydantic-ai, and nothing is kept."""
    plain = type(adder().iter("hi"))
    with capture() as captured:
        runtime.put(Runtime(disabled=True))
        block = adder().iter("hi")
        assert type(block) is plain
        assert adder().run_sync("hi").output == "one and two make three"
        assert captured.spans == []
        assert captured.signals == []


def test_a_disabled_sdk_replaces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `OTEL_SDK_DISABLED=true`, `instrument()` leaves every class as it is."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    before = entries()
    with capture() as captured:
        assert {key for key, value in entries().items() if before.get(key) is not value} == set()
        adder().run_sync("hi")
        assert captured.spans == []


def test_suppressed_instrumentation_is_honoured(captured: Captured) -> None:
    """Inside OpenTelemetry's `suppress_instrumentation` nothing is recorded."""
    with suppress_instrumentation():
        adder().run_sync("hi")

    assert captured.spans == []
    assert captured.metric("otelagents.tokens") == 0


def test_a_model_that_was_made_before_is_watched() -> None:
    """Agents and models from before `instrument()` are instrumented as well."""
    agent = adder()
    with capture() as captured:
        agent.run_sync("hi")

    assert captured.tree() == "\n".join(line[2:] for line in ADDER_TREE.splitlines()[1:])


def test_a_model_class_of_the_users_own_is_watched(captured: Captured) -> None:
    """A class that is derived from `Model` after `instrument()` is instrumented as well."""

    class Own(Model):
        @property
        def model_name(self) -> str:
            return "own"

        @property
        def system(self) -> str:
            return "in-house"

        async def request(self, messages: list[ModelMessage], *_: Any) -> ModelResponse:
            return ModelResponse(parts=[TextPart("yes")], usage=CALL)

    asyncio.run(Agent(Own(), name="host").run("hi"))

    assert captured.tree() == "invoke_agent host\n  chat own"
    assert captured.metric("otelagents.tokens", provider="in-house", model="own") == 110


def test_a_run_in_a_thread_belongs_to_where_the_thread_was_started(captured: Captured) -> None:
    """`run_sync` in a worker thread of a run is part of the run."""
    import threading

    with oa.run("shop"):
        thread = threading.Thread(
            target=lambda: asyncio.run(Agent(answering("x"), name="t").run("hi"))
        )
        thread.start()
        thread.join()

    assert captured.tree() == "invoke_workflow shop\n  invoke_agent t\n    chat priced"


def test_the_http_clients_are_put_back() -> None:
    """The transports of httpx and its successor have their own functions afterwards."""
    clients = [__import__(name) for name in ("httpx", "httpx2")]
    places = [
        (transport, name)
        for client in clients
        for transport, name in (
            (client.HTTPTransport, "handle_request"),
            (client.AsyncHTTPTransport, "handle_async_request"),
        )
    ]
    before = [vars(owner)[name] for owner, name in places]
    with capture():
        watched = [vars(owner)[name] for owner, name in places]

    assert not any(mine is theirs for mine, theirs in zip(watched, before, strict=True))
    assert [vars(owner)[name] for owner, name in places] == before
