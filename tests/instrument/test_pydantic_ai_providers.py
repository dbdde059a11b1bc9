"""The providers' real clients over real sockets: usage and money are the bill's."""

from __future__ import annotations

import asyncio

import pytest

import otel_agents as oa
from otel_agents.testing import Captured
from tests.instrument.kit import attributes, named, tokens, usage_sum, verdicts
from tests.instrument.wire import (
    MODELS,
    PROVIDERS,
    ProviderServer,
    Route,
    ask,
    asker,
    bill_for,
    price,
    routes,
    run,
    streaming,
)
from tests.providers.answers import Answer, ToolCall, rate_limited


@routes
@streaming
def test_usage_and_money_are_the_bills(
    captured: Captured, provider_server: ProviderServer, route: Route, streamed: bool
) -> None:
    """Tokens of each kind and the cost, to the micro-dollar, of two calls with a tool between."""
    bill = bill_for(route)
    provider_server.reply(
        route,
        Answer(tool_calls=(ToolCall("look", {}),), tokens=bill),
        Answer(reasoning="hm", text="all is well", tokens=bill),
    )
    run(provider_server, route, streamed=streamed)

    billed = provider_server.billed
    assert usage_sum(captured) == {
        key: amount
        for key, amount in {
            "input_tokens": billed.input,
            "output_tokens": billed.output,
            "cache_read.input_tokens": billed.cache_read,
            "cache_write.input_tokens": billed.cache_write,
            "reasoning.output_tokens": billed.reasoning,
        }.items()
        if amount
    }
    assert tokens(captured) == {
        key: amount
        for key, amount in {
            "input": billed.fresh,
            "cache_read": billed.cache_read,
            "cache_write": billed.cache_write,
            "output": billed.output,
        }.items()
        if amount
    }
    model = MODELS[route](provider_server).model_name
    cost = 2 * price(route, model, bill)
    assert cost > 0
    assert captured.metric("otelagents.cost") == pytest.approx(cost, abs=1e-9)
    for name in ("invoke_workflow shop", "invoke_agent asker"):
        found = attributes(captured.span(name))
        assert found["otelagents.cost.total"] == pytest.approx(cost, abs=1e-9)
        assert found["otelagents.usage.complete"] is True
        assert "otelagents.usage.unpriced_tokens" not in found
    assert captured.metric("otelagents.tokens.unpriced") == 0


@routes
@streaming
def test_an_answer_is_named(
    captured: Captured, provider_server: ProviderServer, route: Route, streamed: bool
) -> None:
    """Provider, model, the answer's id and why it ended stand on the call."""
    provider_server.reply(route, Answer(text="all is well"))
    run(provider_server, route, streamed=streamed)

    model = MODELS[route](provider_server).model_name
    found = attributes(captured.span(f"chat {model}"))
    assert found["gen_ai.provider.name"] == PROVIDERS[route]
    assert found["gen_ai.request.model"] == found["gen_ai.response.model"] == model
    assert found["gen_ai.response.finish_reasons"] == ("stop",)
    assert "local" in found["gen_ai.response.id"]
    assert ("gen_ai.response.time_to_first_chunk" in found) is streamed


@pytest.mark.parametrize("route", ["chat", "responses", "gemini"])  # Anthropic's refuses it
@streaming
def test_an_answer_without_usage_is_incomplete(
    captured: Captured, provider_server: ProviderServer, route: Route, streamed: bool
) -> None:
    """A provider that says nothing of its usage: absent, not zero, and no price."""
    provider_server.reply(route, Answer(text="all is well", with_usage=False))
    run(provider_server, route, streamed=streamed)

    agent = attributes(captured.span("invoke_agent asker"))
    assert agent["otelagents.usage.complete"] is False
    assert "otelagents.usage.total.input_tokens" not in agent
    assert usage_sum(captured) == {}
    assert captured.metric("otelagents.tokens") == 0


def test_many_calls_at_once_add_up(captured: Captured, provider_server: ProviderServer) -> None:
    """Forty agents on four kinds of client, some refused first: the sums are the bill."""
    for route in MODELS:
        bill = bill_for(route)
        if route != "gemini":
            provider_server.reply(route, *[rate_limited()] * 3)
        provider_server.always(route, Answer(text="all is well", tokens=bill))

    async def main() -> None:
        with oa.run("shop"):
            await asyncio.gather(
                *(
                    ask(asker(provider_server, route), streamed=number % 2 == 0)
                    for route in MODELS
                    for number in range(10)
                )
            )

    asyncio.run(main())

    billed = provider_server.billed
    assert usage_sum(captured)["input_tokens"] == billed.input
    assert usage_sum(captured)["output_tokens"] == billed.output
    assert sum(tokens(captured).values()) == billed.input + billed.output
    assert verdicts(captured, "calls") == {"success": 40}
    assert verdicts(captured, "attempts") == {"error": 9, "success": 40}
    assert len(named(captured, "invoke_agent asker")) == 40
