"""The cases of alerts on telemetry and on the stack itself; see `alert_cases`."""

from __future__ import annotations

from typing import Final

from dashboards import foreign
from otel_agents import server_vocabulary as server
from otel_agents.vocabulary import INSTRUMENTATION_MISSING, TELEMETRY_DROPPED
from tests.dashboards.rule_tests import Case, Input, once, slept, steady, told

_ANSWERED: Final = foreign.HTTP_REQUESTS
_QUEUE: Final = {"instance": "c:8888", "exporter": "otlp_http/jaeger", "data_type": "traces"}
_SENDS: Final = {"instance": "c:8888", "exporter": "otlp_http/jaeger"}
_COLLECTOR: Final = {"job": "collector", "instance": "c:8888"}
_JOB: Final = {"job": "collector"}
_PROMETHEUS: Final = {"job": "prometheus", "instance": "p:9090"}


def _waiting(sent: str, job: str = "collector") -> list[Input]:
    return [
        told(foreign.QUEUE_SIZE, "4096+0x120", **_QUEUE, job=job),
        told(foreign.QUEUE_CAPACITY, "1000000+0x120", **_QUEUE, job=job),
        told(foreign.EXPORTER_SENT["spans"], sent, **_SENDS, job=job),
    ]


def _filled(size: int, job: str = "collector") -> list[Input]:
    return [
        steady(foreign.QUEUE_SIZE, size, **_QUEUE, job=job),
        steady(foreign.QUEUE_CAPACITY, 1000, **_QUEUE, job=job),
    ]


def _asleep(part: Input, **target: str) -> list[Input]:
    """Return what a part had counted before the machine slept, with what is known of the part."""
    return [part, slept(foreign.UP, 1, 37, **target)]


def _anew(part: Input, **target: str) -> list[Input]:
    """Return what a part counts that was scraped all the time, and so has begun anew."""
    return [part, steady(foreign.UP, 1, **target)]


