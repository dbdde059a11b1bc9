"""Workers, breakers, routes, queues and runtime events as people read them."""

from __future__ import annotations

from typing import Any

import msgspec
from rich.text import Text

from otel_agents.cli.tables import Page, ago, number, status, warning, when
from otel_agents.cli.text import plural
from otel_agents.text import visible

_COLUMNS = ("time", "layer", "operation", "reason", "entity", "task", "worker", "more")


def events_table(items: list[Any]) -> None:
    """Print runtime events, one a line."""
    page = Page()
    if not items:
        page.line("No runtime event is recorded that fits.")
        return
    _events(page, items)


def _events(page: Page, items: list[Any]) -> None:
    page.table(
        _COLUMNS,
        [
            (
                when(each["occurred_at"]),
                each["layer"],
                each["operation"],
                each["reason_code"],
                each["entity_id"],
                each["task_id"] or "",
                each["worker_id"] or "",
                Text(_metadata(each), style="dim"),
            )
            for each in items
        ],
        drop=("more", "worker", "operation", "task"),
    )


def event_line(event: Any) -> None:
    """Print one event on one line."""
    about = [
        f"{label} {event[key]}"
        for label, key in (("task", "task_id"), ("worker", "worker_id"), ("run", "run_id"))
        if event[key]
    ]
    Page().line(
        f"{when(event['occurred_at'])} {event['layer']} {event['operation']} ",
        warning(event["reason_code"]),
        f" {event['entity_id']}",
        Text("".join(f" · {visible(part)}" for part in (*about, _metadata(event)) if part), "dim"),
    )


def _metadata(event: Any) -> str:
    found = event["metadata"]
    if not found:
        return ""
    parts = [
        f"{key}={value if isinstance(value, str) else msgspec.json.encode(value).decode()}"
        for key, value in sorted(found.items())  # a database keeps them in its own order
    ]
    return visible(" ".join(parts))


def health(found: Any) -> None:
    """Print what is wrong, then all that was looked at."""
    page = Page()
    if found["healthy"]:
        page.line(status("healthy"), ": nothing is wrong.")
    else:
        page.line(status("unhealthy"), f": {plural(len(found['problems']), 'problem')}.")
    for problem in found["problems"]:
        page.line(Text("  ! ", style="red"), problem)
    for alert in found.get("alerts", ()):  # a server of an earlier version tells of none
        summary = alert["annotations"].get("summary") or alert["name"] or ""
        page.line(warning(f"  {alert['severity'] or 'alert'}: "), summary)
    page.line("")
    queue = [f"{amount:,} {visible(word)}" for word, amount in found["queue"].items() if amount]
    page.facts(
        {
            "queue": " · ".join(queue) or "empty",
            "stuck": Text(number(found["stuck"]), style="red") if found["stuck"] else "none",
            "workers": "" if found["workers"] else "none seen",
            "breakers": "" if found["breakers"] else "none seen",
            "routes": "" if found["routes"] else "no model was called yet",
        }
    )
    _workers(page, found["workers"])
    _titled(
        page,
        "breakers",
        ("state", "breaker", "reason", "worker", "changed"),
        [
            (
                status(each["state"]),
                each["name"],
                each["reason"] or "",
                each["worker_id"] or "",
                when(each["changed_at"]),
            )
            for each in found["breakers"]
        ],
    )
    _titled(
        page,
        "routes",
        ("provider", "model", "calls>", "last used"),
        [
            (
                each["provider"] or "",
                each["model"] or "",
                number(each.get("calls")),
                when(each["last_used_at"]),
            )
            for each in found["routes"]
        ],
    )
    if found["events"]:
        page.line("")
        page.line(Text("latest events", style="bold"))
        _events(page, found["events"])


def _workers(page: Page, workers: list[Any]) -> None:
    _titled(
        page,
        "workers",
        ("status", "worker", "type", "heartbeat", "task", "circuit"),
        [
            (
                status(each["status"]),
                each["worker_id"],
                each["agent_type"],
                warning(f"{ago(each['age_seconds'])}, silent")
                if each["stale"]
                else ago(each["age_seconds"]),
                each["current_task_id"] or "",
                warning(f"open: {each['circuit_reason'] or 'no reason given'}")
                if each["circuit_open"]
                else "",
            )
            for each in workers
        ],
    )


def _titled(page: Page, title: str, columns: tuple[str, ...], rows: list[Any]) -> None:
    if rows:
        page.line("")
        page.line(Text(title, style="bold"))
        page.table(columns, rows)
