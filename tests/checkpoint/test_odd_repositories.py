"""Repositories in odd states and of odd kinds: each gives its tree back, or is refused plainly."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from otel_agents.checkpoint.catalog import checkpoints
from otel_agents.checkpoint.repository import Repository
from otel_agents.checkpoint.used import is_used
from otel_agents.errors import CheckpointError

from . import odd
from .real import Repo, inside, is_sentence, isolate, scribble, started, surface

if TYPE_CHECKING:
    from collections.abc import Callable

_ROOT: Final = os.geteuid() == 0


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(tmp_path, monkeypatch)


_HANDLED: Final = (
    odd.unborn, odd.empty, odd.detached, odd.merging, odd.rebasing, odd.cherry_picking,
    odd.reverting, odd.bisecting, odd.shallow, odd.sharing, odd.linked, odd.packed,
    odd.split_index, odd.untracked_cache, odd.index_version_4, odd.sha256, odd.reftable,
    odd.autocrlf, odd.attributes, odd.no_file_mode, odd.no_links, odd.ignoring_case,
    odd.odd_names, odd.sparse, odd.sparse_index, odd.submodule, odd.in_a_submodule, odd.nested,
    odd.nested_unborn, odd.below_a_repository, odd.separate_git_dir,
    odd.in_a_folder_of_odd_name, odd.bare_of_config, odd.locked_index, odd.no_index,
)  # fmt: skip


@pytest.mark.parametrize("build", _HANDLED)
def test_the_tree_comes_back_and_nothing_else_moves(
    tmp_path: Path, build: Callable[[Path], Repo]
) -> None:
    """Spoiled and restored it is as it was; undone it is spoiled again; git sees no difference."""
    repo = build(tmp_path / "repo")
    was, around = repo.seen(), inside(repo)
    saved = repo.checkpoint("before")
    assert inside(repo) == around
    scribble(repo)
    spoiled = repo.seen()
    undo = repo.back_to(saved.id)
    assert repo.seen() == was
    assert inside(repo) == around
    assert undo is not None
    repo.back_to(undo)
    assert repo.seen() == spoiled
    repo.back_to(saved.id)
    assert repo.seen() == was
    assert inside(repo) == around


@pytest.mark.parametrize("build", _HANDLED)
def test_programs_know_without_git_whether_checkpoints_are_taken(
    tmp_path: Path, build: Callable[[Path], Repo], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever `.git` is, and from a folder inside, too; a program without a table asks that."""
    repo = build(tmp_path / "repo")
    inside_it = repo.path / "fold er"
    inside_it.mkdir()
    assert not is_used(inside_it)
    repo.checkpoint()
    monkeypatch.setenv("PATH", "")
    assert is_used(repo.path)
    assert is_used(inside_it)


@pytest.mark.parametrize("content", ["", "gitdir: gone\n", "gitdir: \0\n", "worktree", None])
def test_where_git_says_nothing_of_use_none_are_taken(tmp_path: Path, content: str | None) -> None:
    """A `.git` that is empty, leads nowhere, cannot be, or is a pipe that nobody writes to."""
    if content is None:
        os.mkfifo(tmp_path / ".git")
    else:
        (tmp_path / ".git").write_text(content)
    assert not is_used(tmp_path)
    assert not is_used(tmp_path / "gone")


def _none(path: Path) -> Path:
    path.mkdir()
    return path


def _missing(path: Path) -> Path:
    return path / "missing"


def _file(path: Path) -> Path:
    path.write_text("a file\n")
    return path


def _bare(path: Path) -> Path:
    path.mkdir()
    Repo(path).git("init", "-q", "--bare")
    return path


def _inside_git(path: Path) -> Path:
    return started(path).path / ".git"


def _deep_inside_git(path: Path) -> Path:
    return started(path).path / ".git/refs/heads"


def _declared_bare(path: Path) -> Path:
    started(path).git("config", "core.bare", "true")
    return path


def _broken_head(path: Path) -> Path:
    started(path).path.joinpath(".git/HEAD").write_text("nonsense\n")
    return path


def _broken_config(path: Path) -> Path:
    started(path).path.joinpath(".git/config").write_text("[nonsense\n")
    return path


def _unknown_extension(path: Path) -> Path:
    repo = started(path)
    repo.git("config", "core.repositoryFormatVersion", "1")
    repo.git("config", "extensions.fromTheFuture", "true")
    return path


def _git_file_to_nothing(path: Path) -> Path:
    path.mkdir()
    path.joinpath(".git").write_text("gitdir: /nowhere\n")
    return path


def _git_file_of_nonsense(path: Path) -> Path:
    path.mkdir()
    path.joinpath(".git").write_text("nonsense\n")
    return path


def _pruned_worktree(path: Path) -> Path:
    odd.linked(path)
    shutil.rmtree(path.parent / "source/.git/worktrees")
    return path


