"""The fault run as a program: what it says of itself, and that it goes nowhere unseen.

What its faults light up is shown in tests/stack/test_panels_live.py, on the real stack.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "faults"


def run(
    *arguments: str, where: Path = EXAMPLE, instrumented: bool = False, **given: str
) -> tuple[int, str, str]:
    """Run the program as a user does; return its exit code and what it said."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "PYTHON"))}
    instrument = [Path(sys.executable).with_name("opentelemetry-instrument")] * instrumented
    done = subprocess.run(  # noqa: S603 - our own program
        [*instrument, sys.executable, EXAMPLE / "app.py", *arguments],
        cwd=where, env=kept | given, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_the_table_of_the_readme_is_the_programs_own() -> None:
    """Each fault stands in the README with what the program says of it, in the same order."""
    code, said, _ = run("--list")
    faults: list[list[str]] = []
    for line in said.splitlines():
        name, _, text = line.strip().partition(": ")
        if name in {"panels", "alerts"}:
            faults[-1].append(text)
        else:
            faults.append([name, text])
    readme = (ROOT / "examples" / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| (.+?) \| (.+?) \| (.*?) ?\|$", readme, re.MULTILINE)

    assert code == 0
    assert [
        [one for one in (*row[:3], row[3].replace(", ", "; ")) if one] for row in rows
    ] == faults
    assert len(faults) == 20


def test_without_telemetry_it_says_how_to_start_it() -> None:
    """Uninstrumented it makes no trouble, and says how to start it."""
    code, said, wrong = run("--only", "streams")
    assert (code, said) == (2, "")
    assert "opentelemetry-instrument python app.py" in wrong


def test_an_unknown_fault_is_named() -> None:
    """A fault that there is not is wrong usage, and the answer lists those there are."""
    code, _, wrong = run("--only", "streams,earthquake")
    assert code == 2
    assert "earthquake" in wrong
    assert "dead-worker" in wrong


@pytest.mark.parametrize("fault", ["failed-runs", "rate-limits"])
def test_a_single_fault_is_made_alone(tmp_path: Path, fault: str) -> None:
    """Only the fault that is asked for is made, to its end."""
    none = {f"OTEL_{name}_EXPORTER": "none" for name in ("TRACES", "METRICS", "LOGS")}
    code, said, wrong = run(
        "--only", fault, "--times", "2", where=tmp_path, instrumented=True,
        OTEL_AGENTS_CONFIG=str(EXAMPLE / "otel-agents.toml"), **none,
    )  # fmt: skip
    assert (code, wrong) == (0, "")
    assert [line.partition(":")[0] for line in said.splitlines()] == [fault]
