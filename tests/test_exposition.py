"""The text that Prometheus scrapes: names, labels, values and both formats."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader

from otel_agents import metrics as metrics_module
from otel_agents import run, runtime, task
from otel_agents.boundary import boundary
from otel_agents.exposition import OPENMETRICS_TYPE, TEXT_TYPE, exposition, name_of
from otel_agents.metrics import Family, Metrics, Point
from otel_agents.profiles import PROFILES
from otel_agents.runtime import Runtime
from otel_agents.scrape import answer, prometheus_text
from otel_agents.vocabulary import (
    COST,
    LONG_BUCKETS,
    METRICS,
    QUEUE_SIZE,
    RUN_ACTIVE,
    RUN_DURATION,
    RUNS_STARTED,
    WORKER_COUNT,
    Metric,
)
from tests.forking import Forked
from tests.scraping import promtool, samples, value

__all__ = ["promtool"]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_agents.testing import Captured

OPENMETRICS = "application/openmetrics-text"
PROMETHEUS_2 = (
    f"{OPENMETRICS};version=1.0.0,{OPENMETRICS};version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    f"{OPENMETRICS};version=1.0.0;escaping=allow-utf-8;q=0.6,{OPENMETRICS};version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
HOSTILE = [
    'a "quoted" name', "two\nlines", "carriage\rreturn", "back\\slash", "x" * 4096, "\x00\x1b[31m",
    '"} or vector(1) #', "half \ud800 a pair", "# EOF", "\u2028", '{a="b"} 1', "日本",
]  # fmt: skip


def text(*families: Family, accept: str = "") -> str:
    return exposition(families, accept)[1].decode()


def runs(*points: Point) -> Family:
    return Family(RUNS_STARTED, list(points))


def work() -> None:
    """Run three runs: one that succeeds, one that fails, and one that is cancelled."""
    for error in (None, ValueError("no"), KeyboardInterrupt()):
        try:
            with run("shop"), task("t-1"):
                if error is not None:
                    raise error
        except (ValueError, KeyboardInterrupt):
            pass


def test_the_names_are_those_that_prometheus_gives_metrics_by_otlp() -> None:
    """Dashboards that were made for one way serve the other."""
    expected = {
        "otelagents.runs.started": "otelagents_runs_started",
        "otelagents.run.duration": "otelagents_run_duration_seconds",
        "otelagents.cost": "otelagents_cost",
        "otelagents.worker.heartbeat.age": "otelagents_worker_heartbeat_age_seconds",
        "otelagents.budget.utilization": "otelagents_budget_utilization",
        "otelagents.kpi.time_to_completion": "otelagents_kpi_time_to_completion_seconds",
    }
    assert {name: name_of(METRICS[name]) for name in expected} == expected
    usage = PROFILES["compat"].token_usage
    assert usage is not None
    assert name_of(usage) == "gen_ai_client_token_usage"


def test_every_unit_of_the_vocabulary_has_a_word_or_is_dropped() -> None:
    """A unit that the names do not know would be missing at the end of a name."""
    of_profiles = [
        one for profile in PROFILES.values() for one in (*profile, *profile.token_counters.values())
    ]
    known = [one for one in (*METRICS.values(), *of_profiles) if isinstance(one, Metric)]
    units = {one.unit for one in known if not one.unit.startswith("{")}
    assert units == {"s", ""}


def test_no_two_metrics_have_one_name() -> None:
    """A family stands in a text once."""
    names = [name_of(metric) for metric in METRICS.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_each_instrument_is_told_as_its_type(accept: str) -> None:
    """A counter ends in `_total`, an up-down counter is a gauge, a histogram has its buckets."""
    counts = (1, *([0] * 16), 1)
    found = text(
        runs(Point({"workflow": "shop"}, 2)),
        Family(RUN_ACTIVE, [Point({"workflow": "shop"}, 1)]),
        Family(RUN_DURATION, [Point({"workflow": "shop"}, 8000.01, counts)]),
        accept=accept,
    )
    said = samples(found, openmetrics=bool(accept))
    base = "otelagents_run_duration_seconds"
    assert value(said, "otelagents_runs_started_total") == 2
    assert value(said, "otelagents_run_active") == 1
    assert value(said, f"{base}_bucket", le="0.05") == 1
    assert value(said, f"{base}_bucket", le="7200.0") == 1
    assert value(said, f"{base}_bucket", le="+Inf") == 2
    assert value(said, f"{base}_count") == 2
    assert value(said, f"{base}_sum") == 8000.01
    assert "# TYPE otelagents_run_active gauge\n" in found
    assert f"# TYPE {base} histogram\n" in found
    assert "# HELP otelagents_run_active Runs under way.\n" in found


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", TEXT_TYPE),
        ("*/*", TEXT_TYPE),
        ("text/html,application/xhtml+xml,*/*;q=0.8", TEXT_TYPE),
        ("text/plain;version=0.0.4", TEXT_TYPE),
        (OPENMETRICS, OPENMETRICS_TYPE),
        (f"{OPENMETRICS}; version=1.0.0; charset=utf-8", OPENMETRICS_TYPE),
        (PROMETHEUS_2, OPENMETRICS_TYPE),
        (PROMETHEUS_3, OPENMETRICS_TYPE),
        (f"{OPENMETRICS};q=0.1,text/plain;q=0.9", TEXT_TYPE),
        (f"{OPENMETRICS};q=0", TEXT_TYPE),
        (f"{OPENMETRICS};version=2.0.0", TEXT_TYPE),
        (f"{OPENMETRICS};version=1.0.0;q=nan", TEXT_TYPE),
        (f"{OPENMETRICS};version=1.0.0;q=much", TEXT_TYPE),
    ],
)
def test_the_format_is_the_one_that_is_asked_for(accept: str, expected: str) -> None:
    """Whoever does not name OpenMetrics gets the text that every Prometheus reads."""
    type_, body = exposition([runs(Point({}, 1))], accept)
    assert type_ == expected
    assert body.endswith(b"# EOF\n") == (expected == OPENMETRICS_TYPE)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_give_a_text_that_promtool_takes(
    hostile: str, promtool: Callable[[bytes], None]
) -> None:
    """A name cannot end its label, its line or the text."""
    family = runs(Point({"workflow": hostile}, 1), Point({"workflow": "shop"}, 2))
    _, body = exposition([family])
    promtool(body)
    expected = hostile.encode("utf-8", "replace").decode()
    for accept in ("", OPENMETRICS):
        found = samples(text(family, accept=accept), openmetrics=bool(accept))
        assert value(found, "otelagents_runs_started_total", workflow=expected) == 1
        assert len(found) == 2


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5, unique=True))
def test_any_text_is_read_back_as_it_was(names: list[str]) -> None:
    """What a parser reads are the labels that were counted."""
    family = Family(COST, [Point({"agent": name}, n + 1) for n, name in enumerate(names)])
    expected = {
        ("otelagents_cost_total", frozenset({("agent", name)})): n + 1
        for n, name in enumerate(names)
    }
    assert samples(text(family)) == expected
    assert samples(text(family, accept=OPENMETRICS), openmetrics=True) == expected


def test_series_that_prometheus_cannot_tell_apart_are_one() -> None:
    """A name of half a surrogate pair becomes another name, and a series may stand there once."""
    family = runs(Point({"workflow": "a\ud800"}, 1), Point({"workflow": "a?"}, 2))
    assert samples(text(family)) == {
        ("otelagents_runs_started_total", frozenset({("workflow", "a?")})): 3
    }
    counts = (1, *([0] * 17))
    both = [Point({"workflow": "a\ud800"}, 0.01, counts), Point({"workflow": "a?"}, 0.02, counts)]
    found = samples(text(Family(RUN_DURATION, both)))
    assert value(found, "otelagents_run_duration_seconds_count") == 2
    assert value(found, "otelagents_run_duration_seconds_sum") == pytest.approx(0.03)


def test_labels_without_a_value_are_left_out() -> None:
    """To Prometheus an empty label and none are the same, and by OTLP there is none."""
    family = Family(COST, [Point({"agent": "coder", "phase": None, "model": ""}, 1)])
    assert list(samples(text(family))) == [
        ("otelagents_cost_total", frozenset({("agent", "coder")}))
    ]


def test_metrics_without_points_are_left_out() -> None:
    """A text of nothing is empty; that of OpenMetrics ends all the same."""
    assert text(runs()) == ""
    assert text(runs(), accept=OPENMETRICS) == "# EOF\n"


# ---------------------------------------------------------------------- what Metrics tells


def test_the_state_of_metrics_is_that_which_the_sdk_reports() -> None:
    """Sums, and the buckets of histograms, agree with those of the SDK's own reader."""
    reader = InMemoryMetricReader()
    metrics = Metrics(MeterProvider([reader]))
    metrics.add(RUNS_STARTED, ("shop",), 3)
    metrics.watch(QUEUE_SIZE, lambda: [(("digest", "PENDING"), 4)])
    seconds = [0.0, 0.05, 0.050001, 1.0, 59.9, 7200.0, 7200.1, 1e6]
    for number in seconds:
        metrics.record(RUN_DURATION, number, {"workflow": "shop", "result": "succeeded"})

    found = {family.metric.name: family.points for family in metrics.families()}
    data = reader.get_metrics_data()
    assert data is not None
    reported: dict[str, Any] = {
        one.name: one.data.data_points[0]
        for one in data.resource_metrics[0].scope_metrics[0].metrics
    }
    assert set(found) == set(reported)
    told = reported[RUN_DURATION.name]
    assert isinstance(told, HistogramDataPoint)
    (point,) = found[RUN_DURATION.name]
    assert point.counts == tuple(told.bucket_counts)
    assert point.value == pytest.approx(told.sum)
    assert point.labels == dict(told.attributes or {})
    assert found[RUNS_STARTED.name] == [Point({"workflow": "shop"}, 3)]
    assert found[QUEUE_SIZE.name] == [Point({"queue": "digest", "state": "PENDING"}, 4)]


