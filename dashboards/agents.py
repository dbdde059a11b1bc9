"""The board Agents and tools: how busy, how fast, how often wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dashboards import variables
from dashboards.board import Row, board
from dashboards.links import column, label, of_agent
from dashboards.over_time import bars, lines
from dashboards.panels import ranking, stat_panel
from dashboards.promql import conventions, grown, grown_of, now, quantile, ratio
from dashboards.questions import BAR, QUANTILES, RANGE, RECENT, Query, quantiles
from dashboards.tables import Column, table_panel
from dashboards.thresholds import THRESHOLDS
from dashboards.variables import JOB, OF_AGENT
from otel_agents.vocabulary import (
    AGENT_ACTIVE,
    AGENT_ATTEMPTS,
    AGENT_DURATION,
    AGENT_WAIT_DURATION,
    CRITIC_DECISIONS,
    HITL_WAIT_DURATION,
    KPI_METRICS,
    MODEL_ATTEMPTS,
    MODEL_CALLS,
    MODEL_ERRORS,
    TOOL_CALLS,
    VALIDATIONS,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from grafana_foundation_sdk.models.dashboard import Panel

    from dashboards.links import Links
    from otel_agents.vocabulary import Metric

_WRONG: Final = "=~failure|error|timeout"
_RETRIES: Final = THRESHOLDS["RetryStorm"].value
_TOOLS: Final = THRESHOLDS["ToolErrorRate"].value
_SLOW: Final = THRESHOLDS["AgentLatencyHigh"].value
_REJECTED: Final = THRESHOLDS["CriticRejectionHigh"].value
_PASSED: Final = THRESHOLDS["ValidationPassLow"].value
_ALL_AGENTS: Final = "Of all agents of the chosen programs."
_MATCHERS: Final = 'job=~"$job"'
# A model as the conventions' metrics have it, in both of their generations.
_MODEL: Final = "gen_ai_request_model"


def build(links: Links) -> dict[str, Any]:
    """Return the board as Grafana's JSON."""
    return board(
        "agents",
        "Agents and tools",
        "Agents, models and tools: load, latency, errors, retries, verdicts.",
        [
            Row("At a glance", _glance()),
            Row("Agents", _agents()),
            Row("Models", _models()),
            Row("Verdicts", _verdicts()),
            Row("Tools", _tools()),
        ],
        links,
        chosen=[variables.agent()],
    )


def _share(
    metric: Metric,
    window: str,
    result: str,
    by: Iterable[str] = (),
    where: Mapping[str, str] = OF_AGENT,
) -> str:
    """Return the share of what a counter counted that had a result."""
    kept = tuple(by)
    return ratio(
        grown(metric, window, by=kept, where={**where, "result": result}),
        grown(metric, window, by=kept, where=where),
    )


def _tries(window: str, by: Iterable[str] = ()) -> str:
    kept = tuple(by)
    calls = grown(MODEL_CALLS, window, by=kept, where=OF_AGENT)
    return f"{grown(MODEL_ATTEMPTS, window, by=kept, where=OF_AGENT)} / ({calls} > 0)"


