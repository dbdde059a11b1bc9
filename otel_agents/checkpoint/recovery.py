"""Finishing a restore that was broken off, and saying so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_agents.boundary import boundary
from otel_agents.checkpoint import journal
from otel_agents.checkpoint.locks import finishing
from otel_agents.checkpoint.record import About
from otel_agents.checkpoint.taking import Taking

if TYPE_CHECKING:
    from otel_agents.checkpoint.repository import Repository


def recover(repository: Repository) -> str | None:
    """Finish a restore that was killed, and return the id of its checkpoint; None for none.

    Every public function of checkpoints begins with this; where a restore is under way in another
    process, it waits for it. Who may have worked in the tree since is told in the log, or on the
    standard error of a program that has none.

    Raises:
        CheckpointError: It cannot be finished.

    """
    if not journal.pending(repository):
        return None
    with finishing(repository):
        return finish(repository)


def finish(repository: Repository) -> str | None:
    """Finish a restore, the lock being held."""
    begun = journal.load(repository)
    if begun is None:
        journal.clean(repository)
        return None
    # Whoever came back to a tree that was half restored may have worked in it since.
    with Taking(repository) as taking:
        about = About(message=f"Before the restore of {begun.id} is finished")
        found = taking.keep(about, deduplicate=True).id
    journal.carry_out(repository, begun)
    between = "" if found in {begun.id, begun.undo_id} else f"; {found} is the tree in between"
    boundary.warn(
        "otel-agents: The restore of %s that was broken off is finished now: "
        "`otel-agents checkpoint restore %s` undoes it%s.", begun.id, begun.undo_id, between,
    )  # fmt: skip
    return begun.id
