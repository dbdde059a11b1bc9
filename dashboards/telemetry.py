"""The board Telemetry health: can the other boards be believed?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dashboards import foreign
from dashboards.board import Row, board
from dashboards.foreign import failed, per_second
from dashboards.links import to_console
from dashboards.over_time import bars, lines
from dashboards.panels import stat_panel
from dashboards.promql import LONG_GAP, grown, now
from dashboards.questions import BAR, RANGE, RECENT, Query
from dashboards.tables import Column, table_panel
from dashboards.thresholds import THRESHOLDS
from dashboards.variables import JOB
from otel_agents.server_vocabulary import (
    SERVER_BEHIND,
    SERVER_SIGNALS,
    SERVER_UNREAD,
    SERVER_WAITING,
    STORE_FREE,
    STORE_LIMIT,
    STORE_SIZE,
)
from otel_agents.vocabulary import INSTRUMENTATION_MISSING, TELEMETRY_DROPPED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from grafana_foundation_sdk.models.dashboard import Panel

    from dashboards.links import Links
    from otel_agents.vocabulary import Metric

_BEHIND: Final = THRESHOLDS["ServerBehind"].value
_FULL: Final = THRESHOLDS["StoreNearlyFull"].value
_QUEUE_FULL: Final = THRESHOLDS["CollectorQueueNearlyFull"].value
_COLLECTORS: Final = "Of every collector that is scraped; Jaeger is one too."
# How the collector's names of signals are said here.
_SAID: Final = {"spans": "spans", "metric_points": "metric points", "log_records": "log records"}


def build(links: Links) -> dict[str, Any]:
    """Return the board as Grafana's JSON."""
    return board(
        "telemetry",
        "Telemetry health",
        "What was lost on the way, who is behind, and how full collector, Jaeger, Prometheus and "
        "server are.",
        [
            Row("At a glance", _glance()),
            Row("Programs", _programs()),
            Row("Server", _server()),
            Row("Collectors", _collectors()),
            Row("Jaeger, Prometheus, Alertmanager", _backends()),
        ],
        links,
    )


def _glance() -> list[Panel]:
    missing = f"count ({_missing()})"
    filled = f"max ({_fill()})"
    return [
        stat_panel(
            "Signals lost",
            "Signals that the chosen programs lost within the time shown, and failures of our own.",
            "short", _lost(RANGE), steps=((1, "red"),),
        ),
        stat_panel(
            "Not wrapped",
            "What was to be wrapped in a program and could not be: it is missing on every board.",
            "short", missing, steps=((1, "red"),),
        ),
        stat_panel(
            "Server behind", "How long the oldest of what was sent waits to be stored.", "s",
            now(SERVER_BEHIND, how="max"), steps=((_BEHIND / 2, "orange"), (_BEHIND, "red")),
            nothing="No server",
        ),
        stat_panel(
            "Store used",
            "Share of its limit that the server's store takes; at 100% the oldest runs go.",
            "percentunit", f"{now(STORE_SIZE, how='max')} / ({now(STORE_LIMIT, how='max')} > 0)",
            steps=((_FULL - 0.1, "orange"), (_FULL, "red")), nothing="No limit",
        ),
        stat_panel(
            "Fullest queue",
            f"Share of its capacity that the fullest queue of an exporter takes. {_COLLECTORS}",
            "percentunit", filled,
            steps=((_QUEUE_FULL / 2, "orange"), (_QUEUE_FULL, "red")), nothing="No collector",
        ),
        stat_panel(
            "Targets down", "Parts of the stack that did not answer the last scrape.", "short",
            f"count ({foreign.PARTS} == 0)", steps=((1, "red"),),
        ),
    ]  # fmt: skip


def _lost(window: str, by: Iterable[str] = ()) -> str:
    return grown(TELEMETRY_DROPPED, window, by=by, where=JOB, before=LONG_GAP, heard=foreign.PARTS)


def _missing(by: tuple[str, ...] = ("job", "target")) -> str:
    return f"{now(INSTRUMENTATION_MISSING, by=by, where=JOB, how='max')} > 0"


def _fill(by: tuple[str, ...] = ("job", "exporter", "data_type")) -> str:
    size = now(foreign.QUEUE_SIZE, by=by, how="max")
    return f"{size} / ({now(foreign.QUEUE_CAPACITY, by=by, how='max')} > 0)"


def _programs() -> list[Panel]:
    processes = _missing(("job", "target", "instance"))
    return [
        bars(
            "Signals lost by sink and reason",
            "A bar counts what the chosen programs lost in it, and failures of our own.", "short",
            Query(_lost(BAR, ["sink", "reason"]), "{{sink}}: {{reason}}"),
            width=12, nothing="Nothing was lost",
        ),
        table_panel(
            "Not instrumented",
            "Targets of the settings and installed frameworks that could not be wrapped; run "
            "`otel-agents doctor` beside the program.",
            {"job": "Program", "target": "Target"},
            [
                Column("Processes", f"count by (job, target) ({processes})"),
                Column("Missing", _missing()),
            ],
            sort="Processes", width=12, nothing="Everything is wrapped",
        ),
    ]  # fmt: skip


