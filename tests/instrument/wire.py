"""What the tests over real sockets share: bills, prices, and an agent that asks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("anthropic")
pytest.importorskip("google.genai")
pytest.importorskip("openai")

from genai_prices import Usage as PricedUsage
from genai_prices import calc_price
from pydantic_ai import Agent

import otel_agents as oa
from tests.providers.answers import Tokens
from tests.providers.clients import MODELS
from tests.providers.server import ProviderServer, Route

# Small enough for pydantic-ai to ask Anthropic for a whole answer; it streams larger ones itself.
WHOLE: Any = {"max_tokens": 1000}
routes = pytest.mark.parametrize("route", list(MODELS))
# The clients that repeat a refused request by themselves.
repeating = pytest.mark.parametrize("route", ["chat", "responses", "messages"])
streaming = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
PROVIDERS = {
    "chat": "openai", "responses": "openai", "messages": "anthropic", "gemini": "gcp.gemini",
}  # fmt: skip


def bill_for(route: Route) -> Tokens:
    """Return a bill with everything on it that the provider has."""
    return Tokens(
        input=1234, output=210, cache_read=300,
        cache_write=0 if route == "gemini" else 70, reasoning=40,
    )  # fmt: skip


def price(route: Route, model: str, bill: Tokens) -> float:
    """Return what genai-prices says that a bill costs, in USD."""
    used = PricedUsage(
        input_tokens=bill.input,
        output_tokens=bill.output,
        cache_read_tokens=bill.cache_read,
        cache_write_tokens=bill.cache_write,
    )
    provider = {"gcp.gemini": "google"}.get(PROVIDERS[route], PROVIDERS[route])
    return float(calc_price(used, model, provider_id=provider).total_price)


def asker(server: ProviderServer, route: Route) -> Agent[None, str]:
    agent = Agent(MODELS[route](server), name="asker", model_settings=WHOLE)
    agent.tool_plain(name="look")(lambda: "seen")
    return agent


async def ask(agent: Agent[None, str], *, streamed: bool) -> None:
    async with agent:
        if not streamed:
            await agent.run("hi")
            return
        async with agent.run_stream("hi") as result:
            async for _ in result.stream_text():
                pass


def run(server: ProviderServer, route: Route, *, streamed: bool) -> None:
    with oa.run("shop"):
        asyncio.run(ask(asker(server, route), streamed=streamed))
