"""Following through a server: events and runs as they go on, over a restart of the server too."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from otel_agents.store import Batch

from .filled import ago, event
from .serving import Serving
from .terminal import USUAL_SCREEN, Terminal

from state.build import Story, tokens  # isort: skip

if TYPE_CHECKING:
    from .conftest import Shell


class Teller:
    """A run that is told to the store bit by bit."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.story = Story("run-1", "shop", begin=time.time_ns())
        self._told = 0

    def tell(self, *steps: tuple[Any, ...]) -> None:
        """Take steps of the story, each `(method, arguments…)`, and store their signals."""
        for method, *arguments in steps:
            self.story.now = max(self.story.now + 1, time.time_ns())
            more = arguments.pop() if arguments and isinstance(arguments[-1], dict) else {}
            getattr(self.story, method)(*arguments, **more)
        self.shell.put(Batch(signals=self.story.signals[self._told :]))
        self._told = len(self.story.signals)


def next_data(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())["data"]


@pytest.fixture(params=["workspace", "server"])
def through(request: pytest.FixtureRequest, shell: Shell) -> Any:
    """Ask the workspace's store, or a server of it."""
    if request.param == "workspace":
        yield ()
        return
    with Serving(shell) as serving:
        yield ("--server", serving.url)


def test_new_events_are_shown_as_they_come(shell: Shell, through: tuple[str, ...]) -> None:
    """After the last that there are, once each, those that arrive late too; filters hold."""
    shell.put(Batch(signals=[event(1, at=300), event(3, at=200), event(5, at=100)]))
    arguments = ("events", "--follow", "--json", "--limit", "2", "--reason-code", "timeout")
    with shell.start(*arguments, *through, stdout=subprocess.PIPE) as process:
        seen = [next_data(process)["task_id"] for _ in range(2)]
        shell.put(Batch(signals=[event(7), event(8)]))
        seen.append(next_data(process)["task_id"])
        shell.put(Batch(signals=[event(9, at=20), event(11)]))
        seen += sorted(next_data(process)["task_id"] for _ in range(2))
        process.kill()

    assert seen == ["task-3", "task-5", "task-7", "task-11", "task-9"]


def test_following_events_begins_with_none(shell: Shell, through: tuple[str, ...]) -> None:
    """A line a piece for people."""
    arguments = ("events", "-f", "--layer", "tool_runtime")
    with shell.start(*arguments, *through, stdout=subprocess.PIPE) as process:
        shell.put(Batch(signals=[event(1)]))
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(2)
        assert process.wait(120) == 3

    assert "tool_runtime RETRY timeout search · task task-1 · run run-1" in line


def test_a_run_is_watched_through_a_server(shell: Shell, bare: Shell) -> None:
    """An envelope a change until it ends; the exit code is the run's."""
    teller = Teller(shell)
    teller.tell(("start", "run", "run", "shop"))
    with Serving(shell) as serving:
        arguments = ("status", "--watch", "--json", "--server", serving.url)
        with bare.start(*arguments, stdout=subprocess.PIPE) as process:
            seen = [next_data(process)]
            teller.tell(("start", "agent", "a", "writer"))
            seen.append(next_data(process))
            teller.tell(("end", "a", "failure", {"usage": tokens(1000)}), ("end", "run", "failure"))
            assert process.stdout is not None
            seen += [json.loads(line)["data"] for line in process.stdout]

    assert process.returncode == 1
    assert [each["status"] for each in seen] == ["running", "running", "failed"]
    assert seen[1]["agents"]["by_status"] == {"running": 1}
    assert seen[-1]["usage"]["total_tokens"] == 1100


def test_a_server_that_is_started_again_is_waited_for(shell: Shell) -> None:
    """It is said once that it is gone, and the watch goes on with what happened meanwhile."""
    teller = Teller(shell)
    teller.tell(("start", "run", "run", "shop"))
    said: list[str] = []
    with Serving(shell) as serving:
        arguments = ("status", "--watch", "--json", "--server", serving.url)
        with shell.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            first = next_data(process)
            assert serving.interrupt() == 0
            said.append(process.stderr.readline())
            teller.tell(("start", "agent", "a", "writer"), ("end", "a"), ("end", "run"))
            port = ("--port", serving.port, "--otlp-http-port", "0", "--otlp-grpc-port", "0")
            with Serving(shell, ports=port):
                last = next_data(process)
                assert process.wait(120) == 0
                said += process.stderr.readlines()

    assert (first["status"], last["status"]) == ("running", "succeeded")
    assert len(said) == 1
    assert said[0].endswith("Waiting for it.\n")


def test_a_terminal_says_that_the_server_is_gone(shell: Shell) -> None:
    """Below the last reading; Ctrl-C leaves the terminal as it was."""
    Teller(shell).tell(("start", "run", "run", "shop"), ("start", "agent", "a", "writer"))
    with Serving(shell) as serving:
        with Terminal(shell, "status", "--watch", "--server", serving.url) as terminal:
            terminal.wait_for("writer")
            serving.interrupt()
            terminal.wait_for("does not answer")
            terminal.type("\x03")
            code = terminal.wait()

    assert code == 3
    assert "writer" in terminal.output.split(USUAL_SCREEN)[1]


def test_a_run_that_only_the_store_knows_is_shown(shell: Shell) -> None:
    """It came by a server: named or as the latest, once and watched."""
    teller = Teller(shell)
    teller.tell(("start", "run", "run", "shop"), ("end", "run"))

    assert shell.data("status")["run_id"] == "run-1"
    assert shell.data("status", "--run-id", "run-1")["status"] == "succeeded"
    assert shell.run("status", "--watch").returncode == 0


def test_the_later_of_files_and_store_is_the_latest(shell: Shell) -> None:
    """A run of the files does not hide one that a server has received since."""
    shell.write(Story("in-file", "shop", begin=ago(600)).start("run", name="shop").lines())
    past = time.time() - 500
    import os

    os.utime(shell.signals, (past, past))
    Teller(shell).tell(("start", "run", "run", "shop"))

    assert shell.data("status")["run_id"] == "run-1"
    assert shell.data("status", "--run-id", "in-file")["run_id"] == "in-file"


def test_many_watchers_hear_the_same(shell: Shell) -> None:
    """Each ends with the run."""
    teller = Teller(shell)
    teller.tell(("start", "run", "run", "shop"))
    codes: list[int] = []
    with Serving(shell) as serving:
        arguments = ("status", "--watch", "--json", "--server", serving.url)
        watchers = [shell.start(*arguments, stdout=subprocess.PIPE) for _ in range(3)]
        for watcher in watchers:
            next_data(watcher)
        teller.tell(("end", "run"))
        waiting = [
            threading.Thread(target=lambda one=watcher: codes.append(one.wait(60)))
            for watcher in watchers
        ]
        for thread in waiting:
            thread.start()
        for thread in waiting:
            thread.join()
        for watcher in watchers:
            watcher.communicate()

    assert codes == [0, 0, 0]