# As much as before it began anew, and nothing of it in between.
_AGAIN: Final = "7x5 _x30 7+0x60"
_SERVER: Final = {"job": "otel-agents", "instance": "s:3010"}
_DROPPED: Final = {**_SERVER, "sink": "store", "reason": "invalid"}
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
        {
            "lost long ago": [steady(TELEMETRY_DROPPED, 3, instance="a", **_LOST)],
            "lost before the machine slept": [
                slept(TELEMETRY_DROPPED, 3, 37, instance="a", **_LOST)
            ],
        },
    ),
    Case(
        "TelemetryDropped",
        _anew(told(TELEMETRY_DROPPED, _AGAIN, **_DROPPED), **_SERVER),
        "40m", "", {"job": "otel-agents", "sink": "store", "reason": "invalid"},
        "Signals of otel-agents lost on their way to store within 15m: 7 (invalid).",
        "telemetry?var-job=otel-agents",
        {"the server's, before the machine slept": _asleep(
            slept(TELEMETRY_DROPPED, 7, 37, **_DROPPED), **_SERVER
        )},
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
_RULES: Final = {"instance": "p:9090", "rule_group": "/rules/recording.yml;otel-agents.runs"}
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
        "CollectorRefusing", [told(foreign.RECEIVER_REFUSED["spans"], "_x37 0+10x60", **_REFUSED)],
        "40m", "39m30s", {"instance": "c:8888", "receiver": "otlp", "signal": "spans"},
        "The collector c:8888 refused 30 spans at otlp within 5m: its memory or a queue is full.",
        "telemetry",
        {
            "nothing refused": [steady(foreign.RECEIVER_REFUSED["spans"], 0, **_REFUSED)],
            "metrics that come back from the queue": [
                told(
                    foreign.RECEIVER_REFUSED["metric_points"], "_x37 0+10x60",
                    **{**_REFUSED, "receiver": "otlp/metrics_queue"},
                )
            ],
            "refused before the machine slept": _asleep(
                slept(foreign.RECEIVER_REFUSED["spans"], 9, 37, **_REFUSED), **_COLLECTOR
            ),
        },
    ),
    Case(
        "CollectorExportFailing", _waiting("5+0x60"), "4m", "2m30s", _QUEUE,
        "4kiB of traces wait in c:8888 for otlp_http/jaeger, and none has left within 2m.",
        "telemetry",
        {
            "some has left": _waiting("0+5x60"),
            "a collector of somebody else": _waiting("5+0x60", "gateway"),
        },
    ),
    Case(
        "CollectorExportFailing",
        [
            *_waiting("0+5x60"),
            told(foreign.QUEUE_SIZE, "4096+0x60", **{**_QUEUE, "data_type": "logs"}, **_JOB),
            told(foreign.EXPORTER_SENT["log_records"], "5+0x60", **_SENDS, **_JOB),
        ],
        "4m", "2m30s", {**_QUEUE, "data_type": "logs"},
        "4kiB of logs wait in c:8888 for otlp_http/jaeger, and none has left within 2m.",
        "telemetry",
        {"all three flow": [
            *_waiting("0+5x60"),
            told(foreign.QUEUE_SIZE, "4096+0x60", **{**_QUEUE, "data_type": "logs"}, **_JOB),
            told(foreign.EXPORTER_SENT["log_records"], "0+5x60", **_SENDS, **_JOB),
            told(foreign.QUEUE_SIZE, "4096+0x60", **{**_QUEUE, "data_type": "metrics"}, **_JOB),
            told(foreign.EXPORTER_SENT["metric_points"], "0+5x60", **_SENDS, **_JOB),
        ]},
    ),
    Case(
        "CollectorExportFailing", _waiting("5+0x60")[:2], "3m", "2m30s", _QUEUE,
        "4kiB of traces wait in c:8888 for otlp_http/jaeger, and none has left within 2m.",
        "telemetry",
        {"nothing waits": [steady(foreign.QUEUE_SIZE, 0, **_QUEUE, **_JOB)]},
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
            "before the machine slept": _asleep(
                slept(foreign.EXPORTER_FAILED["spans"], 7, 37, **_JOB, **_SENDS), **_COLLECTOR
            ),
        },
    ),
    Case(
        "CollectorDataLost",
        _anew(told(foreign.EXPORTER_FAILED["spans"], _AGAIN, **_JOB, **_SENDS), **_COLLECTOR),
        "40m", "", {**_SENDS, "signal": "spans"},
        "otlp_http/jaeger of c:8888 lost 7 spans within 15m: "
        "the backend said that it will never take them.",
        "telemetry",
        {"no more than before it slept": _asleep(
            told(foreign.EXPORTER_FAILED["spans"], "7 7 _x34 7+0x60", **_JOB, **_SENDS),
            **_COLLECTOR,
        )},
    ),
    Case(
        "CollectorQueueNearlyFull", _filled(801), "1m", "30s", _QUEUE,
        "The queue of otlp_http/jaeger for traces in c:8888 is 80.1% full. When it is full, the "
        "collector refuses.",
        "telemetry",
        {
            "four fifths": _filled(800),
            "a collector of somebody else": _filled(801, "gateway"),
        },
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
        [told(foreign.EXPORTER_FAILED["spans"], "_x37 0+10x60", exporter="x", **_STORAGE)],
        "40m", "39m30s", {"instance": "j:8889"},
        "30 spans or queries failed in the storage of Jaeger at j:8889 within 5m.", "telemetry",
        {
            "traces that it does not have": [
                told(
                    foreign.JAEGER_REQUESTS, "_x37 0+10x60",
                    operation="get_trace", result="err", **_STORAGE,
                )
            ],
            "a query that failed before the machine slept": _asleep(
                slept(
                    foreign.JAEGER_REQUESTS, 2, 37,
                    operation="find_traces", result="err", **_STORAGE,
                ),
                job="jaeger", instance="j:8889",
            ),
        },
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
        "Evaluations of /rules/recording.yml;otel-agents.runs that failed within 5m: 5.",
        "telemetry",
        {
            "none": [steady(foreign.RULE_FAILURES, 0, job="prometheus", **_RULES)],
            "rules of somebody else": [
                told(
                    foreign.RULE_FAILURES, "0+1x60", job="prometheus",
                    **{**_RULES, "rule_group": "/rules/theirs.yml;nodes"},
                )
            ],
        },
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
            "a Prometheus of somebody else": [
                once(
                    _ANSWERED, 2, 35, handler="/api/v1/write", code="400",
                    **{**_PROMETHEUS, "job": "theirs"},
                )
            ],
            "before the machine slept": _asleep(
                slept(_ANSWERED, 2, 37, handler="/api/v1/write", code="400", **_PROMETHEUS),
                **_PROMETHEUS,
            ),
        },
    ),
    Case(
        "PrometheusNotConnectedToAlertmanager", [steady(foreign.ALERTMANAGERS, 0, **_PROMETHEUS)],
        "5m", "4m30s", {"instance": "p:9090"},
        "Prometheus at p:9090 knows of no Alertmanager, or none takes its alerts.", "telemetry",
        {
            "one": [
                steady(foreign.ALERTMANAGERS, 1, **_PROMETHEUS),
                steady(foreign.ALERTS_UNSENT, 0, **_PROMETHEUS),
            ],
            "a Prometheus of somebody else": [
                steady(foreign.ALERTMANAGERS, 0, **{**_PROMETHEUS, "job": "theirs"}),
            ],
        },
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
        {
            "long ago": [steady(foreign.NOTIFICATIONS_FAILED, 1, job="alertmanager", **_WEBHOOK)],
            "before the machine slept": _asleep(
                slept(foreign.NOTIFICATIONS_FAILED, 3, 37, job="alertmanager", **_WEBHOOK),
                job="alertmanager", instance="a:9093",
            ),
            "an Alertmanager of somebody else": [
                told(foreign.NOTIFICATIONS_FAILED, "0+0x35 1+0x60", job="theirs", **_WEBHOOK)
            ],
        },
    ),
)  # fmt: skip
