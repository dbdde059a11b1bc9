"""Spans as OTLP bytes: what the SDK's encoder makes of them, whatever they hold."""

from __future__ import annotations

import enum
import math
import os
from collections import UserDict, UserList
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceState

from otel_agents.spool import encode_values
from otel_agents.spool.encode import encode_resource, encode_scope, encode_span, spans_request
from otel_agents.spool.encode_plain import plain_span
from tests.spool.same import check, held

if TYPE_CHECKING:
    from collections.abc import Callable


class Text(str):
    """A host's own text."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        return b"not what it holds"


class Whole(int):
    def __int__(self) -> int:
        return 7

    def __index__(self) -> int:
        return 7

    def __and__(self, other: int) -> int:
        return 7


class Real(float):
    def __float__(self) -> float:
        return 7.0


class Raw(bytes):
    def __len__(self) -> int:
        return 1


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Word(enum.StrEnum):
    YES = "yes"


class LikeNumber:
    """A number of another library: it can be asked for one, and is of no type of ours."""

    def __index__(self) -> int:
        return 3

    def __int__(self) -> int:
        return 3

    def __float__(self) -> float:
        return 3.0

    def __array__(self) -> list[int]:
        return [3]

    def item(self) -> int:
        return 3


class Posing:
    """A proxy: it says that it is what it stands for."""

    def __init__(self, value: Any) -> None:
        self._value = value

    @property
    def __class__(self) -> Any:
        return type(self._value)

    def __index__(self) -> int:
        return self._value.__index__()

    def __float__(self) -> float:
        return float(self._value)

    def __len__(self) -> int:
        return len(self._value)


class Raising:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __hash__ = __eq__ = __len__ = __iter__ = __repr__ = __str__  # type: ignore[assignment]


class Broken(UserList[Any]):
    def __iter__(self) -> Any:
        raise RuntimeError("no items")


def nested(levels: int, inner: Any, around: Callable[[Any], Any]) -> Any:
    for _ in range(levels):
        inner = around(inner)
    return inner


def recursive() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


VALUES: dict[str, Any] = {
    "text": "plain",
    "empty text": "",
    "long text": "x" * 200,
    "longer text": "é" * 20_000,
    "text of 63 bytes": "x" * 63,
    "text of 64 bytes": "x" * 64,
    "text of 65 bytes": "x" * 65,
    "text of 125 bytes": "x" * 125,
    "text of 126 bytes": "x" * 126,
    "any plane": "a\x00\x7f\u0080\uffff\U0010ffff",
    "half a pair": "a\ud800b",
    "true": True,
    "false": False,
    "zero": 0,
    "a byte": 127,
    "two bytes": 128,
    "three bytes": 1 << 14,
    "four bytes": 1 << 21,
    "negative": -1,
    "most": 2**63 - 1,
    "least": -(2**63),
    "more than 64 bits": 2**63,
    "less than 64 bits": -(2**63) - 1,
    "huge": 10**5000,
    "float": 2.5,
    "negative zero": -0.0,
    "whole float": 1.0,
    "nan": math.nan,
    "infinite": -math.inf,
    "none": None,
    "bytes": b"\x00\xff",
    "empty bytes": b"",
    "byte array": bytearray(b"ab"),
    "memory": memoryview(b"ab"),
    "empty list": [],
    "empty tuple": (),
    "empty mapping": {},
    "texts": ("stop",),
    "many texts": ["a", "b", "c" * 300],
    "a half pair in it": ["a", "\udfff"],
    "ints": [1, 2, 3],
    "bools among ints": (1, True, 0, False),
    "floats": (1.0, -0.0, math.nan),
    "none in it": ["a", None, "b"],
    "mixed": ["a", 1, 2.5, True, b"x", None, ["b", {"c": 1}]],
    "too large in it": [1, 2**64],
    "mapping": {"a": 1, "b": {"c": [1, "x"]}, "": None},
    "keys of any type": {1: "a", None: "b", ("x",): "c"},
    "a half pair as key": {"\ud800": 1},
    "own mapping": UserDict({"a": 1}),
    "own list": UserList([1, "a"]),
    "range": range(3),
    "set": {1},
    "generator": (number for number in (1, 2)),
    "own text": Text("real"),
    "own int": Whole(300),
    "own negative int": Whole(-2),
    "own float": Real(2.5),
    "own bytes": Raw(b"abc"),
    "enumeration": Colour.RED,
    "int enumeration": Level.HIGH,
    "text enumeration": Word.YES,
    "decimal": Decimal("1.5"),
    "complex": 1j,
    "like a number": LikeNumber(),
    "like a number, in a list": [LikeNumber()],
    "posing as text": Posing("a"),
    "posing as int": Posing(300),
    "posing as bool": Posing(True),
    "posing as float": Posing(2.5),
    "posing as bytes": Posing(b"a"),
    "raising": Raising(),
    "object": object(),
    "type": int,
    "broken list": Broken(),
    "inside itself": recursive(),
    "47 lists": nested(47, 1, lambda inner: [inner]),
    "31 mappings": nested(31, 1, lambda inner: {"a": inner}),
}


def a_span(**fields: Any) -> ReadableSpan:
    """A span as the SDK hands it over, with other fields where they are given."""
    context = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, is_remote=False)
    plain: dict[str, Any] = {
        "name": "chat",
        "context": context,
        "parent": SpanContext(context.trace_id, 0xFF, is_remote=False),
        "resource": Resource({"service.name": "shop"}),
        "attributes": held({"a": "x", "b": 1}),
        "events": BoundedList(8),
        "links": BoundedList(8),
        "kind": SpanKind.CLIENT,
        "status": Status(StatusCode.UNSET),
        "start_time": 1_700_000_000_000_000_000,
        "end_time": 1_700_000_001_000_000_000,
    }
    return ReadableSpan(**{**plain, **fields})


def listed(items: list[Any], dropped: int = 0) -> BoundedList:
    found = BoundedList.from_seq(None, items)
    found.dropped = dropped
    return found


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


# Each takes some 50 ms, most of it to make them up; continuous integration tries more.
EXAMPLES = 500 if os.environ.get("CI") else 100

texts = st.text(max_size=70)
broken_texts = st.text(st.one_of(st.characters(), st.characters(categories=["Cs"])), max_size=20)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-300, 300), st.floats(), texts,
    broken_texts, st.binary(max_size=20), texts.map(Text), st.integers().map(Whole),
    st.floats().map(Real), st.sampled_from([Colour.RED, Level.HIGH, Word.YES, Decimal(1), 1j]),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(texts, st.integers()), inner, max_size=4),
    ),
    max_leaves=8,
)
attributes = st.builds(
    held, st.dictionaries(st.one_of(texts, broken_texts), values, max_size=12), st.integers(0, 300)
)
times = st.none() | st.integers(0, 2**64 - 1)
states = st.none() | st.lists(
    st.tuples(st.text("abc", min_size=1, max_size=9), st.text("abc09-:/", min_size=1, max_size=9)),
    max_size=3,
).map(TraceState)
contexts = st.builds(
    SpanContext, st.integers(0, 2**128 - 1), st.integers(0, 2**64 - 1), st.booleans(),
    st.just(trace.TraceFlags(1)), states,
)  # fmt: skip
statuses = st.one_of(
    st.builds(Status, st.sampled_from(StatusCode)),
    st.builds(Status, st.just(StatusCode.ERROR), texts),
)
events = st.builds(Event, texts, attributes, st.integers(0, 2**64 - 1))
spans = st.builds(
    a_span,
    name=texts,
    context=contexts,
    parent=st.none() | contexts,
    attributes=attributes,
    events=st.builds(listed, st.lists(events, max_size=3), st.integers(0, 2**32 - 1)),
    links=st.builds(
        listed, st.lists(st.builds(Link, contexts, attributes), max_size=2), st.integers(0, 9)
    ),
    kind=st.sampled_from(SpanKind),
    status=statuses,
    start_time=times,
    end_time=times,
)


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

    table = encode_values.SPAN
    assert len(table) <= 2048
    assert sum(len(heads) for heads in table._heads.values()) <= 2048
    assert len(encode_values._KEYS) <= 512
    assert len(encode_values.VARINTS) <= 4096
