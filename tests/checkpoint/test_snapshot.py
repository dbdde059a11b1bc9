"""Taking a checkpoint: what is in it, what is not, and what a second one costs."""

from __future__ import annotations

import os
import re
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from otel_agents.checkpoint import catalog
from otel_agents.checkpoint.known import Known
from otel_agents.checkpoint.record import ID, About, Modes, Record, new_id
from otel_agents.checkpoint.repository import Repository
from otel_agents.checkpoint.snapshot import create
from otel_agents.errors import CheckpointError, InvalidInputError, NotFoundError

from .conftest import picture, untouched

if TYPE_CHECKING:
    from pathlib import Path

    from .real import Repo


def listed(repo: Repo, commit: str) -> list[str]:
    return repo.git("ls-tree", "-r", "-z", "--name-only", commit).split("\0")[:-1]


def test_the_tree_of_the_commit_is_the_working_tree(repo: Repo) -> None:
    """Tracked, edited and untracked files, links and programs: `git archive` gives them back."""
    repo.write("a.txt", "edited\n")
    repo.write("new/untracked", b"\0\xff\r\n")
    (repo.path / "b.dat").unlink()

    saved = repo.checkpoint("before build")

    lines = repo.git("ls-tree", "-r", saved.commit).splitlines()
    assert [line.split()[0] + " " + line.split("\t")[1] for line in lines] == [
        "100644 a.txt", "120000 link", "100644 new/untracked", "100755 run.sh",
        "100644 src/deep/c.py",
    ]  # fmt: skip
    assert saved.files == 5
    assert repo.git("cat-file", "-p", f"{saved.commit}:new/untracked") == "\0\udcff\r\n"
    assert repo.git("rev-list", "--count", saved.commit).strip() == "1"
    assert repo.git("for-each-ref", "--format=%(refname)", "refs/otel-agents").split() == [
        f"refs/otel-agents/checkpoints/{saved.id}"
    ]


def test_the_record_says_what_the_caller_said(repo: Repo) -> None:
    """Every field comes back from the commit, of whatever text; the id is one of ours."""
    about = {
        "message": 'Before "it"\n\nand more', "run_id": "run/1", "phase": "bau ü", "agent": "a b",
        "agent_id": "a1", "task_id": "t1", "trace_id": "0" * 32, "span_id": "1" * 16,
    }  # fmt: skip
    before = time.time_ns()

    saved = create(repo.found, About(**about))

    assert catalog.get(repo.found, saved.id) == saved
    assert {name: getattr(saved, name) for name in about} == about
    assert before <= saved.created_at <= time.time_ns()
    assert ID.fullmatch(saved.id)
    size = sum(len(content) for _, content in picture(repo.path).values())
    assert (saved.files, saved.bytes) == (5, size)
    assert repo.git("log", "-1", "--format=%an <%ae>%n%s", saved.commit).splitlines() == [
        "otel-agents <otel-agents@localhost>", 'Before "it" and more',
    ]  # fmt: skip


def test_nothing_of_the_users_is_touched(repo: Repo) -> None:
    """The index keeps even its times; stash, HEAD, branches and reflogs are as they were."""
    repo.write("a.txt", "staged\n")
    repo.git("add", "a.txt")
    repo.write("a.txt", "stashed\n")
    repo.git("stash")
    repo.git("config", "core.logAllRefUpdates", "always")
    repo.write("a.txt", "edited\n")
    os.utime(repo.path / "b.dat", (1, 1))  # git would like to write that into its index
    before = untouched(repo)

    repo.checkpoint("one")

    assert untouched(repo) == before
    assert not (repo.path / ".git/logs/refs/otel-agents").exists()


