"""Trace requests as they are kept: the bytes that came, and what they hold, read when asked for.

A row a span costs five times what a request costs as it came (docs/decisions/0008). So a request
is one block, with a summary of each trace in it; its spans are decoded when a trace is read, and
one that was sent twice is counted once there, by its trace and span id.
"""

from __future__ import annotations

import zlib
from hashlib import blake2b
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_agents.state.times import rfc3339
from otel_agents.store import sums
from otel_agents.store.batch import Block, TraceSummary
from otel_agents.store.rows import short
from otel_agents.vocabulary import RUN_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

_TRACE_ID_BYTES: Final = 16
_SPAN_ID_BYTES: Final = 8
_NO_TRACE: Final = bytes(_TRACE_ID_BYTES)
_NO_SPAN: Final = bytes(_SPAN_ID_BYTES)
_ERROR: Final = 2
_STATUS: Final = ("unset", "ok", "error")
_KINDS: Final = ("unspecified", "internal", "server", "client", "producer", "consumer")
_LAST_TIME: Final = (1 << 63) - 1  # what a column of a database holds
_DEEPEST: Final = 32


def block_of(message: ExportTraceServiceRequest, body: bytes) -> tuple[Block, int]:
    """Return the block of a request, and how many of its spans were refused.

    A span whose ids are of another length than the protocol's, or all zero, is taken out: nothing
    could refer to it.

    Args:
        message: The request.
        body: The bytes it was parsed from.

    """
    traces, refused = _summed(message, with_runs=RUN_ID.key.encode() in body)
    if refused:
        _take_out(message)
        body = message.SerializeToString()
    # The same bytes deflate to the same bytes, and there are fewer of them to digest.
    deflated = zlib.compress(body, 1)
    digest = blake2b(deflated, digest_size=16).digest()
    spans = sum([one.spans for one in traces.values()])
    return Block(deflated, digest, spans, traces), refused


def summaries(body: bytes) -> dict[bytes, TraceSummary]:
    """Return what a stored block says of each trace in it."""
    return _summed(opened(body), with_runs=True)[0]


