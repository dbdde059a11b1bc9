"""`otel-agents status` on real files, as a process of its own."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from otel_agents.signals import encode_line
from otel_agents.state.kpis import KPIS
from otel_agents.store import Batch

from .emitted import emitted, queued, validated
from .serving import Serving

from state.build import SECOND, Story, shop  # isort: skip - conftest puts it within reach

if TYPE_CHECKING:
    from pathlib import Path

    from otel_agents.signals import Signal

    from .conftest import Shell


def fresh(run_id: str = "run-1", workflow: str = "shop", ago: float = 1.0) -> Story:
    """Return a story that begins so many seconds ago by the real clock."""
    return Story(run_id, workflow, begin=time.time_ns() - round(ago * SECOND))


def test_without_a_workspace_the_way_to_one_is_told(bare: Shell) -> None:
    """Exit code 4 and one sentence, with --watch as well."""
    for arguments in ((), ("--watch",)):
        done = bare.run("status", *arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1)
        assert "otel-agents init" in done.stderr


def test_a_named_workspace_that_is_not_there_is_named(bare: Shell) -> None:
    """Not the working directory, which was not looked at."""
    done = bare.run("status", OTEL_AGENTS_HOME=str(bare.path / "nowhere"))

    assert done.returncode == 4
    assert f"OTEL_AGENTS_HOME names {bare.path}/nowhere" in done.stderr


def test_without_a_run_the_way_to_one_is_told(shell: Shell) -> None:
    """An empty workspace, and one without any file of signals."""
    for arguments in ((), ("--watch",), ("--run-id", "x")):
        done = shell.run("status", *arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (4, "", 1)
        assert "opentelemetry-instrument" in done.stderr


def test_a_run_that_is_not_there_is_named(shell: Shell) -> None:
    """And the one that is there is named too."""
    shell.write(shop().lines())
    done = shell.run("status", "--run-id", "run-2", "--json")
    error = json.loads(done.stdout)["error"]

    assert (done.returncode, error["code"]) == (4, "not_found")
    assert "run-2" in error["message"]
    assert "run-1" in done.stderr


@pytest.mark.parametrize(
    ("result", "status", "code"),
    [("success", "succeeded", 0), ("error", "failed", 1), ("cancellation", "canceled", 3)],
)
def test_the_exit_code_tells_how_the_run_ended(
    shell: Shell, result: str, status: str, code: int
) -> None:
    """0, 1 or 3, with JSON and without."""
    shell.write(shop(result=result).lines())
    done = shell.run("status")
    assert (done.returncode, done.stderr) == (code, "")
    assert (
        f"shop  {'✓✗■'[('success', 'error', 'cancellation').index(result)]} {status}" in done.stdout
    )

    as_json = shell.run("status", "--json")
    assert (as_json.returncode, as_json.stderr) == (code, "")
    assert json.loads(as_json.stdout)["data"]["status"] == status


def test_a_run_under_way_and_a_lost_one(shell: Shell) -> None:
    """What was heard of a moment ago runs; what has been silent for long is lost."""
    shell.write(fresh().start("run", name="shop").lines())
    assert shell.run("status").returncode == 0
    assert shell.data("status")["status"] == "running"

    shell.write(fresh("old", ago=3600).start("run", name="shop").lines())
    assert shell.run("status", "--run-id", "old").returncode == 3
    assert shell.data("status", "--run-id", "old")["error"]["type"] == "lost"


def test_torn_lines_and_garbage_are_passed_over(shell: Shell) -> None:
    """A crash tears the last line, and a file can hold anything; the rest still counts."""
    lines = shop().lines().splitlines(keepends=True)
    garbage = [b"\n", b"not json\n", b"\x00\xff\xfe\n", b'{"id": 1}\n', b"[]\n", b'{"id":"x",\n']
    mixed = [
        part for line, noise in zip(lines, garbage * 9, strict=False) for part in (noise, line)
    ]
    shell.write(b"".join(mixed) + lines[0][: len(lines[0]) // 2])

    assert shell.data("status") == shell.data("status", "--run-id", "run-1")
    assert [row["status"] for row in shell.data("status")["phases"]] == ["completed"] * 3
    assert shell.data("status")["usage"]["total_tokens"] == 330


def test_rotated_files_are_read_too(shell: Shell) -> None:
    """A run that began in a file that was full since is one run."""
    lines = shop().lines().splitlines(keepends=True)
    whole = shell.path / "whole"
    whole.mkdir()
    shell.write(b"".join(lines[:5]))
    shell.signals.rename(shell.signals.with_name(f"signals-{5:020d}.jsonl"))
    shell.write(b"".join(lines[5:]))

    found = shell.data("status")
    assert (found["status"], found["started_at"]) == ("succeeded", "2026-01-01T00:00:00.000Z")
    assert found["cost_usd"] == 0.75


def test_the_workspace_is_found_from_below(shell: Shell) -> None:
    """As git finds its own."""
    shell.write(shop().lines())
    below = shell.path / "src" / "deep"
    below.mkdir(parents=True)

    assert type(shell)(below).data("status")["run_id"] == "run-1"


def test_names_cannot_command_the_terminal(shell: Shell, tmp_path: Path) -> None:
    """Escape sequences and marks that turn text around are written out, in errors too."""
    evil = "a\x1b]0;owned\x07\u202eexe"
    story = fresh("run\x1b[2J", evil).start("run", name=evil)
    story.start("phase", "p", evil).start("agent", "a", evil, phase=evil)
    story.end("a", "error", error=(evil, evil + "\n\x9b31m"))
    shell.write(story.lines())
    shown = shell.run("status").stdout + shell.run("status", "--run-id", "\x1b[2J").stderr

    assert {char for char in shown if not char.isprintable()} == {"\n"}
    assert r"a\x1b]0;owned\x07\u202eexe" in shown


def test_a_terminal_without_unicode_gets_ascii(shell: Shell) -> None:
    """Signs have ASCII ones in their place, names are spelled out."""
    shell.write(fresh(workflow="Läden").start("run", name="Läden").lines())
    done = shell.run("status", PYTHONUTF8="0", PYTHONIOENCODING="ascii")

    assert done.stdout.isascii()
    assert done.stdout.startswith(r"L\xe4den  > running")


def telling() -> list[Signal]:
    """Return the signals of a run that told of its tasks, a critic and a validation."""
    story = fresh(ago=100).start("run", name="shop")
    events = [
        queued(1),
        emitted("agent_started", 1, agent="coder", task_id="t-1"),
        emitted("agent_started", 2, agent="coder", task_id="t-1"),
        emitted(
            "agent_completed", 2, agent="coder", task_id="t-1", status="success", duration_ms=9,
            cost_usd=0.5,
        ),
        emitted("critic_decision", 1, rejected=True, task_id="t-1", agent="critic"),
        validated(1),
        validated(2, "failed"),
        queued(3, run_id="run-2"),
    ]  # fmt: skip
    return [*story.signals, *events]


@pytest.mark.parametrize("through", ["files", "store", "server"])
def test_the_kpis_of_the_run_are_told(shell: Shell, through: str) -> None:
    """The same ones, with what they are made of, whoever is asked; repeats count once."""
    signals = telling()
    if through == "files":
        shell.write(b"".join(map(encode_line, signals * 2)))
        found = shell.data("status", "--run-id", "run-1")["kpis"]
    else:
        shell.put(Batch(signals=signals))
        shell.put(Batch(signals=signals))
        if through == "store":
            found = shell.data("status", "--run-id", "run-1")["kpis"]
        else:
            with Serving(shell) as serving:
                asked = ("status", "--run-id", "run-1", "--server", serving.url)
                found = shell.data(*asked)["kpis"]

    assert list(found) == [*KPIS, "counts"]
    assert found["cost_per_feature"] == 0.5
    assert found["average_retry_count"] == 1 / 2
    assert found["critic_rejection_rate"] == 1.0
    assert found["validation_pass_rate"] == 0.5
    assert found["counts"]["events"] == 7
    assert found["counts"]["agents_active"] == 1


def test_only_kpis_with_something_to_count_are_shown(shell: Shell) -> None:
    """And none at all where a run told of no event."""
    shell.write(fresh("quiet", ago=200).start("run", name="shop").end("run").lines())
    assert "KPIs" not in shell.run("status").stdout

    shell.write(b"".join(map(encode_line, telling())))
    shown = shell.run("status", "--run-id", "run-1", COLUMNS="200").stdout
    line = next(line for line in shown.splitlines() if line.startswith("KPIs"))
    assert "cost per feature $0.5000" in line
    assert "retries 0.5 a task" in line
    assert "critic rejections 100% of 1 · validations passed 50% of 2" in line

    only_agents = fresh("later", ago=1).start("run", name="shop").start("agent", "a", "writer")
    shell.write(only_agents.wait(0.5).end("a").end("run").lines())
    shown = shell.run("status", "--run-id", "later", COLUMNS="200").stdout
    line = next(line for line in shown.splitlines() if line.startswith("KPIs"))
    assert line == "KPIs    agent utilization 100%"
