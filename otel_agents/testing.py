"""Telemetry for a program's own tests: what it would have sent, in memory.

    with capture() as captured:
        asyncio.run(pipeline.run(order))
    assert captured.metric("otelagents.runs.completed", result="succeeded") == 1

The pytest fixture `otel_agents_capture` gives the same to a test. Nothing leaves the process, and
the program's own providers are left alone.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_agents import runtime
from otel_agents.instrumentor import OtelAgentsInstrumentor
from otel_agents.ledgers import Ledgers
from otel_agents.metrics import Metrics
from otel_agents.pipeline import Pipeline
from otel_agents.profiles import PROFILES
from otel_agents.runtime import Runtime
from otel_agents.stamping import StampSpans
from otel_agents.usage import Prices

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from otel_agents.budget import Budget
    from otel_agents.runtime import Answers
    from otel_agents.settings_guards import CheckpointSettings
    from otel_agents.signals import Signal


_SECONDS: Final = 60.0  # for what a thread of ours has still to do, on a machine that is busy


class _MemorySink:
    name = "memory"

    def __init__(self) -> None:
        self.signals: list[Signal] = []

    def write(self, signals: Sequence[Signal]) -> None:
        self.signals.extend(signals)

    def close(self) -> None:
        """Keep what there is: it is read afterwards."""


class Captured:
    """What was recorded so far; every property reads anew."""

    def __init__(
        self,
        prices: Mapping[str, Mapping[str, float]] | None,
        semconv: str,
        budgets: Sequence[Budget] = (),
        answers: Answers | None = None,
    ) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(StampSpans())
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self._meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self._sink = _MemorySink()
        metrics = Metrics(self._meter_provider)
        self._pipeline = Pipeline([self._sink], metrics.dropped)
        self.runtime = Runtime(
            tracer_provider=self.tracer_provider,
            metrics=metrics,
            pipeline=self._pipeline,
            prices=Prices(prices),
            profile=PROFILES[semconv],
            budgets=Ledgers(budgets),
            answers=answers,
        )

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended, in the order they started."""
        self._pipeline.catch_up(_SECONDS)
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    @property
    def signals(self) -> list[Signal]:
        """The signals, in the order they were emitted."""
        self._pipeline.flush(_SECONDS)
        return list(self._sink.signals)

    def span(self, name: str) -> ReadableSpan:
        """Return the only span of a name; LookupError where there is none or more than one."""
        found = [span for span in self.spans if span.name == name]
        if len(found) != 1:
            message = f"{len(found)} spans are named {name!r}; there are:\n{self.tree()}"
            raise LookupError(message)
        return found[0]

    def metric(self, name: str, /, **labels: Any) -> float:
        """Return the sum of a metric's points that have these labels; 0 where there is none.

        A histogram counts its recordings.
        """
        total: float = 0
        for point_name, attributes, value in self.points():
            if point_name == name and labels.items() <= attributes.items():
                total += value
        return total

    def points(self) -> list[tuple[str, dict[str, Any], float]]:
        """Return every metric point as name, labels and value (of a histogram: the count)."""
        self._pipeline.catch_up(_SECONDS)
        data = self._reader.get_metrics_data()
        found = []
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        value = (
                            point.count
                            if isinstance(point, HistogramDataPoint)
                            else getattr(point, "value", 0)
                        )
                        found.append((metric.name, dict(point.attributes or {}), value))
        return found

    def tree(self) -> str:
        """Return the spans as an indented tree of names, with each outcome that is no success."""
        spans = self.spans
        known = {span.context.span_id for span in spans if span.context is not None}
        lines: list[str] = []

        def draw(parent: int | None, depth: int) -> None:
            for span in spans:
                above = span.parent.span_id if span.parent is not None else None
                if (above if above in known else None) == parent and span.context is not None:
                    result = (span.attributes or {}).get("otelagents.result", "success")
                    suffix = "" if result == "success" else f" ({result})"
                    lines.append("  " * depth + span.name + suffix)
                    draw(span.context.span_id, depth + 1)

        draw(None, 0)
        return "\n".join(lines)

    def clear(self) -> None:
        """Forget the spans and signals so far; metrics go on from where they are."""
        self._pipeline.flush(_SECONDS)
        self._exporter.clear()
        self._sink.signals.clear()


@contextmanager
def capture(
    *,
    prices: Mapping[str, Mapping[str, float]] | None = None,
    semconv: str = "compat",
    content: bool = False,
    budgets: Sequence[Budget] = (),
    answers: Answers | None = None,
    checkpoint: CheckpointSettings | None = None,
    root: Path | None = None,
) -> Generator[Captured]:
    """Instrument the process, record in memory, and undo both at the end of the `with`.

    Args:
        prices: USD per million tokens by model, as in the settings' `[prices."MODEL"]`.
        semconv: The generation of the GenAI conventions: `compat` or `latest`.
        content: Record message content too.
        budgets: Limits of money, tokens or time, as in the settings' `[[budget]]`.
        answers: Where the answers of humans come from; by default nowhere.
        checkpoint: What is saved of a working tree, as in the settings' `[checkpoint]`.
        root: The directory whose repository that is; by default the working directory.

    """
    captured = Captured(prices, semconv, budgets, answers)
    captured.runtime.capture = content
    if checkpoint is not None:
        from otel_agents.checkpoints import AutoCheckpoints  # only where they are asked for

        captured.runtime.checkpoints = AutoCheckpoints(
            checkpoint, root or Path.cwd(), captured.runtime.metrics
        )
    instrumentor = OtelAgentsInstrumentor()
    mine = not instrumentor.is_instrumented_by_opentelemetry
    if mine:
        instrumentor.instrument()
    before = runtime.put(captured.runtime)
    try:
        yield captured
    finally:
        runtime.put(before)
        captured._pipeline.close()  # noqa: SLF001 - one module
        if mine:
            instrumentor.uninstrument()
