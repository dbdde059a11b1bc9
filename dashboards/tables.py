"""Tables: a row for each thing, a column for each question about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from grafana_foundation_sdk.builders import common, table
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    Panel,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.questions import Query, target
from dashboards.style import dressed, sized

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from grafana_foundation_sdk.builders.dashboard import DashboardLink

    from dashboards.style import Steps


class Column(NamedTuple):
    """A question with one answer a row: what it is called, its unit, colours from values on."""

    title: str
    expr: str
    unit: str = "short"
    steps: Steps = ()


def table_panel(
    title: str,
    about: str,
    keys: Mapping[str, str],
    columns: Sequence[Column],
    *,
    sort: str,
    width: int = 12,
    links: Sequence[DashboardLink] = (),
    nothing: str = "None in this time",
) -> Panel:
    """Return a table of what is now or was within the time shown, the greatest of `sort` first.

    Args:
        title: The panel's title.
        about: Its description.
        keys: The labels that make a row, and what their columns are called. Links are on the
            first of them.
        columns: Two or more, each with exactly these labels.
        sort: The title of the column to sort by.
        width: Of 24.
        links: Where a row leads to.
        nothing: What is said where there are no rows.

    """
    made = dressed(table.Panel(), title, about, columns[0].unit, nothing, ())
    made = made.show_header(True).filterable(False)
    made = made.sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
    for number, column in enumerate(columns):
        asked = target(Query(column.expr), number, instant=True).format(PromQueryFormat.TABLE)
        made = made.with_target(asked).override_by_name(column.title, _properties(column))
    if links:
        told = [link.build() for link in links]
        value = [
            {"title": link.title, "url": link.url, "targetBlank": link.target_blank}
            for link in told
        ]
        first = next(iter(keys.values()))
        made = made.override_by_name(first, [DynamicConfigValue(id_val="links", value=value)])
    return sized(made.transformations(_transformations(keys, columns)).build(), width, 8)


def _properties(column: Column) -> list[DynamicConfigValue]:
    found = [DynamicConfigValue(id_val="unit", value=column.unit)]
    if column.steps:
        steps: list[dict[str, Any]] = [{"value": None, "color": "text"}]
        steps += [{"value": value, "color": colour} for value, colour in column.steps]
        thresholds = {"mode": "absolute", "steps": steps}
        found.append(DynamicConfigValue(id_val="thresholds", value=thresholds))
        cell = {"type": "color-text"}
        found.append(DynamicConfigValue(id_val="custom.cellOptions", value=cell))
    return found


def _transformations(
    keys: Mapping[str, str], columns: Sequence[Column]
) -> list[DataTransformerConfig]:
    """Return one row for each set of labels, and columns named and ordered as they are told."""
    values = {f"Value #{chr(ord('A') + n)}": column.title for n, column in enumerate(columns)}
    renamed = {**keys, **values}
    return [
        DataTransformerConfig(id_val="merge", options={}),
        DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {"Time": True},
                "indexByName": {name: number for number, name in enumerate(renamed)},
                "renameByName": renamed,
            },
        ),
    ]
