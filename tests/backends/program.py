"""A program with agents: under `opentelemetry-instrument`, or with providers that it makes itself.

It leaves the ids of all that it told in the file that its argument names, says `done` as the last
thing that it does, and exits with 3: no backend may change a word or the code.
"""

# ruff: noqa: T201 - what it prints is what its tests look at

from __future__ import annotations

import asyncio
import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry._logs import LogRecord, get_logger_provider, set_logger_provider
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from otel_agents import agent, phase, run, tool

AGENTS: Final = 4
RUNS: Final = 6


class Told(SpanProcessor):
    """Keeps the ids of spans as they end."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def on_end(self, span: Any) -> None:
        self.ids.append(f"{span.context.trace_id:032x}-{span.context.span_id:016x}")


def set_up() -> None:
    """Make providers as programs do that do so themselves, and export all by OTLP."""
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    protocol = os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"].partition("/")[0]
    package = f"opentelemetry.exporter.otlp.proto.{protocol}"
    spans, points, records = (
        importlib.import_module(f"{package}.{name}")
        for name in ("trace_exporter", "metric_exporter", "_log_exporter")
    )
    tracers, loggers = TracerProvider(), LoggerProvider()
    tracers.add_span_processor(BatchSpanProcessor(spans.OTLPSpanExporter()))
    loggers.add_log_record_processor(BatchLogRecordProcessor(records.OTLPLogExporter()))
    trace.set_tracer_provider(tracers)
    set_logger_provider(loggers)
    reader = PeriodicExportingMetricReader(points.OTLPMetricExporter(), export_interval_millis=700)
    metrics.set_meter_provider(MeterProvider([reader]))


async def work(number: int) -> int:
    """Run one agent's runs; return how many."""
    tracer = trace.get_tracer("library")
    logger = get_logger_provider().get_logger("shop")
    orders = metrics.get_meter("shop").create_counter("shop.orders")
    for turn in range(RUNS):
        with run("shop"), phase("sell"), agent(f"seller-{number}"):
            drug = "poison-pill" if (number, turn) == (0, 2) else "none"
            with tracer.start_as_current_span("POST", attributes={"drug": drug, "turn": turn}):
                await asyncio.sleep(0.1)
            with tool("look up"):
                orders.add(1, {"seller": number})
            attributes = {"test.number": f"{os.getpid()}.{number * RUNS + turn}"}
            now = time.time_ns()
            logger.emit(LogRecord(timestamp=now, body="sold", attributes=attributes))
    return RUNS


async def work_all() -> int:
    """Run the agents side by side; return how often they ran."""
    return sum(await asyncio.gather(*(work(number) for number in range(AGENTS))))


def main() -> None:
    """Work, and say what was made."""
    if limit := int(os.environ.get("TEST_FILE_BYTES", "0")):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # a write says EFBIG
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        set_up()
    told = Told()
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    provider.add_span_processor(told)
    print("ready", flush=True)
    sold = asyncio.run(work_all())
    ids = {"traces": told.ids, "logs": [f"log-{os.getpid()}.{number}" for number in range(sold)]}
    Path(sys.argv[1]).write_text(json.dumps(ids))
    print(f"sold {sold}")
    print("done", flush=True)


if __name__ == "__main__":
    main()
    sys.exit(3)
