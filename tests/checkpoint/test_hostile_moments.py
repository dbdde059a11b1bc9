"""Attacks 45 and 46: restores over work that nobody saved, on a full disk, and two at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import pytest

from otel_agents.checkpoint.catalog import checkpoints
from otel_agents.checkpoint.locks import at_work, restoring
from otel_agents.checkpoint.record import About
from otel_agents.checkpoint.restore import recover, restore
from otel_agents.checkpoint.snapshot import create
from otel_agents.errors import CheckpointError, OtelAgentsError

from .real import Repo, is_sentence, isolate, refused, scribble, started

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT: Final = os.geteuid() == 0


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """Give a repository with one commit, alone with itself."""
    isolate(tmp_path, monkeypatch)
    return started(tmp_path / "repo")


def test_untracked_and_edited_work_comes_back_by_undo(repo: Repo) -> None:
    """What was done since, staged or not, is in the checkpoint that the restore takes first."""
    saved = repo.checkpoint("clean")
    was = repo.seen()
    scribble(repo)
    repo.write("staged.txt", "staged\n")
    repo.git("add", "staged.txt")
    repo.write("staged.txt", "staged, then edited\n")
    spoiled = repo.seen()
    undo = repo.back_to(saved.id)
    assert repo.seen() == was
    assert undo is not None
    repo.back_to(undo)
    assert repo.seen() == spoiled


def test_what_is_ignored_is_left_alone(repo: Repo) -> None:
    """Neither saved nor taken away, in directories of its own and beside other files."""
    repo.write(".gitignore", "*.log\nbuild/\n")
    saved = repo.checkpoint("with ignores")
    repo.write("x.log", "log\n")
    repo.write("src/deep/y.log", "log\n")
    repo.write("build/out", "out\n")
    repo.write("new/z.log", "log\n")
    repo.write("new/file", "untracked\n")
    repo.back_to(saved.id)
    for name in ("x.log", "src/deep/y.log", "build/out", "new/z.log"):
        assert repo.path.joinpath(name).is_file(), name
    assert not repo.path.joinpath("new/file").exists()


@pytest.mark.parametrize("settings", ["core.excludesFile", "info/exclude", "xdg"])
def test_what_the_user_ignores_elsewhere_is_ignored_too(repo: Repo, settings: str) -> None:
    """The list in the user's settings and the one in .git/info count as for `git status`."""
    home = repo.path.parent / "home"
    if settings == "core.excludesFile":
        home.joinpath("ignored").write_text("*.mine\n")
        repo.git("config", "--global", "core.excludesFile", "~/ignored")
    elif settings == "xdg":
        home.joinpath(".config/git").mkdir(parents=True)
        home.joinpath(".config/git/ignore").write_text("*.mine\n")
    else:
        repo.path.joinpath(".git/info").mkdir(exist_ok=True)
        repo.path.joinpath(".git/info/exclude").write_text("*.mine\n")
    repo.write("notes.mine", "private\n")
    saved = repo.checkpoint("without notes")
    assert "notes.mine" not in repo.git("ls-tree", "-r", "--name-only", saved.commit)
    repo.write("later.mine", "private\n")
    repo.back_to(saved.id)
    assert repo.path.joinpath("notes.mine").read_text() == "private\n"
    assert repo.path.joinpath("later.mine").read_text() == "private\n"


@pytest.mark.parametrize("force", [False, True])
def test_an_undo_keeps_what_only_the_undone_rules_ignore(repo: Repo, force: bool) -> None:
    """A restore takes a rule away, and the undo brings it back: what it ignores is there all along.

    Between the two nobody ignores it, so that it looks like work made since.
    """
    saved = repo.checkpoint("no rules")
    repo.write(".gitignore", "build/\n")
    repo.write("build/out", "compiled for hours\n")
    spoiled = repo.seen()
    undo = repo.back_to(saved.id, force=force)
    assert repo.path.joinpath("build/out").read_text() == "compiled for hours\n"
    assert undo is not None
    repo.back_to(undo, force=force)
    assert repo.seen() == spoiled


def _restored_or_refused(repo: Repo, identity: str, names: dict[str, str]) -> None:
    """Restore; what `names` hold is then in its place, or the undo puts it there."""
    undos: list[str | None] = []
    said = refused(lambda: undos.append(repo.back_to(identity)))
    assert not said or is_sentence(said)
    undo = undos[0] if undos else None
    lost = [name for name, text in names.items() if not _holds(repo.path / name, text)]
    if lost:
        assert undo is not None, lost
        repo.back_to(undo)
    assert [name for name, text in names.items() if not _holds(repo.path / name, text)] == []


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_text() == text
    except OSError:
        return False


