"""Signals and log records as OTLP bytes: what the SDK's encoder makes of them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry._logs import LogRecord as ApiRecord
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.common._internal._log_encoder import encode_logs
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_agents.signals import Failure, Ids, ModelUse, Signal, decode_line
from otel_agents.spool.encode import (
    encode_log,
    encode_resource,
    encode_scope,
    encode_signal,
    logs_request,
)
from otel_agents.spool.encode_logs import _careful_signal
from otel_agents.usage import Usage
from tests.spool.odd import EXAMPLES, VALUES, attributes, broken_texts, texts, values
from tests.spool.same import emitted, expected_log, held, wire

NOW = 1_700_000_000_000_000_000


def a_signal(**fields: Any) -> Signal:
    return Signal(**{"id": "s-1", "kind": "run", "edge": "end", "time": NOW, **fields})


SIGNALS = {
    "bare": a_signal(edge="start"),
    "fact": a_signal(kind="gate", edge="fact", result="failure"),
    "error": a_signal(result="error", error=Failure(type="ValueError", message="no")),
    "timeout": a_signal(result="timeout"),
    "ids": a_signal(
        ids=Ids(run_id="r", workflow="shop", iteration=0, agent="é" * 90, task_id=""),
        trace_id="0af7651916cd43dd8448eb211c80319c",
        span_id="00f067aa0ba902b7",
    ),
    "no trace": a_signal(trace_id="0" * 32, span_id="0" * 16),
    "time of nought": a_signal(time=0),
    "much inside": a_signal(attributes={"content": "x" * 100_000}, cost=0.25, usage=Usage()),
    "models": a_signal(models=[ModelUse(provider="p", model="m")]),
    "half a pair": a_signal(name="\ud800", ids=Ids(agent="a\udfff", workflow="w")),
    "ids of other types": a_signal(ids=Ids(run_id=UUID(int=3), iteration=True, phase=2.5)),  # type: ignore[arg-type]
    "more than 64 bits": a_signal(ids=Ids(iteration=2**64)),
    "a list as id": a_signal(ids=Ids(run_id=["a", 1])),  # type: ignore[arg-type]
    "a kind of its own": a_signal(kind="é" * 300, edge="fact"),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_is_what_the_sink_emits(name: str) -> None:
    """Times, severity, attributes, event name, trace and span; also a second time, from tables."""
    signal = SIGNALS[name]
    (record,) = emitted(signal)
    expected = wire(expected_log(record))

    assert wire(LogRecord.FromString(encode_signal(signal))) == expected
    assert wire(LogRecord.FromString(encode_signal(signal))) == expected
    assert wire(LogRecord.FromString(_careful_signal(signal))) == expected


maybe = st.none() | texts | broken_texts
signals = st.builds(
    Signal,
    id=texts,
    kind=texts | st.sampled_from(["run", "agent", "gate"]),
    edge=st.sampled_from(["start", "progress", "end", "fact"]),
    time=st.integers(0, 2**63),
    name=texts,
    ids=st.builds(
        Ids, run_id=maybe, workflow=maybe, iteration=st.none() | st.integers(), agent=maybe,
        phase=maybe, task_id=maybe, worker_id=maybe, parent_agent_id=maybe,
    ),
    trace_id=st.just("") | st.integers(0, 2**128 - 1).map(lambda number: f"{number:032x}"),
    span_id=st.just("") | st.integers(0, 2**64 - 1).map(lambda number: f"{number:016x}"),
    result=st.sampled_from(["", "success", "failure", "error", "timeout", "cancellation", "skip"]),
    error=st.none() | st.builds(Failure, type=texts | broken_texts, message=texts),
    attributes=st.dictionaries(texts, st.none() | texts | st.integers(-9, 9), max_size=3),
)  # fmt: skip


@given(signals)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_signal_is_what_the_sink_emits(signal: Signal) -> None:
    """Whatever the host's names and ids are."""
    (record,) = emitted(signal)
    expected = wire(expected_log(record))

    assert wire(LogRecord.FromString(encode_signal(signal))) == expected
    assert wire(LogRecord.FromString(_careful_signal(signal))) == expected


