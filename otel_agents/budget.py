"""`Budget`: what may be spent in a run, phase, agent, task or workflow."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

BudgetScope = Literal["run", "phase", "agent", "task", "workflow"]
SCOPES: Final[tuple[BudgetScope, ...]] = ("run", "phase", "agent", "task", "workflow")
WARN_AT: Final = 0.8


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """A limit of money, tokens or time, or of several of them.

    `scope` is what it holds for: each run, each phase, agent or task in a run, or all runs of a
    workflow that a process makes. With a `name` it holds for those of that name only. A budget that
    a scope is given in code is that scope's own: `scope` and `name`, where they are set, must be
    those of the scope. `usd` is in US dollars, `tokens` counts input and output, `seconds` leave
    out waits for a human. At the share `warn_at` of a limit `budget_warning` is told, at the limit
    `budget_exceeded`, each once; with `enforce` no model call is begun beyond it: `BudgetExceeded`
    is raised in the agent.

        with run("shop", budget=Budget(usd=5, enforce=True)): ...
    """

    scope: BudgetScope = "run"
    name: str | None = None
    usd: float | None = None
    tokens: int | None = None
    seconds: float | None = None
    warn_at: float = WARN_AT
    enforce: bool = False

    def fields(self) -> dict[str, Any]:
        """Return the fields of a scope that say the same."""
        found = {
            "budget_usd": self.usd, "budget_tokens": self.tokens, "budget_seconds": self.seconds,
            "budget_warn_at": self.warn_at, "budget_enforce": self.enforce,
        }  # fmt: skip
        return {field: value for field, value in found.items() if value is not None}
