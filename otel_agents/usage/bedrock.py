"""Amazon Bedrock's usage: the Converse API, whatever the model behind it.

`inputTokens` excludes the cache, as Anthropic's does
(https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html).
"""

from otel_agents.usage.reading import Counts, count, get, items
from otel_agents.usage.record import Usage


def read(node: object) -> Usage:
    """Read the `usage` of a Converse answer, or of the metadata event that ends its stream."""
    counts = Counts(node)
    fresh = counts.get("inputTokens")
    cached = counts.get("cacheReadInputTokens") or 0
    written = counts.get("cacheWriteInputTokens") or 0
    hour = sum(
        count(get(detail, "inputTokens")) or 0
        for detail in items(get(node, "cacheDetails"))
        if get(detail, "ttl") == "1h"
    )
    return counts.usage(
        input_tokens=None if fresh is None else fresh + cached + written,
        output_tokens=counts.get("outputTokens"),
        cache_read_tokens=cached,
        cache_write_tokens=written,
        extras={"cache_write_1h_tokens": hour} if hour else None,
    )
