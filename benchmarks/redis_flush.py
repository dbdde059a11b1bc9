"""What it costs to keep the KPIs in Redis: a flush of 100 events, with 1 and with 4 writers.

Starts a redis-server of its own. Each writer is a process that writes 100 events at a time, of
tasks of four events each, into the hour and the day of the present, which hold so many tasks
already as the table says. It also says what `Kpis.apply` takes for each event.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from typing import Any, Final

from benchmarks import machine
from otel_agents.event_types import Event, event_of
from otel_agents.signals import Signal, signal_id
from otel_agents.sinks.redis import FLUSH_EVENTS, RedisSink
from otel_agents.state.kpis import Kpis
from otel_agents.vocabulary import EVENT_PAYLOAD, EVENT_TYPE

_START_SECONDS: Final = 20


def told(second: float, type_: str, **payload: Any) -> Signal:
    """Return a signal of an event."""
    attributes = {EVENT_TYPE.key: type_, EVENT_PAYLOAD.key: payload}
    return Signal(
        id=signal_id(), kind="event", edge="fact", time=int(second * 1e9), attributes=attributes
    )


def work(tasks: int, name: str, begun: float) -> list[Signal]:
    """Return the events of so many tasks, over 20 minutes before a time."""
    found = []
    for number in range(tasks):
        at, task = begun - 1200 + 1200 * number / tasks, f"{name}-{number}"
        found += [
            told(at, "task_queued", task_id=task, feature=f"feature {number // 5}", est_cost=0.1),
            told(at + 0.1, "agent_started", agent="coder", task_id=task),
            told(at + 9, "agent_completed", agent="coder", task_id=task, status="success",
                 duration_ms=8900.0, cost_usd=0.0123),
            told(at + 10, "validation_complete", task_id=task, result="passed"),
        ]  # fmt: skip
    return found


def writer(url: str, name: str, tasks: int, flushes: int) -> None:
    """Fill the buckets with this writer's tasks, then print what each flush took, in ms.

    That is the time, and the time that this process was at work in it: what a flush takes of an
    interpreter that the program needs too.
    """
    begun = time.time()
    sink = RedisSink(url)
    sink.write(work(tasks, f"{name}-filled", begun))
    signals = work(flushes * FLUSH_EVENTS // 4, name, begun)
    print("ready", flush=True)
    sys.stdin.readline()
    times = []
    for first in range(0, len(signals), FLUSH_EVENTS):
        part = signals[first : first + FLUSH_EVENTS]
        before, worked = time.perf_counter(), time.thread_time()
        sink.write(part)
        after = time.perf_counter(), time.thread_time()
        times.append(((after[0] - before) * 1e3, (after[1] - worked) * 1e3))
    sink.close()
    print(json.dumps(times))


def measured(url: str, writers: int, tasks: int, flushes: int) -> list[tuple[float, float]]:
    """Run so many writers at once, and return what all of their flushes took, in ms."""
    processes = []
    for number in range(writers):
        words = ("--writer", url, f"w{number}", str(tasks // writers), str(flushes))
        processes.append(
            subprocess.Popen(  # noqa: S603 - this very program
                [sys.executable, "-m", "benchmarks.redis_flush", *words],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    found: list[tuple[float, float]] = []
    for process in processes:
        found += json.loads(process.communicate()[0])
    return found


def applied(tasks: int) -> float:
    """Return the µs that an event takes to be applied, the median of five folds."""
    events: list[Event] = [event for one in work(tasks, "t", 1.79e9) if (event := event_of(one))]
    times = []
    for _ in range(5):
        kpis = Kpis()
        begun = time.thread_time()
        for event in events:
            kpis.apply(event)
        times.append((time.thread_time() - begun) / len(events) * 1e6)
    return statistics.median(times)


def run(flushes: int) -> None:
    """Print the figures, with the machine they were measured on."""
    from redis import Redis, RedisError

    program = shutil.which("redis-server")
    if program is None:
        sys.exit("redis-server is not installed (Debian: redis-server)")
    for name, value in machine.described().items():
        print(f"{name}: {value}")
    print(f"\nKpis.apply: {applied(2_000):.1f} µs an event\n")
    print("| writers | tasks in the day | flushes | p50 ms | p99 ms | CPU p50 ms | CPU p99 ms |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"redis://127.0.0.1:{port}/0"
    with tempfile.TemporaryDirectory() as home:
        server = subprocess.Popen(  # noqa: S603
            [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", home],
            stdout=subprocess.DEVNULL,
        )
        try:
            client = Redis.from_url(url)
            deadline = time.monotonic() + _START_SECONDS
            while True:
                try:
                    print(f"<!-- Redis {client.info()['redis_version']} -->", file=sys.stderr)
                    break
                except RedisError:
                    assert time.monotonic() < deadline, "Redis did not start"
                    time.sleep(0.01)
            for writers in (1, 4):
                for tasks in (200, 2_000, 20_000):
                    client.flushall()
                    cells = [f"{writers}", f"{tasks:,}", f"{flushes * writers}"]
                    for times in zip(*measured(url, writers, tasks, flushes), strict=True):
                        parts = statistics.quantiles(times, n=100)
                        cells += [f"{parts[49]:.1f}", f"{parts[98]:.1f}"]
                    print(f"| {' | '.join(cells)} |", flush=True)
            client.close()
        finally:
            server.terminate()
            server.wait(20)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--writer"]:
        writer(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--flushes", type=int, default=100, help="of each writer (100)")
        run(parser.parse_args().flushes)
