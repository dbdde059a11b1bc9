"""`/metrics` of the server: what was stored since it started, as Prometheus scrapes it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from otel_agents import phase, run, runtime, server_vocabulary
from otel_agents.boundary import boundary
from otel_agents.metrics import Metrics
from otel_agents.pipeline import Pipeline
from otel_agents.runtime import Runtime
from otel_agents.server import metrics_page
from otel_agents.server.kpis import Readings
from otel_agents.server.metrics_page import MetricsPage
from otel_agents.sinks.sqlite import StoreSink
from otel_agents.store import Batch, open_store
from tests.scraping import Prometheus, prometheus, promtool, samples, value
from tests.state.build import Story

from .kit import ADMIN, INGEST, TOKENS, VIEWER, fill, raw, told, wait_until

__all__ = ["prometheus", "promtool"]

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from otel_agents.signals import Signal
    from otel_agents.store import Store

    from .conftest import Running, Serving

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def scraped(server: Running, accept: str = "", **headers: str) -> Any:
    answer = server.client.get("/metrics", headers={"accept": accept, **headers})
    assert answer.status_code == 200
    return samples(answer.text, openmetrics=bool(accept))


def runs_of(found: Any, result: str) -> float:
    return value(found, "otelagents_runs_completed_total", workflow="shop", result=result)


def test_the_page_tells_what_was_stored_since_the_server_started(
    open_server: Running, promtool: Callable[[bytes], None]
) -> None:
    """Nothing of what was there before, and all of what comes, once, in both formats."""
    assert value(scraped(open_server), "otelagents_runs_started_total") == 0
    for number, result in enumerate(("success", "error", "cancellation")):
        fill(open_server.store, Batch(signals=told(f"new-{number}", result=result)))
    found = scraped(open_server)
    for result in ("succeeded", "failed", "canceled"):
        assert runs_of(found, result) == 1
    assert value(found, "otelagents_runs_started_total") == 3
    assert value(found, "otelagents_run_active", workflow="shop") == 0
    assert value(found, "otelagents_run_duration_seconds_sum", result="failed") == 100
    assert value(found, "otelagents_run_duration_seconds_bucket", le="120.0") == 3
    assert value(found, "otelagents_run_duration_seconds_bucket", le="60.0") == 0
    assert value(found, "otelagents_agent_attempts_total", agent="builder") == 3
    assert value(found, "otelagents_tokens_total", type="input") == 900
    assert value(found, "otelagents_tokens_total", model="gpt-5", type="input") == 300
    assert value(found, "otelagents_cost_total") == pytest.approx(2.25)
    assert value(found, "otelagents_server_signals_total") == 3 * len(told("any"))
    assert value(found, "otelagents_server_signals_unread") == 0
    promtool(raw(open_server.url, "GET", "/metrics").body)
    again = scraped(open_server, OPENMETRICS)
    assert runs_of(again, "succeeded") == 1


def test_signals_that_are_sent_again_count_once(open_server: Running) -> None:
    """Exporters try again when an answer is lost, and the store knows a signal by its id."""
    signals = told("again")
    for _ in range(3):
        fill(open_server.store, Batch(signals=signals))
        found = scraped(open_server)
    assert runs_of(found, "succeeded") == 1
    assert value(found, "otelagents_server_signals_total") == len(signals)


def test_what_another_process_stores_is_counted(serving: Serving, tmp_path: Path) -> None:
    """A program can write to the same file, and no commit of the server's tells of it."""
    server = serving()
    program = open_store(f"sqlite:///{tmp_path / '0.db'}")
    program.write(Batch(signals=told("beside")))
    program.close()
    assert runs_of(scraped(server), "succeeded") == 1


def test_a_program_and_the_server_tell_the_same_numbers(serving: Serving, tmp_path: Path) -> None:
    """What a program counts by itself agrees with what its signals say: ok, error, cancelled."""
    server = serving()
    metrics = Metrics()
    pipeline = Pipeline([StoreSink(f"sqlite:///{tmp_path / '0.db'}")], metrics.dropped)
    before = runtime.put(Runtime(metrics=metrics, pipeline=pipeline))
    try:
        for error in (None, None, ValueError("no"), KeyboardInterrupt()):
            try:
                with run("shop"), phase("plan"):
                    if error is not None:
                        raise error
            except (ValueError, KeyboardInterrupt):
                pass
        pipeline.flush(90)
    finally:
        runtime.put(before)
        pipeline.close()
    own = {
        (family.metric.name.replace(".", "_") + "_total", frozenset(point.labels.items())):
            point.value
        for family in metrics.families()
        if family.metric.name in {"otelagents.runs.started", "otelagents.runs.completed"}
        for point in family.points
    }  # fmt: skip
    found = scraped(server)
    assert {key: number for key, number in found.items() if key in own} == own
    assert len(own) == 4
    assert runs_of(found, "succeeded") == 2


