"""What it costs to make OTLP bytes of a finished span or a signal: ours beside the SDK's encoder.

    python benchmarks/encode.py [--rounds 200] [--json FILE]

Both take turns, block by block, each on spans that were made for it just before, with the garbage
collector on; a figure is µs of CPU, the lower quartile of its blocks, and the ratio the median of
neighbours. Of a signal, both begin with the signal: the SDK makes a log record of it first.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import machine
import report
from opentelemetry.exporter.otlp.proto.common._internal._log_encoder import _encode_log
from opentelemetry.exporter.otlp.proto.common._internal.trace_encoder import _encode_span
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    LogRecordExporter,
    LogRecordExportResult,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from otel_agents.signals import Ids, Signal, new_id, signal_id
from otel_agents.sinks.otlp import OtlpSink
from otel_agents.spool.encode import encode_signal, encode_span
from otel_agents.spool.encode_careful import careful_span
from otel_agents.spool.redacting import span_body
from otel_agents.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_BLOCK: Final = 200  # spans
_COLUMNS: Final = (
    ("ours µs", "ours", ".1f"), ("SDK µs", "sdk", ".1f"), ("SDK x ours", "ratio", ".1f"),
    ("bytes", "bytes", ".0f"),
)  # fmt: skip
_SEARCHED: Final = (
    ("encoded µs", "encoded", ".1f"), ("searched too µs", "searched", ".1f"),
    ("more µs", "more", ".1f"),
)  # fmt: skip
_READING: Final = (("µs", "ours", ".2f"), ("x cheapest", "ratio", ".1f"))


class Kept(SpanProcessor):
    """Keeps what it is handed."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span."""
        self.spans.append(span)


class Encoding(LogRecordExporter):
    """Makes bytes of log records as the OTLP exporter does, and sends them nowhere."""

    def __init__(self) -> None:
        self.last = b""

    def export(self, batch: Sequence[Any]) -> LogRecordExportResult:
        """Encode records."""
        for record in batch:
            self.last = _encode_log(record).SerializeToString()
        return LogRecordExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 0) -> bool:  # noqa: ARG002 - the interface
        """Keep nothing back."""
        return True

    def shutdown(self) -> None:
        """Close nothing."""


class Spans:
    """Makes finished spans of the SDK, as a processor is handed them."""

    def __init__(self, attributes: Callable[[int], dict[str, Any]], events: int = 0) -> None:
        self._attributes = attributes
        self._events = events
        self._kept = Kept()
        provider = TracerProvider(resource=Resource({}), shutdown_on_exit=False)
        provider.add_span_processor(self._kept)
        self._tracer = provider.get_tracer("benchmark")

    def __call__(self, count: int) -> list[Any]:
        """Return new spans, each of them a child."""
        with self._tracer.start_as_current_span("outer"):
            self._kept.spans = []
            for number in range(count):
                with self._tracer.start_as_current_span(
                    "chat gpt-5-mini", attributes=self._attributes(number)
                ) as span:
                    for index in range(self._events):
                        span.add_event("chunk", {"index": index, "size": number, "kind": "text"})
            return list(self._kept.spans)


def _eight(number: int) -> dict[str, Any]:
    """Return what a model call's span has at the least; an id and two counts are its own."""
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5-mini",
        "gen_ai.response.id": f"resp_{uuid4().hex}",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 1000 + number,
        "gen_ai.usage.output_tokens": 200 + number % 50,
        "otelagents.run.id": "01997d6e-7b3c-7c11-9d65-0d1f4a5b6c7d",
    }


