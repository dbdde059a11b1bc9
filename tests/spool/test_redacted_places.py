"""Every kind of secret in every place of what others write, all the way to the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Link, SpanContext, StatusCode

from otel_agents.signals import Ids, Signal
from otel_agents.spool.processors import SpoolLogs, SpoolMetrics, SpoolSignals, SpoolSpans
from otel_agents.spool.redacting import metrics_body
from otel_agents.spool.spool import Spool
from otel_agents.values import REDACTED
from tests.attacks.canaries import KINDS, SHAPES, found_in, mark, named, text
from tests.spool.test_redacting import NOTHING_HIDDEN, under

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Backend


def written(folder: Path, backend: Backend) -> tuple[bytes, bytes]:
    """Put every kind of secret in every place; return what was in files and on the wire."""
    backend.answers = [503] * 1000  # until the files have been read
    spool = Spool(folder / "spool", 8 << 20, lambda *_: None)
    traces, logs, metrics = (
        spool.lane(one, backend.destination(one)) for one in ("traces", "logs", "metrics")
    )
    assert traces
    assert logs
    assert metrics
    resource = Resource({**named("their resource"), "process.command_args": [text("their list")]})
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    tracers.add_span_processor(SpoolSpans(spool, traces))
    tracer = tracers.get_tracer("theirs", attributes=named("their scope"))
    link = Link(SpanContext(1, 2, is_remote=False), named("their link"))
    span = tracer.start_span("a", attributes=named("their attribute"), links=[link])
    span.set_attribute("list", [text("their list"), "b"])
    span.set_attribute("nested", {"a": [named("their mapping")]})
    span.add_event("e", named("their event"))
    span.record_exception(ValueError(text("their exception")))
    span.set_status(StatusCode.ERROR, text("their status"))
    span.end()
    loggers = LoggerProvider(resource, shutdown_on_exit=False)
    loggers.add_log_record_processor(SimpleLogRecordProcessor(SpoolLogs(spool, logs)))
    logger = loggers.get_logger("theirs")
    logger.emit(body=text("their log"), attributes=named("log extra"))
    logger.emit(body={"deep": [named("their log body"), {"note": text("their log body")}]})
    logger.emit(body={"odd": object(), "note": text("their log body")})
    SpoolSignals(logs, loggers)(
        Signal(id="s", kind="run", edge="end", time=5, ids=Ids(run_id="r"), name="n")
    )
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], resource, shutdown_on_exit=False)
    meter = meters.get_meter("theirs", attributes=named("their scope"))
    meter.create_counter("c").add(1, named("their metric"))
    meter.create_histogram("h").record(1, named("their metric"))
    meter.create_gauge("g").set(1, named("their metric"))
    collected = reader.get_metrics_data()
    assert collected
    SpoolMetrics(spool, metrics, exporter()).export(collected)
    files = b"".join(one.read_bytes() for one in (folder / "spool").rglob("*") if one.is_file())
    with backend.heard:
        backend.answers.clear()
    backend.wait(
        lambda: (len(backend.spans()), len(backend.records()), len(backend.metrics())) == (1, 4, 3)
    )
    spool.close()
    with backend.heard:
        wire = b"".join(one.SerializeToString() for one in backend.requests)
    assert wire.count(b"otelagents.signal") >= 1
    return files, wire


def exporter() -> Any:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    return OTLPMetricExporter("http://127.0.0.1:9")


def test_metrics_are_searched_down_to_their_exemplars() -> None:
    """What a view leaves out of a series stands in its exemplars; and attributes of their scope."""
    reader = InMemoryMetricReader()
    view = View(instrument_name="*", attribute_keys=set())
    meters = MeterProvider([reader], Resource({}), shutdown_on_exit=False, views=[view])
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("theirs")
    with tracer.start_as_current_span("a"):
        meter = meters.get_meter("theirs", attributes=named("their scope"))
        meter.create_histogram("h").record(1, named("their metric"))
    collected = reader.get_metrics_data()
    assert collected

    assert found_in(metrics_body(collected)) == set()
    with under(NOTHING_HIDDEN):
        found = {place for place, _ in found_in(metrics_body(collected))}
    assert found == {"their scope", "their metric"}


EVERY_PLACE = (
    "their resource", "their list", "their scope", "their link", "their attribute",
    "their mapping", "their event", "their exception", "their status", "their log", "log extra",
    "their log body", "their metric",
)  # fmt: skip


def test_no_secret_of_any_place_is_in_a_file_or_on_the_wire(
    tmp_path: Path, backend: Backend
) -> None:
    """Attributes, lists, mappings, events, exceptions, links, status, logs, metrics, sources."""
    files, wire = written(tmp_path, backend)

    assert found_in(files) == set()
    assert found_in(wire) == set()
    assert wire.count(REDACTED.encode()) > len(EVERY_PLACE) * len(KINDS)
    assert [one for one in EVERY_PLACE if f"words-of-{one.replace(' ', '-')}".encode() not in wire
            ] == []  # fmt: skip


def test_with_hiding_off_each_of_them_is_found(tmp_path: Path, backend: Backend) -> None:
    """The control: all kinds in all places, by their keys too, in files and on the wire."""
    with under(NOTHING_HIDDEN):
        files, wire = written(tmp_path, backend)

    expected = {(place, kind) for place in EVERY_PLACE for kind in SHAPES}
    expected |= {
        (place, "by name") for place in EVERY_PLACE
        if place not in {"their list", "their exception", "their status", "their log"}
    }  # fmt: skip
    assert found_in(files) == expected
    assert found_in(wire) == expected
    assert mark("their list", 0).encode() in wire
