"""What is instrumented and what is not, and why: the checks behind `otel-agents doctor`.

Each check says one thing, in one sentence, with what to do where it fails. A check looks at the
real thing: it imports the targets' modules, applies the wrappers and puts the originals back, and
asks the configured end points.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, entry_points, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_agents.configure import sdk_disabled, settings_now, switched_off
from otel_agents.errors import CheckpointError, SettingsError
from otel_agents.instrument import pydantic_ai
from otel_agents.instrument.pydantic_graph import PydanticGraph
from otel_agents.instrument.seams import Seams
from otel_agents.instrument.targets import Targets
from otel_agents.settings import spool_path, workspace_of
from otel_agents.sinks import make_sink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_agents.settings import Settings

ANSWER_SECONDS: Final = 2.0
_PACKAGES: Final = (
    "opentelemetry-api",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation",
    "opentelemetry-exporter-otlp",
    "wrapt",
)
# Instrumentations that report model calls too. Where one does, our span for the same call leaves
# `gen_ai.usage.*` to it, so that a sum over spans stays the bill.
_OVERLAPS: Final = (
    "openai", "openai-v2", "anthropic", "google_genai", "google-genai", "vertexai", "bedrock",
    "pydantic_ai", "pydantic-ai", "agno", "langchain", "litellm", "mistralai", "groq", "cohere",
)  # fmt: skip
_SIGNALS: Final = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
}


class Check(NamedTuple):
    """One finding. `fix` is what to do where `ok` is false."""

    name: str
    ok: bool
    detail: str
    fix: str | None = None


def examine(directory: Path) -> list[Check]:
    """Run every check, with `directory` on the import path as the program would have it."""
    sys.path.insert(0, str(directory))
    # What the parts would warn of stands among the checks.
    logging.getLogger("otel_agents").setLevel(logging.CRITICAL)
    settings = settings_now()
    found: list[Check] = []
    for part in (
        _versions,
        _settings,
        _instrumentation,
        _targets,
        _sinks,
        _exporters,
        _spool,
        _checkpoints,
        _overlaps,
    ):
        try:
            found += part(settings)
        except Exception as error:  # noqa: BLE001 - one broken check must not hide the others
            name = part.__name__.strip("_")
            found.append(Check(name, ok=False, detail=f"the check itself failed: {error!r}"))
    return found


def _checkpoints(settings: Settings) -> Iterator[Check]:
    if settings.checkpoint is None or not settings.checkpoint.auto:
        return
    from otel_agents.checkpoint.repository import Repository

    try:
        root = Repository.find(Path.cwd()).root
    except CheckpointError as error:
        fix = "start the program in a git repository, or take out [checkpoint] auto"
        yield Check("checkpoints", ok=False, detail=f"none are taken: {error}", fix=fix)
    else:
        yield Check("checkpoints", ok=True, detail=f"they are taken of {root}")


def _spool(settings: Settings) -> Iterator[Check]:
    if settings.spool is None:
        return
    from otel_agents.spool.directory import Directory

    try:
        directory = Directory(spool_path(settings), settings.spool_bytes)
        if directory.path.exists():  # else it is made by the first program
            directory.check()
    except (OSError, SettingsError) as error:
        yield Check("spool", ok=False, detail=str(error), fix="name another directory")
        return
    found = directory.status()
    waiting = sum(found["waiting"].values())
    oldest = found["oldest_seconds"] or 0.0
    age = f", the oldest for {oldest:.0f} s" if waiting else ""
    yield Check("spool", ok=True, detail=f"{directory.path}: {waiting} items wait{age}")
    for one in found["dropped"]:
        detail = f"{one['count']} items of {one['signal']} were dropped: {one['reason']}"
        yield Check("spool", ok=True, detail=detail)


def _versions(_settings: Settings) -> Iterator[Check]:
    yield Check("python", ok=sys.version_info >= (3, 11), detail=platform.python_version())
    found = {name: version(name) for name in _PACKAGES}
    listed = ", ".join(f"{name} {number}" for name, number in found.items())
    same = found["opentelemetry-api"] == found["opentelemetry-sdk"]
    yield Check(
        "packages",
        ok=same,
        detail=listed,
        fix=None if same else "install one version of opentelemetry-api and opentelemetry-sdk",
    )


def _settings(settings: Settings) -> Iterator[Check]:
    if sdk_disabled():
        yield Check(
            "settings",
            ok=False,
            detail="OTEL_SDK_DISABLED=true switches all telemetry off",
            fix="unset it",
        )
    yield Check("settings", ok=True, detail=settings.file or "no settings file: defaults")
    for problem in settings.problems:
        yield Check("settings", ok=False, detail=problem, fix="correct it as the sentence says")
    home = workspace_of(settings)
    yield Check(
        "workspace",
        ok=True,
        detail=str(home.path)
        if home
        else "none: signals are kept nowhere here (`otel-agents init` makes one)",
    )


def _instrumentation(_settings: Settings) -> Iterator[Check]:
    names = {point.name for point in entry_points(group="opentelemetry_instrumentor")}
    yield Check(
        "opentelemetry-instrument",
        ok="otel_agents" in names,
        detail="loads otel_agents" if "otel_agents" in names else "does not know otel_agents",
        fix=None if "otel_agents" in names else "install the otel-agents wheel, not its sources",
    )
    if switched_off() & {"otel_agents", "*"}:
        yield Check(
            "opentelemetry-instrument",
            ok=False,
            detail="OTEL_PYTHON_DISABLED_INSTRUMENTATIONS switches otel_agents off",
            fix="take otel_agents out of it",
        )
    if find_spec("pydantic_ai") is None:
        yield Check("pydantic-ai", ok=True, detail="not installed: nothing to instrument")
        return
    number = _version_of("pydantic-ai-slim") or _version_of("pydantic-ai") or "unknown version"
    seams = Seams()
    try:
        pydantic_ai.install(seams)
    except Exception as error:  # noqa: BLE001 - a version whose seams have moved
        yield Check(
            "pydantic-ai",
            ok=False,
            detail=f"{number} cannot be instrumented: {error}",
            fix=f"use {_declared('pydantic-ai-slim')}",
        )
        return
    finally:
        seams.restore()
    yield Check("pydantic-ai", ok=True, detail=f"{number} is instrumented: agents, models, tools")
    yield from _graphs()


def _graphs() -> Iterator[Check]:
    if find_spec("pydantic_graph") is None:
        return
    import_module("pydantic_graph")
    graphs = PydanticGraph()
    graphs.install()
    try:
        for name, state, sentence in graphs.report():
            yield Check(name, ok=state == "applied", detail=sentence)
    finally:
        graphs.uninstall()


def _version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _declared(name: str) -> str:
    for line in requires("otel-agents") or ():
        if line.startswith(name):
            return line.partition(";")[0].strip()
    return name


def _targets(settings: Settings) -> Iterator[Check]:
    errors = {}
    for module in dict.fromkeys(wrap.target.partition(":")[0] for wrap in settings.wraps):
        if module in {"", "__main__"}:
            continue
        try:
            import_module(module)
        except BaseException as error:  # noqa: BLE001 - a module of the user's can do anything
            errors[module] = f"{type(error).__name__}: {error}"
    targets = Targets(settings.wraps)
    targets.install()
    try:
        for wrap, state, sentence in targets.report():
            module = wrap.target.partition(":")[0]
            detail = (
                f"{module} cannot be imported: {errors[module]}" if module in errors else sentence
            )
            ok = state == "applied"
            yield Check(
                f"target {wrap.target}",
                ok=ok,
                detail=detail,
                fix=None if ok else f"see {wrap.place}",
            )
    finally:
        targets.uninstall()


def _sinks(settings: Settings) -> Iterator[Check]:
    home = workspace_of(settings)
    for url in settings.sinks or ():
        try:
            make_sink(url, home).close()
        except Exception as error:  # noqa: BLE001 - any sink's own failure
            yield Check("sink", ok=False, detail=str(error), fix="correct OTEL_AGENTS_SINKS")
        else:
            yield Check("sink", ok=True, detail=url)


def _exporters(_settings: Settings) -> Iterator[Check]:
    for signal in _SIGNALS:
        names = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp")
        own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"
        endpoint = os.environ.get(own) or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        if "otlp" not in names:
            yield Check(f"{signal} exporter", ok=True, detail=f"{names}: nothing to ask")
        elif endpoint is None:
            yield Check(
                f"{signal} exporter",
                ok=True,
                detail="no end point is set: OTLP goes to localhost, if anything listens there",
            )
        else:
            yield _ask(signal, endpoint)


def _ask(signal: str, endpoint: str) -> Check:
    """Send an empty export, which every OTLP server must accept, as the program would send it."""
    protocol = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL") or os.environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"
    )
    module_name, class_name = _SIGNALS[signal]
    kind = "grpc" if protocol == "grpc" else "http"
    loggers = logging.getLogger("opentelemetry.exporter")
    level, loggers.level = loggers.level, logging.CRITICAL + 1
    reason = ""
    try:
        module = __import__(
            f"opentelemetry.exporter.otlp.proto.{kind}.{module_name}", fromlist=[class_name]
        )
        exporter = getattr(module, class_name)(timeout=ANSWER_SECONDS)
        answered = exporter.export(_nothing(signal)).name == "SUCCESS"
        exporter.shutdown()
    except Exception as error:  # noqa: BLE001 - a bad URL or certificate
        answered, reason = False, f" ({error})"
    finally:
        loggers.level = level
    said = "answers" if answered else "refuses or does not answer"
    return Check(
        f"{signal} exporter",
        ok=answered,
        detail=f"{endpoint} by {protocol} {said}{reason}",
        fix=None
        if answered
        else "start the collector there, or correct OTEL_EXPORTER_OTLP_ENDPOINT and _PROTOCOL",
    )


def _nothing(signal: str) -> Any:
    if signal != "metrics":
        return []
    from opentelemetry.sdk.metrics.export import MetricsData

    return MetricsData(resource_metrics=[])


def _overlaps(_settings: Settings) -> Iterator[Check]:
    off = switched_off()
    others = [
        point
        for point in entry_points(group="opentelemetry_instrumentor")
        if point.name in _OVERLAPS and point.name not in off
    ]
    for point in others:
        package = point.dist.name if point.dist is not None else point.value
        yield Check(
            "overlap",
            ok=True,
            detail=f"{package} reports model calls too: where it does, gen_ai.usage.* stands on "
            "its spans and not on ours, and our metrics and roll-ups count each call once",
        )
    if not others:
        yield Check("overlap", ok=True, detail="no other instrumentation reports model calls")
