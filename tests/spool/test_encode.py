"""Spans as OTLP bytes: what the SDK's encoder makes of them, whatever they hold."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common._internal.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope as PB2Scope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as PB2Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceState

from otel_agents.spool import encode_tables, encode_wire
from otel_agents.spool.encode import encode_resource, encode_scope, encode_span, spans_request
from otel_agents.spool.encode_plain import plain_span
from tests.spool.odd import (
    EXAMPLES,
    VALUES,
    Colour,
    Raising,
    Text,
    Word,
    a_span,
    listed,
    nested,
    spans,
)
from tests.spool.same import check, held

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_what_the_sdk_makes_of_it(name: str) -> None:
    """On a span, an event and a link; what OTLP has no place for is left out, and counted."""
    attributes = {"first": "x", "odd": VALUES[name], "last": 2}
    event = Event("e", held(attributes, 2), timestamp=5)
    link = Link(SpanContext(1, 2, is_remote=True), held(attributes))
    span = a_span(attributes=held(attributes, 3), events=listed([event]), links=listed([link]))

    check(span)
    check(span)  # from the tables, now


@pytest.mark.parametrize("name", VALUES)
def test_a_value_set_on_a_span_is_what_the_sdk_makes_of_it(name: str) -> None:
    """The SDK makes some of them plain on their way, or refuses them."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("t").start_as_current_span("outer") as span:
        try:
            span.set_attribute("odd", VALUES[name])
        except Exception:  # noqa: BLE001 - an object that raises is not taken by the SDK either
            span.set_attribute("odd", "refused")
        span.set_attribute("even", True)
    check(exporter.get_finished_spans()[0])


KEYS = [
    "",
    "k",
    "é" * 80,
    "x" * 300,
    "half \ud800",
    Text("own"),
    Word.YES,
    b"utf-8",
    b"\xff",
    1,
    None,
]


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_a_key_is_what_the_sdk_makes_of_it(key: Any) -> None:
    """An attribute whose key is no text is left out."""
    span = a_span(attributes=held({key: "x", "b": 1}))

    check(span)
    check(span)


def test_equal_values_of_other_types_stay_apart() -> None:
    """`1`, `1.0` and `True` are one key of a dictionary, and three values of OTLP."""
    for value in (1, 1.0, True, 1, (1,), (1.0,), (True,), "1", 1):
        check(a_span(attributes=held({"n": value})))


@given(spans)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_span_is_what_the_sdk_makes_of_it(span: ReadableSpan) -> None:
    """All fields, by the SDK's private fields and by its public ones."""
    check(span)


def test_a_request_is_what_the_sdk_makes_of_it() -> None:
    """Spans of several resources and scopes, some with attributes and schema URLs, some empty."""
    resources = [Resource({"service.name": "shop", "n": [1, 2]}, "https://r"), Resource({})]
    scopes = [
        InstrumentationScope("a", "1.0", "https://s", {"k": True}), InstrumentationScope("b"), None
    ]  # fmt: skip
    made = [
        a_span(resource=resource, instrumentation_scope=scope, name=name)
        for resource in resources
        for scope in scopes
        for name in ("one", "two" * 2000)
    ]
    groups = [
        (
            encode_resource(resource),
            resource.schema_url,
            [
                (
                    encode_scope(scope),
                    scope.schema_url if scope else None,
                    [
                        encode_span(span)
                        for span in made
                        if span.resource is resource and span.instrumentation_scope is scope
                    ],
                )
                for scope in scopes
            ],
        )
        for resource in resources
    ]

    assert ExportTraceServiceRequest.FromString(spans_request(groups)) == encode_spans(made)


