"""Memory is flat over a great many runs, and nothing of a run is kept when it is over.

`OTEL_AGENTS_BOUNDARY=all` makes 100,000 runs, of which the last 40,000 are looked at.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

MANY = Path(__file__).parent / "programs" / "many.py"
ALL = os.environ.get("OTEL_AGENTS_BOUNDARY") == "all"
# Runs in all, runs between two looks, and how much is remembered of what is over.
RUNS, EVERY, KNOWN = (100_000, 20_000, 10_000) if ALL else (3_000, 1_000, 100)


def test_memory_is_flat_and_maps_are_empty(tmp_path: Path) -> None:
    """After what is remembered has come to its limit, nothing more is kept, run for run."""
    home = tmp_path / ".otel-agents"
    home.mkdir()
    sinks = f"jsonl:{tmp_path}/signals.jsonl,events:{tmp_path}/events.jsonl"
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, str(MANY), str(RUNS), str(EVERY), str(KNOWN)],
        env={**os.environ, "OTEL_AGENTS_HOME": str(home), "OTEL_AGENTS_SINKS": sinks},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=3600,
    )
    looks = [json.loads(line) for line in done.stdout.splitlines()]
    first, last = looks[-3 if ALL else -2], looks[-1]
    grown = last["objects"] - first["objects"]

    assert last["runs"] == RUNS
    assert {name for look in looks for name, held in look["maps"].items() if held} == set()
    # One object a run would be a leak; what is remembered goes up and down below its limit.
    assert grown < (last["runs"] - first["runs"]) / 5
    assert last["rss_kib"] - first["rss_kib"] < 4096
