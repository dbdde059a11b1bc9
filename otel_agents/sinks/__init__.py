"""Destinations of signals: one module each, named by a URL's scheme and imported at first use.

    jsonl:PATH    JSON lines in a file, rotated; without a path the workspace's `signals.jsonl`
    console:      what happens, on standard error; console:events the events only
    events:PATH   the events as JSON lines, rotated; without a path logs/agent-events.jsonl
    otlp:         OTLP log records through the program's logger provider
    sqlite:PATH   a store; without a path the workspace's `otel-agents.db`
    postgresql:…  a store on a PostgreSQL server
    redis://…     the KPIs by hour and day, in Redis; rediss:// and unix:// too
    prometheus:…  /metrics on an address, by default 127.0.0.1:9464

A package can bring its own by an entry point in the group `otel_agents.sinks`, named by the
scheme: a callable that takes the URL and returns a `pipeline.Sink`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from otel_agents.errors import SettingsError

if TYPE_CHECKING:
    from otel_agents.pipeline import Sink
    from otel_agents.workspace import Workspace

# The modules of the built-in sinks, by scheme.
BUILT_IN: Final = {
    **{
        name: name
        for name in (
            "console", "events", "jsonl", "otlp", "postgresql", "prometheus", "redis", "sqlite",
        )
    },
    "rediss": "redis",
    "unix": "redis",
}  # fmt: skip


def make_sink(url: str, workspace: Workspace | None) -> Sink:
    """Return the sink that a URL names.

    Raises SettingsError, in one sentence, where there is none or it cannot be used.
    """
    scheme, _, rest = url.strip().partition(":")
    if scheme in BUILT_IN:
        module = import_module(f"otel_agents.sinks.{BUILT_IN[scheme]}")
        # A module of several schemes wants to know which one it is.
        made: Sink = module.make(url if BUILT_IN[scheme] == "redis" else rest, workspace)
        return made
    from importlib.metadata import entry_points

    for entry_point in entry_points(group="otel_agents.sinks", name=scheme):
        loaded: Sink = entry_point.load()(url)
        return loaded
    known = ", ".join(f"{name}:" for name in BUILT_IN)
    message = f"OTEL_AGENTS_SINKS names {url!r}, which is no sink; the built-in ones are {known}"
    raise SettingsError(message)
