"""`otel-agents logs`: the files of the workspace, and a server's log records."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from otel_agents.agent_logs import file_name
from otel_agents.cli.log_files import Tail, lines_of, log_files
from otel_agents.store import Batch, LogRecord
from otel_agents.workspace import Workspace, create

from .filled import EVIL, failing, healthy
from .serving import Serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import Shell

STAMP = "2026-11-21T14:00:00.000Z INFO shop"


def log(workspace: Workspace, agent_id: str, *messages: str) -> Path:
    """Write to an agent's file as a program does."""
    path = workspace.logs / file_name(agent_id)
    with path.open("a") as file:
        file.writelines(f"{STAMP} {message}\n" for message in messages)
    return path


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return create(tmp_path)[0]


def test_the_files_are_listed_with_whose_they_are(shell: Shell) -> None:
    """The latest first; one that the store does not know is listed too."""
    shell.put(Batch(signals=failing().signals))
    for number, agent_id in enumerate(("stranger", "writer-1", "writer-2"), 1):
        os.utime(log(shell.workspace, agent_id, "x" * number), (number * 1e9, number * 1e9))
    data, shown = shell.data("logs"), shell.run("logs").stdout

    assert [(each["agent_id"], each["agent"], each["run_id"], each["bytes"]) for each in data] == [
        ("writer-2", "writer", "run-2", len(STAMP) + 5),
        ("writer-1", "writer", "run-2", len(STAMP) + 4),
        ("stranger", None, None, len(STAMP) + 3),
    ]
    assert data[0]["file"] == str(shell.workspace.logs / "writer-2.log")
    assert data[2]["modified_at"] == "2001-09-09T01:46:40.000Z"
    assert shown.index("writer-2") < shown.index("writer-1") < shown.index("stranger")


def test_without_any_file_that_is_said(shell: Shell) -> None:
    """It is no error; without a workspace it is."""
    assert shell.data("logs") == []
    assert shell.run("logs").stdout.startswith("No agent has logged anything yet")
    assert shell.run("logs", OTEL_AGENTS_HOME=str(shell.path / "nowhere")).returncode == 4


def test_the_text_of_a_file_is_shown(shell: Shell) -> None:
    """All of it with what was rotated away, or its last lines."""
    path = log(shell.workspace, "a1", "one", "two")
    path.rename(path.with_name("a1.log.1"))
    log(shell.workspace, "a1", "three", "four")

    assert shell.run("logs", "a1").stdout.splitlines() == [
        f"{STAMP} {word}" for word in ("one", "two", "three", "four")
    ]
    assert shell.run("logs", "a1", "--lines", "3").stdout.splitlines() == [
        f"{STAMP} {word}" for word in ("two", "three", "four")
    ]
    assert shell.run("logs", "a1", "-n", "0").stdout == ""
    assert shell.data("logs", "a1", "-n", "1") == {
        "agent_id": "a1", "file": str(path), "lines": [f"{STAMP} four"],
    }  # fmt: skip


def test_a_name_lists_the_files_of_its_attempts(shell: Shell) -> None:
    """Following one of several is wrong usage that names the latest."""
    shell.put(Batch(signals=failing().signals))
    log(shell.workspace, "writer-1", "one")
    log(shell.workspace, "writer-3", "three")
    log(shell.workspace, "other", "x")

    assert {each["agent_id"] for each in shell.data("logs", "writer")} == {"writer-1", "writer-3"}
    followed = shell.run("logs", "writer", "--follow")
    assert followed.returncode == 2
    assert "writer-3" in followed.stderr
    silent = shell.run("logs", "writer-2")
    assert (silent.returncode, "logged nothing" in silent.stderr) == (4, True)


def test_what_a_terminal_obeys_is_written_out(shell: Shell) -> None:
    """Though the file were written by somebody else."""
    path = shell.workspace.logs / "a1.log"
    path.write_bytes(f"a {EVIL}\r\x9b31m\n".encode() + b"\xff\x00\n")
    shown = shell.run("logs", "a1").stdout

    assert {char for char in shown if not char.isprintable()} == {"\n"}
    assert r"\x1b]0;owned\x07\u202eexe" in shown


@pytest.mark.parametrize(
    "agent_id",
    ["../secret", "..", ".", "", "../../.otel-agents/secret", "logs/../../secret", "..\\secret",
     "%2e%2e%2fsecret", "%252e%252e%252fsecret", "secret", "ABSOLUTE", "link", "a1.log/../secret",
     "secret.log", "fifo", "folder"],
)  # fmt: skip
def test_nothing_outside_the_logs_is_shown(shell: Shell, agent_id: str) -> None:
    """Whatever the id says and whatever was planted there: exit code 4 at once."""
    home = shell.workspace
    for path in (shell.path / "secret.log", home.path / "secret.log", home.path / "secret"):
        path.write_text("canary\n")
    (home.logs / "link.log").symlink_to(home.path / "secret.log")
    os.mkfifo(home.logs / "fifo.log")
    (home.logs / "folder.log").mkdir()
    if agent_id == "ABSOLUTE":
        agent_id = str(home.path / "secret")
    for more in ((), ("--follow",), ("--json",)):
        done = shell.run("logs", agent_id, *more)
        assert done.returncode == 4, done.stdout
        assert "canary" not in done.stdout + done.stderr
    assert shell.data("logs") == []


def test_an_id_with_a_nul_names_no_file(workspace: Workspace) -> None:
    """A command line cannot hold one, but a caller may."""
    (workspace.path / "secret.log").write_text("canary")

    assert lines_of(workspace, "../secret\0") is None
    assert lines_of(workspace, "a\0b") is None
    log(workspace, "a\0b", "mine")
    assert lines_of(workspace, "a\0b") == [f"{STAMP} mine"]
    assert [file.name for file in log_files(workspace)] == [file_name("a\0b")]


