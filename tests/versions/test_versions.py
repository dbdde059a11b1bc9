"""The same program leaves the same behind on every declared version of what we build on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from copy import deepcopy
from typing import Any

import pytest
from inline_snapshot import snapshot

from tests.versions.environments import ENVIRONMENTS, ROOT, build, path_of, python_of

# Up to 1.75, pydantic-ai reads a stream that was left to its end: all of it was used.
DRAINED = {
    "tree": [
        "invoke_workflow shop",
        "  invoke_agent worker (cancellation)",
        "    chat priced",
        "    execute_tool look",
        "    chat priced",
    ],
    "usage": {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 4},
    "tokens": 104,
    "cost": 108.0,
    "complete": True,
    "calls": {"worker success": 2},
    "attempts": {"worker success": 2},
}


def observed(python: str) -> dict[str, Any]:
    """Run the program in an environment, any deprecation warning an error, and read its report."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "PYTHON", "PYTEST_"))
    }
    done = subprocess.run(  # noqa: S603 - our own program
        [python, "-W", "error::DeprecationWarning", "-m", "tests.versions.program"],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT), "OTEL_AGENTS_HOME": os.devnull},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.fixture(scope="module")
def here() -> dict[str, Any]:
    """What the program leaves behind with the versions that tests run with."""
    return observed(sys.executable)


def test_the_program_goes_the_main_ways(here: dict[str, Any]) -> None:
    """What is compared below: trees, verdicts and the bill of each way, with today's versions."""
    assert {name: found["calls"] for name, found in here.items()} == snapshot(
        {
            "run": {"worker success": 2},
            "run_stream": {"worker success": 2},
            "left_stream": {"worker cancellation": 1, "worker success": 1},
            "run_stream_events": {"worker success": 2},
            "iterate": {"worker success": 2},
            "refused_output": {"worker success": 1},
            "structured_output": {"worker success": 2},
            "exhausted_retries": {"worker failure": 1},
            "retried_tool": {"worker success": 3},
            "failing_tool": {"worker success": 1},
            "wrong_arguments": {"worker success": 3},
            "nested": {"inner success": 1, "worker success": 2},
            "parallel": {"worker success": 10},
            "interleaved": {"first success": 1, "second success": 1},
            "fallback": {"careful success": 1},
            "cancelled": {"worker success": 1},
            "run_sync": {"worker success": 2},
            "run_stream_sync": {"worker success": 2},
            "restored": {"worker success": 4},
        }
    )
    assert here["nested"]["tree"] == snapshot(
        [
            "invoke_workflow shop",
            "  invoke_agent worker",
            "    chat priced",
            "    execute_tool ask",
            "      invoke_agent inner",
            "        chat priced",
            "    chat priced",
        ]
    )
    assert here["restored"]["ended"] == ["done", "right", 4]
    assert {name: found["cost"] for name, found in here.items() if "cost" in found} == snapshot(
        {
            "run": 240.0,
            "run_stream": 108.0,
            "left_stream": 104.0,
            "run_stream_events": 108.0,
            "iterate": 108.0,
            "refused_output": 360.0,
            "structured_output": 360.0,
            "exhausted_retries": 240.0,
            "retried_tool": 360.0,
            "failing_tool": 120.0,
            "wrong_arguments": 360.0,
            "nested": 360.0,
            "parallel": 1200.0,
            "interleaved": 240.0,
            "fallback": 120.0,
            "cancelled": 120.0,
        }
    )


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_version_leaves_the_same_behind(name: str, here: dict[str, Any]) -> None:
    """Results, spans, usage, money and verdicts are those of today's versions."""
    if not os.environ.get("CI") and not (path_of(name) / "ready").exists():
        pytest.skip(f"{path_of(name)} is missing: run python -m tests.versions.environments")
    expected = deepcopy(here)
    if name in {"oldest", "1.75"}:
        expected["left_stream"].update(DRAINED)

    assert observed(str(python_of(build(name)))) == expected
