"""Panels over time.

Each function returns a panel of the SDK's model with its size but no place: `board` lays it out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import common, heatmap, statetimeline, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models.dashboard import (
    DynamicConfigValue,
    FieldColorModeId,
    Panel,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.questions import STEP, Query, target
from dashboards.style import (
    COLOURS,
    LOW,
    dressed,
    legend_of,
    nothing_hidden,
    sized,
    thresholds,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dashboards.style import Steps


def lines(
    title: str,
    about: str,
    unit: str,
    *queries: Query,
    width: int = 8,
    steps: Steps = (),
    most: float | None = None,
    links: Sequence[builders.DashboardLink] = (),
    nothing: str = "No data",
) -> Panel:
    """Return lines over time; `steps` are drawn as dashed lines, `most` is the axis' end."""
    made = _over_time(title, about, unit, queries, links, nothing)
    made = made.draw_style(looks.GraphDrawStyle.LINE).fill_opacity(8).span_nulls(300000.0)
    made = made.legend(legend_of("lastNotNull", "max")).min(0)
    if most is not None:
        made = made.max(most)
    if steps:
        style = common.GraphThresholdsStyleConfig().mode(looks.GraphThresholdsStyleMode.DASHED)
        made = made.thresholds(thresholds(((LOW, "transparent"), *steps))).thresholds_style(style)
    return sized(made.build(), width, 8)


def bars(
    title: str,
    about: str,
    unit: str,
    *queries: Query,
    width: int = 8,
    links: Sequence[builders.DashboardLink] = (),
    nothing: str = "None in this time",
) -> Panel:
    """Return stacked bars of what grew within each."""
    stacking = common.StackingConfig().mode(looks.StackingMode.NORMAL)
    made = _over_time(title, about, unit, queries, links, nothing)
    made = made.draw_style(looks.GraphDrawStyle.BARS).fill_opacity(80).line_width(0)
    made = made.stacking(stacking).legend(legend_of("sum")).min(0)
    for name, colour in COLOURS.items():
        value = {"mode": "fixed", "fixedColor": colour}
        made = made.override_by_name(name, [DynamicConfigValue(id_val="color", value=value)])
    return sized(made.build(), width, 8)


def heat(title: str, about: str, expr: str, *, width: int = 12) -> Panel:
    """Return how durations are spread over time; `expr` keeps the label `le`."""
    made = dressed(heatmap.Panel(), title, about, "s", "No data", ())
    colours = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges")
    asked = target(Query(expr, "{{le}}")).format(PromQueryFormat.HEATMAP)
    made = (
        made.calculate(False)
        .color(colours.steps(64))
        .y_axis(heatmap.YAxisConfig().unit("s"))
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .hide_from(nothing_hidden())
        .interval(STEP)
        .with_target(asked)
    )
    return sized(made.build(), width, 8)


def states(
    title: str,
    about: str,
    *queries: Query,
    words: Mapping[int, tuple[str, str]],
    width: int = 8,
    nothing: str = "None known",
) -> Panel:
    """Return states over time; `words` says each value's name and colour."""
    said = {
        str(value): ValueMappingResult(text=name, color=colour, index=value)
        for value, (name, colour) in words.items()
    }
    made = dressed(statetimeline.Panel(), title, about, "none", nothing, ())
    made = made.mappings([ValueMap(options=said)]).merge_values(True).interval(STEP)
    made = made.show_value(looks.VisibilityMode.AUTO).legend(legend_of()).fill_opacity(80)
    for number, query in enumerate(queries):
        made = made.with_target(target(query, number))
    return sized(made.build(), width, 8)


def _over_time(
    title: str,
    about: str,
    unit: str,
    queries: Sequence[Query],
    links: Sequence[builders.DashboardLink],
    nothing: str,
) -> timeseries.Panel:
    made = dressed(timeseries.Panel(), title, about, unit, nothing, links).interval(STEP)
    tooltip = common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI)
    made = made.tooltip(tooltip.sort(looks.SortOrder.DESCENDING))
    made = made.show_points(looks.VisibilityMode.AUTO).color_scheme(_by_name())
    for number, query in enumerate(queries):
        made = made.with_target(target(query, number))
    return made


def _by_name() -> builders.FieldColor:
    return builders.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC_BY_NAME)
