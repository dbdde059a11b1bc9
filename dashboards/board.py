"""A board from its rows: panels flow from left to right on 24 columns, under their row's title."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, GridPos, Panel, RowPanel

from dashboards import links, variables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana_foundation_sdk.cog.builder import Builder
    from grafana_foundation_sdk.models.dashboard import VariableModel

COLUMNS: Final = 24


class Row(NamedTuple):
    """A title, and the panels under it."""

    title: str
    panels: Sequence[Panel]


def board(
    name: str,
    title: str,
    about: str,
    rows: Sequence[Row],
    at: links.Links,
    *,
    chosen: Sequence[Builder[VariableModel]] = (),
) -> dict[str, Any]:
    """Return a dashboard as Grafana's JSON.

    Args:
        name: One of `links.BOARDS`.
        title: What Grafana's list shows.
        about: Its description.
        rows: What it shows.
        at: The base addresses of its links.
        chosen: Variables besides the data source, the program and the addresses.

    """
    made = (
        builders.Dashboard(f"otel-agents / {title}")
        .uid(links.uid(name))
        .description(about)
        .tags([links.TAG])
        .timezone("browser")
        .refresh("30s")
        .time("now-6h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .editable()
        .link(links.between_boards())
        .link(links.to_console_above())
    )
    panels = _placed(rows)
    shown = [variables.datasource(), variables.job(), *chosen, variables.console(at)]
    if "${jaeger:raw}" in JSONEncoder().encode(panels):
        shown += variables.jaeger(at)
    for variable in shown:
        made = made.with_variable(variable)
    built = made.build()
    built.panels = panels
    # The SDK's models say what they hold by their encoder alone.
    return cast("dict[str, Any]", json.loads(JSONEncoder().encode(built)))


def _placed(rows: Sequence[Row]) -> list[Panel | RowPanel]:
    found: list[Panel | RowPanel] = []
    top = 0
    for row in rows:
        place = GridPos(h=1, w=COLUMNS, x=0, y=top)
        found.append(
            RowPanel(title=row.title, collapsed=False, grid_pos=place, id_val=len(found) + 1)
        )
        top += 1
        left = height = 0
        for panel in row.panels:
            size = cast("GridPos", panel.grid_pos)
            if left + size.w > COLUMNS:
                left, top, height = 0, top + height, 0
            panel.grid_pos = GridPos(h=size.h, w=size.w, x=left, y=top)
            panel.id_val = len(found) + 1
            found.append(panel)
            left, height = left + size.w, max(height, size.h)
        top += height
    return found
