"""Secrets that a program sends end in the collector, and all else passes it unchanged."""

from __future__ import annotations

import json
import os
import time
import urllib.parse
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    KeyValue,
    KeyValueList,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from otel_agents.signals import Failure, Ids, Signal, decode_line, encode_line
from otel_agents.vocabulary import SIGNAL
from tests.stack.otlp import CUMULATIVE, SCOPE, STARTED, send, send_to

if TYPE_CHECKING:
    from conftest import Backends

pytestmark = pytest.mark.xdist_group("stack")

# In every secret below, so that one search finds any of them.
CANARY = "c4n4ry"
SHAPES = {
    "openai": f"sk-{CANARY}AAAAAAAAAAAAAAAA",
    "anthropic": f"sk-ant-api03-{CANARY}-AAAAAAAAAAAA",
    "aws": "AKIA" + CANARY.upper() + "AAAAAAAAAA",
    "github": f"ghp_{CANARY}" + "A" * 30,
    "slack": f"xoxb-{CANARY}-AAAAAAAA",
    "google": f"AIza{CANARY}" + "A" * 30,
    "jwt": f"eyJ{CANARY}AAAA.{CANARY}AAAA.{CANARY}",
    "bearer": f"Bearer {CANARY}.AAAA",
    "pem": f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\nAA+/=\n-----END RSA PRIVATE KEY-----",
    "cut pem": f"-----BEGIN PRIVATE KEY-----\n{CANARY}AAAA",
    "url": f"postgres://app:{CANARY}@db/orders",
    "url with @": f"redis://:{CANARY}@{CANARY}@db/0",
    "dsn": f"host=db password={CANARY} user=app",
}
KEYS = (
    "password", "db.password", "client_secret", "http.request.header.authorization",
    "http.request.header.x-api-key", "http.response.header.set-cookie", "apiKey", "access_token",
    "accessToken", "token", "aws.secret_access_key", "Authorization", "user.credentials",
)  # fmt: skip
# What looks like a secret and is none.
PLAIN: dict[str, str | int] = {
    "gen_ai.usage.input_tokens": 12,
    "gen_ai.token.type": "input",
    "otelagents.usage.total.output_tokens": 3,
    "task.id": "task-01hzzzzzzzzzzzzzzzzzzzzzzz",
    "secretary": "miss moneypenny",
    "authorization.kind": "role",
    "tokenizer": "o200k_base",
    "url.full": "https://example.com:8080/a@b?page=2",
    "note": "pass the bearer the risk-assessment-of-the-year",
}


def value(given: Any) -> AnyValue:
    """Return a value as OTLP has it."""
    if isinstance(given, bool | int):
        return AnyValue(int_value=given)
    if isinstance(given, list):
        return AnyValue(array_value=ArrayValue(values=[value(each) for each in given]))
    if isinstance(given, dict):
        return AnyValue(kvlist_value=KeyValueList(values=attributes(given)))
    return AnyValue(string_value=given)


def attributes(given: dict[str, Any]) -> list[KeyValue]:
    """Return attributes as OTLP has them."""
    return [KeyValue(key=key, value=value(each)) for key, each in given.items()]


def secrets() -> dict[str, Any]:
    """Return attributes with a secret each: by its shape, by its key, in lists, maps and JSON."""
    every = {f"shape.{name}": f"before {each} after" for name, each in SHAPES.items()}
    every |= dict.fromkeys(KEYS, f"{CANARY}-by-key")
    return every | {
        "process.command_args": ["run", f"--token={CANARY}", SHAPES["openai"]],
        "in.map": {"inner": SHAPES["anthropic"]},
        "gen_ai.tool.call.arguments": json.dumps({"user": "app", "db_password": f'x"{CANARY}'}),
        "in.json.in.json": json.dumps({"arguments": json.dumps({"apiKey": CANARY, "a": "b"})}),
    }


def resource(service: str, more: dict[str, Any]) -> Resource:
    """Return a program's resource with more attributes."""
    return Resource(attributes=attributes({"service.name": service} | more))


