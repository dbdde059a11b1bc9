"""`otel-agents checkpoint`: saved, listed, compared and brought back, by people and programs."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from otel_agents.checkpoint import locks
from otel_agents.checkpoint.record import About
from otel_agents.checkpoint.repository import Repository
from otel_agents.checkpoint.snapshot import create

from .conftest import Shell
from .filled import EVIL
from .terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "e\x1b]0;evil\x07\u202ename"


@pytest.fixture
def tree(tmp_path: Path) -> Shell:
    """Give a repository with two files."""
    shell = Shell(tmp_path)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)  # noqa: S603, S607 - a fixture
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_text("two\n")
    return shell


def failed(shell: Shell, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run a command that fails with --json; return its exit code and the error of its envelope."""
    done = shell.run(*arguments, "--json")
    found = json.loads(done.stdout)
    assert found["data"] is None
    assert done.stderr.startswith("otel-agents: ")
    assert done.stderr.count("\n") == 1
    return done.returncode, found["error"]


# ---------------------------------------------------------------------- as JSON


def test_one_is_created_and_restored(tree: Shell) -> None:
    """As JSON says it: what was saved, what would be changed, what was, and how to undo it."""
    made = tree.data("checkpoint", "create", "--message", "before the storm")
    assert list(made) == ["id", "commit", "created_at", "message", "files", "bytes"]
    assert (made["message"], made["files"], made["bytes"]) == ("before the storm", 2, 8)
    assert datetime.fromisoformat(made["created_at"]).utcoffset() is not None
    assert len(made["commit"]) == 40

    (tree.path / "a.txt").write_text("spoiled\n")
    (tree.path / "sub" / "b.txt").unlink()
    (tree.path / "new.txt").write_text("new\n")
    changes = [
        {"path": "a.txt", "kind": "modified"},
        {"path": "new.txt", "kind": "deleted"},
        {"path": "sub/b.txt", "kind": "added"},
    ]
    assert tree.data("checkpoint", "diff", made["id"]) == changes
    dry = tree.data("checkpoint", "restore", made["id"], "--dry-run")
    assert dry == {"restored": made["id"], "undo_id": None, "changed": changes}
    assert (tree.path / "a.txt").read_text() == "spoiled\n"

    done = tree.data("checkpoint", "restore", made["id"])
    assert list(done) == ["restored", "undo_id", "changed"]
    assert done["changed"] == changes
    assert (tree.path / "a.txt").read_text() == "one\n"
    assert (tree.path / "sub" / "b.txt").read_text() == "two\n"
    assert not (tree.path / "new.txt").exists()
    assert tree.data("checkpoint", "diff", made["id"]) == []

    undone = tree.data("checkpoint", "restore", done["undo_id"])
    assert len(undone["changed"]) == 3
    assert (tree.path / "a.txt").read_text() == "spoiled\n"
    assert (tree.path / "new.txt").read_text() == "new\n"


def test_they_are_listed_and_shown(tree: Shell) -> None:
    """The newest first, all of them or those of a run, with all that is known of each."""
    about = About(
        message="Before build", run_id="r-1", phase="build", agent="worker", agent_id="w-1",
        task_id="t-1", trace_id="1" * 32, span_id="2" * 16,
    )  # fmt: skip
    first = create(Repository.find(tree.path), about)
    second = tree.data("checkpoint", "create")
    found = tree.data("checkpoint", "list")
    assert [one["id"] for one in found] == [second["id"], first.id]
    for option in ("--run-id", "--run"):
        assert [one["id"] for one in tree.data("checkpoint", "list", option, "r-1")] == [first.id]
    shown = tree.data("checkpoint", "show", first.id)
    assert shown == found[1]
    assert shown | {"created_at": "", "commit": ""} == {
        "id": first.id, "commit": "", "created_at": "", "message": "Before build", "files": 2,
        "bytes": 8, "run_id": "r-1", "phase": "build", "agent": "worker", "agent_id": "w-1",
        "task_id": "t-1", "trace_id": "1" * 32, "span_id": "2" * 16, "undo_of": None,
        "left_out": [],
    }  # fmt: skip