def test_a_signal_comes_back_out_of_its_record() -> None:
    """The whole of it is in its first attribute."""
    signal = SIGNALS["much inside"]
    record = LogRecord.FromString(encode_signal(signal))

    assert record.attributes[0].key == "otelagents.signal"
    assert decode_line(record.attributes[0].value.string_value.encode()) == signal


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({"time": -1}, ["time_unix_nano", "observed_time_unix_nano"]),
        ({"trace_id": "no hex"}, ["trace_id"]),
        ({"trace_id": "f" * 33}, ["trace_id"]),
        ({"span_id": "f" * 17}, ["span_id"]),
    ],
)
def test_a_field_of_a_signal_that_does_not_fit_is_left_out(
    fields: dict[str, Any], missing: list[str]
) -> None:
    """The sink raises there; all other fields are kept."""
    whole = {"time": NOW, "trace_id": "a" * 32, "span_id": "b" * 16}
    found = LogRecord.FromString(encode_signal(a_signal(**{**whole, **fields})))
    expected = LogRecord.FromString(encode_signal(a_signal(**whole)))
    for message in (found, expected):
        del message.attributes[0]  # the whole signal, in which the field stands as it is
    for field in missing:
        expected.ClearField(field)  # type: ignore[arg-type]

    assert found == expected


def test_ids_are_encoded_once_a_scope() -> None:
    """Other ids, equal or not, are encoded anew."""
    ids = Ids(run_id="r1", agent="one")
    first = encode_signal(a_signal(ids=ids))

    assert encode_signal(a_signal(ids=ids)) == first
    assert encode_signal(a_signal(ids=Ids(run_id="r1", agent="one"))) == first
    assert encode_signal(a_signal(ids=Ids(run_id="r1", agent="two"))) != first


def test_a_request_of_signals_is_what_the_sdk_makes_of_it() -> None:
    """Resource, scope and schema URLs stand around them."""
    found = emitted(*SIGNALS.values())
    scope = found[0].instrumentation_scope
    assert scope is not None
    body = logs_request(
        [
            (
                encode_resource(found[0].resource),
                found[0].resource.schema_url,
                [(encode_scope(scope), scope.schema_url, map(encode_signal, SIGNALS.values()))],
            )
        ]
    )
    expected = encode_logs(found)
    for record, message in zip(
        found, expected.resource_logs[0].scope_logs[0].log_records, strict=True
    ):
        message.CopyFrom(expected_log(record))

    assert ExportLogsServiceRequest.FromString(body) == expected


def a_record(**fields: Any) -> ReadableLogRecord:
    """A log record of the program's own."""
    record = ApiRecord(timestamp=NOW, observed_timestamp=NOW + 1, **fields)
    return ReadableLogRecord(record, Resource({}), InstrumentationScope("logger"))


@pytest.mark.parametrize("name", VALUES)
def test_a_log_record_is_what_the_sdk_makes_of_it(name: str) -> None:
    """Whatever its attributes hold."""
    found = a_record(
        body="text", attributes=held({"odd": VALUES[name], "even": 2}, 3), event_name="e",
        severity_number=SeverityNumber.ERROR3, severity_text="ERROR",
    )  # fmt: skip

    assert wire(LogRecord.FromString(encode_log(found))) == wire(expected_log(found))


@given(values, attributes, st.none() | st.sampled_from(SeverityNumber), st.none() | texts)
@settings(max_examples=EXAMPLES // 2, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_log_record_is_what_the_sdk_makes_of_it(
    body: Any, given_: Any, number: SeverityNumber | None, text: str | None
) -> None:
    """The SDK raises for a body that OTLP has no value for; ours is then text."""
    found = a_record(body=body, attributes=given_, severity_number=number, severity_text=text)
    try:
        expected = expected_log(found)
    except Exception:  # noqa: BLE001 - the SDK loses the batch
        assert LogRecord.FromString(encode_log(found)).body.WhichOneof("value") == "string_value"
        found.log_record.body = None
        expected = expected_log(found)
    assert wire(LogRecord.FromString(encode_log(found))) == wire(expected)


def test_a_log_record_without_anything_is_encoded_too() -> None:
    """None stands for a field that is not there."""
    record = ApiRecord()
    record.timestamp = record.observed_timestamp = None
    found = LogRecord.FromString(encode_log(ReadableLogRecord(record, Resource({}))))

    assert (found.time_unix_nano, found.trace_id, found.event_name) == (0, b"", "")
