"""Attacks 42 and 43: ids that are options, and repositories that name programs to be run.

A canary is a program that leaves a file behind; after all that otel-agents does with a checkpoint
no such file is there, and plain git, asked the same, leaves one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import pytest

from otel_agents.checkpoint.catalog import before, checkpoints, diff, get, patch
from otel_agents.checkpoint.restore import restore
from otel_agents.errors import InvalidInputError, NotFoundError, OtelAgentsError

from . import canaries
from .canaries import Canaries
from .real import GLOBAL, Repo, everything, is_sentence, isolate, refused, scribble, started

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Each is no id; {canary} is a file that must not come to be.
NO_IDS: Final = {
    "option": "--output={canary}",
    "upload-pack": "--upload-pack=touch {canary}",
    "exec": "--exec=touch${{IFS}}{canary}",
    "dash": "-",
    "short option": "-oX",
    "end of options": "--end-of-options",
    "ext": "ext::sh -c touch% {canary}",
    "file": "file:///etc/passwd",
    "newline": "0123456789abcdef\n",
    "line in front": "\n0123456789abcdef",
    "two lines": "delete refs/heads/main\ndelete refs/heads/main",
    "NUL": "0123456789abcde\0",
    "parents": "../../heads/main",
    "dots": "..",
    "absolute": "/etc/passwd",
    "long": "a" * 10_000,
    "one more": "0123456789abcdefg",
    "one less": "0123456789abcde",
    "empty": "",
    "space": "0123456789abcde ",
    "upper case": "0123456789ABCDEF",
    "arabic digits": "\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667" * 2,
    "full width": "\uff10" * 16,
    "superscript": "\u00b2" * 16,
    "surrogate": "0123456789abcde\udc80",
    "revision": "HEAD",
    "reflog": "main@{{0}}",
    "peeled": "HEAD^{{tree}}",
    "range": "main..side",
    "regex": ":/first",
    "pathspec": ":(exclude)a.txt",
    "ref": "refs/heads/main",
    "glob": "*" * 16,
    "shell": "$(touch {canary})",
    "lock": "0123456789a.lock",
}


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """Give a repository with one commit, alone with itself."""
    isolate(tmp_path, monkeypatch)
    return started(tmp_path / "repo")


@pytest.mark.parametrize("asked", [get, diff, patch, restore])
def test_what_is_no_id_is_refused_before_git_sees_it(
    repo: Repo, tmp_path: Path, asked: Callable[..., object]
) -> None:
    """One sentence that says so, nothing run, nothing written, nothing changed."""
    canary = tmp_path / "canary"
    found = repo.found
    before_it = repo.seen(), repo.git("for-each-ref")
    for name, given in NO_IDS.items():
        with pytest.raises(InvalidInputError) as caught:
            asked(found, given.format(canary=canary))
        assert is_sentence(caught.value), name
    assert not canary.exists()
    assert (repo.seen(), repo.git("for-each-ref")) == before_it


def test_a_run_or_phase_that_is_an_option_is_only_not_found(repo: Repo, tmp_path: Path) -> None:
    """They are any text, looked for among our own records and never by git."""
    canary = tmp_path / "canary"
    repo.checkpoint(run_id="run", phase="build")
    found = repo.found
    for given in NO_IDS.values():
        text = given.format(canary=canary)
        with pytest.raises((NotFoundError, InvalidInputError)) as caught:
            before(found, "run", text)
        assert is_sentence(caught.value)
    for given in ("--output={canary}", "../../heads/main", "run\n", "r" * 10_000):
        with pytest.raises((NotFoundError, InvalidInputError)) as caught:
            before(found, given.format(canary=canary), "build")
        assert is_sentence(caught.value)
    assert not canary.exists()


@pytest.mark.parametrize("asked", [get, diff, patch, restore])
def test_an_id_that_is_one_and_names_nothing_is_not_found(
    repo: Repo, asked: Callable[..., object]
) -> None:
    """The shape alone makes no checkpoint."""
    with pytest.raises(NotFoundError) as caught:
        asked(repo.found, "0123456789abcdef")
    assert is_sentence(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "x\n\nid: 0000000000000000\nrun_id: other",
        "--amend",
        "-F/etc/passwd",
        "\x1b]0;title\x07\u202e",
        "a" * 200_000,
        "line\r\nline\rline",
        "  spaces  ",
        "\n",
        '{"run_id": "other"}',
        "%H%n%B",
        "Otel-Agents-Run: other",
    ],
    ids=lambda text: repr(text[:20]),
)
def test_no_text_of_a_record_becomes_another_field_of_it(repo: Repo, text: str) -> None:
    """What is given comes back as it was given, in its own field, or is refused."""
    first = repo.checkpoint("real", run_id="other")
    forged = repo.git("cat-file", "commit", first.commit).partition("\n\n")[2]
    for given in (text, forged, f"\n{forged}"):
        fields = {"message": given, "run_id": given, "agent": given, "task_id": given}
        made = repo.checkpoint(**fields)
        known = get(repo.found, made.id)
        assert known == made
        for name, whole in fields.items():
            kept = getattr(known, name)
            assert kept == whole or whole.startswith(kept.removesuffix("…[cut]")), name
        assert (known.phase, known.undo_of) == (None, None)


@pytest.mark.parametrize("text", ["a\0b", "lone \udc80"])
def test_text_that_git_cannot_hold_is_kept_or_refused_but_never_cut(repo: Repo, text: str) -> None:
    """A NUL ends a message of git's: it must not end ours without a word."""
    said = refused(lambda: repo.checkpoint(text, run_id=text))
    if said:
        assert is_sentence(said)
    else:
        known = checkpoints(repo.found)[0]
        assert known.message == known.run_id
        assert known.message is not None
        assert known.message.startswith(text.partition("\udc80")[0])


