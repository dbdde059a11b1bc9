"""What the stack loses when its parts are killed: nothing that was acknowledged."""

from __future__ import annotations

import time
from itertools import chain
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs

from otel_agents.signals import Ids, Signal, encode_line
from otel_agents.vocabulary import SIGNAL
from tests.stack.otlp import SCOPE, attributes, metrics, resource, send, spans

if TYPE_CHECKING:
    from conftest import Backends
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

# Each has a stack of its own, and waits for it: beside the tests that share one.
pytestmark = pytest.mark.xdist_group("outages")

# As an SDK has it: refused, cut off or timed out, a request is sent again.
NOT_ACKNOWLEDGED = (OSError, grpc.RpcError)
PER_REQUEST = 50
REQUESTS_PER_SECOND = 10


def spans_of(backends: Backends, service: str, **tags: str) -> list[dict[str, Any]]:
    """Return the spans of the traces that Jaeger finds."""
    return list(chain.from_iterable(t["spans"] for t in backends.traces(service, **tags)))


class Load(Thread):
    """A program that sends 500 spans a second, each request until it is acknowledged."""

    def __init__(self, backends: Backends, service: str) -> None:
        """Load the collector of these backends with spans of a service."""
        super().__init__(daemon=True)
        self._backends = backends
        self._service = service
        self._over = Event()
        self.acknowledged: list[ExportTraceServiceRequest] = []
        self.failures = 0

    def run(self) -> None:
        while not self._over.wait(1 / REQUESTS_PER_SECOND):
            request = spans(self._service, f"run-{len(self.acknowledged)}", count=PER_REQUEST)
            while not self._acknowledged(request):
                self.failures += 1
                time.sleep(0.1)
            self.acknowledged.append(request)

    def _acknowledged(self, request: ExportTraceServiceRequest) -> bool:
        try:
            send(self._backends.stack, "http", request)
        except NOT_ACKNOWLEDGED:
            return False
        return True

    def reached(self, requests: int) -> None:
        """Wait until so many requests were acknowledged."""
        assert self._backends.eventually(lambda: len(self.acknowledged) >= requests)

    def end(self) -> set[str]:
        """End the load and return the ids of all spans that were acknowledged."""
        self._over.set()
        self.join(timeout=60)
        assert not self.is_alive()
        return {
            span.span_id.hex()
            for request in self.acknowledged
            for span in request.resource_spans[0].scope_spans[0].spans
        }


def test_no_span_is_lost_with_jaeger_away_and_the_collector_killed_twice(fresh: Backends) -> None:
    """Under load Jaeger is away for a minute and the collector killed twice: every span arrives.

    In Jaeger each of them is found, and on the server, which was up, each once.
    """
    load = Load(fresh, "loaded")
    load.start()
    load.reached(20)
    fresh.stack.kill("jaeger")
    for requests in (220, 420):
        load.reached(requests)
        fresh.stack.kill("collector")
        fresh.stack.resume("collector")
    load.reached(620)
    fresh.stack.resume("jaeger")
    load.reached(640)
    sent = load.end()

    def in_jaeger() -> set[str]:
        return {span["spanID"] for span in spans_of(fresh, "loaded")}

    def on_server() -> list[str]:
        # Trace by trace: the list of traces counts what came again in another batch again.
        traces = [each["trace_id"] for each in fresh.served("/api/traces?service=loaded")]
        shown = (fresh.server(f"/api/traces/{trace}")["spans"] for trace in traces)
        return sorted(span["span_id"] for span in chain.from_iterable(shown))

    assert len(sent) >= 640 * PER_REQUEST
    fresh.eventually(lambda: in_jaeger() >= sent)
    assert sent - in_jaeger() == set()
    fresh.eventually(lambda: on_server() == sorted(sent))
    assert on_server() == sorted(sent)


def test_spans_wait_for_a_killed_jaeger(fresh: Backends) -> None:
    """Spans acknowledged while Jaeger is dead are all in Jaeger when it is back."""
    fresh.stack.kill("jaeger")
    for number in range(10):
        send(fresh.stack, "http", spans("waiting", f"run-{number}", count=50))

    fresh.stack.resume("jaeger")

    assert fresh.eventually(lambda: len(spans_of(fresh, "waiting")) == 500)


def test_nothing_acknowledged_is_lost_with_the_collector(fresh: Backends) -> None:
    """Spans and metrics that waited in a killed collector arrive when everything is back."""
    for name in ("jaeger", "prometheus"):
        fresh.stack.kill(name)
    send(fresh.stack, "grpc", spans("crashed", "run-1", count=50))
    send(fresh.stack, "grpc", metrics("crashed"))

    fresh.stack.kill("collector")
    for name in ("jaeger", "prometheus", "collector"):
        fresh.stack.resume(name)

    assert fresh.eventually(lambda: len(spans_of(fresh, "crashed")) == 50)
    tokens = 'otelagents_tokens_total{job="shop/crashed"}'
    assert fresh.eventually(lambda: fresh.query(tokens))[0]["value"][1] == "7"


