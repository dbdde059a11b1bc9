"""OpenAI's usage: chat completions (and the many servers that copy them) and responses.

Both are inclusive: prompt tokens include the cached ones, completion tokens the reasoning
(https://platform.openai.com/docs/api-reference/chat/object, .../responses/object).
"""

from otel_agents.usage.reading import Counts
from otel_agents.usage.record import Usage


def read_chat(node: object) -> Usage:
    """Read the `usage` of a chat completion, of its last chunk, or of an embedding.

    xAI's chat completions leave the reasoning out of `completion_tokens`. It is told by its
    total, which is then the sum of all three, and the reasoning is added to the output.
    """
    counts = Counts(node)
    prompt = counts.get("prompt_tokens")
    completion = counts.get("completion_tokens")
    total = counts.get("total_tokens")
    reasoning = counts.get("completion_tokens_details", "reasoning_tokens")
    if completion is None and prompt is not None and prompt == total:
        completion = 0  # an embedding, which has no output
    if reasoning and prompt and completion and total == prompt + completion + reasoning:
        completion += reasoning
    audio = {
        "input_audio_tokens": counts.get("prompt_tokens_details", "audio_tokens"),
        "output_audio_tokens": counts.get("completion_tokens_details", "audio_tokens"),
    }
    return counts.usage(
        input_tokens=prompt,
        output_tokens=completion,
        cache_read_tokens=counts.get("prompt_tokens_details", "cached_tokens"),
        cache_write_tokens=counts.get("prompt_tokens_details", "cache_write_tokens"),
        reasoning_tokens=reasoning,
        extras={name: tokens for name, tokens in audio.items() if tokens},
    )


def read_responses(node: object) -> Usage:
    """Read the `usage` of a response, or of the event that ends its stream."""
    counts = Counts(node)
    return counts.usage(
        input_tokens=counts.get("input_tokens"),
        output_tokens=counts.get("output_tokens"),
        cache_read_tokens=counts.get("input_tokens_details", "cached_tokens"),
        cache_write_tokens=counts.get("input_tokens_details", "cache_write_tokens"),
        reasoning_tokens=counts.get("output_tokens_details", "reasoning_tokens"),
    )
