"""Agents at a steady rate in one process, which ends as a program does: by running out of work.

A run has a phase, an agent and a tool of ours, and three spans of another library; its model
answers after two waits. Runs are due at fixed moments; a run's time counts from then, or from the
end of the agent's last one where that is later. Takes one argument, an object of JSON: `protocol`,
`seconds`, `agents`, `every` (seconds between two runs of an agent).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Final

from opentelemetry import metrics, trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otel_agents import agent, phase, run, tool

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

WAIT: Final = 0.02  # seconds; twice in each run
_WARM_UP: Final = 1.0


class Created(SpanProcessor):
    """Counts spans as they end."""

    def __init__(self) -> None:
        self.spans = 0

    def on_end(self, span: ReadableSpan) -> None:  # noqa: ARG002 - the interface
        """Count one."""
        self.spans += 1


def set_up(protocol: str) -> Created:
    """Make the SDK's providers as a program does that exports all it has by OTLP."""
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import (
            _log_exporter,
            metric_exporter,
            trace_exporter,
        )
    else:
        from opentelemetry.exporter.otlp.proto.http import (  # type: ignore[no-redef]
            _log_exporter,
            metric_exporter,
            trace_exporter,
        )
    created = Created()
    tracers, loggers = TracerProvider(), LoggerProvider()
    tracers.add_span_processor(created)
    tracers.add_span_processor(BatchSpanProcessor(trace_exporter.OTLPSpanExporter()))
    loggers.add_log_record_processor(BatchLogRecordProcessor(_log_exporter.OTLPLogExporter()))
    reader = PeriodicExportingMetricReader(
        metric_exporter.OTLPMetricExporter(), export_interval_millis=2_000
    )
    trace.set_tracer_provider(tracers)
    set_logger_provider(loggers)
    metrics.set_meter_provider(MeterProvider([reader]))
    return created


async def once(tracer: trace.Tracer) -> None:
    """Run once."""
    with run("bench"), phase("work"), agent("worker"):
        with tracer.start_as_current_span("POST", attributes={"server.address": "model"}):
            await asyncio.sleep(WAIT)
        with tool("look up"), tracer.start_as_current_span("SELECT", attributes={"db": "shop"}):
            pass
        with tracer.start_as_current_span("POST", attributes={"server.address": "model"}):
            await asyncio.sleep(WAIT)


async def work(agents: int, every: float, seconds: float) -> list[float]:
    """Let agents run side by side, spread over the time between two runs; return each run's."""
    tracer = trace.get_tracer("library")
    took: list[float] = []
    begun = time.perf_counter()

    async def one(number: int) -> None:
        due = begun + every * number / agents
        while due < begun + seconds:
            await asyncio.sleep(due - time.perf_counter())
            await once(tracer)
            ended = time.perf_counter()
            took.append(ended - due)
            due = max(due + every, ended)

    await asyncio.gather(*(one(number) for number in range(agents)))
    return took


def main() -> None:
    """Set up, warm up, say so, work, say what it took; what follows is the process's end."""
    given = json.loads(sys.argv[1])
    created = set_up(given["protocol"])
    asyncio.run(work(given["agents"], given["every"], _WARM_UP))
    print("ready", flush=True)
    sys.stdin.readline()
    cpu = time.process_time()
    took = asyncio.run(work(given["agents"], given["every"], given["seconds"]))
    cpu = time.process_time() - cpu
    print(json.dumps({"took": took, "cpu": cpu, "spans": created.spans}), flush=True)


if __name__ == "__main__":
    main()
