"""Alerts on telemetry that is missing, late or lost, and on the stack's own parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dashboards import foreign
from dashboards.alerting import (
    BYTES,
    DURATION,
    NUMBER,
    SHARE,
    Alert,
    label,
    over,
    seconds,
    share,
)
from dashboards.foreign import failed, per_second
from dashboards.promql import LONG_GAP, grown, now, ratio, select
from dashboards.thresholds import THRESHOLDS
from otel_agents import server_vocabulary as server
from otel_agents.vocabulary import INSTRUMENTATION_MISSING, TELEMETRY_DROPPED, Metric

if TYPE_CHECKING:
    from collections.abc import Mapping

# A Prometheus that others use too scrapes collectors that are none of ours.
_COLLECTOR: Final = {"job": "collector"}
_PROMETHEUS: Final = {"job": "prometheus"}
# How the collector's queues call what its counters have in their names.
_DATA_TYPES: Final = {"spans": "traces", "metric_points": "metrics", "log_records": "logs"}
_DROPPED: Final = ("job", "sink", "reason")
_QUEUE: Final = ("instance", "exporter", "data_type")
_EXPORTER: Final = ("instance", "exporter")
# Metrics come in a second time, from the queue on disk: what this receiver refuses is sent again.
_WAY_BACK: Final = "otlp/metrics_queue"
# The exporter behind that way in: it is asked again as well.
_REMOTE_WRITE: Final = "prometheus_remote_write"
# Prometheus names a group of rules by its file too, whatever that is called.
_OUR_GROUPS: Final = "=~.*;otel-agents[.].*"
# Jaeger counts a trace that it does not have as an error of its storage.
_NOT_FOUND: Final = "get_trace"


def _within(name: str) -> str:
    return THRESHOLDS[name].window


def _each(metrics: Mapping[str, Metric], name: str, by: tuple[str, ...], **where: str) -> str:
    """Return the growth of one counter a signal, with the signal as a label.

    A counter that first appears when something fails is counted from nothing, which `rate` is not.
    """
    found = (
        (signal, failed(metric, _within(name), by=by, where=where))
        for signal, metric in metrics.items()
    )
    return " or ".join(f'label_replace({asked}, "signal", "{one}", "", "")' for one, asked in found)


def _not_sent() -> str:
    """Return what waits in each queue of an exporter, one a signal, from which nothing has left."""
    name = "CollectorExportFailing"
    waits = over(name, now(foreign.QUEUE_SIZE, by=_QUEUE, where=_COLLECTOR))
    sent = " or ".join(
        f'label_replace({over(name, _sent(metric, name))}, "data_type", "{kind}", "", "")'
        for kind, metric in (
            (_DATA_TYPES[signal], metric) for signal, metric in foreign.EXPORTER_SENT.items()
        )
    )
    return f"{waits} unless on ({', '.join(_QUEUE)}) ({sent})"


def _sent(metric: Metric, name: str) -> str:
    return per_second(metric, _within(name), by=_EXPORTER, where=_COLLECTOR)


def _filled() -> str:
    size, capacity = (
        now(metric, by=_QUEUE, where=_COLLECTOR)
        for metric in (foreign.QUEUE_SIZE, foreign.QUEUE_CAPACITY)
    )
    return over("CollectorQueueNearlyFull", ratio(size, capacity))


def _down() -> str:
    known = f"max by (job, instance) ({foreign.PARTS})"
    return f"{known} == {THRESHOLDS['TargetDown'].value:g}"


def _jaeger() -> str:
    name = "JaegerStorageFailing"
    faults = {"job": "jaeger", "result": "err", "operation": f"!={_NOT_FOUND}"}
    asked = (
        failed(metric, _within(name), by=("instance",), where=where)
        for metric, where in (
            (foreign.EXPORTER_FAILED["spans"], {"job": "jaeger"}),
            (foreign.JAEGER_REQUESTS, faults),
        )
    )
    return " or ".join(over(name, one) for one in asked)


def _untold() -> str:
    name = "PrometheusNotConnectedToAlertmanager"
    known = now(foreign.ALERTMANAGERS, by=("instance",), how="min", where=_PROMETHEUS)
    dropped = per_second(foreign.ALERTS_UNSENT, _within(name), by=("instance",), where=_PROMETHEUS)
    return f"{known} < {THRESHOLDS[name].value:g} or {dropped} > 0"


def _rejected() -> str:
    where = {**_PROMETHEUS, "handler": "/api/v1/write", "code": "=~4.."}
    name = "PrometheusRemoteWriteRejecting"
    asked = failed(foreign.HTTP_REQUESTS, _within(name), by=("instance", "code"), where=where)
    return over(name, asked)


def _restarts() -> str:
    name = "CollectorRestarting"
    uptime = select(foreign.COLLECTOR_UPTIME, where=_COLLECTOR)
    return over(name, f"max by (instance) (resets({uptime}[{_within(name)}]))")


def _missing() -> str:
    """Return what some process could not wrap, though it may have ended since."""
    name = "InstrumentationMissing"
    known = f"max_over_time({select(INSTRUMENTATION_MISSING)}[{_within(name)}])"
    return over(name, f"max by (job, target) ({known})")


TELEMETRY: Final = (
    Alert(
        "NoData", "critical", "telemetry", (),
        f"absent({select(server.SERVER_SIGNALS)}) == {THRESHOLDS['NoData'].value:g}",
        "Nothing is known of any run: the otel-agents server is not heard of.",
        "Prometheus has no metrics of the otel-agents server. Alerts on stuck and lost runs, "
        "workers, queues and breakers cannot fire until it has.",
    ),
    Alert(
        "TelemetryDropped", "warning", "telemetry", _DROPPED,
        over(
            "TelemetryDropped",
            grown(
                TELEMETRY_DROPPED, _within("TelemetryDropped"), by=_DROPPED,
                # Programs tell of it, and the server, which is scraped.
                before=LONG_GAP, heard=foreign.PARTS,
            ),
        ),
        "Telemetry was lost.",
        f"Signals of {label('job')} lost on their way to {label('sink')} within "
        f"{_within('TelemetryDropped')}: {NUMBER} ({label('reason')}).",
    ),
    Alert(
        "InstrumentationMissing", "warning", "telemetry", ("job", "target"), _missing(),
        "Something that should be instrumented is not.",
        f"{label('job')} could not wrap {label('target')}: what happens there is not seen.",
    ),
    Alert(
        "ServerBehind", "warning", "telemetry", (),
        over("ServerBehind", now(server.SERVER_BEHIND, how="max")),
        "The otel-agents server does not keep up.",
        f"What was sent to the server has waited for {DURATION} to be stored; "
        f"the limit is {seconds('ServerBehind')}.",
    ),
    Alert(
        "SignalsUnread", "warning", "telemetry", (),
        over("SignalsUnread", now(server.SERVER_UNREAD, how="max")),
        "The metrics of the otel-agents server lag behind what it has stored.",
        f"{NUMBER} stored signals are not in the server's metrics yet.",
    ),
    Alert(
        "StoreNearlyFull", "info", "telemetry", (),
        over(
            "StoreNearlyFull",
            ratio(now(server.STORE_SIZE, how="max"), now(server.STORE_LIMIT, how="max")),
        ),
        "The store is nearly at its limit, where the oldest runs are deleted.",
        f"The store is {SHARE} full; above {share('StoreNearlyFull')} little is left.",
    ),
    Alert(
        "DiskNearlyFull", "critical", "telemetry", ("instance",),
        f"{now(server.STORE_FREE, by=('instance',), how='min')} < "
        f"{THRESHOLDS['DiskNearlyFull'].value:.0f}",
        "The disk of the store is nearly full.",
        f"The disk of the store of {label('instance')} has {BYTES} left. Without space the server "
        "turns down what is sent to it.",
    ),
)  # fmt: skip

STACK: Final = (
    Alert(
        "TargetDown", "critical", "telemetry", (),  # its job is no program of the board's
        _down(),
        "A part of the stack does not answer.",
        f"Prometheus cannot scrape {label('job')} at {label('instance')}.",
    ),
    Alert(
        "CollectorRefusing", "critical", "telemetry", ("instance", "receiver"),
        over(
            "CollectorRefusing",
            "("
            + _each(
                foreign.RECEIVER_REFUSED, "CollectorRefusing", ("instance", "receiver"),
                job="collector", receiver=f"!={_WAY_BACK}",
            )
            + ")",
        ),
        "The collector refuses telemetry.",
        f"The collector {label('instance')} refused {NUMBER} {label('signal')} at "
        f"{label('receiver')} within {_within('CollectorRefusing')}: "
        "its memory or a queue is full.",
    ),
    Alert(
        "CollectorExportFailing", "critical", "telemetry", _QUEUE, _not_sent(),
        "The collector cannot hand on what waits in a queue.",
        f"{BYTES} of {label('data_type')} wait in {label('instance')} for {label('exporter')}, and "
        f"none has left within {_within('CollectorExportFailing')}.",
    ),
    Alert(
        "CollectorDataLost", "critical", "telemetry", _EXPORTER,
        over(
            "CollectorDataLost",
            "("
            + _each(
                foreign.EXPORTER_FAILED, "CollectorDataLost", _EXPORTER,
                job="collector", exporter=f"!={_REMOTE_WRITE}",
            )
            + ")",
        ),
        "The collector gave up on telemetry: it is lost.",
        f"{label('exporter')} of {label('instance')} lost {NUMBER} {label('signal')} within "
        f"{_within('CollectorDataLost')}: the backend said that it will never take them.",
    ),
    Alert(
        "CollectorQueueNearlyFull", "warning", "telemetry", _QUEUE, _filled(),
        "A queue of the collector is nearly full.",
        f"The queue of {label('exporter')} for {label('data_type')} in {label('instance')} is "
        f"{SHARE} full. When it is full, the collector refuses.",
    ),
    Alert(
        "CollectorRestarting", "warning", "telemetry", ("instance",), _restarts(),
        "The collector restarts again and again.",
        f"The collector {label('instance')} started {NUMBER} times within "
        f"{_within('CollectorRestarting')}.",
    ),
    Alert(
        "JaegerStorageFailing", "critical", "telemetry", ("instance",), _jaeger(),
        "Jaeger cannot write or read traces.",
        f"{NUMBER} spans or queries failed in the storage of Jaeger at {label('instance')} within "
        f"{_within('JaegerStorageFailing')}.",
    ),
    Alert(
        "PrometheusRuleFailures", "critical", "telemetry", ("instance", "rule_group"),
        over(
            "PrometheusRuleFailures",
            failed(
                foreign.RULE_FAILURES, _within("PrometheusRuleFailures"),
                by=("instance", "rule_group"), where={"rule_group": _OUR_GROUPS},
            ),
        ),
        "Prometheus cannot work out a rule, so its alerts do not fire.",
        f"Evaluations of {label('rule_group')} that failed within "
        f"{_within('PrometheusRuleFailures')}: {NUMBER}.",
    ),
    Alert(
        "PrometheusRemoteWriteRejecting", "warning", "telemetry", ("instance",), _rejected(),
        "Prometheus rejects metrics for good.",
        f"Remote writes that Prometheus answered with {label('code')} within "
        f"{_within('PrometheusRemoteWriteRejecting')}: {NUMBER}. Samples were too old, or not well "
        "formed.",
    ),
    Alert(
        "PrometheusNotConnectedToAlertmanager", "critical", "telemetry", ("instance",), _untold(),
        "Nobody is told of alerts.",
        f"Prometheus at {label('instance')} knows of no Alertmanager, or none takes its alerts.",
    ),
    Alert(
        "AlertmanagerNotificationsFailing", "critical", "telemetry", ("instance", "integration"),
        over(
            "AlertmanagerNotificationsFailing",
            failed(
                foreign.NOTIFICATIONS_FAILED, _within("AlertmanagerNotificationsFailing"),
                by=("instance", "integration"), where={"job": "alertmanager"},
            ),
        ),
        "Alertmanager cannot tell anybody of alerts.",
        f"Notifications by {label('integration')} of {label('instance')} that failed after all "
        f"tries within {_within('AlertmanagerNotificationsFailing')}: {NUMBER}.",
    ),
)  # fmt: skip
