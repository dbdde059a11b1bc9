"""The runs that are open in this process, so that something can say that they still live."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_agents.runtime import Runtime

# By the id of their scope; a run is a scope of the kind `run`, or an agent outside any.
open_runs: Final[dict[str, Any]] = {}
# Called with a run when it opens.
run_listeners: Final[list[Callable[[Any], None]]] = []

if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=open_runs.clear)


def note(scope: Any, rt: Runtime) -> None:
    """Remember a scope that has just opened, if it is a run; let the checkpoints know of it."""
    if scope.kind.name == "run" or (scope.id and scope.id == scope.frame.ids.run_id):
        open_runs[scope.scope_id] = scope
        for listener in run_listeners:
            listener(scope)
    if rt.checkpoints is not None:
        rt.checkpoints.opened(scope)


def over(scope: Any, rt: Runtime) -> None:
    """Forget a scope that ends."""
    open_runs.pop(scope.scope_id, None)
    if rt.checkpoints is not None:
        rt.checkpoints.closed(scope)
