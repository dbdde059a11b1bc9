"""Requests of agents' spans, made nearly for free, and the process that sends them.

    python benchmarks/ingest_load.py PORT SPANS CONNECTIONS SECONDS [--core 1]

A request is a protobuf body that was serialised once; for each sending its ids and times are
written over in place. So every request is another one, as a store sees it that drops repeats, and
making it costs some 0.3 µs a span. Each connection sends a request and waits for its answer
before the next one. What was acknowledged is printed as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import statistics
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otel_agents.vocabulary import RUN_ID

SPANS_A_TRACE: Final = 4
_MODELS: Final = ("gpt-5", "gpt-5-mini", "claude-sonnet-4-5", "gemini-2.5-pro")
_AGENTS: Final = ("planner", "builder", "reviewer", "tester", "documenter")
_PHASES: Final = ("plan", "build", "review", "test", "deliver")
# Of a span's start and end in protobuf: two fixed64 with the second one's tag between them.
_TIMES: Final = struct.Struct("<QBQ")
_END_TAG: Final = 0x41
_PATIENCE_SECONDS: Final = 60.0


def _attributes(span: Span, values: dict[str, str | int]) -> None:
    for key, value in values.items():
        given = (
            AnyValue(string_value=value) if isinstance(value, str) else AnyValue(int_value=value)
        )
        span.attributes.add(key=key, value=given)


def _level(index: int) -> int:
    """Return how deep a span is: 0 a workflow, 1 a phase, 2 an agent, 3 a model's call."""
    return 0 if index == 0 else 1 if index % 16 == 1 else 2 if index % 4 == 2 else 3


def _fill(span: Span, level: int, draw: random.Random) -> None:
    model, agent, phase = draw.choice(_MODELS), draw.choice(_AGENTS), draw.choice(_PHASES)
    said: dict[str, str | int] = {}
    if level == 0:
        span.name = "invoke_workflow release"
        said = {"gen_ai.workflow.name": "release", "otelagents.iteration.max": 3}
    elif level == 1:
        span.name = f"phase {phase}"
        said = {"otelagents.phase.name": phase}
    elif level == 2:
        span.name = f"invoke_agent {agent}"
        said = {
            "gen_ai.agent.name": agent,
            "otelagents.agent.run.id": f"{draw.getrandbits(128):032x}",
            "otelagents.usage.total.input_tokens": draw.randrange(500, 20_000),
        }
    else:
        span.name = f"chat {model}"
        span.kind = Span.SPAN_KIND_CLIENT
        said = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": model,
            "gen_ai.response.id": f"chatcmpl-{draw.getrandbits(96):024x}",
            "gen_ai.usage.input_tokens": draw.randrange(500, 20_000),
            "gen_ai.usage.output_tokens": draw.randrange(20, 2_000),
        }
    common: dict[str, str | int] = {
        "otelagents.workflow.name": "release",
        "otelagents.iteration.number": 1,
        "otelagents.result": "success",
    }
    _attributes(span, {**said, **common})
    if draw.random() < 0.01:  # one in a hundred fails
        span.status.code = Status.STATUS_CODE_ERROR
        span.status.message = "the provider did not answer in time"


