"""Whether checkpoints are taken of a working tree, found out without git.

Every program asks that when its first scope opens, most of them in a tree that has none.
"""

from __future__ import annotations

import os
from pathlib import Path

from otel_agents.checkpoint import own


def is_used(path: Path) -> bool:
    """Say whether the repository that a directory is in has our folder in its git directory."""
    try:
        here = Path(os.path.realpath(path))
        for folder in (here, *here.parents):
            if os.path.lexists(folder / ".git"):
                return (_common(folder / ".git") / "otel-agents").is_dir()
    except (OSError, ValueError):  # it was removed, or may not be looked at
        pass
    return False


def _common(git: Path) -> Path:
    """Return the git directory with the objects and refs; see gitrepository-layout(5)."""
    if not git.is_dir():  # of a linked worktree or submodule: a file that names the directory
        git = git.parent / _named(git).removeprefix("gitdir: ")
    try:
        return git / _named(git / "commondir")
    except FileNotFoundError:
        return git


def _named(file: Path) -> str:
    return os.fsdecode(own.read(file)).removesuffix("\n")
