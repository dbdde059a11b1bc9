"""Gemini's usage: the `usageMetadata` of generateContent and of each streamed chunk.

The prompt includes the cached content; the candidates exclude the thoughts, and the prompt
excludes the results of server-side tools (https://ai.google.dev/api/generate-content). A count
of 0 is left away on the wire, as in all of protobuf's JSON.
"""

from otel_agents.usage.reading import Counts, count, get, items
from otel_agents.usage.record import Usage

_MODALITIES = (
    ("promptTokensDetails", "input_{}_tokens"),
    ("toolUsePromptTokensDetails", "input_{}_tokens"),
    ("cacheTokensDetails", "cache_{}_read_tokens"),
    ("candidatesTokensDetails", "output_{}_tokens"),
)
_PRICED_AS = {"AUDIO": "audio", "IMAGE": "image", "DOCUMENT": "image", "VIDEO": "video"}


def read(node: object) -> Usage:
    """Read usage metadata, in the API's camelCase or in the Python SDK's snake_case."""
    counts = Counts(node)
    prompt = _either(counts, "promptTokenCount")
    tools = _either(counts, "toolUsePromptTokenCount") or 0
    thoughts = _either(counts, "thoughtsTokenCount") or 0
    candidates = _either(counts, "candidatesTokenCount") or 0
    return counts.usage(
        input_tokens=None if prompt is None else prompt + tools,
        output_tokens=candidates + thoughts,
        cache_read_tokens=_either(counts, "cachedContentTokenCount"),
        reasoning_tokens=thoughts,
        extras=_by_modality(node),
    )


def _by_modality(node: object) -> dict[str, int | float]:
    """Return the counts of all modalities but text, under genai-prices' names."""
    extras: dict[str, int | float] = {}
    for field, unit in _MODALITIES:
        for detail in _list(node, field):
            modality = get(detail, "modality")
            priced_as = _PRICED_AS.get(str(getattr(modality, "value", modality)).upper())
            tokens = count(get(detail, "tokenCount") or get(detail, "token_count"))
            if priced_as and tokens:
                name = unit.format(priced_as)
                extras[name] = extras.get(name, 0) + tokens
    if _list(node, "cacheTokensDetails"):
        # The cache is broken down: a modality that is not in it was not cached. Without the 0 a
        # model that has rates for both audio and cached audio could not be priced.
        for priced_as in sorted(set(_PRICED_AS.values())):
            if f"input_{priced_as}_tokens" in extras:
                extras.setdefault(f"cache_{priced_as}_read_tokens", 0)
    return extras


def _list(node: object, name: str) -> list[object] | tuple[object, ...]:
    return items(get(node, name) or get(node, _snake(name)))


def _either(counts: Counts, name: str) -> int | None:
    value = counts.get(name)
    return counts.get(_snake(name)) if value is None else value


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