@pytest.mark.parametrize(
    "build",
    [
        _none, _missing, _file, _bare, _inside_git, _deep_inside_git, _declared_bare, _broken_head,
        _broken_config, _unknown_extension, _git_file_to_nothing, _git_file_of_nonsense,
        _pruned_worktree,
    ],
)  # fmt: skip
def test_what_is_no_repository_with_a_tree_is_refused(
    tmp_path: Path, build: Callable[[Path], Path]
) -> None:
    """One clear sentence, and nothing is made."""
    path = build(tmp_path / "place")
    files = sorted(tmp_path.rglob("*"))
    with pytest.raises(CheckpointError) as caught:
        Repository.find(path)
    assert is_sentence(caught.value)
    assert sorted(tmp_path.rglob("*")) == files


def test_a_repository_around_a_broken_one_is_not_taken_for_it(tmp_path: Path) -> None:
    """Else a checkpoint of one is a checkpoint of the other."""
    outer = started(tmp_path / "outer")
    inner = outer.path / "inner"
    inner.joinpath(".git").mkdir(parents=True)
    with pytest.raises(CheckpointError):
        Repository.find(inner)


def test_it_is_found_from_below_and_through_a_link(tmp_path: Path) -> None:
    """From a folder of the tree, and by a link to the tree from elsewhere."""
    repo = started(tmp_path / "repo")
    tmp_path.joinpath("shortcut").symlink_to(repo.path / "src")
    for path in (repo.path / "src/deep", tmp_path / "shortcut"):
        assert Repository.find(path).root == repo.path


def test_two_worktrees_are_saved_and_restored_each_by_itself(tmp_path: Path) -> None:
    """Their refs are shared; the tree of one is not put into the other by its own checkpoint."""
    source = started(tmp_path / "source")
    trees = []
    for name in ("one", "two"):
        source.git("worktree", "add", "-q", "-b", name, str(tmp_path / name))
        repo = Repo(tmp_path / name)
        repo.write("a.txt", f"{name}\n")
        trees.append(repo)
    was = [repo.seen() for repo in trees]
    saved = [repo.checkpoint(repo.path.name) for repo in trees]
    for repo in trees:
        scribble(repo)
    spoiled = trees[1].seen()
    trees[0].back_to(saved[0].id)
    assert (trees[0].seen(), trees[1].seen()) == (was[0], spoiled)
    trees[1].back_to(saved[1].id)
    assert [repo.seen() for repo in trees] == was
    assert source.git("status", "--porcelain") == ""
    assert checkpoints(source.found)


def test_what_lies_in_a_submodule_or_nested_repository_is_left_alone(tmp_path: Path) -> None:
    """They have a history of their own; ours neither saves nor spoils what is in them."""
    repo = odd.submodule(tmp_path / "repo")
    inner = started(repo.path / "inner")
    saved = repo.checkpoint("before")
    repo.write("a.txt", "spoiled\n")
    for name in ("library", "inner"):
        repo.write(f"{name}/a.txt", "work in it\n")
        repo.write(f"{name}/new.txt", "new in it\n")
    inner.commit("inner work")
    head = inner.git("rev-parse", "HEAD")
    repo.back_to(saved.id)
    assert repo.path.joinpath("a.txt").read_text() == "first\n"
    for name in ("library", "inner"):
        assert repo.path.joinpath(name, "a.txt").read_text() == "work in it\n"
        assert repo.path.joinpath(name, "new.txt").read_text() == "new in it\n"
    assert inner.git("rev-parse", "HEAD") == head


def test_a_nested_repository_made_since_is_not_removed(tmp_path: Path) -> None:
    """It is untracked work that no checkpoint holds."""
    repo = started(tmp_path / "repo")
    saved = repo.checkpoint("before")
    inner = started(repo.path / "made/inner")
    repo.write("made/beside.txt", "beside\n")
    was = inner.seen()
    repo.back_to(saved.id)
    assert inner.seen() == was
    assert inner.git("status", "--porcelain") == ""


def test_files_that_git_is_told_not_to_look_at_are_saved_all_the_same(tmp_path: Path) -> None:
    """assume-unchanged and skip-worktree hide an edit from `git add`, not from a checkpoint."""
    repo = started(tmp_path / "repo")
    repo.git("update-index", "--assume-unchanged", "a.txt")
    repo.git("update-index", "--skip-worktree", "b.dat")
    repo.write("a.txt", "hidden edit\n")
    repo.write("b.dat", "hidden edit\n")
    was, around = repo.seen(), surface(repo)
    saved = repo.checkpoint("hidden")
    repo.write("a.txt", "spoiled\n")
    repo.write("b.dat", "spoiled\n")
    repo.back_to(saved.id)
    assert repo.seen() == was
    assert surface(repo) == around


def test_sparse_files_stay_away(tmp_path: Path) -> None:
    """They are neither written by a restore nor taken for deleted."""
    repo = odd.sparse(tmp_path / "repo")
    saved = repo.checkpoint("sparse")
    repo.write("src/deep/c.py", "changed\n")
    repo.back_to(saved.id)
    assert not repo.path.joinpath("other").exists()
    repo.git("sparse-checkout", "disable")
    assert repo.path.joinpath("other/file").read_text() == "other\n"


