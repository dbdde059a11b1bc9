"""One segment file of the spool: appended to at its end, read and acknowledged from its front.

Whoever has a segment open holds a lock on it, which the kernel drops when the process dies; so a
segment that nobody holds is a dead process's, and may be adopted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import struct
import sys
import time
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_agents.spool.records import (
    FRAME_BYTES,
    HEAD_BYTES,
    ITEM,
    MAX_BODY,
    REQUEST,
    RESOURCE,
    SCOPE,
    Record,
    Spoiled,
    delivered_of,
    framed,
    head,
    records,
)

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SUFFIX: Final = ".seg"
REPLACING: Final = ".new"  # what is to take a segment's place
HEAVIEST: Final = 3  # more than any item weighs
_NAME: Final = re.compile(r"(traces|metrics|logs)-(\d{20})-(\d+)-[0-9a-f]{8}\.seg")
_MOST_BYTES: Final = 2 * MAX_BODY  # of a segment: it is read whole
_MOST_SEEN: Final = 1000
_sync: Final = getattr(os, "fdatasync", os.fsync)  # macOS has only the latter
_PREFIX: Final = struct.Struct("<I")


class TooLargeError(ValueError):
    """An item that no receiver would take."""


class Name(NamedTuple):
    """What the name of a segment says: what is in it, when (ns) and by which process."""

    signal: str
    time: int
    pid: int


class Source(NamedTuple):
    """Where items come from: a resource and a scope, encoded, each with its schema URL."""

    resource: bytes
    resource_url: str
    scope: bytes
    scope_url: str


class Batch(NamedTuple):
    """What one request carries: items with their sources, whole requests, and where it ends."""

    items: list[tuple[Source, bytes]]
    requests: list[tuple[int, bytes]]
    total: int
    end: int
    # What was found spoiled on the way: how many items, and from where to where.
    lost: int = 0
    spoiled: tuple[Spoiled, ...] = ()
    # The number that the item behind it has to have.
    expected: int = 1


def name_of(path: Path) -> Name | None:
    """Return what a file's name says, or None where it is no segment's."""
    found = _NAME.fullmatch(path.name)
    return None if found is None else Name(found[1], int(found[2]), int(found[3]))


class Segment:
    """A segment file that is open and locked by us.

    `size` is where the next record goes, `offset` how far it was read, `delivered` how far it was
    acknowledged, `waiting` how many items it holds that were not.
    """

    def __init__(self, path: Path, fd: int, size: int) -> None:
        self.path = path
        self.fd = fd
        self.size = size
        self.offset = self.delivered = HEAD_BYTES
        self.waiting = 0
        self.live = False
        self.adopted = False  # it was another process's
        self.busy = False  # the sender has items of it in hand
        self.synced = 0
        self._number = 0  # of the last item
        self._sources = 0  # how many numbers were given to sources, and to resources
        self._groups: dict[Source, int] = {}
        self._resources: dict[tuple[bytes, str], int] = {}
        # The objects are kept with their group's number, so that no other can take their ids.
        self._seen: dict[tuple[int, int], tuple[int, Any, Any]] = {}
        # What the reader knows.
        self._expected = 1
        self._known_resources: dict[int, tuple[str, bytes]] = {}
        self._known_scopes: dict[int, Source] = {}

    # ------------------------------------------------------------------ opening

    @classmethod
    def create(cls, directory: Path, signal: str) -> Segment:
        """Make a new segment that this process appends to. Raises OSError."""
        while True:
            name = f"{signal}-{time.time_ns():020d}-{os.getpid()}-{token_hex(4)}{SUFFIX}"
            path = directory / name
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            try:
                os.pwrite(fd, head(), 0)
                # Between its making and its lock another process may take it for a dead one's,
                # and delete it, since it is empty.
                if lock(fd) and same_file(path, fd):
                    made = cls(path, fd, HEAD_BYTES)
                    made.live = True
                    return made
            except BaseException:
                os.close(fd)
                with contextlib.suppress(OSError):
                    path.unlink()
                raise
            os.close(fd)

    @classmethod
    def adopt(cls, path: Path) -> Segment | None:
        """Open a dead process's segment; None where somebody holds it or it is gone.

        Raises OSError where it cannot be read, and ValueError where it is no segment.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        try:
            if not lock(fd) or not same_file(path, fd):
                os.close(fd)
                return None
            return cls._recovered(path, fd)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def _recovered(cls, path: Path, fd: int) -> Segment:
        size = os.fstat(fd).st_size
        found = cls(path, fd, max(size, HEAD_BYTES))
        found.adopted = True
        delivered = delivered_of(os.pread(fd, HEAD_BYTES, 0), size)
        if size > _MOST_BYTES:
            message = "longer than any segment of a spool"
            raise ValueError(message)
        found.offset = found.delivered = delivered
        for one in records(os.pread(fd, size, HEAD_BYTES), HEAD_BYTES):
            if isinstance(one, Spoiled):
                continue
            count = items_of(one)
            if one.start >= delivered:
                found.waiting += count
            elif count:
                found._expected = one.number + 1
            else:
                found._define(one)
        return found

    # ------------------------------------------------------------------ at its end

    def add(
        self,
        resource: Any,
        scope: Any,
        body: bytes,
        weight: int,
        encode: Callable[[Any, Any], Source],
    ) -> None:
        """Append an item. `encode` is called for a resource and a scope that were not seen yet.

        Raises OSError where the disk does not take it: then nothing of it is in the file.
        """
        known = self._seen.get((id(resource), id(scope)))
        if known is None:
            if len(self._seen) >= _MOST_SEEN:  # a program that makes a tracer for each span
                self._seen.clear()
            known = self._group(encode(resource, scope)), resource, scope
            self._seen[id(resource), id(scope)] = known
        self._append(ITEM, weight, known[0], body)
        self.waiting += 1

    def add_item(self, source: Source, body: bytes, weight: int) -> None:
        """Append an item whose source is encoded already."""
        self._append(ITEM, weight, self._group(source), body)
        self.waiting += 1

    def add_request(self, body: bytes, count: int, weight: int = 1) -> None:
        """Append a whole export request of so many items."""
        self._append(REQUEST, weight, count, body)
        self.waiting += count

    def _group(self, source: Source) -> int:
        """Return the number of a source, which is written where it is new."""
        number = self._groups.get(source)
        if number is None:
            key = (source.resource, source.resource_url)
            of = self._resources.get(key)
            if of is None:
                # Taken before it is written: a signal handler may write a source in between.
                self._sources = of = self._sources + 1
                self._append(RESOURCE, 0, of, _with_url(source.resource_url, source.resource))
                self._resources[key] = of
            self._sources = number = self._sources + 1
            body = _PREFIX.pack(of) + _with_url(source.scope_url, source.scope)
            self._append(SCOPE, 0, number, body)
            self._groups[source] = number
        return number

    def _append(self, kind: int, weight: int, group: int, body: bytes) -> None:
        if len(body) > MAX_BODY:
            message = f"{len(body)} bytes are more than a receiver takes"
            raise TooLargeError(message)
        count = 1 if kind == ITEM else group if kind == REQUEST else 0
        length = FRAME_BYTES + len(body)
        # Both are reserved before anything is called: a signal handler, which may append in
        # between, runs where something is.
        at = self.size
        self.size = end = at + length
        self._number = number = self._number + count
        written = -1
        try:
            written = os.pwrite(self.fd, framed(kind, weight, number, group, body), at)
        finally:
            if written != length:
                if self.size == end:
                    self.size = at
                    self._number -= count
                with contextlib.suppress(OSError):
                    os.ftruncate(self.fd, self.size)
                if written >= 0:
                    raise _partly()

    # ------------------------------------------------------------------ at its front

    def read(self, most_items: int, most_bytes: int, end: int | None = None) -> Batch:
        """Return what comes next, up to an offset; `acknowledge` says what became of it."""
        at, end = self.offset, self.size if end is None else end
        items: list[tuple[Source, bytes]] = []
        requests: list[tuple[int, bytes]] = []
        spoiled: list[Spoiled] = []
        count = lost = taken = 0
        expected = self._expected
        data = os.pread(self.fd, end - at, at)
        if len(data) < end - at:  # somebody cut the file
            spoiled.append(Spoiled(at + len(data), end, 1))
            lost += 1
        for one in records(data, at):
            if isinstance(one, Spoiled):
                spoiled.append(one)
                # In the middle the numbers tell how many are missing.
                lost += one.marks if one.end == at + len(data) else 0
                continue
            size = items_of(one)
            if not size:
                self._define(one)
                continue
            full = count + size > most_items or taken + len(one.body) > most_bytes
            if count and full:
                return Batch(items, requests, count, one.start, lost, tuple(spoiled), expected)
            lost += max(0, one.number - size + 1 - expected)
            expected = one.number + 1
            source = self._known_scopes.get(one.group)
            if one.kind == REQUEST:
                requests.append((size, one.body))
            elif source is not None:
                items.append((source, one.body))
            else:  # what says where it belongs was spoiled
                spoiled.append(Spoiled(one.start, one.end, 1))
                lost += 1
                continue
            count += size
            taken += len(one.body)
        return Batch(items, requests, count, end, lost, tuple(spoiled), expected)

    def _define(self, one: Record) -> None:
        """Take a resource or scope in; what belongs to one that is none counts as spoiled."""
        try:
            if one.kind == RESOURCE:
                self._known_resources[one.group] = _without_url(one.body)
                return
            (of,) = _PREFIX.unpack_from(one.body)
            url, body = _without_url(one.body[_PREFIX.size :])
        except (struct.error, UnicodeDecodeError):
            return
        resource = self._known_resources.get(of)
        if resource is not None:
            self._known_scopes[one.group] = Source(resource[1], resource[0], body, url)

    def acknowledge(self, batch: Batch) -> None:
        """Go on behind what was delivered or given up; a crash from now on does not repeat it."""
        self.offset = self.delivered = batch.end
        self._expected = batch.expected
        self.waiting = max(0, self.waiting - batch.total)
        with contextlib.suppress(OSError):  # then a crash repeats it, which loses nothing
            os.pwrite(self.fd, head(batch.end), 0)

    def thin(self, lightest: int) -> tuple[int, int, int]:
        """Leave only what weighs at least so much.

        Return how many items went, how many were spoiled, and the least weight that is left, which
        is `HEAVIEST` or more where nothing is. The file is replaced by a smaller one of the same
        name, so a crash leaves one or the other. Raises OSError where the disk does not take it.
        """
        dropped = lost = number = 0
        least = HEAVIEST
        expected = self._expected
        kept = bytearray(head())
        for one in records(os.pread(self.fd, self.size - HEAD_BYTES, HEAD_BYTES), HEAD_BYTES):
            if isinstance(one, Spoiled):
                lost += one.marks if one.end == self.size else 0
                continue
            count = items_of(one)
            if count and one.start < self.offset:
                continue
            if count:
                lost += max(0, one.number - count + 1 - expected)
                expected = one.number + 1
                weight = min(one.weight, HEAVIEST - 1)
                if weight < lightest:
                    dropped += count
                    continue
                number += count
                least = min(least, weight)
            kept += framed(one.kind, one.weight, number, one.group, one.body)
        if dropped or lost or not number:
            self._replace(bytes(kept), number)
        return dropped, lost, least

    def _replace(self, data: bytes, items: int) -> None:
        new = self.path.with_suffix(REPLACING)
        fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            lock(fd)  # it is new, and ours
            _write_all(fd, data)
            _sync(fd)  # it may stand for one that was
            new.replace(self.path)
        except BaseException:
            os.close(fd)
            with contextlib.suppress(OSError):
                new.unlink()
            raise
        os.close(self.fd)
        self.fd, self.size, self.synced = fd, len(data), 0
        self.delivered = HEAD_BYTES
        self.offset = HEAD_BYTES if items else self.size
        self.waiting, self._number, self._expected = items, items, 1

    @property
    def done(self) -> bool:
        """Whether nothing of it is waiting."""
        return self.offset >= self.size

    # ------------------------------------------------------------------ its end

    @property
    def synced_whole(self) -> bool:
        """Whether all of it is on the disk itself."""
        return self.synced >= self.size

    def sync(self) -> None:
        """Bring it to the disk itself, so that a power failure does not cost it."""
        if not self.synced_whole and self.fd >= 0:
            end = self.size
            with contextlib.suppress(OSError):
                _sync(self.fd)
                self.synced = end

    def close(self, *, remove: bool = False) -> None:
        """Let go of it, and delete it where nothing of it is wanted any more."""
        if self.fd >= 0:
            if remove:
                with contextlib.suppress(OSError):
                    self.path.unlink()
            os.close(self.fd)
            self.fd = -1

    def forget(self) -> None:
        """Close a forked child's copy: the file and its lock are the parent's."""
        with contextlib.suppress(OSError):
            os.close(self.fd)
        self.fd = -1


def items_of(one: Record) -> int:
    """Return how many items a record holds."""
    return 1 if one.kind == ITEM else one.group if one.kind == REQUEST else 0


def _write_all(fd: int, data: bytes) -> None:
    if os.write(fd, data) != len(data):
        raise _partly()


def _partly() -> OSError:
    return OSError(errno.ENOSPC, "the disk took a part only")


def lock(fd: int) -> bool:
    """Take the lock on an open file; False where another process has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def same_file(path: Path, fd: int) -> bool:
    """Say whether a path still names the file that is open."""
    try:
        named = path.lstat()
    except OSError:
        return False
    opened = os.fstat(fd)
    return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)


def _with_url(url: str, body: bytes) -> bytes:
    encoded = url.encode()
    return _PREFIX.pack(len(encoded)) + encoded + body


def _without_url(data: bytes) -> tuple[str, bytes]:
    (length,) = _PREFIX.unpack_from(data)
    begin = _PREFIX.size
    return data[begin : begin + length].decode(), data[begin + length :]
