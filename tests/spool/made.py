"""A few spans and a signal, encoded in both ways, as JSON on stdout.

Runs with many versions of OpenTelemetry, so it uses only what all of them have.
"""

from __future__ import annotations

import json
import sys
from itertools import count

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceState

from otel_agents.signals import Ids, Signal
from otel_agents.spool.encode import encode_resource, encode_scope, encode_signal
from otel_agents.spool.encode_careful import careful_span
from otel_agents.spool.encode_plain import plain_span


class Numbered(IdGenerator):
    """Ids that count from 1."""

    def __init__(self) -> None:
        self._next = count(1).__next__

    def generate_span_id(self) -> int:
        """Return the next number."""
        return self._next()

    def generate_trace_id(self) -> int:
        """Return the next number."""
        return self._next() << 64


class Kept(SpanProcessor):
    """Keeps what it is handed."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span."""
        self.spans.append(span)


def made() -> list[ReadableSpan]:
    """Return spans with all that spans have."""
    kept = Kept()
    limits = SpanLimits(max_span_attributes=6, max_events=2, max_links=1)
    provider = TracerProvider(
        shutdown_on_exit=False, id_generator=Numbered(), span_limits=limits
    )  # fmt: skip
    provider.add_span_processor(kept)
    tracer = provider.get_tracer("made", "1.0", "https://schema", {"a": 1})
    remote = SpanContext(5, 6, True, trace.TraceFlags(1), TraceState([("k", "v")]))
    around = trace.set_span_in_context(trace.NonRecordingSpan(remote))
    outer = tracer.start_span(
        "outer", around, SpanKind.SERVER, {"text": "é", "long": "x" * 500, "dropped": 1},
        links=[Link(remote, {"a": 1}), Link(remote)], start_time=10,
    )  # fmt: skip
    outer.set_attributes({"int": 300, "bool": True, "float": 2.5, "texts": ["a", "b"]})
    outer.set_attribute("ints", [1, 2])
    for number in range(3):
        outer.add_event(f"event {number}", {"n": number}, timestamp=number)
    outer.set_status(StatusCode.ERROR, "wrong")
    inner = tracer.start_span("inner", trace.set_span_in_context(outer), start_time=20)
    inner.set_status(StatusCode.OK)
    inner.end(30)
    outer.end(40)
    tracer.start_span("root", start_time=50).end(60)
    return kept.spans


def main() -> None:
    """Print what was made."""
    found: dict[str, list[str]] = {}
    for span in made():
        found[span.name] = [plain_span(span).hex(), careful_span(span).hex()]
        found["scope"] = [encode_scope(span.instrumentation_scope).hex()]
        assert encode_resource(span.resource)
    ids = Ids(run_id="r", iteration=2)
    signal = Signal(id="s", kind="run", edge="start", time=5, ids=ids, trace_id="a" * 32)
    found["signal"] = [encode_signal(signal).hex()]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
