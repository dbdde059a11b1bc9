"""Prices are those of genai-prices' table, to the last digit."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from genai_prices import Usage as TableUsage
from genai_prices import calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelPrice, TieredPrices
from hypothesis import given
from hypothesis import strategies as st

from otel_agents.usage import Prices, Usage, parse

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)

GOLDEN: dict[str, tuple[str, str, dict[str, Any], str]] = {
    # 86 x 2.50 + 1920 x 1.25 + 300 x 10.00
    "openai, cached tokens inclusive": (
        "openai",
        "gpt-4o-2024-08-06",
        {
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "prompt_tokens_details": {"cached_tokens": 1920},
            "completion_tokens_details": {"reasoning_tokens": 128},
        },
        "0.005615",
    ),
    # 72 x 1.25 + 256 x 0.125 + 52 x 10.00
    "openai responses with reasoning": (
        "openai",
        "gpt-5",
        {
            "input_tokens": 328,
            "input_tokens_details": {"cached_tokens": 256},
            "output_tokens": 52,
            "output_tokens_details": {"reasoning_tokens": 32},
        },
        "0.000642",
    ),
    # 50 x 3.00 + 1800 x 0.30 + 248 x 3.75 + 503 x 15.00
    "anthropic, cached tokens exclusive": (
        "anthropic",
        "claude-sonnet-4-20250514",
        {
            "input_tokens": 50,
            "cache_creation_input_tokens": 248,
            "cache_read_input_tokens": 1800,
            "output_tokens": 503,
        },
        "0.009165",
    ),
    # the same, 100 of the writes at 6.00, and two searches at 0.01
    "anthropic, an hour's cache and searches": (
        "anthropic",
        "claude-sonnet-4-20250514",
        {
            "input_tokens": 50,
            "cache_creation_input_tokens": 248,
            "cache_read_input_tokens": 1800,
            "cache_creation": {"ephemeral_1h_input_tokens": 100},
            "output_tokens": 503,
            "server_tool_use": {"web_search_requests": 2},
        },
        "0.02939",
    ),
    # 30 x 3.00 + 1000 x 0.30 + 100 x 3.75 + 628 x 15.00
    "bedrock converse, cached tokens exclusive": (
        "aws.bedrock",
        "us.anthropic.claude-sonnet-4-20250514-v1:0",
        {
            "inputTokens": 30,
            "outputTokens": 628,
            "cacheReadInputTokens": 1000,
            "cacheWriteInputTokens": 100,
        },
        "0.010185",
    ),
    # (500 + 92) x 1.25 + 1000 x 0.125 + (80 + 420) x 10.00
    "gemini, thoughts beside the candidates": (
        "gcp.gemini",
        "gemini-2.5-pro",
        {
            "promptTokenCount": 1500,
            "cachedContentTokenCount": 1000,
            "candidatesTokenCount": 80,
            "thoughtsTokenCount": 420,
            "toolUsePromptTokenCount": 92,
        },
        "0.005865",
    ),
    # 300 x 0.30 + 200 x 1.00 + 1000 x 0.03 + 80 x 2.50
    "gemini with audio": (
        "google",
        "gemini-2.5-flash",
        {
            "promptTokenCount": 1500,
            "cachedContentTokenCount": 1000,
            "candidatesTokenCount": 80,
            "promptTokensDetails": [
                {"modality": "AUDIO", "tokenCount": 200},
                {"modality": "TEXT", "tokenCount": 1300},
            ],
            "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 1000}],
        },
        "0.00052",
    ),
    # 250000 x 2.50 + 1000 x 15.00: all of it at the higher step
    "gemini above its tier": (
        "google",
        "gemini-2.5-pro",
        {"promptTokenCount": 250_000, "candidatesTokenCount": 1000},
        "0.64",
    ),
    # 2000 x 1.00 + 500 x 1.00 + a fee of 0.012
    "perplexity with a fee per request": (
        "perplexity",
        "sonar",
        {"prompt_tokens": 2000, "completion_tokens": 500},
        "0.0145",
    ),
}


@pytest.mark.parametrize(("provider", "model", "node", "usd"), GOLDEN.values(), ids=GOLDEN)
def test_the_golden_table(provider: str, model: str, node: dict[str, Any], usd: str) -> None:
    """From a provider's payload to its price, worked out by hand, exactly."""
    assert Prices().cost(parse(node), model=model, provider=provider, at=NOON) == float(usd)


# ---- equal to genai-prices' own calculation

