"""Workers: what their heartbeats say, when they beat, and what a fork or a kill makes of them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

import otel_agents as oa
from otel_agents.signals import decode_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from otel_agents.signals import Signal
    from otel_agents.testing import Captured

_DEADLINE_SECONDS = 90.0


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def beats(captured: Captured) -> list[Signal]:
    return [signal for signal in captured.signals if signal.kind == "worker"]


def said(signal: Signal) -> tuple[str, str, str]:
    found = signal.attributes
    return (
        signal.edge,
        found["otelagents.worker.status"],
        found["otelagents.worker.current_task.id"],
    )


def codes(captured: Captured) -> list[str]:
    return [
        signal.attributes["otelagents.runtime.reason_code"]
        for signal in captured.signals
        if signal.attributes.get("otelagents.runtime.layer") == "worker"
    ]


def test_every_edge_of_a_workers_life_is_told_at_once(captured: Captured) -> None:
    """Started, at a task, idle, degraded, at a task again, stopped: one signal each, with all."""
    with oa.Worker("coder", id="w1", interval=3600, attributes={"region": "eu"}) as worker:
        with worker.working("t1"):
            assert worker.status == "RUNNING"
        worker.degraded("slow disk")
        worker.degraded("slow disk")
        with worker.working("t2"):
            pass
    assert worker.status == "STOPPED"

    found = beats(captured)
    assert [said(signal) for signal in found] == [
        ("start", "IDLE", ""),
        ("progress", "RUNNING", "t1"),
        ("progress", "IDLE", ""),
        ("progress", "DEGRADED", ""),
        ("progress", "RUNNING", "t2"),
        ("progress", "IDLE", ""),
        ("end", "STOPPED", ""),
    ]
    assert {signal.ids.worker_id for signal in found} == {"w1"}
    assert {signal.attributes["otelagents.worker.type"] for signal in found} == {"coder"}
    assert {signal.attributes["otelagents.worker.circuit.open"] for signal in found} == {False}
    assert {signal.attributes["region"] for signal in found} == {"eu"}
    assert [signal.attributes.get("reason") for signal in found].count("slow disk") == 1
    assert codes(captured) == ["STARTED", "IDLE", "DEGRADED", "IDLE", "STOPPED"]


def test_a_worker_beats_at_its_interval(captured: Captured) -> None:
    """Heartbeats come by themselves while it is there, and none after it has stopped."""
    worker = oa.Worker("coder", interval=0.05).start()
    until(lambda: len(beats(captured)) >= 4)
    worker.stop()
    assert {said(signal)[1] for signal in beats(captured)[:-1]} == {"IDLE"}
    assert said(beats(captured)[-1]) == ("end", "STOPPED", "")

    stopped = len(beats(captured))
    with oa.Worker("other", interval=0.05):
        until(lambda: len(beats(captured)) >= stopped + 4)
    assert {signal.name for signal in beats(captured)[stopped:]} == {"other"}


def test_workers_of_unlike_intervals_share_one_thread(captured: Captured) -> None:
    """A fast worker that starts after a slow one beats as fast as it should."""
    with oa.Worker("slow", interval=3600), oa.Worker("fast", interval=0.05):
        until(lambda: [signal.name for signal in beats(captured)].count("fast") >= 4)
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("otel-agents-heartbeat") == 1


def test_the_worker_scope_beats_too(captured: Captured) -> None:
    """`worker` as a block and as a decorator is the same worker, at work from its start."""

    @oa.worker("fetcher", interval=0.05)
    def work() -> str:
        until(lambda: len(beats(captured)) >= 3)
        return "done"

    assert work() == "done"
    assert {said(signal)[1] for signal in beats(captured)} == {"RUNNING", "STOPPED"}
    assert captured.span("worker fetcher").attributes["otelagents.worker.type"] == "fetcher"


def test_a_task_inside_a_worker_is_its_current_one(captured: Captured) -> None:
    """A task scope makes its worker RUNNING at it, and IDLE when it ends, by an error too."""
    with oa.worker("coder", id="w1", interval=3600):
        with oa.task("build", id="t1"), oa.task("part", id="t2"):
            pass
        with pytest.raises(ValueError, match="no"), oa.task("build", id="t3"):
            raise ValueError("no")

    assert [said(signal)[1:] for signal in beats(captured)] == [
        ("RUNNING", ""),
        ("RUNNING", "t1"),
        ("RUNNING", "t2"),
        ("RUNNING", "t1"),
        ("IDLE", ""),
        ("RUNNING", "t3"),
        ("IDLE", ""),
        ("STOPPED", ""),
    ]


def test_what_works_inside_carries_worker_and_task(captured: Captured) -> None:
    """`working` adds both ids to the scopes inside, which stay in the run that is current."""

    async def work(worker: oa.Worker) -> None:
        async with worker.working("t1"):
            with oa.agent("coder"):
                pass

    worker = oa.Worker("coder", id="w1", interval=3600).start()
    with oa.run("shop", id="r1"):
        asyncio.run(work(worker))
    with worker.working("t2"), oa.agent("alone"):
        pass
    worker.stop()

    inside = captured.span("invoke_agent coder").attributes or {}
    assert (
        inside["otelagents.run.id"], inside["otelagents.worker.id"], inside["otelagents.task.id"]
    ) == ("r1", "w1", "t1")  # fmt: skip
    alone = captured.span("invoke_agent alone")
    assert (alone.attributes or {})["otelagents.task.id"] == "t2"
    assert alone.parent is not None
    assert alone.parent.span_id == captured.span("worker coder").context.span_id


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (None, "success"),
        (ValueError("no"), "error"),
        (asyncio.CancelledError(), "cancellation"),
    ],
)
def test_a_worker_stops_however_it_ends(
    captured: Captured, error: BaseException | None, result: str
) -> None:
    """The exception goes on as it was, and STOPPED is told with the outcome."""
    expected = nullcontext() if error is None else pytest.raises(type(error))
    with expected, oa.Worker("coder", interval=3600):
        if error is not None:
            raise error

    end = beats(captured)[-1]
    assert (said(end)[1], end.result) == ("STOPPED", result)


def test_a_worker_starts_again_under_its_id(captured: Captured) -> None:
    """A second `start` does nothing while it is there; after `stop` it makes a new scope."""
    worker = oa.Worker("coder", id="w1", interval=3600)
    worker.start().start()
    worker.stop()
    worker.stop()
    worker.start().stop()
    worker.idle()

    assert [said(signal)[0] for signal in beats(captured)] == ["start", "end"] * 2
    assert len({signal.scope_id for signal in beats(captured)}) == 2


def test_the_gauges_count_workers_and_their_oldest_heartbeat(captured: Captured) -> None:
    """By type and state; a state that no worker is in is told as zero."""
    with oa.Worker("counted", interval=3600), oa.Worker("counted", interval=3600) as worker:
        with worker.working("t1"):
            counts = {
                labels["state"]: value
                for name, labels, value in captured.points()
                if name == "otelagents.worker.count" and labels["worker_type"] == "counted"
            }
            ages = [
                value
                for name, labels, value in captured.points()
                if name == "otelagents.worker.heartbeat.age" and labels["worker_type"] == "counted"
            ]
    assert counts == {"RUNNING": 1, "IDLE": 1, "DEGRADED": 0}
    assert len(ages) == 1
    assert 0 <= ages[0] < _DEADLINE_SECONDS
    assert captured.metric("otelagents.worker.count", worker_type="counted", state="IDLE") == 0


def test_the_end_is_the_latest_that_a_worker_says(captured: Captured) -> None:
    """Whatever beats meanwhile: the latest signal is believed, and that is STOPPED."""
    for number in range(30):
        with oa.Worker("hasty", id=f"w{number}", interval=0) as worker:
            with worker.working("t"):
                pass
    for number in range(30):
        mine = [one for one in beats(captured) if one.ids.worker_id == f"w{number}"]
        assert said(max(mine, key=lambda one: one.time))[0] == "end"
        assert len({one.time for one in mine}) == len(mine)


_PROGRAM = """
import os, signal, sys, time
from pathlib import Path
import otel_agents as oa
from otel_agents import runtime

