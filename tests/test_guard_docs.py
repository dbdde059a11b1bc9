"""What the page on budgets, waits, checkpoints and restores shows happens when it is run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = (ROOT / "docs" / "how-to" / "guard-and-recover.md").read_text("utf-8")
TOOLS: Final = Path(sys.executable).parent
SECONDS: Final = 120
NOWHERE: Final = {f"OTEL_{name}_EXPORTER": "none" for name in ("TRACES", "METRICS", "LOGS")}


def section(title: str) -> str:
    """Return the text of the page below a heading."""
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def blocks(title: str, kind: str) -> list[str]:
    """Return the blocks of a kind in a section."""
    return re.findall(rf"```{kind}\n(.*?)```", section(title), re.DOTALL)


def environment() -> dict[str, str]:
    """Return the environment of a terminal that knows nothing of this repository."""
    hidden = ("OTEL_", "PYTHON", "GIT_")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(hidden)}
    return kept | NOWHERE | {"PATH": f"{TOOLS}{os.pathsep}{kept.get('PATH', '')}"}


def run(where: Path, *words: str | Path) -> str:
    """Run a command in a folder, and return what it says."""
    done = subprocess.run(  # noqa: S603 - as the page says
        words, cwd=where, env=environment(), capture_output=True, text=True, timeout=SECONDS,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def instrumented(where: Path, code: str) -> str:
    """Run a program of the page under instrumentation, and return what it prints."""
    (where / "program.py").write_text(code)
    return run(where, "opentelemetry-instrument", sys.executable, "program.py")


def data(where: Path, *words: str) -> Any:
    """Return the data of `otel-agents … --json`."""
    return json.loads(run(where, "otel-agents", *words, "--json"))["data"]


def eventually(question: Callable[[], Any]) -> Any:
    """Ask until there is an answer, and return it."""
    deadline = time.monotonic() + SECONDS
    while not (found := question()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


@pytest.fixture
def where(tmp_path: Path) -> Path:
    """Return a git repository with a workspace and the page's settings, all of them at once."""
    settings = [one for title in re.findall(r"^## (.+)", PAGE, re.MULTILINE)
                for one in blocks(title, "toml")]  # fmt: skip
    (tmp_path / "otel-agents.toml").write_text("\n".join(settings))
    run(tmp_path, "git", "init", "--quiet")
    run(tmp_path, "otel-agents", "init")
    assert len(settings) == 2
    return tmp_path


def test_budget_stops_where_the_page_says(where: Path) -> None:
    """The planner's tokens are spent on Thursday, in just these words; it is told once."""
    (program,) = blocks("Set a budget", "python")
    ((_, said),) = (one.split("\n", 1) for one in blocks("Set a budget", "console"))

    assert instrumented(where, program) == said
    budgets = {(one["scope"], one["unit"]): one for one in data(where, "status")["budgets"]}
    told = data(where, "events", "--type", "budget_warning,budget_exceeded")
    assert budgets["agent", "token"]["state"] == "exceeded"
    assert {budgets[key]["state"] for key in budgets if key[0] != "agent"} == {"within"}
    assert budgets.keys() == {
        ("run", "USD"), ("phase", "USD"), ("phase", "second"), ("agent", "token"),
    }  # fmt: skip
    assert [one["type"] for one in told] == ["budget_exceeded", "budget_warning"]


