"""pydantic-ai, instrumented at seams that all supported versions share.

- `Agent.iter`, which every way to run an agent goes through,
- `AbstractAgent.run`, which runs an agent again that has asked for a restore,
- what each model class defines of its public interface: `request`, `request_stream`, and where
  there is more that is billed, `batch_decode` and `compact_messages`,
- `ToolManager.execute_tool_call` and, where handlers can answer deferred calls within the run,
  `resolve_deferred_tool_calls`,
- `AgentRealtime.session`.

They are replaced by plain functions: no capability is injected, which would cost about 450 µs a
run (docs/decisions/0003). The versions that are tested stand in `tests/versions`.

This is the only module that imports pydantic-ai; those beside it read its objects by their fields.
"""

from __future__ import annotations

import contextlib
import functools
from importlib import import_module
from typing import TYPE_CHECKING

from otel_agents.instrument import pydantic_ai_agents as agents
from otel_agents.instrument import pydantic_ai_deferred as deferred
from otel_agents.instrument import pydantic_ai_fallback as fallback
from otel_agents.instrument import pydantic_ai_models as models
from otel_agents.instrument import pydantic_ai_realtime as realtime
from otel_agents.instrument import pydantic_ai_restore as restores
from otel_agents.instrument import pydantic_ai_tools as tools

if TYPE_CHECKING:
    from types import ModuleType

    from otel_agents.instrument.seams import Seams


def install(seams: Seams) -> None:
    """Replace the seams of the pydantic-ai that is imported.

    Raises ImportError or AttributeError where that version has no such seam.
    """
    from pydantic_ai import Agent  # only where it is imported
    from pydantic_ai._run_context import get_current_run_context
    from pydantic_ai.agent import AbstractAgent
    from pydantic_ai.models import Model
    from pydantic_ai.result import StreamedRunResultSync

    agents.current_run = get_current_run_context
    seams.replace(Agent, "iter", agents.iter_)
    seams.replace(AbstractAgent, "run", restores.run)
    seams.replace(_tool_manager().ToolManager, "execute_tool_call", tools.execute_tool_call)
    with contextlib.suppress(AttributeError):  # not in 1.75, which has no handlers
        seams.replace(
            _tool_manager().ToolManager,
            "resolve_deferred_tool_calls",
            functools.partial(deferred.resolve_deferred_tool_calls, watch=agents.watch_deferred),
        )
    for cls in _subclasses(Model):
        _install_model(seams, cls)
    seams.each_new_subclass(Model, functools.partial(_install_model, seams))
    if not hasattr(StreamedRunResultSync, "__enter__"):
        seams.replace(AbstractAgent, "run_stream_sync", agents.run_stream_sync)
    with contextlib.suppress(ImportError, AttributeError):
        from pydantic_ai.agent import AgentRealtime  # since 2.30

        seams.replace(AgentRealtime, "session", realtime.session)


def _tool_manager() -> ModuleType:
    try:
        return import_module("pydantic_ai.tool_manager")  # since 1.107
    except ImportError:
        return import_module("pydantic_ai._tool_manager")


def _subclasses(cls: type) -> list[type]:
    found: list[type] = []
    children: list[type] = cls.__subclasses__()
    for child in children:
        found += [child, *_subclasses(child)]
    return found


def _install_model(seams: Seams, cls: type) -> None:
    """Wrap what a model class defines itself. Those that only pass a call on are left alone."""
    from pydantic_ai.models.fallback import FallbackModel
    from pydantic_ai.models.wrapper import WrapperModel

    if issubclass(cls, FallbackModel):
        for name, make in fallback.SEAMS.items():
            if name in vars(cls):
                seams.replace(cls, name, make)
    if issubclass(cls, (FallbackModel, WrapperModel)):
        return
    for name, make in models.SEAMS.items():
        # A batch that is run in memory asks by `request`, which sees it already.
        if name in vars(cls) and not (name == "batch_decode" and _batches_in_memory(cls)):
            seams.replace(cls, name, make)


def _batches_in_memory(cls: type) -> bool:
    return any(base.__name__ == "InMemoryBatchModel" for base in cls.__mro__)
