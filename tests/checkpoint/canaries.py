"""Every way known to us in which a repository makes git run a program of its own.

Each program leaves a file of its name behind: a canary that has sung. `controls` are commands of
plain git that make each of them sing, so that silence says something.
"""

from __future__ import annotations

import os
import pty
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from .real import Repo

HOOKS: Final = (
    "applypatch-msg", "commit-msg", "fsmonitor-watchman", "p4-changelist", "p4-pre-submit",
    "p4-post-changelist", "p4-prepare-changelist", "post-applypatch", "post-checkout",
    "post-commit", "post-index-change", "post-merge", "post-receive", "post-rewrite",
    "post-update", "pre-applypatch", "pre-auto-gc", "pre-commit", "pre-merge-commit", "pre-push",
    "pre-rebase", "pre-receive", "prepare-commit-msg", "proc-receive", "push-to-checkout",
    "reference-transaction", "sendemail-validate", "update",
)  # fmt: skip

# The attributes of the tree: which file goes through which filter, diff and merge.
ATTRIBUTES: Final = """\
*.txt filter=cleaned diff=shown merge=merged
*.md diff=commanded
*.dat filter=lasting
*.ident ident
"""

_SETTINGS: Final = """\
[core]
\tfsmonitor = {core.fsmonitor}
\tpager = {core.pager}
\tsshCommand = {core.sshCommand}
\tgitProxy = {core.gitProxy}
\teditor = {core.editor}
\taskPass = {core.askPass}
\talternateRefsCommand = {core.alternateRefsCommand}
[pager]
\tdiff = {core.pager}
\tshow = {core.pager}
[filter "cleaned"]
\tclean = {filter.clean}
\tsmudge = {filter.smudge}
\trequired = true
[filter "lasting"]
\tprocess = {filter.process}
\trequired = true
[diff]
\texternal = {diff.external}
[diff "shown"]
\ttextconv = {diff.textconv}
[diff "commanded"]
\tcommand = {diff.command}
[merge "merged"]
\tdriver = {merge.driver}
[credential]
\thelper = {credential.helper}
[gpg]
\tprogram = {gpg.program}
[gpg "ssh"]
\tprogram = {gpg.program}
\tdefaultKeyCommand = {gpg.program}
[commit]
\tgpgSign = true
[tag]
\tgpgSign = true
[alias]
\tcanary = "!{alias}"
\twrite-tree = "!{alias}"
\tupdate-ref = "!{alias}"
[uploadpack]
\tpackObjectsHook = {uploadpack.packObjectsHook}
[ssh]
\tvariant = simple
[gc]
\tauto = 1
\tautoDetach = false
[interactive]
\tdiffFilter = {interactive.diffFilter}
[sequence]
\teditor = {core.editor}
[trailer "run"]
\tkey = run
\tifmissing = add
\tcmd = {trailer.cmd}
"""

_PASSING: Final = ("core.pager", "filter.clean", "filter.smudge", "diff.textconv")

# What plain git does that makes each sing; those of the hooks follow below.
_CONTROLS: Final[dict[str, tuple[str, ...]]] = {
    "core.fsmonitor": ("status",),
    "core.sshCommand": ("ls-remote", "ssh://nowhere/x"),
    "core.gitProxy": ("ls-remote", "git://nowhere/x"),
    "core.editor": ("-c", "commit.gpgSign=false", "commit", "--allow-empty"),
    "core.askPass": ("credential", "fill"),
    "core.alternateRefsCommand": ("log", "--alternate-refs"),
    "filter.clean": ("add", "a.txt"),
    "filter.smudge": ("checkout", "-f", "HEAD", "--", "a.txt"),
    "filter.process": ("add", "b.dat"),
    "diff.external": ("diff", "--", "run.sh"),
    "diff.textconv": ("diff", "--no-ext-diff", "side", "--", "a.txt"),
    "diff.command": ("-c", "diff.external=", "diff", "side", "--", "c.md"),
    "merge.driver": ("-c", "commit.gpgSign=false", "merge", "-m", "merged", "side"),
    "credential.helper": ("credential", "fill"),
    "gpg.program": ("commit", "--allow-empty", "-m", "signed"),
    "alias": ("canary",),
}
_PLAIN: Final = ("-c", "commit.gpgSign=false", "-c", "filter.cleaned.required=false")
_HOOK_CONTROLS: Final[dict[str, tuple[str, ...]]] = {
    "hook.reference-transaction": ("update-ref", "refs/x/y", "HEAD"),
    "hook.post-index-change": ("update-index", "--force-write-index"),
    "hook.post-checkout": ("checkout", "-q", "-b", "other"),
    "hook.pre-commit": (*_PLAIN, "commit", "--allow-empty", "-m", "x"),
    "hook.commit-msg": (*_PLAIN, "commit", "--allow-empty", "-m", "x"),
    "hook.prepare-commit-msg": (*_PLAIN, "commit", "--allow-empty", "-m", "x"),
    "hook.post-commit": (*_PLAIN, "commit", "--allow-empty", "-m", "x"),
    "hook.post-rewrite": (*_PLAIN, "commit", "--allow-empty", "--amend", "-m", "x"),
    "hook.post-merge": (*_PLAIN, "merge", "-m", "x", "ahead"),
    "hook.pre-auto-gc": ("-c", "gc.auto=1", "gc", "--auto"),
    "hook.pre-push": ("push", "--dry-run", "../copy.git", "HEAD:refs/heads/pushed"),
}


