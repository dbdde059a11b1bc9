"""What the tests of pydantic-ai's instrumentation share: agents, and ways to read telemetry."""

from __future__ import annotations

import gc
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.usage import RequestUsage

from otel_agents.testing import Captured

PRICED = "priced"
"""The model that the fixture `captured` has a price for: 1 and 2 USD per million tokens."""
CALL = RequestUsage(input_tokens=100, output_tokens=10)
"""What `answering` says that each of its answers used."""
WORDS = ("one ", "and ", "two ", "make ", "three")


def answering(*answers: ModelResponse | str | Exception, name: str = PRICED) -> FunctionModel:
    """Make a model that gives these answers in turn, each at `CALL`; an exception is raised."""
    left = iter(answers)

    def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            answer = ModelResponse(parts=[TextPart(answer)])
        answer.usage = CALL
        return answer

    return FunctionModel(reply, model_name=name)


def calling(*tools: tuple[str, dict[str, Any]]) -> ModelResponse:
    """Make an answer that calls tools."""
    return ModelResponse(parts=[ToolCallPart(tool, arguments) for tool, arguments in tools])


def adder(**options: Any) -> Agent[None, str]:
    """Make an agent that calls its tool `add` and then answers, whole or streamed."""

    def reply(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if len(messages) == 1:
            return calling(("add", {"a": 1, "b": 2}))
        return ModelResponse(parts=[TextPart("".join(WORDS))])

    async def stream(
        messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        if len(messages) == 1:
            yield {0: DeltaToolCall(name="add", json_args='{"a": 1, "b": 2}')}
        else:
            for word in WORDS:
                yield word

    model = FunctionModel(reply, stream_function=stream, model_name=PRICED)
    agent = Agent(model, name="adder", **options)

    @agent.tool_plain
    def add(a: int, b: int) -> int:
        return a + b

    return agent


def speaking(**options: Any) -> Agent[None, str]:
    """Make an agent that streams five words without calling a tool."""

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        for word in WORDS:
            yield word

    return Agent(
        FunctionModel(stream_function=stream, model_name=PRICED), name="speaker", **options
    )


ADDER_TREE = """\
invoke_workflow shop
  invoke_agent adder
    chat priced
    execute_tool add
    chat priced"""


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Return a span's attributes."""
    return dict(span.attributes or {})


def current() -> str:
    """Return the name of the current span, "" outside any."""
    return getattr(trace.get_current_span(), "name", "")


def named(captured: Captured, name: str) -> list[ReadableSpan]:
    """Return the spans of a name, in the order they started."""
    return [span for span in captured.spans if span.name == name]


def usage_sum(captured: Captured) -> Counter[str]:
    """Add up `gen_ai.usage.*` over every span there is, as a naive backend does."""
    total: Counter[str] = Counter()
    for span in captured.spans:
        for key, value in attributes(span).items():
            if key.startswith("gen_ai.usage."):
                total[key.removeprefix("gen_ai.usage.")] += value
    return total


def tokens(captured: Captured) -> dict[str, float]:
    """Return the metric of tokens by type."""
    kinds = ("input", "cache_read", "cache_write", "output")
    found = {kind: captured.metric("otelagents.tokens", type=kind) for kind in kinds}
    return {kind: amount for kind, amount in found.items() if amount}


def verdicts(captured: Captured, metric: str) -> dict[str, float]:
    """Return a metric of model calls or attempts by result."""
    found: Counter[str] = Counter()
    for name, labels, value in captured.points():
        if name == f"otelagents.model.{metric}":
            found[labels["result"]] += value
    return dict(found)


def roll_up(span: ReadableSpan) -> dict[str, Any]:
    """Return a span's totals."""
    return {
        key.removeprefix("otelagents.usage.total."): value
        for key, value in attributes(span).items()
        if key.startswith("otelagents.usage.total.")
    }


@contextmanager
def clean_context(caplog: Any) -> Iterator[None]:
    """Fail if OpenTelemetry complains of a context, or a different span is current afterwards."""
    before = current()
    with caplog.at_level(logging.DEBUG, logger="opentelemetry.context"):
        yield
        gc.collect()
    records = [record for record in caplog.records if record.name == "opentelemetry.context"]
    assert records == []
    assert current() == before


def everything(captured: Captured) -> str:
    """Return all that was recorded, of spans, metrics and signals, as one text to search."""
    spans = [
        (
            span.name, attributes(span), span.status.description,
            [(event.name, dict(event.attributes or {})) for event in span.events],
            [dict(link.attributes or {}) for link in span.links],
        )
        for span in captured.spans
    ]  # fmt: skip
    return repr((spans, captured.points(), captured.signals))