def test_ignored_files_and_workspaces_are_left_out(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By .gitignore, by the user's own list, at any depth, and wherever the workspace is."""
    repo.write(".gitignore", "*.log\nbuild/\n")
    repo.write("x.log", "1")
    repo.write("build/y", "2")
    repo.write(".otel-agents/signals.jsonl", "3")
    repo.write("src/.otel-agents/signals.jsonl", "4")
    repo.write("work space/here/otel-agents.db", "5")
    repo.git("add", "-f", ".otel-agents", "x.log")
    monkeypatch.setenv("OTEL_AGENTS_HOME", str(repo.path / "work space/here"))

    saved = repo.checkpoint()

    names = listed(repo, saved.commit)
    assert not [name for name in names if "otel-agents" in name or "build" in name]
    assert "x.log" in names  # tracked, whatever the rules say


def test_content_is_raw(repo: Repo) -> None:
    """No filter, line end, encoding or keyword of the repository's attributes is applied."""
    repo.write(
        ".gitattributes", "* text=auto eol=crlf ident working-tree-encoding=UTF-16 filter=x\n"
    )
    repo.git("config", "filter.x.clean", "tr a-z A-Z")
    repo.git("config", "filter.x.required", "true")
    repo.git("config", "core.autocrlf", "true")
    content = b"$Id: 1$\r\nline\nend\xe4\r"
    repo.write("raw.txt", content)

    saved = repo.checkpoint()

    found = repo.git("cat-file", "blob", f"{saved.commit}:raw.txt")
    assert os.fsencode(found) == content


def test_an_unchanged_tree_is_one_checkpoint_when_deduplicated(repo: Repo) -> None:
    """The newest that is the same, modes included; a tree that went back counts; runs are apart."""
    first = create(repo.found, About(run_id="one"), deduplicate=True)
    assert create(repo.found, About(run_id="one"), deduplicate=True) == first
    assert create(repo.found, About(), deduplicate=True) == first

    (repo.path / "a.txt").chmod(0o600)
    second = create(repo.found, About(run_id="one"), deduplicate=True)
    assert second.id != first.id
    repo.write("a.txt", "other\n")
    third = create(repo.found, About(run_id="one"), deduplicate=True)
    repo.write("a.txt", "first\n")
    assert create(repo.found, About(run_id="one"), deduplicate=True) == first

    other = create(repo.found, About(run_id="two"), deduplicate=True)
    assert [one.id for one in catalog.checkpoints(repo.found)] == [
        other.id, third.id, second.id, first.id
    ]  # fmt: skip
    assert create(repo.found, About(run_id="one")).id not in {first.id, other.id}


def test_a_change_that_leaves_size_and_time_is_seen(repo: Repo) -> None:
    """A file changed right after it was read, its time put back: the next checkpoint has it."""
    path = repo.path / "a.txt"
    times = path.stat()
    for number in range(20):
        text = f"{number:05}\n"
        path.write_text(text)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert repo.git("cat-file", "blob", f"{repo.checkpoint().commit}:a.txt") == text


def test_what_is_known_is_used_only_while_its_checkpoint_stands(repo: Repo) -> None:
    """With the ref gone its blobs may go, too: everything is written once more."""
    saved = repo.checkpoint()
    assert Known.load(repo.found).id == saved.id
    repo.git("pack-refs", "--all")
    assert Known.load(repo.found).id == saved.id

    repo.git("update-ref", "-d", f"refs/otel-agents/checkpoints/{saved.id}")
    repo.git("rm", "-q", "--cached", "-r", ".")
    repo.git("update-ref", "-d", "HEAD")
    repo.git("reflog", "expire", "--expire=now", "--all")
    repo.git("gc", "-q", "--prune=now")

    assert Known.load(repo.found).id == ""
    again = repo.checkpoint()
    repo.git("gc", "-q", "--prune=now")
    assert repo.git("cat-file", "blob", f"{again.commit}:a.txt") == "first\n"


def test_checkpoints_outlive_gc(repo: Repo) -> None:
    """Their refs hold what is in them, and pruned ones are let go."""
    repo.write("new", "untracked\n")
    saved = repo.checkpoint()
    repo.write("new", "changed\n")
    repo.checkpoint()
    repo.git("gc", "-q", "--prune=now", "--aggressive")
    repo.back_to(saved.id)
    assert (repo.path / "new").read_text() == "untracked\n"


def test_limits_are_sentences_and_leave_nothing(repo: Repo) -> None:
    """Too much, or too long: no ref, and the next checkpoint works."""
    with pytest.raises(CheckpointError, match=r"holds .* bytes, and a checkpoint may hold 10;"):
        create(repo.found, About(), max_bytes=10)
    with pytest.raises(CheckpointError, match=r"more than|too long"):
        create(repo.found, About(), max_seconds=0.0)
    assert catalog.checkpoints(repo.found) == []
    assert repo.checkpoint().files == 5


def test_a_pipe_in_a_files_place_is_left_out_and_never_opened(repo: Repo) -> None:
    """Opening it would wait for ever; a tracked name and an untracked one."""
    (repo.path / "a.txt").unlink()
    os.mkfifo(repo.path / "a.txt")
    os.mkfifo(repo.path / "src/pipe")

    saved = repo.checkpoint()

    assert listed(repo, saved.commit) == ["b.dat", "link", "run.sh", "src/deep/c.py"]


def test_a_folder_that_became_a_link_out_is_a_link(repo: Repo, tmp_path: Path) -> None:
    """What git still has in its index below it is not read from the other place."""
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep/c.py").write_text("secret\n")
    (repo.path / "src/deep/c.py").unlink()
    (repo.path / "src/deep").rmdir()
    (repo.path / "src").rmdir()
    (repo.path / "src").symlink_to(outside)

    saved = repo.checkpoint()

    assert listed(repo, saved.commit) == ["a.txt", "b.dat", "link", "run.sh", "src"]


def test_nested_repositories_are_named_and_left_out(repo: Repo) -> None:
    """Plain ones, submodules, linked worktrees and bare ones; the record says which."""
    for name in ("nested", "unborn"):
        inside = repo.path / name
        inside.mkdir()
        subprocess.run(["git", "init", "-q"], cwd=inside, check=True)  # noqa: S607
    repo.write("nested/file", "1")
    subprocess.run(["git", "add", "file"], cwd=repo.path / "nested", check=True)  # noqa: S607
    repo.git("-C", "nested", "commit", "-qm", "1")
    repo.git("submodule", "add", "-q", "./nested", "module")
    repo.git("worktree", "add", "-q", "tree")
    repo.git("init", "-q", "--bare", "data.git")
    repo.write("dot/.GIT/config", "[core]\n")

    saved = repo.checkpoint()

    assert saved.left_out == (
        "data.git/", "dot/.GIT/config", "module/", "nested/", "tree/", "unborn/"
    )  # fmt: skip
    assert [name for name in listed(repo, saved.commit) if "/" in name] == ["src/deep/c.py"]


def test_a_large_file_is_saved_without_being_held_whole(repo: Repo) -> None:
    """More than one part of it; changed in the middle, it is another."""
    content = os.urandom(3 * 1024 * 1024 + 17)
    repo.write("large", content)
    first = repo.checkpoint()
    changed = bytearray(content)
    changed[2_000_000] ^= 1
    repo.write("large", bytes(changed))
    second = repo.checkpoint()

    sizes = [repo.git("cat-file", "-s", f"{one.commit}:large").strip() for one in (first, second)]
    assert sizes == [str(len(content))] * 2
    repo.back_to(first.id)
    assert (repo.path / "large").read_bytes() == content


def test_an_unborn_branch_and_an_empty_tree(repo: Repo, tmp_path: Path) -> None:
    """A repository with nothing in it has checkpoints, too, and stays without a branch."""
    empty = tmp_path / "empty"
    empty.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=empty, check=True)  # noqa: S607
    found = Repository.find(empty)
    saved = create(found, About())
    assert (saved.files, saved.bytes) == (0, 0)
    (empty / "x").write_text("1")
    assert create(found, About()).files == 1
    assert not (empty / ".git/index").exists()


