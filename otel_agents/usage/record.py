"""What one or more model requests used, in tokens and calls."""

import msgspec

BILLING_TYPES = ("input", "cache_read", "cache_write", "output")
"""The disjoint token types of `Usage.by_type` and of the metric `otelagents.tokens`."""


COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "requests",
    "tool_calls",
)
"""The fields of `Usage` that are counts, in the order they are told."""


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens, requests and tool calls; `a + b` adds two of them up.

    Token counts are nested the way the GenAI semantic conventions nest `gen_ai.usage.*`: the input
    includes what was read from and written to the cache, the output includes the reasoning.

    Attributes:
        input_tokens: Prompt tokens, those of the cache included.
        output_tokens: Generated tokens, those of the reasoning included.
        cache_read_tokens: The part of the input that was read from the provider's cache.
        cache_write_tokens: The part of the input that was written to the provider's cache.
        reasoning_tokens: The part of the output that the model spent on thinking.
        requests: Requests that reached the provider and were (or may have been) billed.
        tool_calls: Tools that were executed. The parsers leave it at 0: a payload asks for tools,
            whoever runs them counts them.
        complete: False when something was billed that could not be seen: an answer without usage,
            a stream that broke off. The counts are then a lower bound.

    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    requests: int = 0
    tool_calls: int = 0
    complete: bool = True

    @property
    def extras(self) -> dict[str, int | float]:
        """Counts that some models charge a rate of their own for; see `MeteredUsage`."""
        return {}

    @property
    def total_tokens(self) -> int:
        """Input plus output: the number of tokens on the bill."""
        return self.input_tokens + self.output_tokens

    @property
    def fresh_input(self) -> int:
        """Input tokens that were neither read from nor written to the cache; never negative."""
        return max(0, self.input_tokens - self.cache_read_tokens - self.cache_write_tokens)

    def by_type(self) -> dict[str, int]:
        """Split the tokens into `BILLING_TYPES`, which always sum up to `total_tokens`.

        A provider that reports more cached tokens than input has the cached ones cut to fit.
        """
        read = min(self.cache_read_tokens, self.input_tokens)
        write = min(self.cache_write_tokens, self.input_tokens - read)
        return {
            "input": self.input_tokens - read - write,
            "cache_read": read,
            "cache_write": write,
            "output": self.output_tokens,
        }

    def __add__(self, other: object) -> "Usage":
        """Add two usages; the sum is complete when both are."""
        if not isinstance(other, Usage):
            return NotImplemented
        total = Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            requests=self.requests + other.requests,
            tool_calls=self.tool_calls + other.tool_calls,
            complete=self.complete and other.complete,
        )
        left, right = self.extras, other.extras
        if not left and not right:
            return total
        names = {**left, **right}
        return metered(total, {name: left.get(name, 0) + right.get(name, 0) for name in names})


class MeteredUsage(Usage, frozen=True, kw_only=True, omit_defaults=True):
    """A usage with further billed counts, which is all that sets it apart.

    Attributes:
        extras: Counts under the unit names of genai-prices: `cache_write_1h_tokens` (a part of
            `cache_write_tokens`), `input_audio_tokens` (a part of `input_tokens`),
            `web_searches` (no part of anything). Never empty. `Prices` charges those that the
            model has a rate for.

    """

    extras: dict[str, int | float]


def metered(usage: Usage, extras: dict[str, int | float]) -> Usage:
    """Return the usage with these extras in place of any; a plain one when there are none."""
    counts = {name: getattr(usage, name) for name in Usage.__struct_fields__}
    return MeteredUsage(**counts, extras=extras) if extras else Usage(**counts)


UNSEEN = Usage(requests=1, complete=False)
"""One request of which no usage is known: absent is not zero."""