@pytest.mark.parametrize("option", ["--run-id", "--run"])
def test_a_phase_of_a_run_is_gone_back_before(tree: Shell, option: str) -> None:
    """By the run's id and the phase's name."""
    repository = Repository.find(tree.path)
    create(repository, About(message="Before build", run_id="r-1", phase="build"))
    (tree.path / "a.txt").write_text("built\n")
    create(repository, About(message="Before build", run_id="r-2", phase="build"))
    tree.data("checkpoint", "restore", option, "r-1", "--before", "build")
    assert (tree.path / "a.txt").read_text() == "one\n"


def test_a_patch_is_what_a_restore_does(tree: Shell) -> None:
    """As a text that git could apply, also in an envelope."""
    made = tree.data("checkpoint", "create")
    (tree.path / "a.txt").write_text("spoiled\n")
    done = tree.run("checkpoint", "diff", made["id"], "--patch")
    assert done.returncode == 0
    assert "-spoiled\n+one\n" in done.stdout
    assert tree.data("checkpoint", "diff", made["id"], "--patch") == {"patch": done.stdout}
    given: dict[str, Any] = {"input": done.stdout, "text": True, "cwd": tree.path, "check": True}
    subprocess.run(["git", "apply"], **given)  # noqa: S607, PLW1510 - git
    assert (tree.path / "a.txt").read_text() == "one\n"


def test_it_works_from_a_folder_inside(tree: Shell) -> None:
    """The whole tree is saved and brought back from anywhere in it."""
    inside = Shell(tree.path / "sub")
    made = inside.data("checkpoint", "create")
    assert made["files"] == 2
    (tree.path / "a.txt").write_text("spoiled\n")
    assert [one["path"] for one in inside.data("checkpoint", "diff", made["id"])] == ["a.txt"]
    inside.data("checkpoint", "restore", made["id"])
    assert (tree.path / "a.txt").read_text() == "one\n"


# ---------------------------------------------------------------------- refused


def test_there_has_to_be_a_repository(bare: Shell) -> None:
    """Each command says in a sentence that there is none."""
    for arguments in (("create",), ("list",), ("show", "0" * 16), ("restore", "0" * 16)):
        code, error = failed(bare, "checkpoint", *arguments)
        assert code == 1
        assert "git repository" in error["message"]


@pytest.mark.parametrize("command", ["show", "diff", "restore"])
def test_an_id_has_to_be_one_that_is_there(tree: Shell, command: str) -> None:
    """2 for what cannot be one, 4 for what is not there, and nothing is taken for an option."""
    assert failed(tree, "checkpoint", command, "0" * 16)[0] == 4
    for wrong in ("short", "../../../../etc", "HEAD", "0" * 17, "ABCDEFGHIJKLMNOP", "a\nb"):
        code, error = failed(tree, "checkpoint", command, wrong)
        assert (code, error["code"]) == (2, "invalid_input")
    assert tree.run("checkpoint", command, "--", "--output=x").returncode == 2
    assert not (tree.path / "x").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        (), ("--run-id", "r"), ("--before", "build"), ("0" * 16, "--before", "build"),
        ("0" * 16, "--run-id", "r", "--before", "build"),
    ],
)  # fmt: skip
def test_a_restore_is_of_one_thing(tree: Shell, arguments: tuple[str, ...]) -> None:
    """An id, or a run and a phase: anything else is wrong usage."""
    code, error = failed(tree, "checkpoint", "restore", *arguments)
    assert (code, error["code"]) == (2, "invalid_input")
    assert "--before" in error["message"]


