"""The KPIs in a real Redis: exact, whoever writes, and whatever becomes of the server."""

from __future__ import annotations

import json
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from otel_agents.boundary import boundary
from otel_agents.errors import SettingsError
from otel_agents.event_types import event_of
from otel_agents.signals import Ids, Signal, signal_id
from otel_agents.sinks import redis as redis_sink
from otel_agents.sinks.redis import RedisSink, make
from otel_agents.state.kpis import KPIS, fold_events
from otel_agents.state.kpis_buckets import hour_of, start_of
from otel_agents.vocabulary import EVENT_PAYLOAD, EVENT_TYPE
from tests.databases import wait_for
from tests.forking import Forked
from tests.patient import PATIENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.sinks.conftest import Server

HOURS = 3600.0
# Two hours and a half before the end of a day that is over: no window depends on the present.
# Processes that a test starts are told the day: it may be another one when they begin.
DAY = os.environ.setdefault("TEST_REDIS_DAY", hour_of(time.time() - 26 * HOURS)[:10])
START = start_of(DAY) + 21.5 * HOURS


def told(second: float, type_: str, **payload: Any) -> Signal:
    return Signal(
        id=signal_id(), kind="event", edge="fact", time=int((START + second) * 1e9),
        ids=Ids(run_id="r"), attributes={EVENT_TYPE.key: type_, EVENT_PAYLOAD.key: payload},
    )  # fmt: skip


def work(count: int, seed: int = 0, seconds: float = 2 * HOURS) -> list[Signal]:
    """Return so many events of tasks of several agents, spread over some hours."""
    chance = random.Random(seed)  # noqa: S311 - the same in every process
    found = []
    while len(found) < count:
        task, at = f"task {chance.randrange(count)}", chance.uniform(0, seconds)
        found += [
            told(at, "task_queued", task_id=task, feature=f"feature {len(found) % 7}", est_cost=1),
            told(at + 1, "agent_started", agent=f"coder {seed % 2}", task_id=task),
            told(at + 300, "agent_completed", agent=f"coder {seed % 2}", task_id=task,
                 status=chance.choice(["success", "failed", "approved", "rejected"]),
                 duration_ms=299_000.0, cost_usd=chance.random()),
            told(at + 400, "validation_complete", task_id=task, result=chance.random() < 0.5),
        ]  # fmt: skip
    chance.shuffle(found)
    return found[:count]


def expected(signals: Sequence[Signal]) -> dict[str, Any]:
    """Return every key and value that there should be, by a fold over all events at once."""
    events = [event for one in signals if (event := event_of(one))]
    found = {}
    for length, prefix, seconds in ((19, "hourly", HOURS), (10, "daily", 24 * HOURS)):
        for name in {hour_of(event.time)[:length] for event in events}:
            mine = [event for event in events if hour_of(event.time).startswith(name)]
            end = min(time.time(), start_of(name) + seconds)
            found[f"metrics:{prefix}:{name}"] = fold_events(mine).reading(end)
    return found


def shown(server: Server) -> dict[str, Any]:
    with closing(server.client()) as client:
        return {key: json.loads(client.get(key)) for key in client.keys("metrics:*")}


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sink wait for a Redis that is only slow; who tests its time-outs says so."""
    monkeypatch.setattr(redis_sink, "_TIMEOUT", 60.0)
    monkeypatch.setattr(redis_sink, "_CLOSE_SECONDS", 60.0)


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What would be logged."""
    said: list[str] = []
    monkeypatch.setattr(boundary, "warn", lambda message, *parts: said.append(message % parts))
    return said


# ------------------------------------------------------------------ keys, values, when


def test_keys_values_and_lives(server: Server) -> None:
    """As row D4 has them: an hour for 7 days, a day for 30, the six KPIs flat and the counts."""
    signals = work(60)
    sink = RedisSink(server.url)
    sink.write(signals)
    sink.close()
    values = shown(server)

    assert expected(signals) == values
    assert {f"metrics:daily:{DAY}"} == {key for key in values if "daily" in key}
    assert f"metrics:hourly:{DAY}T22:00:00" in values
    assert list(values[f"metrics:daily:{DAY}"]) == [*KPIS, "counts"]
    with closing(server.client()) as client:
        for key in client.keys("*"):
            days = 7 if "hourly" in key else 30
            assert 0 <= days * 86_400 - client.ttl(key) < 600


