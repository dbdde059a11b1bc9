"""For each alert what makes it fire, what it says then, and what leaves it silent.

What programs count is told by processes that live for one sample each, as short runs do.
"""

from __future__ import annotations

from typing import Final

from otel_agents import server_vocabulary as server
from otel_agents.vocabulary import (
    AGENT_DURATION,
    BUDGET_EVENTS,
    CHECKPOINTS,
    COST,
    CRITIC_DECISIONS,
    MODEL_ATTEMPTS,
    MODEL_CALLS,
    MODEL_ERRORS,
    RUNS_COMPLETED,
    TOKENS_UNPRICED,
    TOOL_CALLS,
    VALIDATIONS,
    Metric,
)
from tests.dashboards.alert_cases_stack import STACK, TELEMETRY
from tests.dashboards.rule_tests import Case, Input, once, slept, steady, told

_SHOP: Final = {"job": "shop", "workflow": "order"}
_PRICED: Final = {"job": "shop", "provider": "openai", "model": "new"}
_BUDGET: Final = {"job": "shop", "budget": "run", "unit": "USD"}


def _runs(succeeded: int, failed: int, after: int = 0) -> list[Input]:
    """Return processes of one run each."""
    results = ["succeeded"] * succeeded + ["failed"] * failed
    return [
        once(RUNS_COMPLETED, 1, after, instance=f"{after}-{number}", result=result, **_SHOP)
        for number, result in enumerate(results)
    ]


def _counted(metric: Metric, counts: dict[str, int], **labels: str) -> list[Input]:
    """Return a process of one sample for each result."""
    return [
        once(metric, count, instance=result, result=result, **labels)
        for result, count in counts.items()
        if count
    ]


def _attempts(bounds: dict[str, int]) -> list[Input]:
    """Return one process's attempts of an agent, by bucket."""
    labels = {**_SHOP, "phase": "build", "agent": "coder", "result": "success", "instance": "a"}
    most = max(bounds.values())
    return [
        once(AGENT_DURATION, most, part="count", **labels),
        *(once(AGENT_DURATION, n, part="bucket", le=le, **labels) for le, n in bounds.items()),
    ]


def _spent(amount: float, hour: int, instance: str) -> Input:
    """Return money that a process spent in the middle of an hour; an interval is 5 minutes."""
    labels = {"agent": "coder", "model": "m", "result": "success"}
    return once(COST, amount, hour * 12 + 7, job="shop", instance=instance, **labels)


def _spends(values: str) -> Input:
    """Return what a process spends that lives on."""
    return told(COST, values, job="shop", instance="p", agent="coder", model="m", result="success")


def _limited(times: int, tries: int) -> list[Input]:
    return [
        once(MODEL_ERRORS, times, reason="RATE_LIMITED", agent="a", instance="a", **_PRICED),
        once(MODEL_ERRORS, 50, reason="TIMEOUT", agent="a", instance="a", **_PRICED),
        once(
            MODEL_ATTEMPTS, tries,
            job="shop", model="new", agent="a", result="success", instance="a",
        ),
    ]  # fmt: skip


_WEEK: Final = 7 * 24
# Never when a sample is just as old as a window is long: Prometheus 2 counts that one, 3 does not.
_BESIDE: Final = "29s"
_SPIKE: Final = (
    "shop spent 3.1 times as much within the last 1h as around the same hour 1w ago, or, "
    "where nothing was spent then, as in an hour of the last 1d."
)

