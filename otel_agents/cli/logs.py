"""`otel-agents logs`: what agents logged, each in a file of its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from otel_agents.cli.envelope import OK, print_data
from otel_agents.cli.options import AS_JSON, SERVER, follow
from otel_agents.cli.reader import Reader, here, named_server, reader, settings_here
from otel_agents.errors import NotFoundError, OtelAgentsError, UnavailableError
from otel_agents.state.times import rfc3339
from otel_agents.text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_agents.workspace import Workspace

_POLL_SECONDS: Final = 0.5
_FIRST: Final = 20  # lines that --follow begins with
_PAGE: Final = 500
_MOST: Final = 10_000  # lines of a server's that are shown without --lines


@click.command("logs")
@click.argument("agent_id", metavar="[AGENT_ID]", required=False)
@follow("Go on with lines as they come; Ctrl-C leaves.")
@click.option(
    "-n", "--lines", metavar="N", type=click.IntRange(0),
    help="Only the last N lines; by default all, with --follow 20.",
)  # fmt: skip
@SERVER
@AS_JSON
def command(
    agent_id: str | None,
    lines: int | None,
    server: str | None,
    *,
    follow: bool,
    as_json: bool,
) -> int:
    """Show what an agent logged; without AGENT_ID, which log files there are.

    The name of an agent lists the files of its attempts. A server has no files: it shows the log
    records that it received, of all agents without AGENT_ID.

    With --json a list is an array, a text `{agent_id, file, lines}`, and with --follow each line
    `{agent_id, line}` in an envelope of its own.
    """
    settings = settings_here()
    if named_server(server, settings) is not None:
        return _of_server(reader(server), agent_id, lines, follow=follow, as_json=as_json)
    from otel_agents.settings import workspace_of

    workspace = here(workspace_of(settings))
    if agent_id is None:
        if follow:
            message = "--follow wants an AGENT_ID: `otel-agents logs` lists them."
            raise click.UsageError(message)
        return _list(workspace, _known(), as_json=as_json)
    from otel_agents.cli.log_files import lines_of

    found = lines_of(workspace, agent_id, _FIRST if follow and lines is None else lines)
    if found is None:
        return _by_name(workspace, agent_id, follow=follow, as_json=as_json)
    if follow:
        return _follow(workspace, agent_id, lines, as_json=as_json)
    return _print(agent_id, str(_file(workspace, agent_id)), found, as_json=as_json)


def _file(workspace: Workspace, agent_id: str) -> str:
    from otel_agents.agent_logs import file_name

    return str(workspace.logs / file_name(agent_id))


def _print(agent_id: str | None, file: str | None, lines: list[str], *, as_json: bool) -> int:
    if as_json:
        print_data({"agent_id": agent_id, "file": file, "lines": lines})
    else:
        for line in lines:
            click.echo(line)
    return OK


def _print_line(agent_id: str | None, line: str, *, as_json: bool) -> None:
    if as_json:
        print_data({"agent_id": agent_id, "line": line})
    else:
        click.echo(line)


# ---------------------------------------------------------------------- the workspace's files


def _known() -> Reader | None:
    """Return the local store, which knows whose the files are; they can be read without it."""
    try:
        return reader(None)
    except OtelAgentsError:
        return None


def _by_name(workspace: Workspace, name: str, *, follow: bool, as_json: bool) -> int:
    source = _known()
    attempts = source.agents(name=name, limit=_PAGE)["items"] if source is not None else []
    if not attempts:
        if source is not None and _is_agent(source, name):
            message = f"The agent {name} has no log file: it logged nothing in its scope."
        else:
            message = f"No agent has the id or the name {name}: `otel-agents logs` lists the files."
        raise NotFoundError(message)
    if follow:
        latest = attempts[0]["id"]
        message = f"{name} is the name of agents: follow one of them, the latest is {latest}."
        raise click.UsageError(message)
    return _list(workspace, source, only={each["id"] for each in attempts}, as_json=as_json)


def _is_agent(source: Reader, agent_id: str) -> bool:
    try:
        source.agent(agent_id)
    except NotFoundError:
        return False
    return True


def _list(
    workspace: Workspace, source: Reader | None, *, only: set[str] | None = None, as_json: bool
) -> int:
    from otel_agents.agent_logs import file_name
    from otel_agents.cli.log_files import log_files

    owners = _owners(source)
    names = None if only is None else {file_name(each) for each in only}
    items: list[dict[str, Any]] = []
    for file in log_files(workspace):
        if names is not None and file.name not in names:
            continue
        owner = owners.get(file.name, {})
        items.append(
            {
                "agent_id": owner.get("id") or file.name.removesuffix(".log"),
                "agent": owner.get("name"),
                "run_id": owner.get("run_id"),
                "status": owner.get("status"),
                "file": str(workspace.logs / file.name),
                "bytes": file.size,
                "modified_at": rfc3339(file.modified),
            }
        )
    if as_json:
        print_data(items)
        return OK
    from otel_agents.cli.tables import Page, number, status, when

    page = Page()
    if not items:
        page.line(f"No agent has logged anything yet into {visible(str(workspace.logs))}.")
        return OK
    page.table(
        ("agent", "id", "status", "run", "bytes>", "last written"),
        [
            (
                each["agent"] or "",
                each["agent_id"],
                status(each["status"]) if each["status"] else "",
                each["run_id"] or "",
                number(each["bytes"]),
                when(each["modified_at"]),
            )
            for each in items
        ],
    )
    page.line("Show one with `otel-agents logs ID`.")
    return OK


def _owners(source: Reader | None) -> dict[str, Any]:
    """Return the agents that the store knows by the names of their files, the latest 500."""
    from otel_agents.agent_logs import file_name

    if source is None:
        return {}
    return {file_name(each["id"]): each for each in source.agents(limit=_PAGE)["items"]}


def _follow(workspace: Workspace, agent_id: str, lines: int | None, *, as_json: bool) -> int:
    from otel_agents.cli.log_files import Tail

    tail = Tail(workspace, agent_id)
    first = list(tail.new())
    most = _FIRST if lines is None else lines
    for line in first[-most:] if most else []:
        _print_line(agent_id, line, as_json=as_json)
    for line in tail.forever():
        _print_line(agent_id, line, as_json=as_json)
    return OK


# ---------------------------------------------------------------------- a server's log records


def _of_server(
    source: Reader, agent_id: str | None, lines: int | None, *, follow: bool, as_json: bool
) -> int:
    if agent_id is not None and not _is_agent(source, agent_id):
        attempts = source.agents(name=agent_id, limit=1)["items"]
        if attempts:
            latest = attempts[0]["id"]
            message = (
                f"{agent_id} is the name of agents: `otel-agents monitor status {agent_id}` lists "
                f"them, the latest is {latest}."
            )
            raise NotFoundError(message)
        # The records of an agent that no signal tells of may be there all the same.
    first = _FIRST if follow else _MOST
    records = _records(source, agent_id, first if lines is None else lines)
    if not follow:
        if agent_id is not None and not records:
            message = f"The server has no log record of an agent {agent_id}."
            raise NotFoundError(message)
        return _print(agent_id, None, [_told(each) for each in records], as_json=as_json)
    for each in _with_new(source, agent_id, records):
        _print_line(agent_id, _told(each), as_json=as_json)
    return OK


def _records(source: Reader, agent_id: str | None, most: int, after: int = 0) -> list[Any]:
    """Return the last records, those behind a number only, in the order they came."""
    found: list[Any] = []
    cursor: str | None = None
    while len(found) < most:
        page = source.logs(agent_id=agent_id, cursor=cursor, limit=min(_PAGE, most - len(found)))
        items = [each for each in page["items"] if each["seq"] > after]
        found += items
        cursor = page["next_cursor"]
        if cursor is None or len(items) < len(page["items"]):
            break
    return found[::-1]


def _with_new(source: Reader, agent_id: str | None, records: list[Any]) -> Iterator[Any]:
    yield from records
    after = max((each["seq"] for each in records), default=0)
    if not records:
        after = max((each["seq"] for each in _records(source, agent_id, 1)), default=0)
    gone = False
    while True:
        time.sleep(_POLL_SECONDS)
        try:
            found = _records(source, agent_id, _MOST, after)
        except UnavailableError as error:
            if not gone:
                click.echo(f"otel-agents: {error} Waiting for it.", err=True)
            gone = True
            continue
        gone = False
        for each in found:
            after = max(after, each["seq"])
            yield each


def _told(record: Any) -> str:
    """Return a record as a line of a log file."""
    logger = record["attributes"].get("otel.scope.name") or record["service"] or "-"
    body = visible(str(record["body"]))
    return visible(f"{record['timestamp']} {record['severity_text'] or '-'} {logger} ") + body
