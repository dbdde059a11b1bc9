"""Real repositories, made by git itself, and what is seen of them file by file."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from otel_agents.checkpoint.catalog import checkpoints, diff, get, patch, prune
from otel_agents.checkpoint.record import About, Checkpoint
from otel_agents.checkpoint.repository import Repository
from otel_agents.checkpoint.restore import restore
from otel_agents.checkpoint.snapshot import create
from otel_agents.errors import OtelAgentsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

GLOBAL: Final = """\
[user]
\tname = Ada
\temail = ada@example.org
[init]
\tdefaultBranch = main
[advice]
\tdetachedHead = false
[protocol "file"]
\tallow = always
[maintenance]
\tauto = false
"""

Seen = dict[bytes, tuple[str, bytes]]


class Repo:
    """A repository and plain git in it, as a user has both."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def git(self, *args: str, stdin: bytes = b"", check: bool = True) -> str:
        """Run plain git, with the environment of the test, and return what it printed."""
        done = subprocess.run(  # noqa: S603 - git, as the user runs it
            ["git", *args],  # noqa: S607
            cwd=self.path,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=60,
        )
        if check and done.returncode:
            raise AssertionError(f"git {args}: {done.stdout!r} {done.stderr!r}")
        return done.stdout.decode(errors="surrogateescape")

    def write(self, name: str | bytes, content: bytes | str, *, executable: bool = False) -> Path:
        """Write a file with the directories above it."""
        path = self.path / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o755 if executable else 0o644)
        return path

    def commit(self, message: str = "work") -> None:
        """Commit all that is there."""
        self.git("add", "-A")
        self.git("commit", "-q", "--no-verify", "-m", message)

    @property
    def found(self) -> Repository:
        """The repository as otel-agents finds it."""
        return Repository.find(self.path)

    def checkpoint(self, message: str | None = None, **fields: str) -> Checkpoint:
        """Take a checkpoint."""
        return create(self.found, About(message=message, **fields))

    def back_to(self, identity: str, *, force: bool = False) -> str | None:
        """Restore a checkpoint, and return the id that undoes it."""
        return restore(self.found, identity, force=force).undo_id

    def seen(self) -> Seen:
        """Return the working tree: of each file its kind and content."""
        return seen(self.path)


def isolate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test a home of its own, and nothing of the host's git; return that home."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    for name in ("XDG_CONFIG_HOME", "PAGER", "EDITOR", "VISUAL", "SSH_ASKPASS", "DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    home.joinpath(".gitconfig").write_text(GLOBAL)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return home


def started(path: Path, *options: str) -> Repo:
    """Make a repository with one commit: three files, a link and a program."""
    path.mkdir(parents=True)
    repo = Repo(path)
    repo.git("init", "-q", *options)
    fill(repo)
    repo.commit("first")
    return repo


def fill(repo: Repo) -> None:
    """Write what every repository of the tests has."""
    repo.write("a.txt", "first\n")
    repo.write("b.dat", bytes(range(256)))
    repo.write("src/deep/c.py", "print('c')\n")
    repo.write("run.sh", "#!/bin/sh\n", executable=True)
    repo.path.joinpath("link").symlink_to("a.txt")


def scribble(repo: Repo) -> None:
    """Do what an agent does that goes wrong: edit, delete, add, move, change modes and kinds."""
    root = repo.path
    repo.write("a.txt", "spoiled\n")
    for name in ("b.dat", "link", "run.sh"):
        with suppress(FileNotFoundError):
            root.joinpath(name).unlink()
    repo.write("b.dat/inside", "a directory now\n")
    root.joinpath("link").symlink_to("/nowhere")
    repo.write("run.sh", "#!/bin/sh\n")
    with suppress(FileNotFoundError):
        root.joinpath("src/deep/c.py").rename(root / "moved.py")
    repo.write("new/untracked.txt", "work of an hour\n")