def test_a_hundred_events_are_written_and_fewer_wait(server: Server) -> None:
    """Until the timer of the lane, or the end."""
    signals = work(150)
    sink = RedisSink(server.url)
    sink.write(signals[:99])
    assert shown(server) == {}
    sink.write(signals[99:100])
    assert expected(signals[:100]) == shown(server)
    sink.write(signals[100:120])
    assert expected(signals[:100]) == shown(server)
    sink.tick()
    assert expected(signals[:120]) == shown(server)
    sink.write(signals[120:])
    sink.close()
    assert expected(signals) == shown(server)


def test_signals_that_are_no_events_cost_nothing(server: Server) -> None:
    """Not even a connection."""
    sink = RedisSink(server.url)
    sink.write([Signal(id="s", kind="phase", edge="start", time=1)] * 200)
    sink.tick()
    sink.close()

    assert shown(server) == {}
    assert sink._client is None


def test_a_unix_socket_and_the_server_is_used_like_a_port(server: Server) -> None:
    """Under the scheme `unix:`."""
    signals = work(20)
    sink = make(f"unix://{server.socket}?db=0")
    sink.write(signals)
    sink.close()

    assert expected(signals) == shown(server)


def test_an_hour_under_way_is_read_as_of_now(server: Server) -> None:
    """An agent at work is active until the present, not until the end of the hour."""
    now = time.time()
    sink = RedisSink(server.url)
    sink.write([told(now - START, "agent_started", agent="a", task_id="t")])
    sink.close()
    counts = shown(server)[f"metrics:hourly:{hour_of(now)}"]["counts"]

    assert counts["agents_active"] == 1
    assert 0 <= counts["window_seconds"] < 60


# ------------------------------------------------------------------ many writers


WRITER = f"""
{PATIENT}
import sys
from contextlib import closing
from tests.databases import wait_for
from tests.sinks.test_redis import RedisSink, connected, work

url, seed, writers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
part, sink = work(1_500, seed), RedisSink(url)
with closing(connected(url)) as client:
    client.incr("ready")
    wait_for(lambda: int(client.get("ready")) == writers)
for first in range(0, len(part), 37):
    sink.write(part[first : first + 37])
    if first % 3 == 0:
        sink.tick()
sink.close()
"""


def test_several_processes_lose_no_update(server: Server) -> None:
    """Each value is the fold over all events of all processes, to the last bit."""
    root = Path(__file__).parents[2]
    processes = [
        subprocess.Popen(  # noqa: S603 - this very Python
            [sys.executable, "-c", WRITER, server.url, str(seed), "4"], cwd=root
        )
        for seed in range(4)
    ]
    codes = [process.wait(120) for process in processes]

    assert codes == [0] * 4
    assert expected([one for seed in range(4) for one in work(1_500, seed)]) == shown(server)


def test_a_log_is_kept_short(server: Server) -> None:
    """A state takes its place, from which a writer that comes later goes on."""
    signals = work(9_000, seconds=HOURS / 4)
    first, second = RedisSink(server.url), RedisSink(server.url)
    for start in range(0, len(signals), 100):
        (first if start % 300 else second).write(signals[start : start + 100])
    third = RedisSink(server.url)
    more = work(100, seed=1, seconds=HOURS / 4)
    third.write(more)

    assert expected(signals + more) == shown(server)
    with closing(server.client()) as client:
        for key in client.keys("otelagents:kpis:*"):
            version, base, floor, size = map(
                int, client.hmget(key, "version", "base", "floor", "size")
            )
            entries = {int(field[6:]) for field in client.hkeys(key) if field.startswith("entry:")}
            assert floor < base <= version
            assert entries == set(range(floor + 1, version + 1))
            assert base - floor == 32
            later = [client.hget(key, f"entry:{number}") for number in entries if number > base]
            assert size == sum(len(entry.partition("\n")[2]) for entry in later)
            assert size < 100_000 + client.hstrlen(key, "state")
    for sink in (first, second, third):
        sink.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks there")
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="a fork beside threads is warned of")
def test_a_forked_child_writes_what_is_its_own(server: Server) -> None:
    """What waits in the parent is the parent's, and both count."""
    signals, more = work(190), work(20, seed=1)
    sink = RedisSink(server.url)
    sink.write(signals)
    sink.write(signals[:0])

    def child() -> None:
        sink.write(more)
        sink.close()

    Forked(child).end()
    sink.close()

    assert expected(signals + more) == shown(server)


# ------------------------------------------------------------------ a Redis in trouble


