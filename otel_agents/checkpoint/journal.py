"""Staging what a restore puts in place, the journal of its steps, and the steps.

Contents are first written whole beside the working tree, on its file system; that is where a disk
is found full. Then the journal is written and synced, which is the moment a restore happens:
killed before it, nothing was changed, and after it the steps are taken again from the start.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from typing import IO, TYPE_CHECKING, Final

import msgspec

from otel_agents.checkpoint import own
from otel_agents.checkpoint.blobs import content, contents
from otel_agents.checkpoint.folders import Folders
from otel_agents.checkpoint.names import is_safe
from otel_agents.checkpoint.plan import Plan  # noqa: TC001 - msgspec reads the annotation
from otel_agents.checkpoint.record import said
from otel_agents.errors import CheckpointError
from otel_agents.workspace import DIRECTORY

if TYPE_CHECKING:
    from pathlib import Path

    from otel_agents.checkpoint.plan import Put
    from otel_agents.checkpoint.repository import Repository

_FEW: Final = 32  # files to be synced one by one; for more, one sync of everything is faster


class Journal(msgspec.Struct):
    """A restore that has happened, its steps perhaps not all taken yet."""

    id: str
    undo_id: str
    staged: bytes
    plan: Plan


def pending(repository: Repository) -> bool:
    """Say whether a restore is under way, or was killed."""
    return any(os.path.lexists(one) for one in (_file(repository), *_stages(repository)))


def load(repository: Repository) -> Journal | None:
    """Return the journal of a restore that was not finished.

    Raises:
        CheckpointError: It cannot be read, or has steps that no restore takes: a repository that
            was downloaded may have brought it along.

    """
    path = _file(repository)
    try:
        found = msgspec.msgpack.decode(own.read(path), type=Journal)
    except FileNotFoundError:
        return None
    except OSError as error:
        message = f"The journal of a restore, {path}, cannot be read: {error.strerror}."
        raise CheckpointError(message) from error
    except msgspec.MsgspecError:
        message = f"The file {path} is no journal of a restore; remove it."
        raise CheckpointError(message) from None
    staged = [os.fsencode(one) for one in _stages(repository) if _is_plain(one)]
    if found.staged not in staged or not all(is_safe(one) for one in found.plan.paths() if one):
        message = f"The file {path} has steps that no restore takes; remove it."
        raise CheckpointError(message)
    return found


def stage(repository: Repository, puts: list[Put]) -> Path:
    """Write contents beside the working tree and return the folder; each has its number as name.

    Raises:
        CheckpointError: The disk is full, or the repository has lost a blob.

    """
    clean(repository)
    device = repository.root.stat().st_dev
    near, beside = _stages(repository)
    folder = near if _device(near.parent) == device else beside
    try:
        if not _is_plain(folder):
            raise OSError(errno.ELOOP, "our folder is a link")  # noqa: TRY301
        folder.mkdir(parents=True, mode=0o700)
        with contents(repository, (put.id for put in puts)) as stream:
            for number, put in enumerate(puts):
                _write(folder / str(number), put, stream)
        _sync(folder, len(puts))
    except OSError as error:
        clean(repository)
        message = f"The restore cannot be prepared ({error.strerror}); nothing was changed."
        raise CheckpointError(message) from error
    except BaseException:
        clean(repository)
        raise
    return folder


def begin(repository: Repository, journal: Journal) -> None:
    """Write the journal: from here on the restore has happened.

    Raises:
        CheckpointError: It cannot be written; nothing was changed.

    """
    try:
        own.write(_file(repository), msgspec.msgpack.encode(journal), alone=True)
    except OSError as error:
        clean(repository)
        message = f"The restore cannot be prepared ({error.strerror}); nothing was changed."
        raise CheckpointError(message) from error


def carry_out(repository: Repository, journal: Journal) -> None:
    """Take the steps of a restore, those that were taken before once more, and end it.

    Raises:
        CheckpointError: A step cannot be taken; the next call takes it up again.

    """
    plan, path = journal.plan, b""
    with Folders(os.fsencode(repository.root)) as folders:
        try:
            for path, mode in plan.open:
                folders.chmod(path, mode)
            for path in plan.remove:
                folders.unlink(path)
            for path in plan.empty:
                folders.rmdir(path)
            for path, mode in plan.make:
                folders.mkdir(path, mode | 0o700)
            with folders.outside(journal.staged) as staged:
                for number, put in enumerate(plan.put):
                    path = put.path
                    folders.put(staged, str(number).encode(), path)
            for path, mode in plan.modes:
                folders.chmod(path, mode)
        except OSError as error:
            message = (
                f"The restore of {journal.id} stopped at {said(path)} ({error.strerror}); it is "
                f"finished by the next call, and undone by restoring {journal.undo_id}."
            )
            raise CheckpointError(message) from error
    _file(repository).unlink()
    clean(repository)


def resume(repository: Repository) -> bool:
    """Take the steps of a restore that was broken off, and say whether it had happened."""
    begun = load(repository)
    if begun is None:
        clean(repository)
        return False
    carry_out(repository, begun)
    return True


def clean(repository: Repository) -> None:
    """Remove what was staged by a restore that is done, or was killed before it happened."""
    for folder in _stages(repository):
        if folder.is_symlink():
            folder.unlink()
        elif folder.exists():
            shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        _stages(repository)[1].parent.rmdir()  # only where nothing else is in it


def _file(repository: Repository) -> Path:
    return repository.state / "journal"


def _stages(repository: Repository) -> tuple[Path, Path]:
    """Return where contents may be staged; the second where git's directory is elsewhere."""
    return repository.state / "staged", repository.root / DIRECTORY / "restoring"


def _is_plain(folder: Path) -> bool:
    """Say whether a folder of ours is no link, and in none."""
    return not (folder.is_symlink() or folder.parent.is_symlink())


def _device(folder: Path) -> int | None:
    try:
        return folder.stat().st_dev
    except OSError:
        return None


def _write(path: Path, put: Put, stream: IO[bytes]) -> None:
    """Write one content to a file, or as a link."""
    if stat.S_ISLNK(put.mode):
        target = b"".join(content(stream, put.path))
        os.symlink(target, os.fsencode(path))  # noqa: PTH211 - its target is bytes
        return
    with path.open("xb") as file:
        file.writelines(content(stream, put.path))
        os.fchmod(file.fileno(), stat.S_IMODE(put.mode))


def _sync(folder: Path, count: int) -> None:
    """See that what was staged outlives a loss of power."""
    if count > _FEW:
        os.sync()
        return
    for name in range(count):
        path = folder / str(name)
        if not path.is_symlink():
            file = os.open(path, os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)
    own.sync_folder(folder)
