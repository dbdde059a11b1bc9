"""Scopes follow work into tasks, threads, executors, processes and queues."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import otel_agents as oa
from otel_agents.context import current_ids, extract, inject

if TYPE_CHECKING:
    from otel_agents.testing import Captured


def where() -> tuple[str | None, str | None]:
    """Return the run and phase in force: what a piece of work sees of its caller."""
    ids = current_ids()
    return (None, None) if ids is None else (ids.run_id, ids.phase)


HERE = ("r1", "plan")


def test_asyncio_tasks_carry_the_scope(captured: Captured) -> None:
    """A task created in a scope works in it."""

    async def work() -> list[Any]:
        with oa.run("shop", id="r1"), oa.phase("plan"):
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(asyncio.to_thread(where)) for _ in range(3)]
            return [task.result() for task in tasks]

    assert asyncio.run(work()) == [HERE] * 3


def test_a_thread_carries_the_scope_it_was_started_in(captured: Captured) -> None:
    """Also a thread whose class overrides `run`."""

    class Own(threading.Thread):
        seen: Any = None

        def run(self) -> None:
            self.seen = where()

    plain: list[Any] = []
    with oa.run("shop", id="r1"), oa.phase("plan"):
        threads = [threading.Thread(target=lambda: plain.append(where())), Own()]
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()

    assert plain == [HERE]
    assert threads[1].seen == HERE  # type: ignore[attr-defined]


def test_an_executor_carries_the_scope_of_each_call(captured: Captured) -> None:
    """Two calls from two scopes through one thread see their own."""
    with ThreadPoolExecutor(1) as pool:
        with oa.run("shop", id="r1"), oa.phase("plan"):
            first = pool.submit(where)
        with oa.run("shop", id="r2"):
            second = pool.submit(where)
        third = pool.submit(where)

    assert (first.result(), second.result(), third.result()) == (HERE, ("r2", None), (None, None))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_a_process_pool_carries_the_scope_of_each_call(captured: Captured, method: str) -> None:
    """Worker processes, however they are started, work in the scope of the call."""
    context = multiprocessing.get_context(method)
    with (
        ProcessPoolExecutor(1, mp_context=context) as pool,
        oa.run("shop", id="r1"),
        oa.phase("plan"),
    ):
        assert pool.submit(where).result() == HERE


def test_fifty_calls_in_threads_are_fifty_children_of_one_trace(captured: Captured) -> None:
    """One trace, fifty siblings, the right parent."""

    def call(number: int) -> None:
        with oa.tool(f"t{number}"):
            pass

    with oa.run("shop"), oa.agent("a"), ThreadPoolExecutor(8) as pool:
        for number in range(50):
            pool.submit(call, number)

    agent = captured.span("invoke_agent a")
    tools = [span for span in captured.spans if span.name.startswith("execute_tool")]
    assert len(tools) == 50
    assert {span.parent.span_id for span in tools if span.parent} == {agent.context.span_id}  # type: ignore[union-attr]
    assert len({span.context.trace_id for span in captured.spans if span.context}) == 1


def test_a_queue_carries_trace_and_ids_in_a_carrier(captured: Captured) -> None:
    """What `inject` writes, `extract` makes current, in the same trace."""
    carrier: dict[str, str] = {}
    with oa.run("shop", id="r1"), oa.phase("plan"):
        inject(carrier)
    with extract(carrier), oa.task("t", id="t1"):
        seen = where()

    task, phase = captured.span("task t"), captured.span("phase plan")
    assert seen == HERE
    assert task.parent is not None
    assert phase.context is not None
    assert task.parent.span_id == phase.context.span_id
    assert where() == (None, None)


def test_baggage_that_is_in_a_carrier_stays(captured: Captured) -> None:
    """Our members are added to the caller's."""
    carrier = {"baggage": "tenant=7"}
    with oa.run("shop", id="r1"):
        inject(carrier)

    assert carrier["baggage"].startswith("tenant=7,otelagents.run.id=r1")


@given(st.text(), st.text())
def test_any_text_survives_a_carrier(run_id: str, name: str) -> None:
    """Ids and names of any characters come out as they went in."""
    carrier: dict[str, str] = {}
    with oa.run(name, id=run_id or "x"):
        inject(carrier)
        inside = current_ids()
    if any("\ud800" <= char <= "\udfff" for char in run_id + name):
        return
    with extract(carrier):
        outside = current_ids()

    assert inside is not None
    assert outside is not None
    assert (outside.run_id, outside.workflow or None) == (inside.run_id, inside.workflow or None)


@given(st.dictionaries(st.sampled_from(["traceparent", "baggage", "tracestate"]), st.text()))
def test_garbage_in_a_carrier_changes_nothing(carrier: dict[str, str]) -> None:
    """A hostile carrier neither raises nor sets what it does not hold."""
    with extract(carrier):
        pass


def test_spawned_and_forked_programs_export_all_their_spans(tmp_path: Path) -> None:
    """Children of each start method are instrumented by themselves and flush before they exit."""
    (tmp_path / "work.py").write_text(
        textwrap.dedent(
            """
            import otel_agents as oa
            def work(number):
                with oa.agent(f"worker-{number}"):
                    pass
            """
        )
    )
    (tmp_path / "app.py").write_text(
        textwrap.dedent(
            """
            import multiprocessing, sys
            from concurrent.futures import ProcessPoolExecutor
            import otel_agents as oa
            from work import work
            if __name__ == "__main__":
                with oa.run("shop", id="r1"):
                    for number, method in enumerate(("spawn", "fork", "forkserver")):
                        context = multiprocessing.get_context(method)
                        child = context.Process(target=work, args=(number,))
                        child.start()
                        child.join()
                        with ProcessPoolExecutor(1, mp_context=context) as pool:
                            pool.submit(work, number + 10).result()
            """
        )
    )
    workspace = tmp_path / ".otel-agents"
    workspace.mkdir()

    environment = {**os.environ, "OTEL_AGENTS_HOME": str(workspace)}
    for signal in ("TRACES", "METRICS", "LOGS"):
        environment[f"OTEL_{signal}_EXPORTER"] = "console" if signal == "TRACES" else "none"
    done = subprocess.run(  # noqa: S603 - our own program
        [Path(sys.executable).with_name("opentelemetry-instrument"), sys.executable, "app.py"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    names = [
        line.split('"')[3] for line in done.stdout.splitlines() if line.startswith('    "name"')
    ]
    assert sorted(names) == sorted(
        ["invoke_workflow shop", *(f"invoke_agent worker-{n}" for n in (0, 1, 2, 10, 11, 12))]
    )
    traces = {line.split('"')[3] for line in done.stdout.splitlines() if '"trace_id"' in line}
    assert len(traces) == 1
    lines = [json.loads(line) for line in (workspace / "signals.jsonl").read_text().splitlines()]
    assert {line["ids"]["run_id"] for line in lines} == {"r1"}
    assert len([line for line in lines if line["edge"] == "end"]) == 7
