"""What programs say that they ended, beside what the store has: every span, as it comes.

A program leaves three kinds of files, named `PROGRAM.what`: `lease` has the highest number that it
may use, before it uses it; `told-N` a record for each span that has ended, after it has; `runs` a
line for each run that begins (`+id time`) and has ended (`-id time`). What a killed program had
ended and not told yet has a number that was leased, so nothing in the store is unexplained.

Of what was told and found nothing is kept but a bit, so hours of it fit into memory.
"""

from __future__ import annotations

import contextlib
import sqlite3
import struct
import zlib
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_agents.store.blocks import opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NUMBER: Final = "soak.number"
TEXT: Final = "soak.text"
LEASE: Final = struct.Struct("<Q")
RECORD: Final = struct.Struct("<Q16s8sI")  # number, ids of trace and span, checksum
RECORDS_A_FILE: Final = 65_536
_BLOCKS_AT_ONCE: Final = 50
_SAMPLED: Final = 32  # of 256 traces
_SAMPLES: Final = 60
_MOST_NAMED: Final = 100


class Span(NamedTuple):
    """What there is to be known of a span: its ids, and the checksum of the rest."""

    trace: bytes
    span: bytes
    summed: int


def checksum(name: str, text: Any, started: int, ended: int) -> int:
    """Return the checksum of what a program said: name, text and times in nanoseconds."""
    return zlib.crc32(f"{name}\0{text}\0{started}\0{ended}".encode())


