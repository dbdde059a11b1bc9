"""What the scopes work with: a tracer, metrics, a way out for signals, and prices.

`configure.py` makes it and puts it here; the scopes below it only ask for the current one.
"""

from __future__ import annotations

import atexit
import math
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from otel_agents.boundary import caught
from otel_agents.metrics import Metrics
from otel_agents.pipeline import Pipeline
from otel_agents.profiles import PROFILES, Profile
from otel_agents.version import __version__
from otel_agents.vocabulary import NAMESPACE, SCHEMA_URL

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Tracer, TracerProvider

    from otel_agents.pipeline import Sink
    from otel_agents.signals import Signal
    from otel_agents.usage import Prices, Usage


# Where a runtime cannot be made, when it is tried again: soon, for what passes by itself, and then
# once a minute, since each try costs the scope that makes it.
_FIRST_RETRY_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 60.0


class Budgets(Protocol):
    """The budgets in force; see `ledgers.py`."""

    def limits(self, scope: Any, attributes: dict[str, Any]) -> dict[Any, Any] | None:
        """Return a beginning scope's limits, stated in its attributes; None without a budget."""

    def opened(self, scope: Any, limits: dict[Any, Any]) -> None:
        """Give a scope that has begun its ledgers, and tell of those that are nearly empty."""

    def closing(self, scope: Any, attributes: dict[str, Any]) -> None:
        """Add what was spent to the attributes that a scope ends with."""

    def spend(self, scope: Any, usage: Usage, cost: float | None) -> None:
        """Take usage from the ledgers of a scope, and tell of those that it nearly empties."""

    def check(self, scope: Any, usage: Usage | None = None, cost: float | None = None) -> None:
        """Raise BudgetExceeded where a scope's budget is spent, `usage` not counted yet with it."""


class Checkpoints(Protocol):
    """What saves the working tree by itself; see `checkpoints.py`."""

    def concern(self, scope: Any) -> bool:
        """Say whether a scope may have to wait when it starts."""

    async def aside(self, start: Callable[[], None], end: Callable[[BaseException], None]) -> None:
        """Call `start` in a thread; `end` what it started where the caller is cancelled."""

    def before(self, scope: Any, attributes: dict[str, Any]) -> None:
        """Save the tree before a scope that needs it, and put the checkpoint's id on it."""

    def opened(self, scope: Any) -> None:
        """Take note of a scope that has started."""

    def closed(self, scope: Any) -> None:
        """Take note of a scope that ends."""


class Answers(Protocol):
    """Where the answers of humans come from; see `answers.py`."""

    def poll(self, wait_id: str) -> Any:
        """Return the `Answer` to a wait, or None while there is none; it may block a while."""


class Runtime:
    """One configuration at work.

    `capture` allows message content on spans, `capture_events` on log events; `disabled` turns
    every scope into a no-op. `budgets`, `checkpoints` and `answers` guard scopes, each None where
    there are none. `log_file` returns what to say of an agent's log file, `event_sinks`
    makes the sinks that the first event of the program's own opens.
    """

    def __init__(  # noqa: PLR0913 - the composition root names each part
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        metrics: Metrics | None = None,
        pipeline: Pipeline | None = None,
        prices: Prices | None = None,
        profile: Profile = PROFILES["compat"],
        capture: bool = False,
        capture_events: bool = False,
        disabled: bool = False,
        attach_processor: Callable[[Any], None] | None = None,
        log_file: Callable[[str], dict[str, str]] | None = None,
        event_sinks: Callable[[], list[Sink]] | None = None,
        budgets: Budgets | None = None,
        checkpoints: Checkpoints | None = None,
        answers: Answers | None = None,
    ) -> None:
        self._tracer_provider = tracer_provider
        self.metrics = metrics or Metrics()
        self._pipeline = pipeline
        self.prices = prices
        self.profile = profile
        self.capture = capture
        self.capture_events = capture_events
        self.disabled = disabled
        self.log_file = log_file
        self.budgets = budgets
        self.checkpoints = checkpoints
        self.answers = answers
        self._attach_processor = attach_processor
        self._event_sinks = event_sinks
        self._opened = False
        self.lock = threading.RLock()
        # What the parts above keep for this runtime: the KPIs' fold, and what events told before.
        self.kpis: Any = None
        self.told: Any = None
        self._tracer: Tracer | None = None
        self._seen_provider: Any = None

    @property
    def pipeline(self) -> Pipeline | None:
        """The way out for signals; None where nobody takes any, so that none are made."""
        pipeline = self._pipeline
        return pipeline if pipeline is not None and pipeline.active else None

    def require_pipeline(self) -> Pipeline:
        """Return the way out for signals, whether anybody takes any yet or not."""
        with self.lock:
            if self._pipeline is None:
                self._pipeline = Pipeline([], self.metrics.dropped)
                atexit.register(self._pipeline.close)
            return self._pipeline

    def open_events(self) -> Pipeline:
        """Return the way out, where the sinks that a program's first event opens are added."""
        pipeline = self._pipeline
        if pipeline is not None and self._opened:
            return pipeline
        with self.lock:
            pipeline = self.require_pipeline()
            if not self._opened:
                for sink in self._event_sinks() if self._event_sinks is not None else ():
                    pipeline.add(sink)
                self._opened = True
        return pipeline

    def close(self, seconds: float = 2.0) -> None:
        """Write what waits, and close the sinks."""
        if self._pipeline is not None:
            self._pipeline.close(seconds)

    @property
    def tracer(self) -> Tracer:
        """The tracer of the provider in force.

        A program may set its provider after we were switched on; until then the tracer is a proxy
        that finds it by itself, and the processor that stamps ids is added when it appears.
        """
        if self._tracer is None:
            from opentelemetry import trace

            provider = self._tracer_provider or trace.get_tracer_provider()
            tracer = provider.get_tracer(NAMESPACE, __version__, schema_url=SCHEMA_URL)
            if self._attach_processor is not None and provider is not self._seen_provider:
                self._seen_provider = provider
                self._attach_processor(provider)
            if type(provider).__name__ != "ProxyTracerProvider":
                self._tracer = tracer
            return tracer
        return self._tracer

    def emit(self, signal: Signal) -> None:
        """Send a signal on its way."""
        pipeline = self.pipeline
        if pipeline is not None:
            pipeline.emit(signal)


