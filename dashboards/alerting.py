"""What an alert is, and how it is written down as a rule of Prometheus."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

from dashboards.thresholds import THRESHOLDS

PREFIX: Final = "OtelAgents"
# Templates of Prometheus, filled in when an alert fires.
NUMBER: Final = "{{ $value | humanize }}"
SHARE: Final = "{{ $value | humanizePercentage }}"
DURATION: Final = "{{ $value | humanizeDuration }}"
BYTES: Final = "{{ $value | humanize1024 }}B"
_UNITS: Final = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))

Severity = Literal["critical", "warning", "info"]
Board = Literal["fleet", "run", "cost", "agents", "workers", "telemetry"]


class Alert(NamedTuple):
    """One alert: `labels` are those of its expression that the link to its board may hand on."""

    name: str
    severity: Severity
    board: Board
    labels: tuple[str, ...]
    expr: str
    summary: str
    description: str

    def rule(self, console: str, grafana: str) -> dict[str, Any]:
        """Return the alert as a rule; links lead to these base addresses."""
        limit = THRESHOLDS[self.name]
        name = PREFIX + self.name
        chosen = "".join(
            f"&var-{label}={{{{ $labels.{label} | urlquery }}}}" for label in self.vars
        )
        board = f"{grafana.rstrip('/')}/d/otel-agents-{self.board}"
        return {
            "alert": name,
            "expr": self.expr,
            "for": limit.hold,
            "keep_firing_for": limit.keep,
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{console.rstrip('/')}/runbooks/{name}",
                "dashboard_url": board + chosen.replace("&", "?", 1),
            },
        }

    @property
    def vars(self) -> tuple[str, ...]:
        """The labels that the boards have a variable for."""
        return tuple(label for label in self.labels if label in _VARIABLES[self.board])


# The variables of each board that bear the name of a label.
_VARIABLES: Final[dict[str, tuple[str, ...]]] = {
    "fleet": ("job", "workflow"),
    "run": ("job", "workflow"),
    "cost": ("job",),
    "agents": ("job", "agent"),
    "workers": ("job",),
    "telemetry": ("job",),
}


def label(name: str) -> str:
    """Return the template of a label's value."""
    return f"{{{{ $labels.{name} }}}}"


def over(name: str, question: str) -> str:
    """Compare what is asked with an alert's threshold: it fires above it."""
    return f"{question} > {THRESHOLDS[name].value:g}"


def enough(name: str, count: str) -> str:
    """Return the condition that there were enough for a share to mean something."""
    return f"{count} >= {THRESHOLDS[name].floor:g}"


def seconds(name: str) -> str:
    """Return an alert's threshold in words of time."""
    value = THRESHOLDS[name].value
    unit, size = next(one for one in _UNITS if value >= one[1])
    return f"{value / size:g} {unit}"


def share(name: str) -> str:
    """Return an alert's threshold in per cent."""
    return f"{THRESHOLDS[name].value:.0%}"
