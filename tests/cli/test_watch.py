"""`otel-agents status --watch`: in a terminal, in a pipe and as JSON, while a program writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from otel_agents.cli.follow import Follower
from otel_agents.cli.kpis import Counted
from otel_agents.cli.watch import JsonLines, follow_run
from otel_agents.state.liveness import here
from otel_agents.state.run import fold
from otel_agents.workspace import Workspace

from state.build import SECOND, Story, shop, tokens  # isort: skip - conftest puts it in reach

if sys.platform == "win32":
    pytest.skip("there are no pseudo-terminals", allow_module_level=True)

if TYPE_CHECKING:
    from otel_agents.state.report import RunReport

    from .conftest import Shell

from .terminal import OTHER_SCREEN, SHOW_CURSOR, USUAL_SCREEN, Terminal


class Program:
    """A program whose story is written to the workspace bit by bit, by the real clock."""

    def __init__(self, shell: Shell, run_id: str = "run-1") -> None:
        self.shell = shell
        self.story = Story(run_id, begin=time.time_ns())
        self._written = 0

    def tell(self, step: Any) -> None:
        """Take a step of the story and write it."""
        self.story.now = max(self.story.now + 1, time.time_ns())
        step(self.story)
        self.shell.write(b"".join(self.story.lines().splitlines(keepends=True)[self._written :]))
        self._written = len(self.story.signals)


@pytest.fixture
def program(shell: Shell) -> Program:
    """Give a program that has just started its run."""
    found = Program(shell)
    found.tell(lambda story: story.start("run", "run", "shop"))
    return found


def begin_build(story: Story) -> None:
    story.start("phase", "p", "build").start("agent", "a", "writer", phase="build", attempt=2)


def end_build(story: Story) -> None:
    story.end("a", usage=tokens(1000), cost=0.5).end("p")


def test_a_terminal_is_drawn_on_until_the_run_ends(shell: Shell, program: Program) -> None:
    """Each change shows; the summary stays on the usual screen and the exit code says success."""
    with Terminal(shell, "status", "--watch") as terminal:
        terminal.wait_for("running")
        program.tell(begin_build)
        terminal.wait_for("● writer  running  attempt 2")
        program.tell(lambda story: story.progress("a", usage=tokens(500), cost=0.25))
        terminal.wait_for("$0.2500")
        program.tell(end_build)
        program.tell(lambda story: story.end("run"))
        code = terminal.wait()

    assert code == 0
    drawn, summary = terminal.output.split(USUAL_SCREEN)
    assert drawn.lstrip().startswith(OTHER_SCREEN)
    assert "succeeded" in summary
    assert "1,100" in summary
    assert summary.endswith(SHOW_CURSOR) or SHOW_CURSOR in terminal.output
    # Drawn over, line by line: a screen that is cleared first flickers.
    assert "\x1b[2J" not in drawn.removeprefix(OTHER_SCREEN)


def test_another_size_is_another_layout(shell: Shell, program: Program) -> None:
    """Though nothing is heard of the run."""
    program.tell(begin_build)
    with Terminal(shell, "status", "--watch", columns=100) as terminal:
        terminal.wait_for("attempt 2")
        before = len(terminal.output)
        terminal.resize(60, 20)
        terminal.wait_for("try 2", since=before)


def test_ctrl_c_leaves_the_terminal_as_it_was(shell: Shell, program: Program) -> None:
    """With the state of the run as last seen, and exit code 3."""
    program.tell(begin_build)
    with Terminal(shell, "status", "--watch") as terminal:
        terminal.wait_for("writer")
        terminal.type("\x03")
        code = terminal.wait()

    assert code == 3
    left = terminal.output.split(USUAL_SCREEN)[1]
    assert "writer" in left
    assert "Traceback" not in terminal.output
    assert SHOW_CURSOR in terminal.output


def test_being_asked_to_end_leaves_the_terminal_as_it_was(shell: Shell, program: Program) -> None:
    """As `kill` asks."""
    program.tell(begin_build)
    with Terminal(shell, "status", "--watch") as terminal:
        terminal.wait_for("writer")
        terminal.process.send_signal(signal.SIGTERM)
        code = terminal.wait()

    assert (code, USUAL_SCREEN in terminal.output, SHOW_CURSOR in terminal.output) == (
        3,
        True,
        True,
    )


@pytest.mark.parametrize(("result", "code"), [("success", 0), ("failure", 1), ("cancellation", 3)])
def test_a_pipe_gets_a_line_a_change_and_the_summary(
    shell: Shell, program: Program, result: str, code: int
) -> None:
    """No escape sequences, no screen; the exit code is the run's."""
    with shell.start("status", "--watch", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith(" shop running\n")
        program.tell(begin_build)
        assert process.stdout.readline().endswith(" shop running · build · agents: 1 running\n")
        program.tell(lambda story: story.progress("run"))  # a heartbeat is no change
        program.tell(end_build)
        line = process.stdout.readline()
        assert line.endswith(" shop running · agents: 1 completed · 1,100 tokens · $0.5000\n")
        program.tell(lambda story: story.end("run", result))
        rest = process.stdout.read()

    assert process.returncode == code
    assert "\x1b" not in rest
    assert rest.count("✓ build") == 1


def test_json_is_an_envelope_a_line_a_change(shell: Shell, program: Program) -> None:
    """Heartbeats too, since they say when the run was last heard of."""
    with shell.start("status", "--watch", "--json", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        seen = [process.stdout.readline()]
        for step in (begin_build, lambda story: story.progress("run"), end_build):
            program.tell(step)
            seen.append(process.stdout.readline())
        program.tell(lambda story: story.end("run"))
        seen += process.stdout.readlines()
    data = [json.loads(line)["data"] for line in seen]

    assert process.returncode == 0
    assert [found["status"] for found in data] == ["running"] * 4 + ["succeeded"]
    assert [found["usage"]["total_tokens"] for found in data] == [0, 0, 0, 1100, 1100]
    assert data[2]["updated_at"] > data[1]["updated_at"]


def test_a_killed_program_ends_the_watch_as_lost(shell: Shell) -> None:
    """Its process is gone: nobody has to wait for the heartbeat's time to live."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as victim:
        story = Story(begin=time.time_ns())
        story.start("run", name="shop", pid=victim.pid, host=here())
        shell.write(story.lines())
        with shell.start("status", "--watch", "--json", stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            first = json.loads(process.stdout.readline())["data"]
            os.kill(victim.pid, signal.SIGKILL)
            last = [json.loads(line)["data"] for line in process.stdout][-1]

    assert (first["status"], last["status"], process.returncode) == ("running", "lost", 3)
    assert str(victim.pid) in last["error"]["message"]


def test_rotation_is_followed(shell: Shell, program: Program) -> None:
    """What is written after the file was renamed is seen, and nothing is counted twice."""
    with shell.start("status", "--watch", "--json", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        shell.signals.rename(shell.signals.with_name(f"signals-{7:020d}.jsonl"))
        program.tell(begin_build)
        program.tell(end_build)
        program.tell(lambda story: story.end("run"))
        last = json.loads(process.stdout.readlines()[-1])["data"]

    assert (last["status"], last["usage"]["total_tokens"]) == ("succeeded", 1100)


def test_the_run_that_was_chosen_is_watched_to_its_end(shell: Shell, program: Program) -> None:
    """Another one that starts meanwhile does not take its place."""
    with shell.start("status", "--watch", "--json", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        other = Program(shell, "run-2")
        other.tell(lambda story: story.start("run", "other", "shop"))
        program.tell(lambda story: story.end("run"))
        last = json.loads(process.stdout.readlines()[-1])["data"]

    assert (last["run_id"], last["status"]) == ("run-1", "succeeded")


class LateWriter(JsonLines):
    """Writes the end of an agent only when it has shown that the run is over."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        self.seen: list[dict[str, int]] = []

    def show(self, read: RunReport, kpis: dict[str, Any] | None) -> None:
        """Note how the agents stand."""
        found = dict(Counter(agent.status for agent in read.agents))
        if found not in self.seen:
            self.seen.append(found)
            if len(self.seen) == 1:
                self.program.tell(end_build)


def test_an_end_that_another_process_writes_late_is_waited_for(
    shell: Shell, program: Program
) -> None:
    """The last reading shows the agent as completed, not as lost."""
    program.tell(begin_build)
    program.tell(lambda story: story.end("run"))
    follower = Follower(Workspace(shell.signals.parent))
    runs = fold(follower.new())
    shown = LateWriter(program)
    follow_run(follower, runs, runs.by_id["run-1"], Counted("run-1"), shown)

    assert shown.seen == [{"lost": 1}, {"completed": 1}]


def test_a_run_that_has_ended_is_shown_once(shell: Shell) -> None:
    """There is nothing to wait for."""
    shell.write(shop(begin=time.time_ns() - 200 * SECOND).lines())
    done = shell.run("status", "--watch", "--json")

    assert (done.returncode, done.stdout.count("\n")) == (0, 1)
