"""A file of lines that several processes append to, rotated by size.

A batch is one `write` to a file opened for appending, so that lines of several processes do not
mix, and a crash tears the last line at most. A file that grew too large is renamed, under a lock.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Final

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LOCK_SECONDS: Final = 1.0


class PartlyWrittenError(OSError):
    """The disk did not take all lines: `done` of them are in the file, the others are not."""

    def __init__(self, error: OSError, done: int) -> None:
        super().__init__(error.errno, error.strerror)
        self.done = done


class LineFile:
    """Appends lines to a file and begins a new one at a size; the last `keep` old ones stay."""

    def __init__(self, path: Path, *, max_bytes: int, keep: int) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._fd = -1
        self._inode = 0
        self._torn = False
        self._fresh = False

    def append(self, lines: Sequence[bytes]) -> None:
        """Append lines, each with its line feed.

        Raises:
            PartlyWrittenError: The disk did not take them all.

        """
        written = 0
        try:
            self._open()
            self._lock()
            if self._torn or self._ends_torn():
                os.write(self._fd, b"\n")
                self._torn = False
            data = memoryview(b"".join(lines))
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError as error:
            raise PartlyWrittenError(error, self._whole(lines, written)) from error
        finally:
            self._unlock()
        if os.fstat(self._fd).st_size > self._max_bytes:
            self._rotate()

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _whole(self, lines: Sequence[bytes], written: int) -> int:
        """Return how many lines were written whole; take a part of one back, or end it."""
        done = 0
        for line in lines:
            if written < len(line):
                break
            written -= len(line)
            done += 1
        if written:
            try:
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            except OSError:
                self._torn = True
        return done

    def _open(self) -> None:
        """Open the file, anew where another process has renamed or removed it."""
        if self._fd >= 0:
            try:
                if self.path.stat().st_ino == self._inode:
                    return
            except FileNotFoundError:
                pass
            self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        found = os.fstat(self._fd)
        self._inode = found.st_ino
        self._fresh = True

    def _ends_torn(self) -> bool:
        """Return whether a crash tore the last line; it must not swallow the first of ours."""
        if not self._fresh:
            return False
        self._fresh = False
        size = os.fstat(self._fd).st_size
        return bool(size) and os.pread(self._fd, 1, size - 1) != b"\n"

    def _lock(self) -> None:
        """Keep other processes from writing in the middle; a second later write all the same.

        One that was stopped must not stop the others.
        """
        if fcntl is None:
            return
        deadline = time.monotonic() + _LOCK_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError, PermissionError):
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(0.001)

    def _unlock(self) -> None:
        if fcntl is not None and self._fd >= 0:
            with contextlib.suppress(OSError):
                fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def _rotate(self) -> None:
        # What was written is written: a file that cannot be renamed goes on to grow.
        with contextlib.suppress(OSError):
            self._rename()

    def _rename(self) -> None:
        lock = self.path.with_suffix(".lock")
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            # Another process renames just now; one that died in the middle must not block for good.
            with contextlib.suppress(OSError):
                if time.time() - lock.stat().st_mtime > 60:  # noqa: PLR2004 - a minute
                    lock.unlink()
            return
        try:
            if self.path.stat().st_ino == self._inode:
                self.path.rename(
                    self.path.with_name(f"{self.path.stem}-{time.time_ns():020d}.jsonl")
                )
                rotated = sorted(self.path.parent.glob(f"{self.path.stem}-*.jsonl"))
                for old in rotated[: -self._keep]:
                    old.unlink(missing_ok=True)
        finally:
            lock.unlink(missing_ok=True)
        self.close()
