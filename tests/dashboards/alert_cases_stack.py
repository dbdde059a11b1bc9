"""The cases of alerts on telemetry and on the stack itself; see `alert_cases`."""

from __future__ import annotations

from typing import Final

from dashboards import foreign
from otel_agents import server_vocabulary as server
from otel_agents.vocabulary import INSTRUMENTATION_MISSING, TELEMETRY_DROPPED
from tests.dashboards.rule_tests import Case, Input, once, steady, told

_ANSWERED: Final = foreign.HTTP_REQUESTS
_QUEUE: Final = {"instance": "c:8888", "exporter": "otlp_http/jaeger", "data_type": "traces"}
_SENDS: Final = {"instance": "c:8888", "exporter": "otlp_http/jaeger"}
_COLLECTOR: Final = {"job": "collector", "instance": "c:8888"}
_PROMETHEUS: Final = {"job": "prometheus", "instance": "p:9090"}


def _waiting(sent: str) -> list[Input]:
    return [
        told(foreign.QUEUE_SIZE, "4096+0x120", **_QUEUE, job="collector"),
        told(foreign.QUEUE_CAPACITY, "1000000+0x120", **_QUEUE, job="collector"),
        told(foreign.EXPORTER_SENT["spans"], sent, **_SENDS, job="collector"),
    ]


def _filled(size: int) -> list[Input]:
    return [
        steady(foreign.QUEUE_SIZE, size, **_QUEUE),
        steady(foreign.QUEUE_CAPACITY, 1000, **_QUEUE),
    ]


_LOST: Final = {"job": "shop", "sink": "otlp", "reason": "queue full"}
_UNWRAPPED: Final = {"job": "shop", "target": "app:run"}

TELEMETRY: Final = (
    Case(
        "NoData", [], "5m", "4m30s", {},
        "Prometheus has no metrics of the otel-agents server. Alerts on stuck and lost runs, "
        "workers, queues and breakers cannot fire until it has.",
        "telemetry",
        {"a server that was sent nothing": [steady(server.SERVER_SIGNALS, 0, job="otel-agents")]},
    ),
    Case(
        "TelemetryDropped", [once(TELEMETRY_DROPPED, 3, 35, instance="a", **_LOST)],
        "40m", "", _LOST,
        "Signals of shop lost on their way to otlp within 15m: 3 (queue full).",
        "telemetry?var-job=shop",
        {"lost long ago": [steady(TELEMETRY_DROPPED, 3, instance="a", **_LOST)]},
    ),
    Case(
        "InstrumentationMissing", [once(INSTRUMENTATION_MISSING, 1, instance="a", **_UNWRAPPED)],
        "10m", "", _UNWRAPPED,
        "shop could not wrap app:run: what happens there is not seen.", "telemetry?var-job=shop",
        {"wrapped": [once(INSTRUMENTATION_MISSING, 0, instance="a", **_UNWRAPPED)]},
    ),
    Case(
        "ServerBehind", [steady(server.SERVER_BEHIND, 31)], "2m", "1m30s", {},
        "What was sent to the server has waited for 31s to be stored; the limit is 30 s.",
        "telemetry", {"half a minute": [steady(server.SERVER_BEHIND, 30)]},
    ),
    Case(
        "SignalsUnread", [steady(server.SERVER_UNREAD, 60000)], "5m", "4m30s", {},
        "60k stored signals are not in the server's metrics yet.", "telemetry",
        {"as many as one scrape reads": [steady(server.SERVER_UNREAD, 50000)]},
    ),
    Case(
        "StoreNearlyFull", [steady(server.STORE_SIZE, 91), steady(server.STORE_LIMIT, 100)],
        "10m", "9m30s", {},
        "The store is 91% full; above 90% little is left.", "telemetry",
        {
            "nine tenths": [steady(server.STORE_SIZE, 90), steady(server.STORE_LIMIT, 100)],
            "no limit": [steady(server.STORE_SIZE, 91)],
        },
    ),
    Case(
        "DiskNearlyFull", [steady(server.STORE_FREE, 999e6, instance="s:3010")], "5m", "4m30s",
        {"instance": "s:3010"},
        "The disk of the store of s:3010 has 952.7MiB left. Without space the server turns down "
        "what is sent to it.",
        "telemetry", {"a gigabyte": [steady(server.STORE_FREE, 1e9, instance="s:3010")]},
    ),
)  # fmt: skip

