"""The working tree as it is: which paths git would have of it, and what is in each.

git says which paths there are (tracked, and untracked ones that no rule ignores); whatever is in
them is read here, raw, so that no filter, line end or encoding of git's comes between.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from otel_agents.checkpoint.known import Known, Seen, seen
from otel_agents.checkpoint.names import Names
from otel_agents.checkpoint.record import said
from otel_agents.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_agents.checkpoint.repository import Repository
    from otel_agents.checkpoint.writer import Writer

_CHUNK: Final = 1 << 20
_TRIES: Final = 3  # at a file that changes while it is read
_OPEN: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@dataclass(slots=True)
class Tree:
    """Files and links by path, the `st_mode` of the folders they are in, what was left out."""

    files: dict[bytes, Seen] = field(default_factory=dict)
    folders: dict[bytes, int] = field(default_factory=dict)
    left_out: set[bytes] = field(default_factory=set)

    @property
    def size(self) -> int:
        """How many bytes the files hold."""
        return sum(one.size for one in self.files.values())


class Scan:
    """One reading of a working tree.

    What `known` knows is not read; what it does not know goes to `writer`, where there is one.

    Raises:
        CheckpointError: It holds more than `max_bytes`, takes longer than until `deadline` (of
            `time.monotonic`), or a file in it cannot be read.

    """

    def __init__(
        self,
        repository: Repository,
        known: Known,
        writer: Writer | None,
        *,
        max_bytes: int | None = None,
        deadline: float | None = None,
    ) -> None:
        self.tree = Tree()
        self._known = known
        self._writer = writer
        self._algorithm = repository.algorithm
        self._root = os.fsencode(repository.root) + b"/"
        self._deadline = deadline
        names = Names(repository, deadline)
        self.tree.left_out = names.left_out
        size, new = self._look(names)
        if max_bytes is not None and size > max_bytes:
            message = (
                f"The working tree holds {size:,} bytes, and a checkpoint may hold {max_bytes:,}; "
                "ignore what need not be saved, or raise max_bytes."
            )
            raise CheckpointError(message)
        self._read_all(new)

    def add(self, paths: list[bytes]) -> None:
        """Read these files and links too, ignored or not."""
        self._read_all([(path, os.lstat(self._root + path)) for path in paths])

    def _look(self, names: Names) -> tuple[int, list[tuple[bytes, os.stat_result]]]:
        """Take the files that are known; return the bytes of all, and those to be read."""
        root, lstat, folders = self._root, os.lstat, self.tree.folders
        files, known, size = self.tree.files, self._known.files, 0
        new: list[tuple[bytes, os.stat_result]] = []
        for path in names.paths:
            folder = path.rpartition(b"/")[0]
            if folder and folder not in folders and not names.is_folder(folder, folders):
                continue
            try:
                status = lstat(root + path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise self._unreadable(path, error) from error
            before = known.get(path)
            if before is not None and before.is_still(status):
                files[path] = before
                size += before.size
            elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                new.append((path, status))
                size += status.st_size
            elif stat.S_ISDIR(status.st_mode):
                names.meet_folder(path)
        return size, new

    def _read_all(self, new: list[tuple[bytes, os.stat_result]]) -> None:
        files, known = self.tree.files, self._known.files
        for path, status in new:
            before = known.get(path)
            if self._deadline is not None and time.monotonic() > self._deadline:
                message = "The checkpoint took too long, and was given up."
                raise CheckpointError(message)
            try:
                files[path] = self._read(path, status, before)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                if error.errno in {errno.ELOOP, errno.ENXIO, errno.EINVAL}:
                    continue  # something else took its place meanwhile
                raise self._unreadable(path, error) from error

    def _read(self, path: bytes, status: os.stat_result, before: Seen | None) -> Seen:
        now = time.time_ns()
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(self._root + path)  # noqa: PTH115 - the path is bytes
            return seen(status, self._keep(target, before), now)
        file = os.open(self._root + path, _OPEN)
        try:
            for _ in range(_TRIES):
                now, first = time.time_ns(), os.fstat(file)
                if not stat.S_ISREG(first.st_mode):
                    raise OSError(errno.EINVAL, "not a file any more")
                if first.st_size <= _CHUNK:
                    blob = self._keep(_whole(file), before)
                else:
                    blob = self._stream(file, first.st_size, before)
                last = os.fstat(file)
                if blob and seen(first, blob, now) == seen(last, blob, now):
                    return seen(last, blob, now)
        finally:
            os.close(file)
        if not blob:
            message = f"{said(path)} is written to all the time; try again."
            raise CheckpointError(message)
        return seen(last, blob, 0)  # as it was when it was read, and to be read again

    def _keep(self, content: bytes, before: Seen | None) -> str:
        """Return the id of a blob, which is written unless it is what was there before."""
        blob = self._hash(len(content))
        blob.update(content)
        name: str = blob.hexdigest()
        if self._writer is not None and (before is None or before.id != name):
            self._writer.blob(len(content), (content,))
        return name

    def _stream(self, file: int, size: int, before: Seen | None) -> str:
        """Return the id of a large file's blob, or "" where it was made shorter meanwhile."""
        if before is not None and before.size == size:
            name = self._pass(file, size, None)
            if name == before.id or not name:
                return name
        return self._pass(file, size, self._writer)

    def _pass(self, file: int, size: int, writer: Writer | None) -> str:
        blob = self._hash(size)
        short = 0

        def parts() -> Iterator[bytes]:
            nonlocal short
            offset = 0
            while offset < size:
                part = os.pread(file, min(_CHUNK, size - offset), offset)
                if not part:  # what git was promised is filled up; the blob will not be used
                    short = size - offset
                    part = bytes(min(short, _CHUNK))
                blob.update(part)
                offset += len(part)
                yield part

        if writer is not None:
            writer.blob(size, parts())
        else:
            for _ in parts():
                pass
        return "" if short else blob.hexdigest()

    def _hash(self, size: int) -> Any:
        return hashlib.new(self._algorithm, b"blob %d\0" % size, usedforsecurity=False)

    @staticmethod
    def _unreadable(path: bytes, error: OSError) -> CheckpointError:
        return CheckpointError(
            f"{said(path)} cannot be read ({error.strerror}); ignore it, or make it readable."
        )


def _whole(file: int) -> bytes:
    parts, offset = [], 0
    while part := os.pread(file, _CHUNK, offset):
        parts.append(part)
        offset += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
