"""What a restore has to do: the difference of two trees, and what stands in its way."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import msgspec

from otel_agents.checkpoint.record import bits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_agents.checkpoint.stored import Wanted
    from otel_agents.checkpoint.tree import Tree


class Change(msgspec.Struct, frozen=True):
    """What a restore does to a path: added, deleted, modified, mode or type.

    What is no UTF-8 in the path is written out; a folder, of which only the mode can change, ends
    with a `/`.
    """

    path: str
    kind: str


class Put(msgspec.Struct, frozen=True):
    """A file or link to be put in place: `mode` is its `st_mode`, `id` its blob."""

    path: bytes
    mode: int
    id: str


class Plan(msgspec.Struct):
    """The steps of a restore, in the order they are taken; each can be taken twice.

    `open` are folders with the permission bits that let us write to them, `remove` files and
    links, `empty` folders to be removed if nothing is in them, `make` and `modes` folders and
    paths with their permission bits.
    """

    changes: list[Change] = []
    open: list[tuple[bytes, int]] = []
    remove: list[bytes] = []
    empty: list[bytes] = []
    make: list[tuple[bytes, int]] = []
    put: list[Put] = []
    modes: list[tuple[bytes, int]] = []

    def paths(self) -> Iterator[bytes]:
        """Yield every path that a step is taken at."""
        yield from self.remove
        yield from self.empty
        yield from (put.path for put in self.put)
        for steps in (self.open, self.make, self.modes):
            yield from (path for path, _ in steps)


def changes(now: Tree, then: Mapping[bytes, Wanted]) -> Iterator[tuple[bytes, str]]:
    """Yield the paths that differ, with what a restore of `then` does to them."""
    for path, one in now.files.items():
        old = then.get(path)
        if old is None:
            yield path, "deleted"
        elif stat.S_IFMT(old.mode) != stat.S_IFMT(one.mode):
            yield path, "type"
        elif old.id != one.id:
            yield path, "modified"
        elif bits(old.mode) != bits(one.mode) and not stat.S_ISLNK(one.mode):
            yield path, "mode"
    for path in then:
        if path not in now.files:
            yield path, "added"


def parents(path: bytes) -> Iterator[bytes]:
    """Yield the folders a path is in, the innermost first."""
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        yield path
