"""Large bodies cut on the wire: nothing is lost, nothing is doubled, and long texts are cut."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_agents.receiver import shapes
from otel_agents.receiver.bounded import Body
from otel_agents.receiver.decode import KINDS, LOGS, METRICS, TRACES, Decoding
from otel_agents.receiver.limits import MAX_DEPTH, MAX_TEXT
from otel_agents.receiver.shapes import Shape
from otel_agents.receiver.slices import Slices
from otel_agents.receiver.status import Refusal
from otel_agents.receiver.wire import framed, has_long, shortened, varint, walk
from otel_agents.store.blocks import opened
from otel_agents.values import CUT
from tests.receiver.kit import logs, metrics, nested, traces
from tests.receiver.messages import elements, filled

IDS = ("traces", "metrics", "logs")
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
ELEMENTS = {"Span", "LogRecord"}


def compared(shape: Shape, descriptor: Any, seen: set[int]) -> None:
    """Compare a shape with the message type that it stands for."""
    if id(shape) in seen:
        return
    seen.add(id(shape))
    by_number = descriptor.fields_by_number
    name = descriptor.name
    for number in shape.texts:
        assert by_number[number].type in {9, 12}, (name, number)
    if shape.dropped:
        assert by_number[shape.dropped].name == "dropped_attributes_count"
        assert by_number[shape.attributes].name == "attributes"
    assert shape.element == (name in ELEMENTS or name.endswith("DataPoint"))
    for number, inside in shape.fields.items():
        assert by_number[number].message_type is not None, (name, number)
        compared(inside, by_number[number].message_type, seen)
    # What takes any text or attributes is in the shape: a new field of the protocol shows here.
    for number, field in by_number.items():
        if field.message_type is not None and field.message_type.name in {"KeyValue", "AnyValue"}:
            assert number in shape.fields, (name, field.name)
        if name in ELEMENTS and field.type == 9:
            assert number in shape.texts, (name, field.name)
    for number in shape.inner:
        assert number in shape.fields


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_shapes_are_those_of_the_protocol(kind: Any) -> None:
    """Every number stands for a field of that kind in the generated classes."""
    compared(kind.shape, kind.request.DESCRIPTOR, set())


def test_a_shape_that_is_wrong_is_seen() -> None:
    """The comparison can fail."""
    with pytest.raises(AssertionError):
        compared(Shape(texts=(1,)), Span.DESCRIPTOR, set())


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
@pytest.mark.parametrize("most", [1, 60, 300])
def test_any_request_is_the_same_in_slices(kind: Any, most: int) -> None:
    """Each span, record and point comes once, in order, beside its own resource and scope."""

    @settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
    @given(filled(kind.request))
    def holds(message: Any) -> None:
        body = message.SerializeToString()
        slices = Slices(Body(body, len(body)), kind.shape, most)
        parts = [kind.request.FromString(part) for part in slices]
        assert [e for one in parts for e in elements(one)] == list(elements(message))
        assert slices.rejected == 0

    holds()


@pytest.mark.parametrize(
    ("kind", "request_"),
    [
        (TRACES, traces(9000, attributes=8)), (LOGS, logs(20_000)), (METRICS, metrics(20_000)),
    ],
    ids=IDS,
)  # fmt: skip
def test_a_large_request_is_taken_whole(kind: Any, request_: Any) -> None:
    """Several batches, none of them large, hold all of it."""
    body = request_.SerializeToString()
    decoding = Decoding(kind, Body(body, len(body)))
    batches = []
    while (batch := decoding.next()) is not None:
        batches.append(batch)

    expected = [one[-1] for one in elements(request_)]
    assert sum(sum(b.spans for b in x.blocks) + len(x.logs + x.points) for x in batches) == len(
        expected
    )
    if kind is TRACES:
        found = [e[-1] for x in batches for b in x.blocks for e in elements(opened(b.body))]
        assert found == expected
        assert sum(len(x.blocks) for x in batches) > 5
    else:
        assert len(batches) > 5
    assert decoding.answer() == b""


def test_what_follows_what_it_belongs_to_is_found() -> None:
    """Protobuf lets a resource come after its spans, and unknown fields anywhere."""
    span = framed(2, traces().resource_spans[0].scope_spans[0].spans[0].SerializeToString())
    name = framed(1, framed(1, b"late"))
    body = framed(1, framed(77, b"?") + framed(2, span + span + name) + framed(3, b"schema"))
    parts = [
        ExportTraceServiceRequest.FromString(part)
        for part in Slices(Body(body, len(body)), shapes.TRACES, 1)
    ]

    assert len(parts) == 2
    for part in parts:
        assert part.resource_spans[0].schema_url == "schema"
        assert part.resource_spans[0].scope_spans[0].scope.name == "late"


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a", b"\x0a\x05ab", b"\x80" * 11, b"\x0b\x0c", b"\x09\x00", b"\x0d\x00", b"\x08",
        b"\x0f", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ],
)  # fmt: skip
def test_what_is_no_protobuf_is_refused(body: bytes) -> None:
    """Cut short, too long a number, a group, a wire type that there is not."""
    with pytest.raises(Refusal) as refused:
        list(walk(body, 0, len(body)))

    assert refused.value.http == 400


@given(st.integers(0, 2**64 - 1))
def test_numbers_are_as_protobuf_has_them(number: int) -> None:
    """A field's number and its length are read as they are written."""
    span = Span(start_time_unix_nano=0, dropped_links_count=number & 0xFFFFFFFF)
    if span.dropped_links_count:
        assert span.SerializeToString() == varint(14 << 3) + varint(number & 0xFFFFFFFF)
    data = b"\x08" + varint(number)
    assert [stop for *_, stop in walk(data, 0, len(data))] == [len(data)]