def test_a_histogram_of_ten_thousand_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after the limit is counted under the SDK's mark, and nothing is lost."""
    monkeypatch.setattr(metrics_module, "MAX_SERIES", 10)
    metrics = Metrics(MeterProvider())
    for number in range(10_000):
        metrics.record(RUN_DURATION, 1, {"workflow": f"shop-{number}"})
    found = samples(text(*metrics.families()))
    name = "otelagents_run_duration_seconds_count"
    assert value(found, name) == 10_000
    assert value(found, name, otel_metric_overflow="true") == 9_990


def test_values_that_are_no_measurements_are_not_counted() -> None:
    """A sum that once was infinite or not a number would be so for ever."""
    metrics = Metrics(MeterProvider())
    for number in (float("nan"), float("inf"), -1.0, 2.0):
        metrics._make_histogram(RUN_DURATION)[1].add(number, {})
    (family,) = metrics.families()
    assert [(sum(point.counts), point.value) for point in family.points] == [(1, 2.0)]


def test_a_gauge_that_cannot_be_read_costs_the_others_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is left out, and its failure is counted."""
    monkeypatch.setattr(boundary, "strict", False)
    metrics = Metrics(MeterProvider())

    def fail() -> list[Any]:
        raise LookupError("no queue")

    metrics.watch(QUEUE_SIZE, fail)
    metrics.watch(WORKER_COUNT, lambda: [(("indexer", "RUNNING"), 1)])
    before = boundary.counts.get(f"reading {QUEUE_SIZE.name}", 0)
    assert [family.metric for family in metrics.families()] == [WORKER_COUNT]
    assert boundary.counts[f"reading {QUEUE_SIZE.name}"] == before + 1


def test_a_forked_child_tells_its_own_measurements_only() -> None:
    """What its parent measured is its parent's to tell."""
    metrics = Metrics(MeterProvider())
    metrics.record(RUN_DURATION, 1, {"workflow": "shop"})
    read, write = os.pipe()

    def child() -> None:
        metrics.record(RUN_DURATION, 5, {"workflow": "press"})
        os.write(write, text(*metrics.families()).encode())

    Forked(child).end()
    os.close(write)
    with Path(f"/dev/fd/{read}").open() as pipe:
        found = samples(pipe.read())
    os.close(read)
    assert value(found, "otelagents_run_duration_seconds_count") == 1
    assert value(found, "otelagents_run_duration_seconds_sum", workflow="press") == 5


