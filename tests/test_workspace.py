"""The workspace: where it is found, how it is made, and the files in it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from otel_agents.workspace import DIRECTORY, HOME_VARIABLE, Workspace, create, find

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HOME_VARIABLE)


def path_found(start: Path | None = None) -> Path | None:
    found = find(start)
    return None if found is None else found.path


def test_a_workspace_is_found_from_below_like_a_git_repository(tmp_path: Path) -> None:
    """The nearest one upwards counts, and nothing is made by looking."""
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    outer, _ = create(tmp_path)
    assert path_found(deep) == outer.path

    inner, _ = create(tmp_path / "a")
    assert path_found(deep) == inner.path
    assert list(deep.iterdir()) == []


def test_without_a_workspace_none_is_found(tmp_path: Path) -> None:
    """A file of its name is none either."""
    (tmp_path / DIRECTORY).write_text("not a directory")

    assert path_found(tmp_path) is None


def test_the_working_directory_is_where_looking_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it has been removed meanwhile: then there is no workspace, and no error."""
    create(tmp_path)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    assert path_found() == tmp_path / DIRECTORY

    gone.rmdir()
    assert path_found() is None


def test_the_variable_names_the_workspace_outright(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It beats the directories upwards, and `create` makes it."""
    create(tmp_path)
    home = tmp_path / "elsewhere" / "ws"
    monkeypatch.setenv(HOME_VARIABLE, str(home))
    assert path_found(tmp_path) is None

    made, new = create()
    assert (made.path, new, path_found(tmp_path)) == (home, True, home)


def test_making_a_workspace_twice_changes_nothing(tmp_path: Path) -> None:
    """What is in it stays, and it keeps itself out of git."""
    made, new = create(tmp_path)
    assert new
    assert sorted(path.name for path in made.path.iterdir()) == [".gitignore", "logs"]
    assert (made.path / ".gitignore").read_text() == "*\n"
    (made.path / ".gitignore").write_text("mine\n")
    made.signals.write_bytes(b"kept")

    again, new = create(tmp_path)
    assert (again.path, new) == (made.path, False)
    assert (again.signals.read_bytes(), (made.path / ".gitignore").read_text()) == (
        b"kept",
        "mine\n",
    )


def test_a_file_in_its_place_is_an_error(tmp_path: Path) -> None:
    """Nothing of the user's is replaced."""
    (tmp_path / DIRECTORY).write_text("mine")

    with pytest.raises(OSError, match=r"\.otel-agents"):
        create(tmp_path)
    assert (tmp_path / DIRECTORY).read_text() == "mine"


def test_signal_files_are_listed_from_the_oldest_to_the_newest(tmp_path: Path) -> None:
    """Rotated ones by time, then the one being written; a name of another shape is not one."""
    workspace = Workspace(tmp_path)
    assert workspace.signal_files() == []
    expected = [workspace.rotated(time) for time in (9, 1_767_225_600_000_000_000)]
    for path in (workspace.signals, *reversed(expected), tmp_path / "signals.jsonl.bak"):
        path.touch()

    assert workspace.signal_files() == [*expected, workspace.signals]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away"
)
def test_a_workspace_that_another_user_put_in_a_shared_directory_is_passed_over(
    tmp_path: Path,
) -> None:
    """As somebody could in /tmp; in a directory of one's own it is used, as in a bind mount."""
    made, _ = create(tmp_path)
    os.chown(made.path, 1234, 1234)
    assert path_found(tmp_path) == made.path

    tmp_path.chmod(0o1777)
    assert path_found(tmp_path) is None