RUNS: Final = (
    Case(
        "RunStuck", [steady(server.RUN_SILENCE, 901, workflow="order")], "2m", "1m30s",
        {"workflow": "order"},
        "A run of order has told of nothing but its heartbeat for 15m 1s; the limit is 15 min.",
        "fleet?var-workflow=order",
        {"a step as long as is allowed": [steady(server.RUN_SILENCE, 900, workflow="order")]},
    ),
    Case(
        "RunLost",
        [
            steady(server.SERVER_RUNS, 2, workflow="order", state="lost"),
            steady(server.SERVER_RUNS, 3, workflow="order", state="running"),
        ],
        "0m", "", {"workflow": "order"},
        "Runs of order lost within the last hour: 2. No heartbeat came, and no end: "
        "their process was killed, or its machine is gone.",
        "fleet?var-workflow=order",
        {
            "all of them live": [
                steady(server.SERVER_RUNS, 0, workflow="order", state="lost"),
                steady(server.SERVER_RUNS, 3, workflow="order", state="running"),
            ]
        },
    ),
    Case(
        "RunFailureRate", _runs(7, 2), "5m", "4m30s", _SHOP,
        "22.22% of the runs of order in shop that ended within 30m failed; the limit is 20%.",
        "fleet?var-job=shop&var-workflow=order",
        {"as many as are allowed": _runs(8, 2), "one failed run of one": _runs(0, 1)},
    ),
    Case(
        "ErrorBudgetBurnFast", [*_runs(2, 8), *_runs(0, 1, 3)], "4m", "1m30s", _SHOP,
        "81.82% of the runs of order in shop fail, over a long window and a short one; "
        "the objective is that 95% succeed.",
        "fleet?var-job=shop&var-workflow=order",
        {
            "fewer runs than tell of a trend": _runs(1, 8),
            "no more than burn for long": _runs(14, 6),
        },
    ),
    Case(
        "ErrorBudgetBurnFast", _runs(5, 7), "2m", "1m30s", _SHOP,
        "58.33% of the runs of order in shop fail, over a long window and a short one; "
        "the objective is that 95% succeed.",
        "fleet?var-job=shop&var-workflow=order",
        {"too few for six hours": _runs(4, 5)},
    ),
    Case(
        "ErrorBudgetBurnFast", _runs(2, 8, 56), "59m", "57m30s", _SHOP,
        "80% of the runs of order in shop fail, over a long window and a short one; "
        "the objective is that 95% succeed.",
        "fleet?var-job=shop&var-workflow=order",
        {"failures that are over": [*_runs(0, 12), *_runs(2, 0, 57)]},
    ),
    Case(
        "ErrorBudgetBurnSlow",
        [run for hour in range(20) for run in _runs(10, 1, hour * 6 + 3)],
        "21h20m", "2h10m", _SHOP,
        "9.091% of the runs of order in shop failed within 3d; the objective is that 95% succeed.",
        "fleet?var-job=shop&var-workflow=order",
        {"one of twenty": [run for hour in range(20) for run in _runs(19, 1, hour * 6 + 3)]},
        evaluated="10m", interval="10m",
    ),
    Case(
        "HitlWaitingLong", [steady(server.HUMAN_WAIT, 1801, workflow="order")], "1m", "30s",
        {"workflow": "order"},
        "A run of order has waited for a human for 30m 1s; the limit is 30 min.",
        "fleet?var-workflow=order",
        {"half an hour": [steady(server.HUMAN_WAIT, 1800, workflow="order")]},
    ),
)  # fmt: skip

