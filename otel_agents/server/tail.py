"""The newest events of the feed, read from the store once for all who listen.

A listener keeps its own place and asks for what comes after it; nothing is queued for it. One
that is slow falls out of the tail and reads on from the store, at its own pace.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from otel_agents.errors import OtelAgentsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from otel_agents.store import Store

log = logging.getLogger("otel_agents.server")

PAGE: Final = 200
_MOST: Final = 2000
_MOST_BYTES: Final = 4 << 20
_MOST_HELD: Final = 256 << 10


class Sent(NamedTuple):
    """An event as it goes out. `text` is its envelope."""

    seq: int
    run_id: str | None
    text: str


def sent(event: dict[str, Any]) -> Sent:
    """Return an event of the store's as it goes out."""
    return Sent(event["seq"], event["run_id"], msgspec.json.encode(event).decode())


def up_to_size(events: list[Sent]) -> list[Sent]:
    """Return as many of the first events as one listener may hold, and at least one."""
    size = 0
    for number, one in enumerate(events):
        size += len(one.text)
        if size > _MOST_HELD and number:
            return events[:number]
    return events


class Tail:
    """The tail of one store. All but the store's callback happens in one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._events: list[Sent] = []
        self._bytes = 0
        self._joining = asyncio.Lock()
        self._listeners: set[asyncio.Event] = set()
        self._stop: Callable[[], None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._rung = False
        self.first = 0  # events up to this one are not in the tail
        self.last = 0  # those up to this one are

    async def join(self) -> asyncio.Event:
        """Return an event that is set when there is more; the tail begins with its first one."""
        more = asyncio.Event()
        async with self._joining:
            if self._stop is None:
                if self._reading is not None:
                    await self._reading  # of the listeners before; it ends without any
                self._stop = self._store.on_commit(self._ringer())
                _, last = await asyncio.to_thread(self._store.feed_bounds)
                self._events.clear()
                self._bytes = 0
                self.first = self.last = last
            self._listeners.add(more)
        self._read()
        return more

    def leave(self, more: asyncio.Event) -> None:
        """Undo `join`; without listeners nothing is read."""
        self._listeners.discard(more)
        if not self._listeners and self._stop is not None:
            self._stop()
            self._stop = None

    def after(self, seq: int) -> list[Sent] | None:
        """Return what comes after an event, or None where the tail does not reach back so far."""
        if seq < self.first:
            return None
        begin = bisect_right(self._events, seq, key=lambda one: one.seq)
        return up_to_size(self._events[begin : begin + PAGE])

    def _ringer(self) -> Callable[[], None]:
        loop = asyncio.get_running_loop()

        def ring() -> None:  # called by the store's writer, and must not fail it
            if not self._rung:
                self._rung = True
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(self._read)

        return ring

    def _read(self) -> None:
        if self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().create_task(self._read_on())

    async def _read_on(self) -> None:
        while self._listeners:
            self._rung = False  # before reading: what is committed from here on rings again
            try:
                page = await asyncio.to_thread(self._store.feed, self.last, PAGE)
            except OtelAgentsError as error:
                log.warning("the feed cannot be read: %s", error)
                return  # until the next commit
            if page:
                self._add([sent(event) for event in page])
            elif not self._rung:
                return

    def _add(self, events: list[Sent]) -> None:
        self._events.extend(events)
        self._bytes += sum(len(one.text) for one in events)
        self.last = events[-1].seq
        # By half at a time: to drop one from the front of a list moves all the others.
        while len(self._events) > _MOST or (self._bytes > _MOST_BYTES and len(self._events) > 1):
            half = (len(self._events) + 1) // 2
            self._bytes -= sum(len(one.text) for one in self._events[:half])
            self.first = self._events[half - 1].seq
            del self._events[:half]
        for more in self._listeners:
            more.set()
