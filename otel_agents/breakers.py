"""Circuit breakers: what keeps failing is left alone for a while, and tried again with care.

    breaker = Breaker("search-api", failures=5, reset_after=30)

    @breaker
    async def search(query): ...

    with breaker: ...
    if breaker.allow(): ...; breaker.success() or breaker.failure(error)

Closed, it lets all calls through; after so many failures in a row it is open and refuses them;
`reset_after` seconds later it is half open and lets a few through, of which one success closes it
and one failure opens it again. A call that is cancelled counts as neither.
"""

from __future__ import annotations

import functools
import inspect
import os
import threading
import time
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeVar, cast

from otel_agents import runtime
from otel_agents.asyncwith import AsyncWith
from otel_agents.boundary import caught
from otel_agents.context import current_ids
from otel_agents.failures import error_type_of, outcome_of
from otel_agents.reasons import BREAKERS
from otel_agents.runtime_events import emit_fact, say
from otel_agents.values import plain
from otel_agents.vocabulary import (
    BREAKER_POSITION,
    BREAKER_REASON,
    BREAKER_STATE,
    BREAKER_STATES,
)
from otel_agents.workers import open_worker, worker_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_F = TypeVar("_F", bound="Callable[..., Any]")
_CODES: Final = {"open": "OPENED", "half_open": "HALF_OPENED", "closed": "CLOSED"}

# The `with` blocks around the code here, the innermost last: which breaker let it in, and when.
_entered: Final[ContextVar[tuple[tuple[int, int], ...]]] = ContextVar(
    "otelagents-breakers", default=()
)


class _Change(NamedTuple):
    """A state that a breaker changed to; `when` is nanoseconds since the epoch."""

    state: str
    reason: str
    failures: int
    when: int


class BreakerOpen(RuntimeError):  # noqa: N818 - the public name
    """A breaker refused a call; the caller who put the breaker there asked for it."""


