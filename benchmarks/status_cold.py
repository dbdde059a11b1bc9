"""How long `otel-agents status --json` takes on a run of 10,000 signals, started cold.

    python benchmarks/status_cold.py [--signals 10000] [--processes 20] [--json FILE]

The signals are those of real scopes, written by the sink that programs use. Beside it stand a
Python that does nothing and one that imports what many command lines are made of.
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
from pathlib import Path
from typing import Any, Final

import machine

from otel_agents import runtime, workspace
from otel_agents.metrics import Metrics
from otel_agents.model_call import model
from otel_agents.pipeline import Pipeline
from otel_agents.runtime import Runtime
from otel_agents.scopes import agent, gate, iteration, phase, run
from otel_agents.sinks.jsonl import JsonlSink
from otel_agents.usage import Usage

TARGET_MS: Final = 200.0
_PHASES: Final = ("plan", "build", "review", "test", "deliver")
_ITERATIONS: Final = 4
_ASKED: Final = Usage(input_tokens=812, cache_read_tokens=512, output_tokens=96, requests=1)


def generate(directory: Path, signals: int) -> int:
    """Write a workspace with one run of that many signals; return how many there are."""
    home, _ = workspace.create(directory)
    metrics = Metrics()
    pipeline = Pipeline([JsonlSink(home.signals)], metrics.dropped)
    before = runtime.put(Runtime(metrics=metrics, pipeline=pipeline))
    around = 2 + _ITERATIONS * (2 + len(_PHASES) * 4)  # run, iterations, phases and their gates
    each = max(1, (signals - around) // (_ITERATIONS * len(_PHASES)))
    with run("benchmark", goal="measure status", max_iterations=_ITERATIONS):
        for _ in range(_ITERATIONS):
            with iteration():
                for name in _PHASES:
                    with phase(name):
                        _agents(each)
                        gate(f"{name} done", passed=True).record()
                    pipeline.flush()
    pipeline.close()
    runtime.put(before)
    return sum(path.read_bytes().count(b"\n") for path in home.signal_files())


def _agents(signals: int) -> None:
    """Let agents run until about that many signals were emitted: a start and an end each."""
    for number in range(signals // 2):
        with agent(f"worker-{number % 7}"), model("gpt-5", provider="openai") as call:
            call.answered(_ASKED, model="gpt-5")


def _median_ms(command: list[str], directory: Path, processes: int) -> float:
    times = []
    for _ in range(processes):
        begun = time.perf_counter()
        subprocess.run(  # noqa: S603 - our own commands
            command, capture_output=True, check=True, cwd=directory
        )
        times.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--signals", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    given = parser.parse_args()
    os.environ.pop(workspace.HOME_VARIABLE, None)
    about = machine.described()
    script = Path(sys.executable).with_name("otel-agents")
    commands: dict[str, list[str]] = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "python -c 'import typer, rich'": [sys.executable, "-c", "import typer, rich"],
        "otel-agents --version": [str(script), "--version"],
        "otel-agents status --json": [str(script), "status", "--json"],
    }
    with tempfile.TemporaryDirectory(prefix="otel-agents-bench-") as path:
        directory = Path(path)
        written = generate(directory, given.signals)
        found: dict[str, Any] = {
            name: _median_ms(command, directory, given.processes)
            for name, command in commands.items()
        }
    for name, value in about.items():
        print(f"{name}: {value}")
    print(f"signals: {written}\n\n| command | ms, median of {given.processes} |\n|---|--:|")
    for name, took in found.items():
        print(f"| `{name}` | {took:.0f} |")
    took = found["otel-agents status --json"]
    verdict = "reached" if took <= TARGET_MS else "missed"
    print(f"\nstatus, cold: {took:.0f} ms; target {TARGET_MS:.0f} ms, {verdict}")
    if given.json:
        given.json.write_text(
            json.dumps({"machine": about, "signals": written, "ms": found}, indent=2)
        )


if __name__ == "__main__":
    main()
