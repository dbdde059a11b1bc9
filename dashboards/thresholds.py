"""Every threshold of the alerts, in one table: the only place where a number of theirs stands.

A threshold is wrong for somebody. Change it here, run `python -m dashboards` and the tests.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Threshold(NamedTuple):
    """When an alert fires.

    `value` is what is compared with, in `unit`; `window` is what is looked at, empty for a state;
    `floor` is how many there must be within the window for a share to mean something. What is
    compared has to stay so for `hold` (`for` of Prometheus), and the alert stays for `keep` after
    it (`keep_firing_for`), so that it does not come and go.
    """

    value: float
    unit: str
    window: str
    hold: str
    keep: str
    reason: str
    floor: float = 0


class Burn(NamedTuple):
    """A pair of windows that an error budget must burn in, `factor` times as fast as it may.

    The short one lets the alert end soon after the trouble does.
    """

    factor: float
    long: str
    short: str


# The share of runs that are to succeed. The rest is the error budget of 30 days.
OBJECTIVE: Final = 0.95
# Google's Site Reliability Workbook, "Alerting on SLOs": 2% of the budget of 30 days in an hour and
# 5% in six hours wake somebody, 10% in three days can wait until the morning.
BURN_FAST: Final = (Burn(14.4, "1h", "5m"), Burn(6, "6h", "30m"))
BURN_SLOW: Final = (Burn(1, "3d", "6h"),)
# The windows that failures of runs are recorded over, each of which some burn asks for; the last
# is summed up from hours, which costs less than reading three days of samples.
RATIO_WINDOWS: Final = ("5m", "30m", "1h", "6h")
RATIO_SUMMED: Final = ("3d", "1h")

# How often Prometheus works out the rules.
_EVERY_SECONDS: Final = 30
INTERVAL: Final = f"{_EVERY_SECONDS}s"

# What a job's cost is compared with: the same hour of last week or the one after it, else its hours
# of the last day, once there are as many values as an hour has.
COST_WINDOW: Final = "1h"
COST_SEASON: Final = "1w"
COST_AFTER_SEASON: Final = f"{7 * 24 - 1}h"
COST_FALLBACK: Final = "1d"
COST_SAMPLES: Final = 3600 // _EVERY_SECONDS
LATENCY_SHARE: Final = 0.95
LATENCY_WINDOW: Final = "30m"

THRESHOLDS: Final[dict[str, Threshold]] = {
    # ------------------------------------------------------------------ runs
    "RunStuck": Threshold(
        900, "s", "", "2m", "5m", "A step of a model or tool over 15 min is rarely meant."
    ),
    "RunLost": Threshold(
        0, "runs", "", "0m", "5m", "One is enough: nobody else will tell of it."
    ),
    "RunFailureRate": Threshold(
        0.2, "share", "30m", "5m", "10m",
        "Four times what the objective allows; one of a few runs is no trend.", floor=5,
    ),
    "ErrorBudgetBurnFast": Threshold(
        OBJECTIVE, "share", "", "2m", "15m", "See BURN_FAST.", floor=10
    ),
    "ErrorBudgetBurnSlow": Threshold(
        OBJECTIVE, "share", "", "15m", "1h", "See BURN_SLOW.", floor=20
    ),
    # ------------------------------------------------------------------ money
    "CostSpike": Threshold(
        3, "times", "1h", "10m", "30m",
        "Twice is a busy day; below some dollars an hour nobody minds.", floor=5,
    ),
    "BudgetWarning": Threshold(
        0, "events", "15m", "0m", "30m", "The program has set the limit."
    ),
    "BudgetExceeded": Threshold(
        0, "events", "15m", "0m", "30m", "The program has set the limit."
    ),
    "TokensUnpriced": Threshold(
        1000, "tokens", "1h", "0m", "1h", "Below that the cost missed is a fraction of a cent."
    ),
    # ------------------------------------------------------------------ agents, tools, models
    "RetryStorm": Threshold(
        1.5, "attempts per call", "15m", "5m", "10m",
        "Every second call made again: half of the requests are for nothing.", floor=20,
    ),
    "CriticRejectionHigh": Threshold(
        0.6, "share", "1h", "10m", "30m",
        "A critic that refuses half at first is at work; most of all is a loop.", floor=10,
    ),
    "ValidationPassLow": Threshold(
        0.4, "share", "1h", "10m", "30m",
        "A first draft and its repair pass half of the time; less means no progress.", floor=10,
    ),
    "HitlWaitingLong": Threshold(
        1800, "s", "", "1m", "5m", "Who was asked has not seen it within half an hour."
    ),
    "AgentLatencyHigh": Threshold(
        600, "s", "30m", "10m", "15m",
        "Ten minutes for one attempt of an agent; the buckets reach two hours.", floor=5,
    ),
    "ToolErrorRate": Threshold(
        0.25, "share", "15m", "5m", "10m",
        "Models recover from a failed call now and then, not from one of four.", floor=10,
    ),
    "ProviderRateLimited": Threshold(
        0.1, "share", "10m", "3m", "10m",
        "Retries absorb single answers of 429; a tenth of all tries is a quota.", floor=5,
    ),
    # ------------------------------------------------------------------ workers and queues
    "WorkerMissingHeartbeat": Threshold(
        60, "s", "", "1m", "5m",
        "A worker beats each 5 s and counts as lost after 30 s; twice that is no hiccup.",
    ),
    "QueueBacklogAge": Threshold(
        600, "s", "", "5m", "10m", "A task that nobody takes for ten minutes has no worker."
    ),
    "TasksStuck": Threshold(
        0, "tasks", "", "5m", "5m", "A lease that ran out is taken over at once if anybody works."
    ),
    "CircuitOpen": Threshold(
        2, "state", "", "1m", "5m", "2 is open; a trial call comes within a minute by default."
    ),
    "CheckpointFailing": Threshold(
        0, "checkpoints", "15m", "0m", "15m", "Work that cannot be taken back is being done."
    ),
    # ------------------------------------------------------------------ telemetry
    "TelemetryDropped": Threshold(
        0, "signals", "15m", "0m", "15m", "What is lost is missing in every other number."
    ),
    "InstrumentationMissing": Threshold(
        0, "targets", "15m", "0m", "30m", "What is not wrapped is not seen, by any alert."
    ),
    "NoData": Threshold(
        1, "absent", "", "5m", "5m", "A restart of the server and two scrapes fit in."
    ),
    "ServerBehind": Threshold(
        30, "s", "", "2m", "5m", "The console promises a second; senders give up after minutes."
    ),
    "SignalsUnread": Threshold(
        50000, "signals", "", "5m", "5m", "More than a scrape reads in a second: it does not end."
    ),
    "StoreNearlyFull": Threshold(
        0.9, "share", "", "10m", "30m", "At 1 the oldest tenth of the runs is deleted."
    ),
    "DiskNearlyFull": Threshold(
        1e9, "bytes", "", "5m", "15m", "A busy hour writes some hundred megabytes."
    ),
    # ------------------------------------------------------------------ the stack itself
    "TargetDown": Threshold(
        0, "up", "", "2m", "2m", "A restart takes seconds; eight scrapes in a row failed."
    ),
    "CollectorRefusing": Threshold(
        0, "items", "5m", "2m", "5m", "Senders keep what was refused, for minutes only."
    ),
    "CollectorExportFailing": Threshold(
        0, "waiting and sent", "2m", "3m", "5m",
        "Data waits and none has left: a restart of what it goes to takes less.",
    ),
    "CollectorDataLost": Threshold(
        0, "items", "15m", "0m", "15m", "The queue never gives up by itself: this is gone for good."
    ),
    "CollectorQueueNearlyFull": Threshold(
        0.8, "share", "", "1m", "5m", "At 1 the collector refuses."
    ),
    "CollectorRestarting": Threshold(
        2, "restarts", "30m", "0m", "15m", "A new version restarts it once; more is a crash loop."
    ),
    "JaegerStorageFailing": Threshold(
        0, "spans or queries", "5m", "2m", "5m",
        "Badger fails when its files are damaged; on a full disk Jaeger ends."
    ),
    "PrometheusRuleFailures": Threshold(
        0, "evaluations", "5m", "5m", "5m", "An alert that cannot be worked out never fires."
    ),
    "PrometheusRemoteWriteRejecting": Threshold(
        0, "requests", "15m", "0m", "15m", "Answered with 4xx: the collector does not try again."
    ),
    "PrometheusNotConnectedToAlertmanager": Threshold(
        1, "Alertmanagers", "5m", "5m", "5m", "Without one nobody is told of anything."
    ),
    "AlertmanagerNotificationsFailing": Threshold(
        0, "notifications", "15m", "0m", "15m", "Given up after all tries: somebody was not told."
    ),
}  # fmt: skip