def _summed(
    message: ExportTraceServiceRequest, *, with_runs: bool
) -> tuple[dict[bytes, TraceSummary], int]:
    """Return the summaries of a request's traces, and how many spans have no ids to go by."""
    traces: dict[bytes, TraceSummary] = {}
    refused = 0
    for resource_spans in message.resource_spans:
        service = _service(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                trace_id, span_id = span.trace_id, span.span_id
                if (  # `valid`, written out: it is asked for every span
                    len(trace_id) != _TRACE_ID_BYTES
                    or len(span_id) != _SPAN_ID_BYTES
                    or trace_id == _NO_TRACE
                    or span_id == _NO_SPAN
                ):
                    refused += 1
                    continue
                started = span.start_time_unix_nano
                ended = span.end_time_unix_nano
                found = traces.get(trace_id)
                if found is None:
                    found = traces[trace_id] = TraceSummary(started, ended, service=service)
                    if with_runs:
                        found.run_id = run_of(span)
                else:
                    # Comparing takes a third of the time of min and max.
                    if started < found.started:  # noqa: PLR1730
                        found.started = started
                    if ended > found.ended:  # noqa: PLR1730
                        found.ended = ended
                    if with_runs and not found.run_id:
                        found.run_id = run_of(span)
                found.spans += 1
                if not span.parent_span_id:
                    found.root = span.name
                    found.service = service
                # Reading a status that is not there makes an empty one.
                if span.HasField("status") and span.status.code == _ERROR:
                    found.errors += 1
    for found in traces.values():
        found.started = min(found.started, _LAST_TIME)
        found.ended = min(max(found.started, found.ended), _LAST_TIME)
    return traces, refused


def _service(attributes: Iterable[KeyValue]) -> str:
    for one in attributes:
        if one.key == "service.name":
            return str(one.value.string_value)
    return ""


def run_of(span: Span) -> str:
    """Return the id of the run that a span says it is of, or nothing."""
    for one in span.attributes:
        if one.key == RUN_ID.key:
            return short(one.value.string_value)
    return ""


def valid(span: Span) -> bool:
    """Say whether a span's ids are such that something can refer to it."""
    trace_id, span_id = span.trace_id, span.span_id
    return (
        len(trace_id) == _TRACE_ID_BYTES
        and len(span_id) == _SPAN_ID_BYTES
        and trace_id != _NO_TRACE
        and span_id != _NO_SPAN
    )


def _take_out(message: ExportTraceServiceRequest) -> None:
    for resource_spans in message.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            kept = [span for span in scope_spans.spans if valid(span)]
            if len(kept) < len(scope_spans.spans):
                del scope_spans.spans[:]
                scope_spans.spans.extend(kept)


def opened(body: bytes) -> ExportTraceServiceRequest:
    """Return the request of a block's stored bytes; an empty one where they are damaged."""
    message = ExportTraceServiceRequest()
    try:
        message.ParseFromString(zlib.decompress(body))
    except (zlib.error, DecodeError):
        sums.note("request")
        message.Clear()
    return message


def runs_in(body: bytes) -> dict[bytes, set[str]]:
    """Return the traces that a stored block has spans of, with the ids of runs on those."""
    found: dict[bytes, set[str]] = {}
    for span, _, _ in _walk(opened(body)):
        found.setdefault(span.trace_id, set()).add(run_of(span))
    return found


def without(body: bytes, unwanted: Callable[[Span], bool]) -> tuple[Block, int]:
    """Return a stored block less some of its spans, and how many those were."""
    message = opened(body)
    removed = 0
    for resource_spans in message.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            kept = [span for span in scope_spans.spans if not unwanted(span)]
            removed += len(scope_spans.spans) - len(kept)
            del scope_spans.spans[:]
            scope_spans.spans.extend(kept)
    block, _ = block_of(message, message.SerializeToString())
    return block, removed


def spans_of(bodies: Iterable[bytes], traces: set[bytes], most: int) -> list[dict[str, Any]]:
    """Return the spans of some traces out of stored blocks, each once, `most` at the most.

    Of a span that was sent in several states the one that ended last is kept.
    """
    found: dict[tuple[bytes, bytes], tuple[Span, str, str]] = {}
    for body in bodies:
        for span, service, scope in _walk(opened(body)):
            if span.trace_id not in traces:
                continue
            key = span.trace_id, span.span_id
            before = found.get(key)
            if before is None:
                if len(found) < most:
                    found[key] = span, service, scope
            elif before[0].end_time_unix_nano < span.end_time_unix_nano:
                found[key] = span, service, scope
    started = dict.fromkeys(traces, _LAST_TIME)
    for (trace, _), (span, _, _) in found.items():
        started[trace] = min(started[trace], span.start_time_unix_nano)
    return [
        _as_data(span, service, scope, started[span.trace_id])
        for span, service, scope in found.values()
    ]


def _walk(message: ExportTraceServiceRequest) -> Iterator[tuple[Span, str, str]]:
    for resource_spans in message.resource_spans:
        service = _service(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            scope = scope_spans.scope.name
            for span in scope_spans.spans:
                yield span, service, scope


def _as_data(span: Span, service: str, scope: str, base: int) -> dict[str, Any]:
    started = span.start_time_unix_nano
    ended = max(started, span.end_time_unix_nano)
    return {
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_id": span.parent_span_id.hex() or None,
        "name": span.name,
        "kind": _KINDS[span.kind] if 0 <= span.kind < len(_KINDS) else "unspecified",
        "service": service,
        "scope": scope,
        "started_at": rfc3339(started),
        "ended_at": rfc3339(ended),
        "start_ms": (started - base) / 1e6,
        "duration_ms": (ended - started) / 1e6,
        "status": _STATUS[span.status.code] if 0 <= span.status.code < len(_STATUS) else "unset",
        "message": span.status.message,
        "attributes": attributes_as_data(span.attributes),
        "events": [
            {
                "name": event.name,
                "time": rfc3339(event.time_unix_nano),
                "attributes": attributes_as_data(event.attributes),
            }
            for event in span.events
        ],
        "links": [
            {
                "trace_id": link.trace_id.hex(),
                "span_id": link.span_id.hex(),
                "attributes": attributes_as_data(link.attributes),
            }
            for link in span.links
        ],
        "dropped": {
            "attributes": span.dropped_attributes_count,
            "events": span.dropped_events_count,
            "links": span.dropped_links_count,
        },
    }


def attributes_as_data(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    """Return attributes as data; of a key that comes twice the last one."""
    return {one.key: value_as_data(one.value) for one in attributes}


def value_as_data(value: AnyValue, depth: int = 0) -> Any:
    """Return an attribute's value as what JSON can hold; bytes as hex, an odd number as text."""
    kind = value.WhichOneof("value")
    if kind is None or depth > _DEEPEST:
        return None
    if kind == "array_value":
        return [value_as_data(one, depth + 1) for one in value.array_value.values]
    if kind == "kvlist_value":
        return {one.key: value_as_data(one.value, depth + 1) for one in value.kvlist_value.values}
    if kind == "bytes_value":
        return value.bytes_value.hex()
    found = getattr(value, kind)
    if isinstance(found, float) and not isfinite(found):
        return str(found)
    return found
