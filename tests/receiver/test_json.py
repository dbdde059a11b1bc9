"""OTLP/JSON says the same as OTLP in protobuf, in every spelling that the specification allows."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_agents.receiver.bounded import Body
from otel_agents.receiver.decode import KINDS, LOGS, METRICS, TRACES, Decoding
from otel_agents.receiver.json import JsonSlices
from otel_agents.receiver.status import Refusal
from otel_agents.store.blocks import opened
from tests.receiver.messages import elements, filled, spelled

IDS = ("traces", "metrics", "logs")
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
ANY = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}


def read(kind: Any, body: bytes, whole: int = 1 << 20) -> Any:
    """Return the message of a JSON body, its slices joined."""
    message = kind.request()
    for part in JsonSlices(Body(body, len(body)), kind.request, kind.shape, whole):
        message.MergeFromString(part)
    return message


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_any_message_comes_back_from_its_json(kind: Any) -> None:
    """Ids in any case, numbers as text or numbers, base64 of both alphabets, null, unknown keys."""

    @settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        message = data.draw(filled(kind.request))
        body = json.dumps(data.draw(spelled(message)), allow_nan=False).encode()
        assert read(kind, body).SerializeToString(deterministic=True) == (
            message.SerializeToString(deterministic=True)
        )

    holds()


SPAN = {
    "traceId": "5B8EFFF798038103D269B633813FC60C",
    "spanId": "EEE19B7EC3C1B174",
    "parentSpanId": "eee19b7ec3c1b173",
    "name": "I'm a server span",
    "startTimeUnixNano": "1544712660000000000",
    "endTimeUnixNano": 1544712661000000000,
    "kind": 2,
    "attributes": [{"key": "my.span.attr", "value": {"stringValue": "some value"}}],
    "status": {"code": 2, "message": "wrong"},
    "droppedEventsCount": 1,
    "flags": 256,
}
# After the examples of opentelemetry-proto, with values of every kind.
GOLDEN = {
    "traces": (
        TRACES,
        {
            "resourceSpans": [
                {
                    "resource": {
                        "attributes": [
                            {"key": "service.name", "value": {"stringValue": "my.service"}}
                        ]
                    },
                    "scopeSpans": [
                        {"scope": {"name": "my.library", "version": "1.0.0"}, "spans": [SPAN]}
                    ],
                }
            ]
        },
    ),
    "metrics": (
        METRICS,
        {
            "resourceMetrics": [
                {
                    "scopeMetrics": [
                        {
                            "metrics": [
                                {
                                    "name": "my.counter",
                                    "unit": "1",
                                    "sum": {
                                        "aggregationTemporality": 2,
                                        "isMonotonic": True,
                                        "dataPoints": [
                                            {"asDouble": 5, "timeUnixNano": "1544712660300000000"}
                                        ],
                                    },
                                },
                                {
                                    "name": "my.histogram",
                                    "histogram": {
                                        "aggregationTemporality": 1,
                                        "dataPoints": [
                                            {
                                                "timeUnixNano": "1544712660300000000",
                                                "count": "2",
                                                "sum": 2.5,
                                                "bucketCounts": [1, "1"],
                                                "explicitBounds": [1],
                                                "min": 0,
                                            }
                                        ],
                                    },
                                },
                            ]
                        }
                    ]
                }
            ]
        },
    ),
    "logs": (
        LOGS,
        {
            "resourceLogs": [
                {
                    "scopeLogs": [
                        {
                            "logRecords": [
                                {
                                    "timeUnixNano": "1544712660300000000",
                                    "severityNumber": 10,
                                    "severityText": "Information",
                                    "traceId": "5b8efff798038103d269b633813fc60c",
                                    "spanId": "eee19b7ec3c1b174",
                                    "body": {"stringValue": "Example log record"},
                                    "attributes": [
                                        {"key": "n", "value": {"intValue": "-9"}},
                                        {"key": "b", "value": {"boolValue": False}},
                                        {"key": "d", "value": {"doubleValue": "NaN"}},
                                        {"key": "r", "value": {"bytesValue": "AP8="}},
                                        {
                                            "key": "l",
                                            "value": {"arrayValue": {"values": [{"intValue": 1}]}},
                                        },
                                        {
                                            "key": "m",
                                            "value": {
                                                "kvlistValue": {
                                                    "values": [
                                                        {"key": "k", "value": {"stringValue": "v"}}
                                                    ]
                                                }
                                            },
                                        },
                                        {"key": "none", "value": {}},
                                    ],
                                }
                            ]
                        }
                    ]
                }
            ]
        },
    ),
}


def protobuf_of(kind: Any, data: dict[str, Any]) -> bytes:
    """Return a request in protobuf, read by Google's own JSON reader; ids are made base64 first."""

    def rewritten(value: Any) -> Any:
        if isinstance(value, list):
            return [rewritten(one) for one in value]
        if not isinstance(value, dict):
            return value
        return {
            key: (
                msgspec.json.decode(msgspec.json.encode(bytes.fromhex(one)))
                if key in {"traceId", "spanId", "parentSpanId"}
                else rewritten(one)
            )
            for key, one in value.items()
        }

    message = kind.request()
    json_format.ParseDict(rewritten(data), message)
    return bytes(message.SerializeToString())


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_requests_give_the_same_batch_in_json_and_in_protobuf(name: str) -> None:
    """The specification's examples, and values of every kind."""
    kind, data = GOLDEN[name]
    in_json = msgspec.json.encode(data)
    in_protobuf = protobuf_of(kind, data)
    first = Decoding(kind, Body(in_json, len(in_json)), as_json=True).next()
    second = Decoding(kind, Body(in_protobuf, len(in_protobuf))).next()

    assert first is not None
    assert second is not None
    assert first.size == second.size
    assert (first.signals, first.logs, first.points) == (
        second.signals, second.logs, second.points,
    )  # fmt: skip
    assert [opened(block.body) for block in first.blocks] == [
        opened(block.body) for block in second.blocks
    ]
    assert [block.traces for block in first.blocks] == [block.traces for block in second.blocks]


