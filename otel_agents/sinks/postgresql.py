"""Signals into a PostgreSQL store; see `sinks.sqlite`, which does the same for a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_agents.sinks.sqlite import StoreSink

if TYPE_CHECKING:
    from otel_agents.workspace import Workspace


def make(rest: str, _workspace: Workspace | None) -> StoreSink:
    """Return the sink of `postgresql://USER@HOST/NAME`."""
    return StoreSink(f"postgresql:{rest}")