def test_a_scrape_while_eight_threads_record_is_consistent() -> None:
    """Each histogram's buckets rise to its count, counts never fall, and none is lost."""
    metrics = Metrics(MeterProvider())
    ending = threading.Event()

    def record(thread: int) -> None:
        for number in range(2000):
            metrics.record(RUN_DURATION, number % 100, {"workflow": f"shop-{thread % 2}"})
            metrics.add(RUNS_STARTED, (f"shop-{number % 50}",))

    threads = [threading.Thread(target=record, args=(number,)) for number in range(8)]

    def scrapes() -> Iterator[str]:
        while not ending.is_set():
            yield text(*metrics.families(), accept=OPENMETRICS)

    for thread in threads:
        thread.start()
    waiting = threading.Thread(target=lambda: [*map(threading.Thread.join, threads), ending.set()])
    waiting.start()
    before: dict[Any, float] = {}
    for scraped in scrapes():
        found = samples(scraped, openmetrics=True)
        assert all(found[key] >= number for key, number in before.items())
        before = found
    waiting.join()
    found = samples(text(*metrics.families(), accept=OPENMETRICS), openmetrics=True)
    assert value(found, "otelagents_run_duration_seconds_count") == 16_000
    assert value(found, "otelagents_run_duration_seconds_bucket", le="+Inf") == 16_000
    assert value(found, "otelagents_runs_started_total") == 16_000


