"""Signals as OTLP log records, through the program's own logger provider and exporter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry import context, trace
from opentelemetry._logs import LogRecord, SeverityNumber, get_logger_provider

from otel_agents.signals import attributes_of, event_name
from otel_agents.version import __version__
from otel_agents.vocabulary import ERROR_OUTCOMES, NAMESPACE, SCHEMA_URL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry._logs import Logger, LoggerProvider

    from otel_agents.signals import Signal
    from otel_agents.workspace import Workspace

_SAMPLED: Final = 1


class OtlpSink:
    """Emits a log record a signal, named by `event_name`, with a timestamp and no body.

    Where the program's log records go through the spool, `spooled` appends a signal to it, in the
    thread that tells it: it is safe when the call returns.
    """

    name = "otlp"

    def __init__(self, provider: LoggerProvider | None = None) -> None:
        self._provider = provider
        self._logger: Logger | None = None
        self.spooled: Callable[[Signal], None] | None = None

    def at_once(self, signal: Signal) -> bool:
        """Append a signal to the spool; False where there is none."""
        if self.spooled is None:
            return False
        self.spooled(signal)
        return True

    def write(self, signals: Sequence[Signal]) -> None:
        """Hand signals to the logger provider, which exports them in its own time."""
        if self._logger is None:
            provider = self._provider or get_logger_provider()
            self._logger = provider.get_logger(NAMESPACE, __version__, SCHEMA_URL)
        for signal in signals:
            wrong = signal.result in ERROR_OUTCOMES
            self._logger.emit(_record(signal, wrong=wrong))

    def close(self) -> None:
        """Leave the provider open: it is the program's."""


def _record(signal: Signal, *, wrong: bool) -> LogRecord:
    span = trace.SpanContext(
        trace_id=int(signal.trace_id or "0", 16),
        span_id=int(signal.span_id or "0", 16),
        is_remote=False,
        trace_flags=trace.TraceFlags(_SAMPLED),
    )
    return LogRecord(
        timestamp=signal.time,
        observed_timestamp=signal.time,
        context=trace.set_span_in_context(trace.NonRecordingSpan(span), context.Context()),
        severity_number=SeverityNumber.WARN if wrong else SeverityNumber.INFO,
        severity_text="WARN" if wrong else "INFO",
        attributes=attributes_of(signal),
        event_name=event_name(signal),
    )


def make(_rest: str, _workspace: Workspace | None) -> OtlpSink:
    """Return the sink of `otlp:`."""
    return OtlpSink()
