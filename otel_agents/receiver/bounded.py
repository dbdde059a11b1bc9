"""Bodies as they come in: counted as they grow, decompressed a step at a time."""

from __future__ import annotations

import mmap
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from otel_agents.receiver.limits import GZIP_STEP, MAX_GZIP_MEMBERS, WHOLE
from otel_agents.receiver.status import too_large, undecodable

if TYPE_CHECKING:
    from otel_agents.receiver.flight import InFlight

_GZIP: Final = 16 + zlib.MAX_WBITS
GZIP_MAGIC: Final = b"\x1f\x8b"


class Body(NamedTuple):
    """A whole body: `size` bytes from the start of `data`.

    A large one stands in pages of its own, which can be given back as they are read.
    """

    data: bytes | mmap.mmap
    size: int

    def release(self, end: int) -> None:
        """Give back the memory before `end`, which is not read again."""
        advise = getattr(self.data, "madvise", None)
        if advise is not None and hasattr(mmap, "MADV_DONTNEED"):
            whole = end - end % mmap.PAGESIZE
            if whole:
                advise(mmap.MADV_DONTNEED, 0, whole)


class Takes(Protocol):
    """What takes a body in."""

    def feed(self, data: bytes | memoryview, most: int = ...) -> bytes | memoryview:
        """Take data in, and return what is left of it once about `most` bytes came out of it."""

    def close(self) -> Body:
        """Return the body, now that all data is in."""


class Buffer:
    """Takes a plain body in; a refusal as soon as it is longer than `limit`.

    Its bytes are counted as in flight until `free`.
    """

    def __init__(self, limit: int, flight: InFlight) -> None:
        self._limit = limit
        self._flight = flight
        self._parts: list[bytes | memoryview] = []
        self._pages: mmap.mmap | None = None
        self.size = 0

    def count(self, count: int) -> None:
        """Count bytes in."""
        if self.size + count > self._limit:
            message = f"The body is larger than {self._limit} bytes."
            raise too_large(message)
        self._flight.take(count)
        self.size += count

    def feed(self, data: bytes | memoryview, _most: int = 0) -> bytes:
        """Take data in."""
        start = self.size
        self.count(len(data))
        if self._pages is None and self.size <= WHOLE:
            self._parts.append(data)
            return b""
        if self._pages is None:
            self._pages = mmap.mmap(-1, self._limit)
            self._pages[:start] = b"".join(self._parts)
            self._parts.clear()
        self._pages[start : self.size] = data
        return b""

    def close(self) -> Body:
        """Return the body."""
        if self._pages is not None:
            return Body(self._pages, self.size)
        only = self._parts[0] if len(self._parts) == 1 else None
        return Body(only if isinstance(only, bytes) else b"".join(self._parts), self.size)

    def free(self) -> None:
        """Count the bytes out again: the request is answered."""
        self._flight.give(self.size)


class Inflate:
    """Takes a gzip body in, and puts what it holds in a buffer.

    It may have several members, as RFC 1952 says, and nothing behind the last.
    """

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._member = zlib.decompressobj(_GZIP)
        self._members = 1
        self._begun = False

    def feed(self, data: bytes | memoryview, most: int = 1 << 62) -> memoryview:
        """Take data in, and return what is left of it once about `most` bytes came out of it."""
        left = memoryview(data)
        until = self._buffer.size + most
        while left and self._buffer.size < until:
            step, left = left[:GZIP_STEP], left[GZIP_STEP:]
            self._step(step)
        return left

    def _step(self, data: bytes | memoryview) -> None:
        while True:
            if self._member.eof:
                if not data:
                    return
                self._renew()
            self._begun = True
            try:
                out = self._member.decompress(data, GZIP_STEP)
            except zlib.error as error:
                message = f"The body is not gzip: {error}."
                raise undecodable(message) from None
            self._buffer.feed(out)
            if self._member.eof:
                data = self._member.unused_data
            elif self._member.unconsumed_tail:
                data = self._member.unconsumed_tail
            elif len(out) < GZIP_STEP:
                return
            else:
                data = b""

    def _renew(self) -> None:
        self._members += 1
        if self._members > MAX_GZIP_MEMBERS:
            message = f"The gzip body has more than {MAX_GZIP_MEMBERS} members."
            raise undecodable(message)
        self._member = zlib.decompressobj(_GZIP)

    def close(self) -> Body:
        """Return the body."""
        if self._begun and not self._member.eof:
            message = "The gzip body is cut short."
            raise undecodable(message)
        if not self._begun:
            message = "The gzip body is empty."
            raise undecodable(message)
        return self._buffer.close()