def _glance() -> list[Panel]:
    return [
        stat_panel(
            "Utilisation",
            "Share of the time in which an agent was at work, as each program reckons it since its "
            f"start, on average over programs. {_ALL_AGENTS}",
            "percentunit", now(KPI_METRICS["agent_utilization"], where=JOB, how="avg"),
            nothing="No program runs",
        ),
        stat_panel(
            "At work", "Attempts of agents under way now.", "short",
            now(AGENT_ACTIVE, where=OF_AGENT),
        ),
        stat_panel(
            "Attempts", "Attempts of agents that ended within the time shown.", "short",
            grown(AGENT_ATTEMPTS, RANGE, where=OF_AGENT),
        ),
        stat_panel(
            "Attempts gone wrong",
            "Share of the attempts within the time shown that failed, broke off with an error or "
            "took too long.",
            "percentunit", _share(AGENT_ATTEMPTS, RANGE, _WRONG),
            steps=((0.05, "orange"), (0.2, "red")), nothing="No attempts",
        ),
        stat_panel(
            "Tries a model call",
            "How often a model was asked for each question within the time shown; 1 is without "
            "retries, red is an alert.",
            "none", _tries(RANGE), steps=(((1 + _RETRIES) / 2, "orange"), (_RETRIES, "red")),
            nothing="No calls",
        ),
        stat_panel(
            "Tool calls gone wrong",
            "Share of the tool calls within the time shown that failed, broke off with an error or "
            "took too long; red is an alert.",
            "percentunit", _share(TOOL_CALLS, RANGE, _WRONG),
            steps=((_TOOLS / 2, "orange"), (_TOOLS, "red")), nothing="No calls",
        ),
    ]  # fmt: skip


def _agents() -> list[Panel]:
    def durations(share: float, window: str, by: Iterable[str] = ()) -> str:
        return quantile(share, AGENT_DURATION, window, by=by, where=OF_AGENT)

    return [
        lines(
            "Agent duration",
            "How long attempts took that ended of late, without what they waited for humans. The "
            "diamonds are single attempts: a click leads to the trace.",
            "s",
            *quantiles(
                {name: durations(share, RECENT) for share, name in QUANTILES}, exemplars=True
            ),
            steps=((_SLOW, "red"),),
        ),
        lines(
            "Agent duration p95 by agent", "19 of 20 attempts that ended of late took no longer.",
            "s", Query(durations(0.95, RECENT, ["agent"]), "{{agent}}"),
            links=of_agent(label("agent")),
        ),
        lines(
            "Active and waiting",
            "Seconds that ended in each step of the line: attempts of agents without their waits, "
            "and those waits; answers of models and (with the latest conventions) calls of tools; "
            "all waits for humans, agents' or not. Work side by side counts in full. Only the "
            "attempts and their waits follow the choice of agents.",
            "s",
            Query(grown(AGENT_DURATION, BAR, part="sum", where=OF_AGENT), "agents at work"),
            Query(grown(AGENT_WAIT_DURATION, BAR, part="sum", where=OF_AGENT), "agents waiting"),
            Query(_seconds("model_duration"), "waiting for models"),
            Query(_seconds("tool_duration"), "in tools"),
            Query(grown(HITL_WAIT_DURATION, BAR, part="sum", where=JOB), "waiting for humans"),
        ),
        table_panel(
            "Agents", "Attempts that ended within the time shown.",
            {"agent": "Agent"},
            [
                Column("Attempts", grown(AGENT_ATTEMPTS, RANGE, by=["agent"], where=OF_AGENT)),
                Column("Gone wrong", _share(AGENT_ATTEMPTS, RANGE, _WRONG, ["agent"]),
                       "percentunit", ((0.05, "orange"), (0.2, "red"))),
                *(Column(name, durations(share, RANGE, ["agent"]), "s")
                  for share, name in QUANTILES),
                Column(
                    "Waited for humans",
                    grown(AGENT_WAIT_DURATION, RANGE, by=["agent"], part="sum", where=OF_AGENT),
                    "s",
                ),
                Column("Tries a call", _tries(RANGE, ["agent"]), "none", ((_RETRIES, "red"),)),
            ],
            sort="p95", width=16, links=of_agent(column("Agent")),
        ),
        bars(
            "Attempts by result", "A bar counts the attempts that ended in it.", "short",
            Query(grown(AGENT_ATTEMPTS, BAR, by=["result"], where=OF_AGENT), "{{result}}"),
        ),
    ]  # fmt: skip


def _seconds(field: str) -> str:
    return grown_of(conventions(field, "sum", matchers=_MATCHERS), BAR)


