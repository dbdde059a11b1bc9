"""The newest events of the feed, read from the store once for all who listen.

A listener keeps its own place and asks for what comes after it; nothing is queued for it. One
that is slow falls out of the tail and reads on from the store, at its own pace.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from bisect import bisect_right
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_agents.errors import OtelAgentsError
from otel_agents.server.live_formats import Sent

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_agents.store import Store

log = logging.getLogger("otel_agents.server")

PAGE: Final = 200
# Another process' commits ring no bell here. To ask whether there are any takes 0.1 ms.
LOOK_SECONDS: Final = 0.25
_MOST: Final = 2000
_MOST_BYTES: Final = 2 << 20
_MOST_HELD: Final = 256 << 10
_AHEAD: Final = 4  # pages that are read before the loop has taken the first
_PATIENCE_SECONDS: Final = 1.0


def up_to_size(events: list[Sent], format_: str) -> list[Sent]:
    """Return as many of the first events as one listener may hold, and at least one."""
    size = 0
    for number, one in enumerate(events):
        size += len(one.frames(format_))
        if size > _MOST_HELD and number:
            return events[:number]
    return events


class Listener(NamedTuple):
    """One who listens: `more` is set when there is more."""

    more: asyncio.Event
    format: str


class Tail:
    """The tail of one store. All but the reading happens in one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._events: list[Sent] = []
        self._size = 0
        self._joining = asyncio.Lock()
        self._listeners: set[Listener] = set()
        self._formats: Counter[str] = Counter()
        self._reader: _Reader | None = None
        self.first = 0  # events up to this one are not in the tail
        self.last = 0  # those up to this one are

    async def join(self, format_: str) -> Listener:
        """Return a new listener; the tail begins with the first one."""
        one = Listener(asyncio.Event(), format_)
        async with self._joining:
            if self._reader is None:
                _, last = await asyncio.to_thread(self._store.feed_bounds)
                self._events.clear()
                self._size = 0
                self.first = self.last = last
                self._reader = _Reader(self._store, last, self._formats, self._add)
            self._listeners.add(one)
            self._formats[format_] += 1
        return one

    def leave(self, one: Listener) -> None:
        """Undo `join`; without listeners nothing is read."""
        self._listeners.discard(one)
        self._formats[one.format] -= 1
        if not self._listeners and self._reader is not None:
            self._reader.stop()
            self._reader = None

    def after(self, seq: int, format_: str) -> list[Sent] | None:
        """Return what comes after an event, or None where the tail does not reach back so far."""
        if seq < self.first:
            return None
        begin = bisect_right(self._events, seq, key=lambda one: one.seq)
        return up_to_size(self._events[begin : begin + PAGE], format_)

    def _add(self, reader: _Reader, events: list[Sent]) -> None:
        if reader is not self._reader:
            return  # what the listeners before had read for them
        self._events.extend(events)
        self._size += sum(one.size for one in events)
        self.last = events[-1].seq
        # By half at a time: to drop one from the front of a list moves all the others.
        while len(self._events) > _MOST or (self._size > _MOST_BYTES and len(self._events) > 1):
            half = (len(self._events) + 1) // 2
            self._size -= sum(one.size for one in self._events[:half])
            self.first = self._events[half - 1].seq
            del self._events[:half]
        for one in self._listeners:
            one.more.set()


class _Reader:
    """A thread that reads what is committed and hands it to the loop.

    The writer's thread rings, this one reads and the loop sends: each change of threads can cost
    the 5 ms that Python lets a busy thread go on for, so there are no more than these.
    """

    def __init__(
        self,
        store: Store,
        last: int,
        forms: Counter[str],
        add: Callable[[_Reader, list[Sent]], None],
    ) -> None:
        self._store = store
        self._last = last
        self._formats = forms
        self._add = add
        self._loop = asyncio.get_running_loop()
        self._rung = threading.Event()
        self._over = False
        self._room = threading.Semaphore(_AHEAD)
        self._unsubscribe = store.on_commit(self._rung.set)
        threading.Thread(target=self._read_on, name="otel-agents-feed", daemon=True).start()

    def stop(self) -> None:
        """Read no more."""
        self._over = True
        self._unsubscribe()
        self._rung.set()

    def _read_on(self) -> None:
        problem = ""
        while not self._over and not self._loop.is_closed():
            self._rung.clear()  # before reading: what is committed from here on rings again
            try:
                page = self._store.signal_rows(self._last, PAGE)
            except OtelAgentsError as error:
                if str(error) != problem:
                    problem = str(error)
                    log.warning("the feed cannot be read: %s", problem)
                self._rung.wait(_PATIENCE_SECONDS)
                continue
            problem = ""
            if page and not self._hand_over([Sent(row) for row in page]):
                return
            if len(page) < PAGE:
                self._rung.wait(LOOK_SECONDS)

    def _hand_over(self, events: list[Sent]) -> bool:
        """Give a page to the loop; return whether there is one still that wants it."""
        for format_ in [one for one, count in list(self._formats.items()) if count]:
            for one in events:
                one.frames(format_)  # made here, so that the loop has only to send it
        self._last = events[-1].seq
        while not self._room.acquire(timeout=_PATIENCE_SECONDS):
            if self._over or self._loop.is_closed():
                return False
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._take, events)
            return True
        return False

    def _take(self, events: list[Sent]) -> None:
        self._room.release()
        self._add(self, events)
