"""Who may touch the tree at the same time: agents, checkpoints, and one restore."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import pytest

from otel_agents.checkpoint import catalog
from otel_agents.checkpoint.locks import at_work, reading, restoring
from otel_agents.checkpoint.record import About
from otel_agents.checkpoint.restore import restore
from otel_agents.checkpoint.snapshot import create
from otel_agents.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .real import Repo

HOLD: Final = """
import sys
from pathlib import Path
from otel_agents.checkpoint import locks
from otel_agents.checkpoint.repository import Repository
with getattr(locks, sys.argv[1])(Repository.find(Path(sys.argv[2]))):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def hold(stack: ExitStack, repo: Repo, lock: str) -> subprocess.Popen[str]:
    """Start a process that holds a lock until its input ends."""
    process = subprocess.Popen(  # noqa: S603 - the program above
        [sys.executable, "-c", HOLD, lock, str(repo.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    stack.callback(_end, process)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_agents_at_work_hold_off_a_restore_and_are_named(repo: Repo, held: ExitStack) -> None:
    """In this process and in another; force overrides them."""
    saved = repo.checkpoint()
    with at_work(repo.found), at_work(repo.found):
        with pytest.raises(CheckpointError, match=rf"Agents are at work \(pid {os.getpid()}\)"):
            restore(repo.found, saved.id)
    other = hold(held, repo, "at_work")
    with pytest.raises(CheckpointError, match=rf"Agents are at work \(pid {other.pid}\)"):
        restore(repo.found, saved.id)
    assert restore(repo.found, saved.id, force=True).undo_id is not None


def test_agents_that_were_killed_hold_off_nothing(repo: Repo, held: ExitStack) -> None:
    """Locks end with their process."""
    saved = repo.checkpoint()
    _end(hold(held, repo, "at_work"))
    _end(hold(held, repo, "restoring"))
    assert restore(repo.found, saved.id).undo_id is not None


def test_a_second_restore_is_refused_with_force_too(repo: Repo, held: ExitStack) -> None:
    """It would mix two trees; the sentence names the process."""
    saved = repo.checkpoint()
    other = hold(held, repo, "restoring")
    for force in (True, False):
        with pytest.raises(CheckpointError, match=rf"another restore.*\(pid {other.pid}\)"):
            restore(repo.found, saved.id, force=force)
    assert [one.id for one in catalog.checkpoints(repo.found)] == [saved.id]


def test_a_checkpoint_waits_for_a_restore_and_agents_do_too(repo: Repo) -> None:
    """A tree that is half restored is no state to save or to begin in."""
    order: list[str] = []

    def take() -> None:
        create(repo.found, About())
        order.append("saved")

    def work() -> None:
        with at_work(repo.found):
            order.append("at work")

    threads = [threading.Thread(target=one) for one in (take, work)]
    with restoring(repo.found):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(0.3)
        order.append("restored")
    for thread in threads:
        thread.join(90)
    assert order[0] == "restored"
    assert sorted(order[1:]) == ["at work", "saved"]


def test_checkpoints_are_taken_beside_each_other(repo: Repo) -> None:
    """Many at once, while agents are at work: each is whole, and has an id of its own."""
    taken: list[str] = []

    def take() -> None:
        with at_work(repo.found):
            taken.append(create(repo.found, About()).id)

    threads = [threading.Thread(target=take) for _ in range(6)]
    with reading(repo.found):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
    assert len(set(taken)) == 6
    assert {one.id for one in catalog.checkpoints(repo.found)} == set(taken)
    repo.git("fsck", "--strict")


def test_locks_that_cannot_be_made_are_one_sentence(repo: Repo) -> None:
    """A file is in the place of our folder."""
    (repo.path / ".git/otel-agents").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written to: File exists"):
        repo.checkpoint()
