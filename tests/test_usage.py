"""`Usage` adds up and splits without loss; `parse` reads what providers send, and survives more."""

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agents.usage import BILLING_TYPES, UNSEEN, MeteredUsage, Usage, parse

counts = st.integers(min_value=0, max_value=10**9)
fields = {
    "input_tokens": counts,
    "output_tokens": counts,
    "cache_read_tokens": counts,
    "cache_write_tokens": counts,
    "reasoning_tokens": counts,
    "requests": counts,
    "tool_calls": counts,
    "complete": st.booleans(),
}
extras = st.dictionaries(
    st.sampled_from(["web_searches", "input_audio_tokens"]), counts, min_size=1
)
any_usage = st.builds(Usage, **fields) | st.builds(MeteredUsage, extras=extras, **fields)

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}}],
    "usage": {
        "prompt_tokens": 2006,
        "completion_tokens": 300,
        "total_tokens": 2306,
        "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 128,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    },
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "model": "gpt-5-2025-08-07",
    "status": "completed",
    "output": [],
    "usage": {
        "input_tokens": 328,
        "input_tokens_details": {"cached_tokens": 256, "cache_write_tokens": 40},
        "output_tokens": 52,
        "output_tokens_details": {"reasoning_tokens": 32},
        "total_tokens": 380,
    },
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-20250514",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "usage": {
        "input_tokens": 50,
        "cache_creation_input_tokens": 248,
        "cache_read_input_tokens": 1800,
        "cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100},
        "output_tokens": 503,
        "output_tokens_details": {"thinking_tokens": 200},
        "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
        "service_tier": "standard",
    },
}
COMPACTED = {
    "type": "message",
    "usage": {
        "input_tokens": 45,
        "output_tokens": 1234,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "iterations": [
            {
                "type": "compaction",
                "input_tokens": 180000,
                "output_tokens": 3500,
                "cache_creation_input_tokens": 10,
                "cache_read_input_tokens": 20,
            },
            {"type": "message", "input_tokens": 45, "output_tokens": 1234},
        ],
    },
}
GEMINI = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "Hi"}]}}],
    "modelVersion": "gemini-2.5-pro",
    "usageMetadata": {
        "promptTokenCount": 1500,
        "cachedContentTokenCount": 1000,
        "candidatesTokenCount": 80,
        "thoughtsTokenCount": 420,
        "toolUsePromptTokenCount": 90,
        "totalTokenCount": 2090,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 1200},
            {"modality": "AUDIO", "tokenCount": 200},
            {"modality": "IMAGE", "tokenCount": 60},
            {"modality": "DOCUMENT", "tokenCount": 40},
        ],
        "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 1000}],
    },
}
CONVERSE = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}},
    "stopReason": "end_turn",
    "usage": {
        "inputTokens": 30,
        "outputTokens": 628,
        "totalTokens": 1758,
        "cacheReadInputTokens": 1000,
        "cacheWriteInputTokens": 100,
        "cacheDetails": [{"ttl": "5m", "inputTokens": 60}, {"ttl": "1h", "inputTokens": 40}],
    },
}

