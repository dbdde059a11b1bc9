"""The board Run: what the runs of a workflow spend their time on, and what stops them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dashboards import variables
from dashboards.board import Row, board
from dashboards.known import oldest
from dashboards.links import column, label, of_workflow
from dashboards.over_time import bars, heat, lines
from dashboards.panels import pie, ranking, stat_panel
from dashboards.promql import grown, mean, now, quantile, ratio
from dashboards.questions import BAR, QUANTILES, RANGE, RECENT, Query, quantiles
from dashboards.style import LOW, SUCCEEDED
from dashboards.tables import Column, table_panel
from dashboards.thresholds import OBJECTIVE, THRESHOLDS
from dashboards.variables import JOB, OF_WORKFLOW
from otel_agents.server_vocabulary import HUMAN_WAIT
from otel_agents.vocabulary import (
    DELIVERIES,
    GATE_CHECKS,
    HITL_ESCALATIONS,
    HITL_WAIT_DURATION,
    HITL_WAITING,
    ITERATION_DURATION,
    ITERATIONS,
    PHASE_DURATION,
    RUN_DURATION,
    RUNS_COMPLETED,
    VALIDATIONS,
)

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Panel

    from dashboards.links import Links

_WAITED: Final = THRESHOLDS["HitlWaitingLong"].value
_PASS_LOW: Final = THRESHOLDS["ValidationPassLow"].value
_NO_WORKFLOW: Final = "Of all workflows: this metric is not split by them."


def build(links: Links) -> dict[str, Any]:
    """Return the board as Grafana's JSON."""
    return board(
        "run",
        "Run",
        "Runs of the chosen workflows: durations, iterations, phases, checks, waits for humans.",
        [
            Row("At a glance", _glance()),
            Row("Runs and iterations", _runs()),
            Row("Phases", _phases()),
            Row("Checks and deliveries", _checks()),
            Row("Humans", _humans()),
        ],
        links,
        chosen=[variables.workflow()],
    )


def _glance() -> list[Panel]:
    ended = {**OF_WORKFLOW, "result": "=~succeeded|failed"}
    succeeded = {**OF_WORKFLOW, "result": "succeeded"}
    runs = grown(RUNS_COMPLETED, RANGE, where=OF_WORKFLOW)
    return [
        stat_panel("Runs ended", "Runs ended within the time shown, in any way.", "short", runs),
        stat_panel(
            "Succeeded",
            "Share of the runs ended within the time shown that succeeded; cancelled ones aside.",
            "percentunit",
            ratio(
                grown(RUNS_COMPLETED, RANGE, where=succeeded),
                grown(RUNS_COMPLETED, RANGE, where=ended),
            ),
            steps=SUCCEEDED, nothing="No runs",
        ),
        stat_panel(
            "Duration p50", "Half of the runs within the time shown took no longer.", "s",
            quantile(0.5, RUN_DURATION, RANGE, where=OF_WORKFLOW), nothing="No runs",
        ),
        stat_panel(
            "Duration p95", "19 of 20 runs within the time shown took no longer.", "s",
            quantile(0.95, RUN_DURATION, RANGE, where=OF_WORKFLOW), nothing="No runs",
        ),
        stat_panel(
            "Iterations a run", "Iterations ended for each run ended, within the time shown.",
            "short", f"{grown(ITERATIONS, RANGE, where=OF_WORKFLOW)} / ({runs} > 0)",
            nothing="No runs",
        ),
        stat_panel(
            "Waiting for humans", "Waits under way now, as the programs count them.", "short",
            now(HITL_WAITING, where=OF_WORKFLOW), steps=((1, "orange"),),
        ),
    ]  # fmt: skip


def _runs() -> list[Panel]:
    return [
        lines(
            "Run duration",
            "How long runs took that ended of late, without what they waited for humans. The "
            "diamonds are single runs: a click leads to the trace.",
            "s",
            *quantiles(
                {name: quantile(share, RUN_DURATION, RECENT, where=OF_WORKFLOW)
                 for share, name in QUANTILES},
                exemplars=True,
            ),
        ),
        heat(
            "Run durations spread",
            "How many runs took how long. A column counts what ended in it.",
            grown(RUN_DURATION, BAR, by=["le"], part="bucket", where=OF_WORKFLOW), width=8,
        ),
        lines(
            "Iteration duration p95",
            "19 of 20 iterations that ended of late took no longer, by workflow.",
            "s",
            Query(
                quantile(0.95, ITERATION_DURATION, RECENT, by=["workflow"], where=OF_WORKFLOW),
                "{{workflow}}", exemplars=True,
            ),
            links=of_workflow(label("workflow")),
        ),
        table_panel(
            "Workflows",
            "Runs and iterations within the time shown. The name leads to traces and console.",
            {"workflow": "Workflow"},
            [
                Column("Runs", grown(RUNS_COMPLETED, RANGE, by=["workflow"], where=OF_WORKFLOW)),
                Column("Mean", mean(RUN_DURATION, RANGE, by=["workflow"], where=OF_WORKFLOW), "s"),
                Column(
                    "Iterations", grown(ITERATIONS, RANGE, by=["workflow"], where=OF_WORKFLOW)
                ),
                Column(
                    "Iteration p50",
                    quantile(0.5, ITERATION_DURATION, RANGE, by=["workflow"], where=OF_WORKFLOW),
                    "s",
                ),
            ],
            sort="Mean", width=12, links=of_workflow(column("Workflow")),
        ),
        bars(
            "Iterations ended by result", "A bar counts the iterations that ended in it.", "short",
            Query(grown(ITERATIONS, BAR, by=["result"], where=OF_WORKFLOW), "{{result}}"),
            width=12,
        ),
    ]  # fmt: skip