_PLACES: Final = ("config", "include", "includeIf", "worktree", "global", "xdg", "environment")


def _configure(repo: Repo, place: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = repo.path / ".git/config"
    home = repo.path.parent / "home"
    apart = repo.path.parent / "apart.inc"
    apart.write_text(GLOBAL + text if place == "environment" else text)
    if place == "config":
        config.write_text(config.read_text() + text)
    elif place == "include":
        config.write_text(config.read_text() + f"[include]\n\tpath = {apart}\n")
    elif place == "includeIf":
        config.write_text(config.read_text() + f'[includeIf "gitdir:**"]\n\tpath = {apart}\n')
    elif place == "worktree":
        repo.git("config", "extensions.worktreeConfig", "true")
        repo.path.joinpath(".git/config.worktree").write_text(text)
    elif place == "global":
        home.joinpath(".gitconfig").write_text(GLOBAL + text)
    elif place == "xdg":
        home.joinpath(".config/git").mkdir(parents=True)
        home.joinpath(".config/git/config").write_text(text)
    else:
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(apart))
        monkeypatch.setenv("GIT_CONFIG_SYSTEM", str(apart))
        monkeypatch.delenv("GIT_CONFIG_NOSYSTEM")


@pytest.fixture
def hostile(repo: Repo, tmp_path: Path) -> Canaries:
    """Give the repository a history with attributes, and programs that are to stay silent."""
    canaries.staged(repo)
    return Canaries(tmp_path / "canaries")


