"""How long otel-agents takes to be imported and configured, over the SDK, in fresh processes.

    python benchmarks/import_time.py [--processes 15] [--json FILE]

Each process loads and configures the SDK first, as a program has it anyway, then takes the steps
below one by one. The target is 30 ms for the steps up to `runtime.get()`, which is what the first
scope does otherwise; what comes after is shown because somebody waits for it too.
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

TARGET_MS: Final = 30.0
_SDK: Final = """
from opentelemetry import _logs, metrics, trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.instrumentation import auto_instrumentation
traces = TracerProvider()
traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(traces)
metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())]))
logs = LoggerProvider()
logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
_logs.set_logger_provider(logs)
"""
_PYDANTIC_AI: Final = "from pydantic_ai import Agent; Agent('test', name='first')"
_STEPS: Final = {
    "import otel_agents": "import otel_agents",
    "import the instrumentor": "from otel_agents.instrumentor import OtelAgentsInstrumentor",
    "instrument()": "OtelAgentsInstrumentor().instrument()",
    "runtime.get()": "from otel_agents import runtime; runtime.get()",
}
_AFTER: Final = {
    "first run, empty": "with otel_agents.run('benchmark'): pass",
    "first model call, priced": """
with otel_agents.model("gpt-5", provider="openai") as call:
    usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
    call.response({"model": "gpt-5", "usage": usage})
""",
}
_BEFORE: Final = {"SDK": _SDK, "SDK and pydantic-ai": _SDK + _PYDANTIC_AI}


def _take_steps(before: str) -> None:
    """Take the steps in this process and print each one's milliseconds and new modules."""
    names: dict[str, Any] = {}
    exec(before, names)  # noqa: S102 - lines of this file
    found = {}
    for title, code in {**_STEPS, **_AFTER}.items():
        known = set(sys.modules)
        begun = time.perf_counter()
        exec(code, names)  # noqa: S102 - lines of this file
        took = (time.perf_counter() - begun) * 1e3
        found[title] = {"ms": took, "modules": sorted(set(sys.modules) - known)}
    print(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # not through `atexit`, which would send to an end point that is not there


def _measure(before: str, processes: int) -> dict[str, dict[str, Any]]:
    answers = []
    with tempfile.TemporaryDirectory(prefix="otel-agents-bench-") as directory:
        workspace = Path(directory) / ".otel-agents"
        workspace.mkdir()
        environment = os.environ | {"OTEL_AGENTS_HOME": str(workspace)}
        command = [sys.executable, str(Path(__file__)), "--child", before]
        for _ in range(processes):
            done = subprocess.run(  # noqa: S603 - this file
                command, capture_output=True, text=True, check=True, cwd=directory, env=environment
            )
            answers.append(json.loads(done.stdout))
    return {
        title: {
            "ms": statistics.median([answer[title]["ms"] for answer in answers]),
            "modules": answers[0][title]["modules"],
        }
        for title in answers[0]
    }


def _print(before: str, steps: dict[str, dict[str, Any]]) -> float:
    """Print a table; return the milliseconds that count against the target."""
    print(f"\nOver {before}:\n\n| step | ms | modules | of these not ours |\n|---|--:|--:|---|")
    for title, step in steps.items():
        others = sorted(
            {name.partition(".")[0] for name in step["modules"]} - {"otel_agents", "_frozen"}
        )
        shown = ", ".join(others[:12]) + (f" and {len(others) - 12} more" if others[12:] else "")
        print(f"| {title} | {step['ms']:.1f} | {len(step['modules'])} | {shown} |")
    counted: float = sum(steps[title]["ms"] for title in _STEPS)
    verdict = "reached" if counted <= TARGET_MS else "missed"
    print(f"\nimport and configure: {counted:.1f} ms; target {TARGET_MS:.0f} ms, {verdict}")
    return counted


def main() -> None:
    """Measure, and print the steps with their medians and what they load."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, default=15, help="fresh processes a table")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--child", choices=list(_BEFORE), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        _take_steps(_BEFORE[given.child])
    about = machine.described()
    for name, value in about.items():
        print(f"{name}: {value}")
    found = {}
    for before in _BEFORE:
        steps = _measure(before, given.processes)
        found[before] = {"steps": steps, "counted_ms": _print(before, steps)}
    if given.json:
        given.json.write_text(json.dumps({"machine": about, "over": found}, indent=2))


if __name__ == "__main__":
    main()
