"""Whoever waits asks a server that may be anybody's, or a store that may be away."""

from __future__ import annotations

import socket
import threading
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from otel_agents.answers import answers_of
from otel_agents.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"


@contextmanager
def replying(reply: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Give the address of what answers every request with some bytes, and the requests."""
    requests: list[bytes] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def work() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        requests.append(connection.recv(65536))
                        with suppress(OSError):
                            connection.sendall(reply)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", requests
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(90)


@pytest.mark.parametrize(
    "reply",
    [
        b"", b"no HTTP\r\n\r\n", b"HTTP/1.1 500 Oh\r\n\r\n", HEAD, HEAD + b"{", HEAD + b"[]",
        HEAD + b'{"data": null}', HEAD + b'{"data": {"status": "answered"}}', HEAD + b"[" * 9999,
        HEAD + b"x" * (2 << 20), b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\n\r\n",
        HEAD + b'{"data": {"status": "answered", "closed_at": null, "decision": "approved",'
        b'"answer": null, "answered_by": "cli", "answered_at": "never"}}',
    ],
    ids=lambda reply: repr(reply[-30:]),
)  # fmt: skip
def test_what_is_no_answer_is_none(reply: bytes) -> None:
    """Whatever comes back, nothing is raised in a program that waits."""
    with replying(reply) as (address, requests):
        answers = answers_of(Settings(server=address, token="the-token-0123456789"))  # noqa: S106
        assert answers is not None
        assert answers.poll("../a b") is None
        assert requests[0].startswith(b"GET /api/hitl/..%2Fa%20b HTTP/1.1\r\n")
        assert b"Authorization: Bearer the-token-0123456789\r\n" in requests[0]


def test_an_answer_is_taken() -> None:
    """As the server says it; one that was closed since is the answer to an earlier question."""
    said = (
        b'{"data": {"status": "answered", "closed_at": %s, "decision": "rejected", "answer": "no",'
        b'"answered_by": "console", "answered_at": "2026-01-01T00:00:01Z"}}'
    )
    with replying(HEAD + said % b"null") as (address, _):
        answers = answers_of(Settings(server=f"{address}/below/"))
        assert answers is not None
        answer = answers.poll("a")
        assert answer is not None
        assert (answer.decision, answer.text, answer.by) == ("rejected", "no", "console")
        assert answer.at == 1_767_225_601 * 10**9
    with replying(HEAD + said % b'"2026-01-01T00:00:02Z"') as (address, _):
        answers = answers_of(Settings(server=address))
        assert answers is not None
        assert answers.poll("a") is None


@pytest.mark.parametrize("store", ["", "postgresql://nobody@127.0.0.1:9/none", "nonsense:"])
def test_a_store_that_is_away_has_no_answer(tmp_path: Path, store: str) -> None:
    """Nor is one made where there is none, whatever is in its place."""
    (tmp_path / "otel-agents.db").mkdir()
    answers = answers_of(Settings(home=str(tmp_path), store=store or None))
    assert answers is not None
    assert [answers.poll("a"), answers.poll("a")] == [None, None]
    answers.close()
    empty = answers_of(Settings(home=str(tmp_path / "none")))
    assert empty is not None
    assert empty.poll("a") is None
    assert not (tmp_path / "none").exists()


def test_without_a_place_there_are_no_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a server, nor a store, nor a workspace."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OTEL_AGENTS_HOME", raising=False)
    assert answers_of(Settings()) is None