MONEY: Final = (
    Case(
        "CostSpike", [_spent(10, 0, "a"), _spent(31, _WEEK, "b")], "168h50m", "168h40m",
        {"job": "shop"},
        _SPIKE, "cost?var-job=shop",
        {
            "three times as much": [_spent(10, 0, "a"), _spent(30, _WEEK, "b")],
            "too little to mind": [_spent(1, 0, "a"), _spent(4.9, _WEEK, "b")],
            "nothing to compare with": [_spent(31, _WEEK, "b")],
            "a dear day, and last week's hour as dear": [
                _spent(31, 0, "a"), _spent(1, _WEEK - 3, "c"), _spent(31, _WEEK, "b"),
            ],
        },
        evaluated="10m", interval="5m",
    ),
    Case(
        "CostSpike", [_spent(10, 0, "a"), _spent(31, 20, "b")], "20h50m", "20h40m",
        {"job": "shop"},
        _SPIKE, "cost?var-job=shop",
        {
            "three times the last day's hour": [_spent(10, 0, "a"), _spent(30, 20, "b")],
            "as much as before the machine slept": [_spends("0+0.5x200 _x40 100.5+0.5x12")],
        },
        evaluated=_BESIDE, interval="5m",
    ),
    Case(
        "CostSpike", [_spent(10, 0, "a"), once(COST, 31, 30, job="shop", instance="b")],
        "170m", "159m30s", {"job": "shop"}, _SPIKE, "cost?var-job=shop",
        {"a new program that spends as much each minute": [_spends("_x17 0+0.5x40")]},
        evaluated=_BESIDE, interval="5m",
    ),
    Case(
        "CostSpike", [_spent(10, 0, "a"), once(COST, 31, _WEEK * 12, job="shop", instance="b")],
        "168h15m", "168h5m", {"job": "shop"}, _SPIKE, "cost?var-job=shop",
        {"a program in its second week, that spends as much each minute": [_spends("0+0.5x2100")]},
        evaluated="5m", interval="5m",
    ),
    Case(
        "BudgetWarning", [once(BUDGET_EVENTS, 1, 45, level="warning", instance="a", **_BUDGET)],
        "50m", "", _BUDGET,
        "shop says that its budget run in USD is nearly spent.", "cost?var-job=shop",
        {
            "spent, which is another alert": [
                once(BUDGET_EVENTS, 1, 45, level="exceeded", instance="a", **_BUDGET)
            ],
            "long ago": [steady(BUDGET_EVENTS, 1, level="warning", instance="a", **_BUDGET)],
            "before the machine slept": [
                slept(BUDGET_EVENTS, 1, 47, level="warning", instance="a", **_BUDGET)
            ],
        },
    ),
    Case(
        "BudgetExceeded", [once(BUDGET_EVENTS, 1, 45, level="exceeded", instance="a", **_BUDGET)],
        "50m", "", _BUDGET,
        "shop has spent more than its budget run in USD allows.", "cost?var-job=shop",
        {
            "nearly spent": [once(BUDGET_EVENTS, 1, 45, level="warning", instance="a", **_BUDGET)],
            "long ago": [steady(BUDGET_EVENTS, 1, level="exceeded", instance="a", **_BUDGET)],
            "before the machine slept": [
                slept(BUDGET_EVENTS, 1, 47, level="exceeded", instance="a", **_BUDGET)
            ],
        },
    ),
    Case(
        "TokensUnpriced",
        [once(TOKENS_UNPRICED, 501, 200, instance=i, agent="a", **_PRICED) for i in ("a", "b")],
        "201m", "", _PRICED,
        "shop used 1.002k tokens of new by openai within 1h, and no price is known for it.",
        "cost?var-job=shop",
        {
            "so few that it does not matter": [
                once(TOKENS_UNPRICED, 500, 200, instance=i, agent="a", **_PRICED)
                for i in ("a", "b")
            ],
            "used before the machine slept": [
                slept(TOKENS_UNPRICED, 5000, 199, instance="a", agent="a", **_PRICED)
            ],
        },
    ),
)  # fmt: skip

_MODEL: Final = {"job": "shop", "model": "m"}
_CRITIC: Final = {"job": "shop", "name": "editor"}
_TOOL: Final = {"job": "shop", "tool": "grep"}
_AGENT: Final = {**_SHOP, "agent": "coder"}

