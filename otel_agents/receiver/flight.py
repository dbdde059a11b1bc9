"""What is under way: bytes of requests not answered yet, and answers that wait for a commit."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final, Protocol

from otel_agents.receiver.limits import MAX_IN_FLIGHT
from otel_agents.receiver.status import INTERNAL, Refusal, busy
from otel_agents.store import Busy

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_agents.store.batch import Batch


class Submits(Protocol):
    """What the receiver needs of a store."""

    def submit(self, batch: Batch, done: Callable[[BaseException | None], None]) -> None:
        """Queue a batch; `done` is called after its commit. Raises Busy where there is no room."""


class InFlight:
    """The bytes of all requests that are not answered, over all listeners of a process.

    Attributes:
        held: The bytes now.
        counts: What was not taken as it came, by reason: requests by the status they were refused
            with, items rejected, texts cut.

    """

    def __init__(self, limit: int = MAX_IN_FLIGHT) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self.held = 0
        self.counts: Counter[str] = Counter()

    def note(self, reason: str, count: int = 1) -> None:
        """Count what was not taken as it came."""
        if count:
            with self._lock:
                self.counts[reason] += count

    def take(self, count: int) -> None:
        """Count bytes in; a refusal where they are too many."""
        with self._lock:
            if self.held + count > self._limit:
                message = "Too many bytes of other requests wait here."
                raise busy(message)
            self.held += count

    def give(self, count: int) -> None:
        """Count bytes out."""
        with self._lock:
            self.held -= count


IN_FLIGHT: Final = InFlight()


class Commits:
    """Waits for commits on an event loop, which is woken once for all that end together."""

    def __init__(self, store: Submits) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._ended: list[tuple[asyncio.Future[None], BaseException | None]] = []

    async def commit(self, batch: Batch) -> None:
        """Return once a batch is committed; a refusal where it is not."""
        future: asyncio.Future[None] = self._loop.create_future()

        def done(error: BaseException | None) -> None:
            with self._lock:
                first = not self._ended
                self._ended.append((future, error))
            if first:
                self._loop.call_soon_threadsafe(self._tell)

        try:
            self._store.submit(batch, done)
            await future
        except Busy as error:
            raise busy(str(error), error.retry_after) from error
        except Exception as error:
            # Not to be sent again: what the store does not take now it will not take then.
            message = "The store could not take the request."
            raise Refusal(500, INTERNAL, message) from error

    def _tell(self) -> None:
        with self._lock:
            ended, self._ended = self._ended, []
        for future, error in ended:
            if future.done():  # its client has gone
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
