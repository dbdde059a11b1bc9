"""PromQL for our metrics: names from the vocabulary, and questions that are asked rightly.

Programs come and go: each process has series of its own (`instance`), whose first sample is
whatever it had counted by then, and whose last stays what it was. `increase` and `rate` of
Prometheus leave that first sample out, so a program that lives for one export would count for
nothing. `grown` counts it, and knows a series again after a gap, so that a machine that slept does
not make what a program ever counted look new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_agents.exposition import name_of
from otel_agents.profiles import PROFILES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_agents.vocabulary import Metric

# How long a series may have been silent before a window and still be known to have been there. The
# short one costs little for any number of series; the long one is for those that few series answer:
# what counts faults, and money.
GAP: Final = "2h"
LONG_GAP: Final = "1d"
# How long before a window a process that is scraped must have been heard of, for a series of its
# that was silent then to be a new one.
_HEARD: Final = "15m"
_MATCHERS: Final = ("!~", "=~", "!=")


def series(metric: Metric, part: str = "") -> str:
    """Return the name of a metric's series: of a histogram `part` is bucket, sum or count."""
    if metric.instrument == "histogram":
        if part not in {"bucket", "sum", "count"}:
            message = f"{metric.name} is a histogram: say which of its series is meant"
            raise ValueError(message)
        return f"{name_of(metric)}_{part}"
    if part:
        message = f"{metric.name} is no histogram and has no {part}"
        raise ValueError(message)
    return name_of(metric) + ("_total" if metric.instrument == "counter" else "")


def select(metric: Metric, *, part: str = "", where: Mapping[str, str] | None = None) -> str:
    """Return a selector: `where` maps labels to values, with `=~`, `!=` or `!~` before if not `=`.

    Labels are those of the metric, `job` and `instance`; any other raises ValueError.
    """
    chosen = []
    for label, value in (where or {}).items():
        _known(metric, (label,))
        matcher = next((one for one in _MATCHERS if value.startswith(one)), "=")
        quoted = value.removeprefix(matcher) if matcher != "=" else value
        escaped = quoted.replace("\\", "\\\\").replace('"', '\\"')
        chosen.append(f'{label}{matcher}"{escaped}"')
    return series(metric, part) + (f"{{{', '.join(chosen)}}}" if chosen else "")


def grown(
    metric: Metric,
    window: str,
    *,
    by: Iterable[str] = (),
    part: str = "",
    where: Mapping[str, str] | None = None,
    before: str = GAP,
    heard: str = "",
) -> str:
    """Return by how much a counter grew within a window that ends now, summed up but for `by`.

    A series that began within the window counts from nothing, as does one that was reset. Windows
    side by side add up to the whole.

    Args:
        metric: A counter, or a histogram with the `part` that is asked for.
        window: How far back, as `5m`.
        by: Labels to keep.
        part: Of a histogram: bucket, sum or count.
        where: As `select` takes it.
        before: How long a series may have been silent before the window; after more, it counts
            from nothing.
        heard: A selector of what tells that a process was scraped, as `up{job="collector"}`, for
            those whose `instance` stays the same when they begin anew. A series of theirs that was
            silent while they were scraped is a new one, however little time has passed.

    """
    kept = tuple(by)
    _known(metric, kept)
    selector = select(metric, part=part, where=where)
    return grown_of(selector, window, by=kept, before=before, heard=heard)


def grown_of(
    selector: str, window: str, *, by: Iterable[str] = (), before: str = GAP, heard: str = ""
) -> str:
    """Return the same of any selector of counters, such as `conventions` returns."""
    last = f"last_over_time({selector}[{window}])"
    known = f"last_over_time({selector}[{before}] offset {window})"
    if heard:
        just = f"last_over_time({selector}[{_HEARD}] offset {window})"
        there = f"last_over_time({heard}[{_HEARD}] offset {window})"
        known = f"({just} or ({known} unless on (job, instance) {there}))"
    return summed(f"({last} - {known}) >= 0 or {last}", by=by)


def now(
    metric: Metric,
    *,
    by: Iterable[str] = (),
    where: Mapping[str, str] | None = None,
    how: str = "sum",
) -> str:
    """Return the state of a gauge or up-down counter, summed up (or `how`) over processes."""
    kept = tuple(by)
    _known(metric, kept)
    return summed(select(metric, where=where), by=kept, how=how)


def ratio(part: str, whole: str) -> str:
    """Return a share of two sums by the same labels: 0 without a part, nothing without a whole."""
    return f"(({part}) or ({whole}) * 0) / (({whole}) > 0)"


def quantile(
    share: float,
    metric: Metric,
    window: str,
    *,
    by: Iterable[str] = (),
    where: Mapping[str, str] | None = None,
) -> str:
    """Return a quantile of what a histogram measured within a window."""
    kept = grown(metric, window, by=(*by, "le"), part="bucket", where=where)
    return f"histogram_quantile({share:g}, {kept})"


def mean(
    metric: Metric,
    window: str,
    *,
    by: Iterable[str] = (),
    where: Mapping[str, str] | None = None,
) -> str:
    """Return the mean of what a histogram measured within a window."""
    kept = tuple(by)
    total = grown(metric, window, by=kept, part="sum", where=where)
    return f"{total} / ({grown(metric, window, by=kept, part='count', where=where)} > 0)"


def conventions(field: str, part: str = "", *, matchers: str = "") -> str:
    """Return a selector of a metric of the GenAI conventions, in whichever generation is sent.

    `field` is one of `profiles.Profile`: model_duration, first_chunk and so on; `matchers` are
    more of PromQL's, as `job=~"$job"`.
    """
    names = dict.fromkeys(
        series(metric, part)
        for profile in PROFILES.values()
        if (metric := getattr(profile, field)) is not None
    )
    named = f'__name__=~"{"|".join(names)}"'
    return f"{{{', '.join(filter(None, (named, matchers)))}}}"


def summed(expr: str, *, by: Iterable[str] = (), how: str = "sum") -> str:
    """Return an expression summed up (or `how`) but for the labels to keep."""
    kept = ", ".join(by)
    return f"{how} by ({kept}) ({expr})" if kept else f"{how} ({expr})"


def _known(metric: Metric, labels: Iterable[str]) -> None:
    known = {*metric.labels, "job", "instance", "le"}
    for label in labels:
        if label not in known:
            message = f'{metric.name} has no label "{label}"; it has {", ".join(metric.labels)}'
            raise ValueError(message)
