"""A server that is asked over HTTP: wrong addresses, refusals, and answers of somebody else."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from otel_agents.cli import remote
from otel_agents.cli.remote import Remote
from otel_agents.errors import InvalidInputError, UnavailableError

from .conftest import Shell
from .filled import healthy
from .serving import Serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

READING: Final = (
    ("status",), ("status", "--watch"), ("monitor", "list"), ("monitor", "status"),
    ("monitor", "telemetry", "x"), ("events",), ("events", "--follow"), ("verify",), ("logs",),
    ("logs", "x", "--follow"),
)  # fmt: skip
# One worker has all of them, and starts one server.
pytestmark = pytest.mark.xdist_group("cli-remote")

TOKENS: Final = {"OTEL_AGENTS_TOKEN": "admin-1", "OTEL_AGENTS_VIEWER_TOKEN": "viewer-1"}


@contextmanager
def answering(*parts: bytes, hang: bool = False) -> Iterator[tuple[str, list[bytes]]]:
    """Give the address of a server that sends the same bytes to all, and what it was asked."""
    heard: list[bytes] = []
    ending = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        heard.append(connection.recv(65536))
                        for part in parts:
                            connection.sendall(part)
                        if hang:
                            ending.wait(90)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", heard
        finally:
            ending.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(90)


def reply(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join((*lines, "", "")).encode() + body


def sentence(shell: Shell, *arguments: str, **variables: str) -> tuple[int, str, Any]:
    """Return the exit code, the one line on stderr, and the error in the envelope."""
    done = shell.run(*arguments, "--json", **variables)
    assert done.stderr.count("\n") == 1, done.stderr
    return done.returncode, done.stderr, json.loads(done.stdout)["error"]


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_a_server_that_is_not_there_is_said_so(bare: Shell, arguments: tuple[str, ...]) -> None:
    """By every command that reads: one sentence, and exit code 1."""
    code, line, error = sentence(bare, *arguments, "--server", "http://127.0.0.1:9")

    assert (code, error["code"]) == (1, "unavailable")
    assert "http://127.0.0.1:9 does not answer (connection refused)" in line


@pytest.mark.parametrize(
    "url",
    ["localhost:3010", "ftp://h", "http://", "http://h:x", "http://h:99999", "http://a b", "",
     "http://u:p@h", "http://h?x", "http://h#x", "http://h/\n", "http://[::1"],
)  # fmt: skip
def test_what_is_no_address_is_wrong_input(bare: Shell, url: str) -> None:
    """Exit code 2, and how to write one."""
    code, line, error = sentence(bare, "verify", "--server", url)

    assert (code, error["code"]) == (2, "invalid_input")
    assert error["details"] == {"parameter": "server"}
    assert "http://HOST:PORT" in line


def test_a_variable_that_is_no_address_is_not_passed_over(shell: Shell) -> None:
    """The workspace would answer in the server's place."""
    code, line, _ = sentence(shell, "verify", OTEL_AGENTS_SERVER="somewhere")

    assert code == 2
    assert "OTEL_AGENTS_SERVER" in line


def test_variable_and_settings_file_name_the_server(bare: Shell) -> None:
    """The option beats the variable, and the variable the file."""
    (bare.path / "otel-agents.toml").write_text('server = "http://127.0.0.1:1"\n')
    variable = {"OTEL_AGENTS_SERVER": "http://127.0.0.1:2"}

    for command in ("status", "verify"):
        assert "127.0.0.1:1 does" in bare.run(command).stderr
        assert "127.0.0.1:2 does" in bare.run(command, **variable).stderr
        option = ("--server", "http://127.0.0.1:3")
        assert "127.0.0.1:3 does" in bare.run(command, *option, **variable).stderr


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000,
        reply(b"<html>hello</html>"), reply(b"[]"), reply(b"{}"), reply(b'"data"'), reply(b""),
        reply(b'{"data": 1}'), reply(b"\xff\xfe"), reply(b"[" * 100_000),
        reply(b"", "302 Found", "Location: http://169.254.169.254/"),
        reply(b"nothing here", "404 Not Found"), reply(b"", "500 Oops"),
        reply(b'{"data": null, "error": {"code": 7}}', "500 Oops"),
        reply(b'{"data": null, "error": "no"}', "500 Oops"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)  # fmt: skip