def _server() -> list[Panel]:
    return [
        lines(
            "Signals stored", "How many signals the server stores a second.", "cps",
            Query(per_second(SERVER_SIGNALS, RECENT), "signals"), width=6,
        ),
        lines(
            "Behind", "How long the oldest of what was sent waits to be stored; above the line an "
            "alert fires.",
            "s", Query(now(SERVER_BEHIND, how="max"), "oldest"), width=6,
            steps=((_BEHIND, "red"),),
        ),
        lines(
            "Waiting", "Requests that wait to be stored, and signals stored and not counted yet.",
            "short", Query(now(SERVER_WAITING, how="max"), "requests to be stored"),
            Query(now(SERVER_UNREAD, how="max"), "signals not counted yet"), width=6,
        ),
        lines(
            "Store", "What the store takes, may take, and has left on its disk. At the limit the "
            "oldest runs are removed.",
            "bytes", Query(now(STORE_SIZE, how="max"), "size"),
            Query(now(STORE_LIMIT, how="max"), "limit"),
            Query(now(STORE_FREE, how="min"), "free on the disk"), width=6,
            links=[to_console("Runs in the console", "/runs")],
        ),
    ]  # fmt: skip


def _each(
    metrics: dict[str, Metric], legend: str, by: Iterable[str], window: str = ""
) -> list[Query]:
    """Return a query for each signal: the collector has the signal in the metric's name.

    With a window it is what was counted within it, else how many a second. What fails is asked in
    the first way: such a counter appears with its first failure, which `rate` leaves out.
    """
    kept = tuple(by)
    return [
        Query(
            failed(metric, window, by=kept) if window else per_second(metric, RECENT, by=kept),
            f"{_SAID[signal]}: {legend}",
        )
        for signal, metric in metrics.items()
    ]


def _collectors() -> list[Panel]:
    at_receiver = ("job", "receiver")
    at_exporter = ("job", "exporter")
    refused, failed = foreign.RECEIVER_REFUSED, foreign.RECEIVER_FAILED
    return [
        lines(
            "Accepted and sent",
            f"What receivers took and what exporters delivered, a second. {_COLLECTORS}", "cps",
            *_each(foreign.RECEIVER_ACCEPTED, "accepted by {{job}} {{receiver}}", at_receiver),
            *_each(foreign.EXPORTER_SENT, "sent by {{job}} {{exporter}}", at_exporter),
        ),
        bars(
            "Refused or failed at receivers",
            "What receivers turned down in each bar: for want of memory, with a queue full, or by "
            f"faults of their own. Senders keep it and try again. {_COLLECTORS}",
            "short",
            *_each(refused, "refused by {{job}} {{receiver}}", at_receiver, BAR),
            *_each(failed, "failed in {{job}} {{receiver}}", at_receiver, BAR),
            nothing="Nothing was refused",
        ),
        bars(
            "Lost at exporters",
            "What exporters gave up on in each bar, and what found their queue full: senders keep "
            f"the latter. {_COLLECTORS}",
            "short",
            *_each(foreign.EXPORTER_FAILED, "given up by {{job}} {{exporter}}", at_exporter, BAR),
            *_each(foreign.ENQUEUE_FAILED, "queue full at {{job}} {{exporter}}", at_exporter, BAR),
            nothing="Nothing was lost",
        ),
        lines(
            "Queues filled",
            "Share of its capacity that each exporter's queue takes; above the line an alert "
            f"fires. {_COLLECTORS}",
            "percentunit", Query(_fill(), "{{job}} {{exporter}} {{data_type}}"), most=1,
            width=12, steps=((_QUEUE_FULL, "red"),),
        ),
        lines(
            "Memory", f"Resident memory. {_COLLECTORS}", "bytes",
            Query(now(foreign.COLLECTOR_MEMORY, by=["job", "instance"]), "{{job}} {{instance}}"),
            width=12,
        ),
    ]  # fmt: skip


def _backends() -> list[Panel]:
    taken, asked = (
        per_second(foreign.JAEGER_LATENCY, RECENT, by=["operation"], part=part)
        for part in ("sum", "count")
    )
    return [
        lines(
            "Jaeger's storage",
            "How long queries of late took on average, by operation; Jaeger's own buckets are too "
            "wide for more.",
            "s", Query(f"{taken} / ({asked} > 0)", "{{operation}}"), width=8,
            nothing="Nobody has asked Jaeger",
        ),
        lines(
            "Prometheus", "Samples by remote write, a second, and series in memory.", "short",
            Query(per_second(foreign.REMOTE_SAMPLES, RECENT), "samples a second"),
            Query(now(foreign.HEAD_SERIES), "series"), width=8,
        ),
        bars(
            "Failures",
            "In each bar: queries to Jaeger's storage that failed (a trace that it does not have "
            "is one), rules of Prometheus that could not be worked out or came too late, alerts "
            "that no Alertmanager took, notifications that Alertmanager gave up on.",
            "short",
            Query(
                failed(foreign.JAEGER_REQUESTS, BAR, by=["operation"], where={"result": "!=ok"}),
                "Jaeger: {{operation}}",
            ),
            Query(failed(foreign.RULE_FAILURES, BAR), "rules failed"),
            Query(failed(foreign.RULES_MISSED, BAR), "rules too late"),
            Query(failed(foreign.ALERTS_UNSENT, BAR), "alerts not taken"),
            Query(
                failed(foreign.NOTIFICATIONS_FAILED, BAR, by=["integration"]),
                "notifications: {{integration}}",
            ),
            width=8, nothing="Nothing has failed",
        ),
    ]  # fmt: skip
