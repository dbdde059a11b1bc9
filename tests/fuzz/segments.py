"""What a segment of the spool holds to, whatever stands in its file."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

from otel_agents.spool.directory import Directory
from otel_agents.spool.records import framed, head
from otel_agents.spool.segment import Segment
from tests.fuzz.texts import folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_KINDS: Final = b"0123456789"
_NAME: Final = f"traces-{1:020d}-1-00000000.seg"


def written(data: bytes) -> Iterator[bytes]:
    """Yield what lines say: a digit is a record of that kind with a right checksum, else bytes.

    Behind the digit stand a weight, a number and a group in letters of base 36, then the body.
    """
    for line in data.split(b"\n"):
        kind, weight, number, group = line[:1], line[1:2], line[2:4], line[4:6]
        try:
            numbers = [int(one, 36) for one in (weight, number, group)]
        except ValueError:
            yield line
            continue
        if kind in _KINDS:
            yield framed(int(kind), *numbers, line[6:])
        elif kind == b"h":
            yield head(numbers[1])
        else:
            yield line


def read(data: bytes) -> None:
    """A segment is read to its end, makes nothing up, and can be thinned at any place."""
    path = folder() / "spool" / _NAME
    path.parent.mkdir(mode=0o700, exist_ok=True)
    content = b"".join(written(data))
    for at in (0, 1):
        path.write_bytes(content if data[:1] == b"h" else head() + content)
        with contextlib.suppress(ValueError):  # it is no segment
            _read(path, thin_after=at)
        path.unlink(missing_ok=True)
    directory = Directory(path.parent, 1)
    path.write_bytes(head() + content)
    assert set(directory.status()["waiting"]) == {"traces", "metrics", "logs"}
    directory.make_room(list)
    assert not directory.names(), "a spool of a byte keeps nothing"
    for left in (*path.parent.glob("quarantine/*"), path.parent / "losses.jsonl"):
        left.unlink(missing_ok=True)


def _read(path: Path, thin_after: int) -> None:
    segment = Segment.adopt(path)
    assert segment is not None
    content = path.read_bytes()
    ends = time.monotonic() + 20
    read = 0
    try:
        while not segment.done:
            if read == thin_after:
                segment.thin(1)
                thin_after = -1
                continue
            batch = segment.read(3, 100)
            for _, body in (*batch.items, *batch.requests):
                assert body in content
            assert batch.lost >= 0
            assert segment.offset < batch.end <= segment.size
            segment.acknowledge(batch)
            read += 1
            assert time.monotonic() < ends
    finally:
        segment.close()
