"""Recording rules: what alerts ask for again and again, worked out once.

They are named `level:metric:operation`: the labels that are left, the vocabulary's name without
`_total`, and what was done to it. Counters of programs are read by `promql.grown`, so that a
program of one export counts.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from dashboards.promql import LONG_GAP, grown, quantile, ratio, series
from dashboards.thresholds import (
    COST_WINDOW,
    INTERVAL,
    LATENCY_SHARE,
    LATENCY_WINDOW,
    RATIO_SUMMED,
    RATIO_WINDOWS,
    THRESHOLDS,
)
from otel_agents.vocabulary import (
    AGENT_DURATION,
    COST,
    CRITIC_DECISIONS,
    ERROR_OUTCOMES,
    MODEL_ATTEMPTS,
    MODEL_CALLS,
    RUNS_COMPLETED,
    SAYS,
    TOOL_CALLS,
    VALIDATIONS,
    Metric,
)

_RUN: Final = ("job", "workflow")
_AGENT: Final = ("job", "workflow", "agent")
# Runs have words of their own for how they ended.
_FAILED: Final = {"result": SAYS["run"]["failure"]}
_ERRORS: Final = {"result": "=~" + "|".join(sorted(ERROR_OUTCOMES))}
_SUCCESS: Final = "success"
_WINDOWS: Final = (*RATIO_WINDOWS, RATIO_SUMMED[0])


class Judged(NamedTuple):
    """How much of what a counter counted is of one kind, and of how many: two recording rules."""

    share: str
    counted: str
    rules: dict[str, str]


def runs_ended(window: str) -> str:
    """Return the name of the rule for how many runs ended within a window, by job and workflow."""
    return _named(_RUN, RUNS_COMPLETED, f"grown{_known(window)}")


def runs_failed(window: str) -> str:
    """Return the name of the rule for how many runs failed within a window."""
    return _named(_RUN, RUNS_COMPLETED, f"failed_grown{_known(window)}")


def failure_ratio(window: str) -> str:
    """Return the name of the rule for the share of the runs that failed, of those that ended."""
    return _named(_RUN, RUNS_COMPLETED, f"failed_ratio{_known(window)}")


def _known(window: str) -> str:
    if window not in _WINDOWS:
        message = f"no rule records runs over {window}; there are {', '.join(_WINDOWS)}"
        raise ValueError(message)
    return window


def _named(level: tuple[str, ...], metric: Metric, operation: str) -> str:
    name = series(metric, "sum" if metric.instrument == "histogram" else "")
    return f"{'_'.join(level)}:{name.removesuffix('_total').removesuffix('_sum')}:{operation}"


def _judged(
    alert: str,
    level: tuple[str, ...],
    whole: Metric,
    kind: str,
    *,
    part: Metric | None = None,
    where: dict[str, str] | None = None,
) -> Judged:
    """Return the rules of one alert: over its window, of a counter or of another by the first."""
    window = THRESHOLDS[alert].window
    count = _named(level, whole, f"grown{window}")
    share = _named(level, part or whole, f"{kind}{window}")
    asked = grown(part or whole, window, by=level, where=where)
    return Judged(share, count, {count: grown(whole, window, by=level), share: ratio(asked, count)})


TOOLS: Final = _judged("ToolErrorRate", ("job", "tool"), TOOL_CALLS, "failed_ratio", where=_ERRORS)
CRITICS: Final = _judged(
    "CriticRejectionHigh", ("job", "name"), CRITIC_DECISIONS, "rejected_ratio",
    where={"result": f"!={_SUCCESS}"},
)  # fmt: skip
VALIDATED: Final = _judged(
    "ValidationPassLow", ("job", "name"), VALIDATIONS, "passed_ratio", where={"result": _SUCCESS}
)
RETRIES: Final = _judged(
    "RetryStorm", ("job", "model"), MODEL_CALLS, "by_call", part=MODEL_ATTEMPTS
)
COST_GROWN: Final = _named(("job",), COST, f"grown{COST_WINDOW}")
LATENCY: Final = _named(_AGENT, AGENT_DURATION, f"p{LATENCY_SHARE * 100:g}_{LATENCY_WINDOW}")
ATTEMPTS_ENDED: Final = _named(_AGENT, AGENT_DURATION, f"count_grown{LATENCY_WINDOW}")


def document() -> dict[str, Any]:
    """Return the rule groups as Prometheus reads them."""
    summed, part = RATIO_SUMMED
    runs = {}
    for window in RATIO_WINDOWS:
        runs[runs_ended(window)] = grown(RUNS_COMPLETED, window, by=_RUN)
        runs[runs_failed(window)] = grown(RUNS_COMPLETED, window, by=_RUN, where=_FAILED)
    for name in (runs_ended, runs_failed):
        runs[name(summed)] = f"sum_over_time({name(part)}[{summed}:{part}])"
    for window in _WINDOWS:
        runs[failure_ratio(window)] = ratio(runs_failed(window), runs_ended(window))
    agents = {
        LATENCY: quantile(LATENCY_SHARE, AGENT_DURATION, LATENCY_WINDOW, by=_AGENT),
        ATTEMPTS_ENDED: grown(AGENT_DURATION, LATENCY_WINDOW, by=_AGENT, part="count"),
    }
    for judged in (TOOLS, CRITICS, VALIDATED, RETRIES):
        agents |= judged.rules
    return {
        "groups": [
            _group("otel-agents.runs", runs),
            _group("otel-agents.agents", agents),
            _group(
                "otel-agents.cost",
                {COST_GROWN: grown(COST, COST_WINDOW, by=("job",), before=LONG_GAP)},
            ),
        ]
    }


def _group(name: str, rules: dict[str, str]) -> dict[str, Any]:
    return {
        "name": name,
        "interval": INTERVAL,
        "rules": [{"record": record, "expr": expr} for record, expr in rules.items()],
    }
