"""Every panel and rule on live data: the examples and all faults, through the real collector.

Nothing is asked otherwise than Grafana and Prometheus ask it. What is empty has to be so for a
reason that stands here, and what has data has to be right: the same as the server says.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
import yaml

from tests.stack.faulty import EXAMPLES, PROFILES, trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Backends
    from stack import Stack

    from tests.stack.faulty import Shown

pytestmark = pytest.mark.xdist_group("stack")

GENERATED: Final = Path(__file__).resolve().parents[2] / "dashboards" / "generated"
# How far back is looked: the other tests on the same stack take minutes.
SHOWN_SECONDS: Final = 1800
STEP: Final = 15
# A worker that is back at once was missed for seconds only.
ALERT_STEP: Final = 2
RANGE: Final = f"{SHOWN_SECONDS}s"
BOARDS: Final = {"agents", "cost", "fleet", "run", "telemetry", "workers"}
# What Grafana puts in for a board over half an hour, drawn at the boards' own step of a minute:
# `$__rate_interval` is a step and a scrape's interval.
BUILT_IN: Final = {
    "__rate_interval": "75s", "__interval": "60s", "__interval_ms": "60000",
    "__range": RANGE, "__range_s": f"{SHOWN_SECONDS}",
}  # fmt: skip
VARIABLE: Final = re.compile(r"\$\{(\w+)(?::\w+)?\}|\$(\w+)|\[\[(\w+)\]\]")

EMPTY_PANELS: Final[dict[str, str]] = {
    "telemetry / Targets down / A": "every part of the stack is up",
    "telemetry / Lost at exporters / B": "every backend takes what it is sent",
    "telemetry / Lost at exporters / C": "every backend takes what it is sent",
    "telemetry / Lost at exporters / D": "no queue is full",
    "telemetry / Lost at exporters / E": "no queue is full",
    "telemetry / Lost at exporters / F": "no queue is full",
}
"""Board, panel and query that have no data here, and why that is right."""
SILENT_ALERTS: Final[dict[str, str]] = {
    "OtelAgentsCostSpike": "nothing was spent an hour or a week ago to compare with",
    "OtelAgentsNoData": "the server is heard of",
    "OtelAgentsServerBehind": "the server keeps up",
    "OtelAgentsSignalsUnread": "the server keeps up",
    "OtelAgentsStoreNearlyFull": "the store holds some megabytes",
    "OtelAgentsTargetDown": "every part of the stack is up",
    "OtelAgentsCollectorRefusing": "the collector has memory left",
    "OtelAgentsCollectorExportFailing": "every backend takes what it is sent",
    "OtelAgentsCollectorDataLost": "every backend takes what it is sent",
    "OtelAgentsCollectorQueueNearlyFull": "every backend takes what it is sent",
    "OtelAgentsCollectorRestarting": "the collector has run since the start",
    "OtelAgentsJaegerStorageFailing": "Badger is sound",
    "OtelAgentsPrometheusRuleFailures": "every rule can be worked out",
    "OtelAgentsPrometheusRemoteWriteRejecting": "no sample is too old",
    "OtelAgentsAlertmanagerNotificationsFailing": "the console takes what it is sent",
}
"""Alerts whose condition does not hold here, and why."""
EITHER: Final = {
    **dict.fromkeys(
        (
            "job_workflow:otelagents_runs_completed:grown3d",
            "job_workflow:otelagents_runs_completed:failed_grown3d",
            "job_workflow:otelagents_runs_completed:failed_ratio3d",
            "OtelAgentsErrorBudgetBurnSlow",
        ),
        "a sum over whole hours: none before the clock has struck one",
    ),
    "OtelAgentsPrometheusNotConnectedToAlertmanager": "what fires while the tests have Prometheus "
    "read its files anew is dropped",
    "OtelAgentsDiskNearlyFull": "the disk of whoever runs the tests",
}
"""Rules that may or may not have data here, and what that hangs on."""


class Asked(NamedTuple):
    """A query of a panel, as Grafana sends it."""

    board: str
    panel: str
    ref: str
    expr: str
    instant: bool
    exemplars: bool

    def __str__(self) -> str:
        """Say which it is, in the words of the tables above."""
        return f"{self.board} / {self.panel} / {self.ref}"


def filled(text: str, board: dict[str, Any], **chosen: str) -> str:
    """Return a query with the board's variables as they are when it is opened, or as chosen."""
    values = {
        one["name"]: one.get("allValue") or one.get("query", "")
        for one in board["templating"]["list"]
    }
    values |= BUILT_IN | chosen
    return VARIABLE.sub(lambda found: values[found[1] or found[2] or found[3]], text)