def test_a_checkpoint_has_to_be_of_the_run_that_is_named(tree: Shell) -> None:
    """An id with --run-id is refused where it is another run's."""
    made = create(Repository.find(tree.path), About(run_id="r-1"))
    assert failed(tree, "checkpoint", "restore", made.id, "--run-id", "r-2")[0] == 4
    tree.data("checkpoint", "restore", made.id, "--run-id", "r-1")
    assert failed(tree, "checkpoint", "restore", "--run", "r-1", "--before", "no")[0] == 4


def test_agents_at_work_are_not_disturbed(tree: Shell) -> None:
    """Unless it is forced; what is asked of it does not matter."""
    made = tree.data("checkpoint", "create")
    (tree.path / "a.txt").write_text("spoiled\n")
    with locks.at_work(Repository.find(tree.path)):
        code, error = failed(tree, "checkpoint", "restore", made["id"])
        assert code == 1
        assert f"pid {os.getpid()}" in error["message"]
        assert (tree.path / "a.txt").read_text() == "spoiled\n"
        assert tree.data("checkpoint", "restore", made["id"], "--dry-run")["changed"]
        tree.data("checkpoint", "restore", made["id"], "--force")
    assert (tree.path / "a.txt").read_text() == "one\n"


def test_a_tree_over_the_limit_of_the_settings_is_not_saved(tree: Shell) -> None:
    """`[checkpoint] max_bytes` holds for those that are made by hand too."""
    (tree.path / "otel-agents.toml").write_text("[checkpoint]\nmax_bytes = 20\n")
    (tree.path / "large").write_bytes(b"x" * 4096)
    code, error = failed(tree, "checkpoint", "create")
    assert code == 1
    assert "20" in error["message"]
    assert tree.data("checkpoint", "list") == []


# ---------------------------------------------------------------------- for people


@pytest.fixture
def hostile(tree: Shell) -> tuple[Shell, str]:
    """Give a tree with a checkpoint, both of whose texts would steer a terminal."""
    made = create(Repository.find(tree.path), About(message=f"Before {EVIL}", run_id=EVIL))
    (tree.path / HOSTILE).write_text("x\x1b[2J\n")
    return tree, made.id


@pytest.mark.parametrize(
    "command", [("list",), ("show",), ("diff",), ("diff", "--patch"), ("restore", "--dry-run")]
)
def test_a_terminal_is_not_steered(hostile: tuple[Shell, str], command: tuple[str, ...]) -> None:
    """Whatever stands in messages, ids, paths and files."""
    shell, made = hostile
    arguments = command if command == ("list",) else (*command, made)
    with Terminal(shell, "checkpoint", *arguments) as terminal:
        assert terminal.wait() == 0
    text = terminal.output
    assert text
    for bad in ("\x1b]0", "\x1b[2J", "\u202e", "\x07"):
        assert bad not in text


def test_people_are_told_what_was_done(tree: Shell) -> None:
    """In lines, with the command that undoes a restore."""
    assert "no checkpoint" in tree.run("checkpoint", "list").stdout
    made = tree.run("checkpoint", "create", "-m", "by me").stdout
    id_ = made.split()[0]
    assert "2 files, 8 B: by me" in made
    listed = tree.run("checkpoint", "list").stdout
    assert id_ in listed
    assert "by me" in listed
    shown = tree.run("checkpoint", "show", id_).stdout
    assert "2 files" in shown
    assert "as in the checkpoint" in tree.run("checkpoint", "diff", id_).stdout
    (tree.path / "a.txt").write_text("spoiled\n")
    assert "modified" in tree.run("checkpoint", "diff", id_).stdout
    assert "dry run" in tree.run("checkpoint", "restore", id_, "--dry-run").stdout
    done = tree.run("checkpoint", "restore", id_).stdout
    assert "1 path changed" in done
    undo = done.split("checkpoint restore ")[1].split("`")[0]
    assert tree.run("checkpoint", "restore", undo).returncode == 0
    assert (tree.path / "a.txt").read_text() == "spoiled\n"
