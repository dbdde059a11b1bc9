"""OpenTelemetry instrumentation for multi-agent Python systems.

Zero code: start a program with `opentelemetry-instrument` and describe its orchestrator in
`otel-agents.toml`. By hand: the scopes below, as context managers or decorators. Importing this
package loads the OpenTelemetry API and nothing heavy; what is asked of it is loaded then.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_agents.breakers import Breaker, BreakerOpen
    from otel_agents.budget import Budget
    from otel_agents.context import extract, inject
    from otel_agents.emitter import Emitter, get_emitter
    from otel_agents.errors import BudgetExceeded, EventError
    from otel_agents.events import emit_event, record_critic_decision
    from otel_agents.instrumentor import OtelAgentsInstrumentor
    from otel_agents.logs import log_context
    from otel_agents.model_call import model
    from otel_agents.progress_emitter import ProgressEmitter
    from otel_agents.scopes import (
        agent,
        delivery,
        gate,
        human,
        iteration,
        phase,
        progress,
        run,
        task,
        tool,
        validation,
        waiting_for_human,
        worker,
    )
    from otel_agents.scrape import prometheus_text
    from otel_agents.version import __version__
    from otel_agents.workers import Worker

__all__ = [
    "Breaker",
    "BreakerOpen",
    "Budget",
    "BudgetExceeded",
    "Emitter",
    "EventError",
    "OtelAgentsInstrumentor",
    "ProgressEmitter",
    "Worker",
    "__version__",
    "agent",
    "delivery",
    "emit_event",
    "extract",
    "gate",
    "get_emitter",
    "human",
    "inject",
    "iteration",
    "log_context",
    "model",
    "phase",
    "progress",
    "prometheus_text",
    "record_critic_decision",
    "run",
    "task",
    "tool",
    "validation",
    "waiting_for_human",
    "worker",
]

_HOMES = {
    "Breaker": "breakers",
    "BreakerOpen": "breakers",
    "Budget": "budget",
    "BudgetExceeded": "errors",
    "Emitter": "emitter",
    "EventError": "errors",
    "OtelAgentsInstrumentor": "instrumentor",
    "ProgressEmitter": "progress_emitter",
    "Worker": "workers",
    "__version__": "version",
    "emit_event": "events",
    "extract": "context",
    "get_emitter": "emitter",
    "inject": "context",
    "log_context": "logs",
    "model": "model_call",
    "prometheus_text": "scrape",
    "record_critic_decision": "events",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    # The composition root says how a runtime is made when the first scope opens.
    import_module(f"{__name__}.configure")
    found = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'scopes')}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
