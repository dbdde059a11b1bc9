"""What scopes used and cost, added up."""

from __future__ import annotations

from math import fsum
from typing import TYPE_CHECKING

from otel_agents.state.run import NOTHING
from otel_agents.usage import Usage

if TYPE_CHECKING:
    from otel_agents.state.run import Scope

_MOST = 1e12  # USD; more is garbage, and infinities cannot be summed
_UNFINISHED = Usage(complete=False)


class Bill:
    """A sum over scopes of what each used by itself; every scope is on it once.

    `unpriced` counts the tokens whose price is unknown.
    """

    __slots__ = ("_costs", "unpriced", "usage")

    def __init__(self) -> None:
        self.usage = Usage()
        self.unpriced = 0
        self._costs: list[float] = []

    def add(self, scope: Scope, *, lost: bool = False) -> None:
        """Add what a scope used; of a lost one some may never have been reported."""
        usage, cost, unpriced = scope.bill
        if usage is not NOTHING:
            self.usage = self.usage + usage
        if lost and scope.kind == "agent":
            self.usage = self.usage + _UNFINISHED
        if cost is not None and abs(cost) < _MOST:
            self._costs.append(cost)
        self.unpriced += unpriced

    @property
    def usd(self) -> float | None:
        """The cost in USD; None if the price of any token is unknown, or nothing was priced."""
        # fsum: a plain sum depends on the order the signals came in.
        return None if self.unpriced or not self._costs else fsum(self._costs)