_REFUSED: Final = {**_COLLECTOR, "receiver": "otlp", "transport": "grpc"}
_RULES: Final = {"instance": "p:9090", "rule_group": "otel-agents.runs"}
_WEBHOOK: Final = {"instance": "a:9093", "integration": "webhook"}
_STORAGE: Final = {"job": "jaeger", "instance": "j:8889", "kind": "badger"}

STACK: Final = (
    Case(
        "TargetDown", [steady(foreign.UP, 0, **_COLLECTOR)], "2m", "1m30s", _COLLECTOR,
        "Prometheus cannot scrape collector at c:8888.", "telemetry",
        {
            "up": [steady(foreign.UP, 1, **_COLLECTOR)],
            "a job of somebody else": [steady(foreign.UP, 0, job="node", instance="n:9100")],
        },
    ),
    Case(
        "CollectorRefusing", [told(foreign.RECEIVER_REFUSED["spans"], "0+10x60", **_REFUSED)],
        "3m", "2m30s", {"instance": "c:8888", "receiver": "otlp", "signal": "spans"},
        "The collector c:8888 refused 30 spans at otlp within 5m: its memory or a queue is full.",
        "telemetry",
        {
            "nothing refused": [steady(foreign.RECEIVER_REFUSED["spans"], 0, **_REFUSED)],
            "metrics that come back from the queue": [
                told(
                    foreign.RECEIVER_REFUSED["metric_points"], "0+10x60",
                    **{**_REFUSED, "receiver": "otlp/metrics_queue"},
                )
            ],
        },
    ),
    Case(
        "CollectorExportFailing", _waiting("5+0x60"), "4m", "2m30s", _SENDS,
        "4kiB wait in c:8888 for otlp_http/jaeger, and none has left within 2m.", "telemetry",
        {"some has left": _waiting("0+5x60")},
    ),
    Case(
        "CollectorExportFailing", _waiting("5+0x60")[:2], "3m", "2m30s", _SENDS,
        "4kiB wait in c:8888 for otlp_http/jaeger, and none has left within 2m.", "telemetry",
        {"nothing waits": [steady(foreign.QUEUE_SIZE, 0, **_QUEUE)]},
    ),
    Case(
        "CollectorDataLost",
        [once(foreign.EXPORTER_FAILED["spans"], 7, 35, job="collector", **_SENDS)],
        "40m", "", {**_SENDS, "signal": "spans"},
        "otlp_http/jaeger of c:8888 lost 7 spans within 15m: "
        "the backend said that it will never take them.",
        "telemetry",
        {
            "what is asked again": [
                once(
                    foreign.EXPORTER_FAILED["metric_points"], 7, 35, **_COLLECTOR,
                    exporter="prometheus_remote_write",
                )
            ],
            "what Jaeger could not store": [
                once(foreign.EXPORTER_FAILED["spans"], 7, 35, job="jaeger", **_SENDS)
            ],
            "long ago": [
                steady(foreign.EXPORTER_FAILED["spans"], 7, job="collector", **_SENDS)
            ],
        },
    ),
    Case(
        "CollectorQueueNearlyFull", _filled(801), "1m", "30s", _QUEUE,
        "The queue of otlp_http/jaeger for traces in c:8888 is 80.1% full. When it is full, the "
        "collector refuses.",
        "telemetry", {"four fifths": _filled(800)},
    ),
    Case(
        "CollectorRestarting",
        [told(foreign.COLLECTOR_UPTIME, "0+60x5 0+60x5 0+60x5 0+60x5", **_COLLECTOR)],
        "20m", "", {"instance": "c:8888"},
        "The collector c:8888 started 3 times within 30m.", "telemetry",
        {"two new versions": [
            told(foreign.COLLECTOR_UPTIME, "0+60x5 0+60x5 0+60x15", **_COLLECTOR)
        ]},
    ),
    Case(
        "JaegerStorageFailing",
        [told(foreign.EXPORTER_FAILED["spans"], "0+10x60", exporter="x", **_STORAGE)],
        "3m", "2m30s", {"instance": "j:8889"},
        "30 spans or queries failed in the storage of Jaeger at j:8889 within 5m.", "telemetry",
        {"traces that it does not have": [
            told(
                foreign.JAEGER_REQUESTS, "0+10x60", operation="get_trace", result="err", **_STORAGE
            )
        ]},
    ),
    Case(
        "JaegerStorageFailing",
        [
            told(
                foreign.JAEGER_REQUESTS, "0+10x60",
                operation="find_traces", result="err", **_STORAGE,
            )
        ],
        "3m", "2m30s", {"instance": "j:8889"},
        "30 spans or queries failed in the storage of Jaeger at j:8889 within 5m.", "telemetry",
        {"answers": [
            told(
                foreign.JAEGER_REQUESTS, "0+10x60", operation="find_traces", result="ok", **_STORAGE
            )
        ]},
    ),
    Case(
        "PrometheusRuleFailures",
        [told(foreign.RULE_FAILURES, "0+1x60", job="prometheus", **_RULES)],
        "6m", "5m30s", _RULES,
        "Evaluations of otel-agents.runs that failed within 5m: 5.", "telemetry",
        {"none": [steady(foreign.RULE_FAILURES, 0, job="prometheus", **_RULES)]},
    ),
    Case(
        "PrometheusRemoteWriteRejecting",
        [once(_ANSWERED, 2, 35, handler="/api/v1/write", code="400", **_PROMETHEUS)],
        "40m", "", {"instance": "p:9090", "code": "400"},
        "Remote writes that Prometheus answered with 400 within 15m: 2. Samples were too old, or "
        "not well formed.",
        "telemetry",
        {
            "long ago": [
                steady(_ANSWERED, 2, handler="/api/v1/write", code="400", **_PROMETHEUS)
            ],
            "taken": [
                once(_ANSWERED, 2, 35, handler="/api/v1/write", code="204", **_PROMETHEUS)
            ],
            "a query that is wrong": [
                once(_ANSWERED, 2, 35, handler="/api/v1/query", code="400", **_PROMETHEUS)
            ],
        },
    ),
    Case(
        "PrometheusNotConnectedToAlertmanager", [steady(foreign.ALERTMANAGERS, 0, **_PROMETHEUS)],
        "5m", "4m30s", {"instance": "p:9090"},
        "Prometheus at p:9090 knows of no Alertmanager, or none takes its alerts.", "telemetry",
        {"one": [
            steady(foreign.ALERTMANAGERS, 1, **_PROMETHEUS),
            steady(foreign.ALERTS_UNSENT, 0, **_PROMETHEUS),
        ]},
    ),
    Case(
        "PrometheusNotConnectedToAlertmanager",
        [
            steady(foreign.ALERTMANAGERS, 1, **_PROMETHEUS),
            told(foreign.ALERTS_UNSENT, "0+1x60", **_PROMETHEUS),
        ],
        "6m", "5m30s", {"instance": "p:9090"},
        "Prometheus at p:9090 knows of no Alertmanager, or none takes its alerts.", "telemetry",
        {"lost long ago": [
            steady(foreign.ALERTMANAGERS, 1, **_PROMETHEUS),
            steady(foreign.ALERTS_UNSENT, 5, **_PROMETHEUS),
        ]},
    ),
    Case(
        "AlertmanagerNotificationsFailing",
        [told(foreign.NOTIFICATIONS_FAILED, "0+0x35 1+0x60", job="alertmanager", **_WEBHOOK)],
        "40m", "", _WEBHOOK,
        "Notifications by webhook of a:9093 that failed after all tries within 15m: 1.",
        "telemetry",
        {"long ago": [steady(foreign.NOTIFICATIONS_FAILED, 1, job="alertmanager", **_WEBHOOK)]},
    ),
)  # fmt: skip
