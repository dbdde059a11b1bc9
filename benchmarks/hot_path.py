"""What instrumentation adds to an agent's run, side by side: nothing, the bare SDK, ours, others'.

    python benchmarks/hot_path.py [--runs 750] [--only ours,bare] [--install] [--json FILE]

Each contestant has a process of its own and exports to a sink in yet another. They take turns,
block by block, so that a drift of the machine hits all alike; each block with instrumentation has
one without it beside it, in the same process. What else runs on the machine only ever adds, so a
figure is the lower quartile of the blocks with, less the lower quartile of the blocks without.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import machine
import peers
import report
from contestants import CONTESTANTS, PEERS

_HERE: Final = Path(__file__).parent
_BLOCK: Final = 125
_TASKS: Final = 50
_WARM_UP: Final = 60


class Sink:
    """The process that takes what is exported."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this repository's own file
            [sys.executable, str(_HERE / "sink.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def stats(self, name: str) -> dict[str, int]:
        """Return counts of what a contestant sent since the last time."""
        with urllib.request.urlopen(f"{self.url}/stats/{name}") as answer:  # noqa: S310 - loopback
            found: dict[str, int] = json.load(answer)
            return found

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


class Process:
    """A contestant's process."""

    def __init__(self, name: str, python: Path, sink: Sink, home: Path) -> None:
        self.name = name
        self._log = (home / f"{name}.log").open("w")
        workspace = home / name / ".otel-agents"
        workspace.mkdir(parents=True, exist_ok=True)
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("OTEL_")
        }
        environment |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"{sink.url}/{name}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_AGENTS_HOME": str(workspace),
            **CONTESTANTS[name].environment,
        }
        self._process = subprocess.Popen(  # noqa: S603 - this repository's own file
            [str(python), str(_HERE / "contestant.py"), name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
            text=True, cwd=home / name, env=environment,
        )  # fmt: skip
        self.started = self._answer()

    def block(self, do: str, runs: int, *, on: bool) -> dict[str, Any]:
        """Have a block run and return what it took."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, "runs": runs, "on": on}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            lines = [text for text in Path(self._log.name).read_text().splitlines() if text.strip()]
            message = lines[-1] if lines else f"exit code {self._process.returncode}"
            raise RuntimeError(message)
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        self._log.close()


@dataclass
class Measured:
    """All that was seen of one contestant; `error` says why there is nothing."""

    label: str
    error: str = ""
    starts: list[dict[str, Any]] = field(default_factory=list)
    sequential: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    concurrent: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    walls: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    sent: dict[str, int] = field(default_factory=dict)
    runs_on: int = 0
    rss_kb: int = 0

    def row(self) -> dict[str, Any]:
        """Return the figures: µs of CPU and of wall time a run, bytes a span, MB, ms."""
        if self.error:
            return {"label": self.label, "error": self.error}
        spans = self.sent.get("traces_count", 0)
        if not spans and self.label != CONTESTANTS["nothing"].label:
            return {"label": self.label, "error": "no span arrived at the sink"}
        return {
            "label": self.label,
            "added_us": _quiet(self.sequential[True]) - _quiet(self.sequential[False]),
            "added_median_us": _paired(self.sequential),
            "off_us": _quiet(self.sequential[False]),
            "added_concurrent_us": _quiet(self.concurrent[True]) - _quiet(self.concurrent[False]),
            "added_p50_us": _quantile(self.walls, 50),
            "added_p99_us": _quantile(self.walls, 99),
            "spans_a_run": spans / self.runs_on,
            "bytes_a_span": self.sent.get("traces_bytes", 0) / spans if spans else 0.0,
            "log_records_a_run": self.sent.get("logs_count", 0) / self.runs_on,
            "rss_mb": self.rss_kb / 1024,
            "start_ms": statistics.median([start["enter_ms"] for start in self.starts]),
            "versions": self.starts[0]["versions"],
            "sent": self.sent,
            "blocks_on_us": self.sequential[True],
            "blocks_off_us": self.sequential[False],
        }


def _quiet(values: list[float]) -> float:
    """Return the lower quartile."""
    return statistics.quantiles(values, n=4, method="inclusive")[0]


def _paired(values: dict[bool, list[float]]) -> float:
    """Return the median over neighbours of what instrumentation added."""
    pairs = zip(values[True], values[False], strict=True)
    return statistics.median([on - off for on, off in pairs])


def _quantile(walls: dict[bool, list[float]], percent: int) -> float:
    on, off = (statistics.quantiles(walls[key], n=100)[percent - 1] for key in (True, False))
    return (on - off) * 1e6


def _measure(process: Process, measured: Measured, *, first_on: bool, block: int) -> None:
    for on in (first_on, not first_on):
        answer = process.block("sequential", block, on=on)
        measured.sequential[on].append(answer["cpu"] / block * 1e6)
        measured.walls[on] += answer["walls"]
    for on in (not first_on, first_on):
        answer = process.block("concurrent", _TASKS, on=on)
        measured.concurrent[on].append(answer["cpu"] / _TASKS * 1e6)
    measured.runs_on += block + _TASKS
    measured.rss_kb = answer["rss_kb"]


def _open(name: str, measured: Measured, python: Path, sink: Sink, home: Path) -> Process | None:
    try:
        process = Process(name, python, sink, home)
        measured.starts.append(process.started)
    except RuntimeError as error:
        measured.error = f"does not start: {error}"
        return None
    return process


def run(
    pythons: dict[str, Path | str], *, runs: int, block: int, starts: int
) -> dict[str, Measured]:
    """Run the contestants against each other and return what was seen of each."""
    found = {name: Measured(CONTESTANTS[name].label) for name in pythons}
    sink = Sink()
    with tempfile.TemporaryDirectory(prefix="otel-agents-bench-") as directory:
        home = Path(directory)
        open_: dict[str, Process] = {}
        for name, python in pythons.items():
            if isinstance(python, str):
                found[name].error = python
            elif process := _open(name, found[name], python, sink, home):
                open_[name] = process
        for on in (True, False):
            for process in open_.values():
                process.block("sequential", _WARM_UP, on=on)
        for name in open_:
            sink.stats(name)
        rounds = max(2, runs // block)
        for number in range(rounds):
            report.progress(f"round {number + 1} of {rounds}")
            for name, process in open_.items():
                _measure(process, found[name], first_on=number % 2 == 0, block=block)
        for name, process in open_.items():
            process.close()
            found[name].sent = sink.stats(name)
        for number in range(starts - 1):
            report.progress(f"start {number + 2} of {starts}")
            for name in open_:
                python = pythons[name]
                assert isinstance(python, Path)
                if process := _open(name, found[name], python, sink, home):
                    process.close()
    sink.close()
    report.progress("")
    return found


def _pythons(names: list[str], *, install: bool) -> dict[str, Path | str]:
    """Return each contestant's interpreter, or a sentence that says why there is none."""
    found: dict[str, Path | str] = {}
    for name in names:
        if name not in PEERS:
            found[name] = peers.own_python()
            continue
        wrong = "not installed: run with --install"
        if install:
            report.progress(f"installing {name}")
            wrong = peers.install(name)
        found[name] = peers.python(name) or wrong
    return found


def _names(chosen: str, peers_: str) -> list[str]:
    given = [name for name in peers_.split(",") if name and name != "none"]
    unknown = sorted({*given, *filter(None, chosen.split(","))} - set(CONTESTANTS))
    if unknown:
        sys.exit(f"no such contestant: {', '.join(unknown)}; known: {', '.join(CONTESTANTS)}")
    names = [name for name in CONTESTANTS if name not in PEERS or name in given]
    if chosen:
        names = [name for name in CONTESTANTS if name in chosen.split(",")]
    return names


def main() -> None:
    """Measure, print the table, and write it as JSON where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=750, help="runs with and as many without")
    parser.add_argument("--block", type=int, default=_BLOCK, help="runs between two flushes")
    parser.add_argument("--starts", type=int, default=5, help="fresh processes for start-up time")
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated, or none")
    parser.add_argument("--only", default="", help="only these contestants, comma-separated")
    parser.add_argument("--install", action="store_true", help="make the peers' environments anew")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    given = parser.parse_args()
    about = machine.described()
    pythons = _pythons(_names(given.only, given.peers), install=given.install)
    found = run(pythons, runs=given.runs, block=given.block, starts=given.starts)
    rows = {name: measured.row() for name, measured in found.items()}
    report.print_table(rows, about, " ".join(sys.argv[1:]))
    if given.json:
        given.json.write_text(
            json.dumps(
                {"machine": about, "arguments": vars(given), "rows": rows}, indent=2, default=str
            )
        )


if __name__ == "__main__":
    main()