ENTRIES = [(one.id, model.id) for one in get_snapshot().providers for model in one.models]
TIMED = [
    (one.id, model.id)
    for one in get_snapshot().providers
    for model in one.models
    if isinstance(model.prices, list) and len(model.prices) > 1
]
sizes = st.integers(0, 2000) | st.integers(100_000, 1_000_000)
moments = st.datetimes(
    min_value=datetime(2024, 1, 1),  # noqa: DTZ001 - the table takes it as UTC
    max_value=datetime(2027, 1, 1),  # noqa: DTZ001
)
zoned = moments | moments.map(lambda naive: naive.replace(tzinfo=UTC))
priced = Prices()


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Draw one request whose counts agree with each other."""
    fresh, read, write, plain, reasoning = (draw(sizes) for _ in range(5))
    return Usage(
        input_tokens=fresh + read + write,
        cache_read_tokens=read,
        cache_write_tokens=write,
        output_tokens=plain + reasoning,
        reasoning_tokens=reasoning,
        requests=1,
    )


def by_the_table(provider: str, model: str, usage: Usage, at: datetime) -> float | None:
    """Return genai-prices' own price, or None when it has no rates, or none for some tokens."""
    counts = TableUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
    )
    try:
        price = calc_price(counts, model, provider_id=provider, genai_request_timestamp=at)
    except LookupError:
        return None
    rates = {key for key, rate in vars(price.model_price).items() if rate is not None}
    if not rates:
        return 0.0 if price.model.id.endswith(":free") else None
    used = {
        ("input_mtok",): usage.fresh_input,
        ("input_mtok", "cache_read_mtok"): usage.cache_read_tokens,
        ("input_mtok", "cache_write_mtok"): usage.cache_write_tokens,
        ("output_mtok",): usage.output_tokens - usage.reasoning_tokens,
        ("output_mtok", "output_reasoning_mtok"): usage.reasoning_tokens,
    }
    if any(tokens and rates.isdisjoint(keys) for keys, tokens in used.items()):
        return None
    return float(price.total_price)


@given(st.sampled_from(ENTRIES) | st.sampled_from(TIMED), usages(), zoned)
def test_the_price_is_the_tables(entry: tuple[str, str], usage: Usage, at: datetime) -> None:
    """Any model, usage and moment costs what genai-prices says, where it has all the rates."""
    provider, model = entry

    expected = by_the_table(provider, model, usage, at)

    assert priced.cost(usage, model=model, provider=provider, at=at) == expected


@pytest.mark.parametrize("entry", TIMED, ids=str)
def test_prices_follow_the_time(entry: tuple[str, str]) -> None:
    """A price that changes does so for us at the very moment it does in the table."""
    provider, model = entry
    usage = Usage(input_tokens=1000, output_tokens=100, requests=1)
    day = datetime(2025, 6, 10, tzinfo=UTC)
    edges = [
        datetime(2023, 1, 1, tzinfo=UTC),
        day,
        day - timedelta(microseconds=1),
        *(day + timedelta(minutes=30 * half) for half in range(48)),
        NOON,
    ]

    for at in edges:
        expected = by_the_table(provider, model, usage, at)
        assert priced.cost(usage, model=model, provider=provider, at=at) == expected


def test_without_a_moment_the_price_is_todays() -> None:
    """No time given means now."""
    usage = Usage(input_tokens=1000, output_tokens=100, requests=1)
    now = datetime.now(UTC)

    expected = by_the_table("openai", "o3", usage, now)

    assert expected is not None
    assert priced.cost(usage, model="o3", provider="openai") == expected


def tiers_of(model: object) -> list[int]:
    """Return the input sizes at which a model's rates change."""
    prices = getattr(model, "prices", ())
    every = [prices] if isinstance(prices, ModelPrice) else [one.prices for one in prices]
    return sorted(
        {
            tier.start
            for one in every
            for price in vars(one).values()
            if isinstance(price, TieredPrices)
            for tier in price.tiers
        }
    )


def test_a_tier_begins_above_its_start() -> None:
    """At every edge of every tier in the table the price is the table's."""
    edges = [
        (one.id, model.id, start + more)
        for one in get_snapshot().providers
        for model in one.models
        for start in tiers_of(model)
        for more in (0, 1)
    ]

    wrong = []
    for provider, model, size in edges:
        usage = Usage(input_tokens=size, output_tokens=7, requests=1)
        expected = by_the_table(provider, model, usage, NOON)
        actual = priced.cost(usage, model=model, provider=provider, at=NOON)
        if actual != expected:
            wrong.append((provider, model, size, actual, expected))

    assert len(edges) > 0
    assert wrong == []


@pytest.mark.parametrize("tier", ["default", "flex", "priority"])
def test_a_service_tier_selects_its_rates(tier: str) -> None:
    """A context such as pydantic-ai's provider details chooses the variant that was billed."""
    usage = Usage(input_tokens=1000, output_tokens=100, requests=1)
    counts = TableUsage(input_tokens=1000, output_tokens=100)
    context = {"service_tier": tier, "finish_reason": "stop"}

    expected = calc_price(counts, "gpt-5", provider_id="openai", price_context=context)
    actual = priced.cost(usage, model="gpt-5", provider="openai", context=context)

    assert actual == float(expected.total_price)


def test_a_tier_of_service_costs_what_it_costs() -> None:
    """Flex is cheaper than default, and priority dearer: the context is not passed over."""
    usage = Usage(input_tokens=1000, output_tokens=100, requests=1)

    flex, default, priority = (
        priced.cost(usage, model="gpt-5", provider="openai", context={"service_tier": tier})
        for tier in ("flex", "default", "priority")
    )

    assert flex is not None
    assert default is not None
    assert priority is not None
    assert flex < default < priority
