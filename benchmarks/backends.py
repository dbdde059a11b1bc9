"""What a backend that misbehaves does to the agents of a program, with and without the spool.

    python benchmarks/backends.py [--quick] [--only NAME,...] [--exporter sdk|spool] [--json FILE]

A program of agents exports by OTLP to a backend in a process of its own. Each has a twin that
works at the same moments with a healthy backend, so that what else goes on on the machine hits
both; a ratio is the median over such pairs. The healthy row is a pair too: its ratio is the noise.
The exporter is the SDK's own, or the spool (`OTEL_AGENTS_SPOOL`). A run of an agent waits 40 ms for
its model. To exit counts from the program's last line of work to the end of its process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

import machine
import report

_HERE: Final = Path(__file__).parent
sys.path.insert(0, str(_HERE.parent))
from tests.backends.growth import Growth  # noqa: E402 - the path first
from tests.backends.zoo import Zoo  # noqa: E402

_PATIENCE: Final = 120.0  # seconds that a program may take to exit
_DEAD: Final = "http://collector.invalid:4318"


class Backend(NamedTuple):
    """What a program exports to; `quick` ones are those that a short look needs."""

    label: str
    beast: str
    protocol: str = "http/protobuf"
    tls: bool = False
    quick: bool = False


BACKENDS: Final = (
    Backend("healthy", "healthy", quick=True),
    Backend("connection refused", "refused", quick=True),
    Backend("accepts, never answers", "blackhole", quick=True),
    Backend("never accepts", "backlog"),
    Backend("503", "503", quick=True),
    Backend("503 to 70 %", "flaky"),
    Backend("429, Retry-After 10^9 s", "429-huge"),
    Backend("answers 1 byte a second", "slow-answer", quick=True),
    Backend("512 MiB reply", "huge-reply", quick=True),
    Backend("512 MiB reply in gzip", "gzip-bomb"),
    Backend("endless headers", "endless-headers"),
    Backend("endless body", "endless-body"),
    Backend("redirect", "redirect-307", quick=True),
    Backend("certificate of nobody's", "tls-self-signed", tls=True),
    Backend("no such host", "dns"),
    Backend("400", "400"),
    Backend("rejects a half", "partial"),
    Backend("reset in its reply", "reset"),
    Backend("gRPC: healthy", "healthy", "grpc"),
    Backend("gRPC: connection refused", "refused", "grpc"),
    Backend("gRPC: accepts, never answers", "blackhole", "grpc"),
    Backend("gRPC: call never answered", "hang", "grpc"),
    Backend("gRPC: UNAVAILABLE", "unavailable", "grpc", quick=True),
    Backend("gRPC: 96 MiB reply", "huge-reply", "grpc"),
)
_COLUMNS: Final = (
    ("p50 ms", "p50_ms", ".1f"),
    ("p99 ms", "p99_ms", ".1f"),
    ("p99.9 ms", "p999_ms", ".1f"),
    ("p50 x twin", "x_p50", ".2f"),
    ("p99 x twin", "x_p99", ".2f"),
    ("CPU s", "cpu_s", ".2f"),
    ("exit s", "exit_s", ".1f"),
    ("spans", "created", ",d"),
    ("delivered", "delivered", ",d"),
    ("twice", "again", ",d"),
    ("counted as dropped", "dropped", ",d"),
    ("left in the spool", "left", ",d"),
    ("delivered and left", "both", ",d"),
    ("lost unseen", "unseen", ",d"),
    ("RSS growth MiB", "grown_mib", ".0f"),
)


class Zoos:
    """The backends' processes, each started where it is needed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: dict[tuple[bool, bool], Zoo] = {}

    def get(self, *, tls: bool, twin: bool = False) -> Zoo:
        """Return the one with TLS or without; a twin's is another."""
        if (tls, twin) not in self._made:
            directory = self._directory / f"zoo-{len(self._made)}"
            directory.mkdir()
            self._made[tls, twin] = Zoo(directory, tls=tls)
        return self._made[tls, twin]

    def close(self) -> None:
        """End them."""
        for zoo in self._made.values():
            zoo.close()


