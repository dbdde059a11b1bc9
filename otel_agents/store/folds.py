"""Runs folded from their stored signals, kept so that a page that looks again reads what is new."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_agents.errors import NotFoundError
from otel_agents.state.estimate import History, history
from otel_agents.state.liveness import alive
from otel_agents.state.report import report
from otel_agents.state.run import Runs
from otel_agents.store.projection import first_seq, read
from otel_agents.store.rows import short

if TYPE_CHECKING:
    from collections.abc import Generator

    from otel_agents.state.report import RunReport
    from otel_agents.state.run import RunState
    from otel_agents.store.database import Database

_KEPT: Final = 48
_EARLIER: Final = 10  # runs that an estimate looks at, as `state.estimate` does


class _Kept(NamedTuple):
    """A fold as far as it was read: of which file, from its first signal, up to which."""

    file: tuple[int, int] | None
    first: int
    seq: int
    state: RunState


class Folds:
    """The folds of the runs that were asked for last."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._histories: OrderedDict[str, History] = OrderedDict()
        # A fold changes while it is read further, so it is looked at by one at a time.
        self._lock = threading.RLock()

    @contextmanager
    def run(self, run_id: str) -> Generator[RunState]:
        """Look at a run as far as it is stored; raises NotFoundError where there is none."""
        with self._lock:
            yield self._read(short(run_id))

    @contextmanager
    def report(self, run_id: str) -> Generator[tuple[RunState, RunReport]]:
        """Look at a run, and at its reading as it stands now."""
        with self._lock:
            state = self._read(short(run_id))
            earlier = self._history(state)
            yield state, report(state, now=time.time_ns(), alive=alive, history=earlier)

    def _read(self, run_id: str) -> RunState:
        connection = self._database.here
        kept = self._kept.pop(run_id, None)
        first = first_seq(connection, run_id)
        if kept is None or (kept.file, kept.first) != (connection.file, first):
            # New to us, or deleted since.
            kept = None
            self._histories.pop(run_id, None)
        seq, state = read(connection, run_id, kept.seq if kept else 0, kept.state if kept else None)
        if state is None:
            message = f"There is no run {run_id!r} in the store."
            raise NotFoundError(message)
        self._kept[run_id] = _Kept(connection.file, first, seq, state)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return state

    def _history(self, state: RunState) -> History:
        """Return what earlier runs of the workflow took; it does not change while a run goes on."""
        found = self._histories.get(state.id)
        if found is not None:
            return found
        rows = self._database.here.rows(
            "SELECT run_id FROM runs WHERE workflow = ? AND status = 'succeeded' "
            "AND started_ns < ? ORDER BY started_ns DESC LIMIT ?",
            (short(state.workflow), state.started, _EARLIER),
        )
        runs = Runs()
        runs.by_id[state.id] = state
        for row in rows:
            with suppress(NotFoundError):  # deleted meanwhile
                runs.by_id[row["run_id"]] = self._read(row["run_id"])
        made = history(runs, state)
        self._histories[state.id] = made
        while len(self._histories) > _KEPT:
            self._histories.popitem(last=False)
        return made
