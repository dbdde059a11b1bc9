"""Where our added CPU goes, part by part.

    python benchmarks/costs.py [--rounds 600] [--json FILE]

In the agents' thread: runs take turns, one without us, one with everything, and one for each part
that can be left out; a part's cost is the interquartile mean of its neighbours' difference. Parts
overlap there (what is not made is not collected either), so they need not add up to the whole.
In the other threads: the CPU clock of the thread, around what it does, for each item it handles.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import machine
from hot_path import Sink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NOTHING: Final = "without us"
_ALL: Final = "everything"
_FLUSH_EVERY: Final = 10  # rounds; the SDK's queue takes 2,048 spans


@contextmanager
def _replaced(*patches: tuple[Any, str, Any]) -> Iterator[None]:
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
    for owner, name, value in patches:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def _ignore(*_: Any, **__: Any) -> None:
    """Stand in for a part that is left out."""


def _left_out() -> dict[str, list[tuple[Any, str, Any]]]:
    """Return what each kind of run replaces, by its name."""
    from contestants import our_originals
    from opentelemetry import trace

    from otel_agents import runtime, scope, stamping

    rt = runtime.get()
    assert rt.pipeline is not None
    no_span = trace.NonRecordingSpan(trace.INVALID_SPAN_CONTEXT)
    return {
        _NOTHING: our_originals(),
        _ALL: [],
        "nothing (control)": [],
        "spans: made and ended by the SDK": [
            (type(rt.tracer), "start_span", lambda *_, **__: no_span)
        ],
        "spans: watching those of others": [
            (stamping.StampSpans, "on_start", _ignore), (stamping.StampSpans, "on_end", _ignore)
        ],
        "metrics: histograms of the SDK": [(type(rt.metrics), "record", _ignore)],
        "pydantic-graph's seams": [
            found for found in our_originals() if found[0].__module__.startswith("pydantic_graph")
        ],
        "metrics: sums": [(type(rt.metrics), "add", _ignore)],
        "signals: made and queued": [(rt, "_pipeline", None)],
        "signals: queued": [(rt.pipeline, "emit", _ignore)],
        "redaction": [(scope, "redact", lambda _, value: value)],
        "prices": [(rt, "prices", None)],
    }  # fmt: skip


class _Clock:
    """CPU seconds of a thread and items handled, by what it did."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.items: Counter[str] = Counter()

    def around(self, owner: Any, name: str, title: str, count: Callable[..., int]) -> None:
        """Measure a method of an object from now on."""
        original = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            items, begun = count(*args), time.thread_time()
            try:
                return original(*args, **kwargs)
            finally:
                self.seconds[title] += time.thread_time() - begun
                self.items[title] += items

        setattr(owner, name, timed)


def _watch(clock: _Clock) -> None:
    """Put clocks around what other threads do, and a flush, and the garbage collector."""
    from opentelemetry import _logs, metrics, trace

    from otel_agents import runtime

    traces: Any = trace.get_tracer_provider()
    logs: Any = _logs.get_logger_provider()
    meters: Any = metrics.get_meter_provider()
    rt = runtime.get()
    assert rt.pipeline is not None
    for lane in rt.pipeline._lanes:
        clock.around(lane.sink, "write", f"sink {lane.sink.name}:, a signal", len)
    for title, processor in (
        ("SDK: encode and send, a span", traces._active_span_processor),
        ("SDK: encode and send, a log record", logs._multi_log_record_processor),
    ):
        inner = getattr(processor, "_span_processors", None) or processor._log_record_processors
        batch = next(found for found in inner if hasattr(found, "_batch_processor"))
        clock.around(batch._batch_processor._exporter, "export", title, len)
    reader = meters._metric_readers[0]
    clock.around(reader, "collect", "SDK: collect and send, all metrics", lambda *_: 1)


async def _take_turns(rig: Any, rounds: int) -> dict[str, list[float]]:
    """Return µs of CPU of this thread, run by run, by what was left out."""
    left_out = _left_out()
    times: dict[str, list[float]] = {name: [] for name in left_out}
    order = list(left_out)
    shuffle = random.Random(1).shuffle  # noqa: S311 - a run leaves its caches to the next one
    for number in range(rounds):
        shuffle(order)
        for name in order:
            with _replaced(*left_out[name]):
                begun = time.thread_time()
                await rig.run()
                times[name].append((time.thread_time() - begun) * 1e6)
        if number % _FLUSH_EVERY == 0:
            rig.flush()
    return times


def _middle(values: list[float]) -> float:
    """Return the mean of the middle half."""
    values = sorted(values)
    quarter = len(values) // 4
    return statistics.fmean(values[quarter : len(values) - quarter])


def _more(times: dict[str, list[float]], name: str, than: str) -> float:
    return _middle([a - b for a, b in zip(times[name], times[than], strict=True)])


def _measure(rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return µs a run in the agents' thread by part, and µs an item in the others."""
    from contestants import CONTESTANTS

    contestant = CONTESTANTS["ours"]
    contestant.prepare()
    rig = contestant.enter()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_take_turns(rig, 20))
    clock = _Clock()
    _watch(clock)
    gc.collect()
    times = loop.run_until_complete(_take_turns(rig, rounds))
    rig.flush()
    parts = {_NOTHING: _middle(times[_NOTHING]), _ALL: _more(times, _ALL, _NOTHING)}
    for name in times:
        if name not in parts:
            parts[name] = _more(times, _ALL, name)
    items = {title: seconds / clock.items[title] * 1e6 for title, seconds in clock.seconds.items()}
    return parts, items


def main() -> None:
    """Measure, and print the parts, the dearest first."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=600)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    given = parser.parse_args()
    sink = Sink()
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="otel-agents-bench-"))
        workspace = Path(directory) / ".otel-agents"
        workspace.mkdir()
        os.environ |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"{sink.url}/costs",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_AGENTS_HOME": str(workspace),
        }
        about = machine.described()
        parts, items = _measure(given.rounds)
    sink.close()
    for name, value in about.items():
        print(f"{name}: {value}")
    print("\nThe agents' thread, µs a run\n")
    for name in sorted(parts, key=lambda name: -parts[name]):
        print(f"{parts[name]:8.1f}  {name}")
    print("\nOther threads, µs an item\n")
    for name in sorted(items, key=lambda name: -items[name]):
        print(f"{items[name]:8.1f}  {name}")
    if given.json:
        given.json.write_text(
            json.dumps({"machine": about, "run": parts, "items": items}, indent=2)
        )
    sys.stdout.flush()
    os._exit(0)  # not through `atexit`, which would send to a sink that is gone


if __name__ == "__main__":
    main()
