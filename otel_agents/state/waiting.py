"""Waits for humans in a run: which are open, and how much of a scope's time they take.

A scope waits while at least one human is waited for inside it; its active time is the rest. What
stands inside it, the tree of the signals says, and where that comes from another process, the ids.

A wait for a tool call that was put off outlives its agent, and even the run's own scope. A run that
ended well meanwhile is waiting, not over, until the wait is closed or the run is resumed; what was
asked before that is then left to whoever resumed it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_agents.vocabulary import WAIT_TOOL_CALL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_agents.state.run import RunState, Scope

Span = tuple[int, int]
"""A beginning and an end, in nanoseconds since the epoch."""
# Whose ids say that a wait is inside, where the tree does not.
_BY_IDS: Final = {"agent": "agent_id", "task": "task_id"}


def is_deferred(wait: Scope) -> bool:
    """Say whether a wait is one that outlives whoever asked."""
    return bool(wait.attribute(WAIT_TOOL_CALL.key))


def held(run: RunState) -> bool:
    """Say whether a run that ended well still waits for what its agents put off."""
    main = run.main
    if main is None or main.outcome != "success":
        return False
    return any(
        wait.end is None and is_deferred(wait) and wait.started >= main.started
        for wait in run.of_kind("human")
    )


class Waiting:
    """The waits of a run, up to a time.

    Args:
        run: The run.
        until: Up to when a wait that is open counts, in nanoseconds since the epoch.
        gone: Says of a wait that has not ended whether nobody waits any more, while the run goes
            on: it counts up to when it was last heard of.

    """

    def __init__(
        self, run: RunState, until: int, gone: Callable[[Scope], bool] | None = None
    ) -> None:
        self._until = until
        self._all: list[Span] = []
        self._inside: dict[str, list[Span]] = {}
        waits = run.of_kind("human")
        if not waits:
            return
        tries = [scope.started for scope in run.tries]
        named: dict[tuple[str, str], list[str]] = {}
        for kind, slot in _BY_IDS.items():
            for scope in run.of_kind(kind):
                named.setdefault((kind, getattr(scope.ids, slot) or ""), []).append(scope.key)
        for wait in waits:
            span = wait.started, self._end(wait, tries, gone)
            self._all.append(span)
            around = set(_above(run, wait))
            for kind, slot in _BY_IDS.items():
                if own := getattr(wait.ids, slot):
                    around.update(named.get((kind, own), ()))
            for key in around:
                self._inside.setdefault(key, []).append(span)

    def _end(self, wait: Scope, tries: list[int], gone: Callable[[Scope], bool] | None) -> int:
        if wait.end is not None:
            return wait.end.time
        # What a run was waiting for when it was lost, it was until it was resumed.
        later = [started for started in tries if started > wait.started]
        if later:
            return min(later)
        return wait.last if gone is not None and gone(wait) else self._until

    def seconds(self, scope: Scope) -> float:
        """Return how long a scope has waited; never more than it took."""
        spans = self._inside.get(scope.key)
        if not spans:
            return 0.0
        end = self._until if scope.end is None else scope.end.time
        waited = covered(spans, scope.started, end)
        return waited if scope.seconds is None else min(waited, scope.seconds)

    def between(self, since: int, until: int) -> float:
        """Return for how many seconds between two times anybody of the run was waited for."""
        return covered(self._all, since, until)


def _above(run: RunState, wait: Scope) -> Iterable[str]:
    """Return the keys of the scopes that a wait is in, as far as they are known."""
    seen: dict[str, None] = {}
    key = wait.identity.parent_id
    while key and key not in seen and (scope := run.scopes.get(key)) is not None:
        seen[key] = None
        key = scope.identity.parent_id
    return seen


def covered(spans: Iterable[Span], since: int, until: int) -> float:
    """Return how many seconds spans cover together between two times."""
    total, reached = 0, since
    for start, end in sorted(spans):
        start, end = max(start, reached), min(end, until)  # noqa: PLW2901 - cut to what is asked
        if end > start:
            total += end - start
            reached = end
    return total / 1e9
