"""What others write has no secrets once it is in the spool; what is clean stays as it is."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest as MetricsRequest,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord as LogMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status, StatusCode

import otel_agents as oa
from otel_agents import values
from otel_agents.boundary import boundary
from otel_agents.spool import redacting
from otel_agents.spool.encode import encode_log, encode_span
from otel_agents.spool.hiding import Known
from otel_agents.spool.redacting import log_body, metrics_body, source, span_body
from otel_agents.testing import capture
from otel_agents.values import REDACTED, Rules, may_hold, redact
from tests.attacks.canaries import KINDS, NAMES, found_in, named, secret, text
from tests.spool import odd
from tests.spool.odd import EXAMPLES, a_span, listed
from tests.spool.same import held
from tests.versions.program import PRICES, PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def under(rules: Rules | None = None) -> Iterator[None]:
    """Let these rules hold for a while, or those that are given in it."""
    before = values._rules[0]
    values._rules[0] = rules or before
    try:
        yield
    finally:
        values._rules[0] = before


NOTHING_HIDDEN = Rules(lambda _key, value: value, patterns=False)


# ---------------------------------------------------------------- against the slow way


def slowly(key: str, value: dict[str, Any]) -> dict[str, Any]:
    """Return a value, as JSON has it, by `redact` of each text in it and of each key."""
    if {"boolValue", "intValue", "doubleValue"} & value.keys():
        return value
    if redact(key, None) == REDACTED:
        return {"stringValue": REDACTED}
    if "stringValue" in value:
        return {"stringValue": redact("", value["stringValue"])}
    if "arrayValue" in value:
        items = value["arrayValue"].get("values", [])
        return {"arrayValue": {"values": [slowly("", one) for one in items]} if items else {}}
    if "kvlistValue" in value:
        return {"kvlistValue": with_pairs(value["kvlistValue"], "values")}
    return value


def with_pairs(message: dict[str, Any], field: str = "attributes") -> dict[str, Any]:
    if field not in message:
        return message
    pairs = [
        {**pair, "value": slowly(pair.get("key", ""), pair["value"])} for pair in message[field]
    ]
    return {**message, field: pairs}


def slow_span(span: ReadableSpan) -> dict[str, Any]:
    found = with_pairs(MessageToDict(SpanMessage.FromString(encode_span(span))))
    for field in ("events", "links"):
        if field in found:
            found[field] = [with_pairs(part) for part in found[field]]
    if "message" in found["status"]:
        found["status"]["message"] = redact("", found["status"]["message"])
    return found


keys = st.sampled_from(["note", "url.full", "gen_ai.usage.input_tokens", "ssn", "", *NAMES])
secrets = st.sampled_from(KINDS).map(lambda kind: secret("their attribute", kind))
said = st.one_of(
    secrets, st.text(max_size=9),
    st.sampled_from(["task-7", "a: b", "x=1", "http://a/b", "SSN=1", "cust-77", "https://u:p@h"]),
    st.tuples(st.text(max_size=9), secrets, st.text(max_size=9)).map(" ".join),
)  # fmt: skip
given_values = st.recursive(
    st.one_of(
        said, said.map(odd.Text), st.none(), st.booleans(), st.integers(-9, 2**63 - 1),
        st.floats(), st.binary(max_size=9),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
    ),
    max_leaves=5,
)  # fmt: skip
secretive = st.builds(held, st.dictionaries(keys, given_values, max_size=9), st.integers(0, 9))
secretive_spans = st.builds(
    a_span,
    attributes=secretive,
    events=st.builds(
        listed, st.lists(st.builds(Event, said, secretive), max_size=2), st.integers(0, 9)
    ),
    links=st.builds(listed, st.lists(st.builds(Link, odd.contexts, secretive), max_size=2)),
    status=st.builds(Status, st.just(StatusCode.ERROR), said) | odd.statuses,
)
rules = st.sampled_from(
    [((), ()), (("ssn",), ()), ((), (r"\bcust-\d+\b",)), (("home_address",), (r"^a",))]
)


@settings(max_examples=3 * EXAMPLES)
@given(secretive_spans | odd.spans, rules)
def test_a_span_is_what_hiding_each_value_makes_of_it(
    span: ReadableSpan, more: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    """Whatever the look at all of it says, and on the second time, when it is remembered."""
    with under():
        values.hide(*more)
        expected = slow_span(span)
        for _ in range(2):
            assert MessageToDict(SpanMessage.FromString(span_body(span))) == expected


def a_log(body: Any, attributes: Any = None) -> ReadableLogRecord:
    record = LogRecord(
        timestamp=1, observed_timestamp=2, body=body, severity_number=SeverityNumber.INFO
    )
    record.attributes = held(attributes or {})
    return ReadableLogRecord(record, Resource({}))


@settings(max_examples=EXAMPLES)
@given(given_values, st.dictionaries(keys, given_values, max_size=5), rules)
def test_a_log_record_is_what_hiding_each_value_makes_of_it(
    body: Any,
    attributes: dict[str, Any],
    more: tuple[tuple[str, ...], tuple[str, ...]],
) -> None:
    """Its body, however it is nested, and its attributes."""
    record = a_log(body, attributes)
    with under():
        values.hide(*more)
        expected = with_pairs(MessageToDict(LogMessage.FromString(encode_log(record))))
        expected["body"] = slowly("", expected["body"])
        for _ in range(2):
            assert MessageToDict(LogMessage.FromString(log_body(record))) == expected


@settings(max_examples=3 * EXAMPLES)
@given(st.text(max_size=20), said, st.text(max_size=20))
def test_the_look_at_a_text_misses_nothing_that_is_hidden(
    before: str, inner: str, after: str
) -> None:
    """It may be wrong the other way only: capitals, and letters that are two when small."""
    for whole in (inner, before + inner + after, (before + inner + after).swapcase()):
        assert may_hold(whole.lower()) or redact("", whole) == whole


def test_every_mark_is_looked_for() -> None:
    """Also the mark of a shape that no canary has."""
    assert [mark for mark in values._MARKS if not may_hold(mark)] == []


# ---------------------------------------------------------------- what is clean


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was encoded, in order: the very objects."""
    made: list[bytes] = []

    def keeping(encode: Any) -> Any:
        def kept(thing: Any) -> bytes:
            made.append(encode(thing))
            return made[-1]

        return kept

    monkeypatch.setattr(redacting, "encode_span", keeping(encode_span))
    monkeypatch.setattr(redacting, "encode_log", keeping(encode_log))
    return made