def test_edits_too_quick_for_a_clock_are_seen(tmp_path: Path) -> None:
    """Same size, same time stamp, time of change not trusted: git compares contents then."""
    repo = started(tmp_path / "repo")
    repo.git("config", "core.trustctime", "false")
    repo.git("config", "core.checkStat", "minimal")
    path = repo.write("a.txt", "aaaa\n")
    repo.git("add", "a.txt")
    index = repo.path / ".git/index"
    at = path.stat().st_mtime_ns
    path.write_bytes(b"bbbb\n")
    os.utime(path, ns=(at, at))
    os.utime(index, ns=(at, at))
    assert repo.git("status", "--porcelain").startswith("MM")
    saved = repo.checkpoint("quick")
    assert repo.git("cat-file", "blob", f"{saved.commit}:a.txt") == "bbbb\n"


def test_edits_between_checkpoints_in_quick_succession_are_all_seen(tmp_path: Path) -> None:
    """Each checkpoint has the content of its moment, of the same size as the one before."""
    repo = started(tmp_path / "repo")
    for number in range(25):
        text = f"{number:04d}\n"
        repo.path.joinpath("a.txt").write_text(text)
        saved = repo.checkpoint(text)
        assert repo.git("cat-file", "blob", f"{saved.commit}:a.txt") == text


def test_a_file_swapped_for_one_as_old_and_as_large_is_seen(tmp_path: Path) -> None:
    """`mv` and `cp -p` keep size and time: the file is another all the same."""
    repo = started(tmp_path / "repo")
    first, second = repo.write("one", "1111\n"), repo.write("two", "2222\n")
    for path in (first, second):
        os.utime(path, ns=(10**18, 10**18))
    repo.checkpoint("before")
    first.rename(repo.path / "aside")
    second.rename(first)
    repo.path.joinpath("aside").rename(second)
    saved = repo.checkpoint("swapped")
    assert repo.git("cat-file", "blob", f"{saved.commit}:one") == "2222\n"
    repo.write("one", "spoiled\n")
    repo.back_to(saved.id)
    assert first.read_text() == "2222\n"


def test_very_many_files_are_saved_and_restored(tmp_path: Path) -> None:
    """Two thousand in one folder and a hundred folders deep."""
    repo = started(tmp_path / "repo")
    for number in range(2_000):
        repo.path.joinpath(f"file-{number}").write_text(f"{number}\n")
    repo.write("/".join(["d"] * 100) + "/deep", "deep\n")
    was = repo.seen()
    saved = repo.checkpoint("many")
    assert saved.files == 2_006
    for number in range(0, 2_000, 2):
        repo.path.joinpath(f"file-{number}").unlink()
    shutil.rmtree(repo.path / "d")
    repo.back_to(saved.id)
    assert repo.seen() == was


# Root reads and writes everything, so another user does it, who owns the repository; what is to
# be imported is imported before, by doing it once, for that user may not read this Python.
_AS_NOBODY: Final = """
import os, sys
from pathlib import Path
from otel_agents.checkpoint import record, repository, restore, snapshot
from otel_agents.errors import CheckpointError
warm, asked = (Path(path) for path in sys.argv[1:])
snapshot.create(repository.Repository.find(warm), record.About())
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    found = repository.Repository.find(asked)
    snapshot.create(found, record.About())
except CheckpointError as error:
    print(error)
else:
    print("saved")
"""


@pytest.mark.skipif(not _ROOT, reason="only root becomes somebody else")
@pytest.mark.parametrize(
    ("what", "mode"),
    [
        ("README", 0o644), (".git", 0o555), (".git/objects", 0o555), (".git/refs", 0o555),
        ("secret", 0o000), ("closed", 0o000),
    ],
)  # fmt: skip
def test_what_cannot_be_read_or_written_is_one_sentence(what: str, mode: int) -> None:
    """A read-only `.git`, and a file or folder of the tree that may not be read."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101, S103 - the other user walks through it
        warm, repo = started(Path(folder) / "warm"), started(Path(folder) / "repo")
        repo.write("README", "read me\n")
        repo.write("secret", "secret\n")
        repo.write("closed/file", "closed\n")
        for path in (repo.path, *repo.path.rglob("*")):
            os.chown(path, 65534, 65534, follow_symlinks=False)
        place = repo.path / what
        places = [place, *(path for path in place.rglob("*") if path.is_dir())]
        for path in places[::-1]:
            path.chmod(mode)
        done = subprocess.run(  # noqa: S603 - the program above
            [sys.executable, "-c", _AS_NOBODY, str(warm.path), str(repo.path)],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "HOME": "/"},
            capture_output=True,
            text=True,
            check=False,
        )
        for path in places:
            path.chmod(0o755)
    assert done.stderr == ""
    text = done.stdout.removesuffix("\n")
    assert (text == "saved") == (what == "README")
    assert is_sentence(text)
