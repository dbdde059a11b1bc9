"""10,000 events from 8 threads and 100 coroutines: every sink has each once, in order."""

from __future__ import annotations

import asyncio
import io
import json
import re
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from otel_agents import emit_event, get_emitter
from otel_agents.event_types import event_of
from otel_agents.progress_emitter import ProgressEmitter
from otel_agents.sinks.console import ConsoleSink
from otel_agents.sinks.events import EventsSink
from otel_agents.sinks.redis import RedisSink
from otel_agents.vocabulary import EVENT_PAYLOAD
from tests.sinks.conftest import server, stopped_server  # noqa: F401 - fixtures

from .conftest import by_emitter, events_in, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from otel_agents.pipeline import Pipeline
    from otel_agents.signals import Signal
    from otel_agents.testing import Captured
    from tests.sinks.conftest import Server

THREADS: Final = 8
OF_A_THREAD: Final = 625
COROUTINES: Final = 100
OF_A_COROUTINE: Final = 50
ALL: Final = THREADS * OF_A_THREAD + COROUTINES * OF_A_COROUTINE
EXPECTED: Final = {
    **{f"thread {number}": list(range(OF_A_THREAD)) for number in range(THREADS)},
    **{f"coroutine {number}": list(range(OF_A_COROUTINE)) for number in range(COROUTINES)},
}


def tell(emitter: str, number: int) -> None:
    """Tell of the event with a number of an emitter: the types take turns."""
    task = f"{emitter}/{number // 5}"
    payload: dict[str, Any] = {"task_id": task, "emitter": emitter, "n": number}
    match number % 5:
        case 0:
            emit_event("task_queued", {**payload, "feature": emitter, "est_cost": 0.5})
        case 1:
            emit_event("agent_started", {**payload, "agent": "coder"})
        case 2:
            done = {"status": "success", "duration_ms": 1, "cost_usd": 0.25}
            emit_event("agent_completed", {**payload, "agent": "coder", **done})
        case 3:
            emit_event("validation_complete", {**payload, "result": number % 2 == 0})
        case _:
            emit_event("budget_warning", {**payload, "scope": "day", "limit": 9, "spent": 8})


def tell_all() -> None:
    """Tell of all events, from threads and coroutines at once."""

    def thread(name: str) -> None:
        for number in range(OF_A_THREAD):
            tell(name, number)
            if number % 150 == 149:
                # On a busy machine a queue of 20,000 signals would overflow, as it should.
                assert get_emitter().flush(60)

    async def coroutine(name: str) -> None:
        for number in range(OF_A_COROUTINE):
            tell(name, number)
            await asyncio.sleep(0)

    async def coroutines() -> None:
        await asyncio.gather(*(coroutine(f"coroutine {number}") for number in range(COROUTINES)))

    threads = [
        threading.Thread(target=thread, args=[f"thread {number}"]) for number in range(THREADS)
    ]
    for one in threads:
        one.start()
    asyncio.run(coroutines())
    for one in threads:
        one.join()


class Client:
    """A client of the WebSocket, reading in a thread of its own."""

    def __init__(self, address: str, query: str) -> None:
        self.messages: list[dict[str, Any]] = []
        url = f"{address.replace('http', 'ws', 1)}/ws{query}"
        self._open = ExitStack()
        self._socket = self._open.enter_context(connect(url, max_queue=None))
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        # A pong says that the client has its place: what is told from here on comes.
        self._socket.send('{"type": "ping"}')
        until(lambda: self.messages)
        self.messages.clear()

    def _read(self) -> None:
        with suppress(ConnectionClosed):
            for text in self._socket:
                self.messages.append(json.loads(text))

    def close(self) -> None:
        """Leave."""
        self._open.close()
        self._thread.join()


class _Folded:
    """A sink of the program's own, as a subscriber to signals."""

    name = "folded"

    def __init__(self) -> None:
        self.payloads: list[dict[str, Any]] = []

    def write(self, signals: Sequence[Signal]) -> None:
        self.payloads += [event.payload for one in signals if (event := event_of(one)) is not None]

    def close(self) -> None:
        """Keep what there is."""


