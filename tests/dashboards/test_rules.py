"""The recording rules say what they should, and the rules on disk are those that are built."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards import alerts, rules
from dashboards.promql import series
from dashboards.thresholds import BURN_FAST, BURN_SLOW, RATIO_SUMMED, RATIO_WINDOWS
from otel_agents.vocabulary import (
    AGENT_DURATION,
    COST,
    CRITIC_DECISIONS,
    METRICS,
    MODEL_ATTEMPTS,
    MODEL_CALLS,
    RUNS_COMPLETED,
    TOOL_CALLS,
    VALIDATIONS,
)
from tests.dashboards import rule_tests
from tests.dashboards.rule_tests import CONSOLE, GRAFANA, Input, once, told

GENERATED = Path(__file__).resolve().parents[2] / "dashboards" / "generated" / "rules"
ROWS = [rule for group in rules.document()["groups"] for rule in group["rules"]]
_SHOP = {"job": "shop", "workflow": "order"}


@pytest.fixture(params=rule_tests.PROGRAMS)
def promtool(request: pytest.FixtureRequest) -> Path:
    """Give promtool of Prometheus 2 and of Prometheus 3."""
    return rule_tests.program(request.param)


def _value(given: list[Input], at: str, rule: str, expected: float, labels: str) -> Any:
    samples = [{"labels": f"{rule}{{{labels}}}", "value": expected}]
    asked = {"eval_time": at, "expr": rule, "exp_samples": samples}
    return {"interval": "1m", "input_series": given, "promql_expr_test": [asked]}


def _ended(result: str, count: int, after: int = 0) -> list[Input]:
    return [
        once(RUNS_COMPLETED, 1, after, instance=f"{result}-{after}-{i}", result=result, **_SHOP)
        for i in range(count)
    ]


def test_recorded_values_are_those_of_processes_of_one_sample(
    promtool: Path, tmp_path: Path
) -> None:
    """Runs, shares, durations and money are right where each process told of itself once."""
    order = 'job="shop", workflow="order"'
    runs = [*_ended("succeeded", 6), *_ended("failed", 2), *_ended("canceled", 2)]
    lasted = {**_SHOP, "agent": "coder", "phase": "p", "result": "success", "instance": "a"}
    attempts = [
        once(AGENT_DURATION, 10, part="bucket", le=le, **lasted) for le in ("60", "120", "+Inf")
    ]
    counted = once(AGENT_DURATION, 10, part="count", **lasted)
    spent = [
        once(COST, 1.25, job="shop", agent=agent, instance=i)
        for agent in ("coder", "critic")
        for i in ("a", "b")
    ]
    results = {"success": 6, "failure": 1, "error": 1, "timeout": 1, "cancellation": 1}

    def of(metric: Any, **labels: str) -> list[Input]:
        return [
            once(metric, count, result=result, instance=result, job="shop", **labels)
            for result, count in results.items()
        ]

    tests = [
        *(_value(runs, "4m", rules.runs_ended(w), 10, order) for w in RATIO_WINDOWS),
        *(_value(runs, "4m", rules.runs_failed(w), 2, order) for w in RATIO_WINDOWS),
        *(_value(runs, "4m", rules.failure_ratio(w), 0.2, order) for w in RATIO_WINDOWS),
        _value(_ended("succeeded", 1), "1m", rules.failure_ratio("5m"), 0, order),
        _value(
            [*attempts, counted], "4m", rules.LATENCY, 57, f'{order}, agent="coder"'
        ),
        _value([*attempts, counted], "4m", rules.ATTEMPTS_ENDED, 10, f'{order}, agent="coder"'),
        _value(spent, "4m", rules.COST_GROWN, 5, 'job="shop"'),
        _value(of(TOOL_CALLS, tool="t"), "4m", rules.TOOLS.share, 0.3, 'job="shop", tool="t"'),
        _value(of(TOOL_CALLS, tool="t"), "4m", rules.TOOLS.counted, 10, 'job="shop", tool="t"'),
        _value(
            of(CRITIC_DECISIONS, name="c"), "4m", rules.CRITICS.share, 0.4, 'job="shop", name="c"'
        ),
        _value(
            of(VALIDATIONS, name="v"), "4m", rules.VALIDATED.share, 0.6, 'job="shop", name="v"'
        ),
        _value(
            [*of(MODEL_CALLS, model="m"), *of(MODEL_ATTEMPTS, model="m", agent="b")],
            "4m", rules.RETRIES.share, 1, 'job="shop", model="m"',
        ),
    ]  # fmt: skip

    assert rule_tests.run(promtool, tmp_path, ("values", None, "30s", tests)) == {"values": ""}


def test_a_process_that_lives_on_counts_what_it_added(promtool: Path, tmp_path: Path) -> None:
    """Of a counter that was there before the window only the growth within it counts."""
    known = told(RUNS_COMPLETED, "100+1x60", instance="a", result="succeeded", **_SHOP)
    tests = [_value([known], "40m", rules.runs_ended("30m"), 30, 'job="shop", workflow="order"')]

    assert rule_tests.run(promtool, tmp_path, ("grows", None, "30s", tests)) == {"grows": ""}


def test_three_days_are_the_sum_of_their_hours(promtool: Path, tmp_path: Path) -> None:
    """Runs of yesterday and of today add up, each counted once."""
    long, _ = RATIO_SUMMED
    given = [*_ended("failed", 3, 90), *_ended("succeeded", 5, 90 + 24 * 60)]
    order = 'job="shop", workflow="order"'
    tests = [
        _value(given, "27h", rules.runs_ended(long), 8, order),
        _value(given, "27h", rules.failure_ratio(long), 0.375, order),
    ]

    assert rule_tests.run(
        promtool, tmp_path, ("days", "OtelAgentsErrorBudgetBurnSlow", "10m", tests)
    ) == {"days": ""}


@pytest.mark.parametrize("name", ["recording.yml", "alerts.yml"])
def test_promtool_takes_the_rules_on_disk(promtool: Path, name: str) -> None:
    """`promtool check rules` finds nothing wrong with what is mounted."""
    done = subprocess.run(  # noqa: S603 - Debian's own program
        [promtool, "check", "rules", GENERATED / name],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_on_disk_are_those_that_are_built() -> None:
    """Nobody has edited them, or forgotten to write them anew."""
    built = {
        "recording.yml": rules.document(),
        "alerts.yml": alerts.document("http://127.0.0.1:3010", "http://127.0.0.1:3000"),
    }

    for name, document in built.items():
        assert yaml.safe_load((GENERATED / name).read_text(encoding="utf-8")) == document


def test_rules_are_named_by_level_metric_and_operation() -> None:
    """The level are the labels that are left, and the metric is one of the vocabulary."""
    known = {
        series(metric, "sum" if metric.instrument == "histogram" else "")
        .removesuffix("_total")
        .removesuffix("_sum"): metric
        for metric in METRICS.values()
    }

    for rule in ROWS:
        level, metric, operation = rule["record"].split(":")
        assert metric in known
        assert re.fullmatch(r"[a-z0-9_]+", operation)
        assert re.fullmatch(r"job(_[a-z]+)*", level)


def test_each_rule_is_asked_for() -> None:
    """What no alert and no other rule asks for is not worked out every half minute."""
    asked = [rule["expr"] for rule in ROWS]
    asked += [
        rule["expr"]
        for group in alerts.document(CONSOLE, GRAFANA)["groups"]
        for rule in group["rules"]
    ]

    words = {word for expr in asked for word in re.findall(r"[\w:]+", expr)}
    assert [rule["record"] for rule in ROWS if rule["record"] not in words] == []


def test_each_window_is_some_burns() -> None:
    """Failures are recorded over the windows of the burn rates, and over no other."""
    burns = {window for burn in (*BURN_FAST, *BURN_SLOW) for window in (burn.long, burn.short)}

    assert burns == {*RATIO_WINDOWS, RATIO_SUMMED[0]}
    assert RATIO_SUMMED[1] in RATIO_WINDOWS


def test_an_unknown_window_is_refused() -> None:
    """An alert cannot ask for what nothing records."""
    with pytest.raises(ValueError, match="no rule records runs over 7m"):
        rules.failure_ratio("7m")
