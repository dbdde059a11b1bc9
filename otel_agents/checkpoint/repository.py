"""A git repository, and `git` run in it so that nothing of the repository's own making runs.

A repository's configuration can name programs: hooks, a file system monitor, filters, pagers,
diff drivers, helpers for credentials, transports of a partial clone. All are switched off on the
command line, which git puts above every file, and the host's `GIT_*` variables are not passed on.
The user's own `~/.gitconfig` is read, for `core.excludesFile` and `safe.directory`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from otel_agents.checkpoint.record import REFS, said
from otel_agents.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

_QUICK: Final = 10.0  # seconds for what takes 3 ms, unless a file git reads is a pipe
PATIENCE: Final = 120.0  # seconds for one call of git, where the caller sets no limit

_OFF: Final = (
    "advice.objectNameWarning=false",
    "commit.gpgSign=false",
    "core.alternateRefsCommand=",
    "core.askPass=",
    "core.attributesFile=/dev/null",
    "core.fsmonitor=false",
    "core.fsyncMethod=batch",
    "core.hooksPath=/dev/null",
    "core.logAllRefUpdates=false",
    "core.pager=cat",
    "core.sshCommand=false",
    "credential.helper=",
    "diff.external=",
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.allow=never",
    "safe.bareRepository=explicit",
    "submodule.recurse=false",
)
_ENVIRONMENT: Final = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_ASKPASS": "",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_PAGER": "cat",
    "GIT_TERMINAL_PROMPT": "0",
    "LANGUAGE": "",
    "LC_ALL": "C",
    "SSH_ASKPASS": "",
}


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository with a working tree.

    `root` is the top of the working tree, `git_dir` its own git directory (of the worktree, where
    it is a linked one) and `common_dir` the one with the objects and refs. `algorithm` is how
    objects are named, `sha1` or `sha256`.
    """

    root: Path
    git_dir: Path
    common_dir: Path
    algorithm: str = "sha1"

    @classmethod
    def find(cls, path: Path) -> Repository:
        """Return the repository that a directory is in.

        Raises:
            CheckpointError: There is none, or none that checkpoints can be taken in: it is bare,
                belongs to somebody else, or has its working tree in another place.

        """
        root = _top(path)
        here = cls(root, root / ".git", root / ".git")
        lines = os.fsdecode(
            here.git(
                "rev-parse", "--is-bare-repository", "--show-object-format",
                "--absolute-git-dir", "--git-common-dir", timeout=_QUICK,
            )
        ).splitlines()  # fmt: skip
        if len(lines) != 4:  # noqa: PLR2004 - as many as were asked for
            message = f"The path of the repository {root} has a line break in it."
            raise CheckpointError(message)
        bare, algorithm, git_dir, common_dir = lines
        if bare == "true":
            message = f"{root} is a bare repository: it has no working tree to save."
            raise CheckpointError(message)
        top = os.fsdecode(here.git("rev-parse", "--show-toplevel", timeout=_QUICK)).removesuffix(
            "\n"
        )
        if not root.samefile(top or root / ".git"):
            message = f"The repository in {root} has its working tree in {top}."
            raise CheckpointError(message)
        found = cls(root, Path(git_dir), (root / common_dir).resolve(), algorithm)
        for name in ("otel-agents", "otel-agents/worktrees", "refs/otel-agents", REFS.rstrip("/")):
            if (found.common_dir / name).is_symlink():
                message = f"{found.common_dir / name} is a link, and not followed; remove it."
                raise CheckpointError(message)
        return found

    def git(self, *args: str, stdin: bytes = b"", timeout: float | None = None) -> bytes:
        """Run git and return what it wrote.

        Args:
            args: The command and its options, which have to be safe: names given by others stand
                after `--end-of-options`.
            stdin: What git reads.
            timeout: Seconds it may take; two minutes by default.

        Raises:
            CheckpointError: It failed, took too long, or is not installed.

        """
        return self.run(*args, stdin=stdin, timeout=timeout)[0]

    def run(
        self,
        *args: str,
        stdin: bytes = b"",
        timeout: float | None = None,
        environment: Mapping[str, str] | None = None,
        fine: tuple[int, ...] = (0,),
    ) -> tuple[bytes, str]:
        """Run git as `git` does, and return its warnings too; `fine` are ends that are none."""
        with self.start(*args, environment=environment) as process:
            try:
                out, err = process.communicate(stdin, PATIENCE if timeout is None else timeout)
            except subprocess.TimeoutExpired as error:
                process.kill()
                message = f"git {args[0]} took more than {error.timeout:.3g} seconds."
                raise CheckpointError(message) from None
            except BaseException:
                process.kill()
                raise
        warnings = err.decode("utf-8", "backslashreplace")
        if process.returncode not in fine:
            raise CheckpointError(refusal(args[0], warnings))
        return out, warnings

    def start(
        self,
        *args: str,
        stdin: int | IO[bytes] = subprocess.PIPE,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start git, with pipes for what it reads, writes and warns of."""
        options = [word for setting in _OFF for word in ("-c", setting)]
        kept = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
        around = {"GIT_CEILING_DIRECTORIES": str(self.root.parent)}
        try:
            return subprocess.Popen(  # noqa: S603 - the program is found, the words are ours
                [_program(), "--no-pager", *options, *args],
                cwd=self.root,
                env={**kept, **_ENVIRONMENT, **around, **(environment or {})},
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            message = f"git cannot be run in {self.root}: {error.strerror}."
            raise CheckpointError(message) from error

    @property
    def state(self) -> Path:
        """Our own directory for this working tree: locks, what is known of its files, journal."""
        ours = self.common_dir / "otel-agents"
        if self.git_dir.resolve() == self.common_dir:
            return ours
        return ours / "worktrees" / self.git_dir.name


def refusal(command: str, warnings: str) -> str:
    """Return what git said when it failed, as one sentence."""
    lines = [line for line in warnings.splitlines() if line.strip()]
    named = [line for line in lines if line.startswith(("fatal: ", "error: "))] or lines[-1:]
    if not named:
        return f"git {command} failed and said nothing."
    text = said(named[0].removeprefix("fatal: ").removeprefix("error: ").strip())
    return f"git {command} failed: {text.rstrip('.')}."


def _top(path: Path) -> Path:
    """Return the nearest directory upwards with a `.git`, which is where git itself will look.

    git is then run there, and may look no higher: else a bare repository that lies embedded in
    a tree, or one around a broken one, would be taken instead.
    """
    here = Path(os.path.realpath(path))
    if not here.is_dir():
        message = f"There is no directory {path}."
        raise CheckpointError(message)
    for folder in (here, *here.parents):
        if os.path.lexists(folder / ".git"):
            return folder
        if all((folder / name).exists() for name in ("HEAD", "objects", "refs")):
            if ".git" in folder.parts:
                git = Path(*folder.parts[: folder.parts.index(".git") + 1])
                message = f"{path} is inside of {git}: go to the working tree."
                raise CheckpointError(message)
            message = f"{folder} is a bare repository: it has no working tree to save."
            raise CheckpointError(message)
    message = f"{path} is in no git repository; `git init` makes one."
    raise CheckpointError(message)


@cache
def _program() -> str:
    # Never a `git` of the repository's own, which an entry like "." would find.
    folders = [one for one in os.get_exec_path() if Path(one).is_absolute()]
    found = shutil.which("git", path=os.pathsep.join(folders))
    if found is None:
        message = "git is not installed, and checkpoints need it."
        raise CheckpointError(message)
    return found
