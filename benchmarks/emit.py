"""What it costs a program to tell of an event, and when those who follow it have it.

    python benchmarks/emit.py [--quick] [--only none,all,structlog] [--json FILE]

Each way to tell has a process of its own. They take turns, block by block, so that a drift of the
machine hits all alike. Each call is timed in the thread that makes it; what is left to be done is
done before the next block begins, and counts as CPU only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import machine
import report
from hot_path import Sink

_HERE: Final = Path(__file__).parent
_ALL: Final = "console+file+store+redis+otlp+server"
_WAYS: Final = {
    "": "no sink",
    "console": "console (/dev/null)",
    "file": "event file",
    "store": "store (SQLite)",
    "server": "server in the program, 1 client",
    "redis": "Redis",
    "otlp": "OTLP (spans, log records)",
    _ALL: "all of these",
    "logging": "logging to a FileHandler",
    "structlog": "structlog, JSON to a file",
}
_PEER: Final = "structlog"
_BLOCKS: Final = {  # events in a block
    "burst": ("1 thread, burst", 1000),
    "paced": ("1 thread, 1 ms between", 150),
    "threads": ("16 threads, burst", 1600),
    "asyncio": ("asyncio, 100 tasks", 1000),
}
_COLUMNS: Final = (
    ("p50 µs", "p50", ".1f"),
    ("p90 µs", "p90", ".1f"),
    ("p99 µs", "p99", ".1f"),
    ("max µs", "max", ".0f"),
    ("p50 x structlog", "ratio", ".2f"),
    ("CPU µs an event, all threads", "cpu", ".0f"),
)
_DELIVERY: Final = (
    ("p50 ms", "p50", ".1f"), ("p90 ms", "p90", ".1f"), ("p99 ms", "p99", ".1f"),
    ("max ms", "max", ".1f"), ("messages", "count", ".0f"), ("missing", "missing", ".0f"),
)  # fmt: skip


class Redis:
    """A real Redis for the run; `url` is None where it is not installed."""

    def __init__(self, home: Path) -> None:
        self.url: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        program = shutil.which("redis-server")
        if program is None:
            return
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._process = subprocess.Popen(  # noqa: S603 - the package's own program
            [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home),
             "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        self.url = f"redis://127.0.0.1:{port}/0"
        deadline = time.monotonic() + 20
        while True:
            with closing(socket.socket()) as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    return
            if time.monotonic() > deadline:
                sys.exit("redis-server does not answer")
            time.sleep(0.05)

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


class Clients:
    """The process of the clients of a server."""

    def __init__(self, address: str, number: int) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this repository's own file
            [sys.executable, str(_HERE / "emit_clients.py"), address, str(number)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            message = "the clients could not connect"
            raise RuntimeError(message)

    def delays(self) -> list[int]:
        """Wait until nothing comes any more; return the delays in nanoseconds."""
        found: list[int] = json.loads(self._process.communicate()[0])
        return found

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


class Way:
    """A process that tells in one way."""

    def __init__(self, name: str, home: Path, given: dict[str, str | None]) -> None:
        self.name = name
        self.took: dict[str, list[tuple[str, int]]] = defaultdict(list)
        self.cpu: dict[str, list[float]] = defaultdict(list)
        mine = home / (name.replace("+", "-") or "none")
        mine.mkdir(exist_ok=True)
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("OTEL_")
        }
        environment |= {
            "OTEL_AGENTS_SINKS": "none", "OTEL_AGENTS_HOME": str(mine / ".otel-agents"),
        }  # fmt: skip
        self._process = subprocess.Popen(  # noqa: S603 - this repository's own file
            [sys.executable, str(_HERE / "emit_process.py"), name, json.dumps(given)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=mine, env=environment,
        )  # fmt: skip
        self._client: Clients | None = None

    def begin(self) -> None:
        """Wait until it is set up, and connect a client to its server, if it has one."""
        self.address: str | None = self._answer()["address"]

    def follow(self) -> None:
        """Connect a client to its server, if it has one."""
        if self.address is not None:
            self._client = Clients(self.address, 1)

    def block(self, do: str, count: int, *, kept: bool = True) -> None:
        """Have a block told, and keep what it took."""
        answer = self._order(do=do, count=count)
        if kept:
            self.took[do] += answer["took"]
            self.cpu[do].append(answer["cpu"] / count * 1e6)

    def deliver(self, count: int, every: float) -> None:
        """Have events told that say when they were."""
        self._order(do="deliver", count=count, every=every)

    def _order(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            message = f"{_WAYS[self.name]} ended with {self._process.wait()}"
            raise RuntimeError(message)
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """End the process and its client's."""
        self._process.communicate()
        if self._client is not None:
            self._client.close()


