"""The board Fleet: how all programs do, at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dashboards import variables
from dashboards.board import Row, board
from dashboards.known import known, oldest
from dashboards.links import column, label, of_agent, of_workflow
from dashboards.over_time import bars, lines
from dashboards.panels import alert_list, ranking, stat_panel
from dashboards.promql import grown, now, quantile, ratio
from dashboards.questions import BAR, QUANTILES, RANGE, RECENT, Query, quantiles
from dashboards.style import LOW, SUCCEEDED
from dashboards.tables import Column, table_panel
from dashboards.thresholds import OBJECTIVE, THRESHOLDS
from dashboards.variables import OF_WORKFLOW
from otel_agents.server_vocabulary import RUN_SILENCE, SERVER_ALERTS, SERVER_RUNS
from otel_agents.vocabulary import (
    AGENT_ACTIVE,
    COST,
    RUN_ACTIVE,
    RUN_DURATION,
    RUNS_COMPLETED,
    RUNS_STARTED,
    TOKENS,
)

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Panel

    from dashboards.links import Links

_SERVER_KNOWS: Final = "As the server knows, of all programs; the choice above does not count."
_BUDGET: Final = 1 - OBJECTIVE
_FAILED_TOO_MANY: Final = THRESHOLDS["RunFailureRate"].value
_STUCK: Final = THRESHOLDS["RunStuck"].value
# A cancelled run is neither a success nor a failure.
_ENDED: Final = {**OF_WORKFLOW, "result": "=~succeeded|failed"}
_FAILED: Final = {**OF_WORKFLOW, "result": "failed"}
_SUCCEEDED: Final = {**OF_WORKFLOW, "result": "succeeded"}


def build(links: Links) -> dict[str, Any]:
    """Return the board as Grafana's JSON."""
    return board(
        "fleet",
        "Fleet",
        "All programs at a glance: runs, failures, durations, money, alerts.",
        [
            Row("At a glance", _glance()),
            Row("Runs", _runs()),
            Row("Error budget and alerts", _budget()),
            Row("Agents and money", _agents()),
        ],
        links,
        chosen=[variables.workflow()],
    )


def _failures(window: str) -> str:
    """Return the share of all runs ended that failed, as the alerts on the error budget do."""
    return ratio(
        grown(RUNS_COMPLETED, window, where=_FAILED),
        grown(RUNS_COMPLETED, window, where=OF_WORKFLOW),
    )


def _glance() -> list[Panel]:
    succeeded = grown(RUNS_COMPLETED, RANGE, where=_SUCCEEDED)
    return [
        stat_panel(
            "Runs started", "Runs started within the time shown.", "short",
            grown(RUNS_STARTED, RANGE, where=OF_WORKFLOW),
        ),
        stat_panel(
            "Under way",
            "Runs under way now, as the programs count them. A killed program's count for up to "
            "five minutes more.",
            "short", now(RUN_ACTIVE, where=OF_WORKFLOW),
        ),
        stat_panel(
            "Succeeded",
            "Share of the runs ended within the time shown that succeeded; cancelled ones aside. "
            f"Green from the objective of {OBJECTIVE:.0%} on.",
            "percentunit",
            ratio(succeeded, grown(RUNS_COMPLETED, RANGE, where=_ENDED)),
            steps=SUCCEEDED, nothing="No runs",
        ),
        stat_panel(
            "Duration p95",
            "19 of 20 runs that ended within the time shown took no longer.",
            "s", quantile(0.95, RUN_DURATION, RANGE, where=OF_WORKFLOW), nothing="No runs",
        ),
        stat_panel(
            "Cost",
            "Money spent within the time shown, where the price is known, by all workflows of the "
            "chosen programs.",
            "currencyUSD", grown(COST, RANGE, where=variables.JOB),
        ),
        stat_panel(
            "Alerts firing", f"Alerts that fire now. {_SERVER_KNOWS}", "short",
            known(SERVER_ALERTS),
            steps=((1, "red"),),
        ),
    ]  # fmt: skip


