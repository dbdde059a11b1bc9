"""`otel-agents hitl`: who waits and what is answered, the same from a store and a server."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from otel_agents.answers import answers_of
from otel_agents.settings import Settings
from otel_agents.signals import Ids, Signal, decode_lines, encode_line
from otel_agents.store import Batch
from otel_agents.vocabulary import (
    ANSWERED_BY,
    DECISION,
    WAIT_ATTEMPTS,
    WAIT_ERROR,
    WAIT_ID,
    WAIT_REASON,
)

from .conftest import Shell
from .filled import EVIL
from .serving import Serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from otel_agents.signals import Edge

SECOND: Final = 10**9
ADMIN: Final = "admin-token-0123456789"


def told(kind: str, edge: Edge, scope: str, ago: float = 9, **more: Any) -> Signal:
    """Return a signal of the run `r1`."""
    return Signal(
        id=f"{scope}-{edge}", kind=kind, edge=edge, scope_id=scope, name=more.pop("name", scope),
        time=time.time_ns() - round(ago * SECOND), ids=Ids(run_id="r1", workflow="shop"),
        attributes=more.pop("attributes", {}), result=more.pop("result", ""),
        parent_id="" if kind == "run" else "run",
    )  # fmt: skip


def asked(wait_id: str, scope: str, reason: str = "Deploy?", more: Any = None) -> Signal:
    """Return the start of a wait."""
    said = {WAIT_ID.key: wait_id, WAIT_REASON.key: reason, **(more or {})}
    return told("human", "start", scope, name=reason, attributes=said)


def waiting(shell: Shell, *more: Signal) -> None:
    """Tell of a run that waits, to the store and to the file of signals."""
    error = {WAIT_ERROR.key: f"no luck {EVIL}", WAIT_ATTEMPTS.key: 3}
    signals = [told("run", "start", "run"), asked("go", "s1", more=error), *more]
    shell.put(Batch(signals=signals))
    shell.write(b"".join(map(encode_line, signals)))


@pytest.fixture(params=["workspace", "server"])
def here(request: pytest.FixtureRequest, shell: Shell, tmp_path: Path) -> Iterator[Any]:
    """Ask from the workspace, and through a server from a directory without any."""
    waiting(shell, asked(f"odd {EVIL}", "s2", f"Really? {EVIL}"))
    if request.param == "workspace":
        yield shell, ()
        return
    shell.environment["OTEL_AGENTS_TOKEN"] = ADMIN
    elsewhere = Shell(tmp_path / "elsewhere")
    elsewhere.path.mkdir()
    elsewhere.environment["OTEL_AGENTS_TOKEN"] = ADMIN
    with Serving(shell) as serving:
        yield elsewhere, ("--server", serving.url)


def test_a_wait_is_listed_and_answered(here: Any) -> None:
    """Once: whoever comes second is told, and an id that is none is said to be none."""
    shell, server = here
    found = shell.data("hitl", "list", *server)
    assert {(one["id"], one["status"], one["attempts"]) for one in found} >= {("go", "open", 3)}
    done = shell.run("hitl", "resolve", "go", "--approve", "--answer", "on Monday", *server)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "Approved: Deploy?"), done.stderr
    assert "on Monday" in done.stdout

    again = shell.run("hitl", "resolve", "go", "--reject", "--json", *server)
    assert again.returncode == 1
    error = json.loads(again.stdout)["error"]
    assert (error["code"], error["message"]) == (
        "invalid_input", "The wait was approved already by cli.",
    )  # fmt: skip
    assert shell.run("hitl", "resolve", "nobody", "--approve", *server).returncode == 4
    assert [one["scope_id"] for one in shell.data("hitl", "list", *server)] == ["s2"]
    everything = shell.data("hitl", "list", "--all", *server)
    assert {(one["scope_id"], one["decision"]) for one in everything} == {
        ("s1", "approved"), ("s2", None),
    }  # fmt: skip
    item = shell.data("hitl", "resolve", "s2", "--answer", "the blue one", *server)
    assert (item["decision"], item["answer"], item["answered_by"]) == (
        "answered", "the blue one", "cli",
    )  # fmt: skip


def test_the_list_is_read_by_people(here: Any) -> None:
    """With an id that can be typed; nothing of a text reaches the terminal's controls."""
    shell, server = here
    done = shell.run("hitl", "list", *server)
    assert done.returncode == 0
    for word in ("Deploy?", "waiting", "shop", "go", "s2", "hitl resolve ID"):
        assert word in done.stdout
    assert "\x1b]0" not in done.stdout
    assert r"\u202e" in done.stdout
    assert "\x1b]0" not in shell.run("hitl", "resolve", "s2", "--reject", *server).stdout
    one = shell.run("hitl", "list", "--all", "--limit", "1", *server).stdout
    assert "go on with --cursor" in one


