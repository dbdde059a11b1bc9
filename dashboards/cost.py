"""The board Cost and tokens: what is spent, on what, for what, and what of it in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dashboards import variables
from dashboards.board import Row, board
from dashboards.links import column, label, of_agent, to_console
from dashboards.over_time import bars, lines
from dashboards.panels import stat_panel
from dashboards.promql import grown, now, ratio
from dashboards.questions import BAR, RANGE, RECENT, Query
from dashboards.style import LOW
from dashboards.tables import Column, table_panel
from dashboards.variables import JOB, OF_AGENT
from otel_agents.vocabulary import (
    BUDGET_EVENTS,
    BUDGET_LIMIT,
    BUDGET_USAGE,
    BUDGET_UTILIZATION,
    COST,
    KPI_METRICS,
    MODEL_CALLS,
    RUNS_COMPLETED,
    TOKENS,
    TOKENS_UNPRICED,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from grafana_foundation_sdk.models.dashboard import Panel

    from dashboards.links import Links
    from dashboards.style import Steps
    from otel_agents.vocabulary import Metric

_DOLLARS: Final = "currencyUSD"
_ALL_AGENTS: Final = "Of all agents of the chosen programs."
_BUDGET_STEPS: Final[Steps] = ((0.8, "orange"), (1, "red"))


def build(links: Links) -> dict[str, Any]:
    """Return the board as Grafana's JSON."""
    return board(
        "cost",
        "Cost and tokens",
        "Money and tokens: over time, cached, unpriced, wasted, for each result, by budget.",
        [
            Row("At a glance", _glance()),
            Row("Money", _money()),
            Row("Tokens", _tokens()),
            Row("What it was for", _purpose()),
            Row("Budgets", _budgets()),
        ],
        links,
        chosen=[variables.agent()],
    )


def _cached(window: str, by: Iterable[str] = ()) -> str:
    """Return the share of input tokens that came from the cache."""
    kept = tuple(by)
    read = {**OF_AGENT, "type": "cache_read"}
    every = {**OF_AGENT, "type": "=~input|cache_read|cache_write"}
    return ratio(
        grown(TOKENS, window, by=kept, where=read), grown(TOKENS, window, by=kept, where=every)
    )


def _wasted(window: str, by: Iterable[str] = ()) -> str:
    return grown(COST, window, by=by, where={**OF_AGENT, "result": "!~success|"})


def _for_each_success(window: str) -> str:
    succeeded = {**JOB, "result": "succeeded"}
    return (
        f"{grown(COST, window, where=JOB)} / ({grown(RUNS_COMPLETED, window, where=succeeded)} > 0)"
    )


def _glance() -> list[Panel]:
    tokens = grown(TOKENS, RANGE, where=OF_AGENT)
    return [
        stat_panel(
            "Cost", "Money spent within the time shown, where the price is known.", _DOLLARS,
            grown(COST, RANGE, where=OF_AGENT),
        ),
        stat_panel(
            "Tokens", "Tokens billed within the time shown, cached ones included.", "short", tokens
        ),
        stat_panel(
            "Input from cache",
            "Share of the input tokens within the time shown that the provider read from its "
            "cache.",
            "percentunit", _cached(RANGE), steps=((LOW, "orange"), (0.2, "text"), (0.5, "green")),
            nothing="No tokens",
        ),
        stat_panel(
            "Unpriced share",
            "Share of the tokens within the time shown whose model has no known price: their cost "
            "is missing in every sum here.",
            "percentunit", ratio(grown(TOKENS_UNPRICED, RANGE, where=OF_AGENT), tokens),
            steps=((0.001, "orange"), (0.1, "red")), nothing="No tokens",
        ),
        stat_panel(
            "Wasted",
            "Share of the cost within the time shown that went into answers that were refused, cut "
            "short or came with an error, and so were asked for again or lost.",
            "percentunit", ratio(_wasted(RANGE), grown(COST, RANGE, where=OF_AGENT)),
            steps=((0.1, "orange"), (0.3, "red")), nothing="No cost",
        ),
        stat_panel(
            "Cost of a success",
            "Money spent within the time shown, failed runs included, for each run that succeeded. "
            f"{_ALL_AGENTS}",
            _DOLLARS, _for_each_success(RANGE), nothing="No success",
        ),
    ]  # fmt: skip


