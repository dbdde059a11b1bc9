"""Critics' decisions, which can be told twice: by themselves, and as their agent's end."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from otel_agents.vocabulary import Outcome

VERDICTS: Final[dict[str, Outcome]] = {"approved": "success", "rejected": "failure"}
"""The result that a decision is counted under, by the status of its agent's end."""


class Decisions:
    """Tells new decisions from those that were told in the other way already.

    Of one task, agent and verdict as many are new as the way of telling has that told of more.
    Those unheard of for longest are forgotten beyond `most` of them. Not for several threads.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._told: OrderedDict[tuple[str | None, str, str], list[int]] = OrderedDict()

    def new(self, task_id: str | None, agent: str | None, verdict: str, *, recorded: bool) -> bool:
        """Take in a decision; return whether it is a new one. Without an agent it always is."""
        if agent is None:
            return True
        key = task_id, agent, verdict
        told = self._told.setdefault(key, [0, 0])
        before = max(told)
        told[recorded] += 1
        self._told.move_to_end(key)
        if len(self._told) > self._most:
            self._told.popitem(last=False)
        return max(told) > before
