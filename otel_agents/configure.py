"""The composition root: the only module that knows every part.

A runtime is made from the settings when the first scope opens, so that a program has set up its
OpenTelemetry providers by then, and switching the instrumentation on costs next to nothing.
"""

from __future__ import annotations

import atexit
import errno
import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from otel_agents import agent_logs, heartbeat, runtime, values
from otel_agents.boundary import boundary, caught
from otel_agents.errors import SettingsError
from otel_agents.kpi_sink import kpis_of
from otel_agents.ledgers import Ledgers
from otel_agents.metrics import Metrics
from otel_agents.pipeline import Pipeline
from otel_agents.profiles import PROFILES
from otel_agents.runtime import Runtime
from otel_agents.settings import spool_path, workspace_of
from otel_agents.settings_guards import CheckpointSettings
from otel_agents.sinks import make_sink
from otel_agents.sinks.otlp import OtlpSink
from otel_agents.vocabulary import LOG_FILE

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_agents.pipeline import Sink
    from otel_agents.runtime import Checkpoints
    from otel_agents.settings import Settings
    from otel_agents.signals import Signal
    from otel_agents.spool.spool import Spool
    from otel_agents.spool.takeover import Takeover
    from otel_agents.state.run import RunState
    from otel_agents.workspace import Workspace

_STORES: Final = frozenset({"sqlite", "postgresql", "postgres"})
_OUT_OF_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE})
_NO_PROVIDER: Final = frozenset({"ProxyLoggerProvider", "NoOpLoggerProvider"})


def settings_now() -> Settings:
    """Return the settings in force here: file and environment."""
    from otel_agents import settings

    return settings.load(os.environ, Path.cwd())


def build(settings: Settings | None = None) -> Runtime:
    """Make a runtime from the settings; what is wrong with them is said once and left out.

    Raises where one cannot be made at all, with nothing left open; `runtime.get` tries again then.
    """
    try:
        settings = settings or settings_now()
    except Exception as error:  # noqa: BLE001 - a vanished working directory, say
        caught("settings", error)
        return Runtime()
    if settings.disabled:
        return Runtime(disabled=True)
    problems: list[object] = list(settings.problems)
    values.hide(settings.redact_names, settings.redact_patterns)
    metrics = Metrics()
    pipeline = Pipeline(_sinks(settings, problems), metrics.dropped)
    try:
        made = _made(settings, metrics, pipeline, problems)
    except BaseException:
        pipeline.close(0)
        raise
    for problem in problems:  # not before: one that is made in vain would say them again and again
        boundary.warn("otel-agents: %s", problem)
    return made


def _made(
    settings: Settings, metrics: Metrics, pipeline: Pipeline, problems: list[object]
) -> Runtime:
    from otel_agents.answers import answers_of
    from otel_agents.usage import Prices

    for problem in problems:
        if isinstance(problem, OSError) and problem.errno in _OUT_OF_FILES:
            raise problem  # it passes, and the sink would be missing for good
    home = workspace_of(settings)
    try:
        prices = Prices(settings.prices)
    except ValueError as error:
        problems.append(error)
        prices = Prices()
    made = Runtime(
        metrics=metrics,
        pipeline=pipeline,
        prices=prices,
        profile=PROFILES[settings.semconv],
        capture=settings.capture in {"span_only", "span_and_event"},
        capture_events=settings.capture in {"event_only", "span_and_event"},
        attach_processor=functools.partial(attach_processors, settings, pipeline),
        log_file=None if home is None else _log_file,
        event_sinks=functools.partial(_event_sinks, settings, home),
        budgets=Ledgers(settings.budgets, functools.partial(_recalled, settings, home)),
        answers=answers_of(settings),
        checkpoints=_checkpoints(settings, metrics),
    )
    if pipeline.sinks:
        heartbeat.begin()
        kpis_of(made)
    if home is not None and home.path.is_dir():
        agent_logs.install(
            home, capture_stdout=settings.capture_stdout, dropped=_count_one(metrics)
        )
    atexit.register(pipeline.close)
    return made