def test_the_real_prometheus_scrapes_the_server(serving: Serving, prometheus: Prometheus) -> None:
    """With a viewer's token; it answers quantiles of durations, and counters rise from 0."""
    server = serving(TOKENS)
    fill(server.store, Batch(signals=told("first")))
    job = prometheus.scrape(server.url, token=VIEWER)
    completed = f'sum(otelagents_runs_completed_total{{job="{job}"}})'
    assert prometheus.eventually(lambda: prometheus.number(completed) == 1)
    for number in range(9):
        fill(server.store, Batch(signals=told(f"more-{number}")))
    assert prometheus.eventually(lambda: prometheus.number(completed) == 10)
    buckets = f'otelagents_run_duration_seconds_bucket{{job="{job}"}}'
    p95 = prometheus.number(f"histogram_quantile(0.95, sum by (le) ({buckets}))")
    assert p95 is not None
    assert 60 < p95 <= 120
    increase = f"sum(increase({completed[4:-1]}[1m]))"
    assert prometheus.eventually(lambda: (prometheus.number(increase) or 0) > 0)


def test_the_kpis_of_the_last_day_are_gauges(serving: Serving) -> None:
    """Those that have something to count, of what was stored before the server too."""
    server = serving()
    begin = time.time_ns() - 60 * 10**9
    story = Story("kpis", begin=begin).start("run", name="shop")
    story.start("agent", "a", "coder", task_id="t-1").wait(3).end("a", cost=0.5)
    story.instant("validation", "tests", task_id="t-1").instant("validation", "lint", "failure")
    fill(server.store, Batch(signals=story.signals))
    name = "otelagents_kpi_validation_pass_rate"
    wait_until(lambda: value(scraped(server), name) > 0)
    found = scraped(server)
    assert value(found, name) == 0.5
    assert value(found, "otelagents_kpi_average_retries") == 0
    assert not [key for key in found if key[0] == "otelagents_kpi_critic_rejection_rate"]
    kpis = server.client.get("/api/kpis").json()["data"]["kpis"]
    assert kpis["validation_pass_rate"] == 0.5


def test_kpis_that_cannot_be_counted_cost_the_page_nothing(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is told, and the log says why."""
    said: list[str] = []
    monkeypatch.setattr(boundary, "warn", lambda text, *_: said.append(text))
    monkeypatch.setattr(Readings, "window", lambda *_: {}["kpis"])
    found = scraped(serving())
    assert value(found, "otelagents_server_signals_unread") == 0
    assert len(said) == 1


def test_a_run_that_fell_silent_is_not_active(open_server: Running) -> None:
    """One that speaks is; one of a process that was killed is not, from 30 s on."""
    now = time.time_ns()
    living = Story("living", begin=now).start("run", "s-1", "shop")
    silent = Story("silent", begin=now - 31 * 10**9).start("run", "s-2", "shop")
    fill(open_server.store, Batch(signals=[*living.signals, *silent.signals]))
    found = scraped(open_server)
    assert value(found, "otelagents_runs_started_total", workflow="shop") == 2
    assert value(found, "otelagents_run_active", workflow="shop") == 1


def test_counters_do_not_fall_when_runs_are_deleted(guarded: Running) -> None:
    """What was counted is counted, and what comes after is counted once."""
    viewer = {"Authorization": f"Bearer {VIEWER}"}
    fill(guarded.store, Batch(signals=told("kept")))
    fill(guarded.store, Batch(signals=told("gone")))
    assert runs_of(scraped(guarded, **viewer), "succeeded") == 2
    guarded.store.delete_run("gone")
    assert runs_of(scraped(guarded, **viewer), "succeeded") == 2
    fill(guarded.store, Batch(signals=told("new")))
    assert runs_of(scraped(guarded, **viewer), "succeeded") == 3


def test_a_scrape_leaves_to_the_next_one_what_it_has_no_time_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says how much that is, and nothing is lost or counted twice."""
    monkeypatch.setattr(metrics_page, "_PAGE", 5)
    store = open_store(f"sqlite:///{tmp_path / 'page.db'}")
    page = MetricsPage(store, Readings(store))
    page.begin()
    signals = told("run-1")
    fill(store, Batch(signals=signals))

    def state() -> dict[str, float]:
        return {one.metric.name: one.points[0].value for one in page.families() if one.points}

    clock = iter(range(10_000))
    monkeypatch.setattr(metrics_page.time, "monotonic", lambda: next(clock) * 4.0)
    counted = []
    while not counted or counted[-1] < len(signals):
        found = state()
        counted.append(found[server_vocabulary.SERVER_SIGNALS.name])
        assert found[server_vocabulary.SERVER_UNREAD.name] == len(signals) - counted[-1]
    monkeypatch.undo()
    assert counted == [*range(5, len(signals), 5), len(signals)]
    assert state()["otelagents.runs.completed"] == 1
    store.close()


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (None, 10),
        ("10", 10),
        ("0.2", 0.2),
        ("60", 10),
        ("0", 10),
        ("-1", 10),
        ("nan", 10),
        ("x", 10),
    ],
)
def test_a_scrape_takes_no_longer_than_prometheus_waits(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, said: str | None, seconds: float
) -> None:
    """It sends its time-out with every scrape; without one it is taken to be the default."""
    given: list[float] = []
    families = MetricsPage.families

    def noted(page: MetricsPage, seconds: float) -> Any:
        given.append(seconds)
        return families(page, seconds)

    monkeypatch.setattr(MetricsPage, "families", noted)
    headers = {} if said is None else {"X-Prometheus-Scrape-Timeout-Seconds": said}
    scraped(serving(), **headers)
    assert given == [seconds]


