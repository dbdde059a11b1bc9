"""The alerts, as rule groups of Prometheus: `python -m dashboards` writes them down.

Facts that outlive a process (a run that is stuck or lost, a worker that is gone) are asked of the
server's gauges; what programs count is asked by `promql.grown`. Numbers stand in `thresholds`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dashboards.alerts_agents import AGENTS, WORKERS
from dashboards.alerts_runs import MONEY, RUNS
from dashboards.alerts_stack import STACK, TELEMETRY
from dashboards.thresholds import INTERVAL

if TYPE_CHECKING:
    from dashboards.alerting import Alert

_GROUPS: Final[dict[str, tuple[Alert, ...]]] = {
    "otel-agents.alerts.runs": RUNS,
    "otel-agents.alerts.money": MONEY,
    "otel-agents.alerts.agents": AGENTS,
    "otel-agents.alerts.workers": WORKERS,
    "otel-agents.alerts.telemetry": TELEMETRY,
    "otel-agents.alerts.stack": STACK,
}
ALERTS: Final = tuple(alert for group in _GROUPS.values() for alert in group)


def document(console: str, grafana: str) -> dict[str, Any]:
    """Return the rule groups as Prometheus reads them.

    Args:
        console: The base address of the otel-agents console, which has the runbooks.
        grafana: The base address of Grafana, which has the boards.

    """
    return {
        "groups": [
            {
                "name": name,
                "interval": INTERVAL,
                "rules": [alert.rule(console, grafana) for alert in group],
            }
            for name, group in _GROUPS.items()
        ]
    }
