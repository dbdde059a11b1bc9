"""Waits for humans as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otel_agents.cli.tables import Page, number, status, warning
from otel_agents.cli.text import roughly

if TYPE_CHECKING:
    from rich.text import Text

_COLUMNS: Final = (
    "status", "asked", "priority", "attempts>", "last error", "agent", "run", "age>", "answer",
    "id",
)  # fmt: skip
_DROP: Final = ("last error", "agent", "run", "attempts>", "priority")
_LONGEST: Final = 120  # characters of one cell


def waits_table(items: list[tuple[str, Any]], *, everything: bool) -> None:
    """Print waits, one a line, each with what it is answered by."""
    page = Page()
    if not items:
        page.line("Nobody has waited for a human yet." if everything else "Nobody waits.")
        return
    drop = [name.removesuffix(">") for name in _DROP]
    page.table(_COLUMNS, [_row(handle, one) for handle, one in items], drop=drop)
    if any(one["status"] == "open" for _, one in items):
        page.line("Answer with `otel-agents hitl resolve ID` and --approve, --reject or --answer.")


def _row(handle: str, wait: Any) -> tuple[Text | str, ...]:
    said = ": ".join(part for part in (wait["decision"], wait["answer"]) if part)
    return (
        status("waiting" if wait["status"] == "open" else wait["status"]),
        _cut(wait["reason"] or wait["tool"] or "an answer"),
        _cut(wait["priority"] or ""),
        number(wait["attempts"]),
        warning(_cut(wait["last_error"] or "")),
        wait["agent"] or "",
        wait["workflow"] or wait["run_id"] or "",
        roughly(wait["age_seconds"]),
        _cut(said),
        handle,
    )


def one_answer(wait: Any) -> None:
    """Print what was said to whom."""
    page = Page()
    page.line(f"{str(wait['decision']).capitalize()}: {wait['reason'] or wait['id']}")
    page.facts(
        {
            "answer": wait["answer"] or "",
            "asked by": wait["agent"] or "",
            "run": wait["run_id"] or "",
        }
    )


def _cut(text: str) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= _LONGEST else one_line[: _LONGEST - 1] + "…"