def _recalled(settings: Settings, home: Workspace | None, run_id: str) -> RunState | None:
    """Find what a run of an id that the program gave it spent in an earlier process."""
    from otel_agents.store import store_url
    from otel_agents.store.recall import recalled

    files = [] if home is None else home.signal_files()
    urls = [] if settings.store is None and home is None else [store_url(settings.store, home)]
    for url in settings.sinks or ():
        scheme, _, rest = url.partition(":")
        if scheme == "jsonl" and rest:
            files.append(Path(rest.removeprefix("//")))
        elif scheme in _STORES and rest.strip("/"):
            urls.append(url)
    return recalled(run_id, files, list(dict.fromkeys(urls)))


def _checkpoints(settings: Settings, metrics: Metrics) -> Checkpoints | None:
    table = settings.checkpoint
    if table is None:
        from otel_agents.checkpoint.used import is_used

        # Whoever takes them by hand may restore one, which agents at work have to hold off.
        if not is_used(Path()):
            return None
        table = CheckpointSettings()
    from otel_agents.checkpoints import AutoCheckpoints  # only where there are any

    return AutoCheckpoints(table, Path.cwd(), metrics)


def _log_file(agent_id: str) -> dict[str, str]:
    path = agent_logs.file_of(agent_id)
    return {LOG_FILE.key: path} if path else {}


def _count_one(metrics: Metrics) -> Callable[[str, str], None]:
    def dropped(sink: str, reason: str) -> None:
        metrics.dropped(sink, reason, 1)

    return dropped


def _sinks(settings: Settings, problems: list[object]) -> list[Sink]:
    home = workspace_of(settings)
    urls: list[str] = []
    if settings.sinks is not None:
        urls = list(settings.sinks)
    else:
        if home is not None:
            urls += ["jsonl:", settings.store or "sqlite:"]
        elif settings.store is not None:
            urls.append(settings.store)
        if _logs_are_exported():
            urls.append("otlp:")
    redis_url = settings.redis_url
    if redis_url is not None and settings.sinks != () and redis_url not in urls:
        urls.append(redis_url)
    return _usable(urls, home, problems)


def _event_sinks(settings: Settings, home: Workspace | None) -> list[Sink]:
    """Return the sinks that the first event of a program opens (row D2).

    The event file is always written, unless the settings name another place for it or no sink at
    all; the console where they name none.
    """
    heartbeat.begin()
    named = settings.sinks
    urls = []
    if named is None:
        urls.append("console:events")
    if named is None or (named and not any(url.startswith("events:") for url in named)):
        urls.append("events:")
    problems: list[object] = []
    found = _usable(urls, home, problems)
    for problem in problems:
        boundary.warn("otel-agents: %s", problem)
    return found


def _usable(urls: list[str], home: Workspace | None, problems: list[object]) -> list[Sink]:
    found = []
    for url in urls:
        try:
            found.append(make_sink(url, home))
        except Exception as error:  # noqa: BLE001 - one bad sink must not cost the others
            problems.append(error)
    return found


def _logs_are_exported() -> bool:
    from opentelemetry._logs import get_logger_provider

    return type(get_logger_provider()).__name__ not in _NO_PROVIDER


def attach_processors(settings: Settings, pipeline: Pipeline, tracer_provider: Any) -> None:
    """Add the processors that stamp ids to the program's own providers, where they are SDK ones.

    With the spool on, it takes the place of the OTLP exporters they have.
    """
    add = getattr(tracer_provider, "add_span_processor", None)
    if add is not None:
        from opentelemetry._logs import get_logger_provider

        from otel_agents.stamping import StampSpans, stamp_logs

        add(StampSpans())
        stamp_logs(get_logger_provider())
    spool_up(settings, tracer_provider)
    signals = _spooling.signals
    for sink in pipeline.sinks:
        if isinstance(sink, OtlpSink):
            sink.spooled = signals


