"""The gauges of what the server knows: runs, waits, workers, queues, breakers, the store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from otel_agents import server_vocabulary as words
from otel_agents.metrics import MAX_SERIES
from otel_agents.server import state_metrics
from otel_agents.server.state_metrics import StateMetrics
from otel_agents.signals import Ids, Signal
from otel_agents.store import Batch
from otel_agents.vocabulary import (
    BREAKER_STATE,
    LEASE_ACQUIRED,
    LEASE_EXPIRES,
    TASK_QUEUE,
    TASK_STATE,
    WAIT_ID,
    WAIT_TOOL_CALL,
    WORKER_STATUS,
    WORKER_TASK,
    WORKER_TYPE,
)
from tests.scraping import promtool, samples
from tests.state.build import SECOND, Story

from .kit import OPEN, fact, fill, raw

__all__ = ["promtool"]

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.databases import Cluster

    from .conftest import Running, Serving

DAY: Final = 86_400


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, serving: Serving) -> Running:
    """A server without tokens and with an empty store, on each database."""
    if request.param == "sqlite":
        return serving(OPEN)
    cluster: Cluster = request.getfixturevalue("postgresql")
    return serving(OPEN, store=cluster.make())


def at(seconds_ago: float) -> int:
    return time.time_ns() - round(seconds_ago * SECOND)


def gauge(server: Running, metric: Any, *labels: str) -> dict[Any, float]:
    """Return a gauge's values by those of its labels."""
    name = metric.name.replace(".", "_") + {"s": "_seconds", "By": "_bytes"}.get(metric.unit, "")
    answer = server.client.get("/metrics")
    assert answer.status_code == 200
    found: dict[Any, float] = {}
    for (one, given), number in samples(answer.text).items():
        if one == name:
            values = tuple(dict(given).get(label, "") for label in labels)
            found[values[0] if len(values) == 1 else values] = number
    return found


def store(server: Running, *signals: Signal) -> None:
    fill(server.store, Batch(signals=list(signals)))


def worker(name: str, seconds_ago: float, state: str = "RUNNING", task: str = "") -> Signal:
    """Return a heartbeat of an indexer."""
    when = at(seconds_ago)
    told = {WORKER_TYPE.key: "indexer", WORKER_STATUS.key: state, WORKER_TASK.key: task}
    return Signal(
        id=f"{name}-{when}", kind="worker", edge="end" if state == "STOPPED" else "progress",
        name="indexer", time=when, scope_id=name, ids=Ids(worker_id=name), attributes=told,
    )  # fmt: skip


def task(
    number: int, state: str, queue: str, seconds_ago: float = 1, worker_id: str | None = None,
    **more: Any,
) -> Signal:  # fmt: skip
    """Return what is told of a task."""
    return fact(
        "task", f"t-{number}", ids=Ids(task_id=f"t-{number}", worker_id=worker_id),
        at=at(seconds_ago), **{TASK_STATE.key: state, TASK_QUEUE.key: queue, **more},
    )  # fmt: skip


def breaker(name: str, state: str, seconds_ago: float, pid: int = 1) -> Signal:
    """Return what a process tells of a breaker."""
    signal = fact("breaker", name, at=at(seconds_ago), **{BREAKER_STATE.key: state})
    signal.pid, signal.host = pid, "h"
    signal.id += f"-{pid}"
    return signal


# ---------------------------------------------------------------------- runs


def test_runs_under_way_are_counted_by_state(server: Running) -> None:
    """Running, waiting for a human, and lost within the last hour; one that ended is none."""
    running = Story("running", begin=at(5)).start("run", "r1", "shop")
    waiting = Story("waiting", begin=at(5)).start("run", "r2", "shop")
    waiting.start("human", "h", "approve", parent="r2")
    lost = Story("lost", begin=at(600)).start("run", "r3", "shop")
    long = Story("long", begin=at(7200)).start("run", "r4", "shop")
    ended = Story("ended", begin=at(60)).start("run", "r5", "shop").wait(3).end("r5", "error")
    stories = running, waiting, lost, long, ended
    store(server, *(signal for story in stories for signal in story.signals))
    assert gauge(server, words.SERVER_RUNS, "workflow", "state") == {
        ("shop", "running"): 1, ("shop", "waiting"): 1, ("shop", "lost"): 1,
    }  # fmt: skip


