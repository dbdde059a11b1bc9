"""The instrumentor that `opentelemetry-instrument` loads, and that a program can call by itself."""

from __future__ import annotations

import functools
import logging
import threading
from typing import TYPE_CHECKING, Any, Final

import wrapt
from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]
    BaseInstrumentor,
)

from otel_agents import configure, runtime
from otel_agents.boundary import boundary, caught
from otel_agents.instrument import concurrency
from otel_agents.instrument.pydantic_graph import PydanticGraph
from otel_agents.instrument.seams import Seams
from otel_agents.instrument.targets import Targets
from otel_agents.logs import stamp
from otel_agents.metrics import Metrics
from otel_agents.usage import Prices
from otel_agents.vocabulary import INSTRUMENTATION_MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


class OtelAgentsInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Instruments pydantic-ai, pydantic-graph, `[[wrap]]` targets, log records and concurrency.

    `instrument()` takes no arguments; the providers are the program's own, set before or after.
    `uninstrument()` puts every original back.
    """

    seams: Seams
    targets: Targets
    graphs: PydanticGraph
    failed: dict[str, str]
    # Not the runtime's, which the first scope makes: where nothing is wrapped no scope may open.
    metrics: Metrics | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Need nothing: what is not installed is not instrumented."""
        return ()

    def _instrument(self, **_kwargs: Any) -> None:
        self.seams = Seams()
        self.failed = {}
        self.graphs = PydanticGraph()
        if configure.sdk_disabled():
            self.targets = Targets(())
            return
        settings = configure.settings_now()
        self.targets = Targets(settings.wraps)
        self._part(
            "log records", lambda: self.seams.replace(logging.Logger, "makeRecord", _make_record)
        )
        self._part("threads", lambda: concurrency.install(self.seams))
        for module, act in _WHEN_IMPORTED.items():
            self._part(module, functools.partial(_when_imported, self, module, act))
        self._part("pydantic-graph", self.graphs.install)
        self._part("targets", self.targets.install)
        self._part("metrics", self._watch)
        self._part("spool", lambda: configure.spool_up(settings))

    def _uninstrument(self, **_kwargs: Any) -> None:
        self.targets.uninstall()
        self.graphs.uninstall()
        self.seams.restore()
        self.seams = Seams()
        before = runtime.put(None)
        if before is not None:
            before.close()

    def _watch(self) -> None:
        """Report what should be instrumented and is not, from the start."""
        if self.metrics is None:
            self.metrics = Metrics()
            self.metrics.watch(INSTRUMENTATION_MISSING, self._missing)

    def _missing(self) -> list[tuple[tuple[str], float]]:
        """Return each target and each part that failed: 1 where it is not instrumented, else 0."""
        found: dict[str, float] = {}
        if not self.is_instrumented_by_opentelemetry:
            return []
        for wrap, state, _ in self.targets.report():
            found[wrap.target] = max(found.get(wrap.target, 0), float(state == "failed"))
        for name, state, _ in self.graphs.report():
            found[name] = float(state == "failed")
        found.update(dict.fromkeys(self.failed, 1.0))
        return [((name,), value) for name, value in found.items()]

    def _part(self, name: str, act: Callable[[], None]) -> None:
        """Switch one part on; if it cannot be, say so once and go on with the others."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 - one part must not cost the others
            self.failed[name] = f"{type(error).__name__}: {error}"
            boundary.warn("otel-agents: %s is not instrumented: %s", name, self.failed[name])


def _when_imported(
    instrumentor: OtelAgentsInstrumentor, module: str, act: Callable[[Seams], None]
) -> None:
    """Act once a module is imported; at once if it is."""
    seams = instrumentor.seams

    def imported(_module: Any) -> None:
        # A hook stays registered for good; after `uninstrument` it must do nothing.
        if instrumentor.seams is seams:
            instrumentor._part(module, lambda: act(seams))  # noqa: SLF001 - one module

    wrapt.register_post_import_hook(imported, module)


def _pydantic_ai(seams: Seams) -> None:
    from otel_agents.instrument import pydantic_ai

    pydantic_ai.install(seams)
    # The first price loads the table, which takes some 150 ms; an agent must not wait for it.
    threading.Thread(target=Prices().warm, name="otel-agents-prices", daemon=True).start()


def _http(seams: Seams) -> None:
    from otel_agents.instrument import http

    http.install(seams)


def _processes(seams: Seams) -> None:
    concurrency.install_processes(seams, configure.flush)


# What is replaced in a module when the program imports it, so that nothing is imported for us.
_WHEN_IMPORTED: Final[dict[str, Callable[[Seams], None]]] = {
    "concurrent.futures.process": concurrency.install_process_pools,
    "httpx": _http,
    "httpx2": _http,
    "multiprocessing.util": _processes,
    "pydantic_ai": _pydantic_ai,
}


def _make_record(original: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
    def make_record(self: logging.Logger, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = original(self, *args, **kwargs)
        try:
            return stamp(record)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("log record", error)
            return record

    return make_record