def traces(service: str, more: dict[str, Any], text: str) -> ExportTraceServiceRequest:
    """Return a span with these attributes and this text in every place that a span has."""
    now = time.time_ns()
    span = Span(
        trace_id=os.urandom(16), span_id=os.urandom(8), name=f"told {text}",
        start_time_unix_nano=now, end_time_unix_nano=now + 1000, attributes=attributes(more),
        status=Status(code=Status.STATUS_CODE_ERROR, message=f"told {text}"),
        events=[Span.Event(time_unix_nano=now, name="exception", attributes=attributes(more))],
    )  # fmt: skip
    scoped = ScopeSpans(scope=SCOPE, spans=[span])
    return ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(resource=resource(service, more), scope_spans=[scoped])]
    )


def metrics(service: str, more: dict[str, Any]) -> ExportMetricsServiceRequest:
    """Return a counter with these attributes."""
    point = NumberDataPoint(
        start_time_unix_nano=STARTED, time_unix_nano=time.time_ns(), as_int=1,
        attributes=attributes(more),
    )  # fmt: skip
    total = Sum(data_points=[point], aggregation_temporality=CUMULATIVE, is_monotonic=True)
    scoped = ScopeMetrics(scope=SCOPE, metrics=[Metric(name="shop.orders", sum=total)])
    return ExportMetricsServiceRequest(
        resource_metrics=[ResourceMetrics(resource=resource(service, more), scope_metrics=[scoped])]
    )


def logs(service: str, *records: LogRecord) -> ExportLogsServiceRequest:
    """Return a request with these records."""
    for record in records:
        record.time_unix_nano = time.time_ns()
    scoped = ScopeLogs(scope=SCOPE, log_records=records)
    return ExportLogsServiceRequest(
        resource_logs=[ResourceLogs(resource=resource(service, {}), scope_logs=[scoped])]
    )


def signal(run: str, text: str) -> Signal:
    """Return a run's start with a text in all places that a signal has for one."""
    return Signal(
        id=f"{run}-start", kind="run", edge="start", time=time.time_ns(), name="order",
        ids=Ids(run_id=run, workflow="order"), error=Failure("ValueError", text),
        attributes={"goal": text, "quoted": f'"{text}"', "last": text},
    )  # fmt: skip


def everything(backends: Backends, service: str, run: str) -> dict[str, str]:
    """Return all that Jaeger, Prometheus and the server tell of a service, as text."""
    found = backends.served(f"/api/traces?service={service}")
    on_server = [
        *(backends.server(f"/api/traces/{trace['trace_id']}") for trace in found),
        *(log for log in backends.served("/api/logs") if log["service"] == service),
        *(one for one in backends.served("/api/metrics") if one["service"] == service),
        *backends.served(f"/api/events?run_id={run}"),
    ]
    matching = {"match[]": f'{{job="{service}"}}', "start": str(time.time() - 3600)}
    series = backends.prometheus(f"/api/v1/series?{urllib.parse.urlencode(matching)}")
    spans = f'traces_span_metrics_calls_total{{service_name="{service}"}}'
    return {
        "jaeger": json.dumps(backends.traces(service)),
        "prometheus": json.dumps([*series, *backends.query(spans)]),
        "server": json.dumps(on_server),
    }


def send_all(backends: Backends, service: str, run: str, more: dict[str, Any], text: str) -> None:
    """Send a span, a metric, log records and a signal of a service to the collector."""
    line = encode_line(signal(run, text)).decode().rstrip()
    send(backends.stack, "http", traces(service, more, text))
    send(backends.stack, "http", metrics(service, more))
    send(
        backends.stack,
        "http",
        logs(
            service,
            LogRecord(body=value(f"told {text}"), attributes=attributes(more)),
            LogRecord(body=value({"inner": list(SHAPES.values()), "password": text})),
            LogRecord(attributes=attributes({SIGNAL.key: line})),
        ),
    )


