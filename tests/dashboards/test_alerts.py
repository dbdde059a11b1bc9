"""Every alert fires when it should, says what it should then, and is silent otherwise.

The rules are run by the real promtool, all tests in one go.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards import alerts, alerts_agents, alerts_runs, alerts_stack, thresholds
from dashboards.alerting import PREFIX
from tests.dashboards import rule_tests
from tests.dashboards.alert_cases import CASES
from tests.dashboards.rule_tests import CONSOLE, GRAFANA, Case, Input

# One worker has all of them, and runs promtool once.
pytestmark = pytest.mark.xdist_group("alert-rules")

ROOT = Path(__file__).resolve().parents[2]
BOARDS = ROOT / "dashboards" / "generated" / "dashboards"
_ALERTMANAGER = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
INHIBITS = yaml.safe_load(_ALERTMANAGER.read_text(encoding="utf-8"))["inhibit_rules"]
BY_NAME = {alert.name: alert for alert in alerts.ALERTS}
NAMES = sorted(BY_NAME)
_LEVELS = {"critical", "warning", "info"}
# What a resource's attributes and the collector may add to any series.
_EXTRA = 'otel_scope_name="otel_agents", deployment_environment_name="prod"'


def _firing(case: Case) -> dict[str, Any]:
    alert = BY_NAME[case.alert]
    return {
        "exp_labels": {"severity": alert.severity, **case.labels},
        "exp_annotations": {
            "summary": alert.summary,
            "description": case.description,
            "runbook_url": f"{CONSOLE}/runbooks/{PREFIX}{alert.name}",
            "dashboard_url": f"{GRAFANA}/d/otel-agents-{case.board}",
        },
    }


def _test(case: Case, reason: str, given: list[Input], expected: dict[str, list[Any]]) -> Any:
    return {
        "name": f"{case.alert}: {reason}",
        "interval": case.interval,
        "input_series": given,
        "alert_rule_test": [
            {"eval_time": at, "alertname": PREFIX + case.alert, "exp_alerts": alerts_}
            for at, alerts_ in expected.items()
        ],
    }


def _labelled(given: list[Input]) -> list[Input]:
    return [{**one, "series": one["series"].replace("{", f"{{{_EXTRA}, ")} for one in given]


def _tests(case: Case) -> list[Any]:
    fires: dict[str, list[Any]] = {case.at: [_firing(case)]}
    before: dict[str, list[Any]] = {case.early: []} if case.early else {}
    return [
        _test(case, "fires", case.fires, {**before, **fires}),
        _test(case, "fires, whatever labels there are besides", _labelled(case.fires), fires),
        *(
            _test(case, f"is silent, given {reason}", given, {case.at: []})
            for reason, given in case.silent.items()
        ),
    ]


def _file(case: Case) -> str:
    return f"{case.alert}-{CASES.index(case)}"


def _nothing() -> Any:
    """Return the test that without any data nothing fires, but what tells of that."""
    return {
        "name": "absent data",
        "interval": "1m",
        "input_series": [],
        "alert_rule_test": [
            {"eval_time": "20m", "alertname": PREFIX + name, "exp_alerts": []}
            for name in NAMES
            if name != "NoData"
        ],
    }


@pytest.fixture(scope="module", params=rule_tests.PROGRAMS)
def wrong(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """What promtool says against each case, by its name: nothing where it is as it should be."""
    files = ((_file(case), PREFIX + case.alert, case.evaluated, _tests(case)) for case in CASES)
    absent = ("absent", None, "30s", [_nothing()])
    promtool = rule_tests.program(request.param)
    return rule_tests.run(promtool, tmp_path_factory.mktemp("alerts"), *files, absent)


@pytest.mark.parametrize("case", CASES, ids=_file)
def test_an_alert_fires_and_stays_silent(case: Case, wrong: dict[str, str]) -> None:
    """It fires in time, with its labels and sentences, and is silent just before and just below."""
    assert wrong[_file(case)] == ""


def test_absent_data_fires_nothing(wrong: dict[str, str]) -> None:
    """Without any series nothing fires, but for the alert that tells of that."""
    assert wrong["absent"] == ""


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_has_a_case_of_each_kind(name: str) -> None:
    """No alert is without a case where it fires, and one where something like it does not."""
    cases = [case for case in CASES if case.alert == name]

    assert cases
    assert all(case.fires or name == "NoData" for case in cases)
    assert all(given for case in cases for given in case.silent.values())
    assert all(case.silent for case in cases)


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_that_waits_is_seen_to_wait(name: str) -> None:
    """Where an alert has to last, a case looks just before it has."""
    waits = thresholds.THRESHOLDS[name].hold != "0m"

    assert any(bool(case.early) for case in CASES if case.alert == name) == waits


def test_no_case_is_of_an_alert_that_is_not_there() -> None:
    """A renamed alert takes its cases along."""
    assert {case.alert for case in CASES} == set(NAMES)


def test_alerts_are_written_by_the_book() -> None:
    """Names, severities, links and sentences follow the guide for monitoring mixins."""
    names = []
    for group in alerts.document(CONSOLE, GRAFANA)["groups"]:
        for rule in group["rules"]:
            names.append(rule["alert"])
            notes = rule["annotations"]
            assert re.fullmatch(r"OtelAgents([A-Z][a-z0-9]+)+", rule["alert"])
            assert rule["labels"]["severity"] in _LEVELS
            assert set(notes) == {"summary", "description", "runbook_url", "dashboard_url"}
            assert "{{" not in notes["summary"] + notes["runbook_url"]
            assert notes["summary"].endswith(".")
            assert notes["description"].endswith(".")
            assert "keep_firing_for" in rule
    assert len(names) == len(set(names))


def _matches(matchers: list[str], name: str) -> bool:
    """Return whether matchers of Alertmanager choose an alert by its name."""
    found = [one for one in matchers if one.startswith("alertname")]
    asked = found[0].split("=", 1)[1].lstrip("~").strip('"')
    return re.fullmatch(asked, name) is not None


@pytest.mark.parametrize("rule", INHIBITS, ids=str)
def test_what_alertmanager_silences_has_the_labels_that_join_it(rule: dict[str, Any]) -> None:
    """Both sides of an inhibition are alerts of ours that bear the labels it compares."""
    labels = {PREFIX + case.alert: {"severity", *case.labels} for case in CASES}
    for side in ("source_matchers", "target_matchers"):
        found = [name for name in labels if _matches(rule[side], name)]
        assert found
        assert all(set(rule.get("equal", ())) <= labels[name] for name in found)


@pytest.mark.parametrize("case", CASES, ids=_file)
def test_a_link_sets_variables_that_its_board_has(case: Case) -> None:
    """Grafana ignores what it does not know, so a wrong name would show everything."""
    board, _, query = case.board.partition("?")
    made = json.loads((BOARDS / f"{board}.json").read_text(encoding="utf-8"))
    known = {f"var-{variable['name']}" for variable in made["templating"]["list"]}

    assert made["uid"] == f"otel-agents-{board}"
    assert {one.partition("=")[0] for one in query.split("&") if one} <= known


def test_every_threshold_is_an_alerts() -> None:
    """The table has a line for each alert, and no other."""
    assert set(thresholds.THRESHOLDS) == set(NAMES)
    assert all(limit.reason.endswith(".") for limit in thresholds.THRESHOLDS.values())


def test_every_number_stands_in_the_table() -> None:
    """No alert has a number or a span of time of its own."""
    found = []
    for module in (alerts, alerts_agents, alerts_runs, alerts_stack):
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Constant) or isinstance(node.value, bool):
                continue
            if isinstance(node.value, int | float) and node.value not in {0, 1}:
                found.append(node.value)
            if isinstance(node.value, str):
                found += re.findall(r"\[\d\w*\]|[<>=] ?[1-9][\d.]*|\b\d+[smhdw]\b", node.value)
    assert found == []
