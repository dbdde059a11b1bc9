"""Spans and signals of real agents, encoded as the SDK's encoder does it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import otel_agents as oa
from otel_agents.spool.encode_plain import plain_span
from otel_agents.testing import capture
from tests.spool.same import check, check_signals
from tests.versions.environments import ROOT, build, path_of, python_of
from tests.versions.program import PRICES, PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("semconv", ["compat", "latest"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_what_agents_leave_behind_is_what_the_sdk_makes_of_it(
    program: Callable[[], Any], semconv: str
) -> None:
    """With content; of runs that end well, fail and are cancelled; all of it the quick way."""
    with capture(prices=PRICES, semconv=semconv, content=True) as captured:
        with oa.run("shop"):
            with contextlib.suppress(BaseException):  # some of them fail on purpose
                asyncio.run(program())
        spans, signals = captured.spans, captured.signals
    for span in spans:
        check(span)
        plain_span(span)
    check_signals(signals)
    assert len(spans) >= 3
    assert len(signals) >= 2


def python(interpreter: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program of ours from the root of the repository, away from the machine's settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "PYTHON", "PYTEST_"))}
    return subprocess.run(  # noqa: S603 - our own program
        [interpreter, *arguments],
        cwd=ROOT,
        env={**kept, "PYTHONPATH": str(ROOT), "OTEL_AGENTS_HOME": os.devnull},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_the_example_leaves_behind_what_the_sdk_makes_of_it(tmp_path: Path) -> None:
    """Every span and signal of the lighthouse, with content."""
    done = python(sys.executable, "-m", "tests.spool.lighthouse", tmp_path / "out")
    assert done.returncode == 0, done.stderr[-2000:]
    ended, spans, signals, attributes = json.loads(done.stderr)

    assert ended == 0
    assert spans > 100
    assert signals > 100
    assert attributes > 1000


def test_the_oldest_declared_versions_are_encoded_alike() -> None:
    """By their private fields and by their public ones: the bytes are those of today's versions."""
    if not os.environ.get("CI") and not (path_of("oldest") / "ready").exists():
        pytest.skip(f"{path_of('oldest')} is missing: run python -m tests.versions.environments")
    here, there = (
        python(str(interpreter), "-m", "tests.spool.made")
        for interpreter in (sys.executable, python_of(build("oldest")))
    )

    assert here.returncode == 0, here.stderr[-2000:]
    assert there.returncode == 0, there.stderr[-2000:]
    assert json.loads(there.stdout) == json.loads(here.stdout)
