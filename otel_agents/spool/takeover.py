"""The OTLP exporters that a program has, found in its SDK providers and replaced in place.

The SDK has no public way to do this. What is not as expected is left as it is, and said: then the
SDK's exporter goes on as without a spool.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

from otel_agents.boundary import boundary
from otel_agents.spool.destination import of_exporter
from otel_agents.spool.processors import SpoolLogs, SpoolMetrics, SpoolSignals, SpoolSpans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_agents.signals import Signal
    from otel_agents.spool.lane import Lane
    from otel_agents.spool.spool import Spool

_SPANS: Final = (BatchSpanProcessor, SimpleSpanProcessor)


class Takeover:
    """Puts a spool in the place of OTLP exporters; done again for providers that come later.

    `open_spool` is called once there is one to replace. `signals`, where it is set, appends our
    signals: it is, once the program's log records go through the spool.
    """

    def __init__(self, open_spool: Callable[[], Spool]) -> None:
        self._open = open_spool
        self.spool: Spool | None = None
        self.signals: Callable[[Signal], None] | None = None

    def of(self, tracer_provider: Any, meter_provider: Any, logger_provider: Any) -> None:
        """Replace what these providers have. Providers of other kinds than the SDK's have none."""
        self._spans(tracer_provider)
        self._metrics(meter_provider)
        self._logs(logger_provider)

    def _lane(self, signal: str, exporter: Any) -> tuple[Spool, Lane] | None:
        """Return the way to where an exporter sends, if it is one that can be replaced."""
        destination = of_exporter(signal, exporter)
        if destination is None:
            return None
        if self.spool is None:
            self.spool = self._open()
        lane = self.spool.lane(signal, destination)
        if lane is None:
            boundary.warn(
                "otel-agents: a second OTLP exporter of %s, to %s, is left as it is: the spool has "
                "one end point for each kind of data", signal, destination.endpoint,
            )  # fmt: skip
            return None
        return self.spool, lane

    def _spans(self, provider: Any) -> None:
        line: Any = getattr(provider, "_active_span_processor", None)
        for processor in getattr(line, "_span_processors", ()):
            if type(processor) not in _SPANS:
                continue
            found = self._lane("traces", processor.span_exporter)
            if found is None:
                continue
            ours = SpoolSpans(*found)
            with line._lock:  # noqa: SLF001 - see above
                others = line._span_processors  # noqa: SLF001
                line._span_processors = tuple(  # noqa: SLF001
                    ours if one is processor else one for one in others
                )
            for span in _queued(processor):
                ours.on_end(span)
            # It waits for the request that is in flight: what is in that one is the SDK's.
            threading.Thread(
                target=processor.shutdown, name="otel-agents-spool-before", daemon=True
            ).start()

    def _metrics(self, provider: Any) -> None:
        config: Any = getattr(provider, "_sdk_config", None)
        readers: Any = getattr(provider, "_metric_readers", None)
        for reader in readers or getattr(config, "metric_readers", ()):
            exporter: Any = getattr(reader, "_exporter", None)
            found = None if exporter is None else self._lane("metrics", exporter)
            if found is not None:
                reader._exporter = SpoolMetrics(*found, exporter)  # noqa: SLF001 - see above
                exporter.shutdown()

    def _logs(self, provider: Any) -> None:
        line = getattr(provider, "_multi_log_record_processor", None)
        processors = getattr(line, "_log_record_processors", ())
        for processor in processors:
            holder = getattr(processor, "_batch_processor", processor)
            exporter: Any = getattr(holder, "_exporter", None)
            found = None if exporter is None else self._lane("logs", exporter)
            if found is None:
                continue
            holder._exporter = SpoolLogs(*found)  # noqa: SLF001 - see above
            exporter.shutdown()
            others = [one for one in processors if one is not processor and not _is_ours(one)]
            if not others:  # one that is there wants to see our signals too
                self.signals = SpoolSignals(found[1], provider)


def _queued(processor: Any) -> Iterator[Any]:
    """Yield the spans that a batch processor has not exported yet, and take them away."""
    queue = getattr(getattr(processor, "_batch_processor", None), "_queue", None)
    with contextlib.suppress(IndexError):  # its worker takes from it too
        while queue:
            yield queue.pop()


def _is_ours(processor: Any) -> bool:
    return type(processor).__module__.startswith("otel_agents.")
