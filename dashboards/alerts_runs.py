"""Alerts on runs and on money."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dashboards.alerting import (
    DURATION,
    NUMBER,
    SHARE,
    Alert,
    enough,
    label,
    over,
    seconds,
    share,
)
from dashboards.promql import LONG_GAP, grown, now
from dashboards.rules import COST_GROWN, failure_ratio, runs_ended
from dashboards.thresholds import (
    BURN_FAST,
    BURN_SLOW,
    COST_AFTER_SEASON,
    COST_FALLBACK,
    COST_SAMPLES,
    COST_SEASON,
    COST_WINDOW,
    OBJECTIVE,
    THRESHOLDS,
)
from otel_agents.server_vocabulary import HUMAN_WAIT, RUN_SILENCE, SERVER_RUNS
from otel_agents.vocabulary import BUDGET_EVENTS, TOKENS_UNPRICED

if TYPE_CHECKING:
    from dashboards.thresholds import Burn

_RUN: Final = ("job", "workflow")
_BUDGET: Final = ("job", "budget", "unit")
_PRICED: Final = ("job", "provider", "model")


def _burning(name: str, burns: tuple[Burn, ...]) -> str:
    """Return the condition that a budget burns in both windows of one of these pairs."""
    budget = 1 - THRESHOLDS[name].value
    found = []
    for burn in burns:
        limit = f"{burn.factor * budget:g}"
        long, short = failure_ratio(burn.long), failure_ratio(burn.short)
        count = enough(name, runs_ended(burn.long))
        found.append(f"({long} > {limit} and {short} > {limit} and {count})")
    return " or ".join(found)


def _cost_spike() -> str:
    """Return how many times as much was spent as it used to be.

    What was spent within the last hour climbs for the first hour of a program, whatever it spends:
    of last week it is the most until an hour later, and of the last day only what has been known
    for an hour.
    """
    season = f"max_over_time({COST_GROWN}[{COST_WINDOW}] offset {COST_AFTER_SEASON}) > 0"
    before = f"{COST_GROWN}[{COST_FALLBACK}] offset {COST_WINDOW}"
    known = f"count_over_time({before}) >= {COST_SAMPLES}"
    day = f"(avg_over_time({before}) > 0 and {known})"
    compared = over("CostSpike", f"{COST_GROWN} / ({season} or {day})")
    return f"{compared} and {enough('CostSpike', COST_GROWN)}"


def _budget(name: str, level: str) -> str:
    window = THRESHOLDS[name].window
    where = {"level": level}
    return over(name, grown(BUDGET_EVENTS, window, by=_BUDGET, where=where, before=LONG_GAP))


_FAILURES: Final = THRESHOLDS["RunFailureRate"].window

RUNS: Final = (
    Alert(
        "RunStuck", "warning", "fleet", ("workflow",),
        over("RunStuck", now(RUN_SILENCE, by=("workflow",), how="max")),
        "A run is alive and does nothing.",
        f"A run of {label('workflow')} has told of nothing but its heartbeat for {DURATION}; "
        f"the limit is {seconds('RunStuck')}.",
    ),
    Alert(
        "RunLost", "critical", "fleet", ("workflow",),
        over("RunLost", now(SERVER_RUNS, by=("workflow",), how="max", where={"state": "lost"})),
        "A run ended without a word.",
        f"Runs of {label('workflow')} lost within the last hour: {NUMBER}. No heartbeat came, and "
        "no end: their process was killed, or its machine is gone.",
    ),
    Alert(
        "RunFailureRate", "warning", "fleet", _RUN,
        f"{over('RunFailureRate', failure_ratio(_FAILURES))} "
        f"and {enough('RunFailureRate', runs_ended(_FAILURES))}",
        "Many runs fail.",
        f"{SHARE} of the runs of {label('workflow')} in {label('job')} that ended within "
        f"{_FAILURES} failed; the limit is {share('RunFailureRate')}.",
    ),
    Alert(
        "ErrorBudgetBurnFast", "critical", "fleet", _RUN,
        _burning("ErrorBudgetBurnFast", BURN_FAST),
        "So many runs fail that the error budget of the month is gone within days.",
        f"{SHARE} of the runs of {label('workflow')} in {label('job')} fail, over a long window "
        f"and a short one; the objective is that {OBJECTIVE:.0%} succeed.",
    ),
    Alert(
        "ErrorBudgetBurnSlow", "warning", "fleet", _RUN,
        _burning("ErrorBudgetBurnSlow", BURN_SLOW),
        "More runs fail than the error budget of the month allows.",
        f"{SHARE} of the runs of {label('workflow')} in {label('job')} failed within "
        f"{BURN_SLOW[0].long}; the objective is that {OBJECTIVE:.0%} succeed.",
    ),
    Alert(
        "HitlWaitingLong", "warning", "fleet", ("workflow",),
        over("HitlWaitingLong", now(HUMAN_WAIT, by=("workflow",), how="max")),
        "A run waits for a human who does not answer.",
        f"A run of {label('workflow')} has waited for a human for {DURATION}; "
        f"the limit is {seconds('HitlWaitingLong')}.",
    ),
)  # fmt: skip

MONEY: Final = (
    Alert(
        "CostSpike", "warning", "cost", ("job",), _cost_spike(),
        "Much more money is spent than usually.",
        f"{label('job')} spent {NUMBER} times as much within the last {COST_WINDOW} as around the "
        f"same hour {COST_SEASON} ago, or, where nothing was spent then, as in an hour of the last "
        f"{COST_FALLBACK}.",
    ),
    Alert(
        "BudgetWarning", "warning", "cost", _BUDGET, _budget("BudgetWarning", "warning"),
        "A budget is nearly spent.",
        f"{label('job')} says that its budget {label('budget')} in {label('unit')} is nearly "
        "spent.",
    ),
    Alert(
        "BudgetExceeded", "critical", "cost", _BUDGET, _budget("BudgetExceeded", "exceeded"),
        "A budget is spent.",
        f"{label('job')} has spent more than its budget {label('budget')} in {label('unit')} "
        "allows.",
    ),
    Alert(
        "TokensUnpriced", "warning", "cost", _PRICED,
        over(
            "TokensUnpriced",
            grown(
                TOKENS_UNPRICED, THRESHOLDS["TokensUnpriced"].window, by=_PRICED, before=LONG_GAP
            ),
        ),
        "Tokens are used whose price is unknown, so costs and budgets are too low.",
        f"{label('job')} used {NUMBER} tokens of {label('model')} by {label('provider')} within "
        f"{THRESHOLDS['TokensUnpriced'].window}, and no price is known for it.",
    ),
)  # fmt: skip
