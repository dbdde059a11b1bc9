"""What the server knows of all programs, asked so that several servers of one store count once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dashboards.promql import now, summed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_agents.vocabulary import Metric


def known(metric: Metric, *, by: Iterable[str] = (), where: Mapping[str, str] | None = None) -> str:
    """Return a number that the server tells, summed up over labels but for `by`."""
    return summed(now(metric, by=metric.labels, where=where, how="max"), by=by)


def oldest(
    metric: Metric, *, by: Iterable[str] = (), where: Mapping[str, str] | None = None
) -> str:
    """Return the greatest age that the server tells, by the labels that are kept."""
    return now(metric, by=by, where=where, how="max")
