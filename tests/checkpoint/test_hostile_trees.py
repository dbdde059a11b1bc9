"""Attack 44: trees that reach out of themselves, and repositories that are not ours to work in."""

from __future__ import annotations

import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from otel_agents.checkpoint.catalog import checkpoints
from otel_agents.checkpoint.record import About
from otel_agents.checkpoint.repository import Repository
from otel_agents.checkpoint.restore import recover
from otel_agents.checkpoint.snapshot import create
from otel_agents.errors import CheckpointError

from .real import Repo, everything, is_sentence, isolate, refused, scribble, seen, started

if TYPE_CHECKING:
    from pathlib import Path

_ROOT: Final = os.geteuid() == 0


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """Give a repository with one commit, alone with itself."""
    isolate(tmp_path, monkeypatch)
    return started(tmp_path / "repo")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Give a directory outside, which nothing may change."""
    directory = tmp_path / "victim"
    directory.mkdir()
    directory.joinpath("precious").write_text("precious\n")
    directory.joinpath("a.txt").write_text("a of the victim\n")
    return directory


def test_git_lookalikes_in_the_tree_are_saved_or_refused(repo: Repo) -> None:
    """On this file system `.GIT` and `.git ` are names as any: never lost without a word."""
    for name in (".GIT/config", ".git /config", "git~1/config", "sub/.Git"):
        repo.write(name, "lookalike\n")
        was = repo.seen()
        said = refused(partial(repo.checkpoint, name))
        assert repo.seen() == was
        if said:
            assert is_sentence(said)
        else:
            saved = checkpoints(repo.found)[0]
            scribble(repo)
            repo.write(name, "changed\n")
            repo.back_to(saved.id)
            if repo.seen() != was:  # then it was left out, and left alone
                assert saved.left_out
                assert repo.seen() == {**was, name.encode(): ("file", b"changed\n")}
        repo.path.joinpath(name).unlink()


@pytest.mark.skipif(not _ROOT, reason="only root gives a repository away")
@pytest.mark.parametrize("owned", [".", ".git"])
def test_a_repository_of_somebody_else_is_refused(repo: Repo, owned: str) -> None:
    """Its settings are not ours to obey, and what we would write in it is not theirs."""
    os.chown(repo.path / owned, 12345, 12345)
    was = repo.seen()
    with pytest.raises(CheckpointError) as caught:
        Repository.find(repo.path)
    assert is_sentence(caught.value)
    assert repo.seen() == was


@pytest.mark.skipif(not _ROOT, reason="only root gives a repository away")
def test_a_repository_of_somebody_else_that_the_user_trusts_is_as_any(
    repo: Repo, tmp_path: Path
) -> None:
    """safe.directory in the settings of the user, and there only, says so."""
    os.chown(repo.path, 12345, 12345)
    os.chown(repo.path / ".git", 12345, 12345)
    with repo.path.joinpath(".git/config").open("a") as file:
        file.write("[safe]\n\tdirectory = *\n")
    with pytest.raises(CheckpointError):
        Repository.find(repo.path)
    with tmp_path.joinpath("home/.gitconfig").open("a") as file:
        file.write(f"[safe]\n\tdirectory = {repo.path}\n")
    assert repo.git("status", "--porcelain") == ""
    everything(repo)


def test_a_bare_repository_inside_the_tree_is_not_worked_in(repo: Repo, tmp_path: Path) -> None:
    """Files that look like one (HEAD, objects, refs, config) are content, and name no programs."""
    canary = tmp_path / "canary"
    repo.git("init", "-q", "--bare", "inner")
    inner = repo.path / "inner"
    config = inner / "config"
    config.write_text(
        f"[core]\n\tbare = false\n\tworktree = {tmp_path}\n\tfsmonitor = touch {canary}\n"
    )
    with pytest.raises(CheckpointError) as caught:
        Repository.find(inner)
    assert is_sentence(caught.value)
    was = repo.seen()
    saved = repo.checkpoint("with one inside")
    scribble(repo)
    repo.back_to(saved.id)
    assert repo.seen() == was
    assert not canary.exists()


@pytest.mark.parametrize("relative", [False, True])
def test_a_work_tree_elsewhere_is_not_worked_in(repo: Repo, victim: Path, relative: bool) -> None:
    """`core.worktree` of a downloaded repository points to the home of its reader."""
    elsewhere = os.path.relpath(victim, repo.path / ".git") if relative else str(victim)
    repo.git("config", "core.worktree", elsewhere)
    outside = seen(victim)
    with pytest.raises(CheckpointError) as caught:
        Repository.find(repo.path)
    assert is_sentence(caught.value)
    assert seen(victim) == outside


def test_a_link_out_of_the_tree_is_saved_as_a_link(repo: Repo, victim: Path) -> None:
    """What it points to is neither read nor written, a file and a directory alike."""
    for name, target in (("file-out", victim / "precious"), ("folder-out", victim)):
        repo.path.joinpath(name).symlink_to(target)
    was, outside = repo.seen(), seen(victim)
    saved = repo.checkpoint("with links")
    objects = repo.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()
    assert repo.git("hash-object", str(victim / "precious")).strip() not in objects
    for name in ("file-out", "folder-out"):
        repo.path.joinpath(name).unlink()
        repo.write(name, "a file now\n")
    undo = repo.back_to(saved.id)
    assert (repo.seen(), seen(victim)) == (was, outside)
    assert undo is not None
    repo.back_to(undo)
    assert repo.path.joinpath("file-out").read_text() == "a file now\n"
    assert seen(victim) == outside


@pytest.mark.parametrize("name", ["a.txt", "src", "src/deep", "src/deep/c.py"])
def test_a_link_put_where_a_file_or_its_parent_was_is_replaced_not_followed(
    repo: Repo, victim: Path, name: str
) -> None:
    """The files of the victim keep their content, and none is added or taken away."""
    victim.joinpath("deep").mkdir()
    for path in ("c.py", "deep/c.py"):
        victim.joinpath(path).write_text("of the victim\n")
    was, outside = repo.seen(), seen(victim)
    saved = repo.checkpoint("plain")
    place = repo.path / name
    place.rename(repo.path.parent / "aside")
    file = place.suffix in (".txt", ".py")
    place.symlink_to(victim / "precious" if file else victim)
    linked = repo.seen()
    undo = repo.back_to(saved.id)
    assert (repo.seen(), seen(victim)) == (was, outside)
    assert undo is not None
    repo.back_to(undo)
    assert (repo.seen(), seen(victim)) == (linked, outside)


def test_a_directory_that_became_a_link_does_not_lose_what_is_behind_it(
    repo: Repo, victim: Path
) -> None:
    """New files since the checkpoint are removed: those behind a link are not new files."""
    saved = repo.checkpoint("plain")
    repo.path.joinpath("new").symlink_to(victim)
    outside = seen(victim)
    repo.back_to(saved.id)
    assert not os.path.lexists(repo.path / "new")
    assert seen(victim) == outside


def test_a_hard_link_to_a_file_outside_is_not_written_through(repo: Repo, victim: Path) -> None:
    """Package managers link their stores into the tree: the store keeps its content."""
    repo.path.joinpath("a.txt").unlink()
    os.link(victim / "precious", repo.path / "a.txt")
    saved = repo.checkpoint("linked")
    repo.path.joinpath("a.txt").unlink()
    repo.write("a.txt", "agent\n")
    undo = repo.back_to(saved.id)
    assert undo is not None
    repo.path.joinpath("a.txt").unlink()
    os.link(victim / "precious", repo.path / "a.txt")
    repo.back_to(undo)
    assert victim.joinpath("precious").read_text() == "precious\n"
    assert repo.path.joinpath("a.txt").read_text() == "agent\n"


@pytest.mark.parametrize("length", [3_900, 6_000])
def test_a_path_of_thousands_of_bytes_is_saved_or_refused(repo: Repo, length: int) -> None:
    """Longer than the system takes in one call: one sentence at the worst."""
    part = "d" * 199
    at = os.open(repo.path, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(length // 200):
        os.mkdir(part, dir_fd=at)
        deeper = os.open(part, os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
        os.close(at)
        at = deeper
    file = os.open("file", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=at)
    os.write(file, b"deep\n")
    os.close(file)
    said = refused(lambda: repo.checkpoint("deep"))
    if said:
        assert is_sentence(said)
    else:
        saved = checkpoints(repo.found)[0]
        assert saved.files == 6
        repo.write("a.txt", "changed\n")
        repo.back_to(saved.id)
        assert repo.path.joinpath("a.txt").read_text() == "first\n"
    file = os.open("file", os.O_RDONLY, dir_fd=at)
    assert os.read(file, 10) == b"deep\n"
    os.close(file)
    os.close(at)


def test_pipes_sockets_and_holes_neither_block_nor_fill(repo: Repo) -> None:
    """A pipe is not opened, a socket not lost, and a hole of a terabyte not written to disk."""
    os.mkfifo(repo.path / "pipe")
    listening = socket.socket(socket.AF_UNIX)
    here = os.open(repo.path, os.O_RDONLY)
    with listening:
        listening.bind(f"/proc/self/fd/{here}/socket")
        was = repo.seen()
        saved = repo.checkpoint("with a pipe")
        repo.path.joinpath("a.txt").unlink()
        os.mkfifo(repo.path / "a.txt")
        assert is_sentence(refused(lambda: repo.back_to(saved.id)))
        repo.path.joinpath("a.txt").unlink()
        repo.back_to(saved.id)
        assert repo.seen() == was
    os.close(here)
    with repo.path.joinpath("hole").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CheckpointError) as caught:
        repo.checkpoint("too large")
    assert is_sentence(caught.value)
    assert [one.id for one in checkpoints(repo.found)][-1] == saved.id


def test_a_large_tree_is_refused_by_size_and_by_time(repo: Repo) -> None:
    """The limits hold, nothing is left behind, and the next checkpoint works."""
    repo.write("large", os.urandom(200_000))
    for limits in ({"max_bytes": 100_000}, {"max_seconds": 0.000_001}):
        with pytest.raises(CheckpointError) as caught:
            create(repo.found, About(message="large"), **limits)
        assert is_sentence(caught.value)
    assert checkpoints(repo.found) == []
    assert [path for path in repo.path.rglob("*.lock") if "otel-agents" not in path.parts] == []
    assert recover(repo.found) is None
    everything(repo)