def panels(**chosen: str) -> Iterator[Asked]:
    """Return every query of every panel of every board, for what is chosen on it."""
    for path in sorted((GENERATED / "dashboards").glob("*.json")):
        board = json.loads(path.read_text("utf-8"))
        for panel in board["panels"]:
            for one in (panel, *panel.get("panels", ())):
                for target in one.get("targets", ()):
                    yield Asked(
                        path.stem, one["title"], target["refId"],
                        filled(target["expr"], board, **chosen), bool(target.get("instant")),
                        bool(target.get("exemplar")),
                    )  # fmt: skip


def rules(name: str) -> list[dict[str, Any]]:
    """Return the generated rules of a file."""
    document = yaml.safe_load((GENERATED / "rules" / f"{name}.yml").read_text("utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


PANELS: Final = list(panels())
RECORDING: Final = rules("recording")
ALERTS: Final = rules("alerts")


def ask(backends: Backends, path: str, **query: Any) -> list[dict[str, Any]]:
    """Return what Prometheus answers; what it says of a wrong query is the test's failure."""
    url = f"{backends.stack.prometheus}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - loopback only
            data = json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        pytest.fail(f"{query}: {error.read().decode()}")
    found: list[dict[str, Any]] = data["result"] if isinstance(data, dict) else data
    return found


def has_data(backends: Backends, expr: str, *, instant: bool = True, step: int = STEP) -> bool:
    """Say whether a query gives a number, now or at some time that is shown."""
    if instant:
        found = [one["value"] for one in ask(backends, "query", query=expr)]
    else:
        now = time.time()
        times = {"start": now - SHOWN_SECONDS, "end": now, "step": step}
        series = ask(backends, "query_range", query=expr, **times)
        found = [value for one in series for value in one["values"]]
    return any(not math.isnan(float(value)) for _, value in found)


@pytest.fixture(scope="module")
def lit(backends: Backends, hurried: Stack, shown: Shown) -> Shown:
    """Wait until the example is over, and the worker's death and all counts are in Prometheus."""
    for told in shown.examples.values():
        assert told.process.wait(120) == 0
    # What the fault run does last, what its children tell, and what is made of all that.
    wanted = [
        *(
            f'otelagents_runs_completed_total{{job="{told.service}"}}'
            for told in shown.examples.values()
        ),
        f'otelagents_telemetry_dropped_total{{job="{shown.faults}"}}',
        f'otelagents_checkpoints_total{{job="{shown.faults}", result="error"}}',
        f'otelagents_runs_completed_total{{job="{shown.guarded}", result="succeeded"}}',
        'otelagents_instrumentation_missing{target=~"trouble.+"}',
        *(rule["record"] for rule in RECORDING if rule["record"] not in EITHER),
    ]
    known = [f"present_over_time({one}[{RANGE}])" for one in wanted]
    known.append(f"max_over_time(otelagents_server_worker_heartbeat_age_seconds[{RANGE}]) > 60")
    # Jaeger's services are asked for over and over: how long it takes is on a panel.
    assert backends.eventually(
        lambda: backends.services() and all(map(backends.query, known)), seconds=120
    )
    return shown


@pytest.mark.parametrize("asked", PANELS, ids=str)
def test_a_panel_shows_data_or_is_known_to_be_empty(
    backends: Backends, lit: Shown, asked: Asked
) -> None:
    """Prometheus takes the panel's query, and has data for it unless a reason says why not."""
    found = has_data(backends, asked.expr, instant=asked.instant)
    reason = EMPTY_PANELS.get(str(asked))
    assert found == (reason is None), asked.expr


@pytest.mark.parametrize("rule", RECORDING, ids=lambda rule: rule["record"])
def test_a_recording_rule_records(backends: Backends, lit: Shown, rule: dict[str, Any]) -> None:
    """Prometheus takes the rule, has worked it out, and has what it records."""
    ask(backends, "query", query=rule["expr"])
    found = has_data(backends, rule["record"], instant=False)
    assert found or rule["record"] in EITHER, rule["expr"]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_has_its_fault(backends: Backends, lit: Shown, rule: dict[str, Any]) -> None:
    """The condition of each alert holds in the fault run, unless a reason says why not."""
    reason = SILENT_ALERTS.get(rule["alert"])
    found = has_data(backends, rule["expr"], instant=reason is not None, step=ALERT_STEP)
    assert found == (reason is None) or rule["alert"] in EITHER, rule["expr"]


def test_no_reason_is_of_something_that_is_no_more() -> None:
    """Each reason is of a panel, rule or alert that there is."""
    alerts = {rule["alert"] for rule in ALERTS}
    assert {path.stem for path in (GENERATED / "dashboards").glob("*.json")} == BOARDS
    assert EMPTY_PANELS.keys() <= set(map(str, PANELS))
    assert SILENT_ALERTS.keys() <= alerts
    assert set(EITHER) <= alerts | {rule["record"] for rule in RECORDING}


# --- the faults


def listed() -> dict[str, dict[str, list[str]]]:
    """Return what the fault run says of its faults: the panels and the alerts of each."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, EXAMPLES / "faults" / "app.py", "--list"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    found: dict[str, dict[str, list[str]]] = {}
    fault: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        name, _, said = line.strip().partition(": ")
        if line.startswith(" "):
            fault[name] = said.split("; ")
        else:
            fault = found[name] = {"panels": [], "alerts": []}
    return found


FAULTS: Final = listed()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_lights_the_panels_that_it_names(
    backends: Backends, lit: Shown, fault: str
) -> None:
    """On each panel that the fault run names for a fault there is more than nothing of it."""
    assert FAULTS[fault]["panels"]
    for name in FAULTS[fault]["panels"]:
        queries = [one for one in panels(job=lit.faults) if f"{one.board} / {one.panel}" == name]
        assert queries, name
        assert any(
            has_data(backends, f"({one.expr}) != 0", instant=one.instant) for one in queries
        ), name


def test_each_alert_that_a_program_can_set_off_has_a_fault() -> None:
    """What the fault run says that it sets off is what holds here, and the cost's spike."""
    set_off = {f"OtelAgents{alert}" for fault in FAULTS.values() for alert in fault["alerts"]}
    lit = {rule["alert"] for rule in ALERTS} - SILENT_ALERTS.keys()
    assert lit - EITHER.keys() <= set_off <= lit | {"OtelAgentsCostSpike"}


# --- the figures


def figure(backends: Backends, title: str, **chosen: str) -> float:
    """Return the number of a panel, `board / panel / query`, for what is chosen above it."""
    (panel,) = (one for one in panels(**chosen) if str(one) == title and one.instant)
    ((_, value),) = (one["value"] for one in ask(backends, "query", query=panel.expr))
    return float(value)


def table(backends: Backends, title: str, label: str, **chosen: str) -> dict[str, float]:
    """Return the numbers of a panel by a label, over the whole time that is shown."""
    (panel,) = (one for one in panels(**chosen, __interval=RANGE) if str(one) == title)
    found = ask(backends, "query", query=panel.expr)
    return {one["metric"].get(label, ""): float(one["value"][1]) for one in found}


@pytest.fixture(params=PROFILES)
def told(request: pytest.FixtureRequest, backends: Backends, lit: Shown) -> dict[str, Any]:
    """What `otel-agents status --json` says of the example's run, in each profile, and its job."""
    run = lit.examples[request.param]
    done = subprocess.run(  # noqa: S603 - ourselves
        [
            sys.executable, "-m", "otel_agents.cli", "status", "--json", "--run-id", run.run_id,
            "--server", backends.stack.console,
        ],
        env={**os.environ, "OTEL_AGENTS_TOKEN": backends.stack.viewer_token},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return {**json.loads(done.stdout)["data"], "job": run.service}


def test_the_boards_show_the_cost_of_the_run(backends: Backends, told: dict[str, Any]) -> None:
    """Cost in all, by phase and on two boards is that of the status, to the cent and beyond."""
    job = told["job"]
    cost = pytest.approx(told["cost_usd"], rel=1e-9)
    phases = {one["name"]: one["cost_usd"] for one in told["phases"] if one["cost_usd"]}

    assert told["cost_usd"] > 0
    assert figure(backends, "cost / Cost / A", job=job) == cost
    assert figure(backends, "fleet / Cost / A", job=job) == cost
    by_phase = table(backends, "cost / Cost by phase / A", "phase", job=job)
    assert {name: value for name, value in by_phase.items() if value} == pytest.approx(phases)


def test_the_boards_show_the_tokens_of_the_run(backends: Backends, told: dict[str, Any]) -> None:
    """Tokens in all and by type are those of the status, to the token."""
    used = told["usage"]
    cached = used["cache_read_tokens"]
    by_type = table(backends, "cost / Tokens by type / A", "type", job=told["job"])

    assert figure(backends, "cost / Tokens / A", job=told["job"]) == used["total_tokens"]
    assert {name: value for name, value in by_type.items() if value} == {
        "input": used["input_tokens"] - cached,
        "cache_read": cached,
        "output": used["output_tokens"],
    }
    assert figure(backends, "cost / Input from cache / A", job=told["job"]) == pytest.approx(
        cached / used["input_tokens"]
    )


def test_the_boards_count_runs_as_the_server_does(backends: Backends, lit: Shown) -> None:
    """Runs started and ended by result, of the example and of failing runs, are the server's."""
    workflows = ("logbook", "failing", "late", "cancelled")
    runs = [run for run in backends.served("/api/runs") if run["workflow"] in workflows]
    ended = table(
        backends, "fleet / Runs ended by result / A", "result", workflow="|".join(workflows)
    )
    started = figure(backends, "fleet / Runs started / A", workflow="|".join(workflows))

    assert started == len(runs)
    assert ended == Counter(run["status"] for run in runs)
    assert ended.keys() == {"succeeded", "failed", "canceled"}


def test_an_exemplar_of_a_panel_leads_to_its_trace(
    backends: Backends, told: dict[str, Any]
) -> None:
    """The diamond on the run's duration is the run's own trace, and Jaeger has it."""
    (panel,) = (one for one in panels(job=told["job"]) if str(one) == "fleet / Run duration / A")
    found = backends.eventually(lambda: backends.exemplars(panel.expr))
    ids = {point["labels"]["trace_id"] for one in found for point in one["exemplars"]}
    (trace_id,) = ids
    spans = trace(backends, trace_id)
    tags = [{tag["key"]: tag["value"] for tag in span["tags"]} for span in spans]

    assert panel.exemplars
    assert {one["otelagents.run.id"] for one in tags} == {told["run_id"]}


def test_the_boards_offer_the_programs_to_choose_from(backends: Backends, lit: Shown) -> None:
    """Each board's variable `job` lists every program that has told of something."""
    services = {lit.faults, lit.guarded, *(told.service for told in lit.examples.values())}
    for path in (GENERATED / "dashboards").glob("*.json"):
        board = json.loads(path.read_text("utf-8"))
        (asked,) = (one for one in board["templating"]["list"] if one["name"] == "job")
        query = asked["query"] if isinstance(asked["query"], str) else asked["query"]["query"]
        selector = query.removeprefix("label_values(").rpartition(", job)")[0]
        found = ask(backends, "label/job/values", **{"match[]": selector})
        assert services <= set(map(str, found))
        assert not {"collector", "prometheus"} & set(map(str, found))
