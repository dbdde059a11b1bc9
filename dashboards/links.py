"""Where panels lead to: Jaeger, the console, another board.

The base addresses are variables of each board, hidden, so that a copy of a board can be pointed
elsewhere by its settings or by `&var-jaeger=...` in its address.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from grafana_foundation_sdk.builders.dashboard import DashboardLink
from grafana_foundation_sdk.models.dashboard import DashboardLinkType

from otel_agents.vocabulary import AGENT_NAME, WORKFLOW, Attribute

TAG: Final = "otel-agents"
BOARDS: Final = ("fleet", "run", "cost", "agents", "workers", "telemetry")
# What `${__field.labels...}` is made fit for an address with.
_ENCODED: Final = ":percentencode"


class Links(NamedTuple):
    """Base addresses, without a slash at the end."""

    console: str = "http://127.0.0.1:3010"
    grafana: str = "http://127.0.0.1:3000"
    jaeger: str = "http://127.0.0.1:16686"


def uid(board: str) -> str:
    """Return the id of a board, that its address has; an unknown board raises ValueError."""
    if board not in BOARDS:
        message = f"there is no board {board!r}"
        raise ValueError(message)
    return f"{TAG}-{board}"


def to_console(title: str, path: str, **query: str) -> DashboardLink:
    """Return a link to a page of the console; values of its query may hold Grafana's variables."""
    asked = "&".join(f"{key}={value}" for key, value in query.items())
    return _link(title, f"${{console:raw}}{path}" + (f"?{asked}" if asked else ""), new=True)


def to_board(title: str, board: str, **variables: str) -> DashboardLink:
    """Return a link to another board that keeps time, data source and program."""
    chosen = "".join(f"&var-{name}={value}" for name, value in variables.items())
    kept = "${__url_time_range}&${datasource:queryparam}&${job:queryparam}"
    return _link(title, f"/d/{uid(board)}?{kept}{chosen}")


def to_traces(title: str, tags: dict[Attribute, str]) -> DashboardLink:
    """Return a link to Jaeger's search for traces with these attributes, in the time shown."""
    told = "%2C".join(f"%22{key.key}%22%3A%22{value}%22" for key, value in tags.items())
    searched = (
        "service=${service:percentencode}&lookback=custom&start=${__from}000&end=${__to}000"
        f"&tags=%7B{told}%7D"
    )
    return _link(title, f"${{jaeger:raw}}/search?{searched}", new=True)


def label(name: str) -> str:
    """Return the value of a series' label, for an address."""
    return f"${{__field.labels.{name}{_ENCODED}}}"


def column(name: str) -> str:
    """Return the value of a table's column in the row that was chosen, for an address."""
    return f'${{__data.fields["{name}"]{_ENCODED}}}'


def of_workflow(value: str) -> list[DashboardLink]:
    """Return what leads on from a workflow: its board, its traces, its runs."""
    return [
        to_board("Runs of this workflow", "run", workflow=value),
        to_traces("Traces in Jaeger", {WORKFLOW: value}),
        to_console("Runs in the console", "/runs", workflow=value),
    ]


def of_agent(value: str) -> list[DashboardLink]:
    """Return what leads on from an agent: its board, its traces, its attempts."""
    return [
        to_board("This agent and its tools", "agents", agent=value),
        to_traces("Traces in Jaeger", {AGENT_NAME: value}),
        to_console("Agents in the console", "/agents"),
    ]


def between_boards() -> DashboardLink:
    """Return the links at the top of each board to all of them."""
    return (
        DashboardLink("otel-agents")
        .type(DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(False)
        .include_vars(True)
        .keep_time(True)
    )


def to_console_above() -> DashboardLink:
    """Return the link to the console at the top of each board."""
    return _link("Console", "${console:raw}/runs", new=True).icon("external link")


def _link(title: str, url: str, *, new: bool = False) -> DashboardLink:
    return DashboardLink(title).type(DashboardLinkType.LINK).url(url).target_blank(new)