AGENTS: Final = (
    Case(
        "RetryStorm",
        [
            *_counted(MODEL_CALLS, {"success": 20}, agent="a", **_MODEL),
            *_counted(MODEL_ATTEMPTS, {"success": 20, "error": 11}, agent="a", **_MODEL),
        ],
        "5m", "4m30s", _MODEL,
        "shop makes 1.55 tries for each call of m; the limit is 1.5.", "agents?var-job=shop",
        {
            "as many as are allowed": [
                *_counted(MODEL_CALLS, {"success": 20}, agent="a", **_MODEL),
                *_counted(MODEL_ATTEMPTS, {"success": 20, "error": 10}, agent="a", **_MODEL),
            ],
            "few calls": [
                *_counted(MODEL_CALLS, {"success": 19}, agent="a", **_MODEL),
                *_counted(MODEL_ATTEMPTS, {"success": 19, "error": 19}, agent="a", **_MODEL),
            ],
        },
    ),
    Case(
        "CriticRejectionHigh",
        _counted(CRITIC_DECISIONS, {"success": 3, "failure": 7}, **_CRITIC),
        "10m", "9m30s", _CRITIC,
        "The critic editor of shop rejected 70% within 1h; the limit is 60%.",
        "agents?var-job=shop",
        {
            "as many as are allowed": _counted(
                CRITIC_DECISIONS, {"success": 4, "failure": 6}, **_CRITIC
            ),
            "few decisions": _counted(CRITIC_DECISIONS, {"failure": 9}, **_CRITIC),
        },
    ),
    Case(
        "ValidationPassLow", _counted(VALIDATIONS, {"success": 3, "failure": 7}, **_CRITIC),
        "10m", "9m30s", _CRITIC,
        "Of the validations editor of shop 30% passed within 1h; it should be 40% or more.",
        "agents?var-job=shop",
        {
            "just enough": _counted(VALIDATIONS, {"success": 4, "failure": 6}, **_CRITIC),
            "few validations": _counted(VALIDATIONS, {"failure": 9}, **_CRITIC),
        },
    ),
    Case(
        "AgentLatencyHigh", _attempts({"600": 4, "1200": 10, "+Inf": 10}), "10m", "9m30s", _AGENT,
        "95% of the attempts of coder in order of shop took up to 19m 10s within 30m; "
        "the limit is 10 min.",
        "agents?var-job=shop&var-agent=coder",
        {
            "as long as is allowed": _attempts({"600": 10, "1200": 10, "+Inf": 10}),
            "few attempts": _attempts({"600": 0, "1200": 4, "+Inf": 4}),
        },
    ),
    Case(
        "ToolErrorRate", _counted(TOOL_CALLS, {"success": 7, "error": 3}, agent="a", **_TOOL),
        "5m", "4m30s", _TOOL,
        "30% of the calls of grep in shop failed within 15m; the limit is 25%.",
        "agents?var-job=shop",
        {
            "one of four": _counted(TOOL_CALLS, {"success": 9, "error": 3}, agent="a", **_TOOL),
            "few calls": _counted(TOOL_CALLS, {"error": 9}, agent="a", **_TOOL),
            "calls that were called off": _counted(
                TOOL_CALLS, {"success": 5, "cancellation": 5}, agent="a", **_TOOL
            ),
        },
    ),
    Case(
        "ProviderRateLimited", _limited(5, 49), "3m", "2m30s", _PRICED,
        "openai answered 10.2% of all tries of new by shop with 429; the limit is 10%.",
        "agents?var-job=shop",
        {"one of ten": _limited(5, 50), "few of them": _limited(4, 4)},
    ),
)  # fmt: skip

_WORKER: Final = {"worker_type": "indexer", "queue": "digest"}

WORKERS: Final = (
    Case(
        "WorkerMissingHeartbeat", [steady(server.SERVER_HEARTBEAT_AGE, 61, **_WORKER)],
        "1m", "30s", _WORKER,
        "A worker of type indexer for the queue digest was last heard of 1m 1s ago; "
        "the limit is 1 min.",
        "workers",
        {"a minute": [steady(server.SERVER_HEARTBEAT_AGE, 60, **_WORKER)]},
    ),
    Case(
        "QueueBacklogAge", [steady(server.SERVER_QUEUE_OLDEST, 601, queue="digest")],
        "5m", "4m30s", {"queue": "digest"},
        "The oldest task of the queue digest has waited for 10m 1s; the limit is 10 min.",
        "workers",
        {"ten minutes": [steady(server.SERVER_QUEUE_OLDEST, 600, queue="digest")]},
    ),
    Case(
        "TasksStuck", [steady(server.SERVER_STUCK, 2, queue="digest")], "5m", "4m30s",
        {"queue": "digest"},
        "Tasks of the queue digest whose lease ran out and that nobody takes over: 2.",
        "workers",
        {"none": [steady(server.SERVER_STUCK, 0, queue="digest")]},
    ),
    Case(
        "CircuitOpen", [steady(server.SERVER_BREAKER, 2, breaker="openai")], "1m", "30s",
        {"breaker": "openai"},
        "The breaker openai is open, so what it guards is not called.", "workers",
        {"half open": [steady(server.SERVER_BREAKER, 1, breaker="openai")]},
    ),
    Case(
        "CheckpointFailing", [once(CHECKPOINTS, 1, 35, job="shop", instance="a", result="error")],
        "40m", "", {"job": "shop"},
        "Checkpoints of shop that failed within 15m: 1. What its agents write cannot be taken "
        "back.",
        "workers?var-job=shop",
        {
            "taken": [once(CHECKPOINTS, 9, 35, job="shop", instance="a", result="success")],
            "nothing changed": [once(CHECKPOINTS, 9, 35, job="shop", instance="a", result="skip")],
            "long ago": [steady(CHECKPOINTS, 1, job="shop", instance="a", result="error")],
            "before the machine slept": [
                slept(CHECKPOINTS, 1, 37, job="shop", instance="a", result="error")
            ],
        },
    ),
)  # fmt: skip

CASES: Final = (*RUNS, *MONEY, *AGENTS, *WORKERS, *TELEMETRY, *STACK)