@pytest.mark.parametrize("place", _PLACES)
def test_no_program_that_settings_name_is_run(
    repo: Repo, hostile: Canaries, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Monitors, filters, drivers, pagers, helpers, editors, signers: wherever they are named."""
    _configure(repo, place, hostile.settings, monkeypatch)
    everything(repo)
    assert hostile.heard() == set()


@pytest.mark.parametrize("place", _PLACES)
def test_plain_git_runs_every_program_that_settings_name(
    repo: Repo, hostile: Canaries, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the same settings in the same places are no empty threat."""
    _configure(repo, place, hostile.settings, monkeypatch)
    ran = canaries.control(repo, hostile, hooks=False)
    if place == "worktree":
        del ran["alias"]  # git looks for aliases before it knows of a worktree
    assert [name for name, heard in ran.items() if not heard] == []


@pytest.mark.parametrize("place", ["hooks", "core.hooksPath", "global core.hooksPath"])
@pytest.mark.parametrize("plain", [False, True], ids=["ours", "plain git"])
def test_no_hook_is_run(
    repo: Repo, hostile: Canaries, place: str, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every hook there is, in the repository or elsewhere; plain git runs them."""
    if place == "hooks":
        hostile.hooks(repo.path / ".git/hooks")
    else:
        hostile.hooks(repo.path.parent / "hooks")
        where = "global" if place.startswith("global") else "config"
        _configure(
            repo, where, f"[core]\n\thooksPath = {repo.path.parent / 'hooks'}\n", monkeypatch
        )
    hostile.heard()
    if plain:
        ran = canaries.control(repo, hostile, hooks=True)
        assert [name for name, heard in ran.items() if not heard] == []
    else:
        everything(repo)
        assert hostile.heard() == set()


def test_no_missing_object_is_fetched(
    repo: Repo, hostile: Canaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A promised object makes git call its remote, with programs of the repository's choice."""
    saved = repo.checkpoint("with an object that goes")
    blob = repo.git("rev-parse", f"{saved.commit}:a.txt").strip()
    repo.path.joinpath(".git/objects", blob[:2], blob[2:]).unlink()
    repo.path.joinpath(".git/objects/info/alternates").unlink()
    _configure(
        repo,
        "config",
        '[extensions]\n\tpartialClone = evil\n[remote "evil"]\n\tpromisor = true\n'
        f"\turl = ssh://nowhere/x\n[core]\n\tsshCommand = {hostile.program('ssh')}\n",
        monkeypatch,
    )
    repo.write("a.txt", "other\n")
    assert diff(repo.found, saved.id)  # which names are enough for
    for asked in (patch, restore):
        with pytest.raises(OtelAgentsError) as caught:
            asked(repo.found, saved.id)
        assert is_sentence(caught.value)
    assert hostile.heard() == set()

    repo.git("cat-file", "blob", blob, check=False)
    assert hostile.heard() == {"ssh"}


_VARIABLES: Final[dict[str, dict[str, str]]] = {
    "repository": {
        "GIT_DIR": "{elsewhere}/.git",
        "GIT_WORK_TREE": "{elsewhere}",
        "GIT_COMMON_DIR": "{elsewhere}/.git",
        "GIT_INDEX_FILE": "{elsewhere}/.git/index",
        "GIT_OBJECT_DIRECTORY": "{elsewhere}/.git/objects",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": "{elsewhere}/.git/objects",
        "GIT_QUARANTINE_PATH": "{elsewhere}",
        "GIT_PREFIX": "src/",
    },
    "looking": {
        "GIT_NAMESPACE": "elsewhere",
        "GIT_CEILING_DIRECTORIES": "{repo}",
        "GIT_DISCOVERY_ACROSS_FILESYSTEM": "nonsense",
        "GIT_SHALLOW_FILE": "{elsewhere}/shallow",
        "GIT_GRAFT_FILE": "{elsewhere}/grafts",
        "GIT_REPLACE_REF_BASE": "refs/heads/",
        "GIT_REF_PARANOIA": "nonsense",
        "GIT_ATTR_SOURCE": "nonsense",
        "GIT_DEFAULT_HASH": "sha256",
    },
    "programs": {
        "GIT_EXTERNAL_DIFF": "{program}",
        "GIT_SSH_COMMAND": "{program}",
        "GIT_ASKPASS": "{program}",
        "GIT_EDITOR": "{program}",
        "GIT_PAGER": "{program}",
        "GIT_EXEC_PATH": "{elsewhere}",
        "PAGER": "{program}",
        "EDITOR": "{program}",
        "SSH_ASKPASS": "{program}",
    },
    "traces": {
        "GIT_TRACE": "{trace}",
        "GIT_TRACE2_EVENT": "{trace}",
        "GIT_TRACE_SETUP": "{trace}",
    },
    "settings": {
        "GIT_CONFIG": "{elsewhere}/.git/config",
        "GIT_CONFIG_COUNT": "nonsense",
        "GIT_CONFIG_PARAMETERS": "'core.fsmonitor={program}'",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_ICASE_PATHSPECS": "1",
        "GIT_INDEX_VERSION": "99",
        "GIT_FLUSH": "nonsense",
    },
    "others": {
        "GIT_AUTHOR_DATE": "nonsense",
        "GIT_COMMITTER_NAME": "<<<>>>",
        "LANGUAGE": "de",
        "LC_ALL": "nonsense",
        "TZ": "nonsense",
        "POSIXLY_CORRECT": "1",
    },
}


@pytest.mark.parametrize("variables", list(_VARIABLES.values()), ids=list(_VARIABLES))
def test_no_variable_leads_it_elsewhere(
    repo: Repo, tmp_path: Path, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program run by a hook of git has such variables: it works on its own repository."""
    elsewhere = started(tmp_path / "elsewhere")
    untouched = elsewhere.git("for-each-ref"), elsewhere.seen()
    planted = Canaries(tmp_path / "canaries")
    about: dict[str, Any] = {
        "elsewhere": elsewhere.path,
        "repo": repo.path,
        "program": planted.program("variable"),
        "trace": tmp_path / "trace",
    }
    with monkeypatch.context() as set_here:
        for name, text in variables.items():
            set_here.setenv(name, text.format(**about))
        assert repo.found.root == repo.path
        everything(repo)
    assert planted.heard() == set()
    assert not (tmp_path / "trace").exists()
    assert (elsewhere.git("for-each-ref"), elsewhere.seen()) == untouched
    assert len(checkpoints(repo.found)) == 1


def test_settings_by_variables_are_not_read(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GIT_CONFIG_COUNT and its keys name a program, too."""
    planted = Canaries(tmp_path / "canaries")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.fsmonitor")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(planted.program("monitor")))
    everything(repo)
    assert planted.heard() == set()
    repo.git("status")
    assert planted.heard() == {"monitor"}


def test_a_program_named_git_in_the_repository_is_not_git(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PATH that begins with the current directory is a habit of some."""
    planted = Canaries(tmp_path / "canaries")
    repo.write("git", planted.program("git").read_bytes(), executable=True)
    monkeypatch.setenv("PATH", f":.{os.pathsep}{os.environ['PATH']}")
    everything(repo)
    assert planted.heard() == set()


def test_a_replaced_object_does_not_replace_what_was_saved(repo: Repo) -> None:
    """refs/replace changes what plain git reads; a checkpoint is what was there."""
    saved = repo.checkpoint("true")
    was = repo.seen()
    false = repo.git("hash-object", "-w", "--stdin", stdin=b"replaced\n").strip()
    repo.git("replace", repo.git("rev-parse", f"{saved.commit}:a.txt").strip(), false)
    scribble(repo)
    repo.back_to(saved.id)
    assert repo.seen() == was
