"""Rows of runs, iterations, phases, agents and their telemetry, made from the runs' signals.

A run's signals are folded as `status` folds them, and its rows say what the fold says. Signals
that were stored mark their run as dirty in the same commit, so that nothing is forgotten when a
process dies in between, and whoever comes next makes the rows.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any, Final

from otel_agents.signals import ModelUse, decode_line
from otel_agents.state.report import report
from otel_agents.state.run import RunState
from otel_agents.store.rows import (
    SPENT_COLUMNS,
    SPENT_PLACES,
    SPENT_SET,
    bounded,
    clean,
    maybe,
    spent,
    to_json,
)
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
    UPDATE runs SET dirty = FALSE, workflow = ?, status = ?, work_order_id = ?,
        correlation_id = ?, plan_id = ?, goal = ?, phase = ?, iteration = ?, max_iterations = ?,
        share = ?, started_ns = ?, updated_ns = ?, ended_ns = ?, agents = ?,
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
        time_ns = excluded.time_ns, {SPENT_SET}
"""  # noqa: S608
_ROUTE: Final = """
    INSERT INTO routes (provider, model, last_used_ns) VALUES (?, ?, ?)
    ON CONFLICT (provider, model) DO UPDATE SET last_used_ns = excluded.last_used_ns
    WHERE excluded.last_used_ns > routes.last_used_ns
"""
_STATEMENTS: Final = {
    "iterations": _ITERATION, "phases": _PHASE, "agents": _AGENT, "telemetry": _TELEMETRY,
    "routes": _ROUTE,
}  # fmt: skip


class _Fold:
    """The fold of a run as far as its signals were read, and the rows it was last written as."""

    def __init__(self) -> None:
        self.state: RunState | None = None
        self.seq = 0
        self.written: dict[tuple[str, Any], tuple[Any, ...]] = {}


class Projection:
    """Makes the rows of runs that have new signals."""

    def __init__(self) -> None:
        self._folds: OrderedDict[str, _Fold] = OrderedDict()

    def run(self, connection: Connection, most: int = 200) -> int:
        """Make the rows of at most `most` dirty runs, in a transaction; return how many."""
        with connection.writing():
            rows = connection.rows(f"SELECT run_id FROM runs WHERE dirty LIMIT {int(most)}")  # noqa: S608
            for row in rows:
                self._project(connection, row["run_id"])
        return len(rows)

    def forget(self, run_id: str) -> None:
        """Let go of a run that was deleted."""
        self._folds.pop(run_id, None)

    def _project(self, connection: Connection, run_id: str) -> None:
        fold = self._folds.pop(run_id, None) or _Fold()
        self._folds[run_id] = fold
        while len(self._folds) > _KEPT:
            self._folds.popitem(last=False)
        fold.seq, fold.state = read(connection, run_id, fold.seq, fold.state)
        if fold.state is None:
            connection.run("UPDATE runs SET dirty = FALSE WHERE run_id = ?", (run_id,))
            return
        # As it stands in the store: whether a silent run is lost is asked when it is read.
        now = fold.state.last
        reading = report(fold.state, now=now, alive=_unknown)
        connection.run(_RUN, (*_run_row(fold.state, reading), run_id))
        found: dict[str, list[tuple[Any, ...]]] = {}
        for table, key, row in _rows(fold.state, reading, run_id):
            if fold.written.get((table, key)) != row:
                fold.written[table, key] = row
                found.setdefault(table, []).append(row)
        for table, changed in found.items():
            connection.many(_STATEMENTS[table], changed)


