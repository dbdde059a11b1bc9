"""`StreamUsage` folds the chunks and events of a stream, and knows when it has not seen the end."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agents.usage import UNSEEN, MeteredUsage, StreamUsage, Usage, parse


def chat_chunk(content: str | None, finish: str | None = None) -> dict[str, Any]:
    """Build a chat chunk with one choice."""
    delta = {} if content is None else {"content": content}
    return {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        "usage": None,
    }


CHAT = [
    {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"role": "assistant"}}]},
    chat_chunk("Hel"),
    chat_chunk("lo"),
    chat_chunk(None, "stop"),
    {
        "object": "chat.completion.chunk",
        "choices": [],
        "usage": {
            "prompt_tokens": 20,
            "completion_tokens": 9,
            "total_tokens": 29,
            "prompt_tokens_details": {"cached_tokens": 16},
            "completion_tokens_details": {"reasoning_tokens": 4},
        },
    },
]
CHAT_USAGE = Usage(
    input_tokens=20, output_tokens=9, cache_read_tokens=16, reasoning_tokens=4, requests=1
)

RESPONSES: list[dict[str, Any]] = [
    {"type": "response.created", "response": {"status": "in_progress", "usage": None}},
    {"type": "response.output_text.delta", "delta": "Hello"},
    {
        "type": "response.completed",
        "response": {
            "status": "completed",
            "usage": {
                "input_tokens": 20,
                "input_tokens_details": {"cached_tokens": 16},
                "output_tokens": 9,
                "output_tokens_details": {"reasoning_tokens": 4},
                "total_tokens": 29,
            },
        },
    },
]

ANTHROPIC: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-0",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": 4,
                "cache_read_input_tokens": 10,
                "cache_creation_input_tokens": 6,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": 0,
                    "ephemeral_1h_input_tokens": 6,
                },
                "output_tokens": 1,
            },
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"output_tokens": 9, "input_tokens": None, "cache_read_input_tokens": 0},
    },
    {"type": "message_stop"},
]
ANTHROPIC_USAGE = MeteredUsage(
    input_tokens=20,
    output_tokens=9,
    cache_read_tokens=10,
    cache_write_tokens=6,
    requests=1,
    extras={"cache_write_1h_tokens": 6},
)

GEMINI = [
    {
        "candidates": [{"content": {"parts": [{"text": "Hi"}]}}],
        "usageMetadata": {
            "promptTokenCount": 20,
            "cachedContentTokenCount": 16,
            "totalTokenCount": 20,
            "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 3}],
        },
    },
    {
        "candidates": [{"content": {"parts": [{"text": " there"}]}}],
        "usageMetadata": {
            "promptTokenCount": 20,
            "candidatesTokenCount": 2,
            "thoughtsTokenCount": 4,
        },
    },
    {
        "candidates": [{"content": {"parts": []}, "finishReason": "STOP"}],
        "usageMetadata": {
            "promptTokenCount": 20,
            "candidatesTokenCount": 5,
            "thoughtsTokenCount": 4,
            "totalTokenCount": 29,
        },
    },
]
GEMINI_USAGE = MeteredUsage(
    input_tokens=20,
    output_tokens=9,
    cache_read_tokens=16,
    reasoning_tokens=4,
    requests=1,
    extras={"input_audio_tokens": 3},
)

CONVERSE = [
    {"messageStart": {"role": "assistant"}},
    {"contentBlockDelta": {"delta": {"text": "Hi"}}},
    {"messageStop": {"stopReason": "end_turn"}},
    {"metadata": {"usage": {"inputTokens": 20, "outputTokens": 9, "totalTokens": 29}}},
]

STREAMS = {
    "openai chat": (CHAT, CHAT_USAGE),
    "openai responses": (RESPONSES, CHAT_USAGE),
    "anthropic": (ANTHROPIC, ANTHROPIC_USAGE),
    "gemini": (GEMINI, GEMINI_USAGE),
    "bedrock converse": (CONVERSE, Usage(input_tokens=20, output_tokens=9, requests=1)),
}
streams = pytest.mark.parametrize(("events", "expected"), STREAMS.values(), ids=STREAMS)


def folded(events: list[Any]) -> StreamUsage:
    """Feed all events to a new fold."""
    fold = StreamUsage()
    for event in events:
        fold.feed(event)
    return fold


@streams
def test_a_whole_stream_gives_its_usage(events: list[Any], expected: Usage) -> None:
    """The events of a whole stream give the final counts of one complete request."""
    fold = folded(events)

    assert fold.usage == expected
    assert fold.complete


@streams
def test_events_are_read_as_text(events: list[Any], expected: Usage) -> None:
    """Server-sent events as text, one line or one block each, fold to the same usage."""
    encoded = [msgspec.json.encode(event).decode() for event in events]

    assert folded(encoded).usage == expected
    assert folded([f"data: {text}" for text in encoded] + ["", "data: [DONE]"]).usage == expected
    assert folded([f"event: x\ndata: {text}\n\n".encode() for text in encoded]).usage == expected


@streams
def test_a_stream_that_breaks_off_is_never_complete(events: list[Any], expected: Usage) -> None:
    """Broken off anywhere before the final counts, what was seen stands, marked incomplete."""
    final = next(cut for cut in range(len(events) + 1) if folded(events[:cut]).complete)

    seen = [folded(events[:cut]).usage for cut in range(final)]

    assert final > 0
    assert not any(usage.complete for usage in seen)
    assert all(usage.requests == 1 for usage in seen)
    assert all(
        one.input_tokens <= other.input_tokens and one.output_tokens <= other.output_tokens
        for one, other in pairwise([*seen, expected])
    )


@streams
def test_an_event_twice_changes_nothing(events: list[Any], expected: Usage) -> None:
    """Counts are cumulative: events that come twice are not counted twice."""
    assert folded([event for event in events for _ in range(2)]).usage == expected


def test_a_broken_anthropic_stream_keeps_its_input() -> None:
    """The input tokens of the first event are billed and stay, whatever comes after."""
    assert folded(ANTHROPIC[:4]).usage == msgspec.structs.replace(
        ANTHROPIC_USAGE, output_tokens=1, complete=False
    )


def test_an_anthropic_stream_that_ends_without_counts_is_incomplete() -> None:
    """The few output tokens of the first event are not the answer's, even when it ended well."""
    bare = [{**event, "usage": None} for event in ANTHROPIC]

    fold = folded(bare)

    assert (fold.usage.input_tokens, fold.usage.output_tokens) == (20, 1)
    assert not fold.usage.complete


