"""Repositories for the tests of checkpoints, and pictures of their trees to the last bit."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING

import pytest

from otel_agents.checkpoint.snapshot import create

from .real import Repo, isolate, started

if TYPE_CHECKING:
    from pathlib import Path

Picture = dict[bytes, tuple[int, bytes]]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a checkpoint as long as it takes on a busy machine, where a test names no limit."""
    monkeypatch.setitem(create.__kwdefaults__, "max_seconds", 120.0)


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """Give a repository with one commit, alone with itself."""
    isolate(tmp_path, monkeypatch)
    return started(tmp_path / "repo")


def picture(root: Path) -> Picture:
    """Return every file and link below a directory but `.git`: its whole mode and content."""
    found: Picture = {}
    start = os.fsencode(root)
    for folder, folders, files in os.walk(start):
        if folder == start:
            folders[:] = [name for name in folders if name != b".git"]
        for name in [*files, *folders]:
            path = os.path.join(folder, name)  # noqa: PTH118 - bytes
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                found[os.path.relpath(path, start)] = (mode, os.readlink(path))  # noqa: PTH115
            elif stat.S_ISREG(mode):
                with open(path, "rb") as file:  # noqa: PTH123 - bytes
                    found[os.path.relpath(path, start)] = (mode, file.read())
    return found


def untouched(repo: Repo) -> tuple[str, ...]:
    """Return what no checkpoint and no restore may change: index, HEAD, branches, stash, config."""
    index = repo.path / ".git/index"
    digest = hashlib.sha256(index.read_bytes()).hexdigest() if index.exists() else ""
    return (
        digest,
        str(index.stat().st_mtime_ns if index.exists() else 0),
        (repo.path / ".git/HEAD").read_text(),
        (repo.path / ".git/config").read_text(),
        repo.git("stash", "list"),
        repo.git("log", "--exclude=refs/otel-agents/*", "--all", "--oneline", check=False),
        repo.git("reflog", "--all", check=False),
    )
