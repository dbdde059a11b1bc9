"""Beside other instrumentations of the same calls: our totals stay right, and nothing is doubled.

Each call has one bill. Whichever span reports it, the sum over all spans is what it would be
without us, and our metrics, roll-ups and signals are the provider's bill.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

pytest.importorskip("openai")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic_ai import Agent, direct
from pydantic_ai.messages import ModelRequest
from pydantic_ai.models.instrumented import InstrumentationSettings

import otel_agents as oa
from otel_agents.testing import capture
from tests.instrument.kit import attributes, named, roll_up, tokens, verdicts
from tests.instrument.peers import peers  # noqa: F401 - a fixture
from tests.providers.answers import Answer, Tokens, ToolCall
from tests.providers.clients import openai_model, openai_responses_model
from tests.providers.server import ProviderServer

BILL = Tokens(input=100, output=20, cache_read=30, reasoning=4)
INPUT_KEYS = ("gen_ai.usage.input_tokens", "llm.token_count.prompt")


def script(server: ProviderServer, route: Any) -> None:
    server.reply(
        route,
        Answer(tool_calls=(ToolCall("look", {}),), tokens=BILL),
        Answer(text="all is well", tokens=BILL),
    )


def watcher(model: Any) -> Agent[None, str]:
    agent = Agent(model, name="watcher")
    agent.tool_plain(name="look")(lambda: "seen")
    return agent


async def whole(model: Any) -> None:
    async with watcher(model) as agent:
        await agent.run("hi")


async def streamed(model: Any) -> None:
    async with watcher(model) as agent, agent.run_stream("hi") as result:
        async for _ in result.stream_text():
            pass


async def asked_directly(model: Any) -> None:
    asked = [ModelRequest.user_text_prompt("hi")]
    async with model:
        await direct.model_request(model, asked)
        await direct.model_request(model, asked)


ways = pytest.mark.parametrize(
    "way", [whole, streamed, asked_directly], ids=lambda way: way.__name__
)


@contextmanager
def native(provider: TracerProvider) -> Iterator[None]:
    """pydantic-ai's own instrumentation, content off."""
    settings = InstrumentationSettings(tracer_provider=provider, include_content=False)
    Agent.instrument_all(settings)
    try:
        yield
    finally:
        Agent.instrument_all(False)


@contextmanager
def openinference_processor(provider: TracerProvider) -> Iterator[None]:
    """OpenInference for pydantic-ai: it rewrites pydantic-ai's own spans."""
    from openinference.instrumentation.pydantic_ai import OpenInferenceSpanProcessor

    provider.add_span_processor(OpenInferenceSpanProcessor())
    with native(provider):
        yield


@contextmanager
def _instrumentor(instrumentor: Any, provider: TracerProvider) -> Iterator[None]:
    instrumentor.instrument(tracer_provider=provider, skip_dep_check=True)
    try:
        yield
    finally:
        instrumentor.uninstrument()


def openinference_client(provider: TracerProvider) -> Any:
    """OpenInference for the OpenAI client."""
    from openinference.instrumentation.openai import OpenAIInstrumentor

    return _instrumentor(OpenAIInstrumentor(), provider)


def otel_client(provider: TracerProvider) -> Any:
    """OpenTelemetry's own instrumentation of the OpenAI client."""
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    return _instrumentor(OpenAIInstrumentor(), provider)


def all_of_them(provider: TracerProvider) -> Any:
    """All that can be on together."""
    stack = ExitStack()
    for other in (openinference_processor, otel_client):
        stack.enter_context(other(provider))
    return stack


OTHERS = [native, openinference_processor, openinference_client, otel_client, all_of_them]
others = pytest.mark.parametrize("other", OTHERS, ids=lambda other: other.__name__)


def reported(spans: list[ReadableSpan]) -> int:
    """Add up the input tokens that spans report, each once, under whichever key."""
    return sum(
        next((attributes(span)[key] for key in INPUT_KEYS if key in attributes(span)), 0)
        for span in spans
    )


def without_us(
    server: ProviderServer, route: Any, other: Callable[..., Any], way: Callable[..., Any]
) -> int:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    script(server, route)
    with other(provider):
        asyncio.run(way(model_for(route)(server)))
    return reported(list(exporter.get_finished_spans()))


def model_for(route: str) -> Any:
    return {"chat": openai_model, "responses": openai_responses_model}[route]


@pytest.mark.usefixtures("peers")
@pytest.mark.parametrize("route", ["chat", "responses"])
@ways
@others
def test_totals_are_the_bill_beside_others(
    provider_server: ProviderServer, route: Any, way: Callable[..., Any], other: Callable[..., Any]
) -> None:
    """Metrics, roll-ups and signals are the bill; the sum over spans is not raised by us."""
    alone = without_us(provider_server, route, other, way)
    provider_server.bills.clear()
    script(provider_server, route)
    with capture() as captured, other(captured.tracer_provider), oa.run("shop"):
        asyncio.run(way(model_for(route)(provider_server)))

    bill = provider_server.billed
    assert tokens(captured) == {
        "input": bill.fresh, "cache_read": bill.cache_read, "output": bill.output,
    }  # fmt: skip
    totals = roll_up(captured.span("invoke_workflow shop"))
    assert (totals["input_tokens"], totals["output_tokens"]) == (bill.input, bill.output)
    assert (totals["reasoning_tokens"], totals["requests"]) == (bill.reasoning, 2)
    assert verdicts(captured, "calls") == {"success": 2}
    told = [signal.usage for signal in captured.signals if signal.edge == "end" and signal.usage]
    assert sum(usage.input_tokens for usage in told) == bill.input
    assert reported(captured.spans) == (alone or bill.input)


@pytest.mark.usefixtures("peers")
@ways
@others
def test_spans_of_others_are_part_of_the_run(
    provider_server: ProviderServer, way: Callable[..., Any], other: Callable[..., Any]
) -> None:
    """Their spans carry the ids of the run and are in its trace."""
    script(provider_server, "chat")
    with capture() as captured, other(captured.tracer_provider), oa.run("shop", id="r1"):
        asyncio.run(way(openai_model(provider_server)))

    foreign = [span for span in captured.spans if span.instrumentation_scope.name != "otelagents"]
    assert foreign
    assert {attributes(span)["otelagents.run.id"] for span in captured.spans} == {"r1"}
    assert len({span.context.trace_id for span in captured.spans}) == 1


def test_the_span_that_yields_says_to_whom(provider_server: ProviderServer) -> None:
    """Our call names the instrumentation that reports its usage instead, and has no usage."""
    script(provider_server, "chat")
    with capture() as captured, native(captured.tracer_provider):
        asyncio.run(whole(openai_model(provider_server)))

    ours = [
        attributes(span)
        for span in named(captured, "chat gpt-4o")
        if span.instrumentation_scope.name == "otelagents"
    ]
    assert [call["otelagents.usage.covered_by"] for call in ours] == ["pydantic-ai"] * 2
    assert not any(key.startswith("gen_ai.usage.") for call in ours for key in call)
