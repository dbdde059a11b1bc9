"""How much trouble, for how long, and since when."""

import contextlib
import time
from collections.abc import Iterator
from typing import NamedTuple, Protocol


class Scale(NamedTuple):
    """How often what can be counted happens; how many seconds what lasts goes on.

    What lasts began `ago` seconds before it is told of, so that nobody has to wait for it to get
    old.
    """

    times: int
    hold: float
    ago: float

    @property
    def since(self) -> int:
        """When what lasts began, in nanoseconds since the epoch."""
        return time.time_ns() - int(self.ago * 1e9)


class Late(Protocol):
    """A scope of otel-agents that has not started."""

    dated: int | None

    def __enter__(self) -> object:
        """Start it."""

    def __exit__(self, *error: object) -> None:
        """End it."""


@contextlib.contextmanager
def told_late(scope: Late, since: int) -> Iterator[None]:
    """Open a scope as if it had been opened then; it ends now."""
    scope.dated = since
    with scope:
        scope.dated = None
        yield
