"""Raw answers of providers, for programs that call one without an agent framework."""

from collections.abc import Callable

from otel_agents.usage import anthropic, bedrock, gemini, openai
from otel_agents.usage.reading import decoded, get, has
from otel_agents.usage.record import UNSEEN, Usage

Reader = Callable[[object], Usage]

_SHAPES: tuple[tuple[Reader, tuple[str, ...]], ...] = (
    (gemini.read, ("promptTokenCount", "prompt_token_count", "totalTokenCount")),
    (bedrock.read, ("inputTokens",)),
    (openai.read_chat, ("prompt_tokens",)),
    (
        anthropic.read,
        ("cache_read_input_tokens", "cache_creation_input_tokens", "server_tool_use", "iterations"),
    ),
    (openai.read_responses, ("input_tokens",)),
)
"""The readers, each with the fields that only its provider's usage has; the first match wins."""


def parse(payload: object, provider: str | None = None) -> Usage:
    """Read the usage of one provider answer.

    Understood are OpenAI's chat completions and responses, Anthropic's messages, Gemini's
    generateContent and Bedrock's Converse: the whole answer or its usage node alone; as a dict,
    as JSON text or bytes, or as the provider SDK's object.

    It never raises. An answer whose usage is absent, or that no provider sends, gives
    `requests=1, complete=False` and no tokens; counts that cannot be read are left out and make
    it incomplete. Check `Usage.complete` to tell "used nothing" from "not known".

    Args:
        payload: The answer.
        provider: Whose it is, as `gen_ai.provider.name` spells it. Only consulted where the
            fields do not tell.

    """
    try:
        body = decoded(payload)
        return read(node_of(body), provider)
    except Exception:  # noqa: BLE001 - hostile objects raise anything; the host must not see it
        return UNSEEN


def node_of(body: object) -> object:
    """Return the usage node of an answer, or the body itself when it looks like one."""
    for name in ("usageMetadata", "usage_metadata", "usage"):
        node = get(body, name)
        if node is not None:
            return node
    return body


def read(node: object, provider: str | None = None) -> Usage:
    """Read a usage node of any known shape; `UNSEEN` when it has none."""
    if provider is not None and "anthropic" in provider and has(node, "input_tokens"):
        return anthropic.read(node)
    for reader, fields in _SHAPES:
        if any(has(node, field) for field in fields):
            return reader(node)
    return UNSEEN