def read(
    connection: Connection, run_id: str, after: int = 0, state: RunState | None = None
) -> tuple[int, RunState | None]:
    """Fold the signals of a run that came after a number; return the last number and the fold."""
    while True:
        rows = connection.rows(
            "SELECT seq, body FROM signals WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?",
            (run_id, after, _AT_ONCE),
        )
        for row in rows:
            after = row["seq"]
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
        clean(reading.workflow), reading.status,
        clean((ids.work_order_id if ids else None) or ""),
        clean((ids.correlation_id if ids else None) or ""),
        clean((ids.plan_id if ids else None) or ""),
        clean(reading.goal), clean((running or last or [""])[-1]),
        reading.iteration, reading.iterations, reading.share, reading.started, reading.updated,
        reading.ended, to_json(Counter(agent.status for agent in reading.agents)),
        None if error is None else clean(error.type),
        None if error is None else clean(error.message),
        *spent(reading.usage, reading.usd, reading.unpriced),
    )  # fmt: skip


def _rows(
    state: RunState, reading: RunReport, run_id: str
) -> list[tuple[str, Any, tuple[Any, ...]]]:
    """Return the rows below a run: their table, their key and their values."""
    found: list[tuple[str, Any, tuple[Any, ...]]] = []
    for scope in state.of_kind("iteration"):
        outcome = scope.outcome
        row = (
            clean(scope.key), run_id, scope.ids.iteration,
            "running" if outcome is None else SAYS["phase"][outcome], scope.started,
            None if scope.end is None else scope.end.time,
        )  # fmt: skip
        found.append(("iterations", scope.key, row))
    for phase in reading.phases:
        row = (
            run_id, clean(phase.name), phase.status, phase.started, phase.ended, phase.seconds,
            phase.iterations, *spent(phase.usage, phase.usd, phase.unpriced),
        )  # fmt: skip
        found.append(("phases", phase.name, row))
    for agent in reading.agents:
        row = _agent_row(state.scopes[agent.key], agent, run_id, reading.workflow)
        found.append(("agents", agent.id, row))
    routes: dict[tuple[str, str], int] = {}
    for scope in state.scopes.values():
        for use in models_of(scope):
            ids = scope.ids
            row = (
                clean(scope.key), clean(use.provider), clean(use.model), run_id,
                clean(reading.workflow), clean(ids.phase or ""), clean(ids.agent_id or ""),
                clean(ids.agent or ""), scope.last,
                *spent(use.usage, use.cost, use.unpriced),
            )  # fmt: skip
            found.append(("telemetry", (scope.key, use.provider, use.model), row))
            if use.model:
                route = clean(use.provider), clean(use.model)
                routes[route] = max(scope.last, routes.get(route, 0))
    found += [("routes", route, (*route, when)) for route, when in routes.items()]
    return found


def models_of(scope: Scope) -> list[ModelUse]:
    """Return what a scope used by itself, by model; what no model is named for stands alone."""
    usage, cost, unpriced = scope.spent
    signal = next((s for s in (scope.end, scope.told) if s is not None and s.usage), None)
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
    # Tool calls are of no model, and a sum over the rows is to be the scope's own usage.
    calls = usage.tool_calls - sum(use.usage.tool_calls for use in signal.models)
    if calls > 0:
        tools = type(usage)(tool_calls=calls)
        return [*signal.models, ModelUse(usage=tools)]
    return list(signal.models)


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
        run_id, clean(agent.id), clean(scope.key), clean(agent.name), "agent", clean(workflow),
        clean(agent.phase), agent.iteration, maybe(ids.task_id), status, agent.attempt,
        maybe(agent.parent_id), maybe(ids.plan_id), bounded(said.pid) or None, clean(said.host),
        exit_code if isinstance(exit_code, int) else None,
        clean(log_file) if isinstance(log_file, str) else None,
        clean(checkpoint) if isinstance(checkpoint, str) else None,
        clean(main.provider) if main else "", clean((main.model if main else "") or agent.model),
        agent.started, scope.last, None if scope.end is None else scope.end.time,
        None if error is None else clean(error.type),
        None if error is None else clean(error.message),
        *spent(agent.usage, agent.usd, agent.unpriced),
    )  # fmt: skip
