"""The names of a working tree: what git lists, without what is never saved."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_agents.checkpoint.record import said
from otel_agents.errors import CheckpointError
from otel_agents.workspace import DIRECTORY, HOME_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Generator

    from otel_agents.checkpoint.repository import Repository

_OURS: Final = DIRECTORY.encode()
# Names that some file system takes for `.git`; git refuses to check them out, see its fsck.
_GIT: Final = re.compile(rb"(?:\.git|git~1)[ .]*(?::.*)?", re.IGNORECASE | re.DOTALL)
# What a listing of ASCII names has to be searched for, at once, before each name is looked at.
_ODD: Final = re.compile(
    rb"/\0|/HEAD\0|[/\0](?:\.git|git~1)[ .]*[:/\0]|" + re.escape(_OURS), re.IGNORECASE
)
_IGNORED_BY_HFS: Final = re.compile(
    "[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]"  # invisible, and dropped by HFS+
)


def is_git(name: bytes) -> bool:
    """Say whether a file system could take a name for `.git`."""
    if _GIT.fullmatch(name):
        return True
    if name.isascii():
        return False
    plain = _IGNORED_BY_HFS.sub("", name.decode("utf-8", "replace"))
    return _GIT.fullmatch(plain.encode()) is not None


def is_safe(path: bytes) -> bool:
    """Say whether a path of a tree stays inside of the working tree and out of git's and ours."""
    return all(
        name not in {b"", b".", b"..", _OURS} and b"\0" not in name and not is_git(name)
        for name in path.split(b"/")
    )


class Names:
    """The paths that may be saved, and those that were left out.

    Raises:
        CheckpointError: git cannot list them all.

    """

    def __init__(self, repository: Repository, deadline: float | None) -> None:
        self._root = os.fsencode(repository.root) + b"/"
        self._ours = _home(repository.root)
        self.left_out: set[bytes] = set()
        with _index_times(repository):
            listed, warnings = repository.run(
                "ls-files", "-z", "--cached", "--others", "--exclude-standard",
                f"--exclude={DIRECTORY}/",
                timeout=_left(deadline),
            )  # fmt: skip
        if "could not open directory" in warnings:
            line = next(one for one in warnings.splitlines() if "could not open directory" in one)
            message = f"git {said(line.removeprefix('warning: '))}; ignore it, or open it."
            raise CheckpointError(message)
        self._listed = dict.fromkeys(listed.split(b"\0")[:-1])
        self.paths = list(self._listed)
        if self._ours or not listed.isascii() or _ODD.search(b"\0" + listed):
            self.left_out |= self._bare()
            bare = tuple(self.left_out)
            self.paths = [path for path in self.paths if self._is_saved(path, bare)]

    def is_folder(self, path: bytes, folders: dict[bytes, int]) -> bool:
        """Say whether a path and all above it are folders, and note the modes of these.

        git lists a tracked file also when a link has taken the place of its folder; whatever
        lies behind that link is not of this tree.
        """
        new: list[bytes] = []
        while path and path not in folders:
            new.append(path)
            path = path.rpartition(b"/")[0]
        for folder in reversed(new):
            try:
                mode = os.lstat(self._root + folder).st_mode
            except OSError:
                return False
            if not stat.S_ISDIR(mode):
                return False
            folders[folder] = mode
        return True

    def meet_folder(self, path: bytes) -> None:
        """Note a folder where git has a file: a submodule is left out, the rest is listed."""
        inside, within = self._root + path, path + b"/"
        listed = any(one.startswith(within) for one in self._listed)
        is_repository = os.path.lexists(inside + b"/.git")
        if is_repository or (not listed and os.listdir(inside)):  # noqa: PTH208 - bytes
            self.left_out.add(within)

    def _is_saved(self, path: bytes, bare: tuple[bytes, ...]) -> bool:
        if bare and path.startswith(bare):
            return False
        if path.endswith(b"/"):  # a repository of its own
            self.left_out.add(path)
            return False
        if _OURS in path and _OURS in path.split(b"/"):
            return False
        if self._ours and path.startswith(self._ours):
            return False
        lowered = path.lower()
        if (b"git" in lowered or not path.isascii()) and any(map(is_git, path.split(b"/"))):
            self.left_out.add(path)
            return False
        return True

    def _bare(self) -> set[bytes]:
        """Return the folders that are bare repositories, which git lists as plain folders."""
        heads = [path[:-4] for path in self._listed if path.endswith(b"/HEAD")]
        return {
            folder
            for folder in heads
            if _is_folder(self._root + folder + b"objects")
            and _is_folder(self._root + folder + b"refs")
        }


def _is_folder(path: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116 - the path is bytes
    except OSError:
        return False


def _home(root: Path) -> bytes:
    """Return the path, with its slash, of a workspace that `OTEL_AGENTS_HOME` puts into a tree."""
    home = os.environ.get(HOME_VARIABLE)
    if not home:
        return b""
    try:
        inside = Path(os.path.realpath(home)).relative_to(root)
    except ValueError:
        return b""
    return os.fsencode(inside) + b"/" if inside.parts else b""


@contextlib.contextmanager
def _index_times(repository: Repository) -> Generator[None]:
    """Keep the times of a split index, whose shared part git touches whenever it is read."""
    shared = {path: path.stat() for path in repository.git_dir.glob("sharedindex.*")}
    yield
    for path, was in shared.items():
        with contextlib.suppress(OSError):
            os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - time.monotonic(), 0.001)
