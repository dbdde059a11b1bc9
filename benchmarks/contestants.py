"""Who runs against whom: how each contestant is set up, switched on and switched off.

`prepare` is what a program has anyway (the SDK, where the contestant uses the program's own);
`enter` brings the contestant in and is what start-up time counts. Both run in the contestant's
process, once. Every module that only one contestant needs is imported in its `enter`.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import workload
from opentelemetry import _logs, metrics, trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from pydantic_ai import Agent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager


def _nothing() -> None:
    """Do nothing: there is nothing to switch or to flush."""


@dataclass
class Rig:
    """A contestant at work: `run` runs the agent once, `around` encloses a block of runs."""

    run: Callable[[], Awaitable[object]]
    on: Callable[[], None] = _nothing
    off: Callable[[], None] = _nothing
    flush: Callable[[], None] = _nothing
    around: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    run_on: Callable[[], Awaitable[object]] | None = None


@dataclass(frozen=True)
class Contestant:
    """A row of the table; `distribution` is what has to be installed for it."""

    label: str
    enter: Callable[[], Rig]
    prepare: Callable[[], None] = _nothing
    distribution: str = ""
    environment: dict[str, str] = field(default_factory=dict)


# ---------------------------------------------------------------------- what a program has anyway


def _traces() -> None:
    provider = TracerProvider()
    trace.set_tracer_provider(provider)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))


def _all_signals() -> None:
    _traces()
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    metrics.set_meter_provider(MeterProvider([reader]))
    provider = LoggerProvider()
    provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    _logs.set_logger_provider(provider)


def _spans_and_metrics() -> None:
    _traces()
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    metrics.set_meter_provider(MeterProvider([reader]))


def _flush_providers() -> None:
    for provider in (
        trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider(),
    ):  # fmt: skip
        flush = getattr(provider, "force_flush", None)
        if flush is not None:
            flush()


def _plain_run() -> Callable[[], Awaitable[object]]:
    agent = workload.plain_agent()
    return lambda: agent.run(workload.PROMPT)


# ---------------------------------------------------------------------- nothing, and by hand


def _no_one() -> Rig:
    return Rig(_plain_run())


def _by_hand() -> Rig:
    tracer = trace.get_tracer("benchmark")
    return Rig(_plain_run(), run_on=workload.ByHand(tracer).run, flush=_flush_providers)


# ---------------------------------------------------------------------- ours


def our_originals() -> list[tuple[Any, str, Any]]:
    """Return the functions that we replace: owner, name, and what stood there before."""
    from otel_agents.instrumentor import OtelAgentsInstrumentor

    instrumentor = OtelAgentsInstrumentor()  # there is only one
    replaced = [*instrumentor.seams._replaced, *instrumentor.graphs._replaced]
    return [
        (owner, name, original)
        for owner, name, original, _ in replaced
        if name != "__init_subclass__"
    ]


def _ours(around: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext) -> Rig:
    from otel_agents import configure, runtime
    from otel_agents.instrumentor import OtelAgentsInstrumentor

    OtelAgentsInstrumentor().instrument()
    runtime.get()  # otherwise made when the first scope opens
    # Not `uninstrument`: a new runtime for every block would register its metrics again.
    on, off = _switch(our_originals())
    return Rig(_plain_run(), on=on, off=off, flush=configure.flush, around=around)


def _switch(
    originals: list[tuple[Any, str, Any]],
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return two functions: one puts what is there now, one the originals."""
    replacements = [(owner, name, vars(owner)[name]) for owner, name, _ in originals]

    def put(functions: list[tuple[Any, str, Any]]) -> None:
        for owner, name, function in functions:
            setattr(owner, name, function)

    return lambda: put(replacements), lambda: put(originals)


def _ours_in_a_run() -> Rig:
    return _ours(_one_run)


@contextlib.contextmanager
def _one_run() -> Any:
    import otel_agents

    with otel_agents.run("benchmark"), otel_agents.iteration(), otel_agents.phase("work"):
        yield


def _ours_run_each() -> Rig:
    rig = _ours()

    async def run() -> object:
        import otel_agents

        with otel_agents.run("benchmark"), otel_agents.phase("work"):
            return await rig.run()

    rig.run_on = run
    return rig


# ---------------------------------------------------------------------- pydantic-ai's own, peers


def _native(settings: Any = True, flush: Callable[[], None] = _flush_providers) -> Rig:
    return Rig(
        _plain_run(),
        on=lambda: Agent.instrument_all(settings),
        off=lambda: Agent.instrument_all(False),
        flush=flush,
    )


