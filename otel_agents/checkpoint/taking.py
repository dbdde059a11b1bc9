"""A checkpoint in the making: the tree is read and written, and then kept or left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

import msgspec

from otel_agents.checkpoint.known import Known
from otel_agents.checkpoint.record import (
    REFS,
    About,
    Checkpoint,
    Modes,
    Record,
    git_mode,
    new_id,
    shown_all,
    tidy,
)
from otel_agents.checkpoint.stored import stored
from otel_agents.checkpoint.tree import Scan
from otel_agents.checkpoint.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_agents.checkpoint.repository import Repository
    from otel_agents.checkpoint.tree import Tree


class Taking:
    """The working tree as it was read; `keep` makes it a checkpoint, leaving drops it.

    No lock is taken here; `create` and `restore` do that.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        max_bytes: int | None = None,
        max_seconds: float | None = None,
    ) -> None:
        deadline = None if max_seconds is None else time.monotonic() + max_seconds
        self._repository = repository
        self._known = Known.load(repository)
        self._writer = Writer(repository, deadline)
        try:
            self._scan = Scan(
                repository, self._known, self._writer, max_bytes=max_bytes, deadline=deadline
            )
        except BaseException:
            self._writer.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    @property
    def tree(self) -> Tree:
        """What was read."""
        return self._scan.tree

    def add(self, paths: list[bytes]) -> None:
        """Read these files and links too, ignored or not."""
        self._scan.add(paths)

    def keep(self, about: About, *, deduplicate: bool = False) -> Checkpoint:
        """Make a checkpoint of it, or return the newest of the same run that is the same."""
        tree, known = self.tree, self._known
        modes = Modes.of({path: one.mode for path, one in tree.files.items()}, tree.folders)
        changes = list(differing(tree, known))
        others = []
        if deduplicate:
            others = [
                one
                for one in stored(self._repository)
                if one.modes == modes and about.run_id in {None, one.checkpoint.run_id}
            ]
            if not changes and known.tree:
                for one in others:
                    if one.tree == known.tree:
                        return one.checkpoint
        now = time.time_ns()
        checkpoint = Checkpoint(
            **tidy(about),
            id=new_id(now),
            created_at=now,
            files=len(tree.files),
            bytes=tree.size,
            left_out=shown_all(tree.left_out),
        )
        ref = REFS + checkpoint.id
        message = Record(checkpoint, modes).message()
        commit, root = self._writer.commit(ref, message, known.tree, changes)
        for one in others:
            if one.tree == root:
                self._writer.forget(ref)
                self._writer.finish()
                return one.checkpoint
        self._writer.finish()
        files = tree.files
        Known(id=checkpoint.id, commit=commit, tree=root, files=files).save(self._repository)
        return msgspec.structs.replace(checkpoint, commit=commit)


def differing(tree: Tree, known: Known) -> Iterator[tuple[bytes, int, str]]:
    """Yield what differs from the tree that is known, what is gone first: path, mode and blob."""
    now, before = tree.files, known.files
    if before.keys() - now.keys():
        for path in before:
            if path not in now:
                yield path, 0, ""
    for path, one in now.items():
        old = before.get(path)
        if old is one:
            continue
        mode = git_mode(one.mode)
        if old is None or old.id != one.id or git_mode(old.mode) != mode:
            yield path, mode, one.id
