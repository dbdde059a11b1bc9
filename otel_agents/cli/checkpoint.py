"""`otel-agents checkpoint`: the working tree saved, compared and brought back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from otel_agents.cli.envelope import INTERRUPTED, OK, print_data
from otel_agents.cli.options import AS_JSON
from otel_agents.cli.reader import settings_here
from otel_agents.errors import CheckpointError
from otel_agents.text import visible

if TYPE_CHECKING:
    from otel_agents.checkpoint.plan import Change
    from otel_agents.checkpoint.record import Checkpoint
    from otel_agents.checkpoint.repository import Repository
    from otel_agents.settings_guards import CheckpointSettings


@click.group("checkpoint")
def command() -> None:
    """Save the working tree of a git repository, and bring it back.

    A checkpoint holds all files that git does not ignore, tracked or not. Branches, the index, the
    stash, hooks and the configuration are neither changed nor run.

    Exit codes: 0 fine, 1 it cannot be done here, 2 wrong usage or input, 3 interrupted,
    4 no such checkpoint.
    """


@command.command("create")
@click.option("-m", "--message", metavar="TEXT", default="By hand", help="What it is taken before.")
@AS_JSON
def create_command(message: str, *, as_json: bool) -> int:
    """Save the working tree as it is."""
    from otel_agents.checkpoint.record import About
    from otel_agents.checkpoint.snapshot import create

    repository, settings = _here()
    # Whoever waits for it can break it off: there is no limit to how long it takes.
    made = create(
        repository, About(message=message), max_bytes=settings.max_bytes, max_seconds=None
    )
    item = _item(made)
    if as_json:
        asked = ("id", "commit", "created_at", "message", "files", "bytes")
        print_data({key: item[key] for key in asked})
    else:
        _draw("made", item)
    _prune(repository, settings)
    return OK


@command.command("list")
@click.option("--run-id", "--run", metavar="ID", help="Only those of this run.")
@AS_JSON
def list_command(run_id: str | None, *, as_json: bool) -> int:
    """List the checkpoints, the newest first."""
    from otel_agents.checkpoint.catalog import checkpoints

    known = checkpoints(_here()[0])
    items = [_item(one) for one in known if run_id is None or one.run_id == run_id]
    if known and not items and not as_json:
        click.echo("There is no checkpoint of this run.")
    else:
        _show(items, "table", as_json=as_json)
    return OK


@command.command("show")
@click.argument("id_", metavar="ID")
@AS_JSON
def show_command(id_: str, *, as_json: bool) -> int:
    """Show one checkpoint: when and before what it was taken, and by whom."""
    from otel_agents.checkpoint.catalog import get

    _show(_item(get(_here()[0], id_)), "one", as_json=as_json)
    return OK


@command.command("diff")
@click.argument("id_", metavar="ID")
@click.option("--patch", "as_patch", is_flag=True, help="Print the changes line by line.")
@AS_JSON
def diff_command(id_: str, *, as_patch: bool, as_json: bool) -> int:
    """Show what a restore would change in the working tree as it is now.

    On a terminal what a patch could do to it is written out; in a pipe it is as it is.
    """
    from otel_agents.checkpoint import catalog

    repository, _ = _here()
    if not as_patch:
        found = [_change(one) for one in catalog.diff(repository, id_)]
        _show(found, "changes", as_json=as_json)
        return OK
    text = catalog.patch(repository, id_)
    if as_json:
        print_data({"patch": text})
    elif sys.stdout.isatty():
        for line in text.splitlines():
            click.echo(visible(line.expandtabs()))
    else:
        sys.stdout.write(text)
    return OK


@command.command("restore")
@click.argument("id_", metavar="[ID]", required=False)
@click.option("--run-id", "--run", metavar="ID", help="The run, for --before.")
@click.option("--before", "phase", metavar="PHASE", help="The checkpoint before this phase.")
@click.option("--dry-run", is_flag=True, help="Say what would be changed, and change nothing.")
@click.option(
    "--force", is_flag=True, help="Do so while agents are at work, and over ignored files."
)
@AS_JSON
def restore_command(
    id_: str | None,
    run_id: str | None,
    phase: str | None,
    *,
    dry_run: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Bring the working tree back to a checkpoint: ID, or that before a phase of a run.

    The tree is saved before, so that `restore` with the id that is printed undoes it. While agents
    are at work here it is refused.
    """
    from otel_agents.checkpoint import catalog, journal
    from otel_agents.checkpoint.restore import BrokenOff, restore

    if (id_ is None) == (run_id is None or phase is None) or (
        id_ is not None and phase is not None
    ):
        message = "Give either an ID, or --run-id and --before."
        raise click.UsageError(message, click.get_current_context())
    repository, settings = _here()
    if id_ is None:
        id_ = catalog.before(repository, run_id or "", phase or "").id
    try:
        done = restore(repository, id_, run_id=run_id, force=force, dry_run=dry_run)
    except BrokenOff as error:
        undo = f"`otel-agents checkpoint restore {error.done.undo_id}` undoes it."
        _note(f"The restore was finished all the same: {undo}")
        return INTERRUPTED
    except KeyboardInterrupt:
        if journal.pending(repository):
            _note("The restore stopped half-way: the next command finishes it.")
        raise
    found = {
        "restored": done.restored,
        "undo_id": done.undo_id,
        "changed": [_change(one) for one in done.changed],
    }
    _show(found, "restored", as_json=as_json)
    if not dry_run:
        _prune(repository, settings)
    return OK


def _here() -> tuple[Repository, CheckpointSettings]:
    """Return the repository that the command stands in, and the settings in force there."""
    from otel_agents.checkpoint.repository import Repository
    from otel_agents.settings_guards import CheckpointSettings

    settings = settings_here().checkpoint or CheckpointSettings()
    return Repository.find(Path.cwd()), settings


def _prune(repository: Repository, settings: CheckpointSettings) -> None:
    """Remove the checkpoints that are too many or too old; what was asked for is done already."""
    from otel_agents.checkpoint.catalog import prune

    try:
        prune(repository, settings.keep, settings.keep_days)
    except CheckpointError as error:
        _note(f"Old checkpoints were not removed: {error}")


def _note(sentence: str) -> None:
    click.echo(f"otel-agents: {sentence}", err=True)


def _item(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what is said of a checkpoint in JSON."""
    import msgspec

    from otel_agents.state.times import rfc3339

    found = msgspec.structs.asdict(checkpoint)
    first = ("id", "commit", "created_at", "message", "files", "bytes")
    found["created_at"] = rfc3339(checkpoint.created_at)
    found["left_out"] = list(checkpoint.left_out)
    return {key: found.pop(key) for key in first} | found


def _change(change: Change) -> dict[str, str]:
    return {"path": change.path, "kind": change.kind}


def _show(data: Any, how: str, *, as_json: bool) -> None:
    """Print an answer as JSON, or as people read it."""
    if as_json:
        print_data(data)
    else:
        _draw(how, data)


def _draw(how: str, data: Any) -> None:
    from otel_agents.cli import drawn_checkpoints  # which JSON does without

    getattr(drawn_checkpoints, how)(data)