def test_what_is_clean_goes_as_it_was_encoded(encoded: list[bytes]) -> None:
    """Counts of tokens, addresses, names with marks in them, events, links and a status."""
    attributes = {
        "gen_ai.usage.input_tokens": 5, "gen_ai.token.type": "input", "task": "task-7", "url.full": "https://example.com/a?b=1",
        "list": ("stop", 1, None), "half": 0.5, "raw": b"password=x", "none": None,
    }  # fmt: skip
    span = a_span(
        attributes=held(attributes),
        events=listed([Event("e", held({"size": 3}))]),
        links=listed([Link(SpanContext(1, 2, is_remote=False), held({"kind": "retry"}))]),
        status=Status(StatusCode.ERROR, "it failed: 3 times"),
    )

    assert span_body(span) is encoded[-1]
    assert log_body(a_log("all is well", attributes)) is encoded[-1]
    assert log_body(a_log(None)) is encoded[-1]
    resource, scope = Resource({"service.name": "shop"}), InstrumentationScope("a", "1")
    assert source(resource, scope)[0] is resource
    assert source(resource, scope)[1] is scope
    assert source(resource, None)[1] is None


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_real_agents_leave_behind_stays_whole(program: Callable[[], Any]) -> None:
    """Metrics and spans with content, of runs that end well, fail and are cancelled."""
    with capture(prices=PRICES, content=True) as captured:
        with oa.run("shop"), contextlib.suppress(BaseException):
            asyncio.run(program())
        spans = captured.spans
        metrics = captured._reader.get_metrics_data()
    assert metrics
    assert MetricsRequest.FromString(metrics_body(metrics)) == encode_metrics(metrics)
    for span in spans:
        assert SpanMessage.FromString(span_body(span)) == SpanMessage.FromString(encode_span(span))
    assert len(spans) >= 3


def test_the_program_keeps_what_it_wrote() -> None:
    """Other processors, and exporters after us, see the span and its resource as they were."""
    span = a_span(
        attributes=held(named("their attribute")),
        events=listed([Event("e", held(named("their event")))]),
        status=Status(StatusCode.ERROR, text("their status")),
        resource=Resource({"token": "x"}),
    )
    before = copy.deepcopy((dict(span._attributes), dict(span.events[0].attributes or {})))
    span_body(span)
    source(span.resource, None)

    assert (dict(span._attributes), dict(span.events[0].attributes or {})) == before
    assert span.status.description == text("their status")
    assert span.resource.attributes == {"token": "x"}


def test_what_is_remembered_is_bounded() -> None:
    """However many texts, keys and lists of nothing come along."""
    known = Known(values.rules())
    for number in range(5000):
        assert known[f"key-{number}", f"value-{number}"]
    assert known["list", ("",) * 100_000]
    assert known["text", "x" * 100_000]

    assert len(known) <= 2048
    assert len(known._harmless) <= 1000
    assert all(len(value) < 65 for _, value in known)


# ---------------------------------------------------------------- rules of the program