def _twenty(number: int) -> dict[str, Any]:
    """Return what one of ours has: also ids of where it stands, limits, sums, a flag."""
    return _eight(number) | {
        "gen_ai.agent.name": "researcher",
        "gen_ai.response.model": "gpt-5-mini-2026-01-15",
        "gen_ai.request.temperature": 0.2,
        "gen_ai.request.max_tokens": 4096,
        "gen_ai.usage.cache_read.input_tokens": 512,
        "otelagents.workflow.name": "shop",
        "otelagents.iteration.number": 3,
        "otelagents.phase.name": "draft",
        "otelagents.agent.run.id": "01997d6e-7b3c-7c11-9d65-0d1f4a5b6c7e",
        "otelagents.task.id": f"task-{number % 20}",
        "otelagents.cost": 0.00125 * number,
        "otelagents.stream": True,
    }


def _new_texts(number: int) -> dict[str, Any]:
    return {f"a.key.number.{index}": f"{number} {uuid4()}" for index in range(8)}


def _signals(count: int) -> list[Any]:
    ids = Ids(
        run_id=new_id(), workflow="shop", correlation_id=new_id(), iteration=3, phase="draft",
        agent_id=new_id(), agent="researcher", task_id="task-7",
    )  # fmt: skip
    return [
        Signal(
            id=signal_id(), kind="agent", edge="end", time=time.time_ns(), scope_id=new_id(),
            name="researcher", ids=ids, trace_id=uuid4().hex, span_id=uuid4().hex[:16],
            result="success", duration=1.5, usage=Usage(input_tokens=1000, output_tokens=200),
            cost=0.0125, pid=4711, host="worker-1",
        )
        for _ in range(count)
    ]  # fmt: skip


def _text(number: int) -> str:
    return f"{number} " + "The keeper wound the clockwork at dusk. " * 37


def _sdk_span(span: Any) -> bytes:
    found: bytes = _encode_span(span).SerializeToString()
    return found


class SdkSignal:
    """Makes bytes of a signal by the sink `otlp:` and the SDK."""

    def __init__(self) -> None:
        self._exporter = Encoding()
        provider = LoggerProvider(Resource({}), shutdown_on_exit=False)
        provider.add_log_record_processor(SimpleLogRecordProcessor(self._exporter))
        self._sink = OtlpSink(provider)

    def __call__(self, signal: Signal) -> bytes:
        """Return a log record's bytes."""
        self._sink.write([signal])
        return self._exporter.last


@dataclass
class Case:
    """Something to encode, and both ways to do it."""

    label: str
    make: Callable[[int], list[Any]]
    ours: Callable[[Any], bytes] = encode_span
    sdk: Callable[[Any], bytes] = _sdk_span
    message: Any = Span
    ours_us: list[float] = field(default_factory=list)
    sdk_us: list[float] = field(default_factory=list)
    size: float = 0.0

    def check(self) -> None:
        """Make sure that both say the same."""
        for made in self.make(20):
            body, expected = self.ours(made), self.message.FromString(self.sdk(made))
            assert self.message.FromString(body) == expected
            self.size = len(body)

    def block(self, *, ours: bool) -> None:
        """Time one of the two on things made for it."""
        things = self.make(_BLOCK)
        encode = self.ours if ours else self.sdk
        begun = time.thread_time()
        for thing in things:
            encode(thing)
        spent = (time.thread_time() - begun) / _BLOCK * 1e6
        (self.ours_us if ours else self.sdk_us).append(spent)

    def row(self) -> dict[str, Any]:
        """Return the figures."""
        pairs = zip(self.sdk_us, self.ours_us, strict=True)
        return {
            "label": self.label,
            "ours": _quiet(self.ours_us),
            "sdk": _quiet(self.sdk_us),
            "ratio": statistics.median(sdk / ours for sdk, ours in pairs),
            "bytes": self.size,
        }


def _quiet(values: list[float]) -> float:
    """Return the lower quartile."""
    return statistics.quantiles(values, n=4, method="inclusive")[0]


