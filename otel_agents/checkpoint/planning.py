"""Making the plan of a restore, and refusing one that would touch what is not ours to touch."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, Final, NoReturn

from otel_agents.checkpoint.ignored import ignored_then
from otel_agents.checkpoint.plan import Change, Plan, Put, changes, parents
from otel_agents.checkpoint.record import bits, said, shown
from otel_agents.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_agents.checkpoint.record import Modes
    from otel_agents.checkpoint.repository import Repository
    from otel_agents.checkpoint.stored import Wanted
    from otel_agents.checkpoint.tree import Tree

_RWX: Final = 0o700


class Planner:
    """The way from a tree to another; what was ignored in the other stays as it is.

    Args:
        repository: Where.
        now: The working tree.
        then: The files of the tree to be restored, `modes` with those of its folders.
        force: Put ignored files that are in the way into `occupied` instead of refusing.

    Raises:
        CheckpointError: An ignored file or something that is no file is in the way, or a folder
            cannot be written to.

    """

    def __init__(
        self,
        repository: Repository,
        now: Tree,
        then: Mapping[bytes, Wanted],
        modes: Modes,
        *,
        force: bool = False,
    ) -> None:
        self.plan = Plan()
        self.occupied: list[bytes] = []
        self._root = os.fsencode(repository.root) + b"/"
        self._device = repository.root.stat().st_dev
        self._algorithm = repository.algorithm
        self._now, self._then, self._modes, self._force = now, then, modes, force
        self._foreign = tuple(one for one in now.left_out if one.endswith(b"/"))
        self._folders: dict[bytes, os.stat_result | None] = {}
        self._opened: dict[bytes, int] = {}
        spared = ignored_then(repository, now, then)
        wanted = {folder for path in then for folder in parents(path)}
        for path, kind in sorted(changes(now, then)):
            if path not in spared:
                self._change(path, kind)
        self._order(wanted)

    def _change(self, path: bytes, kind: str) -> None:
        plan, wanted = self.plan, self._then.get(path)
        if wanted is None:
            self._reach(path)
            plan.remove.append(path)
        elif kind == "mode":
            plan.modes.append((path, bits(wanted.mode)))
        else:
            self._reach(path, make=True)
            if kind == "added":
                status = self.status(path)
                if status is not None and self._is_there(path, status, wanted):
                    return
                kind = _kind_over(status, wanted)
            plan.put.append(Put(path, wanted.mode, wanted.id))
        plan.changes.append(Change(shown(path), kind))

    def _reach(self, path: bytes, *, make: bool = False) -> None:
        """See that the folder of a path can be written to, or made."""
        if self._foreign and path.startswith(self._foreign):
            self._refuse(path, "is in a repository of its own")
        for folder in [*parents(path)][::-1]:
            if folder in self._folders:
                continue
            status = self._folders[folder] = self.status(folder)
            if status is not None and not stat.S_ISDIR(status.st_mode):
                if folder not in self._now.files:
                    self._occupy(folder, status)
                    self.plan.changes.append(Change(shown(folder), "deleted"))
                status = self._folders[folder] = None
            if status is None:
                if make:
                    self.plan.make.append((folder, self._modes.of_folder(folder)))
            else:
                self._open(folder, status)
        if b"/" not in path and b"" not in self._folders:
            status = self._folders[b""] = os.lstat(self._root)
            self._open(b"", status)

    def _open(self, folder: bytes, status: os.stat_result) -> None:
        """See that an existing folder lets files be renamed into it."""
        if status.st_dev != self._device:
            self._refuse(folder, "is on another file system")
        if os.access(self._root + folder, os.W_OK | os.X_OK):
            return
        if not hasattr(os, "getuid") or status.st_uid != os.getuid():
            self._refuse(folder or b".", "cannot be written to")
        self._opened[folder] = bits(status.st_mode)

    def _is_there(self, path: bytes, status: os.stat_result, wanted: Wanted) -> bool:
        """Make way for a path that git does not list; say whether it is there, and the same."""
        if stat.S_ISDIR(status.st_mode):
            self._clear(path)
            return False
        if stat.S_IFMT(status.st_mode) == stat.S_IFMT(wanted.mode) and (
            self._content(path, status) == wanted.id
        ):
            return True
        self._occupy(path, status)
        return False

    def _clear(self, folder: bytes) -> None:
        """See that a folder, which a file is to take the place of, holds nothing but ours."""
        if self._foreign and (folder + b"/").startswith(self._foreign):
            self._refuse(folder, "is a repository of its own")
        self._open(folder, os.lstat(self._root + folder))
        self.plan.empty.append(folder)
        for name in sorted(os.listdir(self._root + folder)):  # noqa: PTH208 - bytes
            path = folder + b"/" + name
            status = os.lstat(self._root + path)
            if stat.S_ISDIR(status.st_mode):
                self._clear(path)
            elif path not in self._now.files:
                self._occupy(path, status)
                self.plan.changes.append(Change(shown(path), "deleted"))

    def _occupy(self, path: bytes, status: os.stat_result) -> None:
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
            self._refuse(path, "is in the way, and neither a file nor a link")
        if path in self._now.left_out or (self._foreign and path.startswith(self._foreign)):
            self._refuse(path, "is in the way, and cannot be saved")
        if not self._force:
            self._refuse(path, "is ignored and in the way", "; move it, or use force")
        self.occupied.append(path)
        self.plan.remove.append(path)

    def _order(self, wanted: set[bytes]) -> None:
        """Add the folders: those to go, and the modes that folders get at the end."""
        plan = self.plan
        gone = {folder for path in plan.remove for folder in parents(path)}
        plan.empty = sorted({*plan.empty, *gone} - wanted, key=_depth, reverse=True)
        made = dict(plan.make)
        last: dict[bytes, int] = {**self._opened, **made}
        for folder in wanted - made.keys():
            now = self._now.folders.get(folder)
            if now is None:
                status = self.status(folder)
                now = None if status is None else status.st_mode
            mode = self._modes.of_folder(folder)
            if now is not None and stat.S_ISDIR(now) and bits(now) != mode:
                last[folder] = mode
                plan.changes.append(Change(shown(folder) + "/", "mode"))
        plan.open = sorted(
            ((folder, mode | _RWX) for folder, mode in self._opened.items()), key=_depth_of
        )
        plan.make.sort(key=_depth_of)
        plan.modes += sorted(last.items(), key=_depth_of, reverse=True)

    def status(self, path: bytes) -> os.stat_result | None:
        """Return what is at a path of the tree, None for nothing and for what is behind a link."""
        for folder in parents(path):
            if self._folders.get(folder, True) is None:
                return None  # it is no folder, or not there: what is behind is not of this tree
        try:
            return os.lstat(self._root + path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _content(self, path: bytes, status: os.stat_result) -> str:
        try:
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(self._root + path)  # noqa: PTH115 - bytes
            else:
                with open(self._root + path, "rb") as file:  # noqa: PTH123 - the path is bytes
                    content = file.read()
        except OSError:
            return ""
        head = b"blob %d\0" % len(content)
        return hashlib.new(self._algorithm, head + content, usedforsecurity=False).hexdigest()

    @staticmethod
    def _refuse(path: bytes, why: str, what: str = "") -> NoReturn:
        message = f"{said(path)} {why}{what}; nothing was changed."
        raise CheckpointError(message)


def _kind_over(status: os.stat_result | None, wanted: Wanted) -> str:
    """Return what a restore does to a path by putting a file or link over what is there."""
    if status is None or stat.S_ISDIR(status.st_mode):
        return "added"
    return "modified" if stat.S_IFMT(status.st_mode) == stat.S_IFMT(wanted.mode) else "type"


def _depth(path: bytes) -> int:
    return path.count(b"/")


def _depth_of(item: tuple[bytes, int]) -> int:
    return item[0].count(b"/")