def test_a_long_text_is_cut_and_marked() -> None:
    """Attack 15: 10 MiB in one attribute leave 64 KiB and a mark, and the count says so."""
    request = traces()
    span = request.resource_spans[0].scope_spans[0].spans[0]
    span.dropped_attributes_count = 3
    span.attributes[0].value.string_value = "ä" * (5 << 20)
    listed = span.attributes.add(key="list").value.array_value.values.add()
    listed.bytes_value = os.urandom(100_000)
    event = span.events.add(name="n" * 100_000)
    event.attributes.add(key="k").value.kvlist_value.values.add(key="x" * 100_000)
    body = request.SerializeToString()
    decoding = Decoding(TRACES, Body(body, len(body)))
    batch = decoding.next()

    assert batch is not None
    found = opened(batch.blocks[0].body).resource_spans[0].scope_spans[0].spans[0]
    text = found.attributes[0].value.string_value
    assert text.endswith(CUT)
    assert MAX_TEXT - 4 <= len(text.encode()) <= MAX_TEXT
    assert text.removesuffix(CUT) == "ä" * (len(text) - len(CUT))
    assert len(found.attributes[2].value.array_value.values[0].bytes_value) <= MAX_TEXT
    assert found.dropped_attributes_count == 5
    assert found.events[0].name.endswith(CUT)
    assert found.events[0].attributes[0].value.kvlist_value.values[0].key.endswith(CUT)
    assert found.events[0].dropped_attributes_count == 1
    assert found.attributes[1] == span.attributes[1]
    assert decoding.cuts == 4


def test_only_long_texts_are_cut() -> None:
    """A text of the limit's length stays, and so does a body without any."""
    request = traces(2)
    span = request.resource_spans[0].scope_spans[0].spans[1]
    span.attributes[0].value.string_value = "x" * MAX_TEXT
    body = request.SerializeToString()

    assert has_long(body, 0, len(body), shapes.TRACES)  # the span is; its text is not
    assert shortened(body, 0, len(body), shapes.TRACES) == (b"", 0)
    ordinary = traces(2000).SerializeToString()
    assert not has_long(ordinary, 0, len(ordinary), shapes.TRACES)


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_what_has_no_long_text_is_known_at_a_glance(kind: Any) -> None:
    """The quick look errs on one side only: what it passes has no text to cut."""

    @settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
    @given(filled(kind.request), st.integers(0, 1), st.data())
    def holds(message: Any, long: int, data: st.DataObject) -> None:
        found = [e for e in dir(message) if e.startswith("resource_")]
        for group in getattr(message, found[0]):
            if long:
                group.schema_url = "x" * data.draw(st.sampled_from([10, 70_000]))
        body = message.SerializeToString()
        if not has_long(body, 0, len(body), kind.shape):
            assert shortened(body, 0, len(body), kind.shape)[1] == 0

    holds()


@pytest.mark.parametrize("levels", [60, 5000])
def test_a_deep_value_is_refused(levels: int) -> None:
    """Attack 10: lists in lists, small and longer than a text may be."""
    value = b""
    for _ in range(levels):
        value = framed(5, framed(1, value))
    for padding in (b"", framed(1, b"x" * 70_000)):
        body = nested(framed(9, framed(2, value)) + framed(9, padding), 1, 2, 2)
        with pytest.raises(Refusal) as refused:
            Decoding(TRACES, Body(body, len(body))).next()
        assert refused.value.http == 400


def test_a_deep_value_that_is_long_is_refused() -> None:
    """Nor does looking for long texts go deeper than it may."""
    value = framed(1, b"x" * 100_000)
    for _ in range(MAX_DEPTH):
        value = framed(5, framed(1, value))
    body = nested(value, 1, 2, 2, 9, 2)

    with pytest.raises(Refusal) as refused:
        Decoding(TRACES, Body(body, len(body))).next()
    assert refused.value.http == 400


def test_one_span_of_many_parts_is_rejected_and_the_others_stay() -> None:
    """A span longer than a slice may not have more than 50,000 fields."""
    good = framed(2, traces().resource_spans[0].scope_spans[0].spans[0].SerializeToString())
    bomb = framed(2, b"\x5a\x00" * 400_000)
    body = nested(good + bomb + good, 1, 2)
    decoding = Decoding(TRACES, Body(body, len(body)))
    batch = decoding.next()

    assert batch is not None
    assert sum(block.spans for block in batch.blocks) == 2
    answer = TRACES.response.FromString(decoding.answer())
    assert answer.partial_success.rejected_spans == 1  # type: ignore[attr-defined]
    assert "fields" in answer.partial_success.error_message  # type: ignore[attr-defined]
