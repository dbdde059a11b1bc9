"""What stands where the SDK's OTLP exporters stood: for spans, metrics and log records.

Secrets are hidden in all of them before they are written to a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import SpanKind

from otel_agents.boundary import caught
from otel_agents.spool.encode import encode_signal
from otel_agents.spool.redacting import log_body, metrics_body, source, span_body
from otel_agents.version import __version__
from otel_agents.vocabulary import NAMESPACE, SCHEMA_URL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
    from opentelemetry.sdk.metrics.export import MetricsData
    from opentelemetry.sdk.trace import ReadableSpan, Span

    from otel_agents.signals import Signal
    from otel_agents.spool.lane import Lane
    from otel_agents.spool.spool import Spool

# What goes last where room is short: roots of traces, then the spans of our scopes.
_ROOT: Final = 2
_SCOPE: Final = 1
_TOOL: Final = "execute_tool"


class SpoolSpans(SpanProcessor):
    """Appends a finished span to the spool, in the thread that ends it."""

    def __init__(self, spool: Spool, lane: Lane) -> None:
        self._spool = spool
        self._lane = lane

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Leave a span that starts alone."""

    def on_end(self, span: ReadableSpan) -> None:
        """Append a span that was sampled. It never raises."""
        try:
            context = span.context
            if context is None or not context.trace_flags.sampled:
                return
            scope = span.instrumentation_scope
            if span.parent is None:
                weight = _ROOT
            else:
                ours = scope is not None and scope.name == NAMESPACE
                inner = span.kind is not SpanKind.INTERNAL or span.name.startswith(_TOOL)
                weight = _SCOPE if ours and not inner else 0
            self._lane.append(*source(span.resource, scope), span_body(span), weight)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            self._lane.lose("encode", 1)
            caught("spool", error)

    def shutdown(self) -> None:
        """Send what can be sent in the time that the end of a program has."""
        self._spool.finish()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until all is delivered; False if it is not. What is not is safe in its file."""
        return self._spool.flush(timeout_millis / 1000)


class SpoolMetrics(MetricExporter):
    """Appends what a metric reader collects, as whole requests."""

    def __init__(self, spool: Spool, lane: Lane, before: MetricExporter) -> None:
        super().__init__(
            preferred_temporality=before._preferred_temporality,  # noqa: SLF001 - the reader
            preferred_aggregation=before._preferred_aggregation,  # noqa: SLF001 - asks for them
        )
        self._spool = spool
        self._lane = lane

    def export(
        self,
        metrics_data: MetricsData,
        timeout_millis: float = 10_000,  # noqa: ARG002 - the interface
        **_kwargs: Any,
    ) -> MetricExportResult:
        """Append one collection."""
        try:
            count = sum(
                len(metric.data.data_points)
                for resource in metrics_data.resource_metrics
                for scope in resource.scope_metrics
                for metric in scope.metrics
            )
            self._lane.append_request(metrics_body(metrics_data), count)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            self._lane.lose("encode", 1)
            caught("spool", error)
            return MetricExportResult.FAILURE
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Wait until all is delivered; False if it is not."""
        return self._spool.flush(timeout_millis / 1000)

    def shutdown(self, timeout_millis: float = 30_000, **_kwargs: Any) -> None:  # noqa: ARG002
        """Send what can be sent in the time that the end of a program has."""
        self._spool.finish()


class SpoolLogs(LogRecordExporter):
    """Appends the program's own log records."""

    def __init__(self, spool: Spool, lane: Lane) -> None:
        self._spool = spool
        self._lane = lane

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Append log records."""
        for one in batch:
            try:
                where = source(one.resource, one.instrumentation_scope)
                self._lane.append(*where, log_body(one), 0)
            except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
                self._lane.lose("encode", 1)
                caught("spool", error)
        return LogRecordExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Wait until all is delivered; False if it is not."""
        return self._spool.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Send what can be sent in the time that the end of a program has."""
        self._spool.finish()


class SpoolSignals:
    """Appends our signals, in the thread that tells them."""

    def __init__(self, lane: Lane, provider: LoggerProvider) -> None:
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._lane = lane
        self._provider = provider  # a forked child has another resource
        self._scope = InstrumentationScope(NAMESPACE, __version__, SCHEMA_URL)

    def __call__(self, signal: Signal) -> None:
        """Append one signal."""
        weight = _ROOT if signal.kind == "run" else _SCOPE
        where = source(self._provider.resource, self._scope)
        self._lane.append(*where, encode_signal(signal), weight)
