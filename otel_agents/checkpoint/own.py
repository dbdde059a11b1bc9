"""Files of ours below git's directory, read and written so that no link or pipe there matters.

A repository that was downloaded whole may have brought along a folder like ours.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_STALE: Final = 60.0  # seconds after which a part of a file is one of a process that was killed
_SAFE: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def read(path: Path) -> bytes:
    """Return what is in a file of ours; OSError where it cannot be read."""
    with open(os.open(path, os.O_RDONLY | _SAFE), "rb") as file:  # noqa: PTH123 - a descriptor
        return file.read()


def write(path: Path, content: bytes, *, alone: bool = False) -> None:
    """Write a file of ours whole or not at all; OSError where it cannot be written.

    `alone` says that no other process writes it now, and that it has to outlive a loss of power.
    """
    part = path.with_name(f"{path.name}.part")
    with contextlib.suppress(FileNotFoundError):
        if alone or time.time() - part.lstat().st_mtime > _STALE:
            part.unlink()
    file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o600)
    try:
        with open(file, "wb") as stream:  # noqa: PTH123 - a descriptor
            stream.write(content)
            if alone:
                stream.flush()
                os.fsync(file)
        part.replace(path)
        if alone:
            sync_folder(path.parent)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """See that the names in a folder outlive a loss of power."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