def test_a_redis_that_is_away_at_the_start_is_caught_up_with(
    stopped_server: Server, quiet: list[str]
) -> None:
    """What was counted meanwhile is written once; what is wrong is said once."""
    signals = work(1_000)
    sink = RedisSink(stopped_server.url)
    for first in range(0, 900, 100):
        sink._try_again = 0.0
        sink.write(signals[first : first + 100])
    assert len(quiet) == 1
    assert f"Redis at {stopped_server.url}" in quiet[0]
    stopped_server.start()
    sink._try_again = 0.0
    sink.write(signals[900:])

    assert expected(signals) == shown(stopped_server)
    sink.close()


def test_a_redis_that_was_killed_has_all_again(server: Server, quiet: list[str]) -> None:
    """It comes back empty, and every writer adds what was its own, of every hour."""
    signals, others = work(1_000), work(500, seed=1)
    sink, other = RedisSink(server.url), RedisSink(server.url)
    sink.write(signals[:600])
    other.write(others[:300])
    server.kill()
    sink.write(signals[600:800])
    server.start()
    # The latest hour alone has news: the earlier ones are restored as well.
    latest = [one for one in others[300:] if one.time > (START + 1.5 * HOURS) * 1e9]
    for one in (sink, other):
        one._try_again = 0.0
    other.write(latest)
    other.tick()
    sink.write(signals[800:])
    sink.close()
    other.close()

    assert expected(signals + others[:300] + latest) == shown(server)


def test_a_loss_is_seen_at_the_end_though_there_is_nothing_new(server: Server) -> None:
    """The last chance to restore what was written before."""
    signals = work(200)
    sink = RedisSink(server.url)
    sink.write(signals)
    with closing(server.client()) as client:
        client.flushall()
    sink.close()

    assert expected(signals) == shown(server)


def test_a_redis_that_went_back_in_time_is_caught_up_with(server: Server) -> None:
    """As after a restart from an older file: it has a part of ours, and others went on since."""
    signals, others, news = work(600), work(600, seed=1), work(200, seed=2)
    sink, other, new = (RedisSink(server.url) for _ in range(3))
    for first in range(0, 600, 100):
        if first == 300:
            with closing(server.client()) as client:
                keys = client.keys("*")
            with closing(connected(server.url)) as client:
                dumped = {key: client.dump(key) for key in keys}
        sink.write(signals[first : first + 100])
        other.write(others[first : first + 100])
    with closing(connected(server.url)) as client:
        client.flushall()
        for key, value in dumped.items():
            client.restore(key, 0, value)
    new.write(news)
    sink.write(signals[:0])
    last = [told(60, "hitl_escalated", task_id="t", attempts=1, last_error="e", priority="p")]
    other.write(last)
    other.tick()
    for one in (sink, other, new):
        one.close()
    for one in (sink, other):  # whichever came first, all have told of all of theirs by now
        assert not any(bucket.waiting for bucket in one._buckets.values())

    assert expected(signals + others + news + last) == shown(server)


def connected(url: str) -> Any:
    """Return a connection that gives bytes."""
    import redis

    return redis.Redis.from_url(url)


class Relay:
    """Hands a request on to Redis and breaks off when the answer comes, when told to."""

    def __init__(self, server: Server) -> None:
        self._server, self.breaking = server, 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listening.getsockname()[1]}/0"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            with client, socket.create_connection(("127.0.0.1", self._server.port)) as redis_end:
                self._relay(client, redis_end)

    def _relay(self, client: socket.socket, redis_end: socket.socket) -> None:
        with selectors.DefaultSelector() as waiting:
            waiting.register(client, selectors.EVENT_READ, redis_end)
            waiting.register(redis_end, selectors.EVENT_READ, client)
            while True:
                for key, _ in waiting.select():
                    source: Any = key.fileobj
                    data = source.recv(1 << 16)
                    if source is redis_end and self.breaking:
                        self.breaking -= 1
                        return
                    if not data:
                        return
                    key.data.sendall(data)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(90)


@pytest.mark.parametrize("answers", [1, 2])
def test_what_is_sent_again_is_not_counted_again(
    server: Server, quiet: list[str], answers: int
) -> None:
    """Redis did what was asked, and the connection broke before it could say so."""
    signals = work(300)
    with closing(Relay(server)) as relay:
        sink = RedisSink(relay.url)
        sink.write(signals[:100])
        relay.breaking = answers
        sink.write(signals[100:200])
        assert len(quiet) == 1
        for _ in range(answers):
            sink._try_again = 0.0
            sink.tick()
        sink._try_again = 0.0
        sink.write(signals[200:])
        sink.close()

    assert expected(signals) == shown(server)


