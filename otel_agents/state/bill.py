"""What scopes used and cost, added up."""

from __future__ import annotations

from math import fsum
from typing import TYPE_CHECKING

from otel_agents.state.run import NOTHING
from otel_agents.usage import Usage

if TYPE_CHECKING:
    from otel_agents.state.run import Spent

_MOST = 1e12  # USD; more is garbage, and infinities cannot be summed


class Bill:
    """A sum over scopes of what each used by itself; every scope is on it once.

    `unpriced` counts the tokens whose price is unknown.
    """

    __slots__ = ("_costs", "_usages", "unpriced")

    def __init__(self) -> None:
        self.unpriced = 0
        self._usages: list[Usage] = []
        self._costs: list[float] = []

    def add(self, spent: Spent) -> None:
        """Add what a scope used."""
        usage, cost, unpriced = spent
        if usage is not NOTHING:
            self._usages.append(usage)
        if cost is not None and abs(cost) < _MOST:
            self._costs.append(cost)
        self.unpriced += unpriced

    @property
    def usage(self) -> Usage:
        """The sum of tokens and calls."""
        found = self._usages
        if len(found) < 2:  # noqa: PLR2004
            return found[0] if found else NOTHING
        # Column by column: adding thousands of records pairwise takes ten times as long.
        return Usage(
            input_tokens=sum([usage.input_tokens for usage in found]),
            output_tokens=sum([usage.output_tokens for usage in found]),
            cache_read_tokens=sum([usage.cache_read_tokens for usage in found]),
            cache_write_tokens=sum([usage.cache_write_tokens for usage in found]),
            reasoning_tokens=sum([usage.reasoning_tokens for usage in found]),
            requests=sum([usage.requests for usage in found]),
            tool_calls=sum([usage.tool_calls for usage in found]),
            complete=all(usage.complete for usage in found),
        )

    @property
    def usd(self) -> float | None:
        """The cost in USD; None if the price of any token is unknown, or nothing was priced."""
        # fsum: a plain sum depends on the order the signals came in.
        return None if self.unpriced or not self._costs else fsum(self._costs)
