"""Restoring a checkpoint, so that it can be undone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from otel_agents.checkpoint import journal
from otel_agents.checkpoint.known import Known
from otel_agents.checkpoint.locks import looking, restoring
from otel_agents.checkpoint.plan import Change
from otel_agents.checkpoint.planning import Planner
from otel_agents.checkpoint.record import About, said
from otel_agents.checkpoint.recovery import finish, recover
from otel_agents.checkpoint.stored import files_of, find
from otel_agents.checkpoint.taking import Taking
from otel_agents.checkpoint.tree import Scan, Tree
from otel_agents.errors import CheckpointError, NotFoundError

if TYPE_CHECKING:
    from otel_agents.checkpoint.repository import Repository

__all__ = ["BrokenOff", "Change", "Restored", "recover", "restore"]


class Restored(msgspec.Struct, frozen=True):
    """What a restore did, or would do: `undo_id` is the checkpoint of the tree before it."""

    restored: str
    undo_id: str | None
    changed: list[Change]


class BrokenOff(KeyboardInterrupt):
    """Ctrl-C in the middle of a restore that was then finished: `done` is what it did."""

    def __init__(self, done: Restored) -> None:
        super().__init__()
        self.done = done


def restore(
    repository: Repository,
    id: str,  # noqa: A002 - its name
    *,
    run_id: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    about: About | None = None,
) -> Restored:
    """Make the working tree what it was at a checkpoint, after saving it as it is.

    Files that are ignored, repositories inside of this one, HEAD and the index are not touched.
    Ctrl-C in the middle of it is raised when it is done; a second one at once. A restore that is
    ended so, or killed, is finished by the next call of any function here.

    Args:
        repository: Where.
        id: The checkpoint's id.
        run_id: The run that it has to be of, if any.
        force: Restore while agents are at work, and over ignored files that are in the way,
            which then are in the checkpoint that undoes it.
        dry_run: Say what would be changed, and change nothing.
        about: What is to be known of the checkpoint that undoes it: who restores, and where.

    Raises:
        InvalidInputError: `id` cannot be an id.
        NotFoundError: There is no such checkpoint, or it is of another run.
        CheckpointError: It cannot be restored; the tree is as it was.
        BrokenOff: Ctrl-C was pressed in the middle; the tree is restored.

    """
    recover(repository)
    stored = find(repository, id)
    if run_id is not None and stored.checkpoint.run_id != run_id:
        whose = "no run" if stored.checkpoint.run_id is None else "another run"
        message = f"Checkpoint {id} is of {whose}."
        raise NotFoundError(message)
    then = files_of(repository, stored)
    if dry_run:
        with looking(repository):
            now = Scan(repository, Known.load(repository), None).tree
        planner = Planner(repository, now, then, stored.modes, force=force)
        return Restored(id, None, planner.plan.changes)
    with restoring(repository, force=force):
        finish(repository)
        with Taking(repository) as taking:
            planner = Planner(repository, taking.tree, then, stored.modes, force=force)
            taking.add(planner.occupied)
            about = msgspec.structs.replace(
                about or About(), message=f"Before the restore of {id}", undo_of=id
            )
            undo = taking.keep(about)
        plan = planner.plan
        staged = journal.stage(repository, plan.put)
        _check(repository, taking.tree, planner)
        begun = journal.Journal(id, undo.id, os.fsencode(staged), plan)
        done = Restored(id, undo.id, plan.changes)
        try:
            journal.begin(repository, begun)
            journal.carry_out(repository, begun)
        except KeyboardInterrupt:
            if journal.resume(repository):  # half a tree is no place to stop at
                raise BrokenOff(done) from None
            raise
    return done


def _check(repository: Repository, saved: Tree, planner: Planner) -> None:
    """Raise where something that is to go is not what was saved any more."""
    emptied = frozenset(planner.plan.empty)
    for path in (*planner.plan.remove, *(put.path for put in planner.plan.put)):
        was = saved.files.get(path)
        status = planner.status(path)
        if status is None or (was is None and path in emptied):
            continue
        if was is None or not was.could_be(status):
            journal.clean(repository)
            message = f"{said(path)} was changed while the restore was prepared; try again."
            raise CheckpointError(message)
