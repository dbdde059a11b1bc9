"""A restore that is broken off, by Ctrl-C or kill -9: what the tree is then, and what is said."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from otel_agents.checkpoint import catalog, journal
from otel_agents.checkpoint.restore import BrokenOff, restore

from .conftest import Picture, picture

if TYPE_CHECKING:
    from .real import Repo

FILES: Final = 8
# `otel-agents`, which a signal meets after some of the files that a restore puts in place.
COMMAND: Final = """
import signal, sys
from otel_agents.checkpoint.folders import Folders
from otel_agents.cli.main import main
number, after = int(sys.argv[1]), [int(one) for one in sys.argv[2].split(",") if one]
put, count = Folders.put, 0
def putting(*arguments):
    global count
    put(*arguments)
    count += 1
    if count in after:
        signal.raise_signal(number)
Folders.put = putting
del sys.argv[1:3]
main()
"""


def command(
    repo: Repo, *arguments: str, sent: signal.Signals = signal.SIGINT, after: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `otel-agents checkpoint` and send it a signal after so many files, "" for none."""
    words = [sys.executable, "-c", COMMAND, str(int(sent)), after, "checkpoint", *arguments]
    return subprocess.run(  # noqa: S603 - the program above
        words, cwd=repo.path, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def trees(repo: Repo) -> tuple[str, Picture, Picture]:
    """Give a checkpoint, the tree in it, and another that is there now."""
    for number in range(FILES):
        repo.write(f"f{number}", "saved\n")
    saved, then = repo.checkpoint().id, picture(repo.path)
    for number in range(FILES):
        repo.write(f"f{number}", "spoiled\n")
    return saved, then, picture(repo.path)


def undo_of(repo: Repo, saved: str) -> str:
    """Return the id of the checkpoint that undoes the restore of another."""
    return next(one.id for one in catalog.checkpoints(repo.found) if one.undo_of == saved)


def test_one_that_is_interrupted_is_finished_and_says_how_to_undo_it(
    repo: Repo, trees: tuple[str, Picture, Picture]
) -> None:
    """Exit code 3, and the whole tree; the next command has nothing to say of it."""
    saved, then, spoiled = trees
    done = command(repo, "restore", saved, after="3")
    undo = undo_of(repo, saved)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        f"otel-agents: The restore was finished all the same: "
        f"`otel-agents checkpoint restore {undo}` undoes it.\n"
    )
    assert picture(repo.path) == then
    assert not journal.pending(repo.found)
    listed = command(repo, "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert command(repo, "restore", undo).returncode == 0
    assert picture(repo.path) == spoiled


def test_a_second_interrupt_ends_it_and_the_next_command_finishes_it(
    repo: Repo, trees: tuple[str, Picture, Picture]
) -> None:
    """Both say so, in one line; the answer of the next command is what it was asked for."""
    saved, then, spoiled = trees
    ended = command(repo, "restore", saved, after="3,6")
    assert ended.returncode == 3
    assert ended.stderr.split("\n")[0] == (
        "otel-agents: The restore stopped half-way: the next command finishes it."
    )
    assert picture(repo.path) not in (then, spoiled)

    listed = command(repo, "list", "--json")

    undo = undo_of(repo, saved)
    between, *others = [one["id"] for one in json.loads(listed.stdout)["data"]]
    assert others == [undo, saved]
    assert listed.returncode == 0
    assert listed.stderr == (
        f"otel-agents: The restore of {saved} that was broken off is finished now: "
        f"`otel-agents checkpoint restore {undo}` undoes it; {between} is the tree in between.\n"
    )
    assert picture(repo.path) == then
    repo.back_to(undo)
    assert picture(repo.path) == spoiled


def test_work_in_a_tree_that_was_half_restored_is_named(
    repo: Repo, trees: tuple[str, Picture, Picture]
) -> None:
    """After kill -9: any command finishes it, and names the checkpoint of what it replaced."""
    saved, then, _ = trees
    assert command(repo, "restore", saved, sent=signal.SIGKILL, after="3").returncode < 0
    repo.write("f7", "written since\n")
    worked = picture(repo.path)

    done = command(repo, "diff", saved)

    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert picture(repo.path) == then
    repo.back_to(done.stderr.split("; ")[1].split()[0])
    assert picture(repo.path) == worked


def test_an_interrupt_before_it_happens_changes_nothing(
    repo: Repo, trees: tuple[str, Picture, Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is staged, and the journal is not there yet."""
    saved, _, spoiled = trees

    def interrupted(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(journal, "begin", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        restore(repo.found, saved)
    assert not isinstance(caught.value, BrokenOff)
    assert not journal.pending(repo.found)
    assert picture(repo.path) == spoiled


def test_a_program_that_finishes_one_logs_it(
    repo: Repo, trees: tuple[str, Picture, Picture], caplog: pytest.LogCaptureFixture
) -> None:
    """One warning, and none by who comes after it."""
    saved, _, _ = trees
    command(repo, "restore", saved, sent=signal.SIGKILL, after="3")
    caplog.set_level(logging.WARNING)
    repo.checkpoint()
    repo.checkpoint()
    said = [one.getMessage() for one in caplog.records]
    assert len(said) == 1
    assert f"The restore of {saved} that was broken off is finished now" in said[0]
