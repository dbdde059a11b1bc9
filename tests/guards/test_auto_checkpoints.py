"""Checkpoints that are taken by themselves: before what, when not, and at what cost to the host."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace

import otel_agents as oa
from otel_agents import checkpoints as automation
from otel_agents.boundary import boundary
from otel_agents.checkpoint import catalog, locks, snapshot
from otel_agents.checkpoint.record import About
from otel_agents.checkpoint.repository import Repository
from otel_agents.checkpoint.restore import restore
from otel_agents.checkpoints import AutoCheckpoints, taken
from otel_agents.errors import CheckpointError
from otel_agents.instrument.targets import Targets, fields_of
from otel_agents.settings import Wrap
from otel_agents.settings_guards import CheckpointSettings
from otel_agents.testing import Captured, capture
from otel_agents.vocabulary import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ID = "otelagents.checkpoint.id"
AUTO = CheckpointSettings(auto=True)


@pytest.fixture
def saving(tree: Path) -> Iterator[Captured]:
    """Record with automatic checkpoints of the tree."""
    with capture(checkpoint=AUTO, root=tree) as found:
        yield found


def id_of(captured: Captured, name: str) -> Any:
    """Return the checkpoint that a span names."""
    return (captured.span(name).attributes or {}).get(ID)


def stored(tree: Path) -> list[str | None]:
    """Return what the checkpoints of a tree were taken before, the oldest first."""
    found = catalog.checkpoints(Repository.find(tree))
    return [one.message for one in reversed(found)]


def at_work(tree: Path) -> bool:
    """Say whether a restore would be refused since agents are at work."""
    try:
        with locks.restoring(Repository.find(tree)):
            return False
    except CheckpointError:
        return True


# ---------------------------------------------------------------------- before what


def test_one_is_taken_before_each_scope_when_something_changed(
    saving: Captured, tree: Path
) -> None:
    """Runs, phases, agents and tasks; what is told of it names the step, by trace and span."""
    with oa.run("shop", run_id="r-1"):
        (tree / "a.txt").write_text("two\n")
        with oa.phase("build"):
            (tree / "b.txt").write_text("new\n")
            with oa.agent("worker", agent_id="w-1"):
                (tree / "b.txt").write_text("newer\n")
                with oa.task("t-1", task_id="t-1"):
                    pass
    assert stored(tree) == ["Before shop", "Before build", "Before worker", "Before t-1"]
    found = {one.message: one for one in catalog.checkpoints(Repository.find(tree))}
    worker = found["Before worker"]
    assert (worker.run_id, worker.phase, worker.agent, worker.agent_id, worker.files) == (
        "r-1", "build", "worker", "w-1", 2,
    )  # fmt: skip
    phase = saving.span("phase build")
    assert phase.context is not None
    assert worker.span_id == f"{phase.context.span_id:016x}"
    assert id_of(saving, "invoke_agent worker") == worker.id
    told = {signal.name: signal for signal in saving.signals if signal.kind == "checkpoint"}
    span = saving.span("invoke_agent worker").context
    assert span is not None
    fact = told[worker.id]
    assert (fact.edge, fact.trace_id, fact.span_id) == (
        "fact", f"{span.trace_id:032x}", f"{span.span_id:016x}",
    )  # fmt: skip
    assert fact.attributes == {
        ID: worker.id, "otelagents.checkpoint.message": "Before worker",
        "otelagents.checkpoint.files": 2, "otelagents.checkpoint.bytes": worker.bytes,
    }  # fmt: skip
    starts = [one for one in saving.signals if one.kind == "agent" and one.edge == "start"]
    assert [one.attributes[ID] for one in starts] == [worker.id]
    assert saving.metric("otelagents.checkpoints", result="success") == 4


def test_nothing_is_taken_where_nothing_changed(saving: Captured, tree: Path) -> None:
    """The checkpoint that there is is named again; only phases have one of their own."""
    with oa.run("shop"), oa.phase("build"), oa.agent("worker"), oa.task("t"):
        pass
    assert stored(tree) == ["Before shop", "Before build"]
    assert id_of(saving, "invoke_agent worker") == id_of(saving, "phase build")
    assert id_of(saving, "task t") == id_of(saving, "phase build")
    assert saving.metric("otelagents.checkpoints", result="success") == 2
    assert saving.metric("otelagents.checkpoints", result="skip") == 2
    assert len([one for one in saving.signals if one.kind == "checkpoint"]) == 2


def test_a_phase_is_found_by_its_name_though_nothing_changed(tree: Path) -> None:
    """So that `restore --run-id RUN --before PHASE` goes back to where it began."""
    with capture(checkpoint=AUTO, root=tree), oa.run("shop", run_id="r-1"):
        with oa.phase("build"), oa.tool("write_file"):
            (tree / "a.txt").write_text("built\n")
        with oa.phase("test"):
            (tree / "a.txt").write_text("tested\n")
    repository = Repository.find(tree)
    restore(repository, catalog.before(repository, "r-1", "test").id)
    assert (tree / "a.txt").read_text() == "built\n"
    restore(repository, catalog.before(repository, "r-1", "build").id)
    assert (tree / "a.txt").read_text() == "one\n"


@pytest.mark.parametrize(
    ("name", "fields", "saved"),
    [
        ("write_file", {}, True),
        ("delete_all", {}, True),
        ("read_file", {}, False),
        ("read_file", {"writes": True}, True),
        ("write_file", {"writes": False}, False),
        ("rewrite_file", {}, False),
    ],
)
def test_one_is_taken_before_tools_that_write(
    saving: Captured, tree: Path, name: str, fields: dict[str, Any], saved: bool
) -> None:
    """By the tool's name, or by what is declared of it, which counts more."""
    with oa.run("shop"):
        (tree / "a.txt").write_text("two\n")
        with oa.tool(name, **fields):
            (tree / "a.txt").write_text("three\n")
    assert (stored(tree)[1:] == [f"Before {name}"]) == saved
    assert (id_of(saving, f"execute_tool {name}") is not None) == saved


