"""A store that is full: a million spans of five thousand runs, with all that goes with them.

A few runs are recorded from real scopes, and told again under other ids and at other times. Half
of the runs have one trace of 200 spans, that came in four requests; the others have fifty traces
of four spans, so that lists of traces are long.
"""

from __future__ import annotations

import contextlib
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import report
from ingest_load import SPANS_A_TRACE, Template
from msgspec.structs import replace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_agents import Worker, agent, gate, iteration, phase, run, task
from otel_agents.breakers import Breaker
from otel_agents.model_call import model
from otel_agents.store import Batch, LogRecord, Point, Store
from otel_agents.store.blocks import block_of
from otel_agents.testing import capture
from otel_agents.usage import Usage
from otel_agents.vocabulary import RUN_GOAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_agents.signals import Signal
    from otel_agents.store import Block

SPANS_A_RUN: Final = 200
_A_REQUEST: Final = 50
_LOGS: Final = 20  # of a run
_SERIES: Final = 400
_WORKERS: Final = 40
_EVERY: Final = 30 * 10**9  # ns between the starts of two runs
_STEP: Final = 2 * 10**9  # ns between two signals of a run
_ID: Final = 8  # characters of an id that are written over
_RUNS_A_BATCH: Final = 100
_WORKFLOWS: Final = ("release", "research", "triage")
_AGENTS: Final = ("builder", "tester")
_SETTLE_SECONDS: Final = 900.0


@dataclass
class Filled:
    """Ids to ask for, and what the store then holds."""

    runs: list[str] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)
    long_traces: list[str] = field(default_factory=list)
    short_traces: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def _recorded(workflow: str, *, fails: bool = False) -> list[Signal]:
    """Return the signals of a run of five phases with two agents each."""
    used = Usage(input_tokens=8_120, cache_read_tokens=5_120, output_tokens=960, requests=4)
    with capture() as captured:
        with contextlib.suppress(_Red), run(workflow, goal="", max_iterations=3), iteration():
            for name in ("plan", "build", "review", "test", "deliver"):
                with phase(name):
                    _work(name, used)
                    gate(f"{name} done", passed=not fails).record()
                    if fails and name == "test":
                        raise _Red
        return captured.signals


class _Red(Exception):  # noqa: N818 - what a run that is recorded fails by
    """The build is red."""


def _work(name: str, used: Usage) -> None:
    for each in _AGENTS:
        with agent(each), model("gpt-5", provider="openai") as call:
            call.answered(used, model="gpt-5")
    if name == "build":
        with task("page", id="task0000-page", queue="builds"):
            pass


def _around() -> list[Signal]:
    """Return the signals of workers, breakers and waiting tasks."""
    with capture() as captured:
        for number in range(_WORKERS):
            worker = Worker("coder", f"worker-{number}", interval=3600)
            worker.start()
            breaker = Breaker(f"breaker-{number % 20}")
            for _ in range(10 if number == 0 else 0):
                breaker.failure(ConnectionError("the provider is down"))
            task("page", id=f"waiting-{number}", queue="builds").record()
        return captured.signals


def _told_again(signals: list[Signal], number: int, begun: int, trace_id: str) -> list[Signal]:
    """Return signals under other ids and at other times."""
    word = f"{number:0{_ID}x}"

    def other(text: str | None) -> str | None:
        return word + text[_ID:] if text else text

    found = []
    for index, one in enumerate(signals):
        ids = replace(
            one.ids,
            run_id=other(one.ids.run_id),
            agent_id=other(one.ids.agent_id),
            parent_agent_id=other(one.ids.parent_agent_id),
            task_id=other(one.ids.task_id),
            correlation_id=other(one.ids.correlation_id),
        )
        attributes = one.attributes
        if one.kind == "run" and one.edge == "start":
            goal = {RUN_GOAL.key: f"Ship the billing page of order {number}"}
            attributes = {**attributes, **goal}
        found.append(
            replace(
                one,
                id=f"{number:x}.{one.id}",
                scope_id=other(one.scope_id) or "",
                parent_id=other(one.parent_id) or "",
                ids=ids,
                time=begun + index * _STEP,
                trace_id=trace_id,
                attributes=attributes,
            )
        )
    return found


