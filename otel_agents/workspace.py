"""The workspace `.otel-agents/`: where it is, what is in it, how it is made.

It is found upwards from the working directory like `.git`; `OTEL_AGENTS_HOME` names it outright.
Instrumented programs ask for it when they start, so this module imports nothing heavy, and only
`create` ever makes one: telemetry alone leaves no directory behind.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

DIRECTORY: Final = ".otel-agents"
HOME_VARIABLE: Final = "OTEL_AGENTS_HOME"
_ROTATED: Final = "signals-*.jsonl"


class Workspace:
    """A workspace directory and the names in it. Making the object touches no file."""

    __slots__ = ("path",)

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def signals(self) -> Path:
        """The file that signals are appended to, as JSON lines."""
        return self.path / "signals.jsonl"

    @property
    def database(self) -> Path:
        """The database of the store."""
        return self.path / "otel-agents.db"

    @property
    def logs(self) -> Path:
        """The directory of the agents' log files."""
        return self.path / "logs"

    @property
    def spool(self) -> Path:
        """The directory of the spool."""
        return self.path / "spool"

    def rotated(self, time_ns: int) -> Path:
        """Return the name that `signals` is renamed to when it is full at `time_ns`.

        Twenty digits, so that names sort by age for as long as nanoseconds fit in 64 bits.
        """
        return self.path / f"signals-{time_ns:020d}.jsonl"

    def signal_files(self) -> list[Path]:
        """Return the files that hold signals and are there now, the oldest first."""
        files = sorted(self.path.glob(_ROTATED))
        return [*files, self.signals] if self.signals.exists() else files


def find(start: Path | None = None) -> Workspace | None:
    """Return the workspace in force, or None where there is none.

    Args:
        start: The directory to look upwards from; the working directory by default.

    """
    home = os.environ.get(HOME_VARIABLE)
    if home:
        return Workspace(Path(home)) if _is_directory(Path(home)) else None
    try:
        here = (start or Path()).absolute()
    except OSError:  # the working directory was removed
        return None
    for parent in (here, *here.parents):
        candidate = parent / DIRECTORY
        if _is_directory(candidate) and not _planted(candidate):
            return Workspace(candidate)
    return None


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a directory above may not be read
        return False


def _planted(candidate: Path) -> bool:
    """Say whether somebody else may have put a workspace in a directory open to all, as in /tmp.

    Its owner could read what is written there, or lead the writing elsewhere by a link.
    """
    if not hasattr(os, "getuid"):
        return False
    try:
        shared = candidate.parent.stat().st_mode & stat.S_IWOTH
        return bool(shared) and candidate.lstat().st_uid != os.getuid()
    except OSError:
        return True


def create(directory: Path | None = None) -> tuple[Workspace, bool]:
    """Make a workspace, or complete the one that is there; say whether it is new.

    Args:
        directory: The directory it is to stand in, made where it is missing. By default
            `OTEL_AGENTS_HOME` is made, or else a workspace in the working directory.

    Raises:
        OSError: The directory cannot be made, or a file is in its place.

    """
    home = None if directory is not None else os.environ.get(HOME_VARIABLE)
    path = Path(home) if home else (directory or Path()) / DIRECTORY
    workspace = Workspace(path.absolute())
    new = not workspace.path.is_dir()
    workspace.logs.mkdir(parents=True, exist_ok=True)
    ignore = workspace.path / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")
    return workspace, new
