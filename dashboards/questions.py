"""What a panel asks: PromQL with a window, and how its series are called.

A total is what grew within the time shown (`$__range`); a bar is what grew within its width
(`$__interval`), so that bars add up to the total; quantiles and means look back over
`$__rate_interval`. Programs export once a minute, so nothing is drawn in finer steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from grafana_foundation_sdk.builders import prometheus

from dashboards.variables import SOURCE

if TYPE_CHECKING:
    from collections.abc import Mapping

RANGE: Final = "$__range"
BAR: Final = "$__interval"
RECENT: Final = "$__rate_interval"
STEP: Final = "1m"
QUANTILES: Final = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))


class Query(NamedTuple):
    """A question: PromQL, and how its series are called."""

    expr: str
    legend: str = ""
    exemplars: bool = False


def quantiles(of: Mapping[str, str], *, exemplars: bool = False) -> tuple[Query, ...]:
    """Return a query for each quantile: a name, and PromQL for it. The first has the exemplars."""
    return tuple(
        Query(expr, name, exemplars=exemplars and number == 0)
        for number, (name, expr) in enumerate(of.items())
    )


def target(query: Query, number: int = 0, *, instant: bool = False) -> prometheus.Dataquery:
    """Return a question in the SDK's terms, called A, B and so on."""
    asked = prometheus.Dataquery().expr(query.expr).legend_format(query.legend or "__auto")
    asked = asked.ref_id(chr(ord("A") + number)).datasource(SOURCE)
    asked = asked.instant() if instant else asked.range().interval(STEP)
    return asked.exemplar(query.exemplars)