# ---------------------------------------------------------------------- the text of a process


def test_the_text_of_a_process_tells_what_it_counted(
    captured: Captured, promtool: Callable[[bytes], None]
) -> None:
    """The numbers are those of the SDK's reader, for runs of each result; promtool is content."""
    work()
    found = samples(prometheus_text())
    for result in ("succeeded", "failed", "canceled"):
        name = "otelagents_runs_completed_total"
        assert value(found, name, workflow="shop", result=result) == 1
        assert captured.metric("otelagents.runs.completed", workflow="shop", result=result) == 1
    assert value(found, "otelagents_run_duration_seconds_count") == 3
    assert value(found, "otelagents_run_active") == 0
    for name, labels, number in captured.points():
        metric = METRICS.get(name)
        if metric is None or name.endswith(".age"):  # which grows between the two readings
            continue
        suffix = {"counter": "_total", "histogram": "_count"}.get(metric.instrument, "")
        key = name_of(metric) + suffix, frozenset(labels.items())
        assert found[key] == number
    promtool(prometheus_text().encode())
    openmetrics = answer(OPENMETRICS)[1].decode()
    assert still(samples(openmetrics, openmetrics=True)) == still(found)


def still(found: dict[Any, float]) -> dict[Any, float]:
    """Return samples without the ages, which another test's tasks may have left growing."""
    return {key: value for key, value in found.items() if not key[0].endswith("_age_seconds")}


def test_histograms_reach_from_a_twentieth_of_a_second_to_two_hours(captured: Captured) -> None:
    """A top bucket of seconds would pin every percentile of an agent's run to it."""
    work()
    bounds = [
        dict(labels)["le"]
        for (name, labels) in samples(prometheus_text())
        if name == "otelagents_run_duration_seconds_bucket" and ("result", "failed") in labels
    ]
    assert [float(bound) for bound in bounds] == [*LONG_BUCKETS, float("inf")]


def test_the_text_is_empty_where_there_is_nothing_to_tell() -> None:
    """Before anything was counted, and where telemetry is disabled."""
    assert prometheus_text() == ""
    metrics = Metrics(MeterProvider())
    metrics.add(RUNS_STARTED, ("shop",))
    runtime.put(Runtime(disabled=True, metrics=metrics))
    assert prometheus_text() == ""
