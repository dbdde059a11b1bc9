"""Alerts as people read them."""

from __future__ import annotations

from typing import Any, Final

from rich.text import Text

from otel_agents.cli.tables import Page, status, when
from otel_agents.text import visible

_STYLES: Final = {"critical": "red", "warning": "yellow"}
_COLUMNS: Final = ("status", "severity", "alert", "began", "ended", "about", "summary")
# What is said of an alert beside its name.
_ABOUT: Final = ("workflow", "agent", "queue", "worker_type", "job")


def alerts_table(items: list[Any]) -> None:
    """Print alerts, one a line."""
    page = Page()
    if not items:
        page.line("No alert was told of that fits: they get here from Alertmanager.")
        return
    page.table(_COLUMNS, [_row(each) for each in items], drop=("ended", "about", "began"))


def _row(alert: Any) -> tuple[Text | str, ...]:
    severity = alert["severity"] or ""
    return (
        status(alert["status"]),
        Text(visible(severity), style=_STYLES.get(severity, "")),
        alert["name"] or "",
        when(alert["starts_at"]),
        when(alert["ends_at"]),
        " ".join(alert["labels"][key] for key in _ABOUT if key in alert["labels"]),
        alert["annotations"].get("summary", ""),
    )