class _Spooling:
    """The spool of the process, once an OTLP exporter was found that it can replace."""

    def __init__(self) -> None:
        self.takeover: Takeover | None = None
        self.off = False
        self._metrics: Metrics | None = None

    @property
    def signals(self) -> Callable[[Signal], None] | None:
        """What appends signals of ours, where log records go through the spool."""
        return None if self.takeover is None else self.takeover.signals

    def dropped(self, reason: str, count: int) -> None:
        """Count what the spool lost, where the program has no scope of ours too."""
        current = runtime.peek()
        if current is None:
            self._metrics = self._metrics or Metrics()
        (self._metrics or runtime.get().metrics).dropped("spool", reason, count)


_spooling: Final = _Spooling()


def spool_up(settings: Settings, tracer_provider: Any = None) -> None:
    """Put the spool, where it is switched on, in the place of the OTLP exporters there are now."""
    if settings.spool is None or settings.disabled or _spooling.off:
        return
    from opentelemetry import _logs, metrics, trace

    providers = (
        tracer_provider or trace.get_tracer_provider(),
        metrics.get_meter_provider(),
        _logs.get_logger_provider(),
    )
    if not any(type(one).__module__.startswith("opentelemetry.sdk.") for one in providers):
        return  # so that a program without an SDK does not get one
    from otel_agents.spool.takeover import Takeover

    try:
        if _spooling.takeover is None:
            _spooling.takeover = Takeover(functools.partial(_opened_spool, settings))
        _spooling.takeover.of(*providers)
    except (OSError, SettingsError) as error:
        _spooling.off = True
        boundary.warn("otel-agents: the spool cannot be used: %s", error)
    except Exception as error:  # noqa: BLE001 - the exporters there are go on
        caught("spool", error)


def _opened_spool(settings: Settings) -> Spool:
    from otel_agents.spool.spool import Spool

    spool = Spool(spool_path(settings), settings.spool_bytes, _spooling.dropped)
    atexit.register(spool.finish)
    return spool


def prepare() -> None:
    """Set up the SDK before instrumentors load, unless something else has done it.

    `opentelemetry-instrument` needs a configurator to export anything; the one that
    `opentelemetry-distro` brings pins one SDK version. Without it this runs the SDK's own
    configurator with distro's defaults: OTLP over gRPC, each changed by its `OTEL_*` variable.
    """
    try:
        from opentelemetry import trace

        provider = type(trace.get_tracer_provider()).__name__
        off = switched_off() & {"otel_agents", "*"}
        if sdk_disabled() or off or provider != "ProxyTracerProvider":
            return
        from opentelemetry.sdk._configuration import (
            _OTelSDKConfigurator,
        )

        for signal in ("TRACES", "METRICS", "LOGS"):
            os.environ.setdefault(f"OTEL_{signal}_EXPORTER", "otlp")
        os.environ.setdefault("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        configurator: Any = _OTelSDKConfigurator
        configurator().configure()
    except Exception as error:  # noqa: BLE001 - an error here would stop every instrumentor
        caught("SDK set-up", error)


def switched_off() -> set[str]:
    """Return the instrumentors that `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS` names; `*` is all."""
    names = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")
    return {name.strip() for name in names}


def sdk_disabled() -> bool:
    """Return whether `OTEL_SDK_DISABLED` switches all telemetry off."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def flush(seconds: float = 5.0) -> None:
    """Bring what is waiting on its way: signals, spans, metrics and logs, in this order."""
    from opentelemetry import _logs, metrics, trace

    current = runtime.peek()
    if current is not None:
        current.require_pipeline().flush(seconds)
    for provider in (
        trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider(),
    ):  # fmt: skip
        force = getattr(provider, "force_flush", None)
        if force is not None:
            try:
                force(int(seconds * 1000))
            except Exception as error:  # noqa: BLE001 - an exporter may be half shut down
                caught("flush", error)


runtime.made_by(build)
