"""The native stack's programs: installed, started, reported and ended, on loopback only."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import components
import layout
import parts
import processes
import pytest
from stack import Stack, StackError

pytestmark = pytest.mark.xdist_group("stack")

NATIVE = parts.DEPLOY / "native"


def run(*argv: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(  # noqa: S603 - commands of the repository
        argv, env=os.environ | env, capture_output=True, text=True, timeout=120, check=False
    )


def listening(process: processes.Process) -> set[str]:
    """Return the addresses that a process listens on, as /proc writes them."""
    links = (str(fd.readlink()) for fd in Path(f"/proc/{process.pid}/fd").iterdir())
    sockets = {link[8:-1] for link in links if link.startswith("socket:[")}
    tables = (Path(f"/proc/{process.pid}/net/{name}").read_text() for name in ("tcp", "tcp6"))
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and row[9] in sockets}


def test_the_native_stack_listens_on_loopback_only(stack: Stack) -> None:
    """No part of the native stack can be reached from another machine."""
    # 127.0.0.1, and the same as gRPC writes it on a socket for both families.
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}

    addresses = {name: listening(process) for name, process in stack.processes.items()}

    assert len(addresses) == 6
    assert {name for name, found in addresses.items() if found - loopback} == set()
    assert all(addresses.values())


def alive(stack: Stack) -> list[str]:
    """Return the parts of a stack whose processes run."""
    return [name for name, process in stack.processes.items() if processes.is_alive(process)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("programs")
def test_a_signal_to_the_parent_ends_the_stack(tmp_path: Path, number: signal.Signals) -> None:
    """A program that is interrupted or terminated inside `with` leaves no process behind."""
    code = (
        "import signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "from stack import Stack\n"
        # A shell starts what runs in the background with SIGINT ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with Stack.start(sys.argv[2]): print('up', flush=True); signal.pause()\n"
    )
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", code, NATIVE, tmp_path],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as parent:  # fmt: skip
        assert parent.stdout
        assert parent.stdout.readline() == "up\n"
        started = Stack.attach(tmp_path)
        assert started
        assert len(alive(started)) == 6

        parent.send_signal(number)

        assert parent.wait(timeout=60) == -number
    assert alive(started) == []


@pytest.mark.usefixtures("programs")
def test_a_part_that_ends_at_start_is_named_with_its_log(tmp_path: Path) -> None:
    """A part that cannot start gives one sentence and its log's end, and the rest is ended."""
    (tmp_path / "data" / "jaeger").mkdir(parents=True)
    (tmp_path / "data" / "jaeger" / "keys").write_text("not a folder")

    with pytest.raises(StackError, match=r"jaeger ended; the end of .*\n(.*\n)*.*not a directory"):
        Stack.start(tmp_path)

    started = Stack.attach(tmp_path)
    assert started
    assert alive(started) == []


def test_only_the_parts_asked_for_are_started(programs: dict[str, Path], tmp_path: Path) -> None:
    """A stack of two parts has two processes, and is found again as such."""
    with Stack.start(tmp_path, only={"collector", "jaeger"}) as stack:
        again = Stack.attach(tmp_path)
        assert again
        assert again.status() == stack.status() == {"jaeger": "up", "collector": "up"}


def test_secrets_are_made_once_and_for_their_owner_only(stack: Stack, tmp_path: Path) -> None:
    """Each stack has tokens of its own, which nobody else may read and a new start keeps."""
    folder = stack.state / "secrets"
    tokens = {path.name: path.read_text() for path in folder.iterdir()}

    layout.prepare(stack.state, stack.ports)
    layout.prepare(tmp_path, stack.ports)

    assert tokens == {
        "token": stack.token,
        "ingest_token": stack.ingest_token,
        "viewer_token": stack.viewer_token,
    }
    assert {path.name: path.read_text() for path in folder.iterdir()} == tokens
    assert len({*tokens.values(), (tmp_path / "secrets" / "token").read_text()}) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_no_secret_is_in_an_environment_or_on_a_command_line(stack: Stack) -> None:
    """The parts get their tokens by file: none is where every user of the machine may look."""
    secrets = [each.encode() for each in (stack.token, stack.ingest_token, stack.viewer_token)]
    shown = {
        name: Path(f"/proc/{process.pid}/environ").read_bytes()
        + Path(f"/proc/{process.pid}/cmdline").read_bytes()
        for name, process in stack.processes.items()
    }

    assert [name for name, text in shown.items() if any(each in text for each in secrets)] == []
    assert b"secrets/ingest_token" in shown["server"]


def test_alertmanager_is_told_where_the_console_is(stack: Stack) -> None:
    """The one address in Alertmanager's configuration is this stack's console."""
    written = (stack.state / "alertmanager" / "alertmanager.yml").read_text()

    assert f"- url: {stack.console}/api/alerts\n" in written
    assert layout.COMPOSE_CONSOLE not in written


