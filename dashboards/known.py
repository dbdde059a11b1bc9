"""What the server knows of all programs, asked so that several servers of one store count once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dashboards.promql import now

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_agents.vocabulary import Metric


def known(metric: Metric, *, by: Iterable[str] = (), where: Mapping[str, str] | None = None) -> str:
    """Return a number that the server tells, summed up over labels but for `by`."""
    kept = ", ".join(by)
    each = now(metric, by=metric.labels, where=where, how="max")
    return f"sum by ({kept}) ({each})" if kept else f"sum ({each})"


def oldest(
    metric: Metric, *, by: Iterable[str] = (), where: Mapping[str, str] | None = None
) -> str:
    """Return the greatest age that the server tells, by the labels that are kept."""
    return now(metric, by=by, where=where, how="max")