def _figures(took: list[int], unit: float) -> dict[str, float]:
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    return {
        "p50": cuts[49] / unit, "p90": cuts[89] / unit, "p99": cuts[98] / unit,
        "max": max(took) / unit,
    }  # fmt: skip


def _rows(ways: list[Way], do: str) -> list[dict[str, Any]]:
    rows = []
    for way in ways:
        row: dict[str, Any] = {"label": _WAYS[way.name], "name": way.name}
        row |= _figures([ns for _, ns in way.took[do]], 1e3)
        row["cpu"] = statistics.median(way.cpu[do])
        rows.append(row)
    peer = next((row["p50"] for row in rows if row["name"] == _PEER), None)
    for row in rows:
        row["ratio"] = row["p50"] / peer if peer else None
    return rows


def _by_type(way: Way) -> list[dict[str, Any]]:
    found: dict[str, list[int]] = defaultdict(list)
    for type_, ns in way.took["burst"]:
        found[type_].append(ns)
    return [{"label": type_, **_figures(took, 1e3)} for type_, took in found.items()]


def _delivered(
    name: str, clients: int, home: Path, given: dict[str, str | None], *, quick: bool
) -> dict[str, Any]:
    label = f"{'all sinks' if name == _ALL else 'server alone'}, {clients} clients"
    report.progress(label)
    way = Way(name, home, given)
    way.begin()
    assert way.address is not None
    following = Clients(way.address, clients)
    count = 60 if quick else 400
    way.deliver(count, 0.01 if clients == 1 else 0.025)
    delays = following.delays()
    way.close()
    expected = count * clients
    row = {"label": label, "count": len(delays), "missing": expected - len(delays)}
    return row | _figures(delays, 1e6)


def _measure(names: list[str], home: Path, *, quick: bool) -> dict[str, Any]:
    redis, sink = Redis(home), Sink()
    given = {"redis": redis.url, "otlp": sink.url}
    if redis.url is None:
        names = [name for name in names if "redis" not in name]
    try:
        ways = [Way(name, home, given) for name in names]
        for way in ways:
            way.begin()
            way.follow()
            for do in _BLOCKS:
                way.block(do, 100, kept=False)
        rounds = 1 if quick else 5
        for number in range(rounds):
            report.progress(f"round {number + 1} of {rounds}")
            for do, (_, count) in _BLOCKS.items():
                for way in ways if number % 2 == 0 else reversed(ways):
                    way.block(do, count)
        for way in ways:
            way.close()
        found: dict[str, Any] = {do: _rows(ways, do) for do in _BLOCKS}
        whole = next((way for way in ways if way.name == _ALL), None)
        found["types"] = [] if whole is None else _by_type(whole)
        found["delivery"] = [
            _delivered(name, clients, home, given, quick=quick)
            for name in ("server", _ALL)
            if name in names
            for clients in (1, 100)
        ]
    finally:
        sink.close()
        redis.close()
        report.progress("")
    return found


def main() -> None:
    """Measure, print the tables, and write them as JSON where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a look, some 40 seconds")
    parser.add_argument("--only", default="", help="only these, comma-separated: none, all, …")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    given = parser.parse_args()
    names = list(_WAYS)
    if given.only:
        wanted = {{"none": "", "all": _ALL}.get(one, one) for one in given.only.split(",")}
        names = [name for name in names if name in wanted]
    about = machine.described()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="otel-agents-bench-") as home:
        found = _measure(names, Path(home), quick=given.quick)
    for key, value in about.items():
        print(f"{key}: {value}")
    print(f"load after: {' '.join(f'{one:.2f}' for one in os.getloadavg())}")
    print(f"took: {time.monotonic() - begun:.0f} s")
    for do, (title, _) in _BLOCKS.items():
        print()
        report.table(title, _COLUMNS, found[do])
    if found["types"]:
        print()
        report.table("by type, all sinks, 1 thread, burst", _COLUMNS[:4], found["types"])
    if found["delivery"]:
        print()
        report.table("delivery", _DELIVERY, found["delivery"])
    if given.json:
        given.json.write_text(json.dumps({"about": about, **found}, indent=1))


if __name__ == "__main__":
    main()