def test_a_file_that_is_ignored_since_is_not_lost(repo: Repo) -> None:
    """It is in the checkpoint, was then ignored and edited: the edit is work as any."""
    repo.write("build/out", "first\n")
    saved = repo.checkpoint("not ignored")
    repo.write(".gitignore", "build/\n")
    repo.write("build/out", "hours of work\n")
    repo.write("build/other", "more of it\n")
    kept = {"build/out": "hours of work\n", "build/other": "more of it\n"}
    _restored_or_refused(repo, saved.id, kept)


def test_ignored_files_in_a_folder_that_becomes_a_file_are_not_lost(repo: Repo) -> None:
    """The file of the checkpoint stands where a folder with ignored work is now."""
    repo.write(".gitignore", "*.o\n")
    repo.write("place", "a file\n")
    saved = repo.checkpoint("a file")
    repo.path.joinpath("place").unlink()
    repo.write("place/deep/work.o", "compiled for hours\n")
    repo.write("place/plain.c", "int\n")
    kept = {"place/deep/work.o": "compiled for hours\n", "place/plain.c": "int\n"}
    _restored_or_refused(repo, saved.id, kept)


def test_an_ignored_file_where_a_folder_was_is_not_lost(repo: Repo) -> None:
    """And the other way about."""
    repo.write("place.o/inside", "a folder\n")
    saved = repo.checkpoint("a folder")
    shutil.rmtree(repo.path / "place.o")
    repo.write(".gitignore", "*.o\n")
    repo.write("place.o", "compiled for hours\n")
    _restored_or_refused(repo, saved.id, {"place.o": "compiled for hours\n"})


@pytest.mark.parametrize("committed", [True, False])
def test_a_repository_in_a_folder_that_becomes_a_file_is_not_lost(
    repo: Repo, committed: bool
) -> None:
    """A nested repository is saved by nobody else."""
    repo.write("place", "a file\n")
    saved = repo.checkpoint("a file")
    repo.path.joinpath("place").unlink()
    inner = started(repo.path / "place") if committed else Repo(repo.path / "place")
    if not committed:
        inner.path.mkdir()
        inner.git("init", "-q")
        inner.write("work.txt", "first\n")
    was = {path: path.read_bytes() for path in inner.path.rglob("*") if path.is_file()}
    said = refused(lambda: repo.back_to(saved.id))
    assert not said or is_sentence(said)
    assert {path: path.read_bytes() for path in was if path.is_file()} == was


def test_the_workspace_is_left_alone(repo: Repo) -> None:
    """`.otel-agents/` has its store open: it is neither saved nor restored, at any depth."""
    repo.write(".otel-agents/otel-agents.db", "one\n")
    repo.write("sub/.otel-agents/signals.jsonl", "one\n")
    saved = repo.checkpoint("with a workspace")
    assert ".otel-agents" not in repo.git("ls-tree", "-r", "--name-only", saved.commit)
    repo.write(".otel-agents/otel-agents.db", "two\n")
    repo.write("sub/.otel-agents/signals.jsonl", "two\n")
    repo.write("a.txt", "two\n")
    repo.back_to(saved.id)
    assert repo.path.joinpath("a.txt").read_text() == "first\n"
    assert repo.path.joinpath(".otel-agents/otel-agents.db").read_text() == "two\n"
    assert repo.path.joinpath("sub/.otel-agents/signals.jsonl").read_text() == "two\n"


def test_an_open_handle_keeps_what_it_has(repo: Repo) -> None:
    """A program that reads a file through a restore reads one whole content, not a mixture."""
    repo.write("a.txt", "A" * 100_000)
    saved = repo.checkpoint("long")
    repo.write("a.txt", "B" * 100_000)
    with repo.path.joinpath("a.txt").open("rb") as file:
        first = file.read(10)
        repo.back_to(saved.id)
        assert set(first + file.read()) == {ord("B")}
    assert set(repo.path.joinpath("a.txt").read_bytes()) == {ord("A")}


def test_a_file_open_for_writing_is_replaced_and_its_writer_does_not_mix_in(repo: Repo) -> None:
    """What it writes afterwards goes to the file that was, not into the one restored."""
    saved = repo.checkpoint("short")
    with repo.path.joinpath("a.txt").open("ab") as file:
        file.write(b"before\n")
        file.flush()
        repo.back_to(saved.id)
        file.write(b"after\n")
    assert repo.path.joinpath("a.txt").read_text() == "first\n"


