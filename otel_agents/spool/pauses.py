"""When a backend that could not take something is asked again."""

from __future__ import annotations

import random
import time
from typing import Final

FIRST_SECONDS: Final = 1.0
_LAST_SECONDS: Final = 30.0
_LONGEST_SECONDS: Final = 300.0  # whatever a Retry-After says


class Pauses:
    """From 1 to 30 seconds, twice as long each time, or as long as the backend asks for."""

    def __init__(self) -> None:
        self._failures = 0
        self._until = 0.0

    @property
    def failing(self) -> bool:
        """Whether the last request failed."""
        return self._failures > 0

    @property
    def left(self) -> float:
        """How many seconds are left; none below 0."""
        return max(0.0, self._until - time.monotonic())

    def begin(self, asked: float | None = None) -> None:
        """Pause after a failure; `asked` are the seconds that the backend wants to be left alone.

        Up to a fifth more or less, so that not all programs try at once.
        """
        grown = min(_LAST_SECONDS, FIRST_SECONDS * 2.0 ** min(self._failures, 10))
        own = grown * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
        self._failures += 1
        self._until = time.monotonic() + max(own, min(asked or 0.0, _LONGEST_SECONDS))

    def end(self) -> None:
        """Forget the failures: something was taken."""
        self._failures = 0
        self._until = 0.0
