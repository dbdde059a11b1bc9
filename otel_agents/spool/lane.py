"""One kind of data on its way: appended to segments by any thread, sent by one of ours.

What is appended is in the file when the call returns. The sender takes the oldest segment first,
those of dead processes among them, and goes on until all is delivered or refused for good.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, set_value

from otel_agents.boundary import boundary, caught
from otel_agents.spool.memory import Memory
from otel_agents.spool.pauses import Pauses
from otel_agents.spool.segment import Batch, Segment, Source, TooLargeError
from otel_agents.spool.shipping import Shipping

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_agents.spool.destination import Destination
    from otel_agents.spool.directory import Directory

SEGMENT_BYTES: Final = 4 << 20
_SMALLEST_SEGMENT: Final = 64 << 10
# Servers take 4 MiB over gRPC by default.
_BATCH_BYTES: Final = 1 << 20
_BATCH_ITEMS: Final = 2048
# How long items gather before they are sent: a request costs about a millisecond.
_LINGER_SECONDS: Final = 1.0
# While a backend is away, what is told is brought to the disk itself so often: a power failure
# costs what came since. Otherwise it is delivered before that would be done.
_SYNC_SECONDS: Final = 1.0
_ADOPT_SECONDS: Final = 5.0
_QUIET_SECONDS: Final = 60.0
_AWAY_SECONDS: Final = 1.5
# How long the end of a program, and that of a lane, waits for who makes room.
_TIDY_SECONDS: Final = 0.2
_CLOSE_SECONDS: Final = 5.0

_left_alone: Final[list[Any]] = []  # connections of the parent, in a forked child


class Lane:
    """What goes to one end point: traces, metrics or logs."""

    def __init__(
        self,
        signal: str,
        directory: Directory,
        destination: Destination,
        encode: Callable[[Any, Any], Source],
    ) -> None:
        self.signal = signal
        self.destination = destination
        self._directory = directory
        self._encode = encode
        self._segment_bytes = min(SEGMENT_BYTES, max(_SMALLEST_SEGMENT, directory.max_bytes // 8))
        self._begin()

    def _begin(self) -> None:
        # A span may end in a signal handler, in a thread that is appending.
        self._lock = threading.RLock()
        # Held by the sender while it reads, thins or ends segments, but not while it sends; taken
        # before the other lock.
        self._front = threading.RLock()
        self._live: Segment | None = None
        self._done: deque[Segment] = deque()  # ours and adopted, appended to no more
        self._memory = Memory()
        self._thread: threading.Thread | None = None
        self._beginning = threading.Lock()
        # Not an event, whose lock a signal handler could find taken.
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._asleep = False
        self._closing = False
        self._turned = False  # a segment was begun or ended: the directory may be full
        self._hurry = False
        self._shipping = Shipping(self.signal, self.destination)
        self._pauses = Pauses()
        self._adopted = 0.0
        # Since when there has been something that is neither delivered nor on the disk itself.
        self._since = self._read_at = time.monotonic()
        self._read_to = 0
        self._idle = threading.Condition()  # a signal handler may flush in a thread that does
        self._said = -_QUIET_SECONDS
        self.sent = 0  # items that were acknowledged
        self.trouble = ""  # what the backend said when it last did not take something, for now
        self._shut_out = False  # what others told is not taken from us

    # ------------------------------------------------------------------ appending

    def append(self, resource: Any, scope: Any, body: bytes, weight: int) -> None:
        """Append an item: a span or a log record, encoded. It never raises, and does not wait."""
        with self._lock:
            try:
                segment = self._live or self._opened()
                segment.add(resource, scope, body, weight, self._encode)
                if segment.size > self._segment_bytes:
                    self._turn()
            except TooLargeError:
                self.lose("too large", 1)
            except OSError:
                self._remember(self._encode(resource, scope), body, 1)
        if self._asleep or self._thread is None:
            self._rouse()

    def append_request(self, body: bytes, count: int) -> None:
        """Append a whole export request of so many items."""
        with self._lock:
            try:
                segment = self._live or self._opened()
                segment.add_request(body, count)
                if segment.size > self._segment_bytes:
                    self._turn()
            except TooLargeError:
                self.lose("too large", count)
            except OSError:
                self._remember(None, body, count)
        if self._asleep or self._thread is None:
            self._rouse()

    def lose(self, reason: str, count: int, segment: str = "") -> None:
        """Count items that are given up."""
        self._directory.lose(self.signal, reason, count, segment)

    def _opened(self) -> Segment:
        if self._closing:
            message = "the spool is closed"
            raise OSError(message)
        self._turned = True
        try:
            made = Segment.create(self._directory.path, self.signal)
        except FileNotFoundError:  # somebody has deleted the directory
            self._directory.make()
            made = Segment.create(self._directory.path, self.signal)
        if self._live is None:
            self._live = made
        else:  # a signal handler made one meanwhile, and has appended to it
            made.close(remove=True)
        return self._live

    def _turn(self) -> None:
        """Go on with a new segment."""
        segment, self._live = self._live, None
        if segment is not None:
            segment.live = False
            self._done.append(segment)
        self._turned = True

    def _remember(self, source: Source | None, body: bytes, count: int) -> None:
        """Keep in memory what the disk does not take, as far as there is room."""
        if self._closing:
            self.lose("closed", count)
        elif not self._memory.keep(source, body, count):
            self.lose("disk full", count)

    # ------------------------------------------------------------------ the sender's thread

    def _rouse(self) -> None:
        if self._thread is None:
            # Whoever has it begins the thread; it may be this one, below a signal handler.
            if not self._beginning.acquire(blocking=False):
                return
            try:
                self._begin_thread()
            finally:
                self._beginning.release()
        self._asleep = False
        self._wake.put(None)

    def _begin_thread(self) -> None:
        if self._thread is None and not self._closing:
            name = f"otel-agents-spool-{self.signal}"
            self._thread = thread = threading.Thread(target=self._work, name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending: the next process sends it
                self._thread = None
            except BaseException:  # an interrupt of the host's
                self._thread = None
                raise

    def _work(self) -> None:
        # Else an instrumentation of the HTTP client would make spans of sending spans.
        attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        while not self._closing:
            try:
                self._pass()
            except Exception as error:  # noqa: BLE001 - the thread must live on
                self._failed(error)
        with self._idle:
            self._idle.notify_all()

    def _failed(self, error: Exception) -> None:
        self._pauses.begin()
        with self._lock:
            self._memory.put_back()
        self._be_calm()
        # In strict mode this raises, but the thread must live on.
        with contextlib.suppress(Exception):
            caught(f"spool {self.signal}", error)

    def _pass(self) -> None:
        """Send what there is, then sleep."""
        if self._turned:
            self._turned = False
            with self._front, contextlib.suppress(OSError):
                self._directory.make_room(self._thinnable)
        wait = self._pauses.left
        if wait and not self._hurry:
            self._sync()
            self._sleep(min(wait, _SYNC_SECONDS))
            return
        if self.failing or time.monotonic() - self._since > _SYNC_SECONDS:
            self._sync()  # the next request may take its whole time
        with self._front:
            found = None if self._closing else self._next()
        if found is None:
            self._since = self._read_at
            with self._idle:
                self._idle.notify_all()
            self._asleep = True
            # Looked at again: what is appended from now on wakes us.
            if self._nothing_waits() and not self._closing:
                self._sleep(_ADOPT_SECONDS)
            self._asleep = False
            if not self._hurry and not self._closing:
                self._sleep(_LINGER_SECONDS, quiet=True)
            return
        segment, batch = found
        self._deliver(segment, batch)
        if segment is None or not segment.live or self._pauses.left:
            return
        if batch.total < _BATCH_ITEMS and segment.size - segment.offset < _BATCH_BYTES:
            # Else what was told meanwhile would go in a request of a few items, and so on.
            self._sleep(_LINGER_SECONDS, quiet=True)

    def _sleep(self, seconds: float, *, quiet: bool = False) -> None:
        """Sleep until woken; or quietly, until something hurries."""
        if quiet:
            with self._idle:
                if not self._hurry:
                    self._idle.wait(seconds)
            return
        with contextlib.suppress(Empty):
            self._wake.get(timeout=seconds)
        with contextlib.suppress(Empty):
            while True:
                self._wake.get_nowait()

    def _thinnable(self) -> list[Segment]:
        with self._lock:
            return list(self._done)

    def _nothing_waits(self) -> bool:
        with self._lock:
            live = self._live
            return not self._memory and not self._done and (live is None or live.done)

    def _next(self) -> tuple[Segment | None, Batch] | None:
        """Return what to send next, the oldest first."""
        now = self._read_at = time.monotonic()
        if now - self._adopted > _ADOPT_SECONDS and not self._hurry:
            self._adopted = now
            self._directory.tell_untold()
            self._adopt()
        while True:
            with self._lock:
                segment = self._done[0] if self._done else self._live
                end = self._read_to = 0 if segment is None else segment.size
                if segment is None or (segment.live and segment.done):
                    break
                segment.busy = True
            batch = segment.read(_BATCH_ITEMS, _BATCH_BYTES, end)
            if batch.total:
                return segment, batch
            self._go_on(segment, batch)
        with self._lock:
            found = self._memory.take(_BATCH_ITEMS)
        return None if found is None else (None, found)

    def _adopt(self) -> None:
        """Take a dead process's segment; one at a time, since each is an open file."""
        with self._lock:
            wanted = not self._shut_out and not any(one.adopted for one in self._done)
        adopted = self._directory.adopt(self.signal) if wanted else None
        if adopted is not None:
            with self._lock:
                self._done.appendleft(adopted)

    def _give_back(self, segment: Segment) -> None:
        """Leave what another process told to somebody whom the backend lets in."""
        with self._front, self._lock:
            if segment in self._done:
                self._done.remove(segment)
            segment.close()
        self._shut_out = True

    def _go_on(self, segment: Segment, batch: Batch) -> None:
        """Leave a batch behind, and a segment that has no more."""
        if batch.spoiled or batch.lost:
            self._directory.keep_spoiled(segment, batch.spoiled)
            self.lose("corrupt", batch.lost, segment.path.name)
        with self._front, self._lock:
            segment.acknowledge(batch)
            segment.busy = False
            # A long run leaves no long file behind.
            if segment.done and (not segment.live or segment.size > _BATCH_BYTES):
                if segment.live:
                    self._live = None
                elif segment in self._done:
                    self._done.remove(segment)
                    if segment.adopted:
                        self._adopted = -_ADOPT_SECONDS  # there may be another
                segment.close(remove=True)

    def _sync(self) -> None:
        with self._lock:
            live = [] if self._live is None else [self._live]
            waiting = [one for one in (*self._done, *live) if not one.synced_whole]
        with self._front:
            for one in waiting:
                one.sync()
        if waiting:
            self._directory.sync()  # their names
        self._since = time.monotonic()

    # ------------------------------------------------------------------ sending

    def _deliver(self, segment: Segment | None, batch: Batch) -> None:
        try:
            self._delivered(segment, batch)
        finally:
            if segment is not None:
                segment.busy = False
                if self._closing:
                    segment.close(remove=segment.done)

    def _delivered(self, segment: Segment | None, batch: Batch) -> None:
        outcome, refused, rejected = self._shipping.ship(batch.items, batch.requests)
        if outcome.again:
            with self._lock:
                self._memory.put_back()
            self._pauses.begin(outcome.after)
            self.trouble = outcome.why
            self._say("cannot be delivered and is kept", outcome.why)
            self._be_calm()
            return
        self._pauses.end()
        name = "" if segment is None else segment.path.name
        if refused == batch.total and segment is not None and segment.adopted and not outcome.split:
            # Not for what they are: the token, the path or the protocol is wrong here.
            self.trouble = outcome.why
            self._say("of another process was refused and is kept", outcome.why)
            self._give_back(segment)
            return
        if refused:
            self._say(f"was refused, {refused} items are lost", outcome.why)
            self.lose("refused", refused, name)
        else:
            self.trouble, self._shut_out = "", False
        rejected = min(rejected, batch.total - refused)
        self.lose("rejected", rejected, name)
        self.sent += batch.total - refused - rejected
        if segment is not None:
            if segment is self._live and batch.end >= self._read_to:
                self._since = self._read_at
            self._go_on(segment, batch)
            return
        with self._lock:
            self._memory.delivered()

    def _be_calm(self) -> None:
        """Let nobody who waits have the next request sent before its time."""
        with self._idle:
            self._hurry = False
            self._idle.notify_all()

    def _say(self, what: str, why: str) -> None:
        now = time.monotonic()
        if now - self._said >= _QUIET_SECONDS:
            self._said = now
            endpoint = self.destination.endpoint
            boundary.warn("otel-agents: %s for %s %s: %s", self.signal, endpoint, what, why)

    # ------------------------------------------------------------------ waiting and ending

    @property
    def failing(self) -> bool:
        """Whether the last request failed, so that waiting for the next makes little sense."""
        return self._pauses.failing

    def flush(self, deadline: float) -> bool:
        """Wait until all is delivered; False if it takes too long, or the backend is away.

        One that was away when it was last asked is given a second or so to answer: the data are
        safe, and a host that waits for it after each agent would stand still.
        """
        if self.failing:
            deadline = min(deadline, time.monotonic() + _AWAY_SECONDS)
        self.hurry()
        with self._idle:
            while not self._nothing_waits():
                left = deadline - time.monotonic()
                if left <= 0 or self._thread is None or (self.failing and self._pauses.left):
                    break
                self._idle.wait(min(left, 0.05))
            self._hurry = False
        return self._nothing_waits()

    def hurry(self) -> None:
        """Send at once what waits, unless the backend is known to be away."""
        with self._idle:
            self._hurry = not self.failing
            self._idle.notify_all()
        if not self._nothing_waits():
            self._rouse()

    def drain(self, deadline: float) -> bool:
        """Send in this thread what dead processes left; False if something is left at the end."""
        while True:
            if not self._done:
                self._adopt()
            found = self._next()
            if found is None:
                return not self._done
            self._deliver(*found)
            if self._shut_out:
                return False
            if self.failing:
                wait = self._pauses.left
                if time.monotonic() + wait > deadline:
                    return False
                time.sleep(wait)

    def tidy(self) -> None:
        """Leave nothing behind that need not be: what waits is in files, for the next process."""
        lost = 0
        with self._lock:
            for source, body, count in self._memory.empty():
                lost += 0 if self._written(source, body, count) else count
        self.lose("closed", lost)
        if self._front.acquire(timeout=_TIDY_SECONDS):
            try:
                with self._lock:
                    live = self._live
                    if live is not None and live.done and not live.busy:
                        live.close(remove=True)
                        self._live = None
            finally:
                self._front.release()
        self._directory.tell_untold()

    def _written(self, source: Source | None, body: bytes, count: int) -> bool:
        """Try once more to write what is in memory only."""
        try:
            segment = self._live or self._opened()
            if source is None:
                segment.add_request(body, count)
            else:
                segment.add_item(source, body, 1)
        except (OSError, TooLargeError):
            return False
        return True

    def close(self) -> None:
        """Let go of the segments; what comes from now on is counted as lost."""
        self.tidy()
        self._closing = True
        if self._front.acquire(timeout=_CLOSE_SECONDS):
            try:
                self._let_go()
            finally:
                self._front.release()
        self._wake.put(None)
        with self._idle:
            self._idle.notify_all()

    def _let_go(self) -> None:
        with self._lock:
            live = [] if self._live is None else [self._live]
            for segment in (*self._done, *live):
                if not segment.busy:
                    segment.close(remove=segment.done)
            self._done.clear()
            self._live = None

    def after_fork(self) -> None:
        """Begin anew in a forked child: the segments are the parent's."""
        live = [] if self._live is None else [self._live]
        for segment in (*self._done, *live):
            segment.forget()
        _left_alone.append(self._shipping)  # to close its connection could hang
        self._begin()