def test_waits_of_one_id_are_listed_by_what_answers_each(shell: Shell) -> None:
    """Two runs have given the same id: each row has the id of its scope."""
    other = [told("run", "start", "run-b"), asked("go", "s9")]
    for signal in other:
        signal.ids = Ids(run_id="r2", workflow="shop")
    waiting(shell, *other, asked("once", "s3"))
    lines = shell.run("hitl", "list").stdout.splitlines()
    handles = {line.split()[-1] for line in lines if "Deploy?" in line}
    assert handles == {"s1", "s9", "once"}
    for scope in ("s1", "s9"):
        assert shell.run("hitl", "resolve", scope, "--approve").returncode == 0


@pytest.mark.parametrize(
    "wrong",
    [
        ("resolve", "go"), ("resolve", "go", "--approve", "--reject"), ("resolve",),
        ("resolve", "go", "--answer", " "), ("resolve", "go", "--answer", "x" * 8001),
        ("list", "--cursor", "nonsense"), ("list", "--limit", "0"), ("unknown",),
    ],
    ids=lambda words: " ".join(words)[:30],
)  # fmt: skip
def test_wrong_use_is_told(shell: Shell, wrong: tuple[str, ...]) -> None:
    """In one sentence, with exit code 2, and nothing is answered."""
    waiting(shell)
    done = shell.run("hitl", *wrong)
    assert done.returncode == 2
    assert done.stderr.startswith("otel-agents: ")
    assert shell.data("hitl", "list")[0]["status"] == "open"


def test_an_answer_reaches_whoever_waits_and_looks(shell: Shell) -> None:
    """The store, the file of signals, and the process that asks for it."""
    waiting(shell)
    answers = answers_of(Settings(home=str(shell.workspace.path)))
    assert answers is not None
    try:
        assert answers.poll("s1") is None
        shell.data("hitl", "resolve", "go", "--reject", "--answer", "not now")
        answer = answers.poll("s1")
        assert answer is not None
        assert (answer.decision, answer.text, answer.by) == ("rejected", "not now", "cli")
    finally:
        answers.close()
    last = list(decode_lines(shell.signals.read_bytes().splitlines()))[-1]
    assert (last.scope_id, last.attributes[DECISION.key]) == ("s1", "rejected")
    assert last.attributes[ANSWERED_BY.key] == "cli"
    assert shell.run("status", "--json").returncode in {0, 3}


def test_whoever_waits_asks_the_server_that_is_named(shell: Shell, tmp_path: Path) -> None:
    """With the token of a viewer, and not in its own store; a server that is away is no answer."""
    waiting(shell)
    viewer = "viewer-token-0123456789"
    shell.environment |= {"OTEL_AGENTS_TOKEN": ADMIN, "OTEL_AGENTS_VIEWER_TOKEN": viewer}
    with Serving(shell) as serving:
        far = Settings(server=serving.url, viewer_token=viewer, home=str(tmp_path))
        answers = answers_of(far)
        assert answers is not None
        assert (answers.poll("go"), answers.poll("none/of it")) == (None, None)
        assert (
            shell.run("hitl", "resolve", "go", "--approve", "--server", serving.url).returncode == 0
        )
        answer = answers.poll("s1")
        assert answer is not None
        assert (answer.decision, answer.text, answer.by) == ("approved", None, "cli")
        assert abs(answer.at - time.time_ns()) < 60 * SECOND
        wrong = answers_of(Settings(server=serving.url, token="a-guess-0123456789"))  # noqa: S106
        assert wrong is not None
        assert wrong.poll("s1") is None
    assert answers.poll("s1") is None


def test_a_server_that_does_not_hear_of_a_wait_is_told_of_once(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a while, since a program that exports to another place would wait for ever."""
    waiting(shell)
    with Serving(shell) as serving:
        answers = answers_of(Settings(server=serving.url))
        assert answers is not None
        assert answers.poll("elsewhere") is None
        assert caplog.messages == []
        monkeypatch.setattr("otel_agents.answers._UNHEARD_SECONDS", 0.0)
        assert [answers.poll(one) for one in ("elsewhere", "elsewhere", "go")] == [None] * 3
    (said,) = caplog.messages
    assert "has not heard of the wait 'elsewhere'" in said


def test_an_open_server_takes_no_answer(shell: Shell, tmp_path: Path) -> None:
    """It says where one can be given."""
    waiting(shell)
    with Serving(shell) as serving:
        done = Shell(tmp_path).run("hitl", "resolve", "go", "--approve", "--server", serving.url)
    assert done.returncode == 2
    assert "answer in its workspace without --server" in done.stderr
