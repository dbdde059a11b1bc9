"""Log records into signals and log records of the store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from otel_agents.receiver.limits import MAX_ID, MAX_SIGNAL, MAX_TIME, MAX_VALUE_DEPTH
from otel_agents.signals import decode_line
from otel_agents.store.batch import LogRecord
from otel_agents.store.blocks import attributes_as_data, value_as_data
from otel_agents.vocabulary import AGENT_RUN_ID, PHASE, RUN_ID, SIGNAL

if TYPE_CHECKING:
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue
    from opentelemetry.proto.logs.v1 import logs_pb2

    from otel_agents.signals import Signal
    from otel_agents.store.batch import Batch

_TRACE_ID: Final = 16
_SPAN_ID: Final = 8
_encode: Final = msgspec.json.Encoder(enc_hook=str).encode


def add_logs(message: ExportLogsServiceRequest, _body: bytes, batch: Batch) -> tuple[int, str]:
    """Put the records of a request in a batch; return how many were rejected, and why.

    A record with the attribute `otelagents.signal` is a signal, and rejected where that is none.
    Any other is a log record, rejected where its time is beyond what a signed number of 64 bits
    holds. Ids of a wrong length or all zero mean none, as the protocol says.
    """
    rejected = 0
    reason = ""
    for resource_logs in message.resource_logs:
        resource = attributes_as_data(resource_logs.resource.attributes)
        for scope_logs in resource_logs.scope_logs:
            for record in scope_logs.log_records:
                line = _line(record)
                if line is not None:
                    signal = _signal(line)
                    if signal is None:
                        rejected, reason = rejected + 1, f"{SIGNAL.key} is not a signal"
                    else:
                        batch.signals.append(signal)
                    continue
                when = record.time_unix_nano or record.observed_time_unix_nano or time.time_ns()
                if when > MAX_TIME:
                    rejected, reason = rejected + 1, "its time is after the year 2262"
                    continue
                batch.logs.append(_record(record, when, resource))
    return rejected, reason


def _line(record: logs_pb2.LogRecord) -> str | None:
    """Return the JSON of a signal; of other records None."""
    for one in record.attributes:
        if one.key == SIGNAL.key:
            return str(one.value.string_value)
    return None


def _signal(line: str) -> Signal | None:
    if len(line) > MAX_SIGNAL:
        return None
    signal = decode_line(line.encode())
    if signal is None or not signal.id or not 0 <= signal.time <= MAX_TIME:
        return None
    if line.count("[") + line.count("{") > MAX_VALUE_DEPTH and _too_deep(signal.attributes):
        return None
    ids = signal.ids
    texts = (
        signal.id, signal.kind, signal.scope_id, signal.parent_id, signal.trace_id, signal.span_id,
        ids.run_id, ids.agent_id, ids.task_id, ids.worker_id, ids.workflow,
    )  # fmt: skip
    return None if any(text and len(text) > MAX_ID for text in texts) else signal


def _too_deep(attributes: dict[str, Any]) -> bool:
    """Say whether values nest deeper than everybody who is asked for them can write them.

    What is read near the end of a short stack cannot be written at that of a longer one, and one
    such value would spoil each page and batch that it is a part of.
    """
    level: list[Any] = [attributes]
    for _ in range(MAX_VALUE_DEPTH):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _record(record: logs_pb2.LogRecord, when: int, resource: dict[str, Any]) -> LogRecord:
    attributes = attributes_as_data(record.attributes)

    def place(key: str) -> str:
        return str(attributes.get(key, resource.get(key, "")))

    return LogRecord(
        time=when,
        severity=record.severity_number,
        severity_text=record.severity_text,
        body=_body_text(record.body),
        event_name=record.event_name,
        service=str(resource.get("service.name", "")),
        trace_id=_id(record.trace_id, _TRACE_ID),
        span_id=_id(record.span_id, _SPAN_ID),
        run_id=place(RUN_ID.key),
        phase=place(PHASE.key),
        agent_id=place(AGENT_RUN_ID.key),
        attributes=attributes,
    )


def _body_text(value: AnyValue) -> str:
    """Return a body as people read it: text as it is, anything else as JSON."""
    found = value_as_data(value)
    if found is None:
        return ""
    return found if isinstance(found, str) else _encode(found).decode()


def _id(raw: bytes, length: int) -> str:
    return raw.hex() if len(raw) == length and any(raw) else ""