def test_a_decorated_tool_is_declared_once(saving: Captured, tree: Path) -> None:
    """`@tool(writes=True)` holds for every call of it."""

    @oa.tool("patch", writes=True)
    def patch(text: str) -> None:
        (tree / "a.txt").write_text(text)

    with oa.run("shop"):
        patch("two\n")
        patch("three\n")
    assert stored(tree) == ["Before shop", "Before patch"]  # the first call found nothing changed
    assert [ID in (span.attributes or {}) for span in saving.spans] == [True, True, True]


def test_a_wrapped_tool_is_declared_in_the_settings(
    saving: Captured, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `[[wrap]]` of a tool takes the field `writes`, which its result cannot set."""
    (tmp_path / "wrapped_tools.py").write_text(
        "async def patch(path, text):\n    path.write_text(text)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    targets = Targets([Wrap(target="wrapped_tools:patch", scope="tool", fields={"writes": True})])
    targets.install()
    try:
        from wrapped_tools import patch  # type: ignore[import-not-found]

        async def main() -> None:
            async with oa.run("shop"):
                (tree / "a.txt").write_text("two\n")
                await patch(tree / "a.txt", "three\n")

        asyncio.run(main())
    finally:
        targets.uninstall()
    assert [state for _, state, _ in targets.report()] != ["failed"]
    assert stored(tree) == ["Before shop", "Before patch"]
    assert fields_of(KINDS["tool"])["writes"] is False
    assert "writes" not in fields_of(KINDS["agent"])


def test_without_auto_nothing_is_taken(tree: Path) -> None:
    """The table alone says only how checkpoints are made."""
    with capture(checkpoint=CheckpointSettings(), root=tree) as captured, oa.run("shop"):
        pass
    assert stored(tree) == []
    assert captured.metric("otelagents.checkpoints") == 0


def test_what_an_event_tells_of_has_begun_already(saving: Captured, tree: Path) -> None:
    """Its agent is known, and no checkpoint is said to be from before it."""
    with oa.run("shop"):
        (tree / "a.txt").write_text("two\n")
        oa.emit_event("agent_started", {"agent": "told", "task_id": "t"})
        done = {"agent": "told", "task_id": "t", "status": "success"}
        oa.emit_event("agent_completed", done | {"duration_ms": 1, "cost_usd": 0})
    assert id_of(saving, "invoke_agent told") is None
    assert stored(tree) == ["Before shop"]


def test_failed_and_cancelled_scopes_have_theirs(saving: Captured, tree: Path) -> None:
    """What happens inside makes no difference to what was saved before."""
    with pytest.raises(LookupError), oa.run("first"):
        raise LookupError
    with pytest.raises(asyncio.CancelledError), oa.run("second"):
        raise asyncio.CancelledError
    assert stored(tree) == ["Before first", "Before second"]
    assert id_of(saving, "invoke_workflow first") != id_of(saving, "invoke_workflow second")


# ---------------------------------------------------------------------- asynchronous code


async def until(condition: Callable[[], Any]) -> None:
    """Let the event loop go on until something is so, half a minute at the most."""
    async with asyncio.timeout(30):
        for _ in itertools.repeat(None):
            if condition():
                return
            await asyncio.sleep(0)


async def ticking(stop: asyncio.Event) -> int:
    """Count the steps of the event loop."""
    steps = 0
    while not stop.is_set():
        steps += 1
        await asyncio.sleep(0)
    return steps


def slow(monkeypatch: pytest.MonkeyPatch, gate: threading.Event, entered: threading.Event) -> None:
    """Let a checkpoint begin, and end only when the gate is open."""
    create = snapshot.create

    def waiting(*args: Any, **kwargs: Any) -> Any:
        entered.set()
        assert gate.wait(90)
        return create(*args, **kwargs)

    monkeypatch.setattr(snapshot, "create", waiting)


async def decorated() -> None:
    """Run a decorated coroutine function."""

    @oa.run("shop")
    async def work() -> None:
        """Do nothing."""

    await work()


async def entered_asynchronously() -> None:
    """Run an `async with`."""
    async with oa.run("shop"):
        pass


async def generated() -> None:
    """Run a decorated asynchronous generator."""

    @oa.run("shop")
    async def items() -> Any:
        yield 1

    assert [one async for one in items()] == [1]


@pytest.mark.parametrize("way", [decorated, entered_asynchronously, generated])
def test_the_event_loop_goes_on_while_one_is_taken(
    way: Callable[[], Any], saving: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that ends only after a thousand steps of the loop would else never end."""
    gate, entered = threading.Event(), threading.Event()
    slow(monkeypatch, gate, entered)

    async def main() -> int:
        stop = asyncio.Event()
        ticks = asyncio.create_task(ticking(stop))
        work = asyncio.create_task(way())
        await until(entered.is_set)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert not work.done()
        gate.set()
        await work
        stop.set()
        return await ticks

    assert asyncio.run(main()) >= 1000
    assert id_of(saving, "invoke_workflow shop") is not None


def test_agents_that_start_at_once_share_one(saving: Captured, tree: Path) -> None:
    """Ten agents in a gather are one run of git."""
    inside = []

    async def one(number: int) -> None:
        async with oa.agent(f"a-{number}"):
            inside.append(trace.get_current_span())

    async def main() -> None:
        async with oa.run("shop"):
            (tree / "a.txt").write_text("two\n")
            await asyncio.gather(*map(one, range(10)))

    asyncio.run(main())
    assert len(stored(tree)) == 2
    assert len({id_of(saving, f"invoke_agent a-{number}") for number in range(10)}) == 1
    assert saving.metric("otelagents.checkpoints") == 2
    assert len({span.get_span_context().span_id for span in inside}) == 10


def test_threads_share_what_is_under_way(
    saving: Captured, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that come while a checkpoint is taken wait for the next one, all for the same."""
    gate, entered = threading.Event(), threading.Event()
    slow(monkeypatch, gate, entered)
    checkpoints = saving.runtime.checkpoints
    assert isinstance(checkpoints, AutoCheckpoints)
    joined = threading.Semaphore(0)
    join = checkpoints._join

    def counted(*args: Any, **kwargs: Any) -> Any:
        batch = join(*args, **kwargs)
        joined.release()
        return batch

    monkeypatch.setattr(checkpoints, "_join", counted)

    def one() -> None:
        with oa.agent("worker"):
            pass

    run = oa.run("shop", run_id="r-1")
    with contextlib.ExitStack() as stack:
        gate.set()
        stack.enter_context(run)
        gate.clear()
        threads = [threading.Thread(target=one) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(1 + len(threads)):
            assert joined.acquire(timeout=30)
        gate.set()
        for thread in threads:
            thread.join()
    # The run's, the one under way when the others came, and theirs.
    assert 2 <= saving.metric("otelagents.checkpoints") <= 3
    assert len({(one.attributes or {}).get(ID) for one in saving.spans}) == 1


def test_who_is_cancelled_meanwhile_is_cancelled_at_once(
    saving: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scope ends as cancelled when the checkpoint is there, and its body never runs."""
    gate, entered = threading.Event(), threading.Event()
    slow(monkeypatch, gate, entered)
    ran: list[str] = []

    def ended(count: int) -> Callable[[], bool]:
        return lambda: len(saving.spans) == count

    @oa.run("decorated")
    async def work() -> None:
        ran.append("decorated")

    async def plain() -> None:
        async with oa.run("entered"):
            ran.append("entered")

    async def main() -> None:
        for make in (work, plain):
            task = asyncio.create_task(make())
            await until(entered.is_set)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gate.set()
            await until(ended(1 + (make is plain)))
            gate.clear()
            entered.clear()

    asyncio.run(main())
    assert ran == []
    assert [(span.attributes or {})["otelagents.result"] for span in saving.spans] == [
        "cancellation", "cancellation",
    ]  # fmt: skip
    assert saving.metric("otelagents.run.active") == 0


def test_a_scope_that_is_used_again_starts_again(saving: Captured) -> None:
    """Asynchronously as otherwise."""
    again = oa.run("shop")

    async def main() -> None:
        for _ in range(2):
            async with again:
                pass

    asyncio.run(main())
    assert saving.metric("otelagents.runs.completed", result="succeeded") == 2


# ---------------------------------------------------------------------- where it cannot be


def test_without_a_repository_one_sentence_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, however many scopes there are, and the runs go on."""
    with capture(checkpoint=AUTO, root=tmp_path) as captured:
        for _ in range(3):
            with oa.run("shop"), oa.phase("build"), oa.agent("worker"):
                pass
    said = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert len(said) == 1
    assert "git repository" in said[0]
    assert captured.metric("otelagents.runs.completed", result="succeeded") == 3
    assert captured.metric("otelagents.checkpoints", result="error") == 3  # one a run


def test_a_repository_that_is_made_later_is_found_by_the_next_run(tmp_path: Path) -> None:
    """An agent may have made it."""
    with capture(checkpoint=AUTO, root=tmp_path):
        with oa.run("first"):
            subprocess.run(["git", "init", "-q", tmp_path], check=True)  # noqa: S603, S607 - a fixture
            with oa.phase("build"):
                pass
        with oa.run("second"):
            pass
    assert stored(tmp_path) == ["Before second"]


def test_a_checkpoint_that_cannot_be_made_is_counted_and_said_once_a_minute(
    tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A tree that is too large is not saved, and the program goes on."""
    (tree / "large").write_bytes(b"x" * 4096)
    limited = CheckpointSettings(auto=True, max_bytes=1000)
    with capture(checkpoint=limited, root=tree) as captured, oa.run("shop"), oa.phase("build"):
        pass
    assert captured.metric("otelagents.checkpoints", result="error") == 2
    assert len([one for one in caplog.records if "no checkpoint was taken" in one.message]) == 1
    assert id_of(captured, "phase build") is None


def test_what_hangs_is_not_waited_for(
    tree: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After `max_seconds` the scope starts without one."""
    gate, entered = threading.Event(), threading.Event()
    slow(monkeypatch, gate, entered)
    impatient = CheckpointSettings(auto=True, max_seconds=0.05)
    with capture(checkpoint=impatient, root=tree) as captured:
        with oa.run("shop"):
            pass
        assert id_of(captured, "invoke_workflow shop") is None
        gate.set()
    assert "0.05 seconds" in caplog.text


def test_a_failure_of_ours_is_none_of_the_hosts(
    saving: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever breaks in it, the scope is there."""
    monkeypatch.setattr(boundary, "strict", False)

    def broken(*_args: Any, **_kwargs: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(snapshot, "create", broken)
    with oa.run("shop"):
        pass
    assert id_of(saving, "invoke_workflow shop") is None
    assert saving.metric("otelagents.checkpoints", result="error") == 1


def test_old_ones_are_pruned_now_and_then(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first, and after every twentieth."""
    pruned = threading.Semaphore(0)
    prune = catalog.prune

    def counted(repository: Repository, *args: Any) -> int:
        try:
            return prune(repository, *args)
        finally:
            if repository.root == tree:  # a thread of an earlier test may still be at its own
                pruned.release()

    monkeypatch.setattr(catalog, "prune", counted)
    with capture(checkpoint=CheckpointSettings(auto=True, keep=3), root=tree), oa.run("shop"):
        for number in range(20):
            (tree / "a.txt").write_text(str(number))
            with oa.task(f"t-{number}"):
                pass
        for _ in range(2):
            assert pruned.acquire(timeout=30)
    assert len(stored(tree)) == 3


# ---------------------------------------------------------------------- agents at work


def test_agents_at_work_hold_off_restores(saving: Captured, tree: Path) -> None:
    """From the first agent's start to the last one's end, and not in a run without any."""
    with oa.run("shop"):
        assert not at_work(tree)
        with oa.agent("outer"):
            with oa.agent("inner"):
                assert at_work(tree)
            assert at_work(tree)
        assert not at_work(tree)
    with pytest.raises(LookupError), oa.agent("failing"):
        raise LookupError
    assert not at_work(tree)


def test_an_agent_begins_at_once_unless_a_restore_is_under_way(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no checkpoint is taken before it; then it waits, and the event loop goes on."""
    left: list[str] = []
    aside = AutoCheckpoints.aside

    async def counted(self: AutoCheckpoints, start: Any, end: Any) -> None:
        left.append("the loop")
        await aside(self, start, end)

    async def work() -> None:
        async with oa.agent("worker"):
            assert at_work(tree)

    async def main() -> None:
        await work()  # which finds the repository
        monkeypatch.setattr(AutoCheckpoints, "aside", counted)
        await work()
        assert left == []
        with locks.restoring(Repository.find(tree)):
            waiting = asyncio.create_task(work())
            await until(lambda: left)
            for _ in range(1000):
                await asyncio.sleep(0)
            assert not waiting.done()
        await waiting

    with capture(checkpoint=CheckpointSettings(), root=tree):
        asyncio.run(main())


# No settings, and no folder of ours but what checkpoints by hand have left.
BUSY = """
import sys
import otel_agents as oa
with oa.run("shop"), oa.agent("busy"):
    print("busy", flush=True)
    sys.stdin.read()
"""


def busy(folder: Path, **variables: str) -> subprocess.Popen[str]:
    """Start a program whose agent works until its input ends."""
    kept = {key: text for key, text in os.environ.items() if not key.startswith("OTEL_AGENTS_")}
    process = subprocess.Popen(  # noqa: S603 - the program above
        [sys.executable, "-c", BUSY],
        cwd=folder,
        env=kept | variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "busy\n"
    return process


@pytest.mark.parametrize("place", ["here", "inside", "worktree"])
def test_they_do_in_a_program_that_takes_none_itself(tree: Path, place: str) -> None:
    """Where somebody takes checkpoints by hand, no table `[checkpoint]` is needed for that."""
    if place == "worktree":
        git = ["git", "-C", str(tree), "-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)  # noqa: S603
        tree = tree.parent / "linked"
        subprocess.run([*git, "worktree", "add", "-q", str(tree)], check=True)  # noqa: S603
    repository = Repository.find(tree)
    saved = snapshot.create(repository, About(message="by hand"))
    folder = tree / "inside" if place == "inside" else tree
    folder.mkdir(exist_ok=True)
    program = busy(folder)
    try:
        with pytest.raises(CheckpointError, match=rf"Agents are at work \(pid {program.pid}\)"):
            restore(repository, saved.id)
        assert restore(repository, saved.id, force=True).undo_id
    finally:
        _, warnings = program.communicate()
    assert (program.returncode, warnings) == (0, "")
    assert restore(repository, saved.id).undo_id
    assert stored(tree) == [
        "by hand", f"Before the restore of {saved.id}", f"Before the restore of {saved.id}",
    ]  # fmt: skip


def test_where_none_are_taken_git_is_not_asked(tree: Path, tmp_path: Path) -> None:
    """A program without the table leaves nothing in a repository, and runs nothing for it."""
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text(f"#!/bin/sh\n: > {tmp_path}/asked\n")
    git.chmod(0o755)
    program = busy(tree, PATH=str(git.parent))
    program.communicate()
    assert program.returncode == 0
    assert not (tmp_path / "asked").exists()
    assert not (tree / ".git" / "otel-agents").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_holds_nothing_and_takes_its_own(saving: Captured, tree: Path) -> None:
    """The parent's lock stays the parent's, and a child goes on with locks of its own."""
    read, write = os.pipe()
    ready, here = os.pipe()
    with oa.run("shop"):
        with oa.agent("outer"):
            child = os.fork()
            if not child:
                code = 1
                try:
                    os.close(write)
                    os.write(here, b"x")  # it has let go of what it has from its parent
                    os.read(read, 1)  # until the parent's agent has ended
                    (tree / "a.txt").write_text("child\n")
                    with oa.agent("inner"):
                        code = 0 if taken() and at_work(tree) else 2
                finally:
                    os._exit(code)
            os.close(read)
            os.close(here)
            assert os.read(ready, 1)
            os.close(ready)
            assert at_work(tree)
        assert not at_work(tree)
        os.close(write)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert "Before inner" in stored(tree)


def test_the_code_can_ask_what_was_taken(saving: Captured, tree: Path) -> None:
    """The latest state of the tree first, and of the run that is current only."""
    assert taken() == []
    with oa.run("first"):
        (tree / "a.txt").write_text("two\n")
        with oa.task("t"):
            assert [one.message for one in taken()] == ["Before t", "Before first"]
        (tree / "a.txt").write_text("one\n")
        with oa.task("u"):
            assert [one.message for one in taken()] == ["Before first", "Before t"]
    with oa.run("second"):
        assert [one.message for one in taken()] == ["Before second"]
    assert automation.taken() == []