def _phases() -> list[Panel]:
    def phases(window: str, part: str) -> str:
        return grown(PHASE_DURATION, window, by=["phase"], part=part, where=OF_WORKFLOW)

    return [
        pie(
            "Where the time goes",
            "Time spent in each phase that ended within the time shown, waits for humans left out. "
            "Phases inside of phases count in both.",
            "s", Query(phases(RANGE, "sum"), "{{phase}}"),
        ),
        lines(
            "Phase duration p95", "19 of 20 phases that ended of late took no longer.", "s",
            Query(
                quantile(0.95, PHASE_DURATION, RECENT, by=["phase"], where=OF_WORKFLOW),
                "{{phase}}", exemplars=True,
            ),
        ),
        table_panel(
            "Phases", "Phases that ended within the time shown.",
            {"phase": "Phase"},
            [
                Column("Times", phases(RANGE, "count")),
                Column(
                    "Not succeeded",
                    ratio(
                        grown(
                            PHASE_DURATION, RANGE, by=["phase"], part="count",
                            where={**OF_WORKFLOW, "result": "=~failure|error|timeout"},
                        ),
                        phases(RANGE, "count"),
                    ),
                    "percentunit", ((1 - OBJECTIVE, "orange"),),
                ),
                Column("Mean", mean(PHASE_DURATION, RANGE, by=["phase"], where=OF_WORKFLOW), "s"),
            ],
            sort="Mean", width=8,
        ),
    ]  # fmt: skip


def _checks() -> list[Panel]:
    return [
        ranking(
            "Gates passed",
            f"Share of the checks within the time shown that were passed. {_NO_WORKFLOW}",
            "percentunit",
            Query(
                ratio(
                    grown(GATE_CHECKS, RANGE, by=["gate"], where={**JOB, "result": "success"}),
                    grown(GATE_CHECKS, RANGE, by=["gate"], where=JOB),
                ),
                "{{gate}}",
            ),
            most=1, steps=((LOW, "red"), (0.5, "orange"), (0.9, "green")),
            nothing="No gate was checked",
        ),
        ranking(
            "Validations passed",
            "Share of the validations within the time shown that were passed; red below what an "
            f"alert fires at. {_NO_WORKFLOW}",
            "percentunit",
            Query(
                ratio(
                    grown(VALIDATIONS, RANGE, by=["name"], where={**JOB, "result": "success"}),
                    grown(VALIDATIONS, RANGE, by=["name"], where=JOB),
                ),
                "{{name}}",
            ),
            most=1, steps=((LOW, "red"), (_PASS_LOW, "orange"), (0.8, "green")),
            nothing="Nothing was validated",
        ),
        bars(
            "Deliveries by result", f"A bar counts the deliveries made in it. {_NO_WORKFLOW}",
            "short", Query(grown(DELIVERIES, BAR, by=["result"], where=JOB), "{{result}}"),
        ),
    ]  # fmt: skip


def _humans() -> list[Panel]:
    return [
        bars(
            "Humans asked", "A bar counts the times that a run asked for a human in it.", "short",
            Query(grown(HITL_ESCALATIONS, BAR, by=["workflow"], where=OF_WORKFLOW),
                  "{{workflow}}"),
            links=of_workflow(label("workflow")),
        ),
        lines(
            "Wait for humans",
            "How long waits took that ended of late. This is no time of an agent's or model's.",
            "s",
            *quantiles(
                {name: quantile(share, HITL_WAIT_DURATION, RECENT, where=OF_WORKFLOW)
                 for share, name in QUANTILES[:2]},
            ),
            nothing="No wait has ended",
        ),
        ranking(
            "Oldest wait for a human",
            "How long the oldest wait of each workflow is by now; red: an alert. As the server "
            "knows, of all programs.",
            "s", Query(f"{oldest(HUMAN_WAIT, by=['workflow'])} > 0", "{{workflow}}"),
            steps=((_WAITED / 2, "orange"), (_WAITED, "red")), nothing="Nobody is waited for",
            links=of_workflow(label("workflow")),
        ),
    ]  # fmt: skip
