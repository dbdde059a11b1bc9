"""Tokens and money as they add up in a scope and in the scopes around it."""

from __future__ import annotations

import os
import threading
from typing import Any, Final

from otel_agents.usage import COUNTS, Usage
from otel_agents.vocabulary import (
    COST_TOTAL,
    TOTAL_CACHE_READ,
    TOTAL_CACHE_WRITE,
    TOTAL_INPUT,
    TOTAL_OUTPUT,
    TOTAL_REASONING,
    TOTAL_REQUESTS,
    TOTAL_TOOL_CALLS,
    UNPRICED,
    USAGE_COMPLETE,
)

# One lock for all: an addition takes 1 µs, and scopes of one run are added to from many threads.
_lock = threading.Lock()


def _after_fork() -> None:
    """Begin with a lock that no thread of the parent holds."""
    global _lock  # noqa: PLW0603 - a lock cannot be let go of by another thread
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)

# Models of one scope that are told apart; names come from providers, and these fit into a signal.
_MAX_MODELS: Final = 50
Model = tuple[str, str]
"""A provider and one of its models."""


class Tally:
    """Usage so far; `cost` is USD of what has a price, `unpriced` the tokens of what has none.

    `models` is what of it each model was used for, None until one was; usage that was counted
    without a model is in none of them.
    """

    __slots__ = (*COUNTS, "complete", "cost", "models", "unpriced")

    def __init__(self) -> None:
        self.input_tokens = 0
        self.output_tokens = 0
        self.cache_read_tokens = 0
        self.cache_write_tokens = 0
        self.reasoning_tokens = 0
        self.requests = 0
        self.tool_calls = 0
        self.complete = True
        self.cost: float | None = None
        self.unpriced = 0
        self.models: dict[Model, Tally] | None = None

    def _add(self, usage: Usage, cost: float | None, unpriced: int) -> None:
        self.input_tokens += usage.input_tokens
        self.output_tokens += usage.output_tokens
        self.cache_read_tokens += usage.cache_read_tokens
        self.cache_write_tokens += usage.cache_write_tokens
        self.reasoning_tokens += usage.reasoning_tokens
        self.requests += usage.requests
        self.tool_calls += usage.tool_calls
        if not usage.complete:
            self.complete = False
        if cost is not None:
            self.cost = cost if self.cost is None else self.cost + cost
        self.unpriced += unpriced

    def _add_model(self, model: Model, usage: Usage, cost: float | None, unpriced: int) -> None:
        if self.models is None:
            self.models = {}
        part = self.models.get(model)
        if part is None:
            if len(self.models) >= _MAX_MODELS:
                model = ("", "")
            part = self.models.setdefault(model, Tally())
        part._add(usage, cost, unpriced)  # noqa: SLF001 - one class

    @property
    def empty(self) -> bool:
        """Nothing was counted."""
        counted = self.requests or self.tool_calls or self.input_tokens or self.output_tokens
        return not counted and self.cost is None

    def usage(self) -> Usage | None:
        """Return what was counted, or None if nothing was."""
        if self.empty:
            return None
        return Usage(**{name: getattr(self, name) for name in COUNTS}, complete=self.complete)

    def attributes(self) -> dict[str, Any]:
        """Return the roll-up as span attributes; parts that are zero are left away."""
        found: dict[str, Any] = {}
        if self.requests:
            found[TOTAL_REQUESTS.key] = self.requests
            found[USAGE_COMPLETE.key] = self.complete
            if self.input_tokens or self.complete:
                found[TOTAL_INPUT.key] = self.input_tokens
                found[TOTAL_OUTPUT.key] = self.output_tokens
            if self.cache_read_tokens:
                found[TOTAL_CACHE_READ.key] = self.cache_read_tokens
            if self.cache_write_tokens:
                found[TOTAL_CACHE_WRITE.key] = self.cache_write_tokens
            if self.reasoning_tokens:
                found[TOTAL_REASONING.key] = self.reasoning_tokens
            if self.unpriced:
                found[UNPRICED.key] = self.unpriced
        if self.cost is not None and not self.unpriced:
            found[COST_TOTAL.key] = self.cost
        if self.tool_calls:
            found[TOTAL_TOOL_CALLS.key] = self.tool_calls
        return found


def add(
    own: Tally,
    around: list[Tally],
    usage: Usage,
    cost: float | None = None,
    unpriced: int = 0,
    model: Model | None = None,
) -> None:
    """Add usage to a scope's own tally and to the totals of it and of all scopes around it.

    Where it is a model's usage, the own tally keeps it by `model` too.
    """
    with _lock:
        own._add(usage, cost, unpriced)  # noqa: SLF001 - one module
        if model is not None:
            own._add_model(model, usage, cost, unpriced)  # noqa: SLF001 - one module
        for tally in around:
            tally._add(usage, cost, unpriced)  # noqa: SLF001 - one module
