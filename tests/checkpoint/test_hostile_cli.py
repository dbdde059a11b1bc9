"""Attack 42 through `otel-agents checkpoint`: one sentence, the right exit code, no canary."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from otel_agents.cli.main import run

from .real import Repo, isolate, started
from .test_hostile import NO_IDS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """Give a repository with one commit, and stand in it."""
    isolate(tmp_path, monkeypatch)
    repo = started(tmp_path / "repo")
    monkeypatch.chdir(repo.path)
    return repo


def _said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any, str]:
    """Run the command; return its exit code, its envelope and what it said on stderr."""
    capsys.readouterr()
    code = run(["checkpoint", *arguments])
    out, err = capsys.readouterr()
    return code, json.loads(out) if "--json" in arguments else out, err


@pytest.mark.parametrize("command", ["show", "diff", "restore"])
def test_what_is_no_id_is_wrong_input(
    repo: Repo, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and a sentence, in the envelope too; as an option it is none of ours."""
    canary = tmp_path / "canary"
    before = repo.seen(), repo.git("for-each-ref")
    for name, given in NO_IDS.items():
        identity = given.format(canary=canary)
        code, answer, err = _said(capsys, command, "--json", "--", identity)
        assert (code, answer["error"]["code"]) == (2, "invalid_input"), name
        assert err.startswith("otel-agents: "), name
        assert err.removesuffix("\n").isprintable(), name
        assert len(err) < 400, name
        code, _, err = _said(capsys, command, identity)
        assert code == 2, name
        assert err.removesuffix("\n").isprintable(), name
    assert not canary.exists()
    assert (repo.seen(), repo.git("for-each-ref")) == before


@pytest.mark.parametrize("command", ["show", "diff", "restore"])
def test_an_id_that_names_nothing_is_not_found(
    repo: Repo, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 4."""
    code, answer, err = _said(capsys, command, "--json", "0123456789abcdef")
    assert (code, answer["error"]["code"], err.count("\n")) == (4, "not_found", 1)


def test_a_run_and_phase_are_any_text(
    repo: Repo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not found, exit code 4; never words for git."""
    canary = tmp_path / "canary"
    for text in (f"--output={canary}", f"$(touch {canary})", "../../heads/main", "a" * 9_000):
        code, _, err = _said(capsys, "restore", f"--run-id={text}", f"--before={text}")
        assert (code, err.count("\n")) == (4, 1)
    assert not canary.exists()


def test_no_repository_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, in a place whose name would move a terminal's cursor."""
    place = tmp_path / "odd\x1b[2J\nplace"
    place.mkdir()
    monkeypatch.chdir(place)
    for arguments in (["create"], ["list"], ["show", "0123456789abcdef"]):
        code, _, err = _said(capsys, *arguments)
        assert (code, err.count("\n")) == (1, 1)
        assert "\x1b" not in err


def test_texts_and_names_do_not_reach_a_terminal_raw(
    repo: Repo, capsys: pytest.CaptureFixture[str]
) -> None:
    """A title, a link, a clipboard, a line that overwrites: visible characters only."""
    evil = "\x1b]0;owned\x07\x1b[2J\rover\u202egnp.exe\x9b31m\nforged line"
    repo.write(b"a\x1b[31mfile\nof two lines", "content\n")
    code, out, err = _said(capsys, "create", "-m", evil)
    assert (code, err) == (0, "")
    shown = out
    identity = json.loads(_captured(capsys, "list", "--json"))["data"][0]["id"]
    repo.path.joinpath("a\x1b[31mfile\nof two lines").unlink()
    for arguments in (("list",), ("show", identity), ("diff", identity), ("restore", identity)):
        shown += _captured(capsys, *arguments)
    assert [mark for mark in "\x1b\x07\x9b\u202e\r" if mark in shown] == []


def _captured(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert run(["checkpoint", *arguments]) == 0
    return capsys.readouterr().out
