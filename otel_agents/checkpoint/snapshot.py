"""Taking a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_agents.checkpoint.locks import reading
from otel_agents.checkpoint.recovery import recover
from otel_agents.checkpoint.taking import Taking

if TYPE_CHECKING:
    from otel_agents.checkpoint.record import About, Checkpoint
    from otel_agents.checkpoint.repository import Repository

MAX_BYTES: Final = 256 * 1024 * 1024
MAX_SECONDS: Final = 10.0


def create(
    repository: Repository,
    about: About,
    *,
    max_bytes: int | None = MAX_BYTES,
    max_seconds: float | None = MAX_SECONDS,
    deduplicate: bool = False,
) -> Checkpoint:
    """Save the working tree as it is, and return the checkpoint.

    Tracked and untracked files and links are saved, byte for byte; ignored ones, repositories
    inside of this one and `.otel-agents/` are not. HEAD, branches, the index, the stash and the
    configuration are not touched, and hooks and filters not run.

    Args:
        repository: Where.
        about: What is to be known of it.
        max_bytes: A tree with more in it is not saved; None is no limit.
        max_seconds: A checkpoint that takes longer is given up; None is no limit.
        deduplicate: Return the newest checkpoint that is the same, modes included, instead of a
            new one: of the same run, where `about` names one.

    Raises:
        CheckpointError: It is over a limit, or a file cannot be read, or the disk is full.

    """
    recover(repository)
    with (
        reading(repository),
        Taking(repository, max_bytes=max_bytes, max_seconds=max_seconds) as taking,
    ):
        return taking.keep(about, deduplicate=deduplicate)
