"""A large request cut in slices that are cheap to parse, in the order of its bytes.

Repeated fields of protobuf messages concatenate, so a request is the same as several requests
that share its resources and scopes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_agents.receiver.limits import (
    MAX_BESIDE,
    MAX_ELEMENT,
    MAX_ELEMENTS,
    MAX_FIELDS,
    MAX_POINT,
)
from otel_agents.receiver.status import too_large
from otel_agents.receiver.wire import framed, shortened, too_many, walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_agents.receiver.bounded import Body
    from otel_agents.receiver.shapes import Shape


class Slices:
    """The slices of a body of a given shape, of about `most` bytes each.

    Attributes:
        rejected: Elements left out since they were too long, or too finely divided.
        reason: Why the last one was.
        cuts: Texts that were cut.

    """

    def __init__(self, body: Body, shape: Shape, most: int) -> None:
        self._body = body
        self._most = most
        self._shape = shape
        self._seen = 0
        self.rejected = 0
        self.reason = ""
        self.cuts = 0

    def __iter__(self) -> Iterator[bytes]:
        """Yield messages like the body; only a long element makes one much longer than `most`."""
        return self._level(0, self._body.size, self._shape, 0)

    def _level(self, at: int, end: int, shape: Shape, beside: int) -> Iterator[bytes]:
        """Yield slices of the message from `at` to `end`; `beside` bytes will stand around them."""
        data = self._body.data
        header = self._header(at, end, shape, beside)
        beside += len(header)
        room = self._most - beside
        runs: list[tuple[int, int]] = []
        weight = 0
        for number, begin, payload, stop in walk(data, at, end):
            if number not in shape.inner or not payload:
                continue
            size = stop - begin
            if runs and weight + size > room:
                yield header + self._joined(runs)
                runs, weight = [], 0
                self._body.release(begin)
            if size > room:
                for part in self._parts(payload, stop, shape.fields[number], beside):
                    yield header + framed(number, part)
                continue
            if runs and runs[-1][1] == begin:
                runs[-1] = (runs[-1][0], stop)
            else:
                runs.append((begin, stop))
            weight += size
        if runs:
            yield header + self._joined(runs)

    def _joined(self, runs: list[tuple[int, int]]) -> bytes:
        """Return the bytes of some runs."""
        return b"".join(self._body.data[begin:stop] for begin, stop in runs)

    def _header(self, at: int, end: int, shape: Shape, beside: int) -> bytes:
        """Return what stands beside the inner messages, and count those."""
        parts = []
        size = beside
        for number, begin, payload, stop in walk(self._body.data, at, end):
            if number in shape.inner and payload:
                self._seen += 1
                if self._seen > MAX_ELEMENTS:
                    message = f"The request has more than {MAX_ELEMENTS} spans, records or points."
                    raise too_large(message)
                continue
            size += stop - begin
            if size > MAX_BESIDE:
                message = f"A resource or scope of a large request is above {MAX_BESIDE} bytes."
                raise too_large(message)
            parts.append(self._body.data[begin:stop])
        return b"".join(parts)

    def _parts(self, at: int, end: int, shape: Shape, beside: int) -> Iterator[bytes]:
        """Yield the parts of an inner message that is longer than a slice."""
        if not shape.element:
            yield from self._level(at, end, shape, beside)
            return
        data = self._body.data
        if too_many(data, at, end, shape):
            self.rejected += 1
            self.reason = f"it is long and holds more than {MAX_FIELDS} fields"
            return
        found, cuts = shortened(data, at, end, shape)
        most = MAX_ELEMENT if shape.dropped else MAX_POINT
        size = len(found) if cuts else end - at
        if size > most:
            self.rejected += 1
            self.reason = f"it is longer than {most} bytes"
            return
        self.cuts += cuts
        yield found if cuts else data[at:end]
