"""Rows of runs, iterations, phases, agents and their telemetry, made from the runs' signals.

A run's signals are folded as `status` folds them, and its rows say what the fold says. Signals
that were stored mark their run as dirty in the same commit, so that nothing is forgotten when a
process dies in between, and whoever comes next makes the rows.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any, Final

from otel_agents.signals import ModelUse, decode_line
from otel_agents.state.bill import Bill
from otel_agents.state.report import report
from otel_agents.state.run import RunState, Spent
from otel_agents.state.waiting import held
from otel_agents.store import sums
from otel_agents.store.rows import (
    SPENT_COLUMNS,
    SPENT_PLACES,
    SPENT_SET,
    bounded,
    clean,
    maybe,
    short,
    spent,
    to_json,
    whole,
)
from otel_agents.usage import Usage
from otel_agents.vocabulary import (
    AGENT_EXIT_CODE,
    CHECKPOINT_ID,
    LOG_FILE,
    PROVIDER,
    REQUEST_MODEL,
    SAYS,
)

if TYPE_CHECKING:
    from otel_agents.state.report import AgentReport, RunReport
    from otel_agents.state.run import Scope
    from otel_agents.store.database import Connection

# Folds kept for the runs that were heard of last; one of 10,000 signals weighs some 20 MB.
_KEPT: Final = 64
_AT_ONCE: Final = 5000  # signals read in one go

_RUN: Final = f"""
    UPDATE runs SET dirty = FALSE, folded = ?, workflow = ?, status = ?, work_order_id = ?,
        correlation_id = ?, plan_id = ?, goal = ?, phase = ?, iteration = ?, max_iterations = ?,
        share = ?, started_ns = ?, updated_ns = ?, told_ns = ?, waiting_ns = ?, ended_ns = ?,
        seconds = ?, held = ?, agents = ?,
        error_type = ?, error_message = ?, ({SPENT_COLUMNS}) = ({SPENT_PLACES})
    WHERE run_id = ?
"""  # noqa: S608 - columns of this module
_ITERATION: Final = """
    INSERT INTO iterations (scope_id, run_id, number, status, started_ns, ended_ns)
    VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (run_id, scope_id) DO UPDATE SET number = excluded.number, status = excluded.status,
        started_ns = excluded.started_ns, ended_ns = excluded.ended_ns
"""
_PHASE: Final = f"""
    INSERT INTO phases (run_id, name, status, started_ns, ended_ns, seconds, iterations,
        {SPENT_COLUMNS})
    VALUES (?, ?, ?, ?, ?, ?, ?, {SPENT_PLACES})
    ON CONFLICT (run_id, name) DO UPDATE SET status = excluded.status,
        started_ns = excluded.started_ns, ended_ns = excluded.ended_ns,
        seconds = excluded.seconds, iterations = excluded.iterations, {SPENT_SET}
"""  # noqa: S608
_AGENT_COLUMNS: Final = (
    "scope_id", "name", "type", "workflow", "phase", "iteration", "task_id", "status",
    "attempt", "parent_id", "plan_id", "pid", "host", "exit_code", "log_file", "checkpoint_id",
    "provider", "model", "started_ns", "updated_ns", "ended_ns", "error_type", "error_message",
)  # fmt: skip
_AGENT: Final = f"""
    INSERT INTO agents (run_id, agent_id, {", ".join(_AGENT_COLUMNS)}, {SPENT_COLUMNS})
    VALUES (?, ?, {", ".join("?" for _ in _AGENT_COLUMNS)}, {SPENT_PLACES})
    ON CONFLICT (run_id, agent_id) DO UPDATE SET
        {", ".join(f"{name} = excluded.{name}" for name in _AGENT_COLUMNS)}, {SPENT_SET}
"""  # noqa: S608
_TELEMETRY: Final = f"""
    INSERT INTO telemetry (scope_id, provider, model, run_id, workflow, phase, agent_id, agent,
        time_ns, {SPENT_COLUMNS})
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, {SPENT_PLACES})
    ON CONFLICT (run_id, scope_id, provider, model) DO UPDATE SET
        workflow = excluded.workflow, phase = excluded.phase, agent_id = excluded.agent_id,
        agent = excluded.agent, time_ns = excluded.time_ns, {SPENT_SET}
