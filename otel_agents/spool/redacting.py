"""What others write, without its secrets: by the rules that hold for what we write ourselves.

A look at the values first says whether there may be a secret. It never misses one, costs little,
and what it has seen before costs nothing. Only where there may be one the encoded message is read
back, and its values are hidden in it: what is searched is what would be sent, nobody's object is
changed, and none of the host's code runs. Names (of spans, events, keys) are not searched.

Where hiding fails, a span or log record goes without its attributes, events, links and texts, all
of them counted as dropped, and a resource or scope without its attributes.
"""
# ruff: noqa: SLF001 - the SDK's private fields, as in `encode_plain`

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, Status

from otel_agents.boundary import caught
from otel_agents.spool.encode import encode_log, encode_span
from otel_agents.spool.encode_tables import RESOURCE
from otel_agents.spool.hiding import Known
from otel_agents.values import rules

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.metrics.export import MetricsData

_MAX_PARTS: Final = 256
_PARTS: Final = frozenset({Event, Link})

_known: Final = [Known(rules())]


def _now() -> Known:
    known = _known[0]
    current = rules()
    if known.rules is not current:
        known = _known[0] = Known(current)
    return known


def span_body(span: ReadableSpan) -> bytes:
    """Return the body of a `Span` without secrets.

    Raises:
        Exception: there may be a secret in it, and it cannot be read back.
    """
    known = _now()
    body = encode_span(span)
    return body if _span_is_clean(known, span) else _without_secrets(known, body)


def _span_is_clean(known: Known, span: Any) -> bool:
    """Return whether a span holds no secret for sure; not, where it is another than it seems."""
    try:
        held, events, links, status = span._attributes, span._events, span._links, span._status
        if (
            type(span) is not ReadableSpan
            or type(held) is not BoundedAttributes
            or type(events) is not BoundedList
            or type(links) is not BoundedList
            or type(status) is not Status
        ):
            return False
        if not all(map(known.__getitem__, held._dict.items())):
            return False
        if events._dq or links._dq:  # type: ignore[attr-defined]
            for part in (*events._dq, *links._dq):  # type: ignore[attr-defined]
                inner = part._attributes
                if type(part) not in _PARTS or type(inner) is not BoundedAttributes:
                    return False
                if not all(map(known.__getitem__, inner._dict.items())):
                    return False
        return status._description is None or known["", status._description]
    except Exception:  # noqa: BLE001 - a value without a hash, or of the host's own type
        return False


def _without_secrets(known: Known, body: bytes) -> bytes:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    span: Any = Span.FromString(body)
    try:
        known.hide(span.attributes)
        for part in (*span.events, *span.links):
            known.hide(part.attributes)
        if span.status.message:
            span.status.message = known.redact("", span.status.message)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        span.dropped_attributes_count += len(span.attributes)
        span.dropped_events_count += len(span.events)
        span.dropped_links_count += len(span.links)
        for field in ("attributes", "events", "links"):
            span.ClearField(field)
        span.status.ClearField("message")
        caught("spool", error)
    found: bytes = span.SerializeToString()
    return found


def log_body(readable: ReadableLogRecord) -> bytes:
    """Return the body of a `LogRecord` of the SDK without secrets.

    Raises:
        Exception: there may be a secret in it, and it cannot be read back.
    """
    known = _now()
    body = encode_log(readable)
    if _log_is_clean(known, readable.log_record):
        return body
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

    record: Any = LogRecord.FromString(body)
    try:
        known.hide(record.attributes)
        known.hide_value("", record.body)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        record.dropped_attributes_count += len(record.attributes)
        record.ClearField("attributes")
        record.ClearField("body")
        caught("spool", error)
    found: bytes = record.SerializeToString()
    return found


def _log_is_clean(known: Known, record: Any) -> bool:
    """Return whether a log record holds no secret for sure."""
    try:
        held = record.attributes
        if type(held) is not BoundedAttributes:
            return False
        return all(map(known.__getitem__, held._dict.items())) and known["", record.body]
    except Exception:  # noqa: BLE001 - a value without a hash, or of the host's own type
        return False


def metrics_body(data: MetricsData) -> bytes:
    """Return the body of an `ExportMetricsServiceRequest` without secrets.

    Two series that differ in nothing but what is hidden become one of two values.

    Raises:
        Exception: what the SDK's encoder raises.
    """
    from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics

    known = _now()
    request = encode_metrics(data)
    for group in request.resource_metrics:
        known.hide(group.resource.attributes)
        for inner in group.scope_metrics:
            known.hide(inner.scope.attributes)
            for metric in inner.metrics:
                kind = metric.WhichOneof("data")
                for point in getattr(metric, kind).data_points if kind else ():
                    known.hide(point.attributes)
                    for exemplar in getattr(point, "exemplars", ()):
                        known.hide(exemplar.filtered_attributes)
    return request.SerializeToString()


def source(resource: Any, scope: Any) -> tuple[Any, Any]:
    """Return a resource and a scope: themselves, or others in their place that hold no secret.

    They are the same objects for the same ones, until the rules are others.
    """
    known = _now()
    parts = known.parts
    first = parts.get(id(resource)) or _kept(known, resource)
    return first[1], (parts.get(id(scope)) or _kept(known, scope))[1]


def _kept(known: Known, thing: Any) -> tuple[Any, Any]:
    if len(known.parts) >= _MAX_PARTS:
        known.parts.clear()
    # It is held, so that no other takes its place in memory, and its id.
    found = known.parts[id(thing)] = thing, _part(known, thing)
    return found


def _part(known: Known, thing: Any) -> Any:
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

    held: dict[str, Any] = {}
    names: dict[str, Any] = dict.fromkeys(("name", "version", "schema_url"))
    try:
        names = {name: getattr(thing, name, None) for name in names}
        message: Any = Resource.FromString(RESOURCE.careful(getattr(thing, "attributes", None))[0])
        if not known.hide(message.attributes):
            return thing
        held = {pair.key: _plain(pair.value) for pair in message.attributes}
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("spool", error)
    return SimpleNamespace(attributes=held, **names)


def _plain(value: Any) -> Any:
    """Return what an `AnyValue` holds."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(one) for one in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: _plain(pair.value) for pair in value.kvlist_value.values}
    return kind and getattr(value, kind)
