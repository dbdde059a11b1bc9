"""The emitter of a program: what its first event opens, and the server inside it."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from websockets.sync.client import connect

import otel_agents as oa
from otel_agents import configure, runtime
from otel_agents.emitter import Emitter
from otel_agents.sinks.sqlite import StoreSink
from otel_agents.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from websockets.sync.client import ClientConnection

QUEUED = {"task_id": "t-1", "feature": "checkout", "est_cost": 0.4}
_SECONDS = 120.0


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty working directory the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OTEL_AGENTS_HOME")
    return tmp_path


@pytest.fixture
def emitter(home: Path) -> Iterator[Emitter]:
    """Give an emitter of its own, with the runtime that the settings make."""
    made = Emitter()
    rt = configure.build()
    before = runtime.put(rt)
    yield made
    made.stop_in_thread()
    rt.close()
    runtime.put(before)
    assert home.is_dir()


@contextmanager
def listening(address: str | None, query: str = "") -> Iterator[ClientConnection]:
    assert address is not None
    with connect(f"ws{address.removeprefix('http')}/ws{query}", close_timeout=1) as socket_:
        yield socket_


def received(client: ClientConnection, count: int) -> list[dict[str, Any]]:
    return [json.loads(client.recv(_SECONDS)) for _ in range(count)]


def asked(address: str | None, path: str) -> Any:
    with urllib.request.urlopen(f"{address}{path}", timeout=_SECONDS) as answer:  # noqa: S310 - ours
        return json.loads(answer.read())["data"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# ---------------------------------------------------------------------- the sinks of an event


def test_the_first_event_opens_the_file_and_the_console(
    emitter: Emitter, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Row D2's users set nothing up; before the first event nothing is made."""
    assert not (home / "logs").exists()

    emitter.emit("task_queued", QUEUED)

    assert emitter.flush()
    (line,) = lines(home / "logs" / "agent-events.jsonl")
    assert list(line) == ["event_type", "timestamp", "payload"]
    assert (line["event_type"], line["payload"]) == ("task_queued", QUEUED)
    head, *fields = capsys.readouterr().err.splitlines()
    assert head.endswith("] task_queued")
    assert fields == ["  task_id: t-1", "  feature: checkout", "  est_cost: 0.4"]


@pytest.mark.parametrize(
    ("sinks", "file", "console"),
    [
        ("none", None, False),
        ("events:mine.jsonl", "mine.jsonl", False),
        ("console:", "logs/agent-events.jsonl", True),
    ],
)
def test_the_settings_say_otherwise(
    emitter: Emitter,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    sinks: str,
    file: str | None,
    console: bool,
) -> None:
    """Where sinks are named, the console is one only if it is; the file stands where it is put."""
    monkeypatch.setenv("OTEL_AGENTS_SINKS", sinks)
    runtime.put(configure.build())

    emitter.emit("task_queued", QUEUED)

    assert emitter.flush()
    assert [str(path.relative_to(home)) for path in home.rglob("*.jsonl")] == [
        *([file] if file else [])
    ]
    assert ("task_queued" in capsys.readouterr().err) is console


def test_what_would_steer_a_terminal_is_shown_instead(
    emitter: Emitter, capsys: pytest.CaptureFixture[str]
) -> None:
    """An event is as many lines as it has fields, whatever stands in them."""
    emitter.emit("task_queued", {**QUEUED, "feature": "a\x1b[2Jb\n[00:00:00] forged\u202e"})

    assert emitter.flush()
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 4


def test_events_of_scopes_stand_in_the_file_too(emitter: Emitter, home: Path) -> None:
    """Once the file is open, an agent's scope is told of in the same words."""
    emitter.emit("task_queued", QUEUED)
    with oa.task("build", id="t-1"), oa.agent("coder"):
        pass

    assert emitter.flush()
    found = lines(home / "logs" / "agent-events.jsonl")
    assert [line["event_type"] for line in found] == [
        "task_queued", "agent_started", "agent_completed",
    ]  # fmt: skip
    assert found[2]["payload"] | {"duration_ms": 0} == {
        "agent": "coder", "task_id": "t-1", "status": "success", "duration_ms": 0, "cost_usd": 0.0,
    }  # fmt: skip


# ---------------------------------------------------------------------- the server inside


def test_a_client_is_sent_what_the_program_tells(emitter: Emitter) -> None:
    """In the words of row D2, as it happens, with no workspace and nothing set up."""
    address = emitter.start_in_thread(port=0)

    with listening(address, "?format=events") as client:
        emitter.emit("task_queued", QUEUED)
        (found,) = received(client, 1)

    assert (found["event_type"], found["payload"]) == ("task_queued", QUEUED)
    assert emitter.address == address


def test_it_starts_and_stops_in_a_loop_without_blocking_it(emitter: Emitter) -> None:
    """`await start()`, twice, `await stop()`, twice; afterwards nothing listens."""

    async def main() -> str | None:
        address = await emitter.start(port=0)
        assert await emitter.start(port=0) == address
        emitter.emit("task_queued", QUEUED)
        await emitter.stop()
        await emitter.stop()
        return address

    address = asyncio.run(main())

    assert address is not None
    assert emitter.address is None
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1])), 1)