"""  # noqa: S608
_STATEMENTS: Final = {
    "iterations": _ITERATION, "phases": _PHASE, "agents": _AGENT, "telemetry": _TELEMETRY,
}  # fmt: skip
# What tells the rows of a run apart.
_KEYS: Final = {
    "iterations": ("scope_id",), "phases": ("name",), "agents": ("agent_id",),
    "telemetry": ("scope_id", "provider", "model"),
}  # fmt: skip

# Rows by their table and key.
_Rows = dict[tuple[str, tuple[str, ...]], tuple[Any, ...]]


class _Fold:
    """The fold of a run as far as its signals were read, and the rows it was last written as.

    `first` and `seq` are the numbers of its first signal and of the last one that was read.
    """

    def __init__(self, first: int) -> None:
        self.state: RunState | None = None
        self.first = first
        self.seq = 0
        self.written: _Rows = {}


class Projection:
    """Makes the rows of runs that have new signals."""

    def __init__(self) -> None:
        self._folds: OrderedDict[str, _Fold] = OrderedDict()

    def run(self, connection: Connection, most: int = 200) -> int:
        """Make the rows of at most `most` dirty runs, in a transaction; return how many."""
        with connection.writing(durable=False):
            rows = connection.rows(
                f"SELECT run_id, folded FROM runs WHERE dirty LIMIT {int(most)}"  # noqa: S608
            )
            for row in rows:
                self._project(connection, row["run_id"], row["folded"])
        return len(rows)

    def _project(self, connection: Connection, run_id: str, folded: int) -> None:
        fold = self._folds.pop(run_id, None)
        if fold is None or fold.seq != folded:
            # The rows are another process's, or the run was deleted and is told of anew.
            first = first_seq(connection, run_id)
            if fold is None or fold.first != first:
                fold = _Fold(first)
            fold.written = {}
            if folded:
                for table in _KEYS:
                    connection.run(f"DELETE FROM {table} WHERE run_id = ?", (run_id,))  # noqa: S608
        fold.seq, fold.state = read(connection, run_id, fold.seq, fold.state)
        if fold.state is None:  # all that was told of it was a repeat of another run's
            connection.run("DELETE FROM runs WHERE run_id = ?", (run_id,))
            return
        # As it stands in the store: whether a silent run is lost is asked when it is read.
        reading = report(fold.state, now=fold.state.last, alive=_unknown)
        connection.run(_RUN, (fold.seq, *_run_row(fold.state, reading), run_id))
        self._write(connection, run_id, fold, _rows(fold.state, reading, run_id))
        self._folds[run_id] = fold
        while len(self._folds) > _KEPT:
            self._folds.popitem(last=False)

    def _write(self, connection: Connection, run_id: str, fold: _Fold, rows: _Rows) -> None:
        changed: dict[str, list[tuple[Any, ...]]] = {}
        for (table, key), row in rows.items():
            if fold.written.get((table, key)) != row:
                changed.setdefault(table, []).append(row)
        for table, found in changed.items():
            connection.many(_STATEMENTS[table], found)
        # A phase that was renamed, a model that was said later: what was there says it no more.
        for table, key in fold.written.keys() - rows.keys():
            if table in _KEYS:
                same = " AND ".join(f"{column} = ?" for column in _KEYS[table])
                connection.run(
                    f"DELETE FROM {table} WHERE run_id = ? AND {same}",  # noqa: S608
                    (run_id, *key),
                )
        fold.written = rows


def first_seq(connection: Connection, run_id: str) -> int:
    """Return the number of a run's first signal; 0 where there is none."""
    row = connection.row("SELECT MIN(seq) AS first FROM signals WHERE run_id = ?", (run_id,))
    return 0 if row is None or row["first"] is None else int(row["first"])


def read(
    connection: Connection, run_id: str, after: int = 0, state: RunState | None = None
) -> tuple[int, RunState | None]:
    """Fold the signals of a run that came after a number; return the last number and the fold."""
    while True:
        rows = connection.rows(
            "SELECT seq, type, run_id, time_ns, body FROM signals "
            "WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?",
            (run_id, after, _AT_ONCE),
        )
        for row in rows:
            after = row["seq"]
            if not sums.is_sound(row):
                continue
            signal = decode_line(row["body"].encode())
            if signal is None or not 0 <= signal.time < 1 << 63:
                continue
            if state is None:
                state = RunState(run_id, signal)
            state.apply(signal)
        if len(rows) < _AT_ONCE:
            return after, state


def _unknown(_host: str, _pid: int, _since: int) -> bool | None:
    return None


def _run_row(state: RunState, reading: RunReport) -> tuple[Any, ...]:
    main = state.main
    ids = None if main is None else main.ids
    running = [phase.name for phase in reading.phases if phase.status == "running"]
    last = [phase.name for phase in reading.phases if phase.started is not None]
    error = reading.error
    return (
        short(reading.workflow), reading.status,
        clean((ids.work_order_id if ids else None) or ""),
        clean((ids.correlation_id if ids else None) or ""),
        clean((ids.plan_id if ids else None) or ""),
        clean(reading.goal), short((running or last or [""])[-1]),
        whole(reading.iteration), whole(reading.iterations), reading.share,
        reading.started, reading.updated, state.told, _waits(state), reading.ended, reading.seconds,
        held(state), to_json(Counter(agent.status for agent in reading.agents)),
        None if error is None else clean(error.type),
        None if error is None else clean(error.message),
        *spent(reading.usage, reading.usd, reading.unpriced),
    )  # fmt: skip