def _runs() -> list[Panel]:
    return [
        bars(
            "Runs ended by result", "How many runs ended, and how. A bar counts what ended in it.",
            "short", Query(grown(RUNS_COMPLETED, BAR, by=["result"], where=OF_WORKFLOW),
                           "{{result}}"),
        ),
        lines(
            "Run duration",
            "How long runs took that ended of late, cancelled ones too, without what they waited "
            "for humans. The diamonds are single runs: a click leads to the trace.",
            "s",
            *quantiles(
                {name: quantile(share, RUN_DURATION, RECENT, where=OF_WORKFLOW)
                 for share, name in QUANTILES},
                exemplars=True,
            ),
        ),
        lines(
            "Runs under way by workflow", "As the programs count them.", "short",
            Query(now(RUN_ACTIVE, by=["workflow"], where=OF_WORKFLOW), "{{workflow}}"),
            links=of_workflow(label("workflow")),
        ),
        table_panel(
            "Workflows, the slowest first",
            "Runs of each workflow within the time shown. The name leads to its runs and traces.",
            {"workflow": "Workflow"},
            [
                Column("Started", grown(RUNS_STARTED, RANGE, by=["workflow"], where=OF_WORKFLOW)),
                Column(
                    "Failed",
                    ratio(
                        grown(RUNS_COMPLETED, RANGE, by=["workflow"], where=_FAILED),
                        grown(RUNS_COMPLETED, RANGE, by=["workflow"], where=_ENDED),
                    ),
                    "percentunit",
                    ((_BUDGET, "orange"), (_FAILED_TOO_MANY, "red")),
                ),
                *(
                    Column(
                        name,
                        quantile(share, RUN_DURATION, RANGE, by=["workflow"], where=OF_WORKFLOW),
                        "s",
                    )
                    for share, name in QUANTILES[:2]
                ),
            ],
            sort="p95", width=12, links=of_workflow(column("Workflow")),
        ),
        lines(
            "Running, waiting, lost",
            "Runs by state; lost are those whose program fell silent without an end, for an hour "
            f"after. {_SERVER_KNOWS}",
            "short", Query(known(SERVER_RUNS, by=["state"]), "{{state}}"),
            width=6,
        ),
        ranking(
            "Quietest running run",
            "How long the quietest running run of each workflow has told of nothing but its "
            f"heartbeat. Red: an alert. {_SERVER_KNOWS}",
            "s", Query(f"{oldest(RUN_SILENCE, by=['workflow'])} > 0", "{{workflow}}"),
            width=6, steps=((_STUCK / 2, "orange"), (_STUCK, "red")),
            links=of_workflow(label("workflow")), nothing="No run is under way",
        ),
    ]  # fmt: skip


def _budget() -> list[Panel]:
    return [
        stat_panel(
            "Error budget left",
            f"Of the {_BUDGET:.0%} of runs that may fail, the share not used up within the time "
            "shown; below 0 more failed than may. Choose 30 days to see the whole budget.",
            "percentunit", f"1 - {_failures(RANGE)} / {_BUDGET:g}",
            steps=((LOW, "red"), (0, "orange"), (0.5, "green")), nothing="No runs",
        ),
        lines(
            "Burn rate",
            "How many times as fast as it may the error budget is being used up, over one hour "
            "and over six. At 1 it lasts just as long as its 30 days.",
            "none",
            Query(f"{_failures('1h')} / {_BUDGET:g}", "1 h"),
            Query(f"{_failures('6h')} / {_BUDGET:g}", "6 h"),
            width=10, steps=((1, "orange"), (6, "red")),
        ),
        alert_list(
            "Alerts",
            "Alerts of this project that fire or are about to, of all data sources that Grafana "
            "reads alerts from.",
            width=10,
        ),
    ]  # fmt: skip


def _agents() -> list[Panel]:
    return [
        lines(
            "Agents at work", "Attempts of agents under way, as the programs count them.", "short",
            Query(now(AGENT_ACTIVE, by=["agent"], where=OF_WORKFLOW), "{{agent}}"),
            links=of_agent(label("agent")),
        ),
        bars(
            "Cost by model",
            "Money spent in each bar, where the price is known. All workflows of the programs.",
            "currencyUSD",
            Query(grown(COST, BAR, by=["model"], where=variables.JOB), "{{model}}"),
        ),
        bars(
            "Tokens by type",
            "Tokens billed in each bar; the types do not overlap. All workflows of the programs.",
            "short", Query(grown(TOKENS, BAR, by=["type"], where=variables.JOB), "{{type}}"),
        ),
    ]  # fmt: skip