def test_runbooks_of_alerts_are_where_the_console_is(tmp_path: Path) -> None:
    """Each alert of the copy leads to the port that was chosen; a default port changes nothing."""
    usual = dict(components.PUBLIC_PORTS)
    others = {"collector_metrics": 1, "jaeger_metrics": 2}
    for ports in (usual | others, usual | others | {"console": 4010}):
        layout.prepare(tmp_path, ports)
        copied = tmp_path / "prometheus" / "rules"

        rules = (copied / "alerts.yml").read_text()
        assert set(re.findall(r"runbook_url: (.*)/runbooks/", rules)) == {
            f"http://127.0.0.1:{ports['console']}"
        }
        assert {path.name for path in copied.iterdir()} == {"alerts.yml", "recording.yml"}
    assert layout.RULES_CONSOLE in (layout.RULES / "alerts.yml").read_text()


def test_redis_answers(stack: Stack) -> None:
    """Redis takes a command on the address that the stack tells."""
    with socket.create_connection(("127.0.0.1", stack.ports["redis"]), timeout=10) as redis:
        redis.sendall(b"PING\r\n")
        assert redis.recv(100) == b"+PONG\r\n"


def test_a_second_stack_in_the_same_folder_is_refused(stack: Stack) -> None:
    """A folder whose stack runs is not taken by another one."""
    with pytest.raises(StackError, match=r"runs in .* already"):
        Stack.start(stack.state)


def test_a_taken_port_is_named(
    programs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual ports are not taken from whoever listens there: one sentence names the port."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setattr(components, "PUBLIC_PORTS", {"jaeger_query": port})
        with pytest.raises(StackError, match=rf"^Port {port} on 127.0.0.1 is taken: .*\.$"):
            Stack.start(tmp_path, default_ports=True)


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the programs one sentence says how to get them, and nothing is made."""
    monkeypatch.setenv("OTEL_AGENTS_STACK_CACHE", str(tmp_path / "cache"))

    with pytest.raises(StackError, match=r"^otelcol is missing: run deploy/native/install"):
        Stack.start(tmp_path / "stack")

    assert not (tmp_path / "stack").exists()


def test_a_process_that_took_over_an_id_is_left_alone() -> None:
    """A process with the id of one that we started, but another start time, is not ended."""
    with subprocess.Popen(["sleep", "60"]) as other:  # noqa: S607
        try:
            processes.end([processes.Process(other.pid, started=1)])

            assert other.poll() is None
        finally:
            other.kill()


@pytest.mark.usefixtures("programs")
def test_the_command_brings_a_stack_up_and_down(tmp_path: Path) -> None:
    """The command starts a stack that outlives it, reports it, ends it, and says so by its code."""

    def command(word: str, *more: str) -> subprocess.CompletedProcess[str]:
        return run(sys.executable, NATIVE / "stack.py", word, "--state", tmp_path, *more)

    try:
        codes = [command("status").returncode]
        up = command("up", "--free-ports")
        codes += [up.returncode, command("status").returncode, command("up").returncode]
        started = Stack.attach(tmp_path)
    finally:
        down = command("down")
    codes += [down.returncode, command("status").returncode]

    assert codes == [1, 0, 0, 0, 0, 1]
    assert started
    for line in (
        f"OTLP/HTTP     {started.otlp_http}\n",
        f"console       {started.console}\n",
        f"its token     {tmp_path}/secrets/token\n",
    ):
        assert line in up.stdout
    assert alive(started) == []


# --- installation


def test_the_installer_reports_what_is_there(programs: dict[str, Path]) -> None:
    """`install --check` names every program's place and exits 0 when all are there."""
    done = run(NATIVE / "install", "--check")

    assert done.returncode == 0
    assert [name for name, path in programs.items() if str(path) not in done.stdout] == []


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ("collector", "Go is not on the PATH"),
        ("jaeger", "Go is not"),
        ("promtool3", "Go is not"),
        ("prometheus", "apt-get"),
        ("alertmanager", "Alertmanager is not on the PATH and apt-get"),
        ("redis", "redis-server is not here"),
    ],
)
def test_the_installer_says_what_it_lacks(tmp_path: Path, part: str, sentence: str) -> None:
    """Without Go, or without apt, the installer gives one sentence and exits 1."""
    env = {"PATH": str(tmp_path), "OTEL_AGENTS_STACK_CACHE": str(tmp_path)}

    checked = run(sys.executable, NATIVE / "install.py", "--check", part, **env)
    done = run(sys.executable, NATIVE / "install.py", part, **env)

    assert checked.returncode == 1
    assert "is missing" in checked.stdout
    assert done.returncode == 1
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