lines = Path(os.environ["OTEL_AGENTS_HOME"], "signals.jsonl")
lines.touch()

def told(name):
    found = [line for line in lines.read_text().splitlines() if f'"{name}"' in line]
    return sum('"kind":"worker"' in line for line in found)

with oa.Worker("parent", id="w1", interval=0.05) as worker:
    child = os.fork() if sys.argv[1] == "fork" else -1
    if child == 0:
        with worker.working("stolen"):
            pass
        with oa.Worker("child", id="w2", interval=0.05):
            ends = time.monotonic() + 60
            while told("w2") < 3 and time.monotonic() < ends:
                time.sleep(0.01)
        runtime.get().pipeline.flush()
        os._exit(0)
    if child > 0:
        os.waitpid(child, 0)
    with worker.working("t1"):
        print("working", flush=True)
        sys.stdin.readline()
"""


def _heartbeats(path: Path) -> list[Signal]:
    if not path.exists():
        return []
    found = decode_lines(path.read_bytes().splitlines())
    return [signal for signal in found if signal.kind == "worker"]


def _program(tmp_path: Path, how: str) -> subprocess.Popen[str]:
    environment: dict[str, Any] = {
        **os.environ, "OTEL_AGENTS_HOME": str(tmp_path), "OTEL_AGENTS_SINKS": "jsonl:",
    }  # fmt: skip
    (tmp_path / "program.py").write_text(_PROGRAM)
    return subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, str(tmp_path / "program.py"), how],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_killed_worker_goes_silent(tmp_path: Path) -> None:
    """Its last word is a heartbeat at its task, of which only the age tells that it is gone."""
    lines = tmp_path / "signals.jsonl"
    with _program(tmp_path, "kill") as program:
        until(lambda: any(said(signal)[2] == "t1" for signal in _heartbeats(lines)))
        program.kill()

    last = _heartbeats(lines)[-1]
    assert said(last) == ("progress", "RUNNING", "t1")


def test_a_forked_child_speaks_for_its_own_workers_only(tmp_path: Path) -> None:
    """The parent's worker beats in the parent alone, and a worker of the child's in the child."""
    lines = tmp_path / "signals.jsonl"
    with _program(tmp_path, "fork") as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "working\n"
        program.communicate("\n", timeout=60)
    assert program.returncode == 0

    found = _heartbeats(lines)
    assert {signal.pid for signal in found if signal.ids.worker_id == "w1"} == {program.pid}
    children = [signal for signal in found if signal.ids.worker_id == "w2"]
    assert program.pid not in {signal.pid for signal in children}
    assert len(children) >= 4
    assert "stolen" not in {said(signal)[2] for signal in found}