def _conventions(share: float, field: str, by: Iterable[str]) -> str:
    """Return a quantile of a metric of the conventions, in whichever generation it is sent."""
    found = conventions(field, "bucket", matchers=_MATCHERS)
    return f"histogram_quantile({share:g}, {grown_of(found, RECENT, by=[*by, 'le'])})"


def _models() -> list[Panel]:
    return [
        lines(
            "Model call p95 by model",
            "19 of 20 answers of late took no longer, in whichever generation of the conventions "
            f"the programs send. {_ALL_AGENTS}",
            "s", Query(_conventions(0.95, "model_duration", [_MODEL]), f"{{{{{_MODEL}}}}}",
                       exemplars=True),
            width=6,
        ),
        lines(
            "Time to the first chunk",
            "Of streamed answers of late: how long until the first chunk with content, in "
            f"whichever generation of the conventions the programs send. {_ALL_AGENTS}",
            "s",
            Query(_conventions(0.5, "first_chunk", [_MODEL]), f"p50 {{{{{_MODEL}}}}}"),
            Query(_conventions(0.95, "first_chunk", [_MODEL]), f"p95 {{{{{_MODEL}}}}}"),
            width=6, nothing="Nothing was streamed",
        ),
        bars(
            "Model errors by reason",
            "A bar counts the tries that failed in it: RATE_LIMITED, TIMEOUT and so on.", "short",
            Query(grown(MODEL_ERRORS, BAR, by=["reason"], where=OF_AGENT), "{{reason}}"),
            width=6,
        ),
        lines(
            "Tries a model call by agent",
            "How often a model was asked for each question of late; above the line an alert fires.",
            "none", Query(_tries(RECENT, ["agent"]), "{{agent}}"), steps=((_RETRIES, "red"),),
            links=of_agent(label("agent")), width=6,
        ),
    ]  # fmt: skip


def _verdicts() -> list[Panel]:
    return [
        lines(
            "Critics' rejections",
            "Share of the critics' decisions of late that reject; above the line an alert fires. "
            f"{_ALL_AGENTS}",
            "percentunit",
            Query(_share(CRITIC_DECISIONS, RECENT, "failure", ["name"], JOB), "{{name}}"),
            steps=((_REJECTED, "red"),), most=1, nothing="No decisions",
        ),
        lines(
            "Validations passed",
            "Share of the validations of late that were passed; below the line an alert fires. "
            f"{_ALL_AGENTS}",
            "percentunit",
            Query(_share(VALIDATIONS, RECENT, "success", ["name"], JOB), "{{name}}"),
            steps=((_PASSED, "red"),), most=1, nothing="No validations",
        ),
        lines(
            "As the programs reckon",
            "Key figures of each program since its start, on average over programs: retries a "
            f"task, critics' rejections, validations passed. {_ALL_AGENTS}",
            "none",
            Query(_reckoned("average_retry_count"), "retries a task"),
            Query(_reckoned("critic_rejection_rate"), "critics' rejections"),
            Query(_reckoned("validation_pass_rate"), "validations passed"),
        ),
    ]  # fmt: skip


def _reckoned(name: str) -> str:
    return now(KPI_METRICS[name], where=JOB, how="avg")


def _tools() -> list[Panel]:
    return [
        bars(
            "Tool calls by tool", "A bar counts the calls that ended in it.", "short",
            Query(grown(TOOL_CALLS, BAR, by=["tool"], where=OF_AGENT), "{{tool}}"), width=12,
        ),
        ranking(
            "Tool calls gone wrong by tool",
            "Share of each tool's calls within the time shown that failed, broke off with an error "
            "or took too long; red is an alert.",
            "percentunit", Query(_share(TOOL_CALLS, RANGE, _WRONG, ["tool"]), "{{tool}}"),
            steps=((_TOOLS / 2, "orange"), (_TOOLS, "red")), most=1, width=12,
            nothing="No tool was called",
        ),
    ]  # fmt: skip
