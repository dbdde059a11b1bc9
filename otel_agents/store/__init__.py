"""The store: what is known of runs, agents, workers and tasks, with spans, logs and metrics.

    store = open_store(None, workspace)      # .otel-agents/otel-agents.db
    store = open_store("postgresql://…")
    store.submit(batch, done)                # acknowledged when it is committed
    store.runs(status="failed")

Rows of runs and agents are folds over signals, made after each commit; spans are kept as the
requests that brought them (docs/decisions/0008).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from otel_agents.errors import NotFoundError
from otel_agents.store.batch import Batch, Block, LogRecord, Point, TraceSummary
from otel_agents.store.database import Database
from otel_agents.store.store import Store
from otel_agents.store.writer import Busy

if TYPE_CHECKING:
    from otel_agents.workspace import Workspace

__all__ = [
    "Batch", "Block", "Busy", "LogRecord", "Point", "Store", "TraceSummary", "open_store",
    "store_url",
]  # fmt: skip


def store_url(url: str | None, workspace: Workspace | None) -> str:
    """Return the URL of a store: the one given, or the workspace's database.

    Raises NotFoundError where there is neither.
    """
    if url and url != "sqlite:":
        return url
    if workspace is None:
        message = "There is no store: make a workspace with `otel-agents init`, or name a URL."
        raise NotFoundError(message)
    return f"sqlite:///{quote(str(workspace.database.absolute()))}"


def open_store(
    url: str | None, workspace: Workspace | None = None, *, create: bool = True, **options: Any
) -> Store:
    """Open a store, and bring it to this version's schema.

    Args:
        url: Where it is; None for the workspace's database.
        workspace: The workspace.
        create: Whether to make it where there is none.
        options: Those of `Store`.

    Raises:
        NotFoundError: There is none, and it is not to be made.
        SettingsError: The URL is none that we know.
        UnavailableError: It cannot be opened or brought to this version.

    """
    found = store_url(url, workspace)
    path = Database(found).path
    if not create and path is not None and not path.exists():
        message = f"There is no store at {path}: run `otel-agents init`."
        raise NotFoundError(message)
    return Store(found, **options)