@pytest.fixture
def clients(captured: Captured) -> Iterator[Callable[[str], Client]]:
    """Serve the event stream in the program, and connect clients to it."""
    assert captured
    address = get_emitter().start_in_thread(port=0)
    assert address is not None
    opened: list[Client] = []

    def open_one(query: str) -> Client:
        opened.append(Client(address, query))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()
    get_emitter().stop_in_thread()


def shown(text: str) -> list[dict[str, Any]]:
    """Return emitter and number of each event that a console shows."""
    blocks = re.findall(r"^\[\d\d:\d\d:\d\d\] \w+\n((?:  .*\n)+)", text, re.MULTILINE)
    fields = [dict(re.findall(r"^  (\w+): (.*)$", block, re.MULTILINE)) for block in blocks]
    return [{"emitter": one["emitter"], "n": int(one["n"])} for one in fields]


def test_every_sink_has_each_event_once_and_in_order(
    captured: Captured,
    pipeline: Pipeline,
    clients: Callable[[str], Client],
    server: Server,  # noqa: F811
    tmp_path: Path,
) -> None:
    """File, console, WebSocket in both formats, Redis, a sink of one's own and the KPIs agree."""
    console, own = io.StringIO(), _Folded()
    pipeline.add(EventsSink(tmp_path / "agent-events.jsonl"))
    pipeline.add(ConsoleSink(console, events_only=True))
    pipeline.add(own)
    redis = RedisSink(server.url)
    pipeline.add(redis)
    lines, envelopes = clients("?format=events"), clients("")

    tell_all()

    assert get_emitter().flush(60)
    pipeline.remove(redis, 20)
    assert by_emitter([one["payload"] for one in events_in(tmp_path)]) == EXPECTED
    assert by_emitter(shown(console.getvalue())) == EXPECTED
    assert by_emitter(own.payloads) == EXPECTED
    until(lambda: len(lines.messages) >= ALL)
    assert by_emitter([one["payload"] for one in lines.messages]) == EXPECTED
    signals = len(captured.signals)
    until(lambda: len(envelopes.messages) >= signals)
    told = [one["payload"]["attributes"].get(EVENT_PAYLOAD.key) for one in envelopes.messages]
    assert by_emitter([one for one in told if one]) == EXPECTED
    numbers = [one["seq"] for one in envelopes.messages]
    assert numbers == list(range(numbers[0], numbers[0] + signals))
    metrics = get_emitter().get_metrics()
    assert metrics["counts"]["events"] == ALL
    assert metrics["counts"]["tasks_completed"] == ALL // 5
    days = [json.loads(server.client().get(key)) for key in server.client().keys("metrics:daily:*")]
    assert sum(day["counts"]["events"] for day in days) == ALL
    if len(days) == 1:  # midnight has not come in between
        same = set(metrics["counts"]) - {"active_seconds", "window_seconds"}
        assert {key: days[0]["counts"][key] for key in same} == {
            key: metrics["counts"][key] for key in same
        }
    assert captured.metric("otelagents.telemetry.dropped") == 0


def test_a_listener_is_told_of_all_progress_once_and_in_order(captured: Captured) -> None:
    """8 threads tell of a run each, 1,250 messages a run, through one listener."""
    told: list[dict[str, Any]] = []
    emitter = ProgressEmitter("press")
    unsubscribe = emitter.subscribe(told.append)

    def run(number: int) -> None:
        mine = ProgressEmitter("press")
        order, name = f"order {number}", f"run {number}"
        mine.emit_run_started(order, name, {"goal": "print", "max_iterations": 624})
        for iteration in range(1, 625):
            mine.emit_iteration_started(order, name, iteration)
            mine.emit_iteration_completed(order, name, iteration, True)
        mine.emit_run_completed(order, name, "succeeded", {})

    threads = [threading.Thread(target=run, args=[number]) for number in range(THREADS)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert get_emitter().flush(60)
    unsubscribe()

    for number in range(THREADS):
        mine = [one for one in told if one["run_id"] == f"run {number}"]
        middle = [(one["type"], one["iteration"]) for one in mine[1:-1]]
        assert [mine[0]["type"], mine[-1]["type"]] == ["run:started", "run:completed"]
        assert middle == [
            (f"iteration:{edge}", iteration)
            for iteration in range(1, 625)
            for edge in ("started", "completed")
        ]
    assert len(told) == THREADS * 1250
    assert captured.metric("otelagents.telemetry.dropped") == 0