GOLDEN = {
    "openai chat": (
        CHAT,
        Usage(
            input_tokens=2006,
            output_tokens=300,
            cache_read_tokens=1920,
            reasoning_tokens=128,
            requests=1,
        ),
    ),
    "openai responses": (
        RESPONSE,
        Usage(
            input_tokens=328,
            output_tokens=52,
            cache_read_tokens=256,
            cache_write_tokens=40,
            reasoning_tokens=32,
            requests=1,
        ),
    ),
    "openai embeddings": (
        {"object": "list", "data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}},
        Usage(input_tokens=8, requests=1),
    ),
    "openai audio": (
        {
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 60,
                "total_tokens": 160,
                "prompt_tokens_details": {"audio_tokens": 70},
                "completion_tokens_details": {"audio_tokens": 50},
            }
        },
        MeteredUsage(
            input_tokens=100,
            output_tokens=60,
            requests=1,
            extras={"input_audio_tokens": 70, "output_audio_tokens": 50},
        ),
    ),
    "xai chat, reasoning beside the completion": (
        {
            "usage": {
                "prompt_tokens": 37,
                "completion_tokens": 530,
                "total_tokens": 800,
                "completion_tokens_details": {"reasoning_tokens": 233},
            }
        },
        Usage(input_tokens=37, output_tokens=763, reasoning_tokens=233, requests=1),
    ),
    "anthropic": (
        MESSAGE,
        MeteredUsage(
            input_tokens=2098,
            output_tokens=503,
            cache_read_tokens=1800,
            cache_write_tokens=248,
            reasoning_tokens=200,
            requests=1,
            extras={"cache_write_1h_tokens": 100, "web_searches": 2},
        ),
    ),
    "anthropic, compacted": (
        COMPACTED,
        Usage(
            input_tokens=180075,
            output_tokens=4734,
            cache_read_tokens=20,
            cache_write_tokens=10,
            requests=1,
        ),
    ),
    "gemini": (
        GEMINI,
        MeteredUsage(
            input_tokens=1590,
            output_tokens=500,
            cache_read_tokens=1000,
            reasoning_tokens=420,
            requests=1,
            extras={
                "input_audio_tokens": 200,
                "input_image_tokens": 100,
                "cache_audio_read_tokens": 0,
                "cache_image_read_tokens": 0,
            },
        ),
    ),
    "gemini, all of it thoughts": (
        {"usageMetadata": {"promptTokenCount": 9, "thoughtsTokenCount": 64}},
        Usage(input_tokens=9, output_tokens=64, reasoning_tokens=64, requests=1),
    ),
    "bedrock converse": (
        CONVERSE,
        MeteredUsage(
            input_tokens=1130,
            output_tokens=628,
            cache_read_tokens=1000,
            cache_write_tokens=100,
            requests=1,
            extras={"cache_write_1h_tokens": 40},
        ),
    ),
}


def as_object(value: object) -> object:
    """Turn dicts into objects with attributes, as a client library would."""
    if isinstance(value, dict):
        return SimpleNamespace(**{key: as_object(item) for key, item in value.items()})
    return [as_object(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("payload", "expected"), GOLDEN.values(), ids=GOLDEN)
def test_recorded_answers_are_read_in_every_form(payload: dict[str, Any], expected: Usage) -> None:
    """A recorded answer gives the same usage as dict, text, bytes, object and bare usage node."""
    node = payload.get("usage") or payload["usageMetadata"]
    encoded = msgspec.json.encode(payload)

    assert parse(payload) == expected
    assert parse(encoded) == expected
    assert parse(encoded.decode()) == expected
    assert parse(as_object(payload)) == expected
    assert parse(node) == expected


def test_the_client_libraries_objects_are_read() -> None:
    """OpenAI's, Anthropic's and Google's own classes give what the raw payloads give."""
    openai = pytest.importorskip("openai.types.chat")
    responses = pytest.importorskip("openai.types.responses")
    anthropic = pytest.importorskip("anthropic.types")
    google = pytest.importorskip("google.genai.types")

    assert (
        parse(
            openai.ChatCompletion.model_construct(
                usage=pytest.importorskip("openai.types").CompletionUsage.model_validate(
                    CHAT["usage"]
                )
            )
        )
        == GOLDEN["openai chat"][1]
    )
    assert (
        parse(responses.ResponseUsage.model_validate(RESPONSE["usage"]))
        == (GOLDEN["openai responses"][1])
    )
    assert parse(anthropic.Message.model_validate(MESSAGE)) == GOLDEN["anthropic"][1]
    assert parse(google.GenerateContentResponse.model_validate(GEMINI)) == GOLDEN["gemini"][1]


def test_a_provider_settles_what_the_fields_leave_open() -> None:
    """Bare input and output are Anthropic's when the caller says so, and read alike either way."""
    node = {"input_tokens": 5, "output_tokens": 7, "cache_creation": None}

    expected = Usage(input_tokens=5, output_tokens=7, requests=1)

    assert parse(node) == expected
    assert parse(node, "anthropic") == expected


@pytest.mark.parametrize(
    "payload",
    [
        {"id": "chatcmpl-1", "choices": []},
        {"usage": None},
        {"usage": {}},
        {"usage": 7},
        {},
        [],
        None,
        7,
        "",
        "not json",
        b"\xff",
        b"[" * 100_000,
        object(),
    ],
    ids=lambda payload: type(payload).__name__,
)
def test_absent_usage_is_not_zero(payload: object) -> None:
    """An answer without usage, or that is none, is one request of unknown usage."""
    assert parse(payload) == UNSEEN
    assert not parse(payload).complete


@pytest.mark.parametrize(
    "wrong", [-1, 1.5, float("nan"), float("inf"), "12", True, [3], {"n": 1}, 2**53 + 1], ids=str
)
def test_a_count_that_is_none_is_left_out_and_said(wrong: object) -> None:
    """A total that no provider could mean leaves the others standing and marks the usage."""
    chat = parse({"usage": {"prompt_tokens": 11, "completion_tokens": wrong}})
    message = parse({"usage": {"input_tokens": wrong, "output_tokens": 3, "server_tool_use": None}})

    assert chat == Usage(input_tokens=11, requests=1, complete=False)
    assert message == Usage(output_tokens=3, requests=1, complete=False)


def test_whole_floats_are_counts() -> None:
    """Numbers that went through a decoder without integers are read."""
    expected = Usage(input_tokens=11, output_tokens=3, requests=1)

    assert parse({"usage": {"prompt_tokens": 11.0, "completion_tokens": 3.0}}) == expected


def test_tokens_of_an_advisor_model_make_it_incomplete() -> None:
    """Iterations billed at another model's rates are neither added nor passed over in silence."""
    usage = {
        "input_tokens": 4,
        "output_tokens": 2,
        "iterations": [{"type": "advisor_message", "input_tokens": 900, "output_tokens": 90}],
    }

    expected = Usage(input_tokens=4, output_tokens=2, requests=1, complete=False)

    assert parse({"usage": usage}) == expected


class Hostile:
    """An object whose every attribute raises."""

    def __getattr__(self, name: str) -> object:
        """Raise, whatever is asked for."""
        raise RuntimeError(name)


@pytest.mark.parametrize(
    "payload", [Hostile(), MagicMock(), {"usage": Hostile()}], ids=["object", "mock", "inside"]
)
def test_hostile_objects_do_not_reach_the_host(payload: object) -> None:
    """Objects that raise or invent attributes give an incomplete usage and nothing else."""
    usage = parse(payload)

    assert (usage.total_tokens, usage.complete) == (0, False)


names = st.sampled_from(
    [
        "usage",
        "usageMetadata",
        "usage_metadata",
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "prompt_tokens_details",
        "cached_tokens",
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation",
        "iterations",
        "type",
        "promptTokenCount",
        "promptTokensDetails",
        "inputTokens",
        "cacheDetails",
    ]
)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("compaction"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=6),
    max_leaves=25,
)