def test_the_readers_of_protobufs_json_would_take_ids_for_base64() -> None:
    """Why there is a reader of our own: 16 bytes become 24, and nothing complains."""
    message = ExportTraceServiceRequest()
    json_format.ParseDict(GOLDEN["traces"][1], message)

    assert len(message.resource_spans[0].scope_spans[0].spans[0].trace_id) == 24


def test_null_is_as_good_as_nothing() -> None:
    """At every level; a kind of data that is null is not the metric's kind."""
    for body, levels in (
        (b"null", 0), (b'{"resourceMetrics":null}', 0), (b'{"resourceMetrics":[{}]}', 1),
        (b'{"resourceMetrics":[{"resource":null,"scopeMetrics":null}]}', 1),
    ):  # fmt: skip
        assert len(read(METRICS, body).resource_metrics) == levels
    body = b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":null}]}]}]}'
    metric = read(METRICS, body).resource_metrics[0].scope_metrics[0].metrics[0]
    assert metric.WhichOneof("data") is None


def span(**fields: Any) -> bytes:
    return json.dumps(
        {"resourceSpans": [{"scopeSpans": [{"spans": [{**SPAN, **fields}]}]}]}
    ).encode()


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "SPAN_KIND_SERVER"},
        {"status": {"code": "STATUS_CODE_ERROR"}},
        {"kind": True},
        {"kind": 2**31},
        {"traceId": "5b8efff798038103d269b633813fc60"},
        {"traceId": "5b 8e"},
        {"traceId": "zz"},
        {"traceId": 5},
        {"name": 5},
        {"startTimeUnixNano": "soon"},
        {"startTimeUnixNano": -1},
        {"startTimeUnixNano": 2**64},
        {"startTimeUnixNano": "1_000"},
        {"startTimeUnixNano": 1.5},
        {"attributes": {}},
        {"attributes": [[]]},
        {"attributes": [{"key": "a", "value": "text"}]},
        {"attributes": [{"key": "a", "value": {"boolValue": "true"}}]},
        {"attributes": [{"key": "a", "value": {"doubleValue": "nan"}}]},
        {"attributes": [{"key": "a", "value": {"bytesValue": "!"}}]},
        {"droppedEventsCount": -1},
    ],
    ids=str,
)  # fmt: skip
def test_a_value_of_another_type_is_refused(fields: dict[str, Any]) -> None:
    """400 that names the field; names of enums are not numbers."""
    with pytest.raises(Refusal) as refused:
        read(TRACES, span(**fields))

    assert refused.value.http == 400
    assert next(iter(fields)) in refused.value.message or "value" in refused.value.message.lower()


@pytest.mark.parametrize("name", ["trace_id", "start_time_unix_nano", "TraceId", "__proto__"])
def test_other_spellings_of_keys_are_unknown(name: str) -> None:
    """Attack 13 too: keys are lowerCamelCase only, and what is unknown is passed over."""
    plain = read(TRACES, span())

    assert read(TRACES, span(**{name: {"x": 1}})) == plain


@pytest.mark.parametrize("levels", [5000, 400, 50])
@pytest.mark.parametrize("where", ["value", "unknown", "list"])
def test_deep_nesting_is_refused(levels: int, where: str) -> None:
    """Attack 10: never a RecursionError; unknown keys are passed over to any depth that we can."""
    start, end = {
        "value": ('{"arrayValue":{"values":[', "]}}"),
        "unknown": ('{"a":', "}"),
        "list": ("[", "]"),
    }[where]
    deep = start * levels + '{"intValue":1}' + end * levels
    text = span(attributes=[{"key": "a", "value": 0}]).decode()
    body = (
        text.replace('"value": 0', f'"value": {deep}')
        if where == "value"
        else text.replace('"attributes"', f'"x": {deep}, "y"')
    ).encode()

    if where != "value" and levels < 1000:
        assert read(TRACES, body).resource_spans[0].scope_spans[0].spans[0].name == SPAN["name"]
        return
    with pytest.raises(Refusal) as refused:
        read(TRACES, body)
    assert refused.value.http == 400


def test_what_json_nests_the_store_can_read_again() -> None:
    """The deepest value taken is one that protobuf parses."""
    for levels in range(35, 45):
        deep = '{"arrayValue":{"values":[' * levels + "{}" + "]}}" * levels
        body = span(attributes=[{"key": "a", "value": 0}]).replace(
            b'"value": 0', b'"value": ' + deep.encode()
        )
        try:
            message = read(TRACES, body)
        except Refusal:
            assert levels >= 39
            continue
        assert levels <= 40
        assert ExportTraceServiceRequest.FromString(message.SerializeToString()) == message


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_a_large_body_is_the_same_in_slices(kind: Any) -> None:
    """What stands beside an element is repeated in each slice, and nothing is lost."""

    @settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        message = data.draw(filled(kind.request))
        body = json.dumps(data.draw(spelled(message)), allow_nan=False).encode()
        cut = [
            kind.request.FromString(part)
            for part in JsonSlices(Body(body, len(body)), kind.request, kind.shape, 1)
        ]
        whole = kind.request.FromString(read(kind, body).SerializeToString())
        assert [e for one in cut for e in elements(one)] == list(elements(whole))

    holds()
