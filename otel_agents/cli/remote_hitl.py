"""Waits for humans as another process's server has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from otel_agents.errors import AlreadyAnsweredError, UnauthorizedError
from otel_agents.text import segment

if TYPE_CHECKING:
    from otel_agents.cli.remote import Remote

_PATH: Final = "/api/hitl"
_FORBIDDEN, _CONFLICT = 403, 409


class RemoteWaits:
    """The waits of one server; answers are what `Store.hitl` returns."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def list(
        self, *, status: str = "open", cursor: str | None = None, limit: int = 50
    ) -> dict[str, Any]:
        """Return waits, the last to be asked first."""
        given = {"status": status, "cursor": cursor, "limit": limit}
        found: dict[str, Any] = self._remote.get(_PATH, given)
        return found

    def answer(
        self,
        wait_id: str,
        decision: str,
        text: str | None,
        by: str,  # noqa: ARG002 - a server sees by itself where an answer comes from
    ) -> tuple[dict[str, Any], None]:
        """Answer a wait; return it as it is now. The signal is the server's.

        Raises:
            AlreadyAnsweredError: It has an answer, or nobody waits any more.
            UnauthorizedError: The server takes answers with the token of an admin only.

        """
        said = {"decision": decision, "answer": text}
        status, body = self._remote.post(f"{_PATH}/{segment(wait_id)}", said)
        if status == _CONFLICT:
            raise AlreadyAnsweredError(_message(body))
        if status == _FORBIDDEN and not self._remote.has_token:
            message = (
                f"The server at {self._remote.url} takes answers with its admin's token only: set "
                "OTEL_AGENTS_TOKEN there and here, or answer in its workspace without --server."
            )
            raise UnauthorizedError(message)
        item: dict[str, Any] = self._remote.data(status, body)
        return item, None


def _message(body: bytes) -> str:
    """Return what a server says of an answer that came too late."""
    try:
        said = msgspec.json.decode(body)["error"]["message"]
    except (msgspec.DecodeError, TypeError, KeyError, RecursionError):
        said = None
    return said if isinstance(said, str) else "The wait has an answer, or is closed."
