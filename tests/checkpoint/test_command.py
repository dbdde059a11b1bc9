"""`otel-agents checkpoint` where a thing is left out, cut off, not there, or not writable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from otel_agents.checkpoint import catalog
from otel_agents.checkpoint.locks import at_work
from otel_agents.checkpoint.record import About
from otel_agents.checkpoint.snapshot import create
from otel_agents.errors import CheckpointError

from .real import Repo, isolate, started

if TYPE_CHECKING:
    from pathlib import Path

COMMAND: Final = (sys.executable, "-m", "otel_agents.cli")
_ROOT: Final = os.geteuid() == 0


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """Give a repository with one commit, alone with itself."""
    isolate(tmp_path, monkeypatch)
    return started(tmp_path / "repo")


def command(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `otel-agents` in a directory."""
    return subprocess.run(  # noqa: S603 - our own command
        [*COMMAND, *arguments], cwd=path, capture_output=True, text=True, check=False, timeout=120
    )


def messages(repo: Repo) -> list[str | None]:
    """Return what the checkpoints say, the newest first."""
    return [one.message for one in catalog.checkpoints(repo.found)]


def test_old_ones_go_when_one_is_taken_by_hand(repo: Repo) -> None:
    """As many stay as `keep` says, and none that is older than `keep_days`."""
    repo.write("otel-agents.toml", "[checkpoint]\nkeep = 3\n")
    for number in range(5):
        assert command(repo.path, "checkpoint", "create", "-m", str(number)).returncode == 0
    assert messages(repo) == ["4", "3", "2"]
    repo.write("otel-agents.toml", "[checkpoint]\nkeep_days = 1e-6\n")
    command(repo.path, "checkpoint", "create", "-m", "5")
    assert messages(repo) == ["5"]


def test_old_ones_go_after_a_restore_but_for_what_undoes_it(repo: Repo) -> None:
    """A dry run removes none."""
    saved = [repo.checkpoint(str(number)).id for number in range(4)]
    repo.write("otel-agents.toml", "[checkpoint]\nkeep = 2\n")
    command(repo.path, "checkpoint", "restore", saved[3], "--dry-run")
    assert messages(repo) == ["3", "2", "1", "0"]
    restored = command(repo.path, "checkpoint", "restore", saved[3], "--json")
    # The settings were written after the checkpoint: the restore has removed them, as any file.
    assert not (repo.path / "otel-agents.toml").exists()
    left = catalog.checkpoints(repo.found)
    assert [one.id for one in left] == [json.loads(restored.stdout)["data"]["undo_id"], saved[3]]


def test_what_is_left_out_is_said_when_one_is_taken(repo: Repo) -> None:
    """Repositories inside of this one, by name; where nothing is, nothing is said."""
    assert "Left out" not in command(repo.path, "checkpoint", "create").stdout
    for number in range(7):
        repo.git("init", "-q", f"inner{number}")
        repo.write(f"inner{number}/file", "theirs\n")
    said = command(repo.path, "checkpoint", "create").stdout
    assert "Left out: inner0/, inner1/, inner2/, inner3/, inner4/ and 2 more.\n" in said


def test_a_run_without_any_is_said_to_have_none(repo: Repo) -> None:
    """Where others are, nobody is told how the first one is taken."""
    create(repo.found, About(run_id="r-1"))
    done = command(repo.path, "checkpoint", "list", "--run-id", "nope")
    assert (done.returncode, done.stdout) == (0, "There is no checkpoint of this run.\n")


def test_a_checkpoint_of_no_run_is_said_to_be_of_none(repo: Repo) -> None:
    """One that was taken by hand is of no other run either."""
    saved = repo.checkpoint()
    done = command(repo.path, "checkpoint", "restore", saved.id, "--run-id", "r-1")
    assert (done.returncode, done.stderr) == (
        4, f"otel-agents: Checkpoint {saved.id} is of no run.\n",
    )  # fmt: skip


@pytest.mark.parametrize("place", [".git", ".git/refs/heads"])
def test_inside_of_git_one_is_sent_to_the_tree(repo: Repo, place: str) -> None:
    """It is no bare repository, which a git directory looks like."""
    done = command(repo.path / place, "checkpoint", "list")
    assert done.returncode == 1
    assert done.stderr == (
        f"otel-agents: {repo.path / place} is inside of {repo.path / '.git'}: "
        "go to the working tree.\n"
    )