class Canaries:
    """Programs that leave a file behind when they are run, and the settings that name them."""

    def __init__(self, directory: Path) -> None:
        self.programs = directory / "programs"
        self.sung = directory / "sung"
        self.programs.mkdir(parents=True)
        self.sung.mkdir()

    def program(self, name: str) -> Path:
        """Make the program of a name: it says that it ran; a filter hands on what it is given."""
        path = self.programs / name
        then = 'exec cat "$@"' if name in _PASSING else "exit 0"
        path.write_text(f"#!/bin/sh\n: > '{self.sung}/{name}'\n{then}\n")
        path.chmod(0o755)
        return path

    @property
    def settings(self) -> str:
        """The text of a settings file of git that names a program wherever one can be named."""
        text = _SETTINGS
        for part in _SETTINGS.split("{")[1:]:
            name = part.partition("}")[0]
            text = text.replace("{" + name + "}", str(self.program(name)))
        return text

    def hooks(self, directory: Path) -> None:
        """Write every hook there is."""
        directory.mkdir(parents=True, exist_ok=True)
        for name in HOOKS:
            directory.joinpath(name).write_bytes(self.program(f"hook.{name}").read_bytes())
            directory.joinpath(name).chmod(0o755)

    def heard(self) -> set[str]:
        """Return which programs ran, and forget it."""
        found = {path.name for path in self.sung.iterdir()}
        for name in found:
            self.sung.joinpath(name).unlink()
        return found


def staged(repo: Repo) -> None:
    """Make the history that the controls need: branches, attributes, an alternate, a copy."""
    repo.write("c.md", "# c\n")
    repo.write("d.ident", "$Id$\n")
    repo.commit("second")
    repo.git("checkout", "-q", "-b", "side")
    repo.write("a.txt", "side\n")
    repo.write("c.md", "# side\n")
    repo.commit("side")
    repo.git("checkout", "-q", "-b", "ahead", "main")
    repo.write("a.txt", "main\n")
    repo.write(".gitattributes", ATTRIBUTES)
    repo.commit("main")
    repo.git("branch", "-f", "main")
    repo.git("checkout", "-q", "main")
    repo.git("clone", "-q", "--bare", ".", "../copy.git")
    alternates = repo.path / ".git/objects/info/alternates"
    alternates.write_text(f"{repo.path.parent / 'copy.git/objects'}\n")
    repo.git("checkout", "-q", "ahead")
    repo.git("commit", "-q", "--allow-empty", "-m", "ahead")
    repo.git("checkout", "-q", "main")


def control(repo: Repo, canaries: Canaries, *, hooks: bool) -> dict[str, bool]:
    """Return of each program whether plain git ran it; spoils the repository."""
    found: dict[str, bool] = {}
    asked = b"protocol=https\nhost=nowhere\n\n"
    for number in range(2):  # git guesses from this folder how many objects there are
        few = repo.path / ".git/objects/17" / f"{number:038x}"
        few.parent.mkdir(exist_ok=True)
        few.touch()
    for name, command in (_HOOK_CONTROLS if hooks else _CONTROLS).items():
        repo.write("a.txt", f"edited for {name}\n")
        repo.write("b.dat", f"edited for {name}\n")
        repo.write("run.sh", f"edited for {name}\n")
        if name == "merge.driver":
            repo.git("-c", "core.fsmonitor=false", "reset", "-q", "--hard", check=False)
        canaries.heard()
        repo.git(*command, stdin=asked, check=False)
        found[name] = name in canaries.heard()
    if not hooks:
        _on_a_terminal(repo, "log", "-1")
        found["core.pager"] = "core.pager" in canaries.heard()
    return found


def _on_a_terminal(repo: Repo, *args: str) -> None:
    """Run git with a terminal for its output, which is where it uses a pager."""
    process, terminal = pty.fork()
    if not process:  # pragma: no cover - the child
        os.chdir(repo.path)
        os.execvp("git", ["git", *args])  # noqa: S606, S607 - git, as a user runs it
    with suppress(OSError):
        while os.read(terminal, 4096):
            pass
    os.close(terminal)
    os.waitpid(process, 0)
