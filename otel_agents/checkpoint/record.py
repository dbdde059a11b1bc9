"""What is known of a checkpoint, and how it stands in the message of its commit.

The message is a line for people, an empty line, and the record as one line of JSON. Modes are in
the record since a git tree knows 644 and 755 only: the usual mode of files, executables and
folders, and each path that has another, percent-encoded since a path may be no UTF-8.
"""

from __future__ import annotations

import re
import secrets
import stat
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_from_bytes

import msgspec

from otel_agents.values import cut, redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ID: Final = re.compile(r"[0-9a-z]{16}")
REFS: Final = "refs/otel-agents/checkpoints/"
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_TIME_DIGITS: Final = 9  # milliseconds in base 36: enough until the year 5188
_BITS: Final = 0o777
_MAX_LINE: Final = 200
_MAX_SAID: Final = 120
_MAX_LEFT_OUT: Final = 100

LINK: Final = 0o120000
FILE: Final = 0o100644
EXECUTABLE: Final = 0o100755


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller says of a checkpoint; `undo_of` is the one whose restore it can undo."""

    message: str | None = None
    run_id: str | None = None
    phase: str | None = None
    agent: str | None = None
    agent_id: str | None = None
    task_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    undo_of: str | None = None


class Checkpoint(About, frozen=True, kw_only=True):
    """A saved working tree.

    Of `commit` the tree is the working tree; `created_at` is in nanoseconds since 1970, `bytes`
    what its `files` hold. `left_out` names what was not saved and is left alone by a restore:
    repositories inside of this one (with a `/`), and names git does not allow; 100 at most.
    """

    id: str
    commit: str = ""
    created_at: int
    files: int
    bytes: int
    left_out: tuple[str, ...] = ()


class Modes(msgspec.Struct, frozen=True):
    """The permission bits of a tree: the usual ones, and by percent-encoded path the others."""

    file: int = 0o644
    executable: int = 0o755
    folder: int = 0o755
    others: dict[str, int] = {}

    @classmethod
    def of(cls, files: Mapping[bytes, int], folders: Mapping[bytes, int]) -> Modes:
        """Return the modes of files and folders, given by path as `st_mode`."""
        modes = Counter(files.values())
        plain = {mode: count for mode, count in modes.items() if not stat.S_ISLNK(mode)}
        usual = cls(
            _usual({m: n for m, n in plain.items() if not m & stat.S_IXUSR}, cls().file),
            _usual({m: n for m, n in plain.items() if m & stat.S_IXUSR}, cls().executable),
            _usual(Counter(folders.values()), cls().folder),
        )
        odd = {mode for mode in plain if bits(mode) != usual._like(mode)}
        others = {
            quote_from_bytes(path): bits(mode)
            for path, mode in (files.items() if odd else ())
            if mode in odd
        }
        for path, mode in folders.items():
            if bits(mode) != usual.folder:
                others[quote_from_bytes(path) + "/"] = bits(mode)
        return msgspec.structs.replace(usual, others=others) if others else usual

    def of_file(self, path: bytes, git_mode: int) -> int:
        """Return the `st_mode` of a file or link that has a mode in a git tree."""
        if git_mode == LINK:
            return stat.S_IFLNK | 0o777
        bits = self.others.get(quote_from_bytes(path)) if self.others else None
        return stat.S_IFREG | (self._like(git_mode) if bits is None else bits & _BITS)

    def of_folder(self, path: bytes) -> int:
        """Return the permission bits of a folder."""
        return self.others.get(quote_from_bytes(path) + "/", self.folder) & _BITS

    def _like(self, mode: int) -> int:
        return (self.executable if mode & stat.S_IXUSR else self.file) & _BITS


class Record(msgspec.Struct, frozen=True):
    """What stands in a commit's message."""

    checkpoint: Checkpoint
    modes: Modes

    def message(self) -> bytes:
        """Return the text of the commit."""
        line = " ".join((self.checkpoint.message or "Checkpoint").split())
        return cut(line, _MAX_LINE).encode() + b"\n\n" + msgspec.json.encode(self) + b"\n"

    @classmethod
    def read(cls, message: bytes) -> Record | None:
        """Return the record in a commit's message, or None where there is none that is ours."""
        try:
            return msgspec.json.decode(message.partition(b"\n\n")[2], type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None


def tidy(about: About) -> dict[str, Any]:
    """Return the fields of `about` as text that UTF-8 can hold, none long and no secret in it."""
    fields = msgspec.structs.asdict(about)
    return {
        name: value if value is None else cut(str(redact("", str(value))))
        for name, value in fields.items()
    }


def new_id(now_ns: int | None = None) -> str:
    """Return an id: nine digits of time, so that ids sort by age, and seven of chance."""
    rest = (time.time_ns() if now_ns is None else now_ns) // 1_000_000
    digits: list[str] = []
    while len(digits) < _TIME_DIGITS:
        rest, digit = divmod(rest, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits)) + "".join(secrets.choice(_DIGITS) for _ in range(7))


def shown(path: bytes) -> str:
    """Return a path as text, what is no UTF-8 in it written out."""
    return path.decode("utf-8", "backslashreplace")


def said(name: bytes | str) -> str:
    """Return a path or name fit for a sentence: of one line, printable and not long."""
    text = shown(name) if isinstance(name, bytes) else name
    return cut(text if text.isprintable() else ascii(text)[1:-1], _MAX_SAID)


def shown_all(paths: Iterable[bytes]) -> tuple[str, ...]:
    """Return the first of some paths as text."""
    return tuple(shown(path) for path in sorted(paths)[:_MAX_LEFT_OUT])


def bits(mode: int) -> int:
    """Return the permission bits of a mode.

    Those that lend a user's or group's rights are neither saved nor given: a record may be
    somebody else's. A file that is restored loses them, folders keep theirs.
    """
    return mode & _BITS


def git_mode(mode: int) -> int:
    """Return the mode a git tree has for a file's or link's `st_mode`."""
    if stat.S_ISLNK(mode):
        return LINK
    return EXECUTABLE if mode & stat.S_IXUSR else FILE


def _usual(counts: Mapping[int, int], default: int) -> int:
    """Return the permission bits that most have; of as many, the lower."""
    if not counts:
        return default
    return bits(max(sorted(counts), key=counts.__getitem__))