@pytest.mark.parametrize("arguments", [("create",), ("list",), ("diff", "0" * 16)])
def test_a_working_directory_that_was_removed_is_one_sentence(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """And no number of an error."""
    removed = 'cd gone && rmdir ../gone && exec "$@"'
    (tmp_path / "gone").mkdir()
    done = subprocess.run(  # noqa: S603 - our own command
        ["/bin/sh", "-c", removed, "sh", *COMMAND, "checkpoint", *arguments],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        4, "otel-agents: The working directory was removed: go to another one.\n",
    )  # fmt: skip


def test_the_doctor_looks_for_the_repository_of_automatic_ones(tmp_path: Path) -> None:
    """Where there is none that is a fault, since a program says so only when it runs."""
    (tmp_path / "otel-agents.toml").write_text("[checkpoint]\nauto = true\n")
    found = []
    for _ in range(2):
        done = command(tmp_path, "doctor", "--json")
        checks = {one["name"]: one for one in json.loads(done.stdout)["data"]["checks"]}
        found.append((done.returncode, checks["checkpoints"]["ok"]))
        Repo(tmp_path).git("init", "-q")
    assert found == [(1, False), (0, True)]


@pytest.mark.parametrize("group", ["checkpoint", "hitl", "spool"])
def test_a_group_alone_prints_its_help(tmp_path: Path, group: str) -> None:
    """On standard error, in its lines, as wrong usage; asked for it is an answer."""
    alone, asked = command(tmp_path, group), command(tmp_path, group, "--help")
    assert (alone.returncode, alone.stdout, asked.returncode) == (2, "", 0)
    assert alone.stderr == asked.stdout
    assert "\nCommands:\n" in alone.stderr


@pytest.mark.parametrize(
    "arguments", [("diff",), ("diff", "--patch"), ("diff", "--json"), ("show",)]
)
def test_a_reader_that_has_gone_is_an_interruption(repo: Repo, arguments: tuple[str, ...]) -> None:
    """As `| head -1` may be: exit code 3, however the answer is printed, and no word of it."""
    saved = repo.checkpoint()
    repo.write("a.txt", "spoiled\n")
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(  # noqa: S603 - our own command
            [*COMMAND, "checkpoint", *arguments, saved.id],
            cwd=repo.path, stdout=write, stderr=subprocess.PIPE, check=False, timeout=120,
        )  # fmt: skip
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (3, b"")


@pytest.mark.skipif(not _ROOT, reason="only root mounts a file system")
@pytest.mark.parametrize("lock", [True, False])
def test_looking_takes_no_right_to_write(repo: Repo, lock: bool) -> None:
    """In a read-only git directory: what a restore would do is said, and it itself refused.

    Agents at work there hold off the restores of those who may write, where there is a lock.
    """
    with at_work(repo.found):
        saved = repo.checkpoint()
    repo.write("a.txt", "spoiled\n")
    git = repo.path / ".git"
    if not lock:
        for name in ("tree.lock", "agents.lock"):
            (git / "otel-agents" / name).unlink()
    if subprocess.run(["mount", "--bind", git, git], check=False).returncode:  # noqa: S603, S607
        pytest.skip("nothing can be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", git], check=True)  # noqa: S603, S607
        for arguments, said in (
            (("list",), saved.id),
            (("diff",), "modified a.txt"),
            (("diff", "--patch"), "-spoiled\n+first\n"),
            (("restore", "--dry-run"), "modified a.txt"),
        ):
            id_ = () if arguments == ("list",) else (saved.id,)
            done = command(repo.path, "checkpoint", *arguments, *id_)
            assert (done.returncode, done.stderr) == (0, "")
            assert said in done.stdout
        done = command(repo.path, "checkpoint", "restore", saved.id)
        assert done.returncode == 1
        assert "cannot be written to: Read-only file system" in done.stderr
        if lock:
            with at_work(repo.found):
                pass
        else:
            with pytest.raises(CheckpointError, match="Read-only"), at_work(repo.found):
                pass
    finally:
        subprocess.run(["umount", git], check=True)  # noqa: S603, S607