@contextmanager
def _full(tmp_path: Path, kilobytes: int) -> Iterator[Path]:
    """Give a file system of that size."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(  # noqa: S603 - a folder of ours
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)],  # noqa: S607
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)  # noqa: S603, S607


@pytest.mark.skipif(not _ROOT, reason="only root mounts a file system")
@pytest.mark.parametrize("free", [0, 60, 150, 300, 450, 600, 900, 1200])
def test_a_full_disk_leaves_the_tree_before_or_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    """With `free` KiB left for a restore of 600 KiB: one sentence, and nothing half done."""
    isolate(tmp_path, monkeypatch)
    with _full(tmp_path, 8192) as place:
        repo = started(place / "repo")
        for number in range(30):
            repo.write(f"files/{number}", os.urandom(20_000))
        saved = repo.checkpoint("full of files")
        was = repo.seen()
        for number in range(30):
            repo.write(f"files/{number}", os.urandom(15_000))
        repo.write("files/new", "untracked work\n")
        shutil.rmtree(repo.path / "src")
        spoiled = repo.seen()

        state = os.statvfs(place)
        left = state.f_bavail * state.f_frsize - free * 1024
        with place.joinpath("ballast").open("wb") as file:
            file.write(bytes(max(left, 0)))
        said = refused(lambda: repo.back_to(saved.id))
        assert repo.seen() in (was, spoiled)
        if said:
            assert is_sentence(said)
            assert repo.seen() == spoiled

        place.joinpath("ballast").unlink()
        recover(repo.found)
        assert repo.seen() in (was, spoiled)
        if said:
            repo.back_to(saved.id)
        assert repo.seen() == was
        repo.back_to(checkpoints(repo.found)[0].id)
        assert repo.seen() == spoiled
        assert "missing" not in repo.git("fsck", "--connectivity-only", "--no-dangling")


@pytest.mark.skipif(not _ROOT, reason="only root mounts a file system")
@pytest.mark.parametrize("free", [0, 8, 40, 120])
def test_a_checkpoint_on_a_full_disk_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    """One sentence, no ref, the older ones as good as before, and no rubbish that stays."""
    isolate(tmp_path, monkeypatch)
    with _full(tmp_path, 4096) as place:
        repo = started(place / "repo")
        saved = repo.checkpoint("fits")
        for number in range(10):
            repo.write(f"files/{number}", os.urandom(20_000))
        state = os.statvfs(place)
        with place.joinpath("ballast").open("wb") as file:
            file.write(bytes(max(state.f_bavail * state.f_frsize - free * 1024, 0)))
        was = repo.seen()
        with pytest.raises(CheckpointError) as caught:
            repo.checkpoint("does not fit")
        assert is_sentence(caught.value)
        assert repo.seen() == was
        assert [one.id for one in checkpoints(repo.found)] == [saved.id]
        place.joinpath("ballast").unlink()
        rubbish = ("tmp_", "fast_import_crash", "known.", "journal.", "index.lock", "staged")
        assert [path for path in repo.path.rglob("*") if path.name.startswith(rubbish)] == []
        assert repo.checkpoint("fits now").files == saved.files + 10


def test_a_list_of_ignored_names_that_never_ends_is_given_up(repo: Repo) -> None:
    """A pipe or a device in its place: the time a checkpoint may take holds for git, too."""
    os.mkfifo(repo.path.parent / "pipe")
    repo.git("config", "core.excludesFile", str(repo.path.parent / "pipe"))
    with pytest.raises(CheckpointError) as caught:
        create(repo.found, About(), max_seconds=0.5)
    assert is_sentence(caught.value)


def test_checkpoints_at_once_are_all_taken(repo: Repo) -> None:
    """By threads of one program, and by programs: each has an id of its own and the whole tree."""
    was = repo.seen()
    found = repo.found
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: create(found, About(message=str(number))), range(16)))
    assert len({one.id for one in made}) == 16
    assert {one.id for one in checkpoints(found)} == {one.id for one in made}
    scribble(repo)
    repo.back_to(made[7].id)
    assert repo.seen() == was


# What a process of its own does: it says when it is ready, waits to be told, and tells how it went.
_PROGRAM: Final = """
import json, resource, sys
from pathlib import Path
from otel_agents.checkpoint.locks import at_work, restoring
from otel_agents.checkpoint.repository import Repository
from otel_agents.checkpoint.restore import restore
from otel_agents.errors import OtelAgentsError

path, job, identity = sys.argv[1:]
found = Repository.find(Path(path))
if job == "limited":
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
print("ready", flush=True)
try:
    if job in ("restore", "limited"):
        sys.stdin.readline()
        print(json.dumps({"undo": restore(found, identity).undo_id}), flush=True)
    else:
        with at_work(found) if job == "work" else restoring(found):
            print("held", flush=True)
            sys.stdin.readline()
