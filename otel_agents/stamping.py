"""Processors that put the current ids on every span and log record, third-party ones too.

They also notice when another instrumentation reports the usage of a call of ours, so that the sum
of `gen_ai.usage.*` over all spans stays the bill.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk._logs import LogRecordProcessor
from opentelemetry.sdk.trace import SpanProcessor

from otel_agents.boundary import caught
from otel_agents.context import current_frame
from otel_agents.model_call import ModelCall
from otel_agents.vocabulary import INPUT_TOKENS, NAMESPACE, SIGNAL

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

# Keys that say a span reports a model's usage: the conventions' and OpenInference's.
_USAGE_KEYS: Final = (INPUT_TOKENS.key, "gen_ai.usage.prompt_tokens", "llm.token_count.prompt")
_MAX_WATCHED: Final = 10_000


class StampSpans(SpanProcessor):
    """Puts the ids in force where a span starts on spans that are not ours."""

    def __init__(self) -> None:
        self._watched: dict[int, ModelCall] = {}

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Stamp a third-party span."""
        try:
            scope = span.instrumentation_scope
            if scope is not None and scope.name == NAMESPACE:
                return
            frame = current_frame(parent_context)
            if frame is None:
                return
            span.set_attributes(frame.stamp)
            if isinstance(frame.scope, ModelCall) and len(self._watched) < _MAX_WATCHED:
                self._watched[span.get_span_context().span_id] = frame.scope
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("span stamp", error)

    def on_end(self, span: ReadableSpan) -> None:
        """Note a third-party span inside a model call that reports its usage."""
        if not self._watched:
            return
        try:
            context = span.context
            call = self._watched.pop(context.span_id, None) if context is not None else None
            if call is None or not span.attributes or span.instrumentation_scope is None:
                return
            if any(key in span.attributes for key in _USAGE_KEYS):
                call.covered_by = span.instrumentation_scope.name
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("span stamp", error)

    def shutdown(self) -> None:
        """Forget what is watched."""
        self._watched.clear()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the interface
        """Hold nothing back."""
        return True


class StampLogs(LogRecordProcessor):
    """Puts the ids in force on log records that are exported."""

    def on_emit(self, log_record: Any) -> None:
        """Stamp a log record; signals of ours carry their ids already."""
        try:
            frame = current_frame()
            if frame is None:
                return
            record = log_record.log_record
            attributes = dict(record.attributes or {})
            if SIGNAL.key not in attributes:
                for key, value in frame.stamp.items():
                    attributes.setdefault(key, value)
                record.attributes = attributes
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("log stamp", error)

    def shutdown(self) -> None:
        """Hold nothing."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the interface
        """Hold nothing back."""
        return True


def stamp_logs(provider: Any) -> None:
    """Stamp the log records of an SDK's provider, before its exporters take them.

    The SDK calls its processors in the order they were added, and a batch processor keeps a record
    as it finds it: ours, added last, would come too late. So it is moved to the front.
    """
    add = getattr(provider, "add_log_record_processor", None)
    if add is None:
        return
    add(StampLogs())
    line: Any = getattr(provider, "_multi_log_record_processor", None)
    if hasattr(line, "_log_record_processors"):
        with line._lock:  # noqa: SLF001 - the SDK has no public way to be first
            *others, ours = line._log_record_processors  # noqa: SLF001
            line._log_record_processors = (ours, *others)  # noqa: SLF001
