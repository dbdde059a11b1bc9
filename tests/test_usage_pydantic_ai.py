"""pydantic-ai's usage is converted by its fields, and means the same for every provider."""

from types import SimpleNamespace
from typing import Any

import pytest

from otel_agents.usage import UNSEEN, MeteredUsage, Usage, from_pydantic_ai, parse

usage = pytest.importorskip("pydantic_ai.usage")


def test_a_request_is_converted() -> None:
    """Every count of a request has its place, and the rates charged apart become extras."""
    request = usage.RequestUsage(
        input_tokens=2098,
        output_tokens=503,
        cache_read_tokens=1800,
        cache_write_tokens=248,
        cache_write_1h_tokens=100,
        web_searches=2,
        details={"thinking_tokens": 200},
    )

    assert from_pydantic_ai(request) == MeteredUsage(
        input_tokens=2098,
        output_tokens=503,
        cache_read_tokens=1800,
        cache_write_tokens=248,
        reasoning_tokens=200,
        requests=1,
        extras={"cache_write_1h_tokens": 100, "web_searches": 2},
    )


def test_a_run_is_converted() -> None:
    """A run brings its requests and tool calls along."""
    run = usage.RunUsage(requests=3, tool_calls=2, input_tokens=60, output_tokens=9)

    assert from_pydantic_ai(run) == Usage(
        input_tokens=60, output_tokens=9, requests=3, tool_calls=2
    )


def test_a_run_that_has_not_begun_used_nothing() -> None:
    """No request means no usage, and that is the whole of it."""
    assert from_pydantic_ai(usage.RunUsage()) == Usage()


def test_a_request_of_no_tokens_is_not_zero() -> None:
    """Every model call uses tokens: a request without any was not measured."""
    assert from_pydantic_ai(usage.RequestUsage()) == UNSEEN


def test_unmeasured_requests_make_a_run_incomplete() -> None:
    """A run that counts an answer without usage is a lower bound."""
    run = usage.RunUsage(requests=2, input_tokens=5, output_tokens=1, unmeasured_requests=1)

    assert from_pydantic_ai(run) == Usage(
        input_tokens=5, output_tokens=1, requests=2, complete=False
    )


def test_the_reasoning_of_several_providers_adds_up() -> None:
    """A run over several providers has the reasoning of each under another key."""
    mixed = usage.RunUsage(
        requests=3,
        input_tokens=10,
        output_tokens=90,
        details={"reasoning_tokens": 10, "thoughts_tokens": 20, "thinking_tokens": 30},
    )

    assert from_pydantic_ai(mixed).reasoning_tokens == 60


def test_older_and_newer_fields_are_read_alike() -> None:
    """The field of newer versions and the detail of older ones are one count, not two."""
    both = usage.RequestUsage(
        input_tokens=1,
        output_tokens=9,
        output_reasoning_tokens=4,
        details={"reasoning_tokens": 4},
    )

    assert from_pydantic_ai(both).reasoning_tokens == 4


def test_text_is_nothing_apart() -> None:
    """The text counts that come with each of Google's answers make no metered usage."""
    request = usage.RequestUsage(
        input_tokens=9, output_tokens=2, input_text_tokens=9, output_text_tokens=2
    )

    assert from_pydantic_ai(request) == Usage(input_tokens=9, output_tokens=2, requests=1)


class Hostile:
    """An object whose attributes raise."""

    def __init__(self) -> None:
        """Hold something that is no count."""
        self.details = object()

    @property
    def input_tokens(self) -> int:
        """Raise, as a broken subclass might."""
        raise RuntimeError


@pytest.mark.parametrize(
    "wrong",
    [None, 7, object(), Hostile(), SimpleNamespace(requests=1), {"input_tokens": 3}],
    ids=lambda wrong: type(wrong).__name__,
)
def test_what_is_no_usage_is_unseen(wrong: object) -> None:
    """Anything else is one request of unknown usage, and nothing is raised."""
    assert from_pydantic_ai(wrong) == UNSEEN


def test_a_total_that_is_no_count_makes_it_incomplete() -> None:
    """A total that cannot be read is left out and said; the other stands."""
    wrong = usage.RequestUsage(input_tokens=-3, output_tokens=2)

    assert from_pydantic_ai(wrong) == Usage(output_tokens=2, requests=1, complete=False)


EXTRACTED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "openai chat": (
        "openai",
        "chat",
        {
            "model": "gpt-4o",
            "usage": {
                "prompt_tokens": 2006,
                "completion_tokens": 300,
                "total_tokens": 2306,
                "prompt_tokens_details": {"cached_tokens": 1920},
                "completion_tokens_details": {"reasoning_tokens": 128},
            },
        },
    ),
    "openai responses": (
        "openai",
        "responses",
        {
            "model": "gpt-5",
            "usage": {
                "input_tokens": 328,
                "input_tokens_details": {"cached_tokens": 256, "cache_write_tokens": 40},
                "output_tokens": 52,
                "output_tokens_details": {"reasoning_tokens": 32},
                "total_tokens": 380,
            },
        },
    ),
    "xai chat": (
        "x-ai",
        "chat",
        {
            "model": "grok-4",
            "usage": {
                "prompt_tokens": 37,
                "completion_tokens": 530,
                "total_tokens": 800,
                "completion_tokens_details": {"reasoning_tokens": 233},
            },
        },
    ),
    "anthropic": (
        "anthropic",
        "default",
        {
            "model": "claude-sonnet-4-0",
            "usage": {
                "input_tokens": 50,
                "cache_creation_input_tokens": 248,
                "cache_read_input_tokens": 1800,
                "cache_creation": {"ephemeral_1h_input_tokens": 100},
                "output_tokens": 503,
                "output_tokens_details": {"thinking_tokens": 200},
                "server_tool_use": {"web_search_requests": 2},
            },
        },
    ),
    "gemini": (
        "google",
        "default",
        {
            "modelVersion": "gemini-2.5-flash",
            "usageMetadata": {
                "promptTokenCount": 1500,
                "cachedContentTokenCount": 1000,
                "candidatesTokenCount": 80,
                "thoughtsTokenCount": 420,
                "toolUsePromptTokenCount": 90,
                "totalTokenCount": 2090,
                "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 200}],
            },
        },
    ),
    "bedrock converse": (
        "bedrock",
        "default",
        {
            "model": "anthropic.claude-sonnet-4-20250514-v1:0",
            "usage": {
                "inputTokens": 30,
                "outputTokens": 628,
                "totalTokens": 1758,
                "cacheReadInputTokens": 1000,
                "cacheWriteInputTokens": 100,
            },
        },
    ),
}


@pytest.mark.parametrize(("provider", "flavor", "payload"), EXTRACTED.values(), ids=EXTRACTED)
def test_our_parsers_and_pydantic_ai_agree(
    provider: str, flavor: str, payload: dict[str, Any]
) -> None:
    """A raw payload means the same read by us and as extracted by pydantic-ai's own code."""
    extracted = usage.RequestUsage.extract(
        payload, provider=provider, provider_url="", provider_fallback=provider, api_flavor=flavor
    )

    theirs = from_pydantic_ai(extracted)
    ours = parse(payload)

    assert _without_extras(ours) == _without_extras(theirs)
    assert ours.extras.items() <= theirs.extras.items()


def _without_extras(converted: Usage) -> tuple[int | bool, ...]:
    return (
        *converted.by_type().values(),
        converted.reasoning_tokens,
        converted.requests,
        converted.complete,
    )
