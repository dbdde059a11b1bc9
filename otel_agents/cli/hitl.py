"""`otel-agents hitl`: who waits for a human, and what the human says."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import click

from otel_agents.cli.envelope import OK, print_data
from otel_agents.cli.options import AS_JSON, CURSOR, LIMIT, SERVER
from otel_agents.cli.reader import reader, settings_here

if TYPE_CHECKING:
    from otel_agents.signals import Signal

_PLAIN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/@-]*")


@click.group("hitl")
def command() -> None:
    """Show who waits for a human, and answer.

    ID is the id of a wait, or of its scope, as `otel-agents hitl list` shows it.
    """


@command.command("list")
@click.option("--all", "everything", is_flag=True, help="Those that were answered or closed too.")
@LIMIT
@CURSOR
@SERVER
@AS_JSON
def list_command(
    limit: int, cursor: str | None, server: str | None, *, everything: bool, as_json: bool
) -> int:
    """List the waits that are open, the last to be asked first.

    With --json, `meta.next_cursor` is what --cursor takes to go on, or null at the end.

    Exit codes: 0, whoever waits; 4 without a workspace, store or server to read.
    """
    source = reader(server)
    status = "all" if everything else "open"
    found = source.hitl.list(status=status, cursor=cursor, limit=limit)
    if as_json:
        print_data(found["items"], next_cursor=found["next_cursor"])
        return OK
    from otel_agents.cli.drawn_hitl import waits_table

    waits_table(_handled(found["items"]), everything=everything)
    if found["next_cursor"]:
        click.echo(f"\nThere are more: go on with --cursor {found['next_cursor']}")
    return OK


@command.command("resolve")
@click.argument("wait_id", metavar="ID")
@click.option("--approve", is_flag=True, help="Say yes.")
@click.option("--reject", is_flag=True, help="Say no.")
@click.option("--answer", metavar="TEXT", help="Say more, or nothing but this.")
@SERVER
@AS_JSON
def resolve_command(
    wait_id: str,
    answer: str | None,
    server: str | None,
    *,
    approve: bool,
    reject: bool,
    as_json: bool,
) -> int:
    """Answer a wait: whoever waits takes the answer, and goes on.

    Say --approve or --reject, and more with --answer; or --answer alone. Through a server it
    takes the token of an admin, OTEL_AGENTS_TOKEN.

    Exit codes: 0 answered, 1 it has an answer already or nobody waits any more, 2 wrong usage,
    4 no such wait.
    """
    if approve and reject:
        message = "Say --approve or --reject, and not both."
        raise click.UsageError(message)
    if not approve and not reject and answer is None:
        message = "Say --approve, --reject or --answer TEXT."
        raise click.UsageError(message)
    decision = "approved" if approve else "rejected" if reject else "answered"
    source = reader(server)
    try:
        item, signal = source.hitl.answer(wait_id, decision, answer, "cli")
        if signal is not None:
            _note(signal)
    finally:
        source.close()
    if as_json:
        print_data(item)
        return OK
    from otel_agents.cli.drawn_hitl import one_answer

    one_answer(item)
    return OK


def _note(signal: Signal) -> None:
    """Append an answer to the file of signals, where there is one: `status` reads it."""
    from otel_agents.settings import workspace_of

    workspace = workspace_of(settings_here())
    if workspace is None or not workspace.signals.exists():
        return
    from otel_agents.sinks.jsonl import JsonlSink

    sink = JsonlSink(workspace.signals)
    try:
        sink.write([signal])
    finally:
        sink.close()


def _handled(items: list[Any]) -> list[tuple[str, Any]]:
    """Return waits with what each is answered by: where several have one id, by their scopes'."""
    times = Counter(map(handle, items))
    return [
        (known if times[known] == 1 else str(item["scope_id"]), item)
        for item, known in ((item, handle(item)) for item in items)
    ]


def handle(item: Any) -> str:
    """Return what a wait is answered by: its id, or its scope's where that is hard to type."""
    given = str(item["id"])
    return given if _PLAIN.fullmatch(given) else str(item["scope_id"])
