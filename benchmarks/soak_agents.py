"""Agents at a steady number of spans a second, until the input ends; each span is told of.

    opentelemetry-instrument python soak_agents.py FOLDER NAME asyncio|threads SPANS_A_SECOND

A run is 154 spans: three iterations of two phases of four agents, each of which calls a library
that has spans of its own, and two tools that do. Some agents fail; with asyncio, some are
cancelled. FOLDER gets what `soak_ledger` reads: the numbers that may be used, before they are, the
spans that have ended, in batches and after the spool has them, and runs as they begin and end.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from soak_ledger import LEASE, NUMBER, RECORD, RECORDS_A_FILE, TEXT, checksum

from otel_agents import agent, iteration, phase, run, tool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan

WORKERS: Final = 10
_BLOCKS: Final = 24  # agents a run
_SPANS_A_BLOCK: Final = 154 / _BLOCKS
_WAIT: Final = 0.002  # seconds that a model, or what a tool calls, takes
_BATCH: Final = 50
_TELL_SECONDS: Final = 0.2
_MOST_BEHIND: Final = 2.0  # seconds that are made up for
_LETTERS: Final = "abcxyz 0189 äß€ 東 😀 \"'\\<>&%\n"

over = threading.Event()


class Told(SpanProcessor):
    """Leases numbers, and tells which spans have ended; it stands behind the spool."""

    def __init__(self, folder: str, name: str) -> None:
        self._folder, self._name = folder, name
        self._lock = threading.Lock()
        self._next, self._leased = 0, 0
        self._batch: list[bytes] = []
        self._told = time.monotonic()
        self._files = itertools.count()
        self._records = RECORDS_A_FILE  # the first file is to be made
        self._file = -1
        self._leases = self._open("lease")
        self._runs = self._open("runs")

    def attributes(self) -> dict[str, str]:
        """Return the attributes that a span is known by."""
        with self._lock:
            self._next += 1
            number = self._next
            if number > self._leased:
                self._leased += 1000
                os.write(self._leases, LEASE.pack(self._leased))
        # Text that depends on the number: of any length, and of any letters.
        start = number * 2_654_435_761 % 997
        return {
            NUMBER: f"{self._name}.{number}",
            TEXT: (_LETTERS * 3)[start % len(_LETTERS) :][: start % 71],
        }

    def run(self, what: str) -> None:
        """Tell of a run: `+` and its id when it begins, `-` and its id when it has ended."""
        os.write(self._runs, f"{what} {time.time()}\n".encode())

    def on_end(self, span: ReadableSpan) -> None:
        """Tell of a span that has ended; the spool has it by now."""
        context, said = span.context, span.attributes or {}
        number = int(str(said[NUMBER]).rpartition(".")[2])
        summed = checksum(span.name, said[TEXT], span.start_time or 0, span.end_time or 0)
        told = RECORD.pack(
            number, context.trace_id.to_bytes(16), context.span_id.to_bytes(8), summed
        )
        with self._lock:
            self._batch.append(told)
            now = time.monotonic()
            if len(self._batch) >= _BATCH or now - self._told > _TELL_SECONDS:
                self._told = now
                self._tell()

    def shutdown(self) -> None:
        """Tell of the last ones."""
        with self._lock:
            self._tell()

    def _tell(self) -> None:
        if self._records >= RECORDS_A_FILE:
            if self._file >= 0:
                os.close(self._file)
            self._file = self._open(f"told-{next(self._files):06d}")
            self._records = 0
        os.write(self._file, b"".join(self._batch))
        self._records += len(self._batch)
        self._batch.clear()

    def _open(self, what: str) -> int:
        path = f"{self._folder}/{self._name}.{what}"
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


class Pace:
    """Moments at which a worker's agents are due."""

    def __init__(self, rate: float, worker: int) -> None:
        self._every = WORKERS * _SPANS_A_BLOCK / rate
        self._due = time.monotonic() + self._every * worker / WORKERS

    def wait(self) -> float:
        """Return the seconds until the next agent is due."""
        now = time.monotonic()
        self._due = max(self._due + self._every, now - _MOST_BEHIND)
        return max(0.0, self._due - now)