def test_what_a_resource_or_scope_cannot_say_is_counted() -> None:
    """Nothing raises, and the same object is not encoded again."""
    resource = Resource({})
    resource._attributes._dict.update({"odd": object(), "even": 2})  # type: ignore[attr-defined]
    scope = InstrumentationScope("a\ud800")
    scope._attributes._dict["odd"] = 2**70  # type: ignore[index]
    found = PB2Resource.FromString(encode_resource(resource))

    assert (len(found.attributes), found.dropped_attributes_count) == (1, 1)
    assert encode_resource(resource) is encode_resource(resource)
    named = PB2Scope.FromString(encode_scope(scope))
    assert (named.name, named.dropped_attributes_count) == ("a\\ud800", 1)
    assert encode_scope(Raise()) == encode_resource(Raise()) == b""  # type: ignore[arg-type]


class Foreign(ReadableSpan):
    """A span of another's making, whose attributes are not those it was made with."""

    @property
    def attributes(self) -> Any:
        return {"a": "redacted"}


def test_a_span_of_anothers_class_is_read_by_what_is_public() -> None:
    """A processor that hides attributes in a subclass is not gone behind."""
    span = Foreign("chat", a_span().context, attributes=held({"a": "secret"}))

    check(span)
    assert b"secret" not in encode_span(span)


class Context:
    """A span's context that is no tuple."""

    trace_id = 1 << 100
    span_id = 7
    is_remote = True
    trace_state = TraceState([("k", "v")])


def test_other_private_fields_are_no_hindrance() -> None:
    """Another version may hold attributes, events, links and contexts in another way."""
    events_ = (Event("e", {"a": 1}, 5),)
    links = [Link(Context(), {"b": [1, 2]})]  # type: ignore[arg-type]
    span = a_span(attributes={"a": "x"}, events=events_, links=links, context=Context())

    with pytest.raises((AttributeError, TypeError)):
        plain_span(span)
    check(span)
    for field in ("_dict", "_dq"):
        whole = a_span()
        delattr(whole._attributes if field == "_dict" else whole._events, field)
        with pytest.raises(AttributeError):
            plain_span(whole)
        assert Span.FromString(encode_span(whole)).trace_id


def test_the_sdks_own_spans_are_read_by_their_private_fields() -> None:
    """The quick way is really taken: for what a processor is handed of a span with everything."""
    exporter = InMemorySpanExporter()
    limits = SpanLimits(max_span_attributes=3, max_events=2, max_links=1, max_event_attributes=1)
    provider = TracerProvider(shutdown_on_exit=False, span_limits=limits)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("t")
    remote = SpanContext(5, 6, True, trace.TraceFlags(1), TraceState([("k", "v")]))
    around = trace.set_span_in_context(trace.NonRecordingSpan(remote))
    links = [Link(remote, {"a": 1}), Link(remote, {"b": 2})]
    with tracer.start_as_current_span("outer", around, links=links) as span:
        span.set_attributes({name: name for name in "abcde"})
        for number in range(4):
            span.add_event(f"e{number}", {"a": 1, "b": 2})
        span.set_status(StatusCode.ERROR, "no")
        with tracer.start_as_current_span("inner", kind=SpanKind.PRODUCER):
            pass
    for span in exporter.get_finished_spans():
        check(span)
        assert plain_span(span) == encode_span(span)
    assert exporter.get_finished_spans()[1].dropped_attributes == 2


class Raise:
    """Raises whatever it is asked for."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "time before the epoch": ({"start_time": -1}, ["start_time_unix_nano"]),
    "time beyond 64 bits": ({"end_time": 2**64}, ["end_time_unix_nano"]),
    "time of no number": ({"start_time": "now"}, ["start_time_unix_nano"]),
    "time with a fraction": ({"start_time": 1.5}, ["start_time_unix_nano"]),
    "kind of no kind": ({"kind": "client"}, ["kind"]),
    "kind of another kind": ({"kind": Colour.RED}, ["kind"]),
    "no context": ({"context": None}, ["trace_id", "span_id"]),
    "context of its own": ({"context": Raise()}, ["trace_id", "span_id"]),
    "id too long": ({"context": SpanContext(2**128, 2**64, False)}, ["trace_id", "span_id"]),
    "parent id too long": ({"parent": SpanContext(1, 2**64, False)}, ["parent_span_id"]),
    "parent that raises": ({"parent": Raise()}, ["parent_span_id", "flags"]),
    "name that raises": ({"name": Raising()}, ["name"]),
    "attributes that raise": ({"attributes": Raise()}, ["attributes"]),
    "status that raises": ({"status": Raise()}, []),
    "no status": ({"status": None}, ["status"]),
    "events that raise": ({"events": Raise()}, []),
    "links that raise": ({"links": Raise()}, []),
}


@pytest.mark.parametrize("name", BAD)
def test_a_field_that_does_not_fit_is_left_out(name: str) -> None:
    """The SDK's encoder raises there, and a whole batch is lost; the other fields are kept."""
    fields, missing = BAD[name]
    expected = Span.FromString(encode_span(a_span()))
    for field in missing:
        expected.ClearField(field)  # type: ignore[arg-type]

    assert Span.FromString(encode_span(a_span(**fields))) == expected


