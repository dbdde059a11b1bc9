"""Anthropic's usage: messages, and the events of their streams.

`input_tokens` excludes the cache: the prompt is input + cache reads + cache writes. The output
includes the thinking (https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching).
"""

from typing import Any

from otel_agents.usage.reading import Counts, get, items
from otel_agents.usage.record import Usage

_FIELDS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_creation",
    "output_tokens_details",
    "server_tool_use",
    "iterations",
)


def read(node: object) -> Usage:
    """Read the `usage` of a message.

    A compaction on the server is billed with the request but stands in `iterations` only: it is
    added. An advisor's iterations are billed as another model's: they make it incomplete.
    """
    counts = Counts(node)
    fresh, output = counts.get("input_tokens"), counts.get("output_tokens")
    read_, write, hour = _cached(counts)
    whole = True
    for iteration in items(get(node, "iterations")):
        kind = get(iteration, "type")
        if kind == "compaction":
            part = Counts(iteration)
            fresh = (fresh or 0) + (part.get("input_tokens") or 0)
            output = (output or 0) + (part.get("output_tokens") or 0)
            more = _cached(part)
            read_, write, hour = read_ + more[0], write + more[1], hour + more[2]
            whole = whole and part.readable
        elif kind == "advisor_message":
            whole = False
    counts.readable = counts.readable and whole
    extras = {
        "cache_write_1h_tokens": hour,
        "web_searches": counts.get("server_tool_use", "web_search_requests") or 0,
    }
    return counts.usage(
        input_tokens=None if fresh is None else fresh + read_ + write,
        output_tokens=output,
        cache_read_tokens=read_,
        cache_write_tokens=write,
        reasoning_tokens=counts.get("output_tokens_details", "thinking_tokens"),
        extras={name: number for name, number in extras.items() if number},
    )


def merged(seen: dict[str, Any], node: object) -> dict[str, Any]:
    """Lay the usage of one stream event over that of the events before.

    The counts are cumulative, so the newest wins. A 0 does not replace a count, since servers
    that copy the API send 0 for what they gave at the start; it does with `iterations`, where a
    compaction moves counts from the top level to its own entry.
    """
    moved = bool(items(get(node, "iterations")))
    for name in _FIELDS:
        value = get(node, name)
        if value is not None and (value != 0 or moved or not seen.get(name)):
            seen[name] = value
    return seen


def _cached(counts: Counts) -> tuple[int, int, int]:
    """Return the cache reads, the cache writes, and the part of the writes kept for an hour."""
    write = counts.get("cache_creation_input_tokens") or 0
    # A stream gives the split at its start only, and the total may shrink after that.
    hour = min(counts.get("cache_creation", "ephemeral_1h_input_tokens") or 0, write)
    return counts.get("cache_read_input_tokens") or 0, write, hour