def test_an_answer_of_something_else_is_one_sentence(answer: bytes) -> None:
    """And no redirect is followed."""
    with answering(answer) as (url, heard):
        with pytest.raises(UnavailableError, match=url.removeprefix("http://")) as failed:
            Remote(url).verify()

    assert len(heard) == 1
    assert str(failed.value).count(".") < 20


def test_a_report_of_another_shape_is_one_sentence(bare: Shell) -> None:
    """A server of a version to come, perhaps."""
    with answering(reply(b'{"data": {"id": 1}, "error": null, "meta": {}}')) as (url, _):
        code, line, error = sentence(bare, "status", "--server", url)

    assert (code, error["code"]) == (1, "unavailable")
    assert "no otel-agents server, or another version" in line


def test_a_reply_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its size and by its time."""
    monkeypatch.setattr(remote, "MAX_REPLY", 100_000)
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    with answering(head, b"x" * 200_000, hang=True) as (url, _):
        with pytest.raises(UnavailableError, match="takes more than"):
            Remote(url).verify()

    monkeypatch.setattr(remote, "TIMEOUT_SECONDS", 0.2)
    with answering(head, b"x", hang=True) as (url, _):
        with pytest.raises(UnavailableError, match="nothing came in time"):
            Remote(url).verify()

    monkeypatch.setattr(remote, "DEADLINE_SECONDS", 0.0)
    with answering(head, b"x", hang=True) as (url, _):
        with pytest.raises(UnavailableError, match="takes more than"):
            Remote(url).verify()


def test_a_path_in_front_of_the_api_is_kept() -> None:
    """Behind a proxy; ids are one segment each, whatever is in them."""
    good = reply(b'{"data": 1, "error": null, "meta": {}}')
    with answering(good) as (url, heard):
        Remote(f"{url}/agents/").agent("../a b/c?d#é")
        Remote(url).agent("..")

    assert heard[0].startswith(b"GET /agents/api/agents/..%2Fa%20b%2Fc%3Fd%23%C3%A9 HTTP/1.1\r\n")
    assert heard[1].startswith(b"GET /api/agents/%2E%2E HTTP/1.1\r\n")


def test_a_token_cannot_break_out_of_its_header() -> None:
    """It comes from the environment, which may hold anything."""
    with answering(reply(b"{}")) as (url, heard):
        with pytest.raises((UnavailableError, InvalidInputError)):
            Remote(url, "x\r\nX-Evil: 1").verify()

    assert not any(b"X-Evil" in each for each in heard)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Give a server that wants tokens."""
    shell = Shell(tmp_path_factory.mktemp("guarded"))
    shell.run("init")
    shell.put(healthy())
    shell.environment |= TOKENS
    with Serving(shell) as serving:
        yield serving


@pytest.mark.parametrize(
    ("token", "said"),
    [({}, "wants a token"), ({"OTEL_AGENTS_TOKEN": "other"}, "wants another token")],
)
def test_who_has_no_token_is_told_which_to_set(
    bare: Shell, guarded: Serving, token: dict[str, str], said: str
) -> None:
    """By every command that reads: exit code 2, `unauthorized`, and nothing of the token."""
    for arguments in READING:
        code, line, error = sentence(bare, *arguments, "--server", guarded.url, **token)
        assert (code, error["code"]) == (2, "unauthorized")
        assert said in line
        assert "OTEL_AGENTS_TOKEN" in line
        assert "other" not in line.replace("another", "")


def test_a_viewer_reads_all_but_the_runtime(bare: Shell, guarded: Serving) -> None:
    """An admin reads that too."""
    viewer = {"OTEL_AGENTS_VIEWER_TOKEN": "viewer-1"}
    admin = {"OTEL_AGENTS_TOKEN": "admin-1"}
    run: Callable[..., Any] = bare.run

    assert run("monitor", "list", "--server", guarded.url, **viewer).returncode == 0
    assert run("status", "--server", guarded.url, **viewer).returncode == 1
    assert run("verify", "--server", guarded.url, **admin).stderr == ""
    for command in ("verify", "events"):
        code, line, error = sentence(bare, command, "--server", guarded.url, **viewer)
        assert (code, error["code"]) == (2, "unauthorized")
        assert "admin" in line