@given(any_json)
def test_any_json_gives_a_usage(payload: object) -> None:
    """Whatever comes, there is one request and no count below zero."""
    usage = parse(payload)

    assert usage.requests == 1
    assert min(usage.input_tokens, usage.output_tokens, *usage.by_type().values()) >= 0


@given(any_usage)
def test_the_types_sum_up_to_the_total(usage: Usage) -> None:
    """The disjoint types are never negative and always sum up to the bill's total."""
    types = usage.by_type()

    assert tuple(types) == BILLING_TYPES
    assert min(types.values()) >= 0
    assert sum(types.values()) == usage.total_tokens
    assert usage.fresh_input == types["input"]


@given(any_usage, any_usage, any_usage)
def test_addition_has_no_order(left: Usage, middle: Usage, right: Usage) -> None:
    """Usages add up to the same sum in any grouping and order, and nothing added changes it."""
    assert (left + middle) + right == left + (middle + right)
    assert left + right == right + left
    assert left + Usage() == left


@given(any_usage)
def test_usage_survives_json(usage: Usage) -> None:
    """A usage comes back from JSON as it was."""
    assert msgspec.json.decode(msgspec.json.encode(usage), type=type(usage)) == usage


def test_extras_are_left_out_where_plain_usage_is_asked_for() -> None:
    """A metered usage reads as a plain one too, and a plain one has no field for extras."""
    usage = MeteredUsage(input_tokens=3, extras={"web_searches": 1})

    assert msgspec.json.decode(msgspec.json.encode(usage), type=Usage) == Usage(input_tokens=3)
    assert "extras" not in Usage.__struct_fields__
    assert Usage().extras == {}


def test_a_sum_is_complete_when_all_of_it_is() -> None:
    """One request that could not be seen makes the sum a lower bound."""
    seen = Usage(input_tokens=3, requests=1)

    assert (seen + seen).complete
    assert (seen + UNSEEN) == Usage(input_tokens=3, requests=2, complete=False)


def test_only_usage_adds_to_usage() -> None:
    """Adding anything else is a TypeError, as for any number."""
    with pytest.raises(TypeError):
        Usage() + 1