def _money() -> list[Panel]:
    def spent(by: str) -> Query:
        return Query(grown(COST, BAR, by=[by], where=OF_AGENT), f"{{{{{by}}}}}")

    return [
        bars("Cost by model", "Money spent in each bar, by the model that answered.", _DOLLARS,
             spent("model")),
        bars("Cost by agent", "Money spent in each bar; without a name: outside of any agent.",
             _DOLLARS, spent("agent"), links=of_agent(label("agent"))),
        bars("Cost by phase", "Money spent in each bar; without a name: outside of any phase.",
             _DOLLARS, spent("phase")),
        table_panel(
            "Models", "What each model cost and did within the time shown.",
            {"model": "Model", "provider": "Provider"},
            [
                Column("Cost", grown(COST, RANGE, by=["model", "provider"], where=OF_AGENT),
                       _DOLLARS),
                Column("Tokens", grown(TOKENS, RANGE, by=["model", "provider"], where=OF_AGENT)),
                Column("From cache", _cached(RANGE, ["model", "provider"]), "percentunit"),
                Column(
                    "Without a price",
                    grown(TOKENS_UNPRICED, RANGE, by=["model", "provider"], where=OF_AGENT),
                    "short", ((1, "orange"),),
                ),
            ],
            sort="Cost", width=12,
        ),
        table_panel(
            "Agents", "What each agent cost and asked within the time shown.",
            {"agent": "Agent"},
            [
                Column("Cost", grown(COST, RANGE, by=["agent"], where=OF_AGENT), _DOLLARS),
                Column("Wasted", _wasted(RANGE, ["agent"]), _DOLLARS),
                Column("Tokens", grown(TOKENS, RANGE, by=["agent"], where=OF_AGENT)),
                Column("Model calls", grown(MODEL_CALLS, RANGE, by=["agent"], where=OF_AGENT)),
            ],
            sort="Cost", width=12, links=of_agent(column("Agent")),
        ),
    ]  # fmt: skip


def _tokens() -> list[Panel]:
    return [
        bars(
            "Tokens by type",
            "Tokens billed in each bar. The types do not overlap; input is what was not cached.",
            "short", Query(grown(TOKENS, BAR, by=["type"], where=OF_AGENT), "{{type}}"),
        ),
        lines(
            "Input from cache by model",
            "Share of the input tokens of late that the provider read from its cache.",
            "percentunit", Query(_cached(RECENT, ["model"]), "{{model}}"), most=1,
        ),
        bars(
            "Tokens without a price",
            "Tokens in each bar of models whose price is not known; set one under [prices].",
            "short", Query(grown(TOKENS_UNPRICED, BAR, by=["model"], where=OF_AGENT), "{{model}}"),
            nothing="Every price is known",
        ),
    ]  # fmt: skip


def _purpose() -> list[Panel]:
    return [
        bars(
            "Wasted by result",
            "Money spent in each bar on answers that were not accepted, by what came of them.",
            _DOLLARS, Query(_wasted(BAR, ["result"]), "{{result}}"), nothing="Nothing was wasted",
        ),
        lines(
            "Cost of a successful run",
            f"Money spent over six hours for each run that succeeded in them. {_ALL_AGENTS}",
            _DOLLARS, Query(_for_each_success("6h"), "over 6 h"),
        ),
        lines(
            "Cost of a feature",
            "What the programs reckon themselves: money spent for each feature completed since "
            f"each started, on average over them. {_ALL_AGENTS}",
            _DOLLARS,
            Query(now(KPI_METRICS["cost_per_feature"], by=["job"], where=JOB, how="avg"),
                  "{{job}}"),
            nothing="No feature completed",
        ),
    ]  # fmt: skip


def _budgets() -> list[Panel]:
    def most(metric: Metric) -> str:
        return now(metric, by=["budget", "unit"], where=JOB, how="max")

    return [
        lines(
            "Budget burn",
            "Share that is spent of each budget, while what it is for is under way; of several of "
            f"one name the most spent. Where its line would cross 1 the budget ends. {_ALL_AGENTS}",
            "percentunit", Query(most(BUDGET_UTILIZATION), "{{budget}} ({{unit}})"),
            steps=_BUDGET_STEPS, nothing="No budget is set",
        ),
        table_panel(
            "Budgets", f"Limits and what is spent of them, in the budget's unit. {_ALL_AGENTS}",
            {"budget": "Budget", "unit": "Unit"},
            [
                Column("Limit", most(BUDGET_LIMIT)),
                Column("Used", most(BUDGET_USAGE)),
                Column("Share", most(BUDGET_UTILIZATION), "percentunit", _BUDGET_STEPS),
            ],
            sort="Share", width=8, nothing="No budget is set",
            links=[to_console("Runs in the console", "/runs")],
        ),
        bars(
            "Budgets nearly or wholly spent",
            f"A bar counts what the programs told in it. {_ALL_AGENTS}",
            "short",
            Query(grown(BUDGET_EVENTS, BAR, by=["budget", "unit", "level"], where=JOB),
                  "{{budget}} ({{unit}}): {{level}}"),
        ),
    ]  # fmt: skip
