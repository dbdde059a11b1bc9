"""Where our added CPU goes: the hot path again and again, each time with one part left out.

    python benchmarks/costs.py [--rounds 30]

A part's cost is the CPU of a run with everything less that of a run without the part, in the same
process, in blocks that take turns; of each kind of block the lower quartile counts. That includes
what no profiler charges to the part: caches gone cold and the garbage collector's walks. Parts
overlap (without spans nothing is encoded), so the costs do not add up.
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
_EVERYTHING: Final = "everything"
_NOTHING: Final = "nothing"


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


def _measure(rounds: int) -> dict[str, float]:
    """Return µs of CPU a run, by what was left out: everything, nothing, or one part."""
    from contestants import CONTESTANTS  # noqa: PLC0415 - after the environment is set

    contestant = CONTESTANTS["ours"]
    contestant.prepare()
    rig = contestant.enter()
    loop = asyncio.new_event_loop()
    rig.on()
    for _ in range(2):
        loop.run_until_complete(_block(rig))
    parts = {_NOTHING: _ignore, **_parts()}
    times: dict[str, list[float]] = {name: [] for name in (_EVERYTHING, *parts)}
    for _ in range(rounds):
        rig.off()
        times[_EVERYTHING].append(loop.run_until_complete(_block(rig)))
        rig.on()
        for name, leave_out in parts.items():
            with ExitStack() as stack:
                leave_out(stack)
                times[name].append(loop.run_until_complete(_block(rig)))
    return {
        name: statistics.quantiles(found, n=4, method="inclusive")[0]
        for name, found in times.items()
    }


def main() -> None:
    """Measure, and print the parts, the dearest first."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
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
        took = _measure(given.rounds)
    sink.close()
    for name, value in about.items():
        print(f"{name}: {value}")
    whole, none = took.pop(_NOTHING), took.pop(_EVERYTHING)
    print(f"\na run without us: {none:.0f} µs; added in all: {whole - none:.0f} µs, of which\n")
    for name in sorted(took, key=lambda name: took[name]):
        print(f"{whole - took[name]:+7.0f}  {name}")
    sys.stdout.flush()
    os._exit(0)  # not through `atexit`, which would send to a sink that is gone


if __name__ == "__main__":
    main()
