"""What the SDK's encoder makes of the same, as a message that can be compared."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common._internal._log_encoder import _encode_log
from opentelemetry.exporter.otlp.proto.common._internal.trace_encoder import _encode_span
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource

from otel_agents.sinks.otlp import OtlpSink
from otel_agents.spool.encode import encode_signal, encode_span
from otel_agents.spool.encode_careful import careful_span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.trace import ReadableSpan

    from otel_agents.signals import Signal

# It logs a traceback for each attribute that it leaves out.
logging.getLogger("opentelemetry.exporter.otlp.proto.common._internal").disabled = True


def wire(message: Any) -> bytes:
    """Return a message as bytes that are equal where it is; a NaN is not equal to itself."""
    found: bytes = message.SerializeToString(deterministic=True)
    return found


def left_out(given: Any, message: Any) -> int:
    """Return how many attributes the SDK's encoder left out."""
    return len(given or {}) - len(message.attributes)


def expected_span(span: ReadableSpan) -> Span:
    """Return the SDK's message, with what it left out counted."""
    message = _encode_span(span)
    message.dropped_attributes_count += left_out(span.attributes, message)
    for event, found in zip(span.events, message.events, strict=True):
        found.dropped_attributes_count += left_out(event.attributes, found)
    for link, found in zip(span.links, message.links, strict=True):
        found.dropped_attributes_count += left_out(link.attributes, found)
    return message


def expected_log(record: ReadableLogRecord) -> LogRecord:
    """Return the SDK's message of a log record, with what it left out counted."""
    message = _encode_log(record)
    message.dropped_attributes_count += left_out(record.log_record.attributes, message)
    return message


def emitted(*signals: Signal) -> list[ReadableLogRecord]:
    """Return the log records that the sink makes of signals."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    OtlpSink(provider).write(signals)
    return list(exporter.get_finished_logs())


def check_signals(signals: Sequence[Signal]) -> None:
    """Compare signals with what the sink emits."""
    for signal, record in zip(signals, emitted(*signals), strict=True):
        assert wire(LogRecord.FromString(encode_signal(signal))) == wire(expected_log(record))


def check(span: ReadableSpan) -> None:
    """Compare both ways with the SDK's."""
    expected = wire(expected_span(span))

    assert wire(Span.FromString(encode_span(span))) == expected
    assert wire(Span.FromString(careful_span(span))) == expected


def held(attributes: dict[Any, Any], dropped: int = 0) -> BoundedAttributes:
    """Return attributes as a span holds them, of any type: some are put there unchecked."""
    found = BoundedAttributes()
    found._dict.update(attributes)
    found.dropped = dropped
    return found
