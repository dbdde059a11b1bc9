"""The landing book: pages as the clerks wrote them, with the harbour office's totals below."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from landings.notations import NOTATIONS, Value

COLUMNS = tuple(NOTATIONS)
Columns = dict[str, list[Value]]
"""What was read, by task."""


class Page(NamedTuple):
    """One page: its name, its rows, and what the office wrote below each column.

    Below money and weights stand their sums, in pence and in pounds; below the days the last one.
    """

    name: str
    rows: list[dict[str, str]]
    totals: dict[str, str]

    def cells(self, column: str) -> list[str]:
        """Return a column as it was written."""
        return [row[column] for row in self.rows]


class Task(NamedTuple):
    """One column of one page, to be read; the feature is the column of the whole book."""

    page: Page
    column: str

    @property
    def id(self) -> str:
        """Return the name that events, drafts and people use."""
        return f"{self.page.name}/{self.column}"

    @property
    def cells(self) -> list[str]:
        """Return what has to be read."""
        return self.page.cells(self.column)


def load(path: Path) -> Page:
    """Read a page from a file whose last row is the office's."""
    with path.open(encoding="utf-8", newline="") as file:
        *rows, totals = csv.DictReader(file)
    return Page(path.stem, rows, totals)


def deliver(path: Path, pages: list[Page], read: Columns) -> None:
    """Write the book in clean figures: days as ISO dates, pence and pounds as whole numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("no", "boat", "day", "paid_pence", "weight_lb"))
        table.writerows(_lines(pages, read))


def _lines(pages: list[Page], read: Columns) -> Iterator[tuple[Value, ...]]:
    for page in pages:
        columns = (read[Task(page, column).id] for column in COLUMNS)
        for row, *values in zip(page.rows, *columns, strict=True):
            yield row["no"], row["boat"], *values
