"""Panels of one number for each thing: of now, or of the whole time shown.

Each function returns a panel of the SDK's model with its size but no place: `board` lays it out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import bargauge, piechart, stat
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models.piechart import PieChartLegendValues, PieChartType

from dashboards.questions import Query, target
from dashboards.style import dressed, last_value, nothing_hidden, sized, thresholds
from dashboards.variables import SOURCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana_foundation_sdk.models.dashboard import Panel

    from dashboards.style import Steps


def stat_panel(
    title: str,
    about: str,
    unit: str,
    expr: str,
    *,
    steps: Steps = (),
    nothing: str = "0",
    links: Sequence[builders.DashboardLink] = (),
) -> Panel:
    """Return one number; `nothing` is said where there is none."""
    made = dressed(stat.Panel(), title, about, unit, nothing, links)
    made = (
        made.graph_mode(looks.BigValueGraphMode.NONE)
        .color_mode(looks.BigValueColorMode.VALUE)
        .reduce_options(last_value())
        .thresholds(thresholds(steps))
        .with_target(target(Query(expr), instant=True))
    )
    return sized(made.build(), 4, 4)


def ranking(
    title: str,
    about: str,
    unit: str,
    *queries: Query,
    width: int = 8,
    steps: Steps = (),
    most: float | None = None,
    links: Sequence[builders.DashboardLink] = (),
    nothing: str = "None",
) -> Panel:
    """Return a bar for each of several things, of the time shown or of now."""
    made = dressed(bargauge.Panel(), title, about, unit, nothing, links)
    made = (
        made.display_mode(looks.BarGaugeDisplayMode.BASIC)
        .orientation(looks.VizOrientation.HORIZONTAL)
        .reduce_options(last_value())
        .thresholds(thresholds(steps))
        .min(0)
    )
    if most is not None:
        made = made.max(most)
    for number, query in enumerate(queries):
        made = made.with_target(target(query, number, instant=True))
    return sized(made.build(), width, 8)


def pie(title: str, about: str, unit: str, query: Query, *, width: int = 8) -> Panel:
    """Return the shares of a whole within the time shown."""
    legend = piechart.PieChartLegendOptions().display_mode(looks.LegendDisplayMode.TABLE)
    legend = legend.placement(looks.LegendPlacement.RIGHT).show_legend(True)
    legend = legend.values([PieChartLegendValues.PERCENT, PieChartLegendValues.VALUE])
    made = dressed(piechart.Panel(), title, about, unit, "None in this time", ())
    made = (
        made.pie_type(PieChartType.DONUT)
        .legend(legend)
        .reduce_options(last_value())
        .hide_from(nothing_hidden())
    )
    return sized(made.with_target(target(query, instant=True)).build(), width, 8)


def alert_list(title: str, about: str, *, width: int = 8) -> Panel:
    """Return the alerts that fire or are about to, of whatever Grafana knows of.

    The SDK has no model of this panel's options, so they stand here as Grafana has them.
    """
    shown = {
        "firing": True, "pending": True, "recovering": True, "error": True, "noData": False,
        "normal": False,
    }  # fmt: skip
    options: dict[str, object] = {
        "viewMode": "list", "groupMode": "default", "groupBy": [], "maxItems": 30, "sortOrder": 3,
        "dashboardAlerts": False, "showInstances": False, "alertName": "OtelAgents",
        "alertInstanceLabelFilter": "", "stateFilter": shown,
    }  # fmt: skip
    made = builders.Panel().type("alertlist").title(title).description(about).unit("none")
    return sized(made.datasource(SOURCE).options(options).build(), width, 8)
