"""Budgets over restarts: what a killed process spent is known to the next one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

import otel_agents as oa
from otel_agents import Budget, model
from otel_agents.boundary import boundary
from otel_agents.ledgers import Ledgers
from otel_agents.signals import decode_lines
from otel_agents.store.recall import recalled
from otel_agents.testing import capture
from otel_agents.usage import Usage
from otel_agents.workspace import create

PROGRAM: Final = """
import sys
import otel_agents as oa
from otel_agents import model, runtime
from otel_agents.usage import Usage

def call():
    with model("priced") as asked:
        asked.answered(Usage(input_tokens=int(sys.argv[1]), requests=1))

with oa.run("shop", id="r-1") as run, oa.agent("planner") as agent:
    call()
    flushed = runtime.get().require_pipeline().flush()
    usd, tokens = agent.ledgers[0].usd, agent.ledgers[-1].tokens
    print(f'{{"usd": {usd}, "tokens": {tokens}, "ledgers": {len(agent.ledgers)}}}', flush=True)
    sys.stdin.readline()
    try:
        call()
    except oa.BudgetExceeded as error:
        print(f'{{"refused": "{error.budget}", "spent": {error.spent}}}', flush=True)
"""
SETTINGS: Final = """
[prices."priced"]
input = 1.0
output = 2.0
[[budget]]
usd = 1.0
enforce = true
[[budget]]
scope = "agent"
name = "planner"
tokens = 500_000
"""


class Home:
    """A directory with settings and a workspace, in which the program is started."""

    def __init__(self, path: Path, sinks: str | None) -> None:
        self.path = path
        (path / "otel-agents.toml").write_text(SETTINGS)
        self.workspace, _ = create(path)
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("OTEL_")
        }
        if sinks is not None:
            self.environment["OTEL_AGENTS_SINKS"] = sinks

    def start(self, tokens: int) -> tuple[subprocess.Popen[str], dict[str, Any]]:
        """Start the program; return it and what it says once its first call is on disk."""
        process = subprocess.Popen(  # noqa: S603 - the program above
            [sys.executable, "-c", PROGRAM, str(tokens)], cwd=self.path, env=self.environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        found: dict[str, Any] = json.loads(process.stdout.readline())
        return process, found

    def kill(self, tokens: int) -> dict[str, Any]:
        """Start the program, and kill it once its first call is on disk."""
        process, said = self.start(tokens)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return said

    def finish(self, tokens: int) -> tuple[dict[str, Any], list[str]]:
        """Start the program and let it end; return what it says first, and then."""
        process, said = self.start(tokens)
        rest, _ = process.communicate("on\n", timeout=60)
        assert process.returncode == 0
        return said, rest.splitlines()


@pytest.mark.parametrize("sinks", ["jsonl:", "sqlite:", None])
def test_a_killed_run_goes_on_with_its_sum_and_tells_nothing_twice(
    tmp_path: Path, sinks: str | None
) -> None:
    """After each `kill -9` the next process continues, from the signals file or from the store."""
    home = Home(tmp_path, sinks)
    assert home.kill(300_000) == {"usd": 0.3, "tokens": 300_000, "ledgers": 2}
    second = home.kill(300_000)
    assert (second["usd"], second["tokens"]) == (pytest.approx(0.6), 600_000)
    third, rest = home.finish(400_000)
    assert (third["usd"], third["tokens"]) == (pytest.approx(1.0), 1_000_000)
    refused = json.loads(rest[0])
    assert (refused["refused"], refused["spent"]) == ("run", pytest.approx(1.0))
    state = recalled("r-1", home.workspace.signal_files(), [f"sqlite:///{home.workspace.database}"])
    assert state is not None
    told = sorted((one.label, one.level) for one in state.crossings)
    assert told == [
        ("agent planner", "exceeded"), ("agent planner", "warning"),
        ("run", "exceeded"), ("run", "warning"),
    ]  # fmt: skip
    asked = [sys.executable, "-m", "otel_agents.cli", "status", "--json", "--run-id", "r-1"]
    answer = subprocess.run(  # noqa: S603 - our own command
        asked, check=False, cwd=tmp_path, env=home.environment, capture_output=True
    )
    budgets = json.loads(answer.stdout)["data"]["budgets"]
    shown = [(one["scope"], one["unit"], one["spent"], one["state"]) for one in budgets]
    assert shown == [
        ("run", "USD", 1.0, "exceeded"), ("agent", "token", 1_000_000, "exceeded"),
    ]  # fmt: skip
    if sinks != "sqlite:":
        lines = home.workspace.signals.read_bytes().splitlines(keepends=True)
        facts = [one.kind for one in decode_lines(lines) if one.kind.startswith("budget_")]
        assert sorted(facts) == ["budget_exceeded"] * 2 + ["budget_warning"] * 2


def test_what_cannot_be_read_costs_no_time_and_raises_nothing(tmp_path: Path) -> None:
    """A file that is none, a store that is none and a server that is away: nothing is known."""
    (tmp_path / "garbage").write_bytes(b'{"run_id":"r"\n\xff\xfe"run_id":"r"\n')
    files = [tmp_path / "missing", tmp_path, tmp_path / "garbage"]
    (tmp_path / "no.db").write_text("no database")
    urls = [
        f"sqlite:///{tmp_path}/missing.db", f"sqlite:///{tmp_path}/no.db", "ftp://x",
        "postgresql://127.0.0.1:1/none",
    ]  # fmt: skip
    assert recalled("r", files, urls, seconds=5) is None
    assert not (tmp_path / "missing.db").exists()


def test_a_recall_keeps_to_its_time(tmp_path: Path) -> None:
    """What is not found in time is not known: the program begins all the same."""
    path = tmp_path / "signals.jsonl"
    path.write_bytes(b'{"id":"a","kind":"run","edge":"start","time":1,"ids":{"run_id":"r"}}\n')
    assert recalled("r", [path], [], seconds=5) is not None
    assert recalled("r", [path], [], seconds=-1) is None


def test_a_run_is_recalled_only_where_it_can_be_known_and_has_a_budget() -> None:
    """Without a budget, or with an id of ours, nothing is looked up; else once for a run."""
    asked: list[str] = []

    def recall(run_id: str) -> None:
        asked.append(run_id)

    with capture() as captured:
        captured.runtime.budgets = Ledgers([Budget(scope="phase", tokens=10)], recall)
        with oa.run("shop", id="given"):
            assert asked == []
            for _ in range(2):
                with oa.phase("build"), oa.agent("planner", budget=Budget(tokens=5)):
                    pass
        with oa.run("shop"), oa.phase("build"):
            pass
        carrier: dict[str, str] = {}
        with oa.run("shop", run_id="carried"):
            oa.inject(carrier)
        with oa.extract(carrier), oa.phase("build"):
            pass
        with oa.agent("alone", id="a-1", budget=Budget(tokens=5)):
            pass
    assert asked == ["given", "carried", "a-1"]


def test_a_recall_that_fails_costs_the_run_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the run begins with nothing spent."""
    monkeypatch.setattr(boundary, "strict", False)

    def recall(run_id: str) -> None:
        raise OSError(run_id)

    with capture() as captured:
        captured.runtime.budgets = Ledgers([Budget(tokens=10)], recall)
        with oa.run("shop", id="given") as run, model("m") as call:
            call.answered(Usage(input_tokens=7, requests=1))
        (ledger,) = run.ledgers
        assert ledger.tokens == 7  # type: ignore[attr-defined]