def _native_without_content() -> Rig:
    from pydantic_ai.models.instrumented import InstrumentationSettings

    return _native(InstrumentationSettings(include_content=False))


def _openinference() -> Rig:
    from openinference.instrumentation.pydantic_ai import OpenInferenceSpanProcessor

    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    provider.add_span_processor(OpenInferenceSpanProcessor())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return _native()


def _tracer_provider_only() -> None:
    trace.set_tracer_provider(TracerProvider())


def _logfire() -> Rig:
    import logfire

    # Without a token it exports where the standard variables say: to the sink.
    logfire.configure(send_to_logfire=False, console=False, inspect_arguments=False)
    logfire.instrument_pydantic_ai()
    return _native(Agent._instrument_default, logfire.force_flush)


def _langfuse() -> Rig:
    from langfuse import Langfuse

    client = Langfuse(
        public_key="pk-lf-benchmark",
        secret_key="sk-lf-benchmark",  # noqa: S106 - it opens nothing
        host=os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"],
    )
    return _native(flush=client.flush)


def _traceloop() -> Rig:
    from traceloop.sdk import Traceloop

    Traceloop.init(
        app_name="benchmark",
        api_endpoint=os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"],
        api_key="benchmark",
        telemetry_enabled=False,
    )
    return _native()


def _openlit() -> Rig:
    import openlit
    from pydantic_ai import _agent_graph

    # It cannot be switched off, so what it replaces is put back and forth by hand.
    places = [
        (Agent, ("__init__", "run", "run_sync", "iter")),
        (_agent_graph.UserPromptNode, ("run",)),
        (_agent_graph.ModelRequestNode, ("run",)),
        (_agent_graph.CallToolsNode, ("run",)),
    ]
    originals = [(owner, name, getattr(owner, name)) for owner, names in places for name in names]
    openlit.init(otlp_endpoint=os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"])
    on, off = _switch(originals)
    return Rig(_plain_run(), on=on, off=off, flush=_flush_providers)


_NO_SIGNALS: Final = {"OTEL_AGENTS_SINKS": "none"}
_BY_OTLP: Final = {"OTEL_AGENTS_SINKS": "otlp:"}
_SPOOL: Final = {"OTEL_AGENTS_SPOOL": "1"}

CONTESTANTS: Final = {
    "nothing": Contestant("nothing (A/A control)", _no_one),
    "bare": Contestant("bare SDK by hand, 4 spans x 8 attributes", _by_hand, _all_signals),
    "ours-spans": Contestant("ours, spans only", _ours, _traces, "otel-agents", _NO_SIGNALS),
    "ours-metrics": Contestant(
        "ours, spans and metrics", _ours, _spans_and_metrics, "otel-agents", _NO_SIGNALS
    ),
    "ours": Contestant(
        "ours, spans, metrics and signals (jsonl, sqlite, otlp)", _ours, _all_signals, "otel-agents"
    ),
    "ours-otlp": Contestant(
        "ours, signals to otlp alone", _ours, _all_signals, "otel-agents", _BY_OTLP
    ),
    "ours-spool": Contestant("ours, spool", _ours, _all_signals, "otel-agents", _SPOOL),
    "ours-spool-otlp": Contestant(
        "ours, spool, signals to otlp alone",
        _ours,
        _all_signals,
        "otel-agents",
        _SPOOL | _BY_OTLP,
    ),
    "ours-in-run": Contestant(
        "the same inside a run, iteration and phase", _ours_in_a_run, _all_signals, "otel-agents"
    ),
    "ours-run-each": Contestant(
        "the same, a run and a phase round each agent", _ours_run_each, _all_signals, "otel-agents"
    ),
    "native": Contestant("pydantic-ai's own", _native, _all_signals, "pydantic-ai-slim"),
    "native-no-content": Contestant(
        "pydantic-ai's own, content off", _native_without_content, _all_signals, "pydantic-ai-slim"
    ),
    "openinference": Contestant(
        "openinference",
        _openinference,
        _tracer_provider_only,
        "openinference-instrumentation-pydantic-ai",
    ),
    "logfire": Contestant("logfire", _logfire, distribution="logfire"),
    "openlit": Contestant("openlit", _openlit, distribution="openlit"),
    "traceloop": Contestant("traceloop-sdk", _traceloop, distribution="traceloop-sdk"),
    "langfuse": Contestant("langfuse", _langfuse, distribution="langfuse"),
}
PEERS: Final = ("openinference", "logfire", "openlit", "traceloop", "langfuse")