def test_heartbeats_do_not_break_a_silence(server: Running) -> None:
    """What the run last told of else does: an agent, progress, or more that it used itself."""
    story = Story("silent", begin=at(900)).start("run", "r", "shop")
    story.start("agent", "a", "coder", parent="r").wait(100).end("a", cost=0.1)
    for _ in range(15):
        story.wait(53).progress("r")
    store(server, *story.signals)
    silence = gauge(server, words.RUN_SILENCE, "workflow")["shop"]
    assert 799 < silence < 830
    other = Story("busy", workflow="press", begin=at(900)).start("run", "p", "press")
    store(server, *other.wait(890).progress("p", 1, 10).signals)
    found = gauge(server, words.RUN_SILENCE, "workflow")
    assert found["press"] < 40
    assert found["shop"] > 799


def test_what_a_run_itself_uses_breaks_its_silence(server: Running) -> None:
    """A run that calls models outside of any agent says so with its heartbeats only."""
    from otel_agents.usage import Usage

    story = Story("calls", begin=at(900)).start("run", "r", "shop")
    for wait, requests in ((300, 1), (300, 2), (290, 2)):
        story.wait(wait).progress("r", usage=Usage(input_tokens=9 * requests, requests=requests))
    store(server, *story.signals)
    assert 299 < gauge(server, words.RUN_SILENCE, "workflow")["shop"] < 330


def test_the_quietest_run_speaks_for_its_workflow(server: Running) -> None:
    """And one that waits for a human, was lost or has ended does not."""
    for number, (quiet, more) in enumerate(((400, ""), (60, ""), (800, "human"))):
        story = Story(f"r-{number}", begin=at(quiet)).start("run", f"r{number}", "shop")
        if more:
            story.start("human", f"h{number}", "approve", parent=f"r{number}")
        story.wait(quiet - 2).progress(f"r{number}")
        store(server, *story.signals)
    assert 399 < gauge(server, words.RUN_SILENCE, "workflow")["shop"] < 430
    assert 799 < gauge(server, words.HUMAN_WAIT, "workflow")["shop"] < 830


def test_a_wait_for_a_human_ends(server: Running) -> None:
    """Answered, timed out or cancelled, it is told at 0, and the run runs on."""
    for number, result in enumerate(("success", "timeout", "cancellation")):
        story = Story(f"r-{number}", begin=at(300)).start("run", f"r{number}", "shop")
        story.start("human", f"h{number}", "approve", parent=f"r{number}")
        story.wait(290).progress(f"r{number}")
        store(server, *story.signals)
        assert gauge(server, words.HUMAN_WAIT, "workflow")["shop"] > 299
        told = len(story.signals)
        store(server, *story.wait(8).end(f"h{number}", result).signals[told:])
        assert gauge(server, words.HUMAN_WAIT, "workflow")["shop"] == 0
    assert gauge(server, words.RUN_SILENCE, "workflow")["shop"] < 30


def test_a_wait_that_was_answered_is_not_waited_for(server: Running) -> None:
    """The call of a tool that was put off is open until the program takes the answer."""
    story = Story("r-1", begin=at(300)).start("run", "r", "shop")
    call = {WAIT_ID.key: "call-7", WAIT_TOOL_CALL.key: "call-7"}
    story.start("human", "h", "approve deploy", parent="r", attributes=call).wait(1).end("r")
    store(server, *story.signals)
    assert gauge(server, words.HUMAN_WAIT, "workflow")["shop"] > 290
    server.store.hitl.answer("call-7", "approved", None, "cli")
    assert server.store.settle()
    found = server.client.get("/api/runs/r-1").json()["data"]
    assert [one["decision"] for one in found["waits"]] == ["approved"]
    assert gauge(server, words.HUMAN_WAIT, "workflow")["shop"] == 0
    assert "Answered, and not taken yet" in server.client.get("/runs/r-1").text


