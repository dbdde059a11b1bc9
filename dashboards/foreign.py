"""Names of the metrics that other programs of the stack tell of themselves, spelled once.

The collector 0.161, Jaeger 2.13 (a collector too, so it has `otelcol_*` beside its storage's
metrics), Prometheus 2.42 and Alertmanager 0.25: each name was seen on the program's own page. The
collector and Jaeger are set to name things as Prometheus does (`without_units: false`). A counter
of a collector is not there before something was counted: no series means nothing has failed.

These programs run for long, so `per_second` is Prometheus' own `rate`; what counts failures is
asked by `failed`, which does not leave out the first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dashboards.promql import LONG_GAP, grown_of, select, summed
from otel_agents.vocabulary import Instrument, Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SIGNALS: Final = ("spans", "metric_points", "log_records")
# The jobs of the stack's own parts; Prometheus may watch others, which are none of ours.
JOBS: Final = ("alertmanager", "collector", "jaeger", "otel-agents", "prometheus")


def _foreign(name: str, instrument: Instrument, unit: str, labels: str, brief: str) -> Metric:
    return Metric(name, instrument, unit, tuple(labels.split()), brief)


def _by_signal(name: str, labels: str, brief: str) -> dict[str, Metric]:
    """Return one counter for each signal: the collector puts the signal in the name."""
    return {
        signal: _foreign(f"otelcol_{name}_{signal}", "counter", f"{{{signal}}}", labels, brief)
        for signal in _SIGNALS
    }


UP: Final = _foreign("up", "gauge", "", "", "1 if the target answered the last scrape.")
# What Prometheus tells of the stack's parts at each scrape, whether they answer or not.
PARTS: Final = select(UP, where={"job": "=~" + "|".join(JOBS)})

RECEIVER_ACCEPTED: Final = _by_signal(
    "receiver_accepted", "receiver transport", "What a receiver took."
)
RECEIVER_REFUSED: Final = _by_signal(
    "receiver_refused", "receiver transport", "What a receiver turned down; the sender keeps it."
)
RECEIVER_FAILED: Final = _by_signal(
    "receiver_failed", "receiver transport", "What a receiver could not take for its own faults."
)
EXPORTER_SENT: Final = _by_signal("exporter_sent", "exporter", "What an exporter delivered.")
EXPORTER_FAILED: Final = _by_signal(
    "exporter_send_failed", "exporter", "What an exporter gave up on: lost."
)
ENQUEUE_FAILED: Final = _by_signal(
    "exporter_enqueue_failed", "exporter", "What found an exporter's queue full."
)
QUEUE_SIZE: Final = _foreign(
    "otelcol_exporter_queue_size", "gauge", "", "exporter data_type",
    "What waits in an exporter's queue, in the unit of its sizer: bytes in this stack.",
)  # fmt: skip
QUEUE_CAPACITY: Final = _foreign(
    "otelcol_exporter_queue_capacity", "gauge", "", "exporter data_type",
    "What an exporter's queue can hold, in the same unit.",
)  # fmt: skip
COLLECTOR_MEMORY: Final = _foreign(
    "otelcol_process_memory_rss", "gauge", "By", "", "Resident memory of a collector."
)
COLLECTOR_UPTIME: Final = _foreign(
    "otelcol_process_uptime", "counter", "s", "", "How long a collector has run."
)

JAEGER_LATENCY: Final = _foreign(
    "jaeger_storage_latency", "histogram", "s", "kind name operation result role",
    "How long Jaeger's storage took to answer; its buckets are 5 s and more, so ask for the mean.",
)  # fmt: skip
JAEGER_REQUESTS: Final = _foreign(
    "jaeger_storage_requests", "counter", "{request}", "kind name operation result role",
    "Queries to Jaeger's storage; `result` is ok or err.",
)  # fmt: skip

HEAD_SERIES: Final = _foreign(
    "prometheus_tsdb_head_series", "gauge", "", "", "Series that Prometheus has in memory."
)
REMOTE_SAMPLES: Final = _foreign(
    "prometheus_remote_storage_samples_in", "counter", "{sample}", "", "Samples by remote write."
)
HTTP_REQUESTS: Final = _foreign(
    "prometheus_http_requests", "counter", "{request}", "handler code",
    "Requests that Prometheus answered, by path and status.",
)  # fmt: skip
RULE_FAILURES: Final = _foreign(
    "prometheus_rule_evaluation_failures", "counter", "{evaluation}", "rule_group",
    "Evaluations of rules that failed.",
)  # fmt: skip
RULES_MISSED: Final = _foreign(
    "prometheus_rule_group_iterations_missed", "counter", "{iteration}", "rule_group",
    "Evaluations of a group that were left out, the one before being too slow.",
)  # fmt: skip
ALERTMANAGERS: Final = _foreign(
    "prometheus_notifications_alertmanagers_discovered", "gauge", "", "",
    "Alertmanagers that Prometheus knows of.",
)  # fmt: skip
ALERTS_UNSENT: Final = _foreign(
    "prometheus_notifications_dropped", "counter", "{alert}", "",
    "Alerts that no Alertmanager took.",
)  # fmt: skip

NOTIFICATIONS_FAILED: Final = _foreign(
    "alertmanager_notifications_failed", "counter", "{notification}", "integration reason",
    "Notifications that failed after all tries.",
)  # fmt: skip


def failed(
    metric: Metric, window: str, *, by: Iterable[str] = (), where: Mapping[str, str] | None = None
) -> str:
    """Return what a part of the stack counted within a window, its first count too.

    A part has the same `instance` when it begins anew, and a counter of failures is not there
    before the first: one that was missing while its part was scraped counts from nothing, one that
    was missing with its part, as when the machine slept, from where it stood within a day. A part
    that was scraped and did not answer counts as begun anew: that is far more likely, and
    `TargetDown` has fired.

    Args:
        metric: A counter of this module, or one that the server tells of itself.
        window: How far back, as `5m`.
        by: Labels to keep.
        where: As `promql.select` takes it.

    """
    selector = select(metric, where=where)
    return grown_of(selector, window, by=by, before=LONG_GAP, heard=PARTS)


def per_second(
    metric: Metric,
    window: str,
    *,
    by: Iterable[str] = (),
    part: str = "",
    where: Mapping[str, str] | None = None,
) -> str:
    """Return how fast a counter of a long-lived program grows, a second, summed up but for `by`.

    Args:
        metric: One of this module, or one that the server tells of itself.
        window: What the rate is taken over, as `5m`.
        by: Labels to keep.
        part: Of a histogram: bucket, sum or count.
        where: As `promql.select` takes it.

    """
    return summed(f"rate({select(metric, part=part, where=where)}[{window}])", by=by)
