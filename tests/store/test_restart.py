"""Processes that are killed: what was acknowledged is there once, and its rows follow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.state.build import shop

from .build import every

if TYPE_CHECKING:
    from tests.databases import Opener

_KILLS = 20
# For each number it reads, a process that writes requests from there on, and names each once it is
# committed. What they import they share, or most of the time would go into that. A line is one
# write to the pipe: `print` makes two, and the kill, or another thread's line, may come in between.
_WRITER = """
import itertools, os, sys
from otel_agents.signals import Ids, Signal
from otel_agents.store import Batch, LogRecord, Store
from tests.store.build import block, number, trace_number
def say(line):
    os.write(1, f"{line}\\n".encode())
def work(first):
    store = Store(sys.argv[1])
    for count in itertools.count(first):
        signal = Signal(id=f"s-{count}", kind="run", edge="start", time=10**18,
                        scope_id=f"r-{count}", ids=Ids(run_id=f"r-{count}"))
        batch = Batch(signals=[signal], logs=[LogRecord(time=count + 1, body=f"l-{count}")],
                      blocks=[block({"trace": trace_number(count), "span": number(1)})])
        def done(error, count=count):
            if error is None:
                say(count)
        if count % 3:
            store.submit(batch, done)
        store.write(batch)
        if not count % 3:
            done(None)
for line in sys.stdin:
    if (child := os.fork()) == 0:
        say(f"pid {os.getpid()}")
        work(int(line))
    os.waitpid(child, 0)
    say("end")
"""
# Commits signals and blocks, and is gone before a row is made of them.
_DYING = """
import os, signal, sys
from otel_agents.store import Batch, Store
from otel_agents.store.writer import Writer
from tests.state.build import shop
from tests.store.build import block, number, trace_number
dying = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
Writer._project = Writer._index = dying
Store(sys.argv[1]).write(Batch(
    signals=shop("run-1").signals, blocks=[block({"trace": trace_number(1), "span": number(1)})]
))
"""


def test_rows_are_made_by_whoever_comes_next(stores: Opener, database_url: str) -> None:
    """Signals and blocks were committed, and their process killed before the rows."""
    dead = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _DYING, database_url], check=False, capture_output=True, timeout=60
    )
    assert dead.returncode == -9, dead.stderr.decode()[-2000:]
    store = stores(database_url)
    assert len(store.feed(0)) == len(shop("run-1").signals)
    assert store.runs()["items"][0]["status"] != "succeeded"
    assert store.traces()["items"] == []
    assert store.settle()
    assert store.runs()["items"][0]["status"] == "succeeded"
    assert len(store.agents()["items"]) == 3
    assert len(store.traces()["items"]) == 1


def test_twenty_kills_lose_nothing_and_double_nothing(stores: Opener, database_url: str) -> None:
    """Every acknowledged request is there, each once, and the database is whole."""
    acknowledged: set[int] = set()
    writer = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", _WRITER, database_url],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert writer.stdin is not None
    assert writer.stdout is not None
    for count in range(_KILLS):
        writer.stdin.write(f"{max(acknowledged, default=0) + 50}\n")
        writer.stdin.flush()
        process = int(writer.stdout.readline().removeprefix("pid "))
        # In the middle of its work, a little later each time.
        numbers = [int(writer.stdout.readline()) for _ in range(1 + count % 5)]
        os.kill(process, signal.SIGKILL)
        numbers += [int(line) for line in iter(writer.stdout.readline, "end\n")]
        acknowledged |= set(numbers)
    writer.stdin.close()
    writer.stdout.close()
    assert writer.wait(120) == 0
    assert len(acknowledged) >= _KILLS
    store = stores(database_url)
    assert store.settle(90)
    runs = [run["run_id"] for run in every(store.runs, limit=500)]
    logs = [log["body"] for log in every(store.logs, limit=500)]
    traces = [int(one["trace_id"], 16) - 1 for one in every(store.traces, limit=500)]
    for found in (runs, logs, traces):
        assert len(found) == len(set(found))
    assert {f"r-{n}" for n in acknowledged} <= set(runs)
    assert {f"l-{n}" for n in acknowledged} <= set(logs)
    assert acknowledged <= set(traces)
    # A request is there wholly or not at all.
    assert {run[2:] for run in runs} == {log[2:] for log in logs} == {str(one) for one in traces}
    connection = store._database.here
    if connection.dialect == "sqlite":
        assert connection.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