def test_a_broken_gemini_stream_keeps_its_last_counts() -> None:
    """The counts of the last chunk that came stay, with what an earlier one alone had."""
    assert folded(GEMINI[:2]).usage == msgspec.structs.replace(
        GEMINI_USAGE, output_tokens=6, complete=False
    )


def test_a_chat_stream_without_usage_is_not_zero() -> None:
    """A stream that ended without being asked for usage is of unknown usage."""
    fold = folded(CHAT[:-1])

    assert fold.usage == UNSEEN
    assert not fold.complete


def test_counts_in_every_chunk_are_complete_at_the_end_only() -> None:
    """Servers that send running counts with each chunk are complete with the finish reason."""
    running = [
        {**chat_chunk("a"), "usage": {"prompt_tokens": 5, "completion_tokens": 1}},
        {**chat_chunk("b"), "usage": {"prompt_tokens": 5, "completion_tokens": 2}},
        {**chat_chunk("c", "stop"), "usage": {"prompt_tokens": 5, "completion_tokens": 3}},
    ]

    assert folded(running[:2]).usage == Usage(
        input_tokens=5, output_tokens=2, requests=1, complete=False
    )
    assert folded(running).usage == Usage(input_tokens=5, output_tokens=3, requests=1)


@pytest.mark.parametrize("end", ["response.incomplete", "response.failed"])
def test_a_response_that_failed_was_billed(end: str) -> None:
    """A response cut short or failed gives its usage when it has one, and is unknown when not."""
    billed = [*RESPONSES[:2], {**RESPONSES[2], "type": end}]
    unknown = [*RESPONSES[:2], {"type": end, "response": {"usage": None}}]

    assert folded(billed).usage == CHAT_USAGE
    assert folded(unknown).usage == UNSEEN


