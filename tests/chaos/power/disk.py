"""A disk that a record is replayed onto, and what is left of it when the power fails.

What was flushed is there. Of what was written since, each sector of 512 bytes is as it was at any
moment since the flush, on its own: that covers writes that never came to the disk, came in another
order or in part. A file has any of the lengths it had since, with zeros where nothing came. Of
the changes of names the first so many are there, as with a file system that keeps a journal of
them; a directory is flushed like a file. SQLite relies on no more than that: that a sector which
is written leaves the others alone.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Final, NamedTuple

from .record import Kind

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

    from .record import Record

    State = tuple[int, bytes]
    Names = dict[str, "File | None"]  # None is a directory

SECTOR: Final = 512


class File:
    """A file's content: as it is on the disk, as programs see it, and each sector in between.

    A state has the number of the change that made it.
    """

    def __init__(self) -> None:
        self.kept = bytearray()
        self.seen = bytearray()
        self.sectors: dict[int, list[State]] = {}
        self.lengths: list[tuple[int, int]] = []
        self._changes = 0
        self._flushing: dict[int, int] = {}

    def write(self, offset: int, data: bytes) -> None:
        """Take in a write."""
        self._changes += 1
        end = offset + len(data)
        if len(self.seen) < end:
            _resize(self.seen, end)
            self.lengths.append((self._changes, end))
        self.seen[offset:end] = data
        self._note(offset, end)

    def truncate(self, length: int) -> None:
        """Take in a new length; beyond it there are zeros."""
        self._changes += 1
        before = len(self.seen)
        _resize(self.seen, length)
        self.lengths.append((self._changes, length))
        self._note(min(length, before), max(length, before))

    def _note(self, begin: int, end: int) -> None:
        for sector in range(begin // SECTOR, -(-end // SECTOR)):
            now = bytes(self.seen[sector * SECTOR : (sector + 1) * SECTOR])
            state = self._changes, now.ljust(SECTOR, b"\0")
            self.sectors.setdefault(sector, []).append(state)

    def flush(self, thread: int) -> None:
        """Note that a flush begins: it brings what was changed up to now."""
        self._flushing[thread] = self._changes

    def flushed(self, thread: int) -> None:
        """Bring to the disk what that flush was to bring."""
        last = self._flushing.pop(thread)
        if lengths := [length for change, length in self.lengths if change <= last]:
            _resize(self.kept, lengths[-1])
            self.lengths = [one for one in self.lengths if one[0] > last]
        later = {}
        for sector, states in self.sectors.items():
            brought = [state for change, state in states if change <= last]
            if brought:
                _put(self.kept, sector, brought[-1])
            if len(brought) < len(states):
                later[sector] = states[len(brought) :]
        self.sectors = later

    def left(self, chance: Random, share: float) -> bytes:
        """Return what is found after the power failed; a share of what waited came to the disk."""
        content = bytearray(self.kept)
        if self.lengths and chance.random() < share:
            _resize(content, chance.choice(self.lengths)[1])
        for sector, states in self.sectors.items():
            if chance.random() < share:
                _put(content, sector, chance.choice(states)[1])
        return bytes(content)


def _resize(content: bytearray, length: int) -> None:
    if length < len(content):
        del content[length:]
    else:
        content.extend(bytes(length - len(content)))


def _put(content: bytearray, sector: int, state: bytes) -> None:
    begin = sector * SECTOR
    if begin < len(content):
        content[begin : begin + SECTOR] = state[: len(content) - begin]


class Change(NamedTuple):
    """A change of names: one goes, one comes and is a file's, or that of a directory for None."""

    goes: str | None
    comes: str | None
    file: File | None = None

    def apply(self, names: Names) -> None:
        """Change names in that way."""
        if self.goes is not None:
            names.pop(self.goes, None)
        if self.comes is not None:
            names[self.comes] = self.file


class Disk:
    """The files below a directory.

    Args:
        root: The directory; it was there before, and was empty.
        flushes: False for a disk that says of every flush that it is done, and does nothing.
        journal: Whether the flush of a file also brings every change of names before it, as it does
            on ext4, XFS and Btrfs; POSIX promises it for the flush of a directory only.

    """

    def __init__(self, root: Path, *, flushes: bool = True, journal: bool = False) -> None:
        self._root = str(root)
        self._flushes = flushes
        self._journal = journal
        self._by_inode: dict[int, File] = {}
        self._seen: Names = {self._root: None}
        self._kept: Names = {self._root: None}
        self._waiting: dict[str, list[Change]] = {}
        self._flushing: dict[tuple[int, str], int] = {}

    def play(self, record: Record) -> None:
        """Take in one more call."""
        path = record.path
        match record.kind:
            case Kind.CREATE:
                made = self._by_inode[record.inode] = File()
                self._change(Change(None, path, made))
            case Kind.MKDIR:
                self._change(Change(None, path))
            case Kind.UNLINK:
                self._change(Change(path, None))
            case Kind.RENAME:
                self._change(Change(path, record.other, self._seen[path]))
            case Kind.WRITE:
                self._by_inode[record.inode].write(record.offset, record.data)
            case Kind.TRUNCATE:
                self._by_inode[record.inode].truncate(record.offset)
            case Kind.FLUSH if self._flushes:
                self._flush(record)
            case Kind.FLUSHED if self._flushes:
                self._flushed(record)

    def _change(self, change: Change) -> None:
        where = str(PurePath(change.comes or change.goes or "").parent)
        self._waiting.setdefault(where, []).append(change)
        change.apply(self._seen)

    def _is_directory(self, path: str) -> bool:
        return path in self._seen and self._seen[path] is None

    def _flush(self, record: Record) -> None:
        if self._is_directory(record.path):
            waiting = self._waiting.get(record.path, ())
            self._flushing[record.thread, record.path] = len(waiting)
        else:
            self._by_inode[record.inode].flush(record.thread)

    def _flushed(self, record: Record) -> None:
        if self._is_directory(record.path):
            count = self._flushing.pop((record.thread, record.path))
            waiting = self._waiting.get(record.path, [])
            for change in waiting[:count]:
                change.apply(self._kept)
            del waiting[:count]
        else:
            self._by_inode[record.inode].flushed(record.thread)
            if self._journal:
                for waiting in self._waiting.values():
                    for change in waiting:
                        change.apply(self._kept)
                    waiting.clear()

    def leave(self, chance: Random, folder: Path) -> None:
        """Make a directory of what is found after the power failed.

        Sometimes nothing of what waited came to the disk, sometimes all, mostly some of it.
        """
        share = chance.choice((0.0, 1.0, chance.random(), chance.random()))
        names = dict(self._kept)
        for waiting in self._waiting.values():
            some = 0 < share < 1
            count = chance.randint(0, len(waiting)) if some else round(share * len(waiting))
            for change in waiting[:count]:
                change.apply(names)
        folder.mkdir()
        for path in sorted(names):
            if path == self._root or not self._reached(path, names):
                continue
            place = folder / PurePath(path).relative_to(self._root)
            file = names[path]
            if file is None:
                place.mkdir()
            else:
                place.write_bytes(file.left(chance, share))

    def _reached(self, path: str, names: Names) -> bool:
        """Say whether all directories that a path leads through are there."""
        above = (str(one) for one in PurePath(path).parents)
        return all(one in names for one in above if len(one) > len(self._root))
