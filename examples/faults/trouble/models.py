"""Trouble with models: refused, late, wrong, unknown, dear, over a budget, and streamed."""

import asyncio

from pydantic_ai import ModelRetry
from pydantic_ai.usage import RequestUsage

from otel_agents import Budget, phase, run
from trouble.offline import (
    PRICED,
    UNPRICED,
    answering,
    asking,
    calling,
    run_quietly,
    streaming,
)
from trouble.provider import provider
from trouble.scale import Scale

SMALL = RequestUsage(input_tokens=400, output_tokens=40)
LARGE = RequestUsage(input_tokens=900_000, cache_read_tokens=300_000, output_tokens=60_000)
# At the prices of otel-agents.toml.
LARGE_USD = 1.74


async def rate_limits(scale: Scale) -> None:
    """Have a provider refuse by 429 twice before it answers."""
    with provider() as url, run("rate-limits"):
        for _ in range(scale.times):
            await asking("asker", url, 429, 2).run("When does the tide turn?")


async def outages(scale: Scale) -> None:
    """Have a provider fail by 503 until the call is given up, and be too late for another."""
    with provider() as url, run("outages"):
        for _ in range(max(1, scale.times // 4)):
            await run_quietly(asking("asker", url, 503, 99), "When does the tide turn?")
            await run_quietly(asking("asker", url, 503, 1), "When does the tide turn?")
        await run_quietly(asking("asker", url, 0, 1), "When does the tide turn?")


async def wrong_answers(scale: Scale) -> None:
    """Have an agent's answers refused by its validator three times before one is taken."""
    agent = answering("writer", PRICED, SMALL)
    refusals = iter([True, True, True, False] * scale.times)

    @agent.output_validator
    def judge(output: str) -> str:
        if next(refusals):
            message = "say it in other words"
            raise ModelRetry(message)
        return output

    with run("wrong-answers"):
        for _ in range(scale.times):
            await agent.run("Describe the light.")


async def tool_errors(scale: Scale) -> None:
    """Have a tool raise three times of four."""
    agent = calling("searcher", "search")
    broken = iter([True, True, True, False] * scale.times)

    @agent.tool_plain
    def search() -> str:
        if next(broken):
            message = "the index is gone"
            raise ConnectionError(message)
        return "found"

    with run("tool-errors"):
        for _ in range(4 * scale.times):
            await run_quietly(agent, "Find the log of 1911.")


async def unpriced(scale: Scale) -> None:
    """Ask a model that nobody has a price for."""
    with run("unpriced"):
        for _ in range(scale.times):
            await answering("guesser", UNPRICED, SMALL).run("What is it worth?")


async def dear(scale: Scale) -> None:
    """Spend much on one agent, a third of it read from the cache."""
    with run("dear"):
        for _ in range(scale.times):
            await answering("spender", PRICED, LARGE).run("Read everything.")


async def budgets(scale: Scale) -> None:
    """Spend a budget to nine tenths, and another one whole."""

    async def spend(name: str, budget: Budget) -> None:
        with phase(name, budget=budget):
            await answering("spender", PRICED, LARGE).run("Read everything.")
            await asyncio.sleep(scale.hold)

    with run("budgets"):
        async with asyncio.TaskGroup() as both:
            both.create_task(spend("careful", Budget(usd=LARGE_USD / 0.9)))
            both.create_task(spend("careless", Budget(usd=LARGE_USD / 1.25)))


async def streams(scale: Scale) -> None:
    """Stream answers, so that there is a time to the first chunk."""
    with run("streams"):
        for _ in range(scale.times):
            async with streaming("speaker").run_stream("What of the fog?") as result:
                async for _ in result.stream_text():
                    pass