class Told:
    """One process of a program: what it told, and what of that was found.

    Attributes:
        outstanding: What it told and nobody has found yet, by number.
        early: What was found and is not told yet.

    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.outstanding: dict[int, Span] = {}
        self.early: dict[int, Span] = {}
        self.count = 0
        self._folder = folder
        self._found = bytearray()
        self._file, self._offset = 0, 0

    def read(self) -> Iterator[tuple[int, Span]]:
        """Read on in what it told; yield what was found altered."""
        while True:
            path = self._folder / f"{self.name}.told-{self._file:06d}"
            data = b""
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(RECORD.size * RECORDS_A_FILE)
            whole = len(data) - len(data) % RECORD.size
            for number, *said in RECORD.iter_unpack(data[:whole]):
                self.count += 1
                span = Span(*said)
                found = self.early.pop(number, None)
                if found is None:
                    self.outstanding[number] = span
                elif found != span:
                    yield number, span
            self._offset += whole
            if whole:
                continue
            following = self._folder / f"{self.name}.told-{self._file + 1:06d}"
            # Once there is another file nothing is added to this one.
            if not following.exists() or path.stat().st_size > self._offset:
                return
            path.unlink()
            self._file, self._offset = self._file + 1, 0

    def found(self, number: int, span: Span) -> str:
        """Take in a span that is in the store; return `again`, `altered` or nothing."""
        if len(self._found) <= number // 8:
            self._found.extend(bytes(number // 8 + 4096 - len(self._found)))
        bit = 1 << number % 8
        if self._found[number // 8] & bit:
            return "again"
        self._found[number // 8] |= bit
        told = self.outstanding.pop(number, None)
        if told is None:
            self.early[number] = span
        return "altered" if told not in {None, span} else ""

    @property
    def leased(self) -> int:
        """The highest number that it may have used."""
        try:
            data = (self._folder / f"{self.name}.lease").read_bytes()
        except FileNotFoundError:
            return 0
        return LEASE.unpack_from(data, len(data) // LEASE.size * LEASE.size - LEASE.size)[0]

    def runs(self) -> tuple[set[str], dict[str, float]]:
        """Return the runs that began, and those that have ended with the time when they did."""
        try:
            lines = (self._folder / f"{self.name}.runs").read_text().splitlines()
        except FileNotFoundError:
            return set(), {}
        told = [(line[0], *line[1:].split()) for line in lines]
        ended = {known: float(at) for what, known, at in told if what == "-"}
        return {known for _, known, _ in told}, ended


class Ledger:
    """All programs' spans beside the store's; `store` is the file of SQLite.

    Attributes:
        again: How many spans came more than once.
        altered: Numbers of spans that are in the store otherwise than they were told.
        unknown: Spans in the store that no program can have made.
        samples: Traces of late with what was found of them, to be asked for through the API.

    """

    def __init__(self, folder: Path, store: Path) -> None:
        self.told: dict[str, Told] = {}
        self.again = 0
        self.altered: set[str] = set()
        self.unknown: set[str] = set()
        self.samples: dict[str, set[str]] = {}
        self._sampled: deque[str] = deque()
        self._folder, self._store = folder, store
        self._block = 0

    def add(self, name: str) -> None:
        """Follow a process by this name."""
        # Not in place: another thread may be reading.
        self.told = {**self.told, name: Told(self._folder, name)}

    @property
    def ended(self) -> int:
        """How many spans were told to have ended."""
        return sum(one.count for one in self.told.values())

    @property
    def outstanding(self) -> int:
        """How many of them are not in the store yet."""
        return sum(len(one.outstanding) for one in self.told.values())

    def read(self) -> None:
        """Read on, in what was told and in the store."""
        for body in self._bodies():
            self._take(body)
        for one in self.told.values():
            for number, _ in one.read():
                self.altered.add(f"{one.name}.{number}")

    def lost(self, name: str | None = None) -> set[str]:
        """Return the spans that are outstanding, a hundred for each process at the most."""
        return {
            f"{one.name}.{number}"
            for one in self.told.values()
            for number in list(one.outstanding)[:_MOST_NAMED]
            if name in {None, one.name}
        }

    def invented(self) -> set[str]:
        """Return what is in the store and cannot have been made by a program."""
        never = {
            f"{one.name}.{number}"
            for one in self.told.values()
            for number in one.early
            if not 0 < number <= one.leased
        }
        return self.unknown | never

    def untold(self) -> int:
        """Return how many are in the store that a killed program had no time to tell of."""
        return sum(len(one.early) for one in self.told.values())

    def _bodies(self) -> Iterator[bytes]:
        """Yield the blocks that were stored since."""
        rows = [(0, b"")]
        while rows:
            rows = []
            # There is no file yet, or its server is opening it.
            with contextlib.suppress(sqlite3.OperationalError):
                rows = self._rows()
            for self._block, body in rows:
                yield body

    def _rows(self) -> list[tuple[int, bytes]]:
        with contextlib.closing(sqlite3.connect(f"file:{self._store}?mode=ro", uri=True)) as made:
            return made.execute(
                "SELECT id, body FROM blocks WHERE id > ? ORDER BY id LIMIT ?",
                (self._block, _BLOCKS_AT_ONCE),
            ).fetchall()

    def _take(self, body: bytes) -> None:
        for of_resource in opened(body).resource_spans:
            for of_scope in of_resource.scope_spans:
                for span in of_scope.spans:
                    said = {one.key: one.value.string_value for one in span.attributes}
                    self._found(span, said.get(NUMBER, ""), said.get(TEXT, ""))

    def _found(self, span: Any, known: str, text: str) -> None:
        name, _, number = known.rpartition(".")
        of = self.told.get(name)
        if of is None or not number.isdigit():
            self.unknown.add(f"{known or 'without a number'} {span.span_id.hex()}")
            return
        times = span.start_time_unix_nano, span.end_time_unix_nano
        summed = checksum(span.name, text, *times)
        came = of.found(int(number), Span(span.trace_id, span.span_id, summed))
        self.again += came == "again"
        if came == "altered":
            self.altered.add(known)
        if span.trace_id[0] < _SAMPLED:
            self._sample(span.trace_id.hex(), span.span_id.hex())

    def _sample(self, trace: str, span: str) -> None:
        if trace not in self.samples:
            self.samples[trace] = set()
            self._sampled.append(trace)
            if len(self._sampled) > _SAMPLES:
                del self.samples[self._sampled.popleft()]
        self.samples[trace].add(span)
