"""A program whose spans are told of in files, so that a test knows which of them it had ended.

    opentelemetry-instrument python app.py FOLDER WAY …

A line is in a process's file before its span ends, and one more when the span's end has returned.
So what is there after a `kill -9` is what was issued, and what has to be delivered.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from random import Random, SystemRandom

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

_LETTERS = "abcxyz 0189 äß€ 東 😀 \"'\\<>&%\n"
SPANS = 50
getrandbits = SystemRandom().getrandbits
tracer = trace.get_tracer("chaos")


class Teller:
    """Ends spans, one after the other, and tells of each in a file of the process's own."""

    def __init__(self, folder: str) -> None:
        self._file = os.open(
            f"{folder}/told-{os.getpid()}-{time.monotonic_ns()}.jsonl",
            os.O_WRONLY | os.O_CREAT | os.O_APPEND,
        )
        self._random = Random(os.getpid())  # noqa: S311 - it is text
        self._count = 0
        self._parent: Context | None = None

    def span(self, size: int = 60) -> str:
        """Make and end one span; return its number."""
        if self._count % SPANS == 0:  # a trace of so many spans, whose root is elsewhere
            root = SpanContext(
                getrandbits(128), getrandbits(64), is_remote=True, trace_flags=TraceFlags(1)
            )
            self._parent = trace.set_span_in_context(NonRecordingSpan(root))
        self._count += 1
        number = f"{os.getpid()}-{time.monotonic_ns()}-{self._count}"
        text = "".join(self._random.choices(_LETTERS, k=self._random.randint(0, size)))
        span = tracer.start_span(
            f"step {self._count % 7}",
            self._parent,
            attributes={"chaos.number": number, "chaos.text": text},
        )
        context = span.get_span_context()
        ids = f"{context.trace_id:032x}", f"{context.span_id:016x}"
        self._say({"issued": number, "told": [*ids, f"step {self._count % 7}", text]})
        span.end()
        self._say({"ended": number, "at": time.monotonic_ns()})
        return number

    def _say(self, line: dict[str, object]) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")


def for_ever(folder: str) -> None:
    """End spans until somebody ends this process."""
    teller = Teller(folder)
    while True:
        for _ in range(5):
            teller.span()
        time.sleep(0.002)


def some(folder: str, count: int = 50) -> None:
    """End some spans."""
    teller = Teller(folder)
    for _ in range(count):
        teller.span()


def ticking(folder: str, seconds: float) -> None:
    """End a span every few milliseconds, for a while."""
    teller, end = Teller(folder), time.monotonic() + seconds
    while time.monotonic() < end:
        teller.span()
        time.sleep(0.004)


def paced(rate: int, seconds: float) -> None:
    """End so many numbered spans a second; print how many, and how long their ends took in µs."""
    begun, done = time.monotonic(), 0
    took: list[int] = []
    while (now := time.monotonic() - begun) < seconds:
        for number in range(done, due := int(now * rate)):
            text = f"{number * 2_654_435_761 % 2**32:08x}"
            span = tracer.start_span(
                "paced", attributes={"chaos.number": number, "chaos.text": text}
            )
            before = time.perf_counter_ns()
            span.end()
            took.append(time.perf_counter_ns() - before)
        done = due
        time.sleep(0.01)
    took.sort()
    high = took[len(took) * 99 // 100] / 1000
    print(done, f"{took[len(took) // 2] / 1000:.0f} {high:.0f} {took[-1] / 1000:.0f}", flush=True)  # noqa: T201


def and_exit(folder: str) -> None:
    """End some spans, and the process without a word to anybody."""
    some(folder)
    os._exit(0)


def forks(folder: str) -> None:
    """Fork a child for each line of input, and print its number; children are the test's to end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    some(folder, 5)  # the parent has a spool with a sender, and goes on
    for _ in sys.stdin:
        child = os.fork()
        if not child:
            for_ever(folder)
        print(child, flush=True)  # noqa: T201 - what it is for
        some(folder, 1)


def following(folder: str) -> None:
    """End a span as the next process does that has a spool there, and stay until input ends."""
    some(folder, 1)
    sys.stdin.read()


def processes(folder: str, method: str) -> None:
    """Start processes by one of multiprocessing's methods: to their end, by `os._exit`, killed."""
    way = multiprocessing.get_context(method)
    started = [way.Process(target=target, args=(folder,)) for target in (some, and_exit, for_ever)]
    for one in started:
        one.start()
    started[0].join()
    started[1].join()
    before = len(list(Path(folder).glob("told-*")))
    assert before >= len(started) - 1
    while len(list(Path(folder).glob("told-*"))) < len(started):
        time.sleep(0.01)
    started[2].kill()
    started[2].join()


if __name__ == "__main__":
    # Whoever started the tests in the background had it ignored, for their children too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    where, way, *more = sys.argv[1:]
    match way:
        case "forks":
            forks(where)
        case "forever":
            for_ever(where)
        case "paced":
            paced(int(more[0]), float(more[1]))
        case "ticking":
            ticking(where, float(more[0]))
        case "exit":
            and_exit(where)
        case "some":
            some(where)
        case "next":
            following(where)
        case _:
            processes(where, way)
