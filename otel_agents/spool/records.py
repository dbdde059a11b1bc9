"""How a segment file is written: a head, then records, each with a number and a checksum.

A segment stands by itself: the resources and scopes that its items belong to are records in it.
What a crash or a disk spoils costs the records it hits: the reader goes on at the next record whose
checksum is right, and the numbers tell how many are missing between two good ones.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

LETTERS: Final = b"OTELAGS1"
# The head: the letters, the offset up to which all was delivered or given up, and its checksum.
_HEAD: Final = struct.Struct("<8sQI")
HEAD_BYTES: Final = _HEAD.size

RESOURCE: Final = 1  # group: the resource's own number
SCOPE: Final = 2  # group: the scope's own number; its resource's number begins the body
ITEM: Final = 3  # group: the scope's number; the body is one span or log record
REQUEST: Final = 4  # group: how many items are in it; the body is a whole export request

_MARK: Final = b"\xa7rec"
_START: Final = struct.Struct("<4sBBIII")  # mark, kind, weight, number, group, bytes of the body
_SUM: Final = struct.Struct("<I")
FRAME_BYTES: Final = _START.size + _SUM.size
# One record at the most; a receiver takes requests of 64 MiB at the most.
MAX_BODY: Final = 32 << 20

_pack = _START.pack
_crc32 = zlib.crc32


class Record(NamedTuple):
    """One record: its kind, weight (0 goes first when room is short), number, group and body."""

    kind: int
    weight: int
    number: int
    group: int
    body: bytes
    start: int
    end: int


class Spoiled(NamedTuple):
    """Bytes that are no record, from `start` to `end`."""

    start: int
    end: int
    marks: int  # how many records they may have been


def head(delivered: int = HEAD_BYTES) -> bytes:
    """Return the head of a segment of which all before an offset is done."""
    return _HEAD.pack(LETTERS, delivered, zlib.crc32(delivered.to_bytes(8, "little")))


def delivered_of(data: bytes, size: int) -> int:
    """Return the offset that a head of a segment of a size says; its own end where it is spoiled.

    So what was delivered is sent again, rather than something lost.

    Raises:
        ValueError: It is no head of a segment.

    """
    if len(data) < HEAD_BYTES:
        return HEAD_BYTES
    letters, delivered, checksum = _HEAD.unpack_from(data)
    if letters != LETTERS:
        message = "no segment of a spool"
        raise ValueError(message)
    right = checksum == zlib.crc32(delivered.to_bytes(8, "little"))
    return delivered if right and HEAD_BYTES <= delivered <= size else HEAD_BYTES


def framed(kind: int, weight: int, number: int, group: int, body: bytes) -> bytes:
    """Return a record as it stands in a file."""
    start = _pack(_MARK, kind, weight, number, group, len(body))
    return start + _SUM.pack(_crc32(body, _crc32(start))) + body


def records(data: bytes, base: int = 0) -> Iterator[Record | Spoiled]:
    """Yield what stands in bytes that begin at the offset `base` of a segment."""
    at, end = 0, len(data)
    while at < end:
        found = _record(data, at, base)
        if found is None:
            good = _next_good(data, at, base)
            marks = max(1, data.count(_MARK, at, good))
            yield Spoiled(base + at, base + good, marks)
            at = good
        else:
            yield found
            at = found.end - base


def _record(data: bytes, at: int, base: int) -> Record | None:
    if at + FRAME_BYTES > len(data):
        return None
    mark, kind, weight, number, group, size = _START.unpack_from(data, at)
    begin = at + FRAME_BYTES
    if mark != _MARK or not RESOURCE <= kind <= REQUEST or size > len(data) - begin:
        return None
    body = data[begin : begin + size]
    (checksum,) = _SUM.unpack_from(data, at + _START.size)
    if _crc32(body, _crc32(data[at : at + _START.size])) != checksum:
        return None
    return Record(kind, weight, number, group, body, base + at, base + begin + size)


def _next_good(data: bytes, at: int, base: int) -> int:
    """Return where the next good record begins after a bad place, or the end."""
    while (at := data.find(_MARK, at + 1)) >= 0:
        if _record(data, at, base) is not None:
            return at
    return len(data)
