"""A sink or client that is dead, slow or wrong costs the program and the other sinks nothing."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import connect

from otel_agents import emit_event, get_emitter
from otel_agents.boundary import boundary
from otel_agents.pipeline import MAX_WAITING
from otel_agents.sinks.console import ConsoleSink
from otel_agents.sinks.events import EventsSink

from .conftest import by_emitter, events_in, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from otel_agents.pipeline import Pipeline
    from otel_agents.signals import Signal
    from otel_agents.testing import Captured

    from .conftest import Program, Started


def tell(numbers: range, note: str = "") -> None:
    """Tell of an event for each number."""
    for n in numbers:
        payload = {"scope": "day", "limit": 9, "spent": 8, "emitter": "it", "n": n, "note": note}
        emit_event("budget_warning", payload)


def written(home: Path) -> int:
    """Return how many lines the event file has; the last may be on its way."""
    path = home / "agent-events.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


class _Hanging:
    """A sink whose write returns when it is let go."""

    name = "hanging"
    linger = 0.0

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.released = threading.Event()
        self.count = 0

    def write(self, signals: Sequence[Signal]) -> None:
        self.reached.set()
        self.released.wait()
        self.count += len(signals)

    def close(self) -> None:
        """There is nothing to let go of."""


@pytest.fixture
def hanging(pipeline: Pipeline) -> Iterator[_Hanging]:
    """A sink that hangs for as long as the test goes on."""
    sink = _Hanging()
    pipeline.add(sink)
    yield sink
    sink.released.set()


def test_a_sink_that_hangs_costs_the_others_nothing(
    captured: Captured, pipeline: Pipeline, hanging: _Hanging, tmp_path: Path
) -> None:
    """The file has all; what the hanging sink cannot hold is counted, and the rest comes to it."""
    pipeline.add(EventsSink(tmp_path / "agent-events.jsonl"))
    tell(range(1))
    assert hanging.reached.wait(90)
    more = MAX_WAITING + 2000
    for first in range(1, more, 1000):
        tell(range(first, min(first + 1000, more)))
        pipeline.catch_up(20)
        until(lambda first=first: written(tmp_path) >= first)
    get_emitter().get_metrics()

    assert not pipeline.flush(0.2)
    assert by_emitter([one["payload"] for one in events_in(tmp_path)]) == {"it": list(range(more))}
    lost = captured.metric("otelagents.telemetry.dropped", sink="hanging")
    assert lost > 0
    assert captured.metric("otelagents.telemetry.dropped") == lost
    hanging.released.set()
    assert pipeline.flush(90)
    assert hanging.count + lost == more


def test_a_program_with_a_sink_that_hangs_ends(program: Program, tmp_path: Path) -> None:
    """Its exit waits for two seconds at most; what the other sinks were told is there."""
    done = program(
        """
        import threading
        from otel_agents import emit_event, runtime
        class Hanging:
            name = "hanging"
            def write(self, signals): threading.Event().wait()
            def close(self): raise RuntimeError
        runtime.get().open_events().add(Hanging())
        for n in range(500):
            payload = {"scope": "day", "limit": 9, "spent": 8, "emitter": "it", "n": n}
            emit_event("budget_warning", payload)
        print("end")
        """
    )

    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
    payloads = [one["payload"] for one in events_in(tmp_path / "logs")]
    assert by_emitter(payloads) == {"it": list(range(500))}
    assert "Traceback" not in done.stderr


def test_a_sink_that_raises_is_counted_and_the_others_have_all(
    captured: Captured,
    pipeline: Pipeline,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever it raises, its lane lives on and what it was given is counted."""
    monkeypatch.setattr(boundary, "strict", False)

    class Raising:
        name = "raising"
        error: type[BaseException] = OSError
        count = 0

        def write(self, signals: Sequence[Signal]) -> None:
            self.count += len(signals)
            raise self.error

        def close(self) -> None:
            """There is nothing to let go of."""

    raising = Raising()
    pipeline.add(raising)
    pipeline.add(EventsSink(tmp_path / "agent-events.jsonl"))
    kinds = (OSError, RecursionError, MemoryError)
    for number, kind in enumerate(kinds):
        raising.error = kind
        tell(range(number * 10, number * 10 + 10))
        assert pipeline.flush(90)

    assert raising.count == 30
    for kind in kinds:
        counted = captured.metric(
            "otelagents.telemetry.dropped", sink="raising", reason=kind.__name__
        )
        assert counted == 10
    assert by_emitter([one["payload"] for one in events_in(tmp_path)]) == {"it": list(range(30))}
    assert "raising" in caplog.text


