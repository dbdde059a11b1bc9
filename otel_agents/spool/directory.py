"""The directory of a spool: segments of several processes, what was lost, what was spoiled.

```
traces-<ns>-<pid>-<random>.seg   segments: a live process holds a lock on each of its own
losses.jsonl                     one line for everything that was dropped, whoever dropped it
quarantine/                      bytes that were no records any more, kept for a look
```
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from otel_agents.boundary import boundary
from otel_agents.errors import SettingsError
from otel_agents.spool.records import HEAD_BYTES, Spoiled, delivered_of, records
from otel_agents.spool.segment import (
    HEAVIEST,
    REPLACING,
    SUFFIX,
    Segment,
    items_of,
    lock,
    name_of,
    same_file,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

SIGNALS: Final = ("traces", "metrics", "logs")
_LOSSES: Final = "losses.jsonl"
_QUARANTINE: Final = "quarantine"
_LOCK: Final = ".lock"
_MOST_LOSSES: Final = 1 << 20  # bytes of the file of losses, which is summed up then
_MOST_QUARANTINE: Final = 16 << 20
_TRIES: Final = 20  # to write down what was lost, while others do
_TRY_SECONDS: Final = 0.005
# What a filesystem without locks answers.
_NO_LOCKS: Final = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class Loss(msgspec.Struct, omit_defaults=True):
    """Items that were dropped: when (seconds since the epoch), of what, why, and how many."""

    time: float
    signal: str
    reason: str
    count: int
    segment: str = ""


_decoder = msgspec.json.Decoder(Loss)
_encoder = msgspec.json.Encoder()


class Directory:
    """A spool's directory. `told` is called with reason and number for everything that is lost."""

    def __init__(
        self, path: Path, max_bytes: int, told: Callable[[str, int], None] = lambda *_: None
    ) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.told = told
        self._begin()

    def _begin(self) -> None:
        self._untold: Counter[tuple[str, str]] = Counter()
        # Something may be lost in a signal handler, in a thread that is at it.
        self._lock = threading.RLock()

    def make(self) -> None:
        """Make the directory, for its owner alone, where there is none.

        Raises:
            SettingsError: It is no directory for a spool: see `check`.
            OSError: The disk does not take it.

        """
        if not self.path.is_dir():
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.check()
        try:
            with self.locked():
                return
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            message = f"the spool {self.path} is where files have no locks: name a local directory"
            raise SettingsError(message) from error

    def check(self) -> None:
        """Look whether a spool can be there, and change nothing.

        Raises:
            SettingsError: It is another user's, anybody may write there, or this system has no
                locks.
            OSError: It is not there, or cannot be looked at.

        """
        if sys.platform == "win32":
            message = "the spool needs the file locks of POSIX; leave OTEL_AGENTS_SPOOL unset here"
            raise SettingsError(message)
        found = self.path.stat()
        if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode):
            message = f"the spool {self.path} is another user's: name a directory of your own"
            raise SettingsError(message)
        if stat.S_IMODE(found.st_mode) & 0o002:
            # They could plant segments. It is not for us to change a directory we have not made.
            message = f"anybody may write to the spool {self.path}: chmod 700 it, or name another"
            raise SettingsError(message)

    def after_fork(self) -> None:
        """Forget what the parent has to tell."""
        self._begin()

    def sync(self) -> None:
        """Bring the names in it to the disk itself."""
        with contextlib.suppress(OSError):
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    # ------------------------------------------------------------------ segments

    def names(self, signal: str = "") -> list[Path]:
        """Return the paths of the segments, the oldest first; none where they cannot be listed."""
        try:
            found = [path.name for path in self.path.iterdir()]
        except OSError:  # out of descriptors, say
            return []
        paths = [self.path / name for name in found if name.endswith(SUFFIX)]
        named = [(name, path) for path in paths if (name := name_of(path)) is not None]
        return [path for name, path in sorted(named, key=_age) if signal in {"", name.signal}]

    def adopt(self, signal: str) -> Segment | None:
        """Take the oldest segment of a dead process over, or return None.

        What is no segment, for all its name, is put into quarantine; and what nobody holds and
        nothing waits in is deleted.
        """
        for path in self.names(signal):
            try:
                segment = Segment.adopt(path)
            except (OSError, ValueError) as error:
                self._set_aside(path, signal, error)
                continue
            if segment is None:
                continue
            if not segment.done:
                return segment
            segment.close(remove=True)
        return None

    def _set_aside(self, path: Path, signal: str, error: Exception) -> None:
        if isinstance(error, OSError) and not isinstance(error, IsADirectoryError):
            boundary.warn("otel-agents: %s cannot be read: %s", path, error)
            return
        try:
            count = _marks(path)
            self._quarantine().mkdir(mode=0o700, exist_ok=True)
            path.rename(self._quarantine() / path.name)
        except OSError as again:
            boundary.warn("otel-agents: %s cannot be set aside: %s", path, again)
            return
        self.lose(signal, "corrupt", max(1, count), path.name)

    def _quarantine(self) -> Path:
        return self.path / _QUARANTINE

    def keep_spoiled(self, segment: Segment, spoiled: tuple[Spoiled, ...]) -> None:
        """Keep the bytes that were no records, so that somebody can look what they were."""
        with contextlib.suppress(OSError):
            folder = self._quarantine()
            folder.mkdir(mode=0o700, exist_ok=True)
            for one in spoiled:
                if _size_of(folder) + one.end - one.start > _MOST_QUARANTINE:
                    return
                data = os.pread(segment.fd, one.end - one.start, one.start)
                (folder / f"{segment.path.name}.{one.start}.bad").write_bytes(data)

    # ------------------------------------------------------------------ losses

    def lose(self, signal: str, reason: str, count: int, segment: str = "") -> None:
        """Count items that are dropped, here and for who asks later."""
        if count <= 0:
            return
        self.told(reason, count)
        with self._lock:
            try:
                self._write_losses([Loss(time.time(), signal, reason, count, segment)])
            except OSError:
                self._untold[signal, reason] += count

    def tell_untold(self) -> None:
        """Write down what could not be written before."""
        for _ in range(_TRIES):
            if not self._untold:
                return
            with self._lock, contextlib.suppress(OSError):
                now, told = time.time(), self._untold.copy()
                self._write_losses([Loss(now, *key, count) for key, count in told.items()])
                self._untold -= told
                return
            time.sleep(_TRY_SECONDS)

    def _write_losses(self, losses: list[Loss]) -> None:
        """Add lines, all of them or none. Raises OSError, also where somebody else is at it."""
        path = self.path / _LOSSES
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            # Whoever sums the lines up puts another file in the place of this one.
            if not lock(fd) or not same_file(path, fd):
                raise BlockingIOError
            size = os.fstat(fd).st_size
            data = b"".join(_encoder.encode(one) + b"\n" for one in losses)
            if size and os.pread(fd, 1, size - 1) != b"\n":  # a line that a crash tore
                data = b"\n" + data
            if os.write(fd, data) != len(data):
                os.ftruncate(fd, size)
                message = "the disk took a part only"
                raise OSError(errno.ENOSPC, message)
            if size + len(data) > _MOST_LOSSES:
                with contextlib.suppress(OSError):  # the lines are there
                    self._sum_up(path)
        finally:
            os.close(fd)

    def _sum_up(self, path: Path) -> None:
        """Write the sums instead of the lines, which would grow for ever."""
        lines = [Loss(time.time(), *key, count) for key, count in self.losses().items()]
        new = path.with_suffix(".summed")
        new.write_bytes(b"".join(_encoder.encode(one) + b"\n" for one in lines))
        new.chmod(0o600)
        new.replace(path)

    def losses(self) -> Counter[tuple[str, str]]:
        """Return how many items were dropped, by kind of data and reason."""
        found: Counter[tuple[str, str]] = Counter()
        with contextlib.suppress(OSError):
            for line in (self.path / _LOSSES).read_bytes().splitlines():
                with contextlib.suppress(msgspec.DecodeError):  # a line that a crash tore
                    one = _decoder.decode(line)
                    found[one.signal, one.reason] += one.count
        return found

    # ------------------------------------------------------------------ room

    @contextlib.contextmanager
    def locked(self) -> Generator[bool]:
        """Be the only one to make room, if nobody else is at it."""
        fd = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            yield lock(fd)
        finally:
            os.close(fd)

    @property
    def bytes(self) -> int:
        """How many bytes the segments have, with what was to take the place of some."""
        return sum(map(_bytes_of, (*self.names(), *self.path.glob(f"*{REPLACING}"))))

    def make_room(self, ours: Callable[[], list[Segment]]) -> None:
        """Bring the spool below its size, where it is above.

        The oldest goes first: what has no weight in every segment, then what has little (the spans
        of our scopes), and last the runs and roots of traces. `ours` are the segments that this
        process holds and may be made smaller; live ones of others are left alone.
        """
        if self.bytes <= self.max_bytes:
            return
        with self.locked() as mine:
            if mine:
                self._remove_replacements()
                self._thin_all({one.path: one for one in ours()})

    def _remove_replacements(self) -> None:
        """Delete what a crash kept from taking a segment's place: whoever thins has the lock."""
        for path in self.path.glob(f"*{REPLACING}"):
            path.unlink(missing_ok=True)

    def _thin_all(self, ours: dict[Path, Segment]) -> None:
        """Drop what weighs least from all segments, then what weighs more, until there is room."""
        paths = self.names()
        size = sum(_bytes_of(path) for path in paths)
        wanted = int(self.max_bytes * 0.9)  # so that it is not done again at once
        least = dict.fromkeys(paths, 0)  # what the lightest item of a segment weighs, if known
        for lightest in range(1, HEAVIEST + 1):
            for path in paths:
                if size <= wanted:
                    return
                if least[path] < lightest:
                    before = _bytes_of(path)
                    least[path] = self._thin(path, ours.get(path), lightest)
                    size -= before - _bytes_of(path)

    def _thin(self, path: Path, ours: Segment | None, lightest: int) -> int:
        """Drop what weighs less from one segment; return what its lightest item weighs then."""
        segment = ours
        if segment is None:
            with contextlib.suppress(OSError, ValueError):
                segment = Segment.adopt(path)
        if segment is None or segment.busy or segment.live:
            return HEAVIEST  # it is not to be touched now
        name = name_of(path)
        signal = "" if name is None else name.signal
        try:
            dropped, spoiled, least = segment.thin(lightest)
            self.lose(signal, "size cap", dropped, path.name)
            self.lose(signal, "corrupt", spoiled, path.name)
            if segment.done:
                path.unlink(missing_ok=True)
        except OSError as error:
            boundary.warn("otel-agents: %s cannot be made smaller: %s", path, error)
            return HEAVIEST
        finally:
            if ours is None:
                segment.close()
        return least

    # ------------------------------------------------------------------ what is in it

    def status(self) -> dict[str, Any]:
        """Return what is in the spool, without touching it: see `otel-agents spool status`."""
        segments = [found for path in self.names() if (found := _described(path)) is not None]
        waiting = Counter(dict.fromkeys(SIGNALS, 0))
        for one in segments:
            waiting[one["signal"]] += one["items"]
        oldest = [one["time"] for one in segments if one["items"]]
        return {
            "directory": str(self.path),
            "max_bytes": self.max_bytes,
            "bytes": sum(one["bytes"] for one in segments),
            "waiting": dict(waiting),
            "oldest_seconds": max(0.0, time.time() - min(oldest) / 1e9) if oldest else None,
            "segments": [
                {key: value for key, value in one.items() if key != "time"} for one in segments
            ],
            "dropped": [
                {"signal": signal, "reason": reason, "count": count}
                for (signal, reason), count in sorted(self.losses().items())
            ],
            "quarantined_bytes": _size_of(self._quarantine()),
        }


