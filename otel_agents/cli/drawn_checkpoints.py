"""Checkpoints and what a restore changes, as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from otel_agents.cli.tables import Page, when
from otel_agents.cli.text import plural
from otel_agents.text import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

_COLUMNS: Final = ("id", "taken", "message", "files>", "size>", "run", "agent")
_STYLES: Final = {"added": "green", "deleted": "red"}
_FEW: Final = 5  # paths in a line
_UNITS: Final = ("B", "KB", "MB", "GB")


def made(item: Mapping[str, Any]) -> None:
    """Print what was saved, and what was not."""
    page = Page()
    page.line(
        Text(item["id"], style="bold"),
        f"  {plural(item['files'], 'file')}, {_size(item['bytes'])}: {item['message'] or ''}",
    )
    left_out = item["left_out"]
    if left_out:
        named = ", ".join(visible(path) for path in left_out[:_FEW])
        more = f" and {len(left_out) - _FEW} more" if len(left_out) > _FEW else ""
        page.line(f"Left out: {named}{more}.")


def table(items: list[Any]) -> None:
    """Print checkpoints, one a line."""
    page = Page()
    if not items:
        page.line("There is no checkpoint: `otel-agents checkpoint create` takes one.")
        return
    rows = [
        (
            one["id"], when(one["created_at"]), one["message"] or "", f"{one['files']:,}",
            _size(one["bytes"]), one["run_id"] or "", one["agent"] or "",
        )
        for one in items
    ]  # fmt: skip
    page.table(_COLUMNS, rows, drop=("agent", "size", "files", "run", "taken"))


def one(item: Mapping[str, Any]) -> None:
    """Print all that is known of a checkpoint."""
    names = {
        "message": "message", "run_id": "run", "phase": "phase", "agent": "agent",
        "agent_id": "agent id", "task_id": "task", "trace_id": "trace", "span_id": "span",
        "undo_of": "undoes", "commit": "commit",
    }  # fmt: skip
    facts: dict[str, Text | str] = {
        "id": item["id"],
        "taken": when(item["created_at"]),
        "files": plural(item["files"], "file"),
        "size": _size(item["bytes"]),
        "left out": ", ".join(item["left_out"]),
    }
    Page().facts(facts | {name: item[key] or "" for key, name in names.items()})


def changes(items: list[Any]) -> None:
    """Print what a restore would change, one path a line."""
    page = Page()
    if not items:
        page.line("The tree is as in the checkpoint.")
    for change in items:
        kind = change["kind"]
        page.line(Text(f"{kind:<9}", style=_STYLES.get(kind, "")), Text(visible(change["path"])))


def restored(done: Mapping[str, Any]) -> None:
    """Print what a restore changed, and how it is undone."""
    changes(done["changed"])
    page = Page()
    if done["undo_id"] is None:
        page.line("Nothing was changed: this was a dry run.")
        return
    paths = plural(len(done["changed"]), "path")
    page.line(f"Restored {done['restored']}: {paths} changed.")
    page.line(f"`otel-agents checkpoint restore {done['undo_id']}` undoes it.")


def _size(number: float) -> str:
    """Return bytes in the largest unit that leaves a whole number."""
    unit = 0
    while number >= 1000 and unit < len(_UNITS) - 1:  # noqa: PLR2004 - SI units
        number /= 1000
        unit += 1
    return f"{number:.0f} {_UNITS[unit]}" if unit == 0 else f"{number:.1f} {_UNITS[unit]}"
