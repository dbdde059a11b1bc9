"""What the disk does not take, kept until it is delivered or the disk takes it after all."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_agents.spool.segment import Batch, Source

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_BYTES: Final = 8 << 20


class Kept(NamedTuple):
    """An item with its source, or a whole request of so many items, which has none."""

    source: Source | None
    body: bytes
    items: int


class Memory:
    """Items in the order they came, up to 8 MiB. Whoever calls it holds a lock."""

    def __init__(self) -> None:
        self._kept: deque[Kept] = deque()
        self._hand: list[Kept] = []  # what is being sent
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._kept or self._hand)

    def keep(self, source: Source | None, body: bytes, items: int) -> bool:
        """Keep an item; False where there is no room."""
        if self._bytes + len(body) > _MOST_BYTES:
            return False
        self._kept.append(Kept(source, body, items))
        self._bytes += len(body)
        return True

    def take(self, most: int) -> Batch | None:
        """Return the first of it, which is in hand until it is `delivered` or `put_back`."""
        while self._kept and len(self._hand) < most:
            self._hand.append(self._kept.popleft())
        if not self._hand:
            return None
        items = [(one.source, one.body) for one in self._hand if one.source is not None]
        requests = [(one.items, one.body) for one in self._hand if one.source is None]
        return Batch(items, requests, sum(one.items for one in self._hand), 0)

    def put_back(self) -> None:
        """Keep what was in hand."""
        self._kept.extendleft(reversed(self._hand))
        self._hand = []

    def delivered(self) -> None:
        """Forget what was in hand."""
        self._bytes -= sum(len(one.body) for one in self._hand)
        self._hand = []

    def empty(self) -> Iterator[Kept]:
        """Give all of it away, what is in hand too: nobody may be there to see what comes of it."""
        self.put_back()
        self._bytes = 0
        while self._kept:
            yield self._kept.popleft()
