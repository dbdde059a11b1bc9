"""Signals into a store, SQLite or PostgreSQL: what `monitor`, `events` and the console read.

The pipeline calls it from a thread of its own with what has gathered, so that a slow or missing
database costs the program nothing; what it cannot write is dropped there and counted.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from otel_agents.errors import SettingsError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_agents.signals import Signal
    from otel_agents.store import Store
    from otel_agents.workspace import Workspace

_TRY_AGAIN_SECONDS: Final = 10.0
_CLOSE_SECONDS: Final = 1.0


class StoreSink:
    """Writes signals to the store of a URL, which is opened when the first ones come.

    A `store` that is open already is written to, and left open.
    """

    name = "store"

    def __init__(self, url: str, store: Store | None = None) -> None:
        self.url = url
        self._store = store
        self._mine = store is None
        # What people look at live is written at once.
        self.linger = 0.1 if store is None else 0.0
        # A new file takes its migrations first: seconds, where the machine is busy.
        self.patience = 10.0 if url.startswith("sqlite") else 0.0
        self._failed = 0.0
        self._pid = os.getpid()

    def write(self, signals: Sequence[Signal]) -> None:
        """Commit signals; raises UnavailableError where the store does not take them."""
        from otel_agents.store import Batch

        self._opened().write(Batch(signals=list(signals)))

    def _opened(self) -> Store:
        if self._pid != os.getpid():
            # A forked child must not touch its parent's connection, not even to close it.
            self._store, self._pid, self._mine = None, os.getpid(), True
        if self._store is None:
            # Opening a server that is away can take its whole time-out.
            if self._failed and time.monotonic() - self._failed < _TRY_AGAIN_SECONDS:
                message = "The store could not be opened a moment ago."
                raise UnavailableError(message)
            from otel_agents.store import open_store

            try:
                # A crash of the program loses nothing; a power failure may lose the last commits.
                self._store = open_store(self.url, durable=False)
            except Exception:
                self._failed = time.monotonic()
                raise
        return self._store

    def close(self) -> None:
        """Make the rows of what was written, and close the store."""
        store, self._store = self._store, None
        if store is not None and self._mine and self._pid == os.getpid():
            store.settle(_CLOSE_SECONDS)
            store.close(_CLOSE_SECONDS)


def make(rest: str, workspace: Workspace | None) -> StoreSink:
    """Return the sink of `sqlite:///PATH`, or of `sqlite:` for the workspace's database."""
    if rest.strip("/"):
        return StoreSink(f"sqlite:{rest}")
    if workspace is None:
        message = "the sink sqlite: needs a path or a workspace: run `otel-agents init` first"
        raise SettingsError(message)
    return StoreSink(f"sqlite:///{workspace.database}")
