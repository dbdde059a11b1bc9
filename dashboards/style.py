"""What all panels have: title, description, unit, colours, and words for when there is nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    heatmap,
    piechart,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models.dashboard import GridPos, Panel, Threshold, ThresholdsMode

from dashboards.thresholds import OBJECTIVE, THRESHOLDS
from dashboards.variables import SOURCE

if TYPE_CHECKING:
    from collections.abc import Sequence

# Colours of outcomes, so that a failure is red on every board.
COLOURS: Final = {
    "succeeded": "green", "success": "green", "failed": "red", "failure": "red",
    "error": "dark-red", "timeout": "orange", "canceled": "blue", "cancellation": "blue",
    "skip": "text",
}  # fmt: skip

Steps = tuple[tuple[float, str], ...]
"""From which value on which colour; below the first all is green, unless that is `LOW`."""
LOW: Final = float("-inf")
# Of the share of runs that succeed.
SUCCEEDED: Final[Steps] = (
    (LOW, "red"),
    (1 - THRESHOLDS["RunFailureRate"].value, "orange"),
    (OBJECTIVE, "green"),
)

Builder = TypeVar(
    "Builder",
    bargauge.Panel,
    heatmap.Panel,
    piechart.Panel,
    stat.Panel,
    statetimeline.Panel,
    table.Panel,
    timeseries.Panel,
)


def dressed(
    made: Builder,
    title: str,
    about: str,
    unit: str,
    nothing: str,
    links: Sequence[builders.DashboardLink],
) -> Builder:
    """Return a panel's builder with what every panel has, asking the chosen data source."""
    made = made.title(title).description(about).unit(unit).no_value(nothing).datasource(SOURCE)
    return made.data_links(list(links)) if links else made


def sized(panel: Panel, width: int, height: int) -> Panel:
    """Return a panel with its size; its place comes with the board."""
    panel.grid_pos = GridPos(h=height, w=width, x=0, y=0)
    return panel


def thresholds(steps: Steps) -> builders.ThresholdsConfig:
    """Return the steps as Grafana has them: the first is without a value."""
    whole = steps if steps[:1] and steps[0][0] == LOW else ((LOW, "green"), *steps)
    found = [
        Threshold(value=None if value == LOW else value, color=colour) for value, colour in whole
    ]
    return builders.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(found)


def legend_of(*calcs: str) -> common.VizLegendOptions:
    """Return a legend under the panel, with these figures of each series."""
    legend = common.VizLegendOptions().display_mode(looks.LegendDisplayMode.LIST)
    return legend.placement(looks.LegendPlacement.BOTTOM).show_legend(True).calcs(list(calcs))


def last_value() -> common.ReduceDataOptions:
    """Return that of each series the last value is shown."""
    return common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False)


def nothing_hidden() -> common.HideSeriesConfig:
    """Return that nothing is hidden, which Grafana's panels say themselves."""
    return common.HideSeriesConfig().viz(False).legend(False).tooltip(False)
