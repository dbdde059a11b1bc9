"""The spool as people read it."""

from __future__ import annotations

from typing import Any, Final

from otel_agents.cli.tables import Page, warning
from otel_agents.cli.text import roughly
from otel_agents.text import visible

_COLUMNS: Final = ("data", "waiting>", "segments>", "bytes>", "owners")
_LOST: Final = ("data", "reason", "items>")


def spool_page(found: dict[str, Any]) -> None:
    """Print what is in a spool."""
    page = Page()
    page.facts(
        {
            "spool": found["directory"],
            "size": f"{found['bytes']:,} of {found['max_bytes']:,} bytes",
            "oldest": "" if found["oldest_seconds"] is None else roughly(found["oldest_seconds"]),
            "set aside": f"{found['quarantined_bytes']:,} bytes in quarantine/"
            if found["quarantined_bytes"]
            else "",
        }
    )
    rows = []
    for signal, waiting in found["waiting"].items():
        segments = [one for one in found["segments"] if one["signal"] == signal]
        live = sum(one["alive"] for one in segments)
        dead = len(segments) - live
        owners = [f"{live} running"] * bool(live) + [f"{dead} ended"] * bool(dead)
        size = sum(one["bytes"] for one in segments)
        row = (signal, f"{waiting:,}", f"{len(segments):,}", f"{size:,}", ", ".join(owners))
        rows.append(row)
    page.table(_COLUMNS, rows)
    _lost(page, found["dropped"])
    if any(not one["alive"] and one["items"] for one in found["segments"]):
        page.line("Send what ended programs left with `otel-agents spool drain`.")


def drained_page(found: dict[str, Any]) -> None:
    """Print what came of a drain."""
    page = Page()
    left = sum(found["left"].values())
    rows = [
        (signal, f"{found['sent'][signal]:,}", f"{found['left'][signal]:,}")
        for signal in found["left"]
    ]
    page.table(("data", "sent>", "left>"), rows)
    _lost(page, found["dropped"])
    if left:
        page.line(warning(f"{left:,} items are left."), " They are kept: try again.")
    for signal, why in found["why"].items():
        page.line(f"{signal}: {visible(why)}")


def _lost(page: Page, dropped: list[dict[str, Any]]) -> None:
    if dropped:
        page.table(_LOST, [(one["signal"], one["reason"], f"{one['count']:,}") for one in dropped])