def test_scrapes_at_once_while_programs_send_count_each_signal_once(serving: Serving) -> None:
    """Two Prometheus servers and eight senders do not get in each other's way."""
    server = serving()
    every = [told(f"run-{number}") for number in range(40)]
    ending = threading.Event()
    failed: list[BaseException] = []

    def send(batches: list[list[Signal]]) -> None:
        for batch in batches:
            server.store.write(Batch(signals=batch))

    def scrape() -> None:
        before = 0.0
        try:
            while not ending.is_set():
                now = runs_of(scraped(server), "succeeded")
                assert now >= before
                before = now
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    senders = [threading.Thread(target=send, args=(every[n::8],)) for n in range(8)]
    scrapers = [threading.Thread(target=scrape) for _ in range(2)]
    for thread in (*senders, *scrapers):
        thread.start()
    for thread in senders:
        thread.join()
    ending.set()
    for thread in scrapers:
        thread.join()
    assert not failed
    assert runs_of(scraped(server), "succeeded") == 40


@pytest.mark.parametrize(
    ("token", "status"),
    [(None, 401), ("none-of-ours-0123456789", 401), (INGEST, 403), (VIEWER, 200), (ADMIN, 200)],
)
def test_who_may_read_may_scrape(guarded: Running, token: str | None, status: int) -> None:
    """A viewer's token is enough, and a sender's is none."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    answer = raw(guarded.url, "GET", "/metrics", headers)
    assert answer.status == status
    assert (b"otelagents_server_signals" in answer.body) == (status == 200)


def test_a_foreign_name_is_not_answered(open_server: Running) -> None:
    """A page whose name leads here must not read it (DNS rebinding)."""
    assert raw(open_server.url, "GET", "/metrics", {"Host": "evil.example"}).status == 421


def test_the_page_is_for_reading(open_server: Running) -> None:
    """HEAD gives the headers alone, and nothing can be changed."""
    head = raw(open_server.url, "HEAD", "/metrics")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert raw(open_server.url, "POST", "/metrics").status in {403, 405}


def test_hostile_names_give_a_text_that_promtool_takes(
    open_server: Running, promtool: Callable[[bytes], None]
) -> None:
    """Names come from whoever may send."""
    for number, name in enumerate(['"} or vector(1) #', "two\nlines", "\x00", "\\", "x" * 9000]):
        story = Story(f"hostile-{number}", name).start("run", f"h-{number}", name)
        fill(open_server.store, Batch(signals=story.signals))
    body = raw(open_server.url, "GET", "/metrics").body
    promtool(body)
    found = samples(body.decode())
    assert value(found, "otelagents_runs_started_total") == 5
    assert value(found, "otelagents_runs_started_total", workflow='"} or vector(1) #') == 1


def test_a_store_that_is_away_is_said_to_be(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, so that Prometheus' `up` is 0; what was counted before is told again afterwards."""
    from otel_agents.errors import UnavailableError

    server = serving()
    fill(server.store, Batch(signals=told("before")))
    assert runs_of(scraped(server), "succeeded") == 1

    def away(_store: Store, *_: Any, **__: Any) -> Any:
        raise UnavailableError("The database does not answer.")

    with monkeypatch.context() as patched:
        patched.setattr(type(server.store), "signal_rows", away)
        assert server.client.get("/metrics").status_code == 503
    fill(server.store, Batch(signals=told("after")))
    assert runs_of(scraped(server), "succeeded") == 2
