"""Runs folded from their stored signals, kept so that a page that looks again reads what is new."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from otel_agents.errors import NotFoundError
from otel_agents.state.estimate import History, history
from otel_agents.state.liveness import alive
from otel_agents.state.report import report
from otel_agents.state.run import Runs
from otel_agents.store.projection import read

if TYPE_CHECKING:
    from otel_agents.state.report import RunReport
    from otel_agents.state.run import RunState
    from otel_agents.store.database import Database

_KEPT: Final = 48
_EARLIER: Final = 10  # runs that an estimate looks at, as `state.estimate` does


class Folds:
    """The folds of the runs that were asked for last."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: OrderedDict[str, tuple[int, RunState | None]] = OrderedDict()
        self._histories: OrderedDict[str, History] = OrderedDict()
        self._lock = threading.Lock()

    def run(self, run_id: str) -> RunState:
        """Return a run as far as it is stored; raises NotFoundError where there is none."""
        with self._lock:
            seq, state = self._kept.get(run_id, (0, None))
            seq, state = read(self._database.here, run_id, seq, state)
            if state is None:
                message = f"There is no run {run_id[:200]!r} in the store."
                raise NotFoundError(message)
            self._kept[run_id] = seq, state
            self._kept.move_to_end(run_id)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return state

    def report(self, run_id: str) -> RunReport:
        """Return the reading of a run as it stands now."""
        state = self.run(run_id)
        earlier = self._history(state)
        with self._lock:
            return report(state, now=time.time_ns(), alive=alive, history=earlier)

    def _history(self, state: RunState) -> History:
        """Return what earlier runs of the workflow took; it does not change while a run goes on."""
        with self._lock:
            found = self._histories.get(state.id)
        if found is not None:
            return found
        rows = self._database.here.rows(
            "SELECT run_id FROM runs WHERE workflow = ? AND status = 'succeeded' "
            "AND started_ns < ? ORDER BY started_ns DESC LIMIT ?",
            (state.workflow, state.started, _EARLIER),
        )
        runs = Runs()
        runs.by_id[state.id] = state
        for row in rows:
            runs.by_id[row["run_id"]] = self.run(row["run_id"])
        with self._lock:
            made = history(runs, state)
            self._histories[state.id] = made
            while len(self._histories) > _KEPT:
                self._histories.popitem(last=False)
        return made

    def forget(self, run_id: str) -> None:
        """Let go of a run that was deleted."""
        with self._lock:
            self._kept.pop(run_id, None)
            self._histories.pop(run_id, None)