def fate(number: int) -> str:
    """Return how the agent of this number ends."""
    if number % 40 == 17:
        return "fails"
    return "is cancelled" if number % 60 == 41 else "succeeds"


class Program:
    """The agents, and the library that they call."""

    def __init__(self, told: Told, name: str, rate: float) -> None:
        self.told, self.name, self.rate = told, name, rate
        self._tracer = trace.get_tracer("soak.library")
        self._runs = itertools.count()

    def library(self, name: str) -> Any:
        """Return a span of another library."""
        return self._tracer.start_as_current_span(name, attributes=self.told.attributes())

    def scope(self, maker: Any, name: str, **fields: Any) -> Any:
        """Return a scope of ours."""
        return maker(name, attributes=self.told.attributes(), **fields)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Open a run, and tell of it."""
        known = f"{self.name}-{next(self._runs)}"
        self.told.run(f"+{known}")
        with self.scope(run, "soak", id=known):
            yield
        self.told.run(f"-{known}")

    def blocks(self) -> Iterator[int]:
        """Yield the numbers of a run's agents, each within its iteration and phase."""
        for turn in range(3):
            with self.scope(iteration, f"turn {turn}"):
                for number, part in enumerate(("write", "review")):
                    with self.scope(phase, part):
                        for each in range(4):
                            yield turn * 8 + number * 4 + each

    # A scope stands in the context of who opened it: so both ways are written out.

    async def work_async(self, worker: int) -> None:
        """Go on with runs in a task."""
        pace = Pace(self.rate, worker)
        for turn in itertools.count(worker):
            with self.running():
                for number in self.blocks():
                    await asyncio.sleep(pace.wait())
                    end = fate(turn * _BLOCKS + number)
                    task = asyncio.create_task(self._agent_async(number, end))
                    if end == "is cancelled":
                        await asyncio.sleep(_WAIT / 2)
                        task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                    if over.is_set():
                        return

    async def _agent_async(self, number: int, end: str) -> None:
        with self.scope(agent, f"writer {number % 4}"):
            with self.library("POST"):
                await asyncio.sleep(_WAIT)
            for name in ("look up", "save"):
                with self.scope(tool, name), self.library("SELECT"):
                    await asyncio.sleep(0)
            if end == "fails":
                raise ValueError(number)

    def work_thread(self, worker: int) -> None:
        """Go on with runs in a thread."""
        pace = Pace(self.rate, worker)
        for turn in itertools.count(worker):
            with self.running():
                for number in self.blocks():
                    over.wait(pace.wait())
                    with contextlib.suppress(ValueError):
                        self._agent_thread(number, fate(turn * _BLOCKS + number))
                    if over.is_set():
                        return

    def _agent_thread(self, number: int, end: str) -> None:
        with self.scope(agent, f"critic {number % 4}"):
            with self.library("POST"):
                time.sleep(_WAIT)
            for name in ("look up", "save"):
                with self.scope(tool, name), self.library("SELECT"):
                    pass
            if end == "fails":
                raise ValueError(number)


async def in_tasks(program: Program) -> None:
    """Work in tasks."""
    await asyncio.gather(*(program.work_async(number) for number in range(WORKERS)))


def in_threads(program: Program) -> None:
    """Work in threads."""
    threads = [
        threading.Thread(target=program.work_thread, args=(number,)) for number in range(WORKERS)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


def _until_input_ends() -> None:
    sys.stdin.read()
    over.set()


def main() -> None:
    """Work until the input ends, and end as a program does."""
    folder, name, way, rate = sys.argv[1:]
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider), "start it with opentelemetry-instrument"
    told = Told(folder, name)
    provider.add_span_processor(told)
    program = Program(told, name, float(rate))
    threading.Thread(target=_until_input_ends, daemon=True).start()
    if way == "asyncio":
        asyncio.run(in_tasks(program))
    else:
        in_threads(program)


if __name__ == "__main__":
    main()
