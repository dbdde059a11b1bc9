"""A run as data: what `status --json` prints and the API answers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from otel_agents.state.estimate import NO_HISTORY, History
from otel_agents.state.report import AgentReport, PhaseReport, RunReport, WaitReport, report
from otel_agents.state.times import rfc3339

if TYPE_CHECKING:
    from otel_agents.signals import Failure
    from otel_agents.state.budgets import BudgetReport
    from otel_agents.state.report import Alive
    from otel_agents.state.run import RunState
    from otel_agents.usage import Usage


def view(run: RunState, *, now: int, alive: Alive, history: History = NO_HISTORY) -> dict[str, Any]:
    """Return a run as it stands at a time; the arguments are those of `report`."""
    return as_data(report(run, now=now, alive=alive, history=history))


def as_data(read: RunReport) -> dict[str, Any]:
    """Return a reading of a run as data."""
    return {
        "run_id": read.id,
        "workflow": read.workflow or None,
        "status": read.status,
        "percent": percent(read.share),
        "eta_seconds": _seconds(read.eta),
        "started_at": rfc3339(read.started),
        "updated_at": rfc3339(read.updated),
        "phases": [_phase(phase) for phase in read.phases],
        "agents": {
            "by_status": dict(sorted(Counter(agent.status for agent in read.agents).items())),
            "items": [_agent(agent) for agent in read.agents],
        },
        "usage": usage_data(read.usage),
        "cost_usd": usd(read.usd),
        "unpriced_tokens": read.unpriced,
        "error": error_data(read.error),
        "budgets": [budget_data(budget) for budget in read.budgets],
        "waiting_seconds": _seconds(read.waited),
        "waits": [_wait(wait) for wait in read.waits],
    }


def budget_data(budget: BudgetReport) -> dict[str, Any]:
    """Return a budget as data; `percent` goes on above 100."""
    return {
        "scope": budget.scope,
        "name": budget.name,
        "unit": budget.unit,
        "limit": round(budget.limit, 9),
        "spent": round(budget.spent, 3 if budget.unit == "second" else 9),
        "percent": percent(budget.share),
        "state": budget.state,
        "enforced": budget.enforced,
    }


def _phase(phase: PhaseReport) -> dict[str, Any]:
    return {
        "name": phase.name,
        "status": phase.status,
        "percent": percent(phase.share),
        "started_at": moment(phase.started),
        "ended_at": moment(phase.ended),
        "duration_seconds": _seconds(phase.seconds),
        "waiting_seconds": _seconds(phase.waited),
        "iterations": phase.iterations,
        "agents": phase.agents,
        "usage": usage_data(phase.usage),
        "cost_usd": usd(phase.usd),
    }


def _wait(wait: WaitReport) -> dict[str, Any]:
    return {
        "id": wait.id,
        "reason": wait.reason or None,
        "asked_at": rfc3339(wait.since),
        "priority": wait.priority or None,
        "phase": wait.phase or None,
        "agent": wait.agent or None,
        "tool": wait.tool or None,
        "decision": wait.decision or None,
    }


def _agent(agent: AgentReport) -> dict[str, Any]:
    return {
        "id": agent.id,
        "name": agent.name,
        "phase": agent.phase or None,
        "status": agent.status,
        "attempt": agent.attempt,
        "parent_id": agent.parent_id,
        "waiting_seconds": _seconds(agent.waited),
        "usage": usage_data(agent.usage),
        "cost_usd": usd(agent.usd),
        "error": error_data(agent.error),
    }


def usage_data(usage: Usage) -> dict[str, int | bool]:
    """Return usage as data."""
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "total_tokens": usage.total_tokens,
        "requests": usage.requests,
        "tool_calls": usage.tool_calls,
        "complete": usage.complete,
    }


def error_data(error: Failure | None) -> dict[str, str] | None:
    """Return what went wrong as data, None where nothing did."""
    return None if error is None else {"type": error.type, "message": error.message}


def percent(share: float | None) -> float | None:
    """Return a share in percent to one decimal, cut rather than rounded: 99.96 is not all."""
    return None if share is None else int(share * 1000 + 1e-9) / 10


def _seconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def moment(time_ns: int | None) -> str | None:
    """Return a time as text, None where there is none."""
    return None if time_ns is None else rfc3339(time_ns)


def usd(amount: float | None) -> float | None:
    """Return an amount to the nano-dollar: past that it is noise of binary fractions."""
    return None if amount is None else round(amount, 9)
