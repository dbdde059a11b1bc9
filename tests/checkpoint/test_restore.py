"""Restoring: the tree as it was, an undo, and nothing touched that is not the checkpoint's."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from otel_agents.checkpoint import catalog, journal
from otel_agents.checkpoint.plan import Change
from otel_agents.checkpoint.record import About
from otel_agents.checkpoint.restore import recover, restore
from otel_agents.checkpoint.snapshot import create
from otel_agents.errors import CheckpointError, InvalidInputError, NotFoundError

from .conftest import picture, untouched
from .real import scribble

if TYPE_CHECKING:
    from pathlib import Path

    from .real import Repo


def test_a_restore_gives_back_the_tree_and_its_undo_the_other(repo: Repo) -> None:
    """Edits, deletions, moves, kinds, modes and new files, there and back and there again."""
    (repo.path / "a.txt").chmod(0o600)
    (repo.path / "src").chmod(0o700)
    before = picture(repo.path)
    saved = repo.checkpoint()
    scribble(repo)
    (repo.path / "src").mkdir(exist_ok=True)
    (repo.path / "src").chmod(0o755)
    after, outside = picture(repo.path), untouched(repo)

    done = restore(repo.found, saved.id)

    assert picture(repo.path) == before
    assert stat.S_IMODE((repo.path / "src").stat().st_mode) == 0o700
    assert not (repo.path / "new").exists()
    assert done.restored == saved.id
    assert done.undo_id is not None
    assert catalog.get(repo.found, done.undo_id).undo_of == saved.id
    assert Change("b.dat/inside", "deleted") in done.changed
    assert Change("b.dat", "added") in done.changed
    assert Change("link", "modified") in done.changed
    assert Change("run.sh", "mode") in done.changed

    repo.back_to(done.undo_id)
    assert picture(repo.path) == after
    repo.back_to(saved.id)
    assert picture(repo.path) == before
    assert untouched(repo) == outside


def test_a_dry_run_says_it_and_does_nothing(repo: Repo) -> None:
    """Not even a checkpoint; what it says is what the restore then says, and `diff` too."""
    saved = repo.checkpoint()
    scribble(repo)
    after = picture(repo.path)
    files = sorted(path.name for path in (repo.path / ".git").rglob("*"))

    said = restore(repo.found, saved.id, dry_run=True)

    assert said.undo_id is None
    assert picture(repo.path) == after
    assert sorted(path.name for path in (repo.path / ".git").rglob("*")) == files
    assert catalog.diff(repo.found, saved.id) == said.changed
    assert restore(repo.found, saved.id).changed == said.changed
    assert catalog.diff(repo.found, saved.id) == []


def test_a_patch_is_what_a_restore_would_do_and_leaves_no_object(repo: Repo) -> None:
    """Untracked files, too; nothing of the tree now is written into the repository."""
    saved = repo.checkpoint()
    repo.write("a.txt", "spoiled\n")
    repo.write("new.txt", "new\n")
    objects = repo.git("count-objects", "-v")

    text = catalog.patch(repo.found, saved.id)

    assert "-spoiled\n+first\n" in text
    assert "deleted file mode 100644" in text
    assert repo.git("count-objects", "-v") == objects
    assert [one.id for one in catalog.checkpoints(repo.found)] == [saved.id]


def test_a_run_restores_its_own_checkpoints_only(repo: Repo) -> None:
    """An id of another run is not found; what is no id is no input."""
    saved = create(repo.found, About(run_id="mine"))
    with pytest.raises(NotFoundError, match="is of another run"):
        restore(repo.found, saved.id, run_id="yours")
    with pytest.raises(InvalidInputError):
        restore(repo.found, "--hard", run_id="mine")
    assert restore(repo.found, saved.id, run_id="mine").changed == []


def test_ignored_files_stay(repo: Repo) -> None:
    """Beside restored ones, and in folders that a restore would else have emptied."""
    repo.write(".gitignore", "*.log\nbuild/\n")
    saved = repo.checkpoint()
    repo.write("x.log", "1")
    repo.write("fresh/x.log", "2")
    repo.write("fresh/gone", "3")
    repo.write("build/out", "4")

    repo.back_to(saved.id)

    assert (repo.path / "fresh/x.log").read_text() == "2"
    assert not (repo.path / "fresh/gone").exists()
    assert (repo.path / "build/out").read_text() == "4"
    assert (repo.path / "x.log").read_text() == "1"


@pytest.mark.parametrize(
    ("place", "change"),
    [("a.txt", "modified"), ("a.txt/inside", "deleted"), ("src", "deleted")],
)
def test_an_ignored_file_in_the_way_is_kept_or_saved(repo: Repo, place: str, change: str) -> None:
    """In a file's place, in a folder of that name, in a folder's: refused, or saved with force."""
    saved = repo.checkpoint()
    (repo.path / ".git/info/exclude").write_text("secret*\na.txt\nsrc\n")
    repo.git("rm", "-q", "-r", "--cached", ".")
    for name in ("a.txt", "src/deep/c.py"):
        (repo.path / name).unlink()
    (repo.path / "src/deep").rmdir()
    (repo.path / "src").rmdir()
    repo.write(place, "precious\n")
    after = picture(repo.path)

    with pytest.raises(CheckpointError, match="is ignored and in the way; move it, or use force"):
        restore(repo.found, saved.id)
    assert picture(repo.path) == after
    assert [one.id for one in catalog.checkpoints(repo.found)] == [saved.id]

    said = restore(repo.found, saved.id, force=True, dry_run=True).changed
    assert Change(place, change) in said
    assert len({one.path for one in said}) == len(said)
    done = restore(repo.found, saved.id, force=True)
    assert done.changed == said
    assert (repo.path / "a.txt").read_text() == "first\n"
    assert done.undo_id is not None
    repo.back_to(done.undo_id, force=True)
    assert (repo.path / place).read_text() == "precious\n"


def test_an_ignored_file_that_is_the_same_is_not_in_the_way(repo: Repo) -> None:
    """A file that is ignored since, and was not changed, needs no force."""
    repo.write("out/x", "1")
    saved = repo.checkpoint()
    repo.write(".gitignore", "out/\n")
    repo.back_to(saved.id)
    assert (repo.path / "out/x").read_text() == "1"
    assert not (repo.path / ".gitignore").exists()


def test_what_was_ignored_then_stays_though_the_rules_are_gone(repo: Repo) -> None:
    """An agent removed .gitignore: the restore brings it back, and deletes no secret over it."""
    repo.write(".gitignore", ".env\nbuild/\n")
    repo.write("sub/.gitignore", "!keep\n*.tmp\n")
    repo.write(".env", "KEY=1\n")
    repo.write("build/out", "2\n")
    repo.write("sub/x.tmp", "3\n")
    saved = repo.checkpoint()
    (repo.path / ".gitignore").unlink()
    (repo.path / "sub/.gitignore").write_text("")
    repo.write("new", "4\n")

    restore(repo.found, saved.id)

    for name, text in ((".env", "KEY=1\n"), ("build/out", "2\n"), ("sub/x.tmp", "3\n")):
        assert (repo.path / name).read_text() == text
    assert not (repo.path / "new").exists()
    assert repo.git("status", "--porcelain").splitlines() == ["?? .gitignore", "?? sub/"]


@pytest.mark.parametrize("kind", ["pipe", "repository", "folder of one"])
def test_what_cannot_be_saved_is_never_removed(repo: Repo, kind: str) -> None:
    """A pipe or a repository in the way: refused with force, too, and nothing changed."""
    saved = repo.checkpoint()
    place = repo.path / "a.txt"
    place.unlink()
    if kind == "pipe":
        os.mkfifo(place)
    else:
        inside = place / "in" if kind == "folder of one" else place
        inside.mkdir(parents=True)
        repo.git("init", "-q", str(inside))
        (inside / "work").write_text("of a day")
    after = picture(repo.path)
    for force in (False, True):
        with pytest.raises(CheckpointError, match="; nothing was changed"):
            restore(repo.found, saved.id, force=force)
    assert picture(repo.path) == after


def test_a_file_is_not_put_into_a_repository_of_its_own(repo: Repo) -> None:
    """The folder became one after the checkpoint: its files are its own."""
    saved = repo.checkpoint()
    repo.git("init", "-q", "src")
    (repo.path / "src/deep/c.py").unlink()
    repo.git("rm", "-q", "-r", "--cached", "src")
    with pytest.raises(CheckpointError, match="is in a repository of its own"):
        restore(repo.found, saved.id)


def test_nothing_is_written_through_a_link(repo: Repo, tmp_path: Path) -> None:
    """A folder that became a link out is replaced by the folder; what is behind it stays."""
    outside = tmp_path / "outside/deep"
    outside.mkdir(parents=True)
    (outside / "c.py").write_text("theirs\n")
    (outside / "more").write_text("theirs\n")
    saved = repo.checkpoint()
    (repo.path / "src/deep/c.py").unlink()
    (repo.path / "src/deep").rmdir()
    (repo.path / "src").rmdir()
    (repo.path / "src").symlink_to(tmp_path / "outside")

    undo = repo.back_to(saved.id)

    assert not (repo.path / "src").is_symlink()
    assert (repo.path / "src/deep/c.py").read_text() == "print('c')\n"
    assert {path.read_text() for path in outside.iterdir()} == {"theirs\n"}
    assert undo is not None
    repo.back_to(undo)
    assert (repo.path / "src").is_symlink()


def test_a_folder_takes_the_place_of_a_file_and_empty_folders_go(repo: Repo) -> None:
    """Also where the folder that has to go holds folders with nothing in them."""
    saved = repo.checkpoint()
    (repo.path / "a.txt").unlink()
    repo.write("a.txt/x/y", "1")
    (repo.path / "a.txt/empty/inner").mkdir(parents=True)

    repo.back_to(saved.id)

    assert (repo.path / "a.txt").read_text() == "first\n"


def test_contents_that_are_lost_stop_it_before_it_begins(repo: Repo) -> None:
    """A blob is gone from the repository: one sentence, and the tree as it was."""
    repo.write("lost", "lost\n")
    saved = repo.checkpoint()
    name = repo.git("rev-parse", f"{saved.commit}:lost").strip()
    (repo.path / f".git/objects/{name[:2]}/{name[2:]}").unlink()
    repo.write("lost", "other\n")
    scribble(repo)
    after = picture(repo.path)
    with pytest.raises(CheckpointError, match="has lost the content of lost"):
        restore(repo.found, saved.id)
    assert picture(repo.path) == after
    assert not journal.pending(repo.found)


def test_a_restore_that_stopped_is_finished_and_later_work_is_saved(repo: Repo) -> None:
    """What was done to a half restored tree is in a checkpoint of its own."""
    saved = repo.checkpoint()
    before = picture(repo.path)
    scribble(repo)
    real = journal.carry_out
    try:
        journal.carry_out = _killed  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt):
            restore(repo.found, saved.id)
    finally:
        journal.carry_out = real
    repo.write("a.txt", "written since\n")

    assert recover(repo.found) == saved.id
    assert picture(repo.path) == before
    assert recover(repo.found) is None
    newest = catalog.checkpoints(repo.found)[0]
    assert repo.git("cat-file", "blob", f"{newest.commit}:a.txt") == "written since\n"


def _killed(*_: object) -> None:
    raise KeyboardInterrupt
