"""Spans and signals as OTLP protobuf: what the SDK's encoder makes of them, at a fraction of it.

All functions return the body of a message, without its tag and length, so that it can be kept as it
is and framed by who sends it (`spans_request`, `logs_request`). Fields may stand in another order
than the library writes them, and zeros may be written out: the messages read back equal.

Nothing raises for a single bad value. An attribute that OTLP has no place for (a type of its own,
an integer of more than 64 bits, half of a surrogate pair, values more than 47 lists or 31 mappings
deep, which readers would refuse with the whole request) is left out and counted in the message's
`dropped_attributes_count`; the SDK leaves it out too, and counts nothing. Where the SDK's encoder
raises, and loses the batch, a text is written with its half pairs written out, and a number, kind
or id that does not fit is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.trace import ReadableSpan

from otel_agents.spool.encode_careful import careful_span, count, fields, lenient
from otel_agents.spool.encode_logs import encode_log, encode_signal
from otel_agents.spool.encode_plain import plain_span
from otel_agents.spool.encode_tables import EVENT, RESOURCE, Bodies
from otel_agents.spool.encode_wire import framed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    # The body of a scope, its schema URL, and the bodies of its spans or log records.
    Scoped = tuple[bytes, str | None, Iterable[bytes]]
    # The body of a resource, its schema URL, and its scopes.
    Group = tuple[bytes, str | None, Iterable[Scoped]]

__all__ = [
    "encode_log",
    "encode_resource",
    "encode_scope",
    "encode_signal",
    "encode_span",
    "logs_request",
    "spans_request",
]


def encode_span(span: ReadableSpan) -> bytes:
    """Return the body of a `Span`; never raises."""
    if type(span) is ReadableSpan:
        try:
            return plain_span(span)
        except Exception:  # noqa: BLE001 - whatever it is, the careful way keeps the rest
            return careful_span(span)
    return careful_span(span)


def _resource(resource: Any) -> bytes:
    def attributes() -> bytes:
        found, lost = RESOURCE.careful(resource.attributes)
        return found + count(0x10, lost)

    return fields((attributes,))


def _scope(scope: Any) -> bytes:
    def attributes() -> bytes:
        found, lost = EVENT.careful(scope.attributes)
        return found + count(0x20, lost)

    return fields(
        (
            lambda: framed(b"\x0a", lenient(scope.name)),
            lambda: framed(b"\x12", lenient(scope.version)),
            attributes,
        )
    )


_resources: Final = Bodies(_resource)
_scopes: Final = Bodies(_scope)


def encode_resource(resource: Resource) -> bytes:
    """Return the body of a `Resource`, the same object for the same resource; never raises."""
    return _resources(resource)


def encode_scope(scope: InstrumentationScope | None) -> bytes:
    """Return the body of an `InstrumentationScope`, empty for None; never raises."""
    return b"" if scope is None else _scopes(scope)


def spans_request(groups: Iterable[Group]) -> bytes:
    """Return the body of an `ExportTraceServiceRequest` made of bodies.

    Args:
        groups: for each resource its body, its schema URL and its scopes; for each scope its body,
            its schema URL and the bodies of its spans.
    """
    return b"".join([framed(b"\x0a", _group(*group)) for group in groups])


# An `ExportLogsServiceRequest` has the same shape, and the same numbers of fields.
logs_request = spans_request


def _group(resource: bytes, schema_url: str | None, scopes: Iterable[Scoped]) -> bytes:
    parts = [framed(b"\x0a", resource)]
    for scope, url, bodies in scopes:
        inner = [framed(b"\x0a", scope), *[framed(b"\x12", body) for body in bodies]]
        if url:
            inner.append(framed(b"\x1a", lenient(url)))
        parts.append(framed(b"\x12", b"".join(inner)))
    if schema_url:
        parts.append(framed(b"\x1a", lenient(schema_url)))
    return b"".join(parts)