def test_where_there_is_no_working_tree_one_sentence_says_so(repo: Repo, tmp_path: Path) -> None:
    """No repository, a bare one, no directory, and a tree that is elsewhere."""
    with pytest.raises(CheckpointError, match="is in no git repository; `git init` makes one"):
        Repository.find(tmp_path)
    with pytest.raises(CheckpointError, match="There is no directory"):
        Repository.find(tmp_path / "missing")
    bare = tmp_path / "bare.git"
    repo.git("clone", "-q", "--bare", ".", str(bare))
    with pytest.raises(CheckpointError, match="bare repository"):
        Repository.find(bare)
    repo.git("config", "core.worktree", str(tmp_path))
    with pytest.raises(CheckpointError, match="has its working tree in"):
        Repository.find(repo.path)


def test_worktrees_have_a_state_of_their_own_and_share_checkpoints(
    repo: Repo, tmp_path: Path
) -> None:
    """Each saves its own tree; either lists both."""
    repo.git("worktree", "add", "-q", str(tmp_path / "second"))
    second = Repository.find(tmp_path / "second")
    (second.root / "only-here").write_text("2")

    one, two = repo.checkpoint("one"), create(second, About(message="two"))

    assert second.state != repo.found.state
    assert {one.id, two.id} == {saved.id for saved in catalog.checkpoints(second)}
    assert (one.files, two.files) == (5, 6)


