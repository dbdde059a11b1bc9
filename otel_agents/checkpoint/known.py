"""What is known of the files of a working tree: so that an unchanged one need not be read.

As git's index does, a file is taken to be unchanged when its size, times, inode and mode are what
they were when it was read. One that was changed within the clock's grain of being read is known
by its content only, and is read again: a later change might have left the same times.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import msgspec

from otel_agents.checkpoint import own
from otel_agents.checkpoint.record import REFS

if TYPE_CHECKING:
    import os

    from otel_agents.checkpoint.repository import Repository

_GRAIN: Final = 100_000_000  # nanoseconds; the kernel's clock for files ticks every 1 to 10 ms
_COARSE_GRAIN: Final = 2_000_000_000  # of file systems that keep whole seconds
_VERSION: Final = 1


class Seen(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A file or link as it was when it was read; `id` is its blob's."""

    size: int
    changed_ns: int
    modified_ns: int
    inode: int
    mode: int
    id: str

    def is_still(self, now: os.stat_result) -> bool:
        """Say whether the file has not changed since."""
        return (
            self.changed_ns == now.st_ctime_ns
            and self.modified_ns == now.st_mtime_ns
            and self.size == now.st_size
            and self.inode == now.st_ino
            and self.mode == now.st_mode
        )

    def could_be(self, now: os.stat_result) -> bool:
        """Say whether it may be the file that was read, where `is_still` would read it again."""
        if self.changed_ns:
            return self.is_still(now)
        return msgspec.structs.replace(self, changed_ns=now.st_ctime_ns).is_still(now)


def seen(now: os.stat_result, blob: str, read_at_ns: int) -> Seen:
    """Return what is to be remembered of a file that was read at a time."""
    changed = now.st_ctime_ns
    grain = _GRAIN if changed % 1_000_000_000 else _COARSE_GRAIN
    if changed > read_at_ns - grain:
        changed = 0  # equal to no time of a file
    return Seen(now.st_size, changed, now.st_mtime_ns, now.st_ino, now.st_mode, blob)


class Known(msgspec.Struct):
    """The files of the last checkpoint of a working tree, whose blobs the repository has.

    `id`, `commit` and `tree` are the checkpoint's: as long as its ref stands, so do the blobs.
    """

    version: int = _VERSION
    id: str = ""
    commit: str = ""
    tree: str = ""
    files: dict[bytes, Seen] = {}

    @classmethod
    def load(cls, repository: Repository) -> Known:
        """Return what is known; nothing, where the checkpoint was pruned since."""
        try:
            found = msgspec.msgpack.decode(own.read(repository.state / "known"), type=cls)
        except (OSError, msgspec.MsgspecError):
            return cls()
        current = found.version == _VERSION and _has_ref(repository, found.id, found.commit)
        return found if current else cls()

    def save(self, repository: Repository) -> None:
        """Keep it for the next checkpoint, which takes longer where that cannot be done."""
        with contextlib.suppress(OSError):
            own.write(repository.state / "known", msgspec.msgpack.encode(self))


def _has_ref(repository: Repository, id: str, commit: str) -> bool:  # noqa: A002 - its name
    """Say whether a checkpoint stands, by the files of the refs: git would take 3 ms to say it."""
    try:
        return (repository.common_dir / (REFS + id)).read_bytes().strip() == commit.encode()
    except OSError:
        pass
    try:
        packed = (repository.common_dir / "packed-refs").read_bytes()
    except OSError:
        return False
    return f"\n{commit} {REFS}{id}\n".encode() in packed