def test_a_sink_that_cannot_be_closed_keeps_none_from_being_closed(
    program: Program, tmp_path: Path
) -> None:
    """What waits for the sinks after it is written at the end of the program."""
    done = program(
        """
        from otel_agents import emit_event, runtime
        from otel_agents.sinks.events import EventsSink
        from pathlib import Path
        class Raising:
            name = "raising"
            def write(self, signals): pass
            def close(self): raise OSError("cannot be closed")
        class Slow(EventsSink):
            linger = 60.0
        pipeline = runtime.get().open_events()
        pipeline.add(Raising())
        pipeline.add(Slow(Path("agent-events.jsonl").absolute()))
        for n in range(500):
            payload = {"scope": "day", "limit": 9, "spent": 8, "emitter": "it", "n": n}
            emit_event("budget_warning", payload)
        """
    )

    assert done.returncode == 0
    payloads = [one["payload"] for one in events_in(tmp_path)]
    assert by_emitter(payloads) == {"it": list(range(500))}
    assert "Traceback" not in done.stderr


def test_a_console_that_nobody_reads_costs_the_others_nothing(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    """A pipe that is full blocks its writer: the file and the KPIs go on."""
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w")
    console = ConsoleSink(stream, events_only=True)
    pipeline.add(console)
    pipeline.add(EventsSink(tmp_path / "agent-events.jsonl"))
    tell(range(3000), "x" * 100)
    until(lambda: written(tmp_path) == 3000)

    assert get_emitter().get_metrics()["counts"]["events"] == 3000
    assert not pipeline.flush(0.2)
    shown = b""
    while shown.count(b"budget_warning\n") < 3000:
        shown += os.read(reading, 1 << 16)
    assert pipeline.flush(90)
    pipeline.remove(console)
    os.close(reading)
    stream.close()


def test_a_console_that_is_closed_is_no_matter(program: Program, tmp_path: Path) -> None:
    """Standard error closed, or set to None, or to something that raises: the file has all."""
    done = program(
        """
        import sys
        from otel_agents import emit_event, get_emitter
        class Raising:
            def __getattr__(self, name): raise RuntimeError(name)
        for n, stream in enumerate((None, Raising(), sys.__stderr__)):
            sys.stderr = stream
            payload = {"scope": "day", "limit": 9, "spent": 8, "emitter": "it", "n": n}
            emit_event("budget_warning", payload)
            get_emitter().flush()
        sys.__stderr__.close()
        emit_event("budget_warning", payload | {"n": 3})
        print("end")
        """,
        OTEL_AGENTS_SINKS="console:events,events:",
    )

    assert done.stdout == "end\n"
    assert done.returncode == 0, done.stderr
    payloads = [one["payload"] for one in events_in(tmp_path / "logs")]
    assert by_emitter(payloads) == {"it": [0, 1, 2, 3]}


@pytest.fixture
def address(captured: Captured) -> Iterator[str]:
    """The address of the event stream, served inside the test's process."""
    assert captured
    found = get_emitter().start_in_thread(port=0)
    assert found is not None
    yield found
    get_emitter().stop_in_thread()


def _deaf(address: str) -> socket.socket:
    """Open a WebSocket that is never read; return it once the server has taken it."""
    where = urlsplit(address)
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.settimeout(90)
    deaf.connect((where.hostname, where.port))
    deaf.sendall(
        b"GET /ws?format=events HTTP/1.1\r\nHost: %b\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Version: 13\r\n\r\n" % where.netloc.encode()
    )
    said = b""
    while b"\r\n\r\n" not in said:
        said += deaf.recv(1)
    assert said.startswith(b"HTTP/1.1 101")
    return deaf


def test_clients_that_read_nothing_cost_the_others_nothing(
    captured: Captured, pipeline: Pipeline, address: str, tmp_path: Path
) -> None:
    """With twenty of them, one that reads has each of 4,000 events, and so has the file."""
    pipeline.add(EventsSink(tmp_path / "agent-events.jsonl"))
    deaf = [_deaf(address) for _ in range(20)]
    url = f"{address.replace('http', 'ws', 1)}/ws?format=events"
    messages: list[dict[str, Any]] = []
    with connect(url, max_queue=None) as reading:
        reading.send('{"type": "ping"}')
        assert json.loads(reading.recv(90))["type"] == "pong"
        tell(range(4000), "x" * 1000)
        while len(messages) < 4000:
            messages.append(json.loads(reading.recv(90)))

        assert by_emitter([one["payload"] for one in messages]) == {"it": list(range(4000))}
    assert pipeline.flush(90)
    assert len(events_in(tmp_path)) == 4000
    assert captured.metric("otelagents.telemetry.dropped") == 0
    for one in deaf:
        one.close()


def test_the_server_stops_while_clients_read_nothing(captured: Captured, address: str) -> None:
    """A client with a full buffer does not keep `stop_in_thread` from returning."""
    assert captured
    deaf = _deaf(address)
    tell(range(2000), "x" * 2000)
    stopping = threading.Thread(target=get_emitter().stop_in_thread)
    stopping.start()
    stopping.join(90)

    assert not stopping.is_alive()
    assert get_emitter().address is None
    deaf.close()


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_thread_that_cannot_be_started_is_started_later(program: Program, tmp_path: Path) -> None:
    """A process at its limit of threads tells, loses nothing, and ends."""
    done = program(
        """
        import threading
        from otel_agents import emit_event, get_emitter
        start, refused = threading.Thread.start, []
        def none_left(self):
            if len(refused) < 5:
                refused.append(self.name)
                raise RuntimeError("can't start new thread")
            start(self)
        threading.Thread.start = none_left
        for n in range(10):
            payload = {"scope": "day", "limit": 9, "spent": 8, "emitter": "it", "n": n}
            emit_event("budget_warning", payload)
        print(get_emitter().flush(90), get_emitter().get_metrics()["counts"]["events"])
        """
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == "True 10\n"
    payloads = [one["payload"] for one in events_in(tmp_path / "logs")]
    assert by_emitter(payloads) == {"it": list(range(10))}


def test_a_burst_of_a_closed_program_says_what_it_lost(
    started: Callable[..., Started], tmp_path: Path
) -> None:
    """Events told when the sinks are closed are refused quietly and counted."""
    one = started(
        """
        from otel_agents import emit_event, runtime
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        reader = InMemoryMetricReader()
        metrics.set_meter_provider(MeterProvider([reader]))
        def tell(n):
            payload = {"scope": "day", "limit": 9, "spent": 8, "emitter": "it", "n": n}
            emit_event("budget_warning", payload)
        tell(0)
        runtime.get().close()
        tell(1)
        total = sum(
            point.value
            for resource in reader.get_metrics_data().resource_metrics
            for scope in resource.scope_metrics for metric in scope.metrics
            if metric.name == "otelagents.telemetry.dropped" for point in metric.data.data_points
        )
        print(total, flush=True)
        """
    )

    assert one.says() == "1"
    assert one.end()[0] == 0
    payloads = [one["payload"] for one in events_in(tmp_path / "logs")]
    assert by_emitter(payloads) == {"it": [0]}


def test_a_stream_of_a_test_gets_colours_only_on_a_terminal(pipeline: Pipeline) -> None:
    """What a payload holds never reaches a terminal as a control sequence, with colours or not."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    plain, coloured = io.StringIO(), Terminal()
    pipeline.add(ConsoleSink(plain, events_only=True))
    pipeline.add(ConsoleSink(coloured, events_only=True))
    tell(range(1), "\x1b]0;owned\x07\x9b31m\u202e\r\n[00:00:00] forged\x1b[2J")
    assert pipeline.flush(90)

    assert "\x1b" not in plain.getvalue()
    head, *fields = coloured.getvalue().splitlines()
    assert head.startswith("\x1b[33m[")
    assert all(line.startswith("  ") and line.isprintable() for line in fields)
    assert len(fields) == 6