def _cases() -> list[Case]:
    return [
        Case("a span of 8 attributes", Spans(_eight)),
        Case("8 attributes, each text a new one", Spans(_new_texts)),
        Case("20 attributes", Spans(_twenty)),
        Case(
            "8 attributes and 1.5 kB of content",
            Spans(lambda number: _eight(number) | {"gen_ai.output.messages": _text(number)}),
        ),
        Case("8 attributes and 3 events", Spans(_eight, events=3)),
        Case("8 attributes, by public properties", Spans(_eight), ours=careful_span),
        Case("a signal", _signals, encode_signal, SdkSignal(), LogRecord),
    ]


# Ways to read the attributes of what `on_end` is handed, from the outside to the inside.
_WAYS: Final[dict[str, Callable[[Any], Any]]] = {
    "span.attributes.items()": lambda span: list(span.attributes.items()),
    "span._attributes.items()": lambda span: list(span._attributes.items()),
    "span._attributes.copy().items()": lambda span: list(span._attributes.copy().items()),
    "span._attributes._dict.items()": lambda span: list(span._attributes._dict.items()),
}


def _reading(rounds: int) -> list[dict[str, Any]]:
    make = Spans(_eight)
    times: dict[str, list[float]] = {name: [] for name in _WAYS}
    for _ in range(rounds):
        spans = make(_BLOCK)
        for name, read in _WAYS.items():
            begun = time.thread_time()
            for span in spans:
                read(span)
            times[name].append((time.thread_time() - begun) / _BLOCK * 1e6)
    quiet = {name: _quiet(found) for name, found in times.items()}
    least = min(quiet.values())
    return [{"label": n, "ours": value, "ratio": value / least} for n, value in quiet.items()]


def _searching(rounds: int) -> list[dict[str, Any]]:
    """Measure what it costs besides to search spans for secrets, and to hide one."""
    cases = {
        "a clean span of 8 attributes": Spans(_eight),
        "8 attributes, each text a new one": Spans(_new_texts),
        "20 attributes": Spans(_twenty),
        "8 attributes and an address": Spans(
            lambda number: _eight(number) | {"url.full": f"https://example.com/orders/{number}"}
        ),
        "8 attributes and 1.5 kB of content": Spans(
            lambda number: _eight(number) | {"gen_ai.output.messages": _text(number)}
        ),
        "8 attributes and 3 events": Spans(_eight, events=3),
        "8 attributes, one with a secret in it": Spans(
            lambda number: _eight(number) | {"note": f"Authorization: Bearer {uuid4().hex}"}
        ),
    }
    rows = []
    for label, make in cases.items():
        times: dict[Callable[[Any], bytes], list[float]] = {encode_span: [], span_body: []}
        for number in range(rounds):
            for encode in list(times)[:: 1 if number % 2 else -1]:
                things = make(_BLOCK)
                begun = time.thread_time()
                for thing in things:
                    encode(thing)
                times[encode].append((time.thread_time() - begun) / _BLOCK * 1e6)
        encoded, searched = _quiet(times[encode_span]), _quiet(times[span_body])
        rows.append(
            {
                "label": label, "encoded": encoded, "searched": searched,
                "more": searched - encoded,
            }
        )  # fmt: skip
    return rows


def main() -> None:
    """Measure and print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=200, help="blocks of each way")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    given = parser.parse_args()
    about = machine.described()
    cases = _cases()
    for case in cases:
        case.check()
    gc.collect()
    for number in range(given.rounds):
        report.progress(f"round {number + 1} of {given.rounds}")
        for case in cases:
            for ours in (number % 2 == 0, number % 2 == 1):
                case.block(ours=ours)
    report.progress("")
    rows = [case.row() for case in cases]
    searching = _searching(given.rounds)
    reading = _reading(given.rounds)
    for name, value in about.items():
        print(f"{name}: {value}")
    print()
    report.table("made into bytes", _COLUMNS, rows)
    print()
    report.table("searched for secrets", _SEARCHED, searching)
    print()
    report.table("8 attributes read", _READING, reading)
    if given.json:
        given.json.write_text(
            json.dumps(
                {"machine": about, "rows": rows, "searching": searching, "reading": reading},
                indent=2,
            )
        )


if __name__ == "__main__":
    main()
