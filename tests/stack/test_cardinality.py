"""What a run is told apart by is on no metric: ten thousand runs have the series of the first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Backends

pytestmark = pytest.mark.xdist_group("stack")

PROGRAM = Path(__file__).parent / "programs" / "many_runs.py"
SERVICE = "many-runs"
# Its own metrics, not what rules make of them, and what the collector makes of its spans.
SERIES = (
    f'{{job="{SERVICE}", __name__!~".*:.*|ALERTS.*"}}',
    f'{{service_name="{SERVICE}", __name__=~"traces_.+"}}',
)


def series(backends: Backends, runs: int) -> set[frozenset[tuple[str, str]]]:
    """Return the label sets that Prometheus has once it has counted so many runs."""
    ended = f'sum(otelagents_runs_completed_total{{job="{SERVICE}"}})'
    spans = f'sum({{service_name="{SERVICE}", __name__=~"traces_.*calls_total"}}) > 0'

    def counted() -> bool:
        found = backends.query(ended)
        return bool(found) and float(found[0]["value"][1]) == runs and bool(backends.query(spans))

    assert backends.eventually(counted)
    found = (one for selector in SERIES for one in backends.query(selector))
    return {frozenset(one["metric"].items()) for one in found}


def test_ten_thousand_runs_add_no_series(backends: Backends, tmp_path: Path) -> None:
    """Prometheus has the same series after 10,000 runs, each with ids of its own, as after 100."""
    environment = {
        **os.environ,
        "OTEL_SERVICE_NAME": SERVICE,
        # Metrics and spans alone: signals make no series in Prometheus, and take their time.
        "OTEL_AGENTS_SINKS": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "500",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": backends.stack.otlp_http,
    }
    instrument = Path(sys.executable).with_name("opentelemetry-instrument")
    with subprocess.Popen(  # noqa: S603 - our own program
        [instrument, sys.executable, PROGRAM],
        cwd=tmp_path, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None

        def until(runs: int, more: int) -> set[frozenset[tuple[str, str]]]:
            process.stdin.write(f"{more}\n")
            process.stdin.flush()
            assert int(process.stdout.readline()) == runs
            return series(backends, runs)

        few = until(100, 100)
        many = until(10_000, 9_900)
        process.stdin.close()
        assert process.wait(120) == 0

    assert many == few
    assert len(few) > 100