class Template:
    """A request whose ids and times can be written over, for as many requests as one likes.

    Args:
        spans: How many spans it holds.
        each: How many of them are of one trace; the first is the root, unless a parent is given.
        seed: What the values are drawn from.
        parent: The span above all of these, in another request.

    """

    def __init__(self, spans: int, each: int, *, seed: int = 0, parent: bytes = b"") -> None:
        draw = self._draw = random.Random(seed)  # noqa: S311 - ids of a benchmark
        message = ExportTraceServiceRequest()
        resource = message.resource_spans.add()
        for key, value in (("service.name", "release-agents"), ("service.version", "1.4.2")):
            resource.resource.attributes.add(key=key).value.string_value = value
        scope = resource.scope_spans.add()
        scope.scope.name = "otel_agents"
        self.spans, self._each = spans, each
        self._shifts: list[tuple[int, int]] = []
        ids, runs, times = [], [], []
        above: dict[int, bytes] = {}
        for number in range(spans):
            index = number % each
            if index == 0:
                trace_id = draw.randbytes(16)
                above = dict.fromkeys((0, 1, 2), parent)
            span = scope.spans.add(trace_id=trace_id, span_id=draw.randbytes(8))
            span.kind = Span.SPAN_KIND_INTERNAL
            level = _level(index + bool(parent))
            span.parent_span_id = above[max(0, level - 1)]
            above.update(dict.fromkeys(range(level, 3), span.span_id))
            begun, took = index * 20_000_000, draw.randrange(1_000_000, 900_000_000)
            self._shifts.append((begun, begun + took))
            mark, run = draw.getrandbits(62), draw.randbytes(18).hex()
            span.start_time_unix_nano, span.end_time_unix_nano = mark, mark + 1
            _attributes(span, {RUN_ID.key: run})
            _fill(span, level, draw)
            ids.append(trace_id)
            runs.append(run.encode())
            times.append(_TIMES.pack(mark, _END_TAG, mark + 1))
        self.first = scope.spans[0].span_id
        self.body = bytearray(message.SerializeToString())
        self._ids, self._runs, self._times = (
            _places(self.body, wanted) for wanted in (ids, runs, times)
        )

    def renew(self, *, run: str = "", trace_ids: bytes = b"", now: int | None = None) -> bytearray:
        """Write new ids and times over those of the request before, and return the body.

        Args:
            run: The run's id, of 36 characters; by default a new one.
            trace_ids: The ids of the traces, end to end; by default new ones.
            now: When the spans began, in nanoseconds since the epoch; by default just now.

        """
        body, draw, each = self.body, self._draw, self._each
        fresh = trace_ids or draw.randbytes(16 * -(-self.spans // each))
        place = 0
        for index, at in enumerate(self._ids):
            if index and not index % each:
                place += 16
            body[at : at + 16] = fresh[place : place + 16]
        text = (run or draw.randbytes(18).hex()).encode()
        for at in self._runs:
            body[at : at + 36] = text
        moment = time.time_ns() if now is None else now
        pack = _TIMES.pack_into
        for at, (begun, ended) in zip(self._times, self._shifts, strict=True):
            pack(body, at, moment + begun, _END_TAG, moment + ended)
        return body


def _places(body: bytearray, wanted: list[bytes]) -> list[int]:
    """Return where texts stand that follow each other."""
    found, at = [], 0
    for one in wanted:
        at = body.index(one, at)
        found.append(at)
        at += len(one)
    return found


@dataclass
class Answers:
    """What one connection was answered; `seconds` are those that acknowledged requests took."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    bytes: int = 0
    broken: str = ""


class _Connection(threading.Thread):
    """Sends requests one after the other over one connection, until a moment."""

    def __init__(
        self, port: int, template: Template, begin: threading.Barrier, span: float
    ) -> None:
        super().__init__(daemon=True)
        self._port, self._template, self._begin, self._span = port, template, begin, span
        self.answers = Answers()
        self.ended = 0.0

    def run(self) -> None:
        head = (
            f"POST /v1/traces HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n"
            "Content-Type: application/x-protobuf\r\n"
            f"Content-Length: {len(self._template.body)}\r\n\r\n"
        ).encode()
        with socket.create_connection(("127.0.0.1", self._port), _PATIENCE_SECONDS) as opened:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._begin.wait()
            until = time.monotonic() + self._span
            try:
                while (now := time.monotonic()) < until:
                    opened.sendall(head + self._template.renew())
                    status, retry = _answer(opened)
                    self.answers.statuses[status] += 1
                    if status == 200:
                        self.answers.seconds.append(time.monotonic() - now)
                        self.answers.bytes += len(self._template.body)
                    else:
                        time.sleep(min(retry, max(0.0, until - time.monotonic())))
            except OSError as error:
                self.answers.broken = repr(error)
        self.ended = time.monotonic()


def _answer(opened: socket.socket) -> tuple[int, float]:
    """Read an answer; return its status and how many seconds it asks to wait."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(opened)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines[1:])
    }
    left = int(fields.get("content-length", "0")) - len(body)
    while left > 0:
        left -= len(_more(opened))
    return int(lines[0].split(" ")[1]), float(fields.get("retry-after", "0.1"))


def _more(opened: socket.socket) -> bytes:
    found = opened.recv(65_536)
    if not found:
        message = "the server closed the connection"
        raise ConnectionError(message)
    return found


def send(port: int, spans: int, connections: int, seconds: float) -> dict[str, Any]:
    """Send until the time is up, wait for the last answers, and return what was counted."""
    begin = threading.Barrier(connections + 1)
    each = [
        _Connection(port, Template(spans, SPANS_A_TRACE, seed=seed), begin, seconds)
        for seed in [random.SystemRandom().getrandbits(64) for _ in range(connections)]
    ]
    for one in each:
        one.start()
    begin.wait()
    begun, used = time.monotonic(), time.process_time()
    for one in each:
        one.join()
    took = max(one.ended for one in each) - begun
    statuses: Counter[int] = sum((one.answers.statuses for one in each), Counter())
    waits = sorted(wait for one in each for wait in one.answers.seconds)
    return {
        "seconds": took,
        "requests": statuses[200],
        "spans": statuses[200] * spans,
        "bytes": sum(one.answers.bytes for one in each),
        "refused": {str(status): count for status, count in statuses.items() if status != 200},
        "broken": [one.answers.broken for one in each if one.answers.broken],
        "p50_ms": statistics.median(waits) * 1e3 if waits else None,
        "p99_ms": waits[int(len(waits) * 0.99)] * 1e3 if waits else None,
        "busy": (time.process_time() - used) / took,
    }


def main() -> None:
    """Send, and print what was acknowledged as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("port", type=int)
    parser.add_argument("spans", type=int)
    parser.add_argument("connections", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--core", type=int, help="the only core that this may run on")
    given = parser.parse_args()
    if given.core is not None:
        os.sched_setaffinity(0, {given.core})
    print(json.dumps(send(given.port, given.spans, given.connections, given.seconds)))


if __name__ == "__main__":
    main()