def test_names_and_patterns_of_the_settings_hide_in_the_spool() -> None:
    """From when they are given, in what was found clean before too, and no longer than that."""
    span = a_span(attributes=held({"home_address": "1 Main St", "note": "cust-77"}))
    resource = Resource({"home_address": "1 Main St"})
    scope = InstrumentationScope("a", attributes={"note": "cust-77"})
    clean = span_body(span)
    assert source(resource, scope) == (resource, scope)

    with under():
        values.hide(("home_address",), (r"\bcust-\d+\b",))
        found = SpanMessage.FromString(span_body(span))
        assert [one.value.string_value for one in found.attributes] == [REDACTED, REDACTED]
        first, second = source(resource, scope)
        assert first.attributes == {"home_address": REDACTED}
        assert (second.name, second.attributes) == ("a", {"note": REDACTED})
        assert source(resource, scope)[0] is first
    assert span_body(span) == clean
    assert source(resource, scope)[0] is resource


# ---------------------------------------------------------------- where hiding fails


def failing(key: str, value: Any) -> Any:
    """Hide as ever, but fail at one value."""
    if value == "fail":
        raise RuntimeError("no memory")
    return redact(key, value)


def test_where_hiding_fails_the_values_stay_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The span goes without them, each counted as dropped, and so does the log record."""
    monkeypatch.setattr(boundary, "strict", False)
    monkeypatch.setattr(boundary, "counts", {})
    attributes = {"note": secret("their attribute", "openai"), "b": ["fail"]}
    span = a_span(
        attributes=held(attributes, 3),
        events=listed([Event("e", held({"a": 1}))], 1),
        links=listed([Link(SpanContext(1, 2, is_remote=False), held({"a": 1}))]),
        status=Status(StatusCode.ERROR, "password=x"),
    )
    with under(Rules(failing, patterns=True)):
        found = SpanMessage.FromString(span_body(span))
        record = LogMessage.FromString(log_body(a_log(["fail"], attributes)))
        resource = source(Resource({"note": "fail", "token": "x"}), None)[0]

    plain = SpanMessage.FromString(encode_span(span))
    assert (found.name, found.span_id, found.end_time_unix_nano) == (
        plain.name, plain.span_id, plain.end_time_unix_nano,
    )  # fmt: skip
    assert [*found.attributes, *found.events, *found.links, *found.status.message] == []
    assert found.status.code == plain.status.code
    assert (found.dropped_attributes_count, found.dropped_events_count) == (5, 2)
    assert found.dropped_links_count == 1
    assert not record.attributes
    assert not record.HasField("body")
    assert record.dropped_attributes_count == 2
    assert resource.attributes == {}
    assert boundary.counts == {"spool": 3}


@pytest.mark.parametrize(
    "kind", ["raising", "inside itself", "broken list", "set", "posing as text", "half a pair"]
)
def test_a_hostile_value_is_left_out_and_counted(kind: str) -> None:
    """As without a secret beside it; what can be hidden is."""
    span = a_span(attributes=held({"odd": odd.VALUES[kind], "password": "x", "n": 1}))
    found = SpanMessage.FromString(span_body(span))

    assert {one.key: one.value.string_value for one in found.attributes} == {
        "password": REDACTED, "n": "",
    }  # fmt: skip
    assert found.dropped_attributes_count == 1


def test_a_text_of_a_type_of_its_own_is_searched() -> None:
    """The SDK keeps such a value as it is; on its own, in a list, and where the text is known."""
    own = odd.Text(secret("their attribute", "jwt"))
    for value in (own, ("a", own), ["a", own], {"a": own}):
        found = span_body(a_span(attributes=held({"note": value})))
        assert found_in(found) == set()
        assert REDACTED.encode() in found
    assert found_in(log_body(a_log(own))) == set()


class OwnSpan(ReadableSpan):
    @property
    def attributes(self) -> Any:
        return {"note": secret("their attribute", "jwt")}


class OwnStatus(Status):
    @property
    def description(self) -> str:
        return secret("their status", "jwt")


class OwnAttributes(BoundedAttributes):
    def items(self) -> Any:
        return [("note", secret("their log", "jwt"))]


def test_what_a_type_of_its_own_says_is_searched() -> None:
    """What is encoded is what its properties give, not what it holds."""
    span = a_span()
    span.__class__ = OwnSpan
    # A time that is missing: the span is encoded by its properties.
    status = a_span(status=OwnStatus(StatusCode.ERROR), start_time=None)
    attributes = a_span(attributes=OwnAttributes(attributes={"a": 1}))
    event = a_span(events=listed([Event("e", OwnAttributes(attributes={"a": 1}))]))
    record = a_log("x")
    record.log_record.attributes = OwnAttributes(attributes={"a": 1})

    for one in (span, status, attributes, event):
        assert found_in(encode_span(one)) != set()
        assert found_in(span_body(one)) == set()
    assert found_in(encode_log(record)) != set()
    assert found_in(log_body(record)) == set()
