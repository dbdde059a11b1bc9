"""Usage as pydantic-ai reports it, by its fields alone: pydantic-ai is not imported."""

from typing import Any

from otel_agents.usage.reading import count
from otel_agents.usage.record import UNSEEN, Usage, metered

_REASONING_DETAILS = ("reasoning_tokens", "thoughts_tokens", "thinking_tokens")
"""Where `details` has the reasoning: OpenAI and those like it, Google, Anthropic (by 2.30)."""

_NOT_EXTRA = frozenset(
    {
        "input_tokens",
        "output_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "output_reasoning_tokens",
        "requests",
        "tool_calls",
        "unmeasured_requests",
        "details",
        "cost",
    }
)


def from_pydantic_ai(usage: object) -> Usage:
    """Convert a `RequestUsage` or a `RunUsage`; never raises.

    Found in the sources of pydantic-ai 1.75, 2.0, 2.30, 2.50 and 2.68 and of genai-prices 0.0.48,
    0.0.62, 0.1.0 and 0.2.3, whose extractors pydantic-ai fills its usage with:

    - `input_tokens` includes the cached tokens for OpenAI, Anthropic and Google in all of them.
      Bedrock's Converse is the exception: before genai-prices 0.1.0 its cached tokens were left
      out of the input.
    - `output_tokens` includes the reasoning for all three in all of them.
    - The results of Google's server-side tools count as input; with genai-prices before 0.0.62
      they counted as output.
    - The reasoning stands in `details`, and by 2.68 in `output_reasoning_tokens` too.
    - An answer without usage is all zeros; 2.68 also counts it in `unmeasured_requests`. No
      model call uses no tokens at all, so zeros for a request are incomplete here.
    - Rates that a model charges apart (audio, one-hour cache writes, web searches) appear as
      further attributes under genai-prices' names: they give a `MeteredUsage`.

    The usage of a stream that was broken off is a lower bound that pydantic-ai does not mark
    before 2.68, nor after it while the stream goes on: who knows of the break marks it.
    """
    try:
        return _converted(usage)
    except Exception:  # noqa: BLE001 - hostile objects raise anything; the host must not see it
        return UNSEEN


def _converted(usage: Any) -> Usage:
    fields = vars(usage)
    extras = {
        name: fields[name]
        for name in fields.keys() - _NOT_EXTRA
        # Text is what plain rates are for; Google's usage counts it apart in every answer.
        if "_text_" not in name and type(fields[name]) in {int, float} and fields[name] > 0
    }
    input_tokens = count(getattr(usage, "input_tokens", None))
    output_tokens = count(getattr(usage, "output_tokens", None))
    requests = count(getattr(usage, "requests", 0)) or 0
    measured = bool(input_tokens or output_tokens or not requests)
    converted = Usage(
        input_tokens=input_tokens or 0,
        output_tokens=output_tokens or 0,
        cache_read_tokens=count(getattr(usage, "cache_read_tokens", 0)) or 0,
        cache_write_tokens=count(getattr(usage, "cache_write_tokens", 0)) or 0,
        reasoning_tokens=_reasoning(usage),
        requests=requests,
        tool_calls=count(getattr(usage, "tool_calls", 0)) or 0,
        complete=measured
        and not getattr(usage, "unmeasured_requests", 0)
        and input_tokens is not None
        and output_tokens is not None,
    )
    return metered(converted, extras) if extras else converted


def _reasoning(usage: object) -> int:
    """Return the reasoning tokens: a run's details hold each provider's under its own key."""
    named = count(getattr(usage, "output_reasoning_tokens", 0)) or 0
    details = getattr(usage, "details", None)
    if not details:
        return named
    return max(named, sum(count(details.get(key)) or 0 for key in _REASONING_DETAILS))