def test_a_workflow_that_ran_is_told_at_zero_for_a_day(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by a server that has just begun; after a day of nothing it is gone."""
    story = Story("over", begin=at(60)).start("run", "r", "shop").wait(3).end("r")
    old = Story("old", workflow="old", begin=at(2 * DAY)).start("run", "o", "old").end("o")
    store(server, *story.signals, *old.signals)
    assert gauge(server, words.SERVER_RUNS, "workflow", "state") == {
        ("shop", state): 0 for state in ("running", "waiting", "lost")
    }
    assert gauge(server, words.RUN_SILENCE, "workflow") == {"shop": 0}
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + (DAY + 60) * SECOND)
    assert gauge(server, words.SERVER_RUNS, "workflow", "state") == {}


# ---------------------------------------------------------------------- queues and workers


def test_queues_are_told_by_size_age_and_stuck_tasks(server: Running) -> None:
    """Of tasks that have not ended; the oldest pending one gives the age."""
    past = {LEASE_EXPIRES.key: time.time() - 5}
    store(
        server,
        task(1, "PENDING", "q", 300), task(2, "PENDING", "q", 20),
        task(3, "RUNNING", "q", 9, **past), task(4, "IN_REVIEW", "q"),
        task(5, "DONE", "q", 900), task(6, "FAILED", "q", 900),
        task(7, "SKIPPED", "q", 900), task(8, "RUNNING", "other", 5),
    )  # fmt: skip
    assert gauge(server, words.SERVER_QUEUE_SIZE, "queue", "state") == {
        ("q", "PENDING"): 2, ("q", "RUNNING"): 1, ("q", "IN_REVIEW"): 1,
        ("other", "PENDING"): 0, ("other", "RUNNING"): 1, ("other", "IN_REVIEW"): 0,
    }  # fmt: skip
    ages = gauge(server, words.SERVER_QUEUE_OLDEST, "queue")
    assert 299 < ages["q"] < 330
    assert ages["other"] == 0
    assert gauge(server, words.SERVER_STUCK, "queue") == {"q": 1, "other": 0}


def test_a_task_that_was_put_back_waits_anew(server: Running) -> None:
    """What it waited before it was held the first time is over."""
    store(
        server,
        task(1, "PENDING", "q", 900),
        task(1, "RUNNING", "q", 600, **{LEASE_ACQUIRED.key: time.time() - 600}),
        task(1, "PENDING", "q", 30),
    )
    assert 29 < gauge(server, words.SERVER_QUEUE_OLDEST, "queue")["q"] < 60


@pytest.mark.parametrize(
    ("outcome", "left"),
    [("success", 1), ("error", 0), ("cancellation", 0), (None, 1)],
    ids=["went well", "failed", "was cancelled", "goes on"],
)
def test_tasks_of_a_run_that_failed_wait_for_nobody(
    server: Running, outcome: str | None, left: int
) -> None:
    """What a run that went well left is for others; the rest of one that did not is dropped."""
    story = Story("r1", begin=at(500)).start("run", "r1", "shop")
    if outcome is not None:
        story.wait(3).end("r1", outcome)
    waiting = fact(
        "task", "t-1", ids=Ids(run_id="r1", task_id="t-1"), at=at(499),
        **{TASK_STATE.key: "PENDING", TASK_QUEUE.key: "q"},
    )  # fmt: skip
    store(server, *story.signals, waiting)

    assert gauge(server, words.SERVER_QUEUE_SIZE, "queue", "state")["q", "PENDING"] == left
    assert (gauge(server, words.SERVER_QUEUE_OLDEST, "queue")["q"] > 0) is bool(left)


def test_a_queue_that_ran_empty_is_told_at_zero(server: Running) -> None:
    """An alert on its age ends, and a dashboard shows that there is nothing."""
    store(server, task(1, "PENDING", "q", 300))
    assert gauge(server, words.SERVER_QUEUE_OLDEST, "queue")["q"] > 299
    store(server, task(1, "DONE", "q", 0))
    assert gauge(server, words.SERVER_QUEUE_OLDEST, "queue") == {"q": 0}
    assert set(gauge(server, words.SERVER_QUEUE_SIZE, "queue", "state").values()) == {0}


def test_workers_are_counted_and_the_oldest_heartbeat_told(server: Running) -> None:
    """With the queue of the task they hold, or held last; one that was stopped has no age."""
    store(
        server,
        task(1, "RUNNING", "now", 5), task(2, "DONE", "before", 900, worker_id="w-2"),
        task(3, "DONE", "last", 500, worker_id="w-2"),
        worker("w-1", 3, task="t-1"), worker("w-2", 200), worker("w-3", 90, "IDLE"),
        worker("w-4", 400, "STOPPED"), worker("w-5", 2 * DAY),
    )  # fmt: skip
    counts = gauge(server, words.SERVER_WORKERS, "worker_type", "state")
    assert counts == {
        ("indexer", "RUNNING"): 2, ("indexer", "IDLE"): 1, ("indexer", "DEGRADED"): 0,
        ("indexer", "STOPPED"): 1,
    }  # fmt: skip
    ages = gauge(server, words.SERVER_HEARTBEAT_AGE, "worker_type", "queue")
    assert ages.keys() == {("indexer", "now"), ("indexer", "last"), ("indexer", "")}
    assert ages["indexer", "now"] < 60
    assert 89 < ages["indexer", ""] < 199 < ages["indexer", "last"]
    store(server, worker("w-2", 0, "STOPPED"))
    ages = gauge(server, words.SERVER_HEARTBEAT_AGE, "worker_type", "queue")
    assert ("indexer", "last") not in ages


# ---------------------------------------------------------------------- what breakers say


def test_the_worst_process_speaks_for_a_breaker(server: Running) -> None:
    """One process has it open while another tells later that its own is closed."""
    server.client.get("/metrics")
    store(server, breaker("search", "open", 20, pid=1), breaker("search", "closed", 10, pid=2))
    assert gauge(server, words.SERVER_BREAKER, "breaker") == {"search": 2}
    store(server, breaker("search", "half_open", 5, pid=1))
    assert gauge(server, words.SERVER_BREAKER, "breaker") == {"search": 1}
    store(server, breaker("search", "closed", 1, pid=1))
    assert gauge(server, words.SERVER_BREAKER, "breaker") == {"search": 0}


def test_a_breaker_of_a_process_that_is_gone_counts_no_more(server: Running) -> None:
    """After an hour of silence; what was said last still stands, for a day."""
    server.client.get("/metrics")
    store(server, breaker("gone", "open", 4000, pid=1), breaker("gone", "closed", 10, pid=2))
    store(server, breaker("open", "open", 4000), breaker("old", "open", 2 * DAY))
    assert gauge(server, words.SERVER_BREAKER, "breaker") == {"gone": 0, "open": 2}


def test_a_worker_that_stops_takes_its_open_breaker_along(server: Running) -> None:
    """Nobody is refused by it any more; that of a worker that goes on stays open."""
    server.client.get("/metrics")
    told = [breaker("mine", "open", 20, pid=1), breaker("its", "open", 20, pid=2)]
    for signal, name in zip(told, ("w-1", "w-2"), strict=True):
        signal.ids.worker_id = name
    store(server, worker("w-1", 30), worker("w-2", 30), *told)
    assert gauge(server, words.SERVER_BREAKER, "breaker") == {"mine": 2, "its": 2}
    store(server, worker("w-1", 1, "STOPPED"))
    assert gauge(server, words.SERVER_BREAKER, "breaker") == {"mine": 0, "its": 2}


# ---------------------------------------------------------------------- the store, and the page


def test_the_store_says_how_full_it_is(server: Running) -> None:
    """What it takes grows with what is stored; a file has a disk, a server is not looked at."""
    before = gauge(server, words.STORE_SIZE)[()]
    (limit,) = gauge(server, words.STORE_LIMIT).values()
    assert limit == server.store.retain.max_bytes
    assert 0 <= before < limit
    assert bool(gauge(server, words.STORE_FREE)) == server.store.in_a_file
    if server.store.in_a_file:
        goal = {"otelagents.run.goal": "x" * 100_000}
        stories = [Story(f"r-{n}").start("run", f"s-{n}", attributes=goal) for n in range(9)]
        store(server, *(signal for story in stories for signal in story.signals))
        assert gauge(server, words.STORE_SIZE)[()] > before + 500_000


def test_a_size_that_takes_long_is_measured_now_and_then(
    serving: Serving, postgresql: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL all rows are looked at, and not at every scrape."""
    server = serving(OPEN, store=postgresql.make())
    asked: list[int] = []
    size = type(server.store).size
    monkeypatch.setattr(type(server.store), "size", lambda one: asked.append(1) or size(one))
    for _ in range(3):
        gauge(server, words.STORE_SIZE)
    assert len(asked) == 1
    monkeypatch.setattr(state_metrics, "_MEASURED_SECONDS", 0.0)
    gauge(server, words.STORE_SIZE)
    assert len(asked) == 2


def test_hostile_names_are_labels_like_others(
    server: Running, promtool: Callable[[bytes], None]
) -> None:
    """Quotes, line ends and text without end; the real promtool reads the page."""
    for number, name in enumerate(('"} or vector(1) #', "a\nb", "x" * 5000, "é\ud800")):
        story = Story(f"r-{number}", workflow=name, begin=at(5)).start("run", f"s-{number}", name)
        store(server, *story.signals, task(number, "PENDING", name, 5), breaker(name, "open", 5))
    promtool(raw(server.url, "GET", "/metrics").body)
    found = gauge(server, words.SERVER_QUEUE_SIZE, "queue", "state")
    assert found['"} or vector(1) #', "PENDING"] == 1
    assert max(len(queue) for queue, _ in found) <= 500


def test_names_without_end_make_no_series_without_end(serving: Serving) -> None:
    """A queue for every task is a mistake that must not cost Prometheus its memory."""
    server = serving(OPEN)
    store(server, *(task(number, "PENDING", f"q-{number}") for number in range(MAX_SERIES + 500)))
    assert len(gauge(server, words.SERVER_QUEUE_SIZE, "queue", "state")) == MAX_SERIES
    assert len(gauge(server, words.SERVER_QUEUE_OLDEST, "queue")) <= MAX_SERIES


def test_every_gauge_of_the_vocabulary_is_told(server: Running) -> None:
    """None is left out, and there is none besides."""
    story = Story("r", begin=at(5)).start("run", "r", "shop")
    store(server, *story.signals, task(1, "PENDING", "q"), worker("w", 1), breaker("b", "open", 1))
    families = StateMetrics(server.store).families(time.time_ns(), 5)
    told = {family.metric.name for family in families if family.points}
    own = {
        one.name
        for one in (words.SERVER_SIGNALS, words.SERVER_UNREAD, words.SERVER_BEHIND,
                    words.SERVER_WAITING)
    }  # fmt: skip
    due = words.METRICS.keys() - own
    if not server.store.in_a_file:
        due = due - {words.STORE_FREE.name}
    assert told == due
