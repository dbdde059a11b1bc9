"""Many at once: threads and processes that write and read one store."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from otel_agents.store import Batch, LogRecord, Point
from tests.state.build import BEGIN, shop

from .build import block, every, number, trace_number

if TYPE_CHECKING:
    from otel_agents.store import Store

_THREADS = 8
_ROUNDS = 6
_PROGRAM = """
import sys
from otel_agents.store import Batch, Store
from tests.state.build import shop
store = Store(sys.argv[1], durable=False)
for count in range(5):
    for signal in shop(f"run-{sys.argv[2]}-{count}").signals:
        store.write(Batch(signals=[signal]))
assert store.settle(90)
assert not store.dropped, store.dropped
store.close()
"""


def test_eight_threads_write_while_eight_read(store: Store) -> None:
    """No thread meets an error, and everything is there once."""
    errors: list[BaseException] = []
    done = threading.Event()

    def writing(mine: int) -> None:
        try:
            for count in range(_ROUNDS):
                own = mine * _ROUNDS + count
                story = shop(f"run-{own}")
                spans = [{"trace": trace_number(own), "span": number(n)} for n in range(5)]
                store.write(Batch(
                    signals=story.signals[:7], blocks=[block(*spans)],
                    logs=[LogRecord(time=BEGIN, body=str(own))],
                    points=[Point(name="m", kind="sum", time=BEGIN, attributes={"n": own})],
                ))  # fmt: skip
                store.write(Batch(signals=story.signals[7:]))
        except BaseException as error:  # noqa: BLE001 - told by the test
            errors.append(error)

    def reading() -> None:
        try:
            while not done.is_set():
                for run in store.runs()["items"]:
                    store.run(run["run_id"])
                    store.run_signals(run["run_id"])
                    store.run_spans(run["run_id"])
                for one in (store.agents, store.traces, store.logs, store.metrics, store.tasks):
                    one()
                store.runtime_status()
                store.usage(by="phase")
                store.feed(0)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    writers = [threading.Thread(target=writing, args=(n,)) for n in range(_THREADS)]
    readers = [threading.Thread(target=reading) for _ in range(_THREADS)]
    for one in (*writers, *readers):
        one.start()
    for one in writers:
        one.join()
    done.set()
    for one in readers:
        one.join()
    assert errors == []
    assert store.settle()
    total = _THREADS * _ROUNDS
    assert {run["status"] for run in every(store.runs, limit=500)} == {"succeeded"}
    for ask, each in ((store.runs, 1), (store.agents, 3), (store.traces, 1), (store.logs, 1)):
        assert len(every(ask, limit=500)) == total * each
    assert sum(trace["spans"] for trace in every(store.traces, limit=500)) == total * 5
    assert store.dropped == {}


def test_four_processes_write(store: Store, database_url: str) -> None:
    """Each signal by itself; no "database is locked", and every run is whole."""
    running = [
        subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", _PROGRAM, database_url, str(n)], stderr=subprocess.PIPE
        )
        for n in range(4)
    ]
    for one in running:
        _, said = one.communicate(timeout=120)
        assert one.returncode == 0, said.decode()[-2000:]
    runs = every(store.runs, limit=500)
    assert len(runs) == 20
    assert {(run["status"], run["cost_usd"]) for run in runs} == {("succeeded", 0.75)}
    seqs = [event["seq"] for event in store.feed(0)]
    assert len(seqs) == len(set(seqs)) == 20 * len(shop().signals)
