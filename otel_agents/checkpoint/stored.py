"""The checkpoints that a repository holds, as their refs tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from otel_agents.checkpoint.names import is_safe
from otel_agents.checkpoint.record import ID, LINK, REFS, Checkpoint, Modes, Record
from otel_agents.errors import CheckpointError, InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_agents.checkpoint.repository import Repository


class Stored(NamedTuple):
    """A checkpoint with what is needed to restore it."""

    checkpoint: Checkpoint
    tree: str
    modes: Modes


class Wanted(NamedTuple):
    """A file or link of a checkpoint: its `st_mode` and blob."""

    mode: int
    id: str


def stored(repository: Repository) -> list[Stored]:
    """Return the checkpoints, newest first; refs that are none of ours are passed over."""
    return _read(repository, REFS)


def find(repository: Repository, id: str) -> Stored:  # noqa: A002 - its name
    """Return a checkpoint.

    Raises:
        InvalidInputError: `id` cannot be an id.
        NotFoundError: There is none with it.

    """
    if not isinstance(id, str) or not ID.fullmatch(id):
        message = f"{str(id)[:40]!r} is no id of a checkpoint: that is 16 characters of 0-9, a-z."
        raise InvalidInputError(message, parameter="id")
    found = _read(repository, REFS + id)
    if not found:
        message = f"There is no checkpoint {id}."
        raise NotFoundError(message)
    return found[0]


def files_of(repository: Repository, of: Stored) -> dict[bytes, Wanted]:
    """Return the files and links of a checkpoint.

    Raises:
        CheckpointError: Its tree holds what no checkpoint of ours does, as a path that leads into
            `.git`: somebody else made it, and it is not restored.

    """
    listed = repository.git("ls-tree", "-r", "-z", "--full-tree", "--end-of-options", of.tree)
    found: dict[bytes, Wanted] = {}
    checked: set[bytes] = set()
    for line in listed.split(b"\0")[:-1]:
        entry, _, path = line.partition(b"\t")
        mode, kind, blob = entry.split()
        folder, _, name = path.rpartition(b"/")
        if folder and folder not in checked:
            if not is_safe(folder):
                raise _made_up(of)
            checked.add(folder)
        if kind != b"blob" or not is_safe(name):
            raise _made_up(of)
        found[path] = Wanted(of.modes.of_file(path, _known_mode(int(mode, 8))), blob.decode())
    return found


def _known_mode(mode: int) -> int:
    return LINK if mode == LINK else 0o100000 | (mode & 0o777)


def _made_up(of: Stored) -> CheckpointError:
    return CheckpointError(
        f"Checkpoint {of.checkpoint.id} holds paths that no checkpoint has, and is not used."
    )


def _read(repository: Repository, pattern: str) -> list[Stored]:
    listed = repository.git("for-each-ref", "--format=%(refname) %(objectname) %(symref)", pattern)
    refs = [line.split(" ") for line in listed.decode("utf-8", "replace").splitlines()]
    ours = {
        name.removeprefix(REFS): commit
        for name, commit, link in refs
        if not link and ID.fullmatch(name.removeprefix(REFS))
    }
    found = []
    contents = _commits(repository, list(ours.values()))
    for (id_, commit), content in zip(ours.items(), contents, strict=True):
        head, _, message = content.partition(b"\n\n")
        record = Record.read(message)
        if record is None or record.checkpoint.id != id_ or not head.startswith(b"tree "):
            continue
        checkpoint = msgspec.structs.replace(record.checkpoint, commit=commit)
        found.append(Stored(checkpoint, head[5:].partition(b"\n")[0].decode(), record.modes))
    found.sort(key=lambda one: (one.checkpoint.created_at, one.checkpoint.id), reverse=True)
    return found


def _commits(repository: Repository, names: list[str]) -> Iterator[bytes]:
    """Yield the text of commits, nothing for what is none, or is lost."""
    if not names:
        return
    stdin = "".join(f"{name}\n" for name in names).encode()
    left = repository.git("cat-file", "--batch", stdin=stdin)
    start = 0
    for _ in names:
        end = left.index(b"\n", start)
        words = left[start:end].split()
        start = end + 1
        if len(words) == 3:  # noqa: PLR2004 - name, type, size; or the name and `missing`
            size = int(words[2])
            yield left[start : start + size] if words[1] == b"commit" else b""
            start += size + 1
        else:
            yield b""