def test_with_a_workspace_its_database_is_the_servers(emitter: Emitter, home: Path) -> None:
    """What was told before, during and after is in one store, each once."""
    workspace = Workspace(home / ".otel-agents")
    workspace.path.mkdir()
    rt = configure.build()
    runtime.put(rt)
    told: list[str] = []
    for number in range(3):
        emitter.emit("validation_complete", {"task_id": f"t-{number}", "result": "passed"})
        assert emitter.flush()
        if number == 0:
            address = emitter.start_in_thread(port=0)
            with listening(address, "?since=0&format=events") as client:
                told += [one["payload"]["task_id"] for one in received(client, 1)]
        if number == 1:
            with listening(address, "?since=0&format=events") as client:
                told += [one["payload"]["task_id"] for one in received(client, 2)]
            emitter.stop_in_thread()
            assert [type(sink) for sink in rt.require_pipeline().sinks].count(StoreSink) == 1
    rt.close()
    told += [
        row[0]
        for row in _rows(workspace, "SELECT body FROM signals WHERE type LIKE '%validation%'")
    ]

    assert told[:3] == ["t-0", "t-0", "t-1"]
    assert len(told) == 6


def _rows(workspace: Workspace, question: str) -> list[tuple[Any, ...]]:
    import sqlite3

    with closing(sqlite3.connect(workspace.database)) as database:
        return database.execute(question).fetchall()


def test_a_second_program_sends_its_events_to_the_first_ones_server(
    emitter: Emitter, home: Path
) -> None:
    """Its port is taken by one of ours, so its events show up there."""
    address = emitter.start_in_thread(port=0)
    assert address is not None
    program = (
        "import sys, otel_agents as oa\n"
        "print(oa.get_emitter().start_in_thread(port=int(sys.argv[1])))\n"
        "oa.emit_event('validation_complete', {'task_id': 'theirs', 'result': True})\n"
    )

    with listening(address, "?format=events") as client:
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-c", program, address.rsplit(":", 1)[1]],
            cwd=home, env={**os.environ, "OTEL_AGENTS_SINKS": "none"},
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        (found,) = received(client, 1)

    assert done.stdout.strip() == address
    assert found["payload"] == {"task_id": "theirs", "result": True}


def test_a_port_that_something_else_has_is_said_and_the_program_goes_on(
    emitter: Emitter, caplog: pytest.LogCaptureFixture
) -> None:
    """One sentence in the log, None for the address, and events go where they went before."""
    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    thread = threading.Thread(target=other.serve_forever)
    thread.start()
    try:
        address = emitter.start_in_thread(port=other.server_address[1])
    finally:
        other.shutdown()
        other.server_close()
        thread.join()

    emitter.emit("task_queued", QUEUED)
    assert address is None
    assert emitter.flush()
    said = (
        f"otel-agents: the event stream is not served: Port {other.server_address[1]} is taken: "
        "end what listens there, or choose another with --port (0 for a free one)."
    )
    messages = [record.getMessage() for record in caplog.records]
    assert [message for message in messages if "stream" in message] == [said]


def test_an_address_that_others_reach_is_refused_without_a_token(
    emitter: Emitter, caplog: pytest.LogCaptureFixture
) -> None:
    """As `otel-agents serve` refuses it."""
    assert emitter.start_in_thread("0.0.0.0", 0) is None  # noqa: S104 - that is refused

    assert "OTEL_AGENTS_TOKEN" in caplog.text


def test_the_server_inside_counts_as_the_program_does(emitter: Emitter) -> None:
    """`get_metrics` and the API of the server inside answer alike."""
    address = emitter.start_in_thread(port=0)
    emitter.emit("task_queued", QUEUED)
    emitter.emit("agent_started", {"agent": "coder", "task_id": "t-1"})
    emitter.emit(
        "agent_completed",
        {"agent": "coder", "task_id": "t-1", "status": "approved", "duration_ms": 5,
         "cost_usd": 0.5},
    )  # fmt: skip
    emitter.emit("validation_complete", {"task_id": "t-1", "result": "passed"})
    assert emitter.flush()

    here = emitter.get_metrics()
    deadline = time.monotonic() + _SECONDS
    there: dict[str, Any] = {}
    while there != here and time.monotonic() < deadline:  # a busy server answers with what it had
        found = asked(address, "/api/kpis")
        there = {**found["kpis"], "counts": found["counts"]}
    assert there == here
    assert here["cost_per_feature"] == 0.5


def test_a_program_that_leaves_its_server_running_ends(home: Path) -> None:
    """The last events are written before the process ends, and it ends by itself."""
    program = (
        "import otel_agents as oa\n"
        "oa.get_emitter().start_in_thread(port=0)\n"
        "oa.emit_event('validation_complete', {'task_id': 'last', 'result': True})\n"
    )

    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], cwd=home, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = lines(home / "logs" / "agent-events.jsonl")
    assert line["payload"] == {"task_id": "last", "result": True}
