"""Lines on a terminal: signs and styles of states, aligned rows, wrapped texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from otel_agents.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_agents.signals import Failure

# Sign and style of each state, whatever surface it is a word of. The word always stands beside.
STATES: Final = {
    "running": ("●", "cyan"),
    "waiting": ("◆", "yellow"),
    "open": ("◆", "yellow"),
    "pending": ("○", "dim"),
    "succeeded": ("✓", "green"),
    "completed": ("✓", "green"),
    "passed": ("✓", "green"),
    "answered": ("✓", "green"),
    "closed": ("✓", "green"),
    "delivered": ("✓", "green"),
    "failed": ("✗", "red"),
    "lost": ("?", "magenta"),
    "canceled": ("■", "yellow"),
    "cancelled": ("■", "yellow"),
    "skipped": ("-", "dim"),
}
TIMES: Final = "×"  # noqa: RUF001 - the sign, not the letter
WIDE: Final = 90  # from this many columns on, numbers are written in full
_ASCII: Final = str.maketrans("●◆○✓✗■█░·…×", ">*.+x#=-|~x")  # noqa: RUF001 - signs
_GAP: Final = 2
_NAME: Final = 14  # the least that is left to a name: rather a column is dropped
# The columns of a row, and the order in which they are dropped. The word of the state stays.
_WORD, _NOTE, _TIME, _TOKENS, _COST = range(5)
_DROPPED: Final = (_NOTE, _COST, _TOKENS, _TIME)
_TEXT_COLUMNS: Final = (_WORD, _NOTE)  # these stand left, numbers right
_MOST_LINES: Final = 2  # of an error


class Row(NamedTuple):
    """A line with cells (word of the state, note, time, tokens, cost), or a text without any."""

    name: Text
    cells: tuple[Text, Text, Text, Text, Text] | None = None


def state(word: str, text: str | None = None) -> Text:
    """Return a text, by default the word itself, with the sign and style of a state."""
    sign, style = STATES.get(word, ("·", ""))
    return Text(f"{sign} {visible(word if text is None else text)}", style=style)


def styled(word: str) -> Text:
    """Return the word of a state in its style, without the sign."""
    return Text(word, style=STATES.get(word, ("", ""))[1])


def in_ascii(text: Text) -> Text:
    """Return a text with ASCII signs in place of ours."""
    text.plain = text.plain.translate(_ASCII)
    return text


def failure(error: Failure, width: int, indent: str = "") -> Iterator[Text]:
    """Yield what went wrong on at most two lines."""
    text = Text(visible(error.type), style="red")
    if error.message:
        text = Text.assemble(text, (f": {visible(error.message)}", ""))
    room = max(10, width - cell_len(indent))
    parts = list(text.wrap(Console(width=room), room))
    for number, part in enumerate(parts[:_MOST_LINES], 1):
        part.rstrip()
        line = Text(indent).append_text(part)
        yield line.append(" …") if number == _MOST_LINES < len(parts) else line


def table(rows: list[Row], width: int) -> list[Text]:
    """Return rows as lines with their cells aligned, without the columns there is no room for."""
    aligned = [(row.name, row.cells) for row in rows if row.cells is not None]
    if not aligned:
        return [row.name for row in rows]
    sizes = [max(cells[column].cell_len for _, cells in aligned) for column in range(_COST + 1)]
    kept = [column for column, size in enumerate(sizes) if size]
    for column in _DROPPED:
        if sum(sizes[each] + _GAP for each in kept) + _NAME <= width:
            break
        kept = [each for each in kept if each != column]
    room = width - sum(sizes[each] + _GAP for each in kept)
    named = min(room, max(name.cell_len for name, _ in aligned))
    return [_line(row, named, [(each, sizes[each]) for each in kept]) for row in rows]


def _line(row: Row, named: int, columns: list[tuple[int, int]]) -> Text:
    if row.cells is None:
        return row.name
    line = row.name.copy()
    line.truncate(named, overflow="ellipsis", pad=True)
    for column, size in columns:
        cell = row.cells[column]
        space = " " * (size - cell.cell_len)
        line.append(" " * _GAP)
        if column in _TEXT_COLUMNS:
            line.append_text(cell).append(space)
        else:
            line.append(space).append_text(cell)
    line.rstrip()
    return line
