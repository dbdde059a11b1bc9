"""Who may touch the working tree: agents at work, checkpoints being taken, one restore.

Locks are `flock`s on files in our state directory; the kernel drops them when a process dies. A
restore writes its process id into the file, so that the others can name it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from otel_agents.errors import CheckpointError

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Generator

    from otel_agents.checkpoint.repository import Repository

_PATIENCE: Final = 10.0  # seconds to wait for a checkpoint being taken, or for a restore
_PAUSE: Final = 0.01


@contextmanager
def at_work(repository: Repository) -> Generator[None]:
    """Hold off restores while agents of this process write to the working tree.

    Raises:
        CheckpointError: A restore is under way, and did not end within ten seconds.

    """
    with _opened(repository, "agents.lock", to_share=True) as file:
        _wait(file, exclusive=False)
        _name(file)
        yield


def is_restoring(repository: Repository) -> bool:
    """Say whether `at_work` would have to wait now."""
    with (
        contextlib.suppress(CheckpointError),
        _opened(repository, "agents.lock", to_share=True) as file,
    ):
        return not _locked(file, exclusive=False)
    return False


@contextmanager
def restoring(repository: Repository, *, force: bool = False) -> Generator[None]:
    """Be the only restore of a working tree, with no agent at work and no checkpoint being taken.

    Raises:
        CheckpointError: There is another restore, or agents are at work and `force` is not set.

    """
    with _opened(repository, "tree.lock") as tree:
        deadline = time.monotonic() + _PATIENCE
        while not _locked(tree, exclusive=True):
            if by := _by(tree):
                message = f"There is another restore under way{by}."
                raise CheckpointError(message)
            if time.monotonic() > deadline:
                message = "A checkpoint is being taken; try again."
                raise CheckpointError(message)
            time.sleep(_PAUSE)
        with _named(tree), _opened(repository, "agents.lock") as agents:
            if not force and not _locked(agents, exclusive=True):
                by = _by(agents)
                message = f"Agents are at work{by}: wait until they are done, or use force."
                raise CheckpointError(message)
            yield


@contextmanager
def reading(repository: Repository) -> Generator[None]:
    """Hold off restores while the working tree is read; wait for one that is under way.

    Raises:
        CheckpointError: It did not end within ten seconds.

    """
    with _opened(repository, "tree.lock") as file:
        _wait(file, exclusive=False)
        yield


@contextmanager
def looking(repository: Repository) -> Generator[None]:
    """Do as `reading`, for who writes nothing: where no lock can be made, nobody restores.

    Raises:
        CheckpointError: A restore is under way, and did not end within ten seconds.

    """
    with contextlib.ExitStack() as stack:
        file = None
        with contextlib.suppress(CheckpointError):
            file = stack.enter_context(_opened(repository, "tree.lock", to_share=True))
        if file is not None:
            _wait(file, exclusive=False)
        yield


@contextmanager
def finishing(repository: Repository) -> Generator[None]:
    """Be the one that finishes a restore; wait for one that is under way.

    Raises:
        CheckpointError: It did not end within ten seconds.

    """
    with _opened(repository, "tree.lock") as file:
        _wait(file, exclusive=True)
        with _named(file):
            yield


@contextmanager
def _opened(repository: Repository, name: str, *, to_share: bool = False) -> Generator[int]:
    path, flags = repository.state / name, getattr(os, "O_NOFOLLOW", 0)
    file = -1
    try:
        repository.state.mkdir(parents=True, exist_ok=True)
        file = os.open(path, flags | os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        if to_share:  # which takes no right to write
            with contextlib.suppress(OSError):
                file = os.open(path, flags | os.O_RDONLY)
        if file < 0:
            message = f"{repository.state} cannot be written to: {error.strerror}."
            raise CheckpointError(message) from error
    try:
        yield file
    finally:
        os.close(file)


@contextmanager
def _named(file: int) -> Generator[None]:
    _name(file)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.ftruncate(file, 0)


def _name(file: int) -> None:
    with contextlib.suppress(OSError):  # a full disk: others are not told who it is
        os.pwrite(file, b"%-20d" % os.getpid(), 0)


def _locked(file: int, *, exclusive: bool) -> bool:
    if sys.platform == "win32":
        message = "Checkpoints need a system with flock; Windows has none."
        raise CheckpointError(message)
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(file: int, *, exclusive: bool) -> None:
    """Wait for a lock that a restore holds; raises CheckpointError where it holds it for long."""
    deadline = time.monotonic() + _PATIENCE
    while not _locked(file, exclusive=exclusive):
        if time.monotonic() > deadline:
            message = f"A restore is under way{_by(file)}."
            raise CheckpointError(message)
        time.sleep(_PAUSE)


def _by(file: int) -> str:
    """Return ` (pid N)` of who wrote itself into a lock last, if that process is alive."""
    text = os.pread(file, 20, 0).strip()
    if not text.isdigit():
        return ""
    try:
        os.kill(int(text), 0)
    except PermissionError:
        pass
    except (OSError, OverflowError):
        return ""
    return f" (pid {int(text)})"