def test_backends_keep_what_they_have_when_killed(fresh: Backends) -> None:
    """What Jaeger and Prometheus once showed they still show after a crash of their own."""
    tokens = 'otelagents_tokens_total{job="shop/kept"}'
    send(fresh.stack, "http", spans("kept", "run-1"))
    send(fresh.stack, "http", metrics("kept"))
    assert fresh.eventually(lambda: fresh.traces("kept") and fresh.query(tokens))

    for name in ("jaeger", "prometheus"):
        fresh.stack.kill(name)
        fresh.stack.resume(name)

    assert len(spans_of(fresh, "kept", otelagents__run__id="run-1")) == 1
    assert fresh.query(tokens)[0]["value"][1] == "7"


def test_no_counter_goes_wrong_when_prometheus_is_killed(fresh: Backends) -> None:
    """Every sample sent before, during and after a kill of Prometheus is there, once and in order.

    The counter ends at what was sent, was never reset, and has grown by what it grew.
    """
    tokens = 'otelagents_tokens_total{job="shop/counting"}'
    began = time.time_ns()

    def count_to(first: int, last: int) -> None:
        for count in range(first, last + 1):
            # A millisecond holds one sample of a series: one that is of the same is none.
            request = metrics("counting", tokens=count, when=began + count * 10_000_000)
            send(fresh.stack, "http", request)

    count_to(1, 10)
    assert fresh.eventually(lambda: fresh.query(f"{tokens} == 10"))

    fresh.stack.kill("prometheus")
    count_to(11, 30)
    fresh.stack.resume("prometheus")
    count_to(31, 40)

    def asked(function: str) -> float:
        found = fresh.query(f"{function}({tokens}[10m])")
        return float(found[0]["value"][1]) if len(found) == 1 else -1

    fresh.eventually(lambda: asked("last_over_time") == 40 and asked("count_over_time") == 40)
    assert asked("last_over_time") == 40
    assert asked("count_over_time") == 40
    assert asked("resets") == 0
    assert asked("changes") == 39
    assert asked("max_over_time") - asked("min_over_time") == 39


def test_a_collector_that_starts_again_adds_no_series(fresh: Backends) -> None:
    """Span metrics go on in the series that they had, and their counter's restart is a reset."""
    query = 'traces_span_metrics_calls_total{service_name="restarted"}'
    every = 'count({__name__=~"traces_span_metrics_.+",service_name="restarted"})'
    send(fresh.stack, "http", spans("restarted", "run-1", count=5))
    assert fresh.eventually(lambda: fresh.query(f"{query} == 5"))
    before = fresh.query(every)[0]["value"][1]

    fresh.stack.kill("collector")
    fresh.stack.resume("collector")
    send(fresh.stack, "http", spans("restarted", "run-2", count=2, instance="another"))

    assert fresh.eventually(lambda: fresh.query(f"{query} == 2"))
    assert fresh.query(every)[0]["value"][1] == before


def signals(numbers: range) -> ExportLogsServiceRequest:
    """Return a request with signals of a run, as the SDK's log records carry them."""
    now = time.time_ns()
    made = [
        Signal(
            id=f"signal-{number}", kind="gate" if number else "run",
            edge="fact" if number else "start", time=now + number, name=f"gate-{number}",
            ids=Ids(run_id="run-told", workflow="order"),
        )
        for number in numbers
    ]  # fmt: skip
    records = [
        LogRecord(
            time_unix_nano=signal.time,
            event_name="otelagents.gate",
            attributes=attributes(**{SIGNAL.key: encode_line(signal).decode().rstrip()}),
        )
        for signal in made
    ]
    scoped = ScopeLogs(scope=SCOPE, log_records=records)
    return ExportLogsServiceRequest(
        resource_logs=[ResourceLogs(resource=resource("told"), scope_logs=[scoped])]
    )


def test_every_signal_arrives_once_when_the_server_is_killed(fresh: Backends) -> None:
    """Signals and spans sent before, during and after a kill of the server are on it, once each."""
    for number in range(30):
        send(fresh.stack, "http", signals(range(number * 10, number * 10 + 10)))
        send(fresh.stack, "http", spans("told", "run-told", count=10))
        if number == 10:
            fresh.stack.kill("server")
        if number == 20:
            fresh.stack.resume("server")

    def told() -> list[int]:
        events = fresh.served("/api/events?run_id=run-told")
        stored = sum(trace["spans"] for trace in fresh.served("/api/traces?service=told"))
        return [len(events), stored]

    fresh.eventually(lambda: told() == [300, 300])
    assert told() == [300, 300]
