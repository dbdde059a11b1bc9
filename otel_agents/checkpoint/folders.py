"""Steps in a working tree that never lead through a link, by folders that are held open."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Generator

_FLAGS: Final = (
    getattr(os, "O_PATH", os.O_RDONLY)
    | getattr(os, "O_DIRECTORY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
)
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_NO_FILE: Final = _GONE | {errno.EISDIR, errno.EPERM}
_STAYS: Final = _GONE | {errno.ENOTEMPTY, errno.EEXIST}


class Folders:
    """The folders of a tree, opened one by one from the root and never through a link.

    Each step may have been taken before, and then does nothing.
    """

    def __init__(self, root: bytes) -> None:
        self._root = os.open(root, _FLAGS & ~getattr(os, "O_NOFOLLOW", 0))
        self._path, self._open = b"", self._root

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()
        os.close(self._root)

    def unlink(self, path: bytes) -> None:
        """Remove a file or link."""
        with _but(_NO_FILE):
            folder, name = self._of(path)
            if not stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode):
                os.unlink(name, dir_fd=folder)

    def rmdir(self, path: bytes) -> None:
        """Remove a folder with nothing in it."""
        with _but(_STAYS):
            folder, name = self._of(path)
            os.rmdir(name, dir_fd=folder)

    def mkdir(self, path: bytes, mode: int) -> None:
        """Make a folder."""
        folder, name = self._of(path)
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, mode, dir_fd=folder)

    def put(self, source: int, number: bytes, path: bytes) -> None:
        """Move a staged file to its place, in one step."""
        folder, name = self._of(path)
        with contextlib.suppress(FileNotFoundError):  # it is in its place
            os.rename(number, name, src_dir_fd=source, dst_dir_fd=folder)

    def chmod(self, path: bytes, mode: int) -> None:
        """Set the permission bits of a file or folder, "" for the root, where it is ours."""
        with _but(_NO_FILE):
            folder, name = self._of(path) if path else (self._root, b".")
            now = os.lstat(name, dir_fd=folder).st_mode
            if not stat.S_ISLNK(now):
                os.chmod(name, (now & 0o7000) | (mode & 0o777), dir_fd=folder)

    @contextlib.contextmanager
    def outside(self, path: bytes) -> Generator[int]:
        """Open a folder that is none of the tree."""
        folder = os.open(path, _FLAGS)
        try:
            yield folder
        finally:
            os.close(folder)

    def _of(self, path: bytes) -> tuple[int, bytes]:
        """Return the open folder that a path is in, and the path's name there."""
        parent, _, name = path.rpartition(b"/")
        if parent != self._path:
            self._leave()
            here = self._root
            for part in parent.split(b"/") if parent else ():
                try:
                    inner = os.open(part, _FLAGS, dir_fd=here)
                finally:
                    if here != self._root:
                        os.close(here)
                        here = self._root
                here = inner
            self._path, self._open = parent, here
        return self._open, name

    def _leave(self) -> None:
        if self._open != self._root:
            os.close(self._open)
        self._path, self._open = b"", self._root


@contextlib.contextmanager
def _but(expected: frozenset[int]) -> Generator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in expected:
            raise
