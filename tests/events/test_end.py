"""What arrives when a process ends, however it ends, and when it forks in the middle."""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from otel_agents.event_types import event_of
from otel_agents.signals import decode_lines
from tests.patient import PATIENT
from tests.sinks.conftest import server, stopped_server  # noqa: F401 - fixtures

from .conftest import by_emitter, events_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sinks.conftest import Server

    from .conftest import Program, Started

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks and signals of POSIX")

_ALL: Final = {"it": list(range(300))}
# Every sink at once, the in-program server's store among them.
_TELL: Final = f"""
    import os, sys, threading
    from otel_agents import emit_event, get_emitter
    {PATIENT}

    def tell(first, last, emitter="it"):
        for n in range(first, last):
            payload = {{"scope": "day", "limit": 9, "spent": 8, "emitter": emitter, "n": n}}
            emit_event("budget_warning", payload)
"""


@pytest.fixture
def everywhere(server: Server, tmp_path: Path) -> dict[str, str]:  # noqa: F811
    """Settings by which a program tells file, console, signals, store and Redis."""
    workspace = tmp_path / ".otel-agents"
    workspace.mkdir()
    sinks = ("events:", "console:events", "jsonl:", "sqlite:", server.url)
    return {"OTEL_AGENTS_HOME": str(workspace), "OTEL_AGENTS_SINKS": ",".join(sinks)}


def arrived(home: Path, errors: str, server: Server) -> dict[str, list[int]]:  # noqa: F811
    """Return the numbers that each sink has, of the emitter `it`; of Redis, as many as it has."""

    def numbers(payloads: list[dict[str, Any]]) -> list[int]:
        return by_emitter(payloads).get("it", [])

    workspace = home / ".otel-agents"
    signals = [
        signal
        for path in [*workspace.glob("signals-*.jsonl"), workspace / "signals.jsonl"]
        for signal in decode_lines(path.read_bytes().splitlines())
    ]
    told = [event.payload for one in signals if (event := event_of(one)) is not None]
    shown = [int(line.removeprefix("  n: ")) for line in errors.splitlines() if "  n: " in line]
    redis = server.client()
    days = [json.loads(redis.get(key))["counts"]["events"] for key in redis.keys("metrics:daily:*")]
    return {
        "file": numbers([one["payload"] for one in events_in(home / "logs")]),
        "console": shown,
        "signals": numbers(told),
        "store": stored(workspace / "otel-agents.db"),
        "redis": list(range(sum(days))),
    }


def stored(path: Path) -> list[int]:
    """Return the numbers of the events that a store has, of the emitter `it`."""
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT body FROM signals ORDER BY seq").fetchall()
    database.close()
    signals = decode_lines(body.encode() if isinstance(body, str) else body for (body,) in rows)
    told = [event.payload for one in signals if (event := event_of(one)) is not None]
    return by_emitter(told).get("it", [])


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("", 0),
        ("raise ValueError('of the program')", 1),
        ("get_emitter().flush(90); os._exit(4)", 4),
        ("get_emitter().flush(90); os.kill(os.getpid(), 15)", -signal.SIGTERM),
    ],
    ids=["end", "error", "_exit", "SIGTERM"],
)
def test_all_sinks_have_all_events_at_the_end(
    program: Program,
    everywhere: dict[str, str],
    server: Server,  # noqa: F811
    tmp_path: Path,
    end: str,
    code: int,
) -> None:
    """With Python's own end they have what was told; where there is none, what was flushed."""
    done = program(f"{_TELL}\n    tell(0, 300)\n    {end}\n", **everywhere)

    assert done.returncode == code
    found = arrived(tmp_path, done.stderr, server)
    if "flush" in end:
        # Redis is written to after 100 events, every five seconds and at the end.
        del found["redis"]
    assert found == dict.fromkeys(found, _ALL["it"])


def test_without_a_flush_an_end_without_warning_costs_the_last_moment_only(
    program: Program, tmp_path: Path
) -> None:
    """`os._exit` after a flush and 300 events more: the first part is whole, of the rest a part."""
    done = program(
        f"""{_TELL}
    tell(0, 300)
    get_emitter().flush(90)
    tell(300, 600)
    os._exit(0)
    """
    )

    assert done.returncode == 0
    found = by_emitter([one["payload"] for one in events_in(tmp_path / "logs")])["it"]
    assert found[:300] == _ALL["it"]
    assert found == list(range(len(found)))