def _age(named: tuple[Any, Path]) -> tuple[int, str]:
    return named[0].time, named[1].name


def _bytes_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _size_of(folder: Path) -> int:
    try:
        return sum(entry.stat().st_size for entry in os.scandir(folder))
    except OSError:
        return 0


def _marks(path: Path) -> int:
    """Return how many items a file that is no segment may have had."""
    with path.open("rb") as file:
        data = file.read(64 << 20)[HEAD_BYTES:]
    return sum(one.marks if isinstance(one, Spoiled) else items_of(one) for one in records(data))


def _described(path: Path) -> dict[str, Any] | None:
    """Describe a segment that may be in use: it is read, not opened for writing."""
    name = name_of(path)
    if name is None:
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        size = os.fstat(fd).st_size
        data = os.pread(fd, size, 0)
        alive = not lock(fd)
    except OSError:
        return None
    finally:
        os.close(fd)
    try:
        delivered = delivered_of(data, size)
    except ValueError:
        delivered = size
    left = records(data[delivered:], delivered)
    items = sum(items_of(one) for one in left if not isinstance(one, Spoiled))
    return {
        "name": path.name,
        "signal": name.signal,
        "pid": name.pid,
        "alive": alive,
        "items": items,
        "bytes": size,
        "time": name.time,
    }