def test_a_refused_gemini_prompt_is_complete() -> None:
    """A prompt that was blocked has no candidate, and its input is the whole usage."""
    chunk = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 7}}

    assert folded([chunk]).usage == Usage(input_tokens=7, requests=1)


def test_an_anthropic_compaction_moves_counts_without_doubling_them() -> None:
    """Counts that the last event moves into a compaction's entry are counted there only."""
    start = {
        "type": "message_start",
        "message": {"usage": {"input_tokens": 40, "cache_creation_input_tokens": 1000}},
    }
    end = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {
            "input_tokens": 40,
            "cache_creation_input_tokens": 0,
            "output_tokens": 9,
            "iterations": [
                {
                    "type": "compaction",
                    "input_tokens": 60,
                    "output_tokens": 5,
                    "cache_creation_input_tokens": 1000,
                }
            ],
        },
    }

    assert folded([start, end]).usage == Usage(
        input_tokens=1100, output_tokens=14, cache_write_tokens=1000, requests=1
    )


@given(st.lists(st.integers(0, 10**6), min_size=1), st.integers(1, 10**6), st.booleans())
def test_growing_counts_end_at_their_largest(
    outputs: list[int],
    prompt: int,
    gemini: bool,
) -> None:
    """However the output grew, the fold ends at what a whole answer with it would have said."""
    fold = StreamUsage()
    grown = sorted(outputs)
    for tokens in grown:
        fold.feed(
            {"usageMetadata": {"promptTokenCount": prompt, "candidatesTokenCount": tokens}}
            if gemini
            else {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": tokens}}
        )
    whole = parse({"usage": {"prompt_tokens": prompt, "completion_tokens": grown[-1]}})

    assert fold.complete is not gemini  # Gemini's stream has not said that it finished
    assert msgspec.structs.replace(fold.usage, complete=True) == whole


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "usage", "choices", "message", "delta", "response", "candidates"]
            ),
            inner | st.sampled_from(["message_start", "message_delta", "response.completed"]),
            max_size=5,
        )
    ),
    max_leaves=15,
)


@given(st.lists(anything, max_size=5))
def test_any_chunks_give_a_usage(chunks: list[object]) -> None:
    """Whatever is fed, nothing is raised and there is one request."""
    usage = folded(chunks).usage

    assert usage.requests == 1
    assert usage.total_tokens >= 0


def test_the_client_libraries_events_are_read() -> None:
    """OpenAI's, Anthropic's and Google's own event classes fold like the raw events."""
    chat = pytest.importorskip("openai.types.chat")
    anthropic = pytest.importorskip("anthropic.types")
    google = pytest.importorskip("google.genai.types")
    pydantic = pytest.importorskip("pydantic")

    filled = {"id": "x", "created": 1, "model": "m"}
    adapter = pydantic.TypeAdapter(anthropic.RawMessageStreamEvent)
    events = [adapter.validate_python(event) for event in ANTHROPIC if event["type"] != "ping"]

    assert folded([chat.ChatCompletionChunk(**{**filled, **one}) for one in CHAT]).usage == (
        CHAT_USAGE
    )
    assert folded(events).usage == ANTHROPIC_USAGE
    assert (
        folded([google.GenerateContentResponse.model_validate(chunk) for chunk in GEMINI]).usage
        == GEMINI_USAGE
    )
