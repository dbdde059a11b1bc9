"""`otel-agents serve` as a process: what it prints, how it ends, and why it does not start."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import pytest

from .filled import healthy
from .serving import FREE, Serving
from .terminal import Terminal

if TYPE_CHECKING:
    from .conftest import Shell


def test_it_listens_where_it_says(bare: Shell) -> None:
    """One envelope with the addresses, once connections are taken; the workspace is made."""
    with Serving(bare) as serving:
        assert list(serving.addresses) == ["console", "otlp_http", "otlp_grpc", "store"]
        assert all(
            url.startswith("http://127.0.0.1:") for url in list(serving.addresses.values())[:3]
        )
        with urlopen(f"{serving.url}/readyz", timeout=30) as answer:  # noqa: S310 - our own
            assert answer.status == 200
        empty = Request(  # noqa: S310 - our own server
            f"{serving.addresses['otlp_http']}/v1/traces", data=b"", method="POST",
            headers={"content-type": "application/x-protobuf"},
        )  # fmt: skip
        with urlopen(empty, timeout=30) as answer:  # noqa: S310 - our own server
            assert answer.status == 200
        port = int(serving.addresses["otlp_grpc"].rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port), 30).close()
    assert (bare.path / ".otel-agents" / "otel-agents.db").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly_when_asked_to(shell: Shell, number: signal.Signals) -> None:
    """Exit code 0, nothing on stderr, and the ports are free for the next."""
    with Serving(shell) as serving:
        taken = [url.rpartition(":")[2] for url in list(serving.addresses.values())[:3]]
        serving.process.send_signal(number)
        output = serving.process.communicate(timeout=30)
    assert (serving.process.returncode, output) == (0, ("", ""))

    ports = ("--port", taken[0], "--otlp-http-port", taken[1], "--otlp-grpc-port", taken[2])
    with Serving(shell, ports=ports) as again:
        assert again.addresses == serving.addresses


def test_a_terminal_gets_the_addresses_in_a_frame(shell: Shell) -> None:
    """And Ctrl-C, typed there, ends it with exit code 0."""
    with Terminal(shell, "serve", *FREE) as terminal:
        terminal.wait_for("Ctrl-C ends it.")
        terminal.type("\x03")
        code = terminal.wait()

    assert code == 0
    shown = terminal.text()
    for label in ("console    http://127.0.0.1:", "OTLP/HTTP  ", "OTLP/gRPC  ", "otel-agents.db"):
        assert label in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("option", ["--port", "--otlp-http-port", "--otlp-grpc-port"])
def test_a_taken_port_is_named(shell: Shell, option: str) -> None:
    """With the option that chooses another: one sentence, exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = shell.run("serve", *FREE, option, port, "--json")

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"Port {port} is taken" in done.stderr
    assert option in done.stderr
    assert json.loads(done.stdout)["error"]["code"] == "invalid_input"


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 - it must not be bound
def test_beyond_this_machine_it_wants_a_token(shell: Shell, host: str) -> None:
    """One sentence, exit code 2."""
    done = shell.run("serve", *FREE, "--host", host)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "OTEL_AGENTS_TOKEN" in done.stderr


def test_a_token_that_cannot_be_used_does_not_leave_it_open(shell: Shell) -> None:
    """Elsewhere a wrong setting is left out; here that would let anybody in."""
    done = shell.run("serve", *FREE, OTEL_AGENTS_TOKEN="schlüssel")  # noqa: S106 - no token at all

    assert (done.returncode, done.stdout) == (2, "")
    assert "OTEL_AGENTS_TOKEN" in done.stderr
    assert "schl" not in done.stderr


@pytest.mark.parametrize("held", [None, b"", b"\n"])
def test_a_token_file_without_a_token_does_not_leave_it_open(
    shell: Shell, tmp_path: Path, held: bytes | None
) -> None:
    """Neither one that is not there nor an empty one: one sentence, and it does not start."""
    path = tmp_path / "token"
    if held is not None:
        path.write_bytes(held)
    for name in ("TOKEN", "INGEST_TOKEN", "VIEWER_TOKEN"):
        done = shell.run("serve", *FREE, **{f"OTEL_AGENTS_{name}_FILE": str(path)})
        assert (done.returncode, done.stdout) == (2, "")
        assert f"OTEL_AGENTS_{name}_FILE" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--store", "mysql://x/y"), "mysql"),
        (("--host", "nowhere.invalid"), "nowhere.invalid"),
        (("--tls-cert", "missing.pem"), "--tls-key"),
        (("--tls-cert", "missing.pem", "--tls-key", "missing.key"), "missing.pem"),
        (("--port", "70000"), "70000"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(
    shell: Shell, arguments: tuple[str, ...], named: str
) -> None:
    """One sentence, exit code 2."""
    done = shell.run("serve", *FREE, *arguments)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert named in done.stderr


def test_a_store_that_is_down_is_unavailable(shell: Shell) -> None:
    """Exit code 1, and nothing of the password."""
    url = "postgresql://me:secret@127.0.0.1:9/x"
    done = shell.run("serve", *FREE, "--store", url, "--json")

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert json.loads(done.stdout)["error"]["code"] == "unavailable"
    assert "secret" not in done.stdout + done.stderr


def test_another_store_than_the_workspace_s(bare: Shell) -> None:
    """By option; then no workspace is made."""
    path = bare.path / "else" / "store.db"
    path.parent.mkdir()
    with Serving(bare, "--store", f"sqlite:///{path}") as serving:
        assert serving.addresses["store"] == f"sqlite:///{path}"
        assert bare.data("verify", "--server", serving.url)["healthy"]

    assert path.is_file()
    assert not (bare.path / ".otel-agents").exists()


def test_it_speaks_tls(shell: Shell) -> None:
    """A client that does not trust its certificate is told so; one that does reads."""
    cert, key = shell.path / "cert.pem", shell.path / "key.pem"
    subprocess.run(  # noqa: S603 - a key for this test
        ["/usr/bin/openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    shell.put(healthy())
    with Serving(shell, "--tls-cert", str(cert), "--tls-key", str(key)) as serving:
        assert serving.url.startswith("https://127.0.0.1:")
        refused = shell.run("verify", "--server", serving.url)
        trusted = shell.run("verify", "--server", serving.url, SSL_CERT_FILE=str(cert))

    assert refused.returncode == 1
    assert "certificate is not trusted" in refused.stderr
    assert trusted.returncode == 0, trusted.stderr
    assert ssl.OPENSSL_VERSION


def test_without_its_packages_it_names_the_extra(shell: Shell) -> None:
    """As on a plain install."""
    code = (
        "import sys; sys.modules['fastapi'] = None\n"
        "from otel_agents.cli.main import run; sys.exit(run(['serve']))"
    )
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", code],
        cwd=shell.path, env=shell.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert "pip install 'otel-agents[server]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_settings_file_says_where_the_store_is(bare: Shell) -> None:
    """As for every other command."""
    path = Path(bare.path / "mine.db")
    (bare.path / "otel-agents.toml").write_text(f'store = "sqlite:///{path}"\n')
    with Serving(bare) as serving:
        assert bare.data("verify", "--server", serving.url)["healthy"]

    assert bare.data("verify")["healthy"]
    assert path.is_file()
