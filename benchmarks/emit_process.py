"""One way to tell of events, in a process of its own: sets it up, and runs blocks as it is told.

Orders come as JSON lines on standard input, answers go as JSON lines to the standard output that
the process began with. What a console prints goes to /dev/null.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    Tell = Callable[[str, dict[str, Any]], object]

_TASKS: Final = 100
_THREADS: Final = 16


def _payloads(first: int, count: int) -> list[tuple[str, dict[str, Any]]]:
    """Return events as a program of agents tells them: of a task, seven events and two more."""
    found: list[tuple[str, dict[str, Any]]] = []
    number = first
    while len(found) < count:
        task = {"task_id": f"task-{number}"}
        coder, critic = {**task, "agent": "coder"}, {**task, "agent": "critic"}
        ended = {"duration_ms": 812.5, "cost_usd": 0.0125}
        found += [
            ("task_queued", {**task, "feature": f"feature-{number % 20}", "est_cost": 0.5}),
            ("agent_started", {**coder, "model": "large", "tools": ["read", "write", "run"]}),
            ("agent_completed", {**coder, "status": "success", **ended, "branch": "main"}),
            ("agent_started", {**critic, "model": "small"}),
            ("agent_completed", {**critic, "status": "approved", **ended}),
            ("validation_complete", {**task, "result": "passed", "cost": 0.001}),
            ("hitl_escalated", {**task, "attempts": 2, "last_error": "timeout", "priority": "p1"}),
            ("budget_warning", {"scope": "day", "limit": 10.0, "spent": 8.1}),
            ("budget_exceeded", {"scope": "day", "limit": 10.0, "spent": 10.2}),
        ]
        number += 1
    return found[:count]


class Ways:
    """How to set up each way to tell; `flush` waits until all that was told is where it goes."""

    def __init__(self, given: dict[str, str]) -> None:
        self._given = given
        self.address: str | None = None
        self.flush: Callable[[], object] = lambda: None

    def logging(self) -> Tell:
        """Make a call of `logging` with a handler that writes to a file."""
        handler = logging.FileHandler("bare.log")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger = logging.getLogger("bare")
        logger.propagate = False
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        return lambda type_, payload: logger.info("%s %s", type_, payload)

    def structlog(self) -> Tell:
        """Make a structlog logger that renders JSON and writes it to a file."""
        import structlog

        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso"),
                structlog.processors.JSONRenderer(),
            ],
            logger_factory=structlog.WriteLoggerFactory(file=Path("structlog.log").open("w")),  # noqa: SIM115 - it is open as long as the process is
            cache_logger_on_first_use=True,
        )
        logger = structlog.get_logger()
        return lambda type_, payload: logger.info(type_, **payload)

    def ours(self, names: list[str]) -> Tell:
        """Return `emit_event`, with these sinks and no others."""
        if "otlp" in names:
            self._otlp()
        from otel_agents import emit_event, get_emitter, runtime

        pipeline = runtime.get().open_events()
        for name in names:
            if name == "server":
                self.address = get_emitter().start_in_thread(port=0)
            else:
                pipeline.add(self._sink(name))

        def flush() -> None:
            if not get_emitter().flush(60):
                message = "what was told was not written within a minute"
                raise RuntimeError(message)

        self.flush = flush
        return emit_event

    def _sink(self, name: str) -> Any:
        if name == "console":
            from otel_agents.sinks.console import ConsoleSink

            return ConsoleSink(events_only=True)
        if name == "file":
            from otel_agents.sinks.events import EventsSink

            return EventsSink(Path("agent-events.jsonl").absolute())
        if name == "store":
            from otel_agents.sinks.sqlite import StoreSink

            return StoreSink(f"sqlite:///{Path('store.db').absolute()}")
        if name == "redis":
            from otel_agents.sinks.redis import RedisSink

            return RedisSink(self._given["redis"])
        from otel_agents.sinks.otlp import OtlpSink

        return OtlpSink()

    def _otlp(self) -> None:
        from opentelemetry import trace
        from opentelemetry._logs import set_logger_provider
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        url = f"{self._given['otlp']}/emit"
        tracers, loggers = TracerProvider(), LoggerProvider()
        tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces")))
        loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(f"{url}/v1/logs")))
        trace.set_tracer_provider(tracers)
        set_logger_provider(loggers)


class Blocks:
    """The ways in which events are told: `ns` takes the type and the time of each call."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._next = 0

    def run(self, do: str, count: int) -> list[tuple[str, int]]:
        """Tell of so many events; return type and nanoseconds of each call."""
        self._next += count
        events = _payloads(self._next, count)
        if do == "threads":
            return self._threads(events)
        if do == "asyncio":
            return asyncio.run(self._tasks(events))
        return self._one_thread(events, 0.001 if do == "paced" else 0.0)

    def _one_thread(
        self, events: list[tuple[str, dict[str, Any]]], pause: float
    ) -> list[tuple[str, int]]:
        tell, clock, took = self._tell, time.perf_counter_ns, []
        for type_, payload in events:
            begun = clock()
            tell(type_, payload)
            took.append((type_, clock() - begun))
            if pause:
                time.sleep(pause)
        return took

    def _threads(self, events: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, int]]:
        took: list[tuple[str, int]] = []
        ready = threading.Barrier(_THREADS)

        def work(mine: list[tuple[str, dict[str, Any]]]) -> None:
            ready.wait()
            took.extend(self._one_thread(mine, 0.0))

        threads = [
            threading.Thread(target=work, args=[events[number::_THREADS]])
            for number in range(_THREADS)
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        return took

    async def _tasks(self, events: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, int]]:
        tell, clock = self._tell, time.perf_counter_ns
        took: list[tuple[str, int]] = []

        async def work(mine: list[tuple[str, dict[str, Any]]]) -> None:
            for type_, payload in mine:
                begun = clock()
                tell(type_, payload)
                took.append((type_, clock() - begun))
                await asyncio.sleep(0)

        await asyncio.gather(*(work(events[number::_TASKS]) for number in range(_TASKS)))
        return took

    def deliver(self, count: int, every: float) -> None:
        """Tell of an event every so many seconds, with the time at which it was told."""
        for type_, payload in _payloads(0, count):
            self._tell(type_, {**payload, "sent": time.time_ns()})
            time.sleep(every)


def main() -> None:
    """Be the way to tell that the first argument names, with what the second one gives as JSON."""
    answers = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    ways = Ways(json.loads(sys.argv[2]))
    made = getattr(ways, sys.argv[1], None)
    tell = made() if made is not None else ways.ours([n for n in sys.argv[1].split("+") if n])
    os.dup2(null, 2)
    blocks = Blocks(tell)
    answer: dict[str, Any] = {"address": ways.address}
    while True:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        order = json.loads(sys.stdin.readline() or '{"do": "stop"}')
        if order["do"] == "stop":
            os._exit(0)  # not through `atexit`: there is nothing left to send
        if order["do"] == "deliver":
            blocks.deliver(order["count"], order["every"])
            answer = {}
            continue
        gc.collect()
        cpu = time.process_time()
        took = blocks.run(order["do"], order["count"])
        ways.flush()
        answer = {"took": took, "cpu": time.process_time() - cpu}


if __name__ == "__main__":
    main()