def test_half_a_pair_in_a_name_is_written_out() -> None:
    """In the names of spans and events, a status and a trace state: OTLP's text is UTF-8."""
    status = Status(StatusCode.ERROR, "no \udc00")
    span = a_span(name="a\ud800", events=listed([Event("\udfff", held({}), 1)]), status=status)
    found = Span.FromString(encode_span(span))

    assert (found.name, found.events[0].name) == ("a\\ud800", "\\udfff")
    assert found.status.message == "no \\udc00"
    assert len(found.attributes) == 2
    assert Span.FromString(encode_span(a_span(name=b"bytes"))).name == "bytes"
    assert Span.FromString(encode_span(a_span(name=None))).name == ""


def test_a_broken_event_does_not_take_the_others_along() -> None:
    """What can be read of it is kept too."""
    good = Event("good", held({"a": 1}), 5)
    span = a_span(events=listed([good, Event("bad", held({"b": 2}), -1), Raise(), good]))
    found = Span.FromString(encode_span(span)).events

    assert [event.name for event in found] == ["good", "bad", "", "good"]
    assert [event.time_unix_nano for event in found] == [5, 0, 0, 5]


@pytest.mark.parametrize("around", [lambda inner: [inner], lambda inner: {"a": inner}])
def test_what_a_reader_would_refuse_is_left_out(around: Callable[[Any], Any]) -> None:
    """One value that is nested too deep costs a request of the SDK all of its spans."""
    depth = 0
    for levels in range(1, 60):
        value = nested(levels, 1, around)
        event = Event("e", held({"deep": value}), 5)
        span = a_span(attributes=held({"deep": value}), events=listed([event]))
        body = spans_request([(b"", "", [(b"", "", [encode_span(span)])])])
        read = ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans[0]
        assert len(read.attributes) + read.dropped_attributes_count == 1
        depth += len(read.attributes)

    assert depth in {31, 47}


def test_tables_do_not_grow_without_end() -> None:
    """Keys, texts, names and numbers of any number leave no more than a few thousand behind."""
    for number in range(3000):
        attributes_ = {f"key-{number}": f"text-{number}", "n": number * 7, "t": ("a", str(number))}
        check_size = encode_span(a_span(name=f"name-{number}", attributes=held(attributes_)))
        assert Span.FromString(check_size).name == f"name-{number}"

    table = encode_tables.SPAN
    assert len(table) <= 1024
    assert sum(len(heads) for heads in table._heads.values()) <= 1024
    assert len(encode_tables._KEYS) <= 512
    assert len(encode_wire.VARINTS) <= 4096


def test_threads_share_the_tables() -> None:
    """Each gets its own span's bytes, while the tables fill up and are emptied."""
    wrong: list[str] = []

    def work(thread: int) -> None:
        for number in range(400):
            mine = {f"k{number % 40}": f"{thread} {number}", "n": number, "f": number / 3}
            span = a_span(name=f"{thread}", attributes=held(mine))
            found = Span.FromString(encode_span(span))
            if found.attributes[0].value.string_value != f"{thread} {number}":
                wrong.append(found.name)
            if found.name != str(thread) or found.attributes[1].value.int_value != number:
                wrong.append(found.name)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