def test_no_secret_passes_the_collector(backends: Backends) -> None:
    """A canary in every shape, key and place is in no backend; what stood beside it is."""
    text = " ".join([*SHAPES.values(), json.dumps({"password": CANARY})])
    send_all(backends, "canaries", "run-canaries", secrets() | PLAIN, text)
    # The same words reach all three where they are no secrets: what is missing below was hidden.
    send_all(backends, "visible", "run-visible", {"note.of": f"{CANARY} seen"}, f"{CANARY} seen")

    def arrived(service: str, run: str) -> bool:
        found = everything(backends, service, run)
        return (
            f'"service_name": "{service}"' in found["prometheus"]
            and '"shop_orders_total"' in found["prometheus"]
            and len(backends.served(f"/api/events?run_id={run}")) == 1
            and "told" in found["jaeger"]
            and found["server"].count("told") >= 3
        )

    assert backends.eventually(lambda: arrived("canaries", "run-canaries"))
    assert backends.eventually(lambda: arrived("visible", "run-visible"))
    hidden = everything(backends, "canaries", "run-canaries")
    shown = everything(backends, "visible", "run-visible")

    assert {where: CANARY in told.lower() for where, told in shown.items()} == dict.fromkeys(
        shown, True
    )
    assert {where: excerpt(told) for where, told in hidden.items()} == dict.fromkeys(hidden, "")
    assert all("****" in told for told in hidden.values())
    on_disk = [path for path in backends.stack.state.rglob("*") if path.is_file()]
    assert [path for path in on_disk if f"sk-{CANARY}".encode() in path.read_bytes()] == []


def excerpt(told: str) -> str:
    """Return what stands around a canary, or nothing where there is none."""
    at = told.lower().find(CANARY)
    return told[max(at - 100, 0) : at + 50] if at >= 0 else ""


def test_what_is_no_secret_passes_unchanged(backends: Backends) -> None:
    """Tokens that are counted, task ids, ports and words that contain a secret's name all pass."""
    send(backends.stack, "http", traces("plain", PLAIN, "chat sk"))

    (trace,) = backends.eventually(lambda: backends.traces("plain"))

    (span,) = trace["spans"]
    tags = {tag["key"]: tag["value"] for tag in span["tags"]}
    assert {key: tags.get(key) for key in PLAIN} == PLAIN
    assert span["operationName"] == "told chat sk"
    assert tags["otel.status_description"] == "told chat sk"
    assert [key for key in tags if key.startswith(("lent.", "redact"))] == []


def test_a_signal_stays_json_whatever_is_hidden_in_it(backends: Backends) -> None:
    """Of every shape of secret in a signal the server gets the signal, with the rest of it."""
    for number, (name, secret) in enumerate(SHAPES.items()):
        run = f"run-json-{number}"
        for text in (
            secret,
            f'{secret}", "x',
            f"{secret}\\",
            f"\\{secret}\\\\",
            json.dumps(secret),
        ):
            assert decode_line(encode_line(signal(run, text))) is not None, name
        line = encode_line(signal(run, f'{secret}", \\"x" \\')).decode().rstrip()
        send(
            backends.stack,
            "http",
            logs("json", LogRecord(attributes=attributes({SIGNAL.key: line}))),
        )

    def started() -> list[int]:
        return [
            len(backends.served(f"/api/events?run_id=run-json-{number}"))
            for number in range(len(SHAPES))
        ]

    backends.eventually(lambda: started() == [1] * len(SHAPES))
    assert started() == [1] * len(SHAPES)


def test_the_canaries_are_found_without_the_collector(backends: Backends) -> None:
    """Sent past the collector, straight to Jaeger, the same secrets are there."""
    address = f"http://127.0.0.1:{backends.stack.ports['jaeger_otlp']}"
    send_to(address, "http", traces("straight", secrets(), SHAPES["openai"]))

    assert backends.eventually(lambda: backends.traces("straight"))
    found = json.dumps(backends.traces("straight")).lower()
    assert all(json.dumps(secret)[1:-1].lower() in found for secret in SHAPES.values())