# ---------------------------------------------------------------------- following


def test_following_survives_rotation_and_truncation(workspace: Workspace) -> None:
    """Every whole line is seen once, from no file at all on."""
    tail = Tail(workspace, "a1")
    seen = [list(tail.new())]
    path = log(workspace, "a1", "1", "2")
    seen.append(list(tail.new()))
    log(workspace, "a1", "3")
    path.rename(path.with_name("a1.log.1"))
    log(workspace, "a1", "4")
    seen.append(list(tail.new()))
    with path.open("a") as file:
        file.write("begun ")
    seen.append(list(tail.new()))
    with path.open("a") as file:
        file.write("and ended\n")
    seen.append(list(tail.new()))
    path.write_text("cut\n")
    seen.append(list(tail.new()))
    path.unlink()
    seen.append(list(tail.new()))
    log(workspace, "a1", "anew")
    seen.append(list(tail.new()))
    tail.close()

    assert [[line.split()[-1] for line in lines] for lines in seen] == [
        [], ["1", "2"], ["3", "4"], [], ["ended"], ["cut"], [], ["anew"],
    ]  # fmt: skip


def test_following_loses_no_line_while_the_file_is_rotated(workspace: Workspace) -> None:
    """A writer that renames all the time, as `agent_logs` does."""
    total = 2000

    def write() -> None:
        for number in range(total):
            path = log(workspace, "a1", str(number))
            if number % 50 == 49:
                read_up_to.wait_for(number)
                path.rename(path.with_name("a1.log.1"))

    class Place:
        """How far the reader is: two rotations between two looks would lose a file."""

        number = -1

        def wait_for(self, number: int) -> None:
            deadline = time.monotonic() + 120
            while self.number < number - 25 and time.monotonic() < deadline:
                time.sleep(0.0005)

    read_up_to = Place()
    writer = threading.Thread(target=write)
    tail = Tail(workspace, "a1")
    writer.start()
    seen: list[int] = []
    deadline = time.monotonic() + 120
    while len(seen) < total and time.monotonic() < deadline:
        for line in tail.new():
            seen.append(int(line.split()[-1]))
            read_up_to.number = seen[-1]
    writer.join()
    tail.close()

    assert seen == list(range(total))


def lines_from(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    yield from iter(process.stdout.readline, "")


def test_a_file_is_followed_on_the_command_line(shell: Shell) -> None:
    """Its last lines, and then new ones; Ctrl-C ends it with exit code 3."""
    log(shell.workspace, "a1", *map(str, range(30)))
    with shell.start("logs", "a1", "--follow", "-n", "2", stdout=subprocess.PIPE) as process:
        found = lines_from(process)
        assert [next(found), next(found)] == [f"{STAMP} 28\n", f"{STAMP} 29\n"]
        log(shell.workspace, "a1", "new")
        assert next(found) == f"{STAMP} new\n"
        process.send_signal(2)
        assert process.wait(120) == 3


def test_following_with_json_is_an_envelope_a_line(shell: Shell) -> None:
    """Each with the agent and the line."""
    log(shell.workspace, "a1", "one")
    with shell.start("logs", "a1", "-f", "--json", stdout=subprocess.PIPE) as process:
        data = json.loads(next(lines_from(process)))["data"]
        process.kill()

    assert data == {"agent_id": "a1", "line": f"{STAMP} one"}


def test_without_an_agent_there_is_nothing_to_follow(shell: Shell) -> None:
    """In a workspace; a server has one stream of all."""
    assert shell.run("logs", "--follow").returncode == 2


# ---------------------------------------------------------------------- a server's


def record(number: int, agent_id: str = "writer-1", **more: Any) -> Batch:
    found = LogRecord(
        time=time.time_ns(), severity=9, severity_text="INFO", body=f"new {number}",
        agent_id=agent_id, service="press", **more,
    )  # fmt: skip
    return Batch(logs=[found])


def test_a_server_shows_the_records_it_received(shell: Shell, bare: Shell) -> None:
    """Of one agent or of all, in the order they came, safe on a terminal."""
    shell.put(healthy())
    shell.put(record(1, "writer-2"))
    with Serving(shell) as serving:
        server = ("--server", serving.url)
        one = bare.run("logs", "writer-1", *server)
        every = bare.data("logs", *server)
        last = bare.data("logs", "writer-1", "-n", "2", *server)
        unknown = bare.run("logs", "nobody", *server)
        name = bare.run("logs", "writer", *server)

    shown = one.stdout.splitlines()
    assert [line.split(" ", 1)[1] for line in shown] == [
        rf"INFO press line {number} a\x1b]0;owned\x07\u202eexe" for number in range(5)
    ]
    assert (every["agent_id"], every["file"], len(every["lines"])) == (None, None, 6)
    assert last["lines"] == [line.encode().decode() for line in shown[-2:]]
    assert (unknown.returncode, name.returncode) == (4, 4)
    assert "writer-3" in name.stderr


def test_a_server_is_followed(shell: Shell) -> None:
    """New records are shown once each."""
    shell.put(healthy())
    with Serving(shell) as serving:
        arguments = ("logs", "writer-1", "--follow", "-n", "1", "--server", serving.url)
        with shell.start(*arguments, stdout=subprocess.PIPE) as process:
            found = lines_from(process)
            assert " line 4 " in next(found)
            for number in range(3):
                shell.put(record(number, "writer-1" if number != 1 else "writer-2"))
            assert [next(found).split()[-1] for _ in range(2)] == ["0", "2"]
            process.kill()