def seen(root: Path) -> Seen:
    """Return every file below a directory but those of `.git`: its kind and its content."""
    found: Seen = {}
    start = os.fsencode(root)
    for folder, folders, files in os.walk(start):
        if folder == start:
            folders[:] = [name for name in folders if name != b".git"]
            files[:] = [name for name in files if name != b".git"]
        for name in [*files, *folders]:
            path = os.path.join(folder, name)  # noqa: PTH118 - bytes
            state = os.lstat(path)
            key = os.path.relpath(path, start)
            if stat.S_ISLNK(state.st_mode):
                found[key] = ("link", os.readlink(path))  # noqa: PTH115 - bytes
            elif stat.S_ISREG(state.st_mode):
                with open(path, "rb") as file:  # noqa: PTH123 - bytes
                    found[key] = ("program" if state.st_mode & 0o100 else "file", file.read())
            elif not stat.S_ISDIR(state.st_mode):
                found[key] = ("special", b"")
    return found


def surface(repo: Repo) -> dict[str, object]:
    """Return all that git shows of a repository, and what `inside` does."""
    return {
        **inside(repo),
        "staged": repo.git(
            "--no-optional-locks", "diff", "--cached", "--raw", "--no-renames", check=False
        ),
        "entries": repo.git("ls-files", "--stage", "-v"),
        "stash": repo.git("stash", "list", check=False),
        "log": repo.git(
            "log", "--exclude=refs/otel-agents/*", "--all", "--format=raw", check=False
        ),
        "reflog": repo.git("reflog", "--all", check=False),
        "config": repo.git("config", "--list", "--show-origin"),
        "refs": [
            line
            for line in repo.git("for-each-ref").splitlines()
            if "\trefs/otel-agents/" not in line
        ],
    }


def inside(repo: Repo) -> dict[str, object]:
    """Return the status, and the content, time and mode of every file of git's that is no object.

    Left out are the objects, our refs and our folder. The index is not refreshed by looking.
    """
    status = ("status", "--porcelain=v2", "--branch", "--show-stash", "--ignored")
    found: dict[str, object] = {"status": repo.git("--no-optional-locks", *status)}
    directories = repo.git("rev-parse", "--git-dir", "--git-common-dir").splitlines()
    for base in {(repo.path / directory).resolve() for directory in directories}:
        for path in sorted(base.rglob("*")):
            name = path.relative_to(base).as_posix()
            ours = name.startswith("objects/") or "otel-agents" in path.relative_to(base).parts
            if not ours and (path.is_symlink() or path.is_file()):
                state = path.lstat()
                content = b"" if path.is_symlink() else path.read_bytes()
                digest = hashlib.sha256(content).hexdigest()
                # git itself touches the shared part of a split index whenever it reads it.
                at = 0 if path.name.startswith("sharedindex.") else state.st_mtime_ns
                found[f"{base.name}/{name}"] = (digest, at, state.st_mode)
    return found


def everything(repo: Repo) -> None:
    """Call every public function that works on a repository, each with something to do."""
    saved = repo.checkpoint("before", run_id="run-1", phase="build")
    found = repo.found
    assert get(found, saved.id).commit == saved.commit
    before = repo.seen()
    scribble(repo)
    spoiled = repo.seen()
    assert diff(found, saved.id)
    assert "spoiled" in patch(found, saved.id)
    assert restore(found, saved.id, dry_run=True).undo_id is None
    assert repo.seen() == spoiled
    undo = repo.back_to(saved.id)
    assert repo.seen() == before
    assert undo is not None
    repo.back_to(undo)
    assert repo.seen() == spoiled
    repo.back_to(saved.id)
    kept = checkpoints(found)
    prune(found, 1, 1)
    assert checkpoints(found) == kept[:1]


def refused(call: Callable[[], object]) -> str:
    """Call, and return the sentence it was refused with, "" where it was not."""
    try:
        call()
    except OtelAgentsError as error:
        return str(error)
    return ""


def is_sentence(error: BaseException | str) -> bool:
    """Tell whether an error is one plain sentence, and neither a dump nor somebody else's."""
    text = str(error)
    return (
        bool(text)
        and text.isprintable()
        and "Traceback" not in text
        and "fatal:" not in text
        and len(text) < 400
    )