except OtelAgentsError as error:
    print(json.dumps({"error": str(error), "type": type(error).__name__}), flush=True)
"""


class _Other:
    """A process that restores, or holds a lock, beside this one."""

    def __init__(self, repo: Repo, job: str, identity: str = "") -> None:
        self.process = subprocess.Popen(  # noqa: S603 - the program above
            [sys.executable, "-c", _PROGRAM, str(repo.path), job, identity],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self.expect("ready")
        if job in ("work", "hold"):
            self.expect("held")

    def expect(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def told(self) -> dict[str, str]:
        out, _ = self.process.communicate(timeout=60)
        told: dict[str, str] = json.loads(out)
        return told

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_a_file_size_limit_leaves_the_tree_before_or_after(repo: Repo) -> None:
    """A write that fails in the middle of a restore, in a process of its own."""
    repo.write("large", os.urandom(100_000))
    saved = repo.checkpoint("large")
    was = repo.seen()
    scribble(repo)
    repo.path.joinpath("large").unlink()
    spoiled = repo.seen()
    with _Other(repo, "limited", saved.id) as other:
        other.go()
        told = other.told()
    assert told["type"] == "CheckpointError"
    assert "\n" not in told["error"]
    assert repo.seen() == spoiled
    recover(repo.found)
    assert repo.seen() in (was, spoiled)
    repo.back_to(saved.id)
    assert repo.seen() == was


def test_of_restores_at_once_one_wins_at_a_time(repo: Repo) -> None:
    """Each either goes through whole or says that another is under way; the tree is one of them."""
    saved = []
    trees = []
    for number in range(2):
        for name in range(200):
            repo.write(f"many/{name}", f"{number}\n")
        trees.append(repo.seen())
        saved.append(repo.checkpoint(f"number {number}"))
    repo.write("a.txt", "work\n")
    others = [_Other(repo, "restore", saved[number % 2].id) for number in range(4)]
    for other in others:
        other.go()
    told = [other.told() for other in others]
    others_won = [one for one in told if "error" in one]
    assert len(others_won) < len(told)
    assert [one for one in others_won if "another restore" not in one["error"]] == []
    assert repo.seen() in trees
    assert recover(repo.found) is None


def test_a_restore_beside_another_is_refused_with_one_sentence(repo: Repo) -> None:
    """With force, too: that is for agents at work."""
    saved = repo.checkpoint("plain")
    scribble(repo)
    spoiled = repo.seen()
    with _Other(repo, "hold") as other:
        for force in (False, True):
            with pytest.raises(CheckpointError, match="another restore") as caught:
                restore(repo.found, saved.id, force=force)
            assert is_sentence(caught.value)
        assert repo.seen() == spoiled
        other.go()
        other.process.wait(120)
    repo.back_to(saved.id)
    assert repo.path.joinpath("a.txt").read_text() == "first\n"


@pytest.mark.parametrize("end", ["ends", "is killed"])
def test_a_restore_while_agents_work_is_refused_until_they_are_gone(repo: Repo, end: str) -> None:
    """The sentence names the process; with force it goes through."""
    saved = repo.checkpoint("plain")
    scribble(repo)
    spoiled = repo.seen()
    with _Other(repo, "work") as other, _Other(repo, "work") as second:
        with pytest.raises(CheckpointError, match="gents are at work") as caught:
            repo.back_to(saved.id)
        assert is_sentence(caught.value)
        assert str(second.process.pid) in str(caught.value) or str(other.process.pid) in str(
            caught.value
        )
        assert repo.seen() == spoiled
        undo = repo.back_to(saved.id, force=True)
        assert undo is not None
        repo.back_to(undo, force=True)
        assert repo.seen() == spoiled
        for one in (other, second):
            if end == "ends":
                one.go()
            else:
                one.process.kill()
            one.process.wait(120)
    repo.back_to(saved.id)
    assert repo.path.joinpath("a.txt").read_text() == "first\n"


def test_agents_do_not_begin_while_a_restore_is_under_way(repo: Repo) -> None:
    """Two kinds of lock, and agents beside agents are fine."""
    with at_work(repo.found), at_work(repo.found):
        pass
    with restoring(repo.found), pytest.raises(OtelAgentsError), restoring(repo.found):
        pass


def test_reading_goes_on_while_agents_work(repo: Repo) -> None:
    """Checkpoints are taken, listed and compared while agents write; that is what they are for."""
    with at_work(repo.found):
        saved = repo.checkpoint("at work")
        assert [one.id for one in checkpoints(repo.found)] == [saved.id]
    with _Other(repo, "work"):
        repo.write("a.txt", "more\n")
        assert repo.checkpoint("beside others").id != saved.id
