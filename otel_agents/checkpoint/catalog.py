"""The checkpoints of a repository: listed, looked up, compared with the tree, pruned."""

from __future__ import annotations

import tempfile
import time
from typing import TYPE_CHECKING, Final

from otel_agents.checkpoint.known import Known
from otel_agents.checkpoint.locks import looking
from otel_agents.checkpoint.plan import Change
from otel_agents.checkpoint.planning import Planner
from otel_agents.checkpoint.record import REFS, Checkpoint, said
from otel_agents.checkpoint.recovery import recover
from otel_agents.checkpoint.stored import files_of, find, stored
from otel_agents.checkpoint.taking import differing
from otel_agents.checkpoint.tree import Scan
from otel_agents.checkpoint.writer import Writer
from otel_agents.errors import NotFoundError

if TYPE_CHECKING:
    from otel_agents.checkpoint.repository import Repository

__all__ = ["Change", "before", "checkpoints", "diff", "get", "patch", "prune"]

_DAY: Final = 86_400_000_000_000  # nanoseconds


def checkpoints(repository: Repository) -> list[Checkpoint]:
    """Return the checkpoints, newest first."""
    recover(repository)
    return [one.checkpoint for one in stored(repository)]


def get(repository: Repository, id: str) -> Checkpoint:  # noqa: A002 - its name
    """Return a checkpoint.

    Raises:
        InvalidInputError: `id` cannot be an id.
        NotFoundError: There is none with it.

    """
    recover(repository)
    return find(repository, id).checkpoint


def before(repository: Repository, run_id: str, phase: str) -> Checkpoint:
    """Return the checkpoint that was taken before a phase of a run, the last time it began.

    That is the newest of the phase that is of no agent or task in it; where there is none, the
    oldest of the phase.

    Raises:
        NotFoundError: The run has none of the phase.

    """
    of_phase = [
        one
        for one in checkpoints(repository)
        if one.run_id == run_id and one.phase == phase and not one.undo_of
    ]
    if not of_phase:
        message = f"Run {said(str(run_id))} has no checkpoint of phase {said(str(phase))}."
        raise NotFoundError(message)
    own = (one for one in of_phase if not (one.agent or one.agent_id or one.task_id))
    return next(own, of_phase[-1])


def diff(repository: Repository, id: str) -> list[Change]:  # noqa: A002 - its name
    """Return what a restore of a checkpoint would change now, with `force`.

    Raises:
        InvalidInputError: `id` cannot be an id.
        NotFoundError: There is none with it.
        CheckpointError: It could not be restored, or the tree not be read.

    """
    recover(repository)
    of = find(repository, id)
    with looking(repository):
        now = Scan(repository, Known.load(repository), None).tree
    then = files_of(repository, of)
    return Planner(repository, now, then, of.modes, force=True).plan.changes


def patch(repository: Repository, id: str) -> str:  # noqa: A002 - its name
    """Return what a restore would change now as a patch; what is no UTF-8 is written out.

    Raises:
        InvalidInputError: `id` cannot be an id.
        NotFoundError: There is none with it.
        CheckpointError: The tree cannot be read.

    """
    recover(repository)
    of = find(repository, id)
    known = Known.load(repository)
    with tempfile.TemporaryDirectory(prefix="otel-agents-") as folder:
        around = _objects_in(repository, folder)
        with looking(repository), Writer(repository, None, around) as writer:
            now = Scan(repository, known, writer).tree
            ref = REFS + "patch"
            message = b"The tree now, for a moment."
            _, tree = writer.commit(ref, message, known.tree, differing(now, known))
            writer.forget(ref)
            writer.finish()
        out, _ = repository.run(
            "diff-tree", "-p", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-color",
            "--end-of-options", tree, of.tree,
            environment=around,
        )  # fmt: skip
    return out.decode("utf-8", "backslashreplace")


def prune(repository: Repository, keep: int, keep_days: float) -> int:
    """Remove old checkpoints and return how many went; git drops their objects in its time.

    The newest always stays, and so does the one that undoes the latest restore.

    Args:
        repository: Where.
        keep: How many are kept.
        keep_days: How old they may be, in days.

    """
    recover(repository)
    found = stored(repository)
    oldest = time.time_ns() - int(keep_days * _DAY)
    undo = next((one for one in found if one.checkpoint.undo_of), None)
    gone = [
        one.checkpoint
        for place, one in enumerate(found)
        if place and one is not undo and (place >= keep or one.checkpoint.created_at < oldest)
    ]
    if gone:
        lines = (f"delete {REFS}{one.id} {one.commit}\n" for one in gone)
        repository.git("update-ref", "--no-deref", "--stdin", stdin="".join(lines).encode())
    return len(gone)


def _objects_in(repository: Repository, folder: str) -> dict[str, str]:
    """Return the variables with which git writes objects to a folder, and reads ours too."""
    objects = str(repository.common_dir / "objects").replace("\\", "\\\\").replace('"', '\\"')
    return {"GIT_OBJECT_DIRECTORY": folder, "GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{objects}"'}