class _Holder:
    """The runtime in force, and how to make one when a scope is used before any was set."""

    def __init__(self) -> None:
        self.current: Runtime | None = None
        self.make: Callable[[], Runtime] = Runtime
        self.lock = threading.RLock()  # the thread that makes one may fork
        self._making = False
        self.renew()

    def renew(self) -> None:
        """Know of no failure to make one."""
        self._bare: Runtime | None = None  # what scopes get since then: they do nothing
        self._again = -math.inf

    def first(self) -> Runtime:
        """Make the runtime; where that fails return a bare one, and try again later."""
        bare = self._bare
        if bare is None:
            with self.lock:
                return self._tried()
        # By now no scope waits for another that tries.
        if time.monotonic() >= self._again and self.lock.acquire(blocking=False):
            try:
                return self._tried()
            finally:
                self.lock.release()
        return bare

    def _tried(self) -> Runtime:
        # A handler of the host's logging may open a scope while one is made.
        if self.current is None and not self._making and time.monotonic() >= self._again:
            self._making = True
            try:
                self.current = self.make()
            except Exception as error:  # noqa: BLE001 - out of files, say: the program goes on
                pause = _FIRST_RETRY_SECONDS if self._bare is None else _RETRY_SECONDS
                self._again = time.monotonic() + pause
                self._bare = self._bare or Runtime(disabled=True)
                caught("set-up", error)
            finally:
                self._making = False
        return self.current or self._bare or Runtime(disabled=True)


_holder: Final = _Holder()


_held: Final[list[Runtime | None]] = []


def _before_fork() -> None:
    """Wait until no other thread makes a runtime or opens its sinks.

    Else a forked child would wait for ever, for that thread's locks and for those of the modules
    it was importing.
    """
    _holder.lock.acquire()
    current = _holder.current
    if current is not None:
        current.lock.acquire()
    _held.append(current)


def _after_fork() -> None:
    current = _held.pop()
    if current is not None:
        current.lock.release()
    _holder.lock.release()


def _after_fork_in_child() -> None:
    _holder.renew()  # its parent may have had too many files open: it tries for itself
    _after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
    )


def get() -> Runtime:
    """Return the runtime in force; the first call makes it.

    Where it cannot be made, that is said once a minute at most, and a bare one is returned: it is
    disabled, so that scopes do nothing. A later call tries again, after a second, and from then on
    once a minute.
    """
    current = _holder.current
    return _holder.first() if current is None else current


def put(runtime: Runtime | None) -> Runtime | None:
    """Make a runtime the one in force and return the one before."""
    with _holder.lock:
        before, _holder.current = _holder.current, runtime
        _holder.renew()
    return before


def peek() -> Runtime | None:
    """Return the runtime in force without making one."""
    return _holder.current


def made_by(make: Callable[[], Runtime]) -> None:
    """Set how a runtime is made when none was put."""
    _holder.make = make
