"""After a checkpoint and a restore, git shows what it showed before, to the byte of its index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from otel_agents.checkpoint.catalog import checkpoints, diff, patch, prune
from otel_agents.checkpoint.restore import recover, restore
from otel_agents.errors import NotFoundError

from .canaries import Canaries
from .real import Repo, isolate, scribble, started, surface

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """Give a repository with a history: branches, a tag, a stash, a note, and its reflogs."""
    isolate(tmp_path, monkeypatch)
    repo = started(tmp_path / "repo")
    repo.git("branch", "side")
    repo.write("a.txt", "second\n")
    repo.commit("second")
    repo.git("tag", "-a", "-m", "first", "v1")
    repo.git("notes", "add", "-m", "noted")
    repo.write("stashed", "stashed\n")
    repo.git("stash", "push", "-q", "-u")
    repo.git("config", "branch.main.description", "kept")
    return repo


def _clean(repo: Repo) -> None:
    repo.git("status")


def _staged(repo: Repo) -> None:
    repo.write("a.txt", "staged\n")
    repo.git("add", "a.txt")


def _unstaged(repo: Repo) -> None:
    repo.write("a.txt", "unstaged\n")
    repo.path.joinpath("b.dat").unlink()


def _both(repo: Repo) -> None:
    _staged(repo)
    repo.write("a.txt", "staged, then edited\n")
    repo.write("new", "added\n")
    repo.git("add", "new")
    repo.path.joinpath("new").unlink()


def _renamed(repo: Repo) -> None:
    repo.git("mv", "src/deep/c.py", "moved.py")
    repo.git("rm", "-q", "--cached", "b.dat")


def _intent(repo: Repo) -> None:
    repo.write("meant", "to be added\n")
    repo.git("add", "--intent-to-add", "meant")


def _flagged(repo: Repo) -> None:
    repo.git("update-index", "--assume-unchanged", "a.txt")
    repo.git("update-index", "--skip-worktree", "b.dat")
    repo.write("a.txt", "hidden\n")
    repo.git("update-index", "--chmod=-x", "run.sh")


def _conflicted(repo: Repo) -> None:
    repo.git("checkout", "-q", "side")
    repo.write("a.txt", "side\n")
    repo.path.joinpath("b.dat").unlink()
    repo.commit("side")
    repo.git("checkout", "-q", "main")
    repo.write("b.dat", "edited here, deleted there\n")
    repo.commit("main")
    repo.git("merge", "side", check=False)
    assert repo.git("ls-files", "--unmerged")


def _untracked(repo: Repo) -> None:
    repo.write("new/one", "untracked\n")
    repo.write(".gitignore", "*.log\n")
    repo.write("x.log", "ignored\n")


_STATES = (
    _clean, _staged, _unstaged, _both, _renamed, _intent, _flagged, _conflicted, _untracked,
)  # fmt: skip


@pytest.mark.parametrize("state", _STATES)
def test_nothing_that_git_shows_moves(
    repo: Repo, state: Callable[[Repo], None], tmp_path: Path
) -> None:
    """Status, stash, log, reflog, config, refs, HEAD, the index with its time; no hook ran."""
    state(repo)
    planted = Canaries(tmp_path / "canaries")
    planted.hooks(repo.path / ".git/hooks")
    was, before = repo.seen(), surface(repo)
    saved = repo.checkpoint("before", run_id="run", phase="build")
    assert surface(repo) == before
    assert repo.seen() == was

    scribble(repo)
    spoiled = surface(repo)
    for look in (checkpoints, recover):
        look(repo.found)
    diff(repo.found, saved.id)
    patch(repo.found, saved.id)
    restore(repo.found, saved.id, dry_run=True)
    assert surface(repo) == spoiled

    undo = repo.back_to(saved.id)
    assert repo.seen() == was
    assert surface(repo) == before
    assert undo is not None
    repo.back_to(undo)
    assert surface(repo) == spoiled
    repo.back_to(saved.id)
    prune(repo.found, 1, 1)
    assert surface(repo) == before
    assert planted.heard() == set()


def test_nothing_moves_in_the_main_worktree_of_a_linked_one(repo: Repo, tmp_path: Path) -> None:
    """What is shared between them is the objects and our refs."""
    repo.git("worktree", "add", "-q", str(tmp_path / "linked"), "side")
    linked = Repo(tmp_path / "linked")
    _both(repo)
    before = surface(repo), surface(linked)
    saved = linked.checkpoint("linked")
    scribble(linked)
    linked.back_to(saved.id)
    assert (surface(repo), surface(linked)) == before


def test_a_refused_restore_moves_nothing(repo: Repo) -> None:
    """An id that is not there, and a tree with work in it."""
    _both(repo)
    was, before = repo.seen(), surface(repo)
    with pytest.raises(NotFoundError):
        restore(repo.found, "0123456789abcdef")
    assert (repo.seen(), surface(repo)) == (was, before)


def test_checkpoints_are_out_of_sight_and_out_of_the_way(repo: Repo, tmp_path: Path) -> None:
    """No branch, tag, clone or push has them, and garbage collection keeps them."""
    saved = repo.checkpoint("hidden")
    was = repo.seen()
    assert saved.commit not in repo.git("log", "--branches", "--tags", "--format=%H")
    repo.git("clone", "-q", ".", str(tmp_path / "clone"))
    copy = Repo(tmp_path / "clone")
    assert "otel-agents" not in copy.git("for-each-ref")
    repo.git("init", "-q", "--bare", str(tmp_path / "remote.git"))
    repo.git("push", "-q", "--all", str(tmp_path / "remote.git"))
    assert "otel-agents" not in repo.git("ls-remote", str(tmp_path / "remote.git"))
    repo.git("gc", "-q", "--prune=now")
    scribble(repo)
    repo.back_to(saved.id)
    assert repo.seen() == was


def test_pruned_checkpoints_leave_nothing_for_git_to_keep(repo: Repo) -> None:
    """No reflog and no ref: the next garbage collection takes their objects away."""
    before = surface(repo)
    first = repo.checkpoint("first")
    repo.write("a.txt", "newer\n")
    kept = repo.checkpoint("second")
    assert prune(repo.found, 1, 365) == 1
    assert [one.id for one in checkpoints(repo.found)] == [kept.id]
    repo.git("gc", "-q", "--prune=now")
    assert repo.git("cat-file", "-t", first.commit, check=False) == ""
    assert repo.git("for-each-ref", "--contains", first.commit, check=False) == ""
    repo.back_to(kept.id)
    assert before["stash"] == surface(repo)["stash"]