class Program:
    """A program against a backend: set up and warmed up when this returns, then started."""

    def __init__(
        self, backend: Backend, zoo: Zoo, home: Path, *, spool: bool, load: dict[str, Any]
    ) -> None:
        home.mkdir()
        self._spool = home / "spool" if spool else None
        self._zoo = zoo
        zoo.become("healthy" if backend.beast == "dns" else backend.beast)
        zoo.forget()
        found = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("OTEL_") and not key.endswith("CA_BUNDLE")
        }
        found |= zoo.environment(backend.protocol)
        found |= {"OTEL_AGENTS_HOME": str(home / "none"), "OTEL_AGENTS_SINKS": "otlp:"}
        if backend.beast == "dns":
            found["OTEL_EXPORTER_OTLP_ENDPOINT"] = _DEAD
        if self._spool is not None:
            found["OTEL_AGENTS_SPOOL"] = str(self._spool)
        self._environment = found
        with (home / "stderr").open("w") as log:
            self._process = subprocess.Popen(  # noqa: S603 - this repository's own file
                [sys.executable, str(_HERE / "backends_process.py"),
                 json.dumps({"protocol": backend.protocol, **load})],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                cwd=home, env=found,
            )  # fmt: skip
        if self._line() != "ready\n":
            self._process.kill()
            message = (home / "stderr").read_text()[-2_000:]
            raise RuntimeError(message)
        self._growth = Growth(self._process.pid)

    def start(self) -> None:
        """Let it work."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, Any]:
        """Wait for its end and return its figures."""
        told = json.loads(self._line())
        worked = time.perf_counter()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        exit_s = time.perf_counter() - worked
        spans = self._zoo.counts()["traces"]
        self._zoo.become("healthy")
        status = {"dropped": 0, "left": 0}
        if self._spool is not None:
            status = _status(self._environment)
        apart = told["spans"] - spans["ids"] - status["dropped"] - status["left"]
        return {
            **status,
            "took": told["took"],
            "cpu_s": told["cpu"],
            "exit_s": exit_s,
            "created": told["spans"],
            "delivered": spans["ids"],
            "again": spans["again"],
            # What a backend took whose answer never told so: it will come once more.
            "both": max(0, -apart),
            "unseen": max(0, apart),
            "grown_mib": self._growth.mib(),
        }

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def measure(
    backend: Backend, *, spool: bool, zoos: Zoos, home: Path, load: dict[str, Any]
) -> dict[str, Any]:
    """Run a program against a backend beside its twin, to its end; `twin` are the twin's runs."""
    healthy = backend._replace(beast="healthy")
    twin_zoo = zoos.get(tls=backend.tls, twin=True)
    pair = (
        Program(backend, zoos.get(tls=backend.tls), home, spool=spool, load=load),
        Program(healthy, twin_zoo, home.with_suffix(".twin"), spool=spool, load=load),
    )
    for program in pair:
        program.start()
    with ThreadPoolExecutor(1) as pool:
        twin = pool.submit(pair[1].end)
        found = pair[0].end()
        found["twin"] = twin.result()["took"]
    return found


def _status(environment: dict[str, str]) -> dict[str, int]:
    """Return what the spool says of spans: those it dropped, and those that wait in it."""
    answer = subprocess.run(  # noqa: S603 - our own command
        [Path(sys.executable).with_name("otel-agents"), "spool", "status", "--json"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = json.loads(answer.stdout)["data"]
    dropped = [row["count"] for row in found["dropped"] if row["signal"] == "traces"]
    return {"dropped": sum(dropped), "left": found["waiting"]["traces"]}


def row(label: str, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of one backend: times over its rounds, and its last round's account."""
    found: dict[str, Any] = {"label": label}
    for key, permille in (("p50", 500), ("p99", 990), ("p999", 999)):
        times = [_quantile(one["took"], permille) for one in rounds]
        pairs = zip(times, rounds, strict=True)
        found[f"{key}_ms"] = statistics.median(times)
        found[f"x_{key}"] = statistics.median(
            mine / _quantile(one["twin"], permille) for mine, one in pairs
        )
    found |= {key: value for key, value in rounds[-1].items() if key not in {"took", "twin"}}
    for key in ("cpu_s", "exit_s"):
        found[key] = statistics.median(one[key] for one in rounds)
    return found


def _quantile(took: list[float], permille: int) -> float:
    """Return a quantile of runs' times, in milliseconds."""
    return statistics.quantiles(took, n=1000, method="inclusive")[permille - 1] * 1e3


def compare(
    backends: list[Backend], *, spool: bool, rounds: int, load: dict[str, Any]
) -> list[dict[str, Any]]:
    """Measure all with one exporter, and return a row for each."""
    found: dict[Backend, list[dict[str, Any]]] = {backend: [] for backend in backends}
    with tempfile.TemporaryDirectory(prefix="otel-agents-bench-") as directory:
        zoos = Zoos(Path(directory))
        try:
            for number in range(rounds):
                for at, backend in enumerate(backends):
                    report.progress(f"round {number + 1} of {rounds}: {backend.label}")
                    home = Path(directory) / f"{number}-{at}"
                    seen = measure(backend, spool=spool, zoos=zoos, home=home, load=load)
                    found[backend].append(seen)
        finally:
            zoos.close()
    report.progress("")
    return [row(backend.label, seen) for backend, seen in found.items()]


def main() -> None:
    """Measure, and print a table for each exporter."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=15, help="that a program works")
    parser.add_argument("--agents", type=int, default=50)
    parser.add_argument("--every", type=float, default=0.5, help="seconds from run to run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--exporter", choices=("sdk", "spool", "both"), default="both")
    parser.add_argument("--only", default="", help="only these beasts, comma-separated")
    parser.add_argument(
        "--quick", action="store_true", help="a third of them, 1 round of 8 seconds"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    given = parser.parse_args()
    chosen = [
        backend
        for backend in BACKENDS
        if (not given.only or backend.beast in given.only.split(","))
        and (not given.quick or backend.quick)
    ]
    rounds = 1 if given.quick else given.rounds
    load = {
        "agents": given.agents,
        "every": given.every,
        "seconds": 8 if given.quick else given.seconds,
    }
    about = machine.described()
    for name, value in about.items():
        print(f"{name}: {value}")
    print(
        f"{load['agents']} agents in one process, each runs every {load['every']} s, seven spans a"
        f" run, for {load['seconds']} s; rounds: {rounds}, medians"
    )
    tables = {}
    for exporter in ("sdk", "spool"):
        if given.exporter in {exporter, "both"}:
            rows = compare(chosen, spool=exporter == "spool", rounds=rounds, load=load)
            print()
            title = "the SDK's own exporter" if exporter == "sdk" else "with the spool"
            report.table(title, _COLUMNS, rows)
            tables[exporter] = rows
    if given.json:
        given.json.write_text(json.dumps({"machine": about, "load": load, "tables": tables}))


if __name__ == "__main__":
    main()