def test_a_redis_that_hangs_does_not_hold_up_the_end(
    server: Server, quiet: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes connections and says nothing; the program ends a second later."""
    monkeypatch.setattr(redis_sink, "_CLOSE_SECONDS", 1.0)
    signals = work(150)
    sink = RedisSink(server.url)
    sink.write(signals[:120])
    server.send(signal.SIGSTOP)
    sink.write(signals[120:])
    begun = time.monotonic()
    sink.close()
    took = time.monotonic() - begun
    server.send(signal.SIGCONT)

    assert took < 30  # a second and what a busy machine adds; an answer is waited for for a minute


def test_a_paused_redis_gets_all_when_it_goes_on(
    server: Server, quiet: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What timed out was done in the end, and is not done twice."""
    monkeypatch.setattr(redis_sink, "_TIMEOUT", 1.0)
    signals = work(400)
    sink = RedisSink(server.url)
    sink.write(signals[:100])
    with closing(server.client()) as client:
        client.client_pause(60_000, all=False)
        sink.write(signals[100:200])
        assert len(quiet) == 1
        client.client_unpause()
    sink._try_again = 0.0
    sink.write(signals[200:])
    sink.close()

    assert expected(signals) == shown(server)


def test_events_whose_hour_is_long_over_are_counted_as_lost(server: Server) -> None:
    """Their hour would outlive its seven days, and replace what others counted in it."""
    lost: list[tuple[str, int]] = []
    sink = RedisSink(server.url, lambda reason, count: lost.append((reason, count)))
    sink.write([told(-9 * 24 * HOURS, "hitl_escalated", task_id="t")] * 3)
    sink.write([told(0, "hitl_escalated", task_id="t")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boundary, "warn", lambda *_: None)
        sink.close()

    assert lost == [("too old", 3)]
    assert sorted(shown(server)) == [f"metrics:daily:{DAY}", f"metrics:hourly:{DAY}T21:00:00"]


def test_what_redis_has_that_is_none_of_ours_is_reported(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what was counted waits, rather than being lost or written over it."""
    monkeypatch.setattr(boundary, "strict", False)
    monkeypatch.setattr(boundary, "counts", {})
    monkeypatch.setattr(boundary, "warn", lambda *_: None)
    key = f"otelagents:kpis:1:daily:{DAY}"
    signals = work(100)
    with closing(server.client()) as client:
        client.hset(key, mapping={"version": 1, "entry:1": "someone\nnonsense"})
        sink = RedisSink(server.url)
        sink.write(signals)
        assert boundary.counts == {"sink redis": 1}
        client.delete(key)
    sink._try_again = 0.0
    sink.close()

    assert expected(signals) == shown(server)


# ------------------------------------------------------------------ URLs


@pytest.mark.parametrize(
    "url",
    ["redis:", "redis:/0", "http://s3cret@host", "redis://:s3cret@host:port", "unix:", "unix:///",
     "redis://:s3cret@host/nine"],
)  # fmt: skip
def test_a_url_that_names_no_redis_is_refused(url: str) -> None:
    """In one sentence, which says what to write and repeats no password."""
    with pytest.raises(SettingsError, match="use redis://HOST:PORT/DB") as caught:
        make(url)

    assert "s3cret" not in str(caught.value)
    assert str(caught.value).count(".") == 1


def test_passwords_are_not_told(stopped_server: Server, quiet: list[str]) -> None:
    """Where Redis refuses them, and where it is not there."""
    stopped_server.start("--requirepass", "another")
    url = stopped_server.url.replace("//", "//me:s3cret%21@")
    for _ in range(2):
        sink = RedisSink(url)
        sink.write(work(100))
        sink.close()
        stopped_server.kill()

    assert len(quiet) == 2
    assert all(f"Redis at {stopped_server.url}" in said for said in quiet)
    assert not any("s3cret" in said for said in quiet)


def test_a_missing_extra_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which says what to install."""
    monkeypatch.setattr("otel_agents.sinks.redis.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"pip install 'otel-agents\[redis\]'"):
        make("redis://host")


def test_in_a_program_it_is_written_by_the_lane(server: Server) -> None:
    """A hundred events appear, and the rest when the pipeline closes."""
    from otel_agents.pipeline import Pipeline

    signals = work(130)
    pipeline = Pipeline([make(server.url)], lambda *_: None)
    for one in signals:
        pipeline.emit(one)
    wait_for(lambda: shown(server))
    pipeline.close()

    assert expected(signals) == shown(server)