def test_wait_is_answered_by_the_pages_command(where: Path) -> None:
    """The program waits, is listed, and goes on with what the command says."""
    program = blocks("Ask a person", "python")[0]
    (where / "program.py").write_text(program)
    command = re.search(r"^    otel-agents (hitl resolve deploy-17 .+) --answer \"(.+)\"$",
                        section("Ask a person"), re.MULTILINE)  # fmt: skip
    assert command is not None
    with subprocess.Popen(
        [sys.executable, "program.py"], cwd=where, env=environment(), stdout=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        eventually(lambda: data(where, "hitl", "list"))
        assert data(where, "status")["waits"]
        run(where, "otel-agents", *command[1].split(), "--answer", command[2])
        said, _ = process.communicate(timeout=SECONDS)
    assert said == f"approved {command[2]}\n"
    assert data(where, "status")["waiting_seconds"] > 0


def test_program_answers_its_own_wait(where: Path) -> None:
    """What the program resolves itself is an answer as any other."""
    run(where, sys.executable, "-c", blocks("Ask a person", "python")[1])
    (item,) = data(where, "hitl", "list", "--all")
    assert (item["decision"], item["answer"], item["answered_by"]) == (
        "answered", "eu-west-1", "program",
    )  # fmt: skip


def test_checkpoints_by_hand(where: Path) -> None:
    """Each command of the section works, and a restore is undone by the id that it prints."""
    notes = where / "notes.txt"
    notes.write_text("before")
    text = section("Save the working tree")
    (first, *rest) = re.findall(r"^\$ otel-agents (.+)$", text, re.MULTILINE)
    run(where, "otel-agents", *re.sub(r'"(.+)"', "by-hand", first).split())
    for line in rest:
        run(where, "otel-agents", *line.split())
    (made,) = data(where, "checkpoint", "list")
    notes.write_text("after")
    by_id = re.findall(r"^    otel-agents (checkpoint \w+ ID.*)$", text, re.MULTILINE)
    for line in by_id:
        run(where, "otel-agents", *line.replace("ID", made["id"]).split())

    assert len(by_id) == 3
    assert notes.read_text() == "before"
    undo = next(one for one in data(where, "checkpoint", "list") if one["undo_of"] == made["id"])
    run(where, "otel-agents", "checkpoint", "restore", undo["id"])
    assert notes.read_text() == "after"


def test_agent_goes_back_as_the_page_says(where: Path) -> None:
    """It restores once and does it right; the command goes back to before the run's task."""
    (program,) = blocks("Let an agent go back", "python")
    ((_, said),) = (one.split("\n", 1) for one in blocks("Let an agent go back", "console"))

    assert instrumented(where, program) == said
    told = data(where, "checkpoint", "list")
    (undo,) = (one for one in told if one["undo_of"])
    assert undo["undo_of"] in {one["id"] for one in told}


def test_run_is_brought_back_to_before_a_phase(where: Path) -> None:
    """`--run-id` and `--before` find the checkpoint of a phase."""
    notes = where / "notes.txt"
    notes.write_text("before")
    program = (
        "from pathlib import Path; from otel_agents import phase, run\n"
        "with run('notes', id='run-1'), phase('write'): Path('notes.txt').write_text('after')\n"
    )
    instrumented(where, program)
    line = re.search(r"^    otel-agents (checkpoint restore --run-id RUN .+)$", PAGE, re.MULTILINE)
    assert line is not None
    words = line[1].replace("RUN", "run-1").replace("PHASE", "write").split()
    run(where, "otel-agents", *words)
    assert notes.read_text() == "before"


def test_defaults_that_the_page_names_are_those_of_the_settings() -> None:
    """Patterns and numbers stand in the code as they stand on the page."""
    from otel_agents.budget import WARN_AT
    from otel_agents.settings_guards import CheckpointSettings

    found = CheckpointSettings()
    words = " ".join(PAGE.split())
    assert f"`warn_at` of a limit ({WARN_AT})" in words
    patterns = [f"`{one}`" for one in found.write_tools]
    assert f"by default {', '.join(patterns[:-1])} and {patterns[-1]}." in words
    assert f"`max_bytes` ({found.max_bytes // 2**20} MiB)" in words
    assert f"`max_seconds` ({found.max_seconds:g})" in words
    assert f"`keep` ({found.keep})" in words
    assert f"`keep_days` ({found.keep_days:g})" in words
    assert f"`max_restores` ({found.max_restores})" in words
    assert not found.auto
    assert not found.allow_restore