def test_the_server_in_a_program_has_stored_all_at_its_end(
    program: Program, tmp_path: Path
) -> None:
    """A program that serves its events and ends leaves all of them in its workspace's store."""
    home = tmp_path / ".otel-agents"
    home.mkdir()
    done = program(
        f"{_TELL}\n    print(get_emitter().start_in_thread(port=0))\n    tell(0, 300)",
        OTEL_AGENTS_HOME=str(home),
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("http://127.0.0.1:")
    assert stored(home / "otel-agents.db") == _ALL["it"]


def test_a_server_that_is_started_and_stopped_again_and_again_stores_each_event_once(
    program: Program, tmp_path: Path
) -> None:
    """While events come: what is told between two servers goes to the store by its sink."""
    home = tmp_path / ".otel-agents"
    home.mkdir()
    done = program(
        f"""{_TELL}
    telling = threading.Thread(target=tell, args=(0, 300))
    telling.start()
    for _ in range(3):
        assert get_emitter().start_in_thread(port=0)
        get_emitter().stop_in_thread()
    telling.join()
    """,
        OTEL_AGENTS_HOME=str(home),
        OTEL_AGENTS_SINKS="events:,sqlite:",
    )

    assert done.returncode == 0, done.stderr
    assert by_emitter([one["payload"] for one in events_in(tmp_path / "logs")]) == _ALL
    assert stored(home / "otel-agents.db") == _ALL["it"]


# ---------------------------------------------------------------------- forks


@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit(0)"])
def test_parent_and_child_tell_each_event_once(program: Program, tmp_path: Path, end: str) -> None:
    """Forked in the middle of a burst: what waited is the parent's, and each has its own KPIs."""
    done = program(
        f"""{_TELL}
    tell(0, 500, "parent")
    child = os.fork()
    if not child:
        tell(0, 500, "child")
        get_emitter().flush(90)
        counts = get_emitter().get_metrics()["counts"]
        print("child", counts["events"], flush=True)
        {end}
    tell(500, 1000, "parent")
    _, status = os.waitpid(child, 0)
    print("parent", get_emitter().get_metrics()["counts"]["events"], status)
    """
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "parent 1000 0"
    numbers = by_emitter([one["payload"] for one in events_in(tmp_path / "logs")])
    assert numbers == {"parent": list(range(1000)), "child": list(range(500))}
    assert done.stdout.splitlines()[0] == "child 500"


def test_forks_under_load_do_not_hang_and_each_event_is_there_once(
    program: Program, tmp_path: Path
) -> None:
    """Ten children, each forked while threads of the parent are telling."""
    done = program(
        f"""{_TELL}
    import faulthandler
    def telling(name):
        n = 0
        while not over.is_set():
            tell(n, n + 1, name)
            n += 1
            over.wait(0.0005)
        told[name] = n

    over, told = threading.Event(), {{}}
    threads = [threading.Thread(target=telling, args=(f"thread {{k}}",)) for k in range(2)]
    for one in threads:
        one.start()
    children = []
    for number in range(10):
        child = os.fork()
        if not child:
            faulthandler.dump_traceback_later(100, exit=True)  # says where it hangs
            tell(0, 50, f"child {{number}}")
            flushed = get_emitter().flush(90)
            get_emitter().get_metrics()
            os._exit(0 if flushed else 1)
        children.append(child)
        tell(number, number + 1, "main")
    statuses = [os.waitpid(child, 0)[1] for child in children]
    over.set()
    for one in threads:
        one.join()
    print(statuses, flush=True)
    import json
    print(json.dumps(told))
    """
    )

    assert done.returncode == 0, done.stderr
    statuses, told = map(json.loads, done.stdout.splitlines())
    assert statuses == [0] * 10, done.stderr
    expected = {name: list(range(number)) for name, number in told.items()}
    expected |= {f"child {number}": list(range(50)) for number in range(10)}
    expected["main"] = list(range(10))
    assert by_emitter([one["payload"] for one in events_in(tmp_path / "logs")]) == expected


def test_a_child_forked_while_the_kpis_are_counted_can_ask_for_its_own(program: Program) -> None:
    """A lock that a thread of the parent held is not held for ever in the child."""
    done = program(
        f"""{_TELL}
    import signal
    from otel_agents import runtime
    from otel_agents.state.kpis import Kpis
    tell(0, 10)
    get_emitter().get_metrics()
    inside, go_on, apply = threading.Event(), threading.Event(), Kpis.apply
    def slow(self, event):
        inside.set()
        go_on.wait()
        apply(self, event)
    Kpis.apply = slow
    tell(10, 11)
    inside.wait()
    child = os.fork()
    if not child:
        signal.alarm(100)
        Kpis.apply = apply
        tell(0, 5, "child")
        print(get_emitter().get_metrics()["counts"]["events"], flush=True)
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
    go_on.set()
    print(get_emitter().get_metrics()["counts"]["events"], flush=True)
    """
    )

    assert done.stdout.splitlines() == ["5", "0", "11"], done.stderr


def test_a_child_of_a_program_that_serves_serves_nothing(
    started: Callable[..., Started], tmp_path: Path
) -> None:
    """Its events are in the file; the server stays the parent's, also when the child ends."""
    home = tmp_path / ".otel-agents"
    home.mkdir()
    one = started(
        f"""{_TELL}
    from urllib.request import urlopen
    address = get_emitter().start_in_thread(port=0)
    tell(0, 10)
    child = os.fork()
    if not child:
        tell(0, 10, "child")
        print(get_emitter().address, flush=True)
        sys.exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
    print(urlopen(address + "/healthz").status, flush=True)
    """,
        OTEL_AGENTS_HOME=str(home),
    )

    assert [one.says() for _ in range(3)] == ["None", "0", "200"]
    code, errors = one.end()
    assert code == 0, errors
    numbers = by_emitter([one["payload"] for one in events_in(tmp_path / "logs")])
    assert numbers == {"it": list(range(10)), "child": list(range(10))}
