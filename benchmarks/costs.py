"""Where our added CPU goes: the hot path again and again, each time with one part left out.

    python benchmarks/costs.py [--rounds 20]

A part's cost is the CPU of a run with everything less that of a run without the part, in the same
process, in blocks that take turns. Parts overlap (without spans nothing is encoded), so the costs
do not add up. Reads what a profiler cannot: caches gone cold and the collector's walks included.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import machine
from hot_path import Sink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BLOCK: Final = 60


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _ignore(*_: Any, **__: Any) -> None:
    """Stand in for a part that is left out."""


def _parts() -> dict[str, Callable[[ExitStack], None]]:
    """Return what can be left out, by name: each enters its replacements on the stack."""
    from opentelemetry import _logs, trace  # noqa: PLC0415 - after the environment is set
    from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415
    from otel_agents import runtime, scope, stamping  # noqa: PLC0415

    rt = runtime.get()
    assert rt.pipeline is not None
    lanes = {lane.sink.name: lane for lane in rt.pipeline._lanes}
    processors = trace.get_tracer_provider()._active_span_processor._span_processors
    exporter = processors[0]._batch_processor._exporter
    logs = _logs.get_logger_provider()._multi_log_record_processor._log_record_processors
    log_exporter = next(
        found._batch_processor._exporter for found in logs if hasattr(found, "_batch_processor")
    )
    no_span = trace.NonRecordingSpan(trace.INVALID_SPAN_CONTEXT)

    def without(*patches: tuple[Any, str, Any]) -> Callable[[ExitStack], None]:
        def enter(stack: ExitStack) -> None:
            for owner, name, value in patches:
                stack.enter_context(_replaced(owner, name, value))

        return enter

    started = scope.Scope._emit

    def no_progress(self: Any, edge: str, *rest: Any) -> None:
        if edge != "progress":
            started(self, edge, *rest)

    return {
        "signals, all of it": without((rt, "pipeline", None)),
        "signals: progress": without((scope.Scope, "_emit", no_progress)),
        "signals: sink otlp:": without((rt.pipeline, "_lanes", [lanes["jsonl"]])),
        "signals: sink jsonl:": without((rt.pipeline, "_lanes", [lanes["otlp"]])),
        "signals: encoding and sending log records": without(
            (log_exporter, "export", lambda _: SpanExportResult.SUCCESS)
        ),
        "spans, all of the SDK's part": without(
            (type(rt._tracer), "start_span", lambda *_, **__: no_span)
        ),
        "spans: encoding and sending": without(
            (exporter, "export", lambda _: SpanExportResult.SUCCESS)
        ),
        "metrics: histograms": without((type(rt.metrics), "record", _ignore)),
        "metrics: sums": without((type(rt.metrics), "add", _ignore)),
        "redaction": without((scope, "redact", lambda _, value: value)),
        "prices": without((rt, "prices", None)),
        "watching other spans": without(
            (stamping.StampSpans, "on_start", _ignore), (stamping.StampSpans, "on_end", _ignore)
        ),
    }


async def _block(rig: Any) -> float:
    gc.collect()
    cpu = time.process_time()
    for _ in range(_BLOCK):
        await rig.run()
    rig.flush()
    return (time.process_time() - cpu) / _BLOCK * 1e6


def _measure(rounds: int) -> tuple[float, dict[str, list[float]]]:
    from contestants import CONTESTANTS  # noqa: PLC0415 - after the environment is set

    contestant = CONTESTANTS["ours"]
    contestant.prepare()
    rig = contestant.enter()
    loop = asyncio.new_event_loop()
    rig.on()
    for _ in range(2):
        loop.run_until_complete(_block(rig))
    parts = _parts()
    added: list[float] = []
    costs: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        rig.off()
        off = loop.run_until_complete(_block(rig))
        rig.on()
        added.append(loop.run_until_complete(_block(rig)) - off)
        for name, leave_out in parts.items():
            whole = loop.run_until_complete(_block(rig))
            with ExitStack() as stack:
                leave_out(stack)
                costs[name].append(whole - loop.run_until_complete(_block(rig)))
    return statistics.median(added), costs


def main() -> None:
    """Measure, and print the parts, the dearest first."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    sink = Sink()
    with tempfile.TemporaryDirectory(prefix="otel-agents-bench-") as directory:
        workspace = Path(directory) / ".otel-agents"
        workspace.mkdir()
        os.environ |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"{sink.url}/costs",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_AGENTS_HOME": str(workspace),
        }
        about = machine.described()
        added, costs = _measure(given.rounds)
    sink.close()
    for name, value in about.items():
        print(f"{name}: {value}")
    print(f"\nadded in all: {added:.0f} µs a run\n")
    for name in sorted(costs, key=lambda name: -statistics.median(costs[name])):
        first, middle, third = statistics.quantiles(costs[name], n=4)
        print(f"{middle:+7.0f} ± {(third - first) / 2:3.0f}  {name}")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
