"""Answers of several rows as tables, whatever the terminal; cells are other people's text."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from otel_agents.cli.layout import in_ascii, state
from otel_agents.cli.text import count, money, roughly
from otel_agents.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_PIPE_COLUMNS: Final = 200  # a pipe has no width: a reader such as grep wants whole cells
_GAP: Final = 3  # columns between two cells
_WARNING, _BAD = "yellow", "red"
# The words of workers, tasks and breakers, and the words of `layout.STATES` that they look like.
_LIKE: Final = {
    "starting": "running",
    "RUNNING": "running",
    "IDLE": "completed",
    "DEGRADED": "failed",
    "STOPPED": "skipped",
    "PENDING": "pending",
    "IN_REVIEW": "waiting",
    "DONE": "completed",
    "SKIPPED": "skipped",
    "FAILED": "failed",
    "closed": "completed",
    "half_open": "waiting",
    "open": "failed",
    "healthy": "completed",
    "degraded": "waiting",
    "unhealthy": "failed",
    "firing": "failed",
    "resolved": "completed",
    "stale": "lost",
}


class Page:
    """Standard output, as tables and lines are printed on it."""

    def __init__(self) -> None:
        self._console = _console()
        self.ascii_only = not self._console.encoding.lower().startswith("utf")

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[Text | str]],
        drop: Sequence[str] = (),
    ) -> None:
        """Print rows below the names of their columns; columns without any text are left out.

        Args:
            columns: The names; one that ends in `>` stands right.
            rows: The cells.
            drop: The columns to leave out, in this order, where there is no room for all.

        """
        cells = [[self._cell(cell) for cell in row] for row in rows]
        names = [column.removesuffix(">") for column in columns]
        sizes = {
            number: max(cell_len(name), *(row[number].cell_len for row in cells))
            for number, name in enumerate(names)
            if any(row[number] for row in cells)
        }
        for name in drop:
            if sum(sizes.values()) + _GAP * (len(sizes) - 1) <= self._console.width:
                break
            sizes.pop(names.index(name), None)
        widest = max(sizes, key=lambda number: sizes[number], default=0)
        made = Table(
            box=box.ASCII if self.ascii_only else box.SIMPLE_HEAD, pad_edge=False, show_edge=False
        )
        for number in sizes:
            made.add_column(
                names[number],
                justify="right" if columns[number].endswith(">") else "left",
                overflow="fold",
                no_wrap=number != widest,
            )
        for row in cells:
            made.add_row(*(row[number] for number in sizes))
        self._console.print(made)

    def line(self, *parts: Text | str) -> None:
        """Print a line."""
        whole = Text()
        for part in parts:
            whole.append_text(self._cell(part))
        self._console.print(whole, soft_wrap=True)

    def facts(self, facts: Mapping[str, Text | str]) -> None:
        """Print names and values, one pair a line; those without a value are left out."""
        shown = {name: self._cell(value) for name, value in facts.items() if value}
        size = max(map(len, shown), default=0)
        for name, value in shown.items():
            self.line(Text(f"{name:<{size}}  ", style="dim"), value)

    def _cell(self, cell: Text | str) -> Text:
        found = Text(visible(cell)) if isinstance(cell, str) else cell
        return in_ascii(found) if self.ascii_only else found


def status(word: str | None) -> Text:
    """Return the word of a state with its sign and style."""
    return state(_LIKE.get(word or "", word or ""), word or "")


def warning(text: str) -> Text:
    """Return a text that stands out."""
    return Text(visible(text), style=_WARNING)


def wrong(error: Mapping[str, Any] | None) -> Text:
    """Return an error as it is told, or nothing."""
    if not error:
        return Text()
    told = f"{error.get('type') or ''}: {error.get('message') or ''}".removesuffix(": ")
    return Text(visible(told), style=_BAD)


def number(value: float | None) -> str:
    """Return a number with its thousands apart; nothing for none."""
    return count(int(value)) if value else ""


def usd(value: float | None, unpriced: int | None = 0) -> str:
    """Return a cost; where tokens have no price it is said."""
    if value is None:
        return "unpriced" if unpriced else ""
    return money(value)


def share(value: float | None) -> str:
    """Return a fraction in percent."""
    return "" if value is None else f"{value * 100:.0f}%"


def when(text: str | None) -> str:
    """Return a time of an answer in the reader's time zone: the date only where it is another."""
    if not text:
        return ""
    try:
        moment = datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return text
    today = moment.date() == datetime.now().astimezone().date()
    return moment.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")


def ago(seconds: float | None) -> str:
    """Return how long ago something was."""
    return "" if seconds is None else f"{roughly(seconds)} ago"


def panel(text: str, title: str = "") -> None:
    """Print what must not be overlooked, in a frame."""
    console = _console()
    frame = box.ROUNDED if console.encoding.lower().startswith("utf") else box.ASCII
    body = Text("\n").join(Text(visible(line), overflow="fold") for line in text.split("\n"))
    console.print(Panel(body, title=title or None, box=frame, expand=False, padding=(0, 2)))


def _console() -> Console:
    options: dict[str, Any] = {} if sys.stdout.isatty() else {"width": _PIPE_COLUMNS}
    return Console(highlight=False, markup=False, emoji=False, **options)
