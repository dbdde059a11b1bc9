"""The KPIs of a run as tiles: what each is called, what it came to and what that is made of."""

from __future__ import annotations

from typing import Any, NamedTuple

from otel_agents.server.pages import KPI_TILES
from otel_agents.server.pages_text import count, duration, percent, plural, usd


class Tile(NamedTuple):
    """One KPI; `value` is None where there is nothing to count."""

    value: str | None
    unit: str
    note: str
    word: str
    icon: str


def tiles(kpis: dict[str, Any] | None) -> list[Tile]:
    """Return the tiles in their order; none where the KPIs are not known."""
    if kpis is None:
        return []
    counts = kpis["counts"]
    return [Tile(*_said(name, kpis[name], counts), word, icon) for name, word, icon in KPI_TILES]


def _said(name: str, value: float | None, counts: dict[str, Any]) -> tuple[str | None, str, str]:
    if value is None:
        unpriced = counts["unpriced_agents"] if name == "cost_per_feature" else 0
        return None, "", f"{plural(unpriced, 'attempt')} of unknown cost" if unpriced else ""
    match name:
        case "agent_utilization":
            spans = duration(counts["active_seconds"]), duration(counts["window_seconds"])
            return percent(value), "", " of ".join(spans)
        case "cost_per_feature":
            features = plural(counts["features_completed"], "feature")
            return usd(value), "", f"{usd(counts['total_cost_usd'])} for {features}"
        case "average_retry_count":
            retries = "1 retry" if counts["retries"] == 1 else f"{count(counts['retries'])} retries"
            return f"{value:.3g}", "per task", f"{retries} of {plural(counts['tasks'], 'task')}"
        case "critic_rejection_rate":
            decisions = plural(counts["critic_decisions"], "decision")
            return percent(value), "", f"{count(counts['critic_rejections'])} of {decisions}"
        case "validation_pass_rate":
            validations = plural(counts["validations"], "validation")
            return percent(value), "", f"{count(counts['validations_passed'])} of {validations}"
        case _:
            return duration(value), "", f"mean of {plural(counts['tasks_completed'], 'task')}"