def test_pruning_keeps_the_newest_and_the_last_undo(repo: Repo) -> None:
    """By count and by age; the undo of the latest restore stays whatever they say."""
    saved = [repo.checkpoint(str(number)) for number in range(4)]
    undo = repo.back_to(saved[0].id)
    later = [repo.checkpoint(str(number)) for number in range(3)]

    assert catalog.prune(repo.found, 2, 30) == 5
    assert [one.id for one in catalog.checkpoints(repo.found)] == [
        later[2].id, later[1].id, undo
    ]  # fmt: skip
    assert catalog.prune(repo.found, 100, 1e-12) == 1
    assert [one.id for one in catalog.checkpoints(repo.found)] == [later[2].id, undo]
    assert catalog.prune(repo.found, 100, 30) == 0


def test_the_checkpoint_before_a_phase_is_the_phases_own(repo: Repo) -> None:
    """Of the run, the last time the phase began; not that of an agent in it."""
    create(repo.found, About(run_id="r", phase="build"))
    wanted = create(repo.found, About(run_id="r", phase="build"))
    create(repo.found, About(run_id="r", phase="build", agent="coder"))
    create(repo.found, About(run_id="other", phase="build"))
    only = create(repo.found, About(run_id="r", phase="test", agent="tester"))

    assert catalog.before(repo.found, "r", "build") == wanted
    assert catalog.before(repo.found, "r", "test") == only
    with pytest.raises(NotFoundError):
        catalog.before(repo.found, "r", "deploy")


def test_ids_are_looked_up_by_their_shape_only(repo: Repo) -> None:
    """What is no id never reaches git; what is one and names nothing is not found."""
    for text in ("", "x", "--output=/tmp/x", "a" * 15 + "\n", "A" * 16, "../../heads/main"):
        with pytest.raises(InvalidInputError, match="is no id of a checkpoint"):
            catalog.get(repo.found, text)
    with pytest.raises(NotFoundError):
        catalog.get(repo.found, new_id())


def test_ids_sort_by_age() -> None:
    """So that a listing by name is one by time."""
    ids = [new_id(second * 1_000_000_000) for second in range(1, 2_000_000_000, 99_999_999)]
    assert ids == sorted(ids)
    assert all(re.fullmatch("[0-9a-z]{16}", one) for one in ids)


def test_usual_modes_are_said_once() -> None:
    """A group-writable tree has no line per file; only the exceptions are listed."""
    files = {b"%d" % number: 0o100664 for number in range(9)}
    modes = Modes.of({**files, b"secret \xff": 0o100600, b"run": 0o100775}, {b"d": 0o40775})
    assert modes == Modes(0o664, 0o775, 0o775, {"secret%20%FF": 0o600})
    assert modes.of_file(b"secret \xff", 0o100644) == 0o100600
    assert modes.of_file(b"1", 0o100644) == 0o100664
    assert Record.read(b"no record\n\n{}") is None
