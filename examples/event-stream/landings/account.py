"""The account of a run in words and figures, for whoever reads it in a terminal."""

from typing import Any

UNITS = {
    "agent_utilization": "of the time an agent was at work",
    "cost_per_feature": "USD for each feature completed",
    "average_retry_count": "retries a task",
    "critic_rejection_rate": "of the critic's decisions were rejections",
    "validation_pass_rate": "of the validations passed",
    "time_to_completion": "seconds from queued to done, on average",
}
_SHARES = {"agent_utilization", "critic_rejection_rate", "validation_pass_rate"}


def table(metrics: dict[str, Any]) -> str:
    """Return the KPIs as a line each, and what they are counted from."""
    lines = [f"  {name:<22}{_shown(name, metrics[name]):>10}  {UNITS[name]}" for name in UNITS]
    lines.append("")
    lines += [f"  {name:<22}{_count(value):>10}" for name, value in metrics["counts"].items()]
    return "\n".join(lines)


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if name in _SHARES else f"{value:.4f}"


def _count(value: float) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
