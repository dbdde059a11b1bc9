"""Where a command reads from: the workspace's store, or the server that was named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from otel_agents.errors import InvalidInputError, NotFoundError
from otel_agents.workspace import DIRECTORY, HOME_VARIABLE, Workspace, find

if TYPE_CHECKING:
    from otel_agents.settings import Settings
    from otel_agents.signals import Signal
    from otel_agents.state.report import RunReport

_SETTLE_SECONDS: Final = 0.5
SERVER_VARIABLE: Final = "OTEL_AGENTS_SERVER"


class Waits(Protocol):
    """Who waits for a human."""

    def list(
        self, *, status: str = "open", cursor: str | None = None, limit: int = 50
    ) -> dict[str, Any]:
        """Return waits, the last to be asked first."""

    def answer(
        self, wait_id: str, decision: str, text: str | None, by: str
    ) -> tuple[dict[str, Any], Signal | None]:
        """Answer a wait; return it as it is now, and the signal where it was written here."""


class Reader(Protocol):
    """What both can be asked; answers are data ready for JSON, lists `{items, next_cursor}`."""

    def runs(self, *, cursor: str | None = None, limit: int = 50) -> Any:
        """Return runs, the latest first."""

    def report(self, run_id: str | None = None) -> RunReport:
        """Return how a run stands, of the latest run by default."""

    def run(self, run_id: str) -> Any:
        """Return a run in full."""

    def feed(self, after: int, limit: int = 500, run_id: str | None = None) -> Any:
        """Return the signals stored after a number, in the order they were."""

    def agents(
        self,
        *,
        status: str | None = None,
        name: str | None = None,
        run_id: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Any:
        """Return attempts of agents, the latest first."""

    def agent(self, agent_id: str) -> Any:
        """Return one attempt of an agent."""

    def telemetry(self, agent_id: str) -> Any:
        """Return what an attempt of an agent used and cost."""

    def logs(
        self, *, agent_id: str | None = None, cursor: str | None = None, limit: int = 50
    ) -> Any:
        """Return log records, the latest first."""

    def runtime_events(
        self,
        *,
        layer: str | None = None,
        reason_code: str | None = None,
        entity_id: str | None = None,
        task_id: str | None = None,
        since: str | None = None,
        until: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Any:
        """Return runtime events, the latest first."""

    def verify(self) -> Any:
        """Return what is healthy and what is not."""

    def alerts(
        self, *, status: str | None = None, cursor: str | None = None, limit: int = 50
    ) -> Any:
        """Return alerts, the last to begin first."""

    @property
    def hitl(self) -> Waits:
        """Who waits for a human."""

    def close(self) -> None:
        """Let go of it."""


def settings_here() -> Settings:
    """Return the settings in force in the working directory."""
    from otel_agents.settings import load

    try:
        here = Path.cwd()
    except OSError:
        message = "The working directory was removed: go to another one."
        raise NotFoundError(message) from None
    return load(os.environ, here)


def named_server(option: str | None, settings: Settings) -> str | None:
    """Return the server to ask, if any: the option's, the variable's or the settings file's.

    Raises:
        InvalidInputError: The variable holds no address, and would be passed over in silence.

    """
    if option is not None:
        return option
    if settings.server is None and os.environ.get(SERVER_VARIABLE, "").strip():
        message = f"{SERVER_VARIABLE} must be the address of a server, as http://HOST:PORT."
        raise InvalidInputError(message, parameter="server")
    return settings.server


def reader(server: str | None) -> Reader:
    """Return the server that is named, or else the local store.

    Args:
        server: The option --server; None where it was not given.

    Raises:
        InvalidInputError: The address is none.
        NotFoundError: No server is named, and there is no workspace or no store in it.

    """
    settings = settings_here()
    address = named_server(server, settings)
    if address is not None:
        from otel_agents.cli.remote import Remote

        return Remote(address, settings.token or settings.viewer_token)
    from otel_agents.settings import workspace_of
    from otel_agents.store import open_store

    found = workspace_of(settings)
    if settings.store is None:
        found = here(found)
    store = open_store(settings.store, found, create=False)
    # A process that was killed may have left runs whose rows are behind their signals.
    store.settle(_SETTLE_SECONDS)
    return store


def here(found: Workspace | None = None) -> Workspace:
    """Return the workspace in force, or say in one sentence how to come by one."""
    found = found or find()
    if found is not None and found.path.is_dir():
        return found
    home = os.environ.get(HOME_VARIABLE)
    if home:
        where = f"{HOME_VARIABLE} names {home}, which is no directory"
    else:
        where = f"There is no workspace {DIRECTORY} in {_directory()} or above it"
    message = f"{where}: make one with `otel-agents init`, then start the program below it."
    raise NotFoundError(message)


def _directory() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return "the working directory, which was removed,"