class _Spans:
    """Makes the blocks of a run's spans, some in one trace and some in many."""

    def __init__(self) -> None:
        first = Template(_A_REQUEST, _A_REQUEST, seed=1)
        rest = [Template(_A_REQUEST, _A_REQUEST, seed=2 + n, parent=first.first) for n in range(3)]
        self._one = [first, *rest]
        self._many = [Template(_A_REQUEST, SPANS_A_TRACE, seed=9 + n) for n in range(4)]
        self._draw = random.Random(7)  # noqa: S311 - ids of a benchmark

    def blocks(self, number: int, run_id: str, begun: int) -> tuple[list[Block], list[str]]:
        """Return the blocks of a run and the traces that its spans are in."""
        if number % 2 == 0:
            trace = self._draw.randbytes(16)
            return [_block(one, run_id, trace, begun) for one in self._one], [trace.hex()]
        found, traces = [], []
        for one in self._many:
            ids = self._draw.randbytes(16 * -(-_A_REQUEST // SPANS_A_TRACE))
            found.append(_block(one, run_id, ids, begun))
            traces += [ids[at : at + 16].hex() for at in range(0, len(ids), 16)]
        return found, traces


def _block(template: Template, run_id: str, trace_ids: bytes, begun: int) -> Block:
    body = bytes(template.renew(run=run_id, trace_ids=trace_ids, now=begun))
    return block_of(ExportTraceServiceRequest.FromString(body), body)[0]


def _logs(number: int, signals: list[Signal], trace_id: str) -> Iterator[LogRecord]:
    for index, one in enumerate(signals[-_LOGS:]):
        yield LogRecord(
            time=one.time + 1, severity=17 if index == 3 else 9, severity_text="INFO",
            body=f"step {index} of order {number}: the agent wrote 12 files",
            service="release-agents", run_id=one.ids.run_id or "", phase=one.ids.phase or "",
            agent_id=one.ids.agent_id or "", trace_id=trace_id, span_id=one.span_id,
            attributes={"code.function.name": "write", "files": 12},
        )  # fmt: skip


def _points(now: int) -> list[Point]:
    return [
        Point(
            name="otelagents.tokens", kind="sum", time=now, unit="{token}", value=float(number),
            service="release-agents", attributes={"agent": f"agent-{number}", "type": "input"},
        )
        for number in range(_SERIES)
    ]  # fmt: skip


def fill(url: str, spans: int) -> Filled:
    """Fill a store by its own `write`, in big batches, and wait until all is indexed."""
    begun = time.monotonic()
    runs = max(10, spans // SPANS_A_RUN)
    recorded = [_recorded(name, fails=fails) for name in _WORKFLOWS for fails in (False, True)]
    now = time.time_ns()
    store = Store(url, durable=False)
    filled = Filled()
    makes = _Spans()
    batch = Batch(signals=_around(), points=_points(now))
    for number in range(runs):
        # Of ten runs eight succeed; the last of all are under way.
        script = recorded[number % 3 * 2 + (number % 10 in {3, 7})]
        started = now - (runs - number) * _EVERY - 120 * 10**9
        if number >= runs - 8:
            script = script[: len(script) // 2]
        run_id = f"{number:0{_ID}x}{(script[0].ids.run_id or '')[_ID:]}"
        blocks, traces = makes.blocks(number, run_id, started)
        signals = _told_again(script, number, started, traces[0])
        batch.blocks += blocks
        batch.signals += signals
        batch.logs += _logs(number, signals, traces[0])
        filled.runs.append(run_id)
        filled.agents += {one.ids.agent_id: None for one in signals if one.ids.agent_id}
        filled.tasks += {one.ids.task_id: None for one in signals if one.ids.task_id}
        (filled.short_traces if number % 2 else filled.long_traces).extend(traces)
        if number % _RUNS_A_BATCH == _RUNS_A_BATCH - 1 or number == runs - 1:
            report.progress(f"filling the store: {number + 1} of {runs} runs")
            store.write(batch)
            batch = Batch()
    store.settle(_SETTLE_SECONDS)
    tables = "runs", "signals", "agents", "telemetry", "traces", "blocks", "logs", "tasks"
    for table in (*tables, "ai_runtime_events"):
        row = store._here.row(f"SELECT COUNT(*) AS number FROM {table}")  # noqa: S608
        filled.counts[table] = row["number"]
    total = store._here.row("SELECT SUM(spans) AS number FROM blocks")
    filled.counts["spans"] = int(total["number"])
    store.close(_SETTLE_SECONDS)
    filled.seconds = time.monotonic() - begun
    report.progress("")
    return filled