class Breaker(AsyncWith):
    """A circuit breaker, to be shared by all threads and tasks that make the calls.

    Args:
        name: What it guards: a label of metrics, never an id.
        failures: How many failures in a row open it, at least 1.
        reset_after: Seconds that it stays open before a trial.
        half_open_calls: How many trial calls may be under way at once, at least 1. One that never
            says how it went gives its place to another after `reset_after` seconds.
        clock: Seconds from any start, never going back; for tests.

    Raises ValueError where a number makes no breaker.

    """

    def __init__(
        self,
        name: str,
        failures: int = 5,
        reset_after: float = 30.0,
        half_open_calls: int = 1,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if failures < 1 or half_open_calls < 1 or not reset_after >= 0:
            message = (
                "a breaker needs failures and half_open_calls of at least 1 and reset_after of "
                f"at least 0; got {failures!r}, {half_open_calls!r} and {reset_after!r}"
            )
            raise ValueError(message)
        self.name = str(plain(name))
        self._most = failures
        self._reset_after = reset_after
        self._trials = half_open_calls
        self._clock = clock
        self._lock = threading.Lock()
        self._state = "closed"
        self._reason = ""
        self._failures = 0
        self._trying = 0
        self._tried_at = 0.0
        self._opened_at = 0.0
        self._changed_at = time.time_ns()
        # Counts the changes of state: how a call went that was let in before one says nothing now.
        self._round = 0
        self._workers: dict[str, None] = {}
        _all.add(self)

    @property
    def state(self) -> str:
        """`closed`, `half_open` or `open`; an open one turns half open at the next call."""
        return self._state

    def snapshot(self) -> dict[str, Any]:
        """Return name, state, reason and failures in a row; when it changed, and is tried again.

        `changed_at` is seconds since the epoch, `retry_in` seconds from now or None.
        """
        with self._lock:
            left = self._opened_at + self._reset_after - self._clock()
            return {
                "name": self.name,
                "state": self._state,
                "open": self._state == "open",
                "reason": self._reason,
                "failures": self._failures,
                "changed_at": self._changed_at / 1e9,
                "retry_in": max(0.0, left) if self._state == "open" else None,
            }

    # ------------------------------------------------------------------ by hand

    def allow(self) -> bool:
        """Return whether a call may be made now; then `success` or `failure` must be told.

        Or `abandon`, where the call came to nothing by no fault of what it calls.
        """
        return self._admit() is not None

    def success(self) -> None:
        """Say that a call went well."""
        self._succeeded(self._round)

    def failure(self, error: BaseException | None = None) -> None:
        """Say that a call failed; of the error only the class is told."""
        self._failed(self._round, error)

    def abandon(self) -> None:
        """Say that a call that was allowed came to nothing: it was cancelled, or never made."""
        self._abandoned(self._round)

    # ------------------------------------------------------------------ around calls

    def __enter__(self) -> Self:
        """Let the block in, or raise BreakerOpen."""
        _entered.set((*_entered.get(), (id(self), self._require())))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take how the block ended; the exception goes on as it was."""
        entered = _entered.get()
        # Entered in one context and left in another, as generators can be: it counts as of now.
        mine = self._round
        if entered and entered[-1][0] == id(self):
            mine = entered[-1][1]
            _entered.set(entered[:-1])
        self._judge(mine, error)

    def __call__(self, function: _F) -> _F:
        """Decorate a function, coroutine function or generator; refused, it raises BreakerOpen.

        Raises TypeError for an async generator: use `async with` inside it.
        """
        if inspect.isasyncgenfunction(function):
            name = getattr(function, "__qualname__", function)
            message = f"{name} is an async generator: use `async with` inside it"
            raise TypeError(message)
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def guarded_async(*args: Any, **kwargs: Any) -> Any:
                mine = self._require()
                try:
                    result = await function(*args, **kwargs)
                except BaseException as error:
                    self._judge(mine, error)
                    raise
                self._judge(mine, None)
                return result

            return cast("_F", guarded_async)
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def guarded_items(*args: Any, **kwargs: Any) -> Any:
                mine = self._require()
                try:
                    result = yield from function(*args, **kwargs)
                except BaseException as error:
                    self._judge(mine, error)
                    raise
                self._judge(mine, None)
                return result

            return cast("_F", guarded_items)

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            mine = self._require()
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                self._judge(mine, error)
                raise
            self._judge(mine, None)
            return result

        return cast("_F", guarded)

    def _require(self) -> int:
        mine = self._admit()
        if mine is None:
            found = self.snapshot()
            wait = found["retry_in"]
            when = "when a trial call has ended" if wait is None else f"in {wait:.1f} s"
            message = f"breaker {self.name} is {found['state']} ({found['reason']}); retry {when}"
            raise BreakerOpen(message)
        return mine

    def _judge(self, mine: int, error: BaseException | None) -> None:
        outcome = outcome_of(error)
        if outcome == "cancellation":
            self._abandoned(mine)
        elif outcome == "success":
            self._succeeded(mine)
        else:
            self._failed(mine, error)

    # ------------------------------------------------------------------ state

    def _admit(self) -> int | None:
        """Return the round that a call is let in in, or None where it is refused."""
        change = None
        with self._lock:
            now = self._clock()
            if self._state == "open" and now - self._opened_at >= self._reset_after:
                change = self._turn("half_open", f"{self._reset_after:g} s after it opened")
            if self._state == "half_open":
                if self._trying >= self._trials and now - self._tried_at >= self._reset_after:
                    self._trying = 0
                refused = self._trying >= self._trials
                if not refused:
                    self._trying += 1
                    self._tried_at = now
            else:
                refused = self._state == "open"
            mine, state, reason = self._round, self._state, self._reason
        if change is not None:
            self._tell(change)
        elif refused:
            self._mark(state, reason)
        else:
            _watch(runtime.peek())
        return None if refused else mine

    def _succeeded(self, mine: int) -> None:
        with self._lock:
            if mine != self._round or self._state == "open":
                return
            self._failures = 0
            half_open = self._state == "half_open"
            change = self._turn("closed", "a trial call succeeded") if half_open else None
        if change is not None:
            self._tell(change)

    def _failed(self, mine: int, error: BaseException | None) -> None:
        with self._lock:
            if mine != self._round or self._state == "open":
                return
            self._failures += 1
            kind = "" if error is None else f", the last with {error_type_of(error)}"
            change = None
            if self._state == "half_open":
                change = self._turn("open", f"a trial call failed{kind.replace(', the last', '')}")
            elif self._failures >= self._most:
                change = self._turn("open", f"{self._failures} in a row failed{kind}")
        if change is not None:
            self._tell(change)

    def _abandoned(self, mine: int) -> None:
        with self._lock:
            if mine == self._round and self._trying:
                self._trying -= 1

    def _turn(self, state: str, reason: str) -> _Change:
        self._state, self._reason = state, reason
        self._round += 1
        self._trying = 0
        # The latest is believed, so no two are of one time.
        self._changed_at = max(time.time_ns(), self._changed_at + 1)
        if state == "open":
            self._opened_at = self._clock()
        return _Change(state, reason, self._failures, self._changed_at)

    # ------------------------------------------------------------------ telling

    def _tell(self, change: _Change) -> None:
        """Tell of the state that it changed to: a fact, an event, a gauge, and its workers."""
        try:
            _watch(runtime.get())
            state, reason, failures = change.state, change.reason, change.failures
            attributes = {
                BREAKER_STATE.key: state, BREAKER_REASON.key: reason, "failures": failures,
            }  # fmt: skip
            emit_fact("breaker", self.name, attributes, when=change.when)
            code = BREAKERS[_CODES[state]]
            say(None, code, entity_id=self.name, reason=reason, failures=failures)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("breaker", error)
        self._mark(change.state, change.reason)

    def _mark(self, state: str, reason: str) -> None:
        """Say to the workers that it fails, or failed, what state it is in."""
        try:
            mine = worker_of(current_ids())
            if mine is not None and state != "closed":
                self._workers[mine.id] = None
            for worker_id in list(self._workers):
                worker = open_worker(worker_id)
                if worker is not None:
                    worker.circuit(self.name, state, reason)
                if worker is None or state == "closed":
                    self._workers.pop(worker_id, None)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("breaker", error)


class _All:
    """The breakers of this process that are still in use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._breakers: weakref.WeakSet[Breaker] = weakref.WeakSet()

    def add(self, breaker: Breaker) -> None:
        with self._lock:
            self._breakers.add(breaker)

    def found(self) -> list[Breaker]:
        with self._lock:
            return sorted(self._breakers, key=lambda breaker: breaker.name)

    def positions(self) -> list[tuple[tuple[Any, ...], float]]:
        found: dict[str, float] = {}
        for breaker in self.found():
            # Of two with one name the worse is told.
            position = BREAKER_STATES.index(breaker.state)
            found[breaker.name] = max(found.get(breaker.name, 0), position)
        return [((name,), position) for name, position in found.items()]

    def after_fork(self) -> None:
        """Let go of locks that threads of the parent may have held."""
        self._lock = threading.Lock()
        for breaker in self._breakers:
            breaker._lock = threading.Lock()  # noqa: SLF001 - one module


_all: Final = _All()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_all.after_fork)


def snapshots() -> list[dict[str, Any]]:
    """Return a snapshot of each breaker of this process that is still in use, by name."""
    return [breaker.snapshot() for breaker in _all.found()]


def _watch(rt: runtime.Runtime | None) -> None:
    """Report the state of all as a gauge, from the first call on that telemetry is on for."""
    try:
        if rt is not None and not rt.disabled:
            rt.metrics.watch(BREAKER_POSITION, _all.positions)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("breaker", error)