def _waits(state: RunState) -> int | None:
    """Return since when a human is waited for who has not answered, or None where nobody is."""
    asked = (scope for scope in state.of_kind("human") if scope.end is None)
    return min((one.started for one in asked if one.key not in state.answers), default=None)


def _rows(state: RunState, reading: RunReport, run_id: str) -> _Rows:
    """Return the rows below a run."""
    found: _Rows = {}
    for scope in state.of_kind("iteration"):
        outcome = scope.outcome
        key = short(scope.key)
        found["iterations", (key,)] = (
            key, run_id, whole(scope.ids.iteration),
            "running" if outcome is None else SAYS["phase"][outcome], scope.started,
            None if scope.end is None else scope.end.time,
        )  # fmt: skip
    for phase in reading.phases:
        key = short(phase.name)
        found["phases", (key,)] = (
            run_id, key, phase.status, phase.started, phase.ended, phase.seconds,
            phase.iterations, *spent(phase.usage, phase.usd, phase.unpriced),
        )  # fmt: skip
    for agent in reading.agents:
        row = _agent_row(state.scopes[agent.key], agent, run_id, reading.workflow)
        found["agents", (short(agent.id),)] = row
    for scope in state.scopes.values():
        for use in models_of(scope):
            ids = scope.ids
            names = short(scope.key), short(use.provider), short(use.model)
            found["telemetry", names] = (
                *names, run_id, short(reading.workflow), short(ids.phase or ""),
                short(ids.agent_id or ""), short(ids.agent or ""), scope.last,
                *spent(use.usage, use.cost, use.unpriced),
            )  # fmt: skip
    return found


def models_of(scope: Scope) -> list[ModelUse]:
    """Return what a scope used by itself, by model; what no model is named for stands alone."""
    usage, cost, unpriced = scope.spent
    signal = next(
        (
            one
            for one in (scope.end, scope.told)
            if one is not None and (one.usage is not None or one.cost is not None)
        ),
        None,
    )
    if signal is None:
        return []
    if not signal.models:
        model, provider = (scope.attribute(key) for key in (REQUEST_MODEL.key, PROVIDER.key))
        alone = ModelUse(
            provider=provider if isinstance(provider, str) else "",
            model=model if isinstance(model, str) else "",
            usage=usage, cost=cost, unpriced=unpriced,
        )  # fmt: skip
        return [alone]
    uses = list(signal.models)
    # Tool calls are of no model, and a sum over the rows is to be the scope's own usage.
    calls = usage.tool_calls - sum(use.usage.tool_calls for use in uses)
    if calls > 0:
        uses.append(ModelUse(usage=Usage(tool_calls=calls)))
    bills: dict[tuple[str, str], Bill] = {}
    for use in uses:
        bill = bills.setdefault((use.provider, use.model), Bill())
        bill.add(Spent(use.usage, use.cost, use.unpriced))
    if len(bills) == len(uses):
        return uses
    return [
        ModelUse(
            provider=provider, model=model,
            usage=bill.usage, cost=bill.usd, unpriced=bill.unpriced,
        )
        for (provider, model), bill in bills.items()
    ]  # fmt: skip


def _agent_row(scope: Scope, agent: AgentReport, run_id: str, workflow: str) -> tuple[Any, ...]:
    said, ids = scope.identity, scope.ids
    uses = models_of(scope)
    # The model with the most tokens speaks for the agent.
    main = max(uses, key=lambda use: use.usage.total_tokens, default=None)
    heard_of_a_model = scope.told is not None or scope.end is not None
    status = agent.status
    if status == "running" and not heard_of_a_model:
        status = "starting"
    exit_code = scope.attribute(AGENT_EXIT_CODE.key)
    log_file, checkpoint = (scope.attribute(key) for key in (LOG_FILE.key, CHECKPOINT_ID.key))
    error = agent.error
    return (
        run_id, short(agent.id), short(scope.key), short(agent.name), "agent", short(workflow),
        short(agent.phase), whole(agent.iteration), maybe(ids.task_id), status,
        whole(agent.attempt),
        maybe(agent.parent_id), maybe(ids.plan_id), bounded(said.pid) or None, clean(said.host),
        whole(exit_code) if isinstance(exit_code, int) else None,
        clean(log_file) if isinstance(log_file, str) else None,
        clean(checkpoint) if isinstance(checkpoint, str) else None,
        short(main.provider) if main else "", short((main.model if main else "") or agent.model),
        agent.started, scope.last, None if scope.end is None else scope.end.time,
        None if error is None else clean(error.type),
        None if error is None else clean(error.message),
        *spent(agent.usage, agent.usd, agent.unpriced),
    )  # fmt: skip
