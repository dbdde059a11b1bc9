"""What the scopes work with: a tracer, metrics, a way out for signals, and prices.

`configure.py` makes it and puts it here; the scopes below it only ask for the current one.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from otel_agents.metrics import Metrics
from otel_agents.version import __version__
from otel_agents.profiles import PROFILES, Profile
from otel_agents.vocabulary import NAMESPACE, SCHEMA_URL

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Tracer, TracerProvider

    from otel_agents.pipeline import Pipeline
    from otel_agents.signals import Signal
    from otel_agents.usage import Prices


class Runtime:
    """One configuration at work.

    `capture` allows message content on spans, `capture_events` on log events; `disabled` turns
    every scope into a no-op. `log_file` returns what to say of an agent's log
    file.
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
    ) -> None:
        self._tracer_provider = tracer_provider
        self.metrics = metrics or Metrics()
        self.pipeline = pipeline
        self.prices = prices
        self.profile = profile
        self.capture = capture
        self.capture_events = capture_events
        self.disabled = disabled
        self.log_file = log_file
        self._attach_processor = attach_processor
        self._tracer: Tracer | None = None
        self._seen_provider: Any = None

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
        if self.pipeline is not None:
            self.pipeline.emit(signal)


class _Holder:
    """The runtime in force, and how to make one when a scope is used before any was set."""

    def __init__(self) -> None:
        self.current: Runtime | None = None
        self.make: Callable[[], Runtime] = Runtime
        self.lock = threading.Lock()


_holder: Final = _Holder()


def get() -> Runtime:
    """Return the runtime in force; the first call may make it."""
    current = _holder.current
    if current is None:
        with _holder.lock:
            if _holder.current is None:
                _holder.current = _holder.make()
            current = _holder.current
    return current


def put(runtime: Runtime | None) -> Runtime | None:
    """Make a runtime the one in force and return the one before."""
    with _holder.lock:
        before, _holder.current = _holder.current, runtime
    return before


def peek() -> Runtime | None:
    """Return the runtime in force without making one."""
    return _holder.current


def made_by(make: Callable[[], Runtime]) -> None:
    """Set how a runtime is made when none was put."""
    _holder.make = make
