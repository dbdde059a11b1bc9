"""`otel-agents demo`: a run that is followed live, and a server that is gone afterwards."""

from __future__ import annotations

import re
import socket
import subprocess
from typing import TYPE_CHECKING, Final
from urllib.request import urlopen

import pytest

from otel_agents.cli import child
from otel_agents.errors import UnavailableError

from .serving import Serving
from .terminal import Terminal

if TYPE_CHECKING:
    from .conftest import Shell

# On the usual ports, where they are free: two at once are in each other's way.
pytestmark = pytest.mark.xdist_group("cli-demo")

CONSOLE: Final = re.compile(r"in a browser:\s+(http://127\.0\.0\.1:\d+)")


def listens(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) == 0


def quiet(shell: Shell) -> Shell:
    """Let no end point of the machine that tests run on take the signals."""
    for name in [name for name in shell.environment if name.startswith("OTEL_EXPORTER")]:
        del shell.environment[name]
    return shell


def test_without_a_terminal_it_ends_by_itself(bare: Shell) -> None:
    """The address first, then the run, its status and `verify`; no server is left behind."""
    done = quiet(bare).run("demo")

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    console = CONSOLE.search(done.stdout)
    assert console is not None
    order = [
        console.group(1),
        f"otel-agents status --watch --server {console.group(1)}",
        "$ opentelemetry-instrument python lighthouse/app.py",
        "Done in 3 iterations",
        "$ otel-agents status --run-id ",
        "logbook  ✓ succeeded",
        "$ otel-agents verify --server ",
        "✓ healthy",
        "The signals are in ",
    ]
    places = [done.stdout.index(part) for part in order]
    assert places == sorted(places)
    assert not listens(console.group(1))
    assert bare.data("status")["status"] == "succeeded"
    assert len(bare.data("monitor", "list", "--limit", "500")) > 50


def test_a_failure_is_told_by_the_exit_code(bare: Shell) -> None:
    """That of `status`."""
    done = quiet(bare).run("demo", "--failure")

    assert done.returncode == 1, done.stderr
    assert "✗ failed" in done.stdout


def test_on_a_terminal_the_console_stays_until_ctrl_c(bare: Shell) -> None:
    """It is there while the run goes on, and gone after."""
    with Terminal(quiet(bare), "demo", "--pace", "0") as terminal:
        terminal.wait_for("otel-agents status --watch --server")
        console = CONSOLE.search(terminal.text())
        assert console is not None
        terminal.wait_for("until Ctrl-C.")
        with urlopen(f"{console.group(1)}/readyz", timeout=30) as answer:  # noqa: S310 - our own
            assert answer.status == 200
        terminal.type("\x03")
        code = terminal.wait()

    assert code == 0
    assert "Traceback" not in terminal.output
    assert not listens(console.group(1))


@pytest.mark.parametrize("how", ["interrupt", "terminate"])
def test_stopped_early_it_leaves_no_server_behind(bare: Shell, how: str) -> None:
    """Ctrl-C while the run goes on, or being asked to end."""
    with quiet(bare).start(
        "demo", "--pace", "5", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        text = ""
        while "Run " not in text:
            text += process.stdout.readline()
        console = CONSOLE.search(text)
        assert console is not None
        assert listens(console.group(1))
        process.send_signal(2 if how == "interrupt" else 15)
        process.communicate(timeout=60)

    assert not listens(console.group(1))


def test_an_end_point_in_the_environment_is_honoured(bare: Shell, shell: Shell) -> None:
    """No server of its own is started: a collector may be listening there."""
    with Serving(shell) as serving:
        bare.environment |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": serving.addresses["otlp_http"],
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
        done = bare.run("demo")
        status = shell.data("status", "--server", serving.url)

    assert done.returncode == 0, done.stderr
    assert CONSOLE.search(done.stdout) is None
    assert status["workflow"] == "logbook"


def test_a_guarded_server_takes_the_demo_s_signals(bare: Shell) -> None:
    """The tokens of the environment go along."""
    tokens = {"OTEL_AGENTS_TOKEN": "admin-1", "OTEL_AGENTS_INGEST_TOKEN": "ingest-1"}
    done = quiet(bare).run("demo", **tokens)

    assert done.returncode == 0, done.stderr
    assert "logbook  ✓ succeeded" in done.stdout


def test_a_port_taken_meanwhile_is_left_to_who_has_it(
    monkeypatch: pytest.MonkeyPatch, shell: Shell
) -> None:
    """Somebody listens on a usual port after it was looked at: another, free one is used."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        looked: list[int] = []

        def free_at_first(asked: int) -> bool:
            looked.append(asked)
            return asked != port or looked.count(port) == 1

        monkeypatch.setattr(
            child, "_PORTS", {"--port": port, "--otlp-http-port": 0, "--otlp-grpc-port": 0}
        )
        monkeypatch.setattr(child, "_is_free", free_at_first)
        with child.Server(shell.workspace) as server:
            assert server.console.rpartition(":")[2] != str(port)
            assert listens(server.console)
            assert server.runs()


def test_a_server_that_cannot_start_says_why(
    monkeypatch: pytest.MonkeyPatch, shell: Shell, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is started once where no port is the reason, and what it says is seen."""
    monkeypatch.setattr(child, "_HOST", "no.such.host.invalid")
    monkeypatch.setattr(child, "_is_free", lambda _port: True)
    with pytest.raises(UnavailableError), child.Server(shell.workspace):
        pass

    assert capfd.readouterr().err.count("otel-agents: ") == 1
