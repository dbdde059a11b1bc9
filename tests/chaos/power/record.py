"""The record of what a program does to its files: made by `record.c`, which is compiled here."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOURCE: Final = Path(__file__).with_name("record.c")
_HEAD: Final = struct.Struct("=QQQQIIII")


class Kind(IntEnum):
    """What was done, as `record.c` numbers it."""

    CREATE = 1
    WRITE = 2
    TRUNCATE = 3
    UNLINK = 4
    RENAME = 5
    MKDIR = 6
    FLUSH = 7
    FLUSHED = 8


class Record(NamedTuple):
    """One call: when, by the monotonic clock in nanoseconds, and to which file.

    `offset` is that of a write, or the length of what was truncated; `other` is what a path was
    renamed to.
    """

    time: int
    kind: Kind
    thread: int
    inode: int
    path: str
    other: str
    offset: int
    data: bytes


def recorder(folder: Path) -> Path:
    """Compile what is preloaded; without a compiler the test is skipped, and fails in CI."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        message = "no C compiler (Debian: gcc)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    made = folder / "record.so"
    subprocess.run(  # noqa: S603 - our own source
        [compiler, "-shared", "-fPIC", "-O1", "-o", made, _SOURCE, "-ldl", "-lpthread"], check=True
    )
    return made


def recording(library: Path, root: Path, record: Path) -> dict[str, str]:
    """Return the environment of a program whose changes below a directory are recorded."""
    return {
        "LD_PRELOAD": str(library), "CHAOS_ROOT": str(root), "CHAOS_RECORD": str(record),
    }  # fmt: skip


def records(path: Path) -> Iterator[Record]:
    """Yield what was recorded, in order; the last one is left out where it is not whole."""
    with path.open("rb") as file:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            time, inode, offset, size, kind, thread, length, other = _HEAD.unpack(head)
            body = file.read(length + other + size)
            if len(body) < length + other + size:
                return
            yield Record(
                time, Kind(kind), thread, inode, os.fsdecode(body[:length]),
                os.fsdecode(body[length : length + other]), offset, body[length + other :],
            )  # fmt: skip
