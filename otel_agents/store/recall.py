"""What is known of a run from before, for a process that goes on with it.

The signal files are read first: a process that was killed had written them last. The store is
asked where they do not tell how the run began.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

import msgspec

from otel_agents.boundary import boundary
from otel_agents.signals import decode_line
from otel_agents.state.run import Runs
from otel_agents.store.database import Database
from otel_agents.store.projection import read
from otel_agents.store.rows import short

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from otel_agents.signals import Signal
    from otel_agents.state.run import RunState

SECONDS: Final = 1.0
_LOOK: Final = 1000  # lines between two looks at the clock


def recalled(
    run_id: str, files: Sequence[Path], urls: Sequence[str], *, seconds: float = SECONDS
) -> RunState | None:
    """Return a run as signal files and stores tell of it, or None where none knows it.

    Args:
        run_id: The run.
        files: Files of signals, the oldest first; those that are missing are passed over.
        urls: Stores, `sqlite:///PATH` or `postgresql://…`.
        seconds: How long it may take; what is not found by then is not known.

    """
    deadline = time.monotonic() + seconds
    runs = Runs()
    for path in files:
        for signal in _of_file(path, run_id, deadline):
            runs.apply(signal)
    found = runs.by_id.get(run_id)
    if found is not None and found.main is not None and found.main.start is not None:
        return found
    for url in urls:
        stored = _of_store(url, run_id, deadline)
        if stored is not None:
            return stored
    return found


def _of_file(path: Path, run_id: str, deadline: float) -> list[Signal]:
    wanted = b'"run_id":' + msgspec.json.encode(run_id)
    found = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file):
                if number % _LOOK == 0 and time.monotonic() > deadline:
                    break
                if wanted in line and (signal := decode_line(line)) is not None:
                    found.append(signal)
    except OSError:  # rotated away meanwhile, or not ours to read
        return found
    return found


def _of_store(url: str, run_id: str, deadline: float) -> RunState | None:
    """Read a run from a store, in a thread: a server that is away can take its whole time-out."""
    found: list[RunState] = []

    def ask() -> None:
        try:
            database = Database(url)
            try:
                if database.path is None or database.path.exists():
                    _, state = read(database.here, short(run_id))
                    found.extend([] if state is None else [state])
            finally:
                database.close()
        except Exception as error:  # noqa: BLE001 - then nothing is known
            boundary.warn("otel-agents: what a run spent before is not known: %s", error)

    thread = threading.Thread(target=ask, name="otel-agents-recall", daemon=True)
    thread.start()
    thread.join(max(0.0, deadline - time.monotonic()))
    return found[0] if found else None
