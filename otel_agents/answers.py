"""Where whoever waits looks for what a human said: at the server, or in the store.

    answers = answers_of(settings)
    answer = answers.poll(scope.scope_id)   # an Answer, or None while there is none

    answer = answer_to("call-7")            # of the runtime in force, by any id

Where a server is configured (`OTEL_AGENTS_SERVER`, or `server` of the settings) it is asked,
else the workspace's store.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from math import inf
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from otel_agents import runtime
from otel_agents.boundary import boundary
from otel_agents.settings import workspace_of
from otel_agents.text import segment
from otel_agents.version import __version__

if TYPE_CHECKING:
    from otel_agents.settings import Settings
    from otel_agents.store import Store

_SECONDS: Final = 5.0  # of a whole question
_WAIT_SECONDS: Final = 2.0  # of each wait for the server
_LONGEST: Final = 1 << 20  # bytes of a reply
_TRY_AGAIN_SECONDS: Final = 2.0  # after a store that cannot be opened
_QUIET_SECONDS: Final = 60.0
# A server hears of a wait within some seconds: batches of signals wait for no longer.
_UNHEARD_SECONDS: Final = 20.0
_UNHEARD: Final = (
    "otel-agents: the server at %s has not heard of the wait %r, so nobody can answer it there; "
    "send it the signals of this program (OTEL_EXPORTER_OTLP_ENDPOINT)"
)
_MOST_UNKNOWN: Final = 1000
_PORTS: Final = {"http": 80, "https": 443}
_OK, _UNKNOWN = 200, 404


class Answer(msgspec.Struct, frozen=True):
    """What a human said: the decision is approved, rejected or answered.

    `by` is where it was said: cli, console, api or program; `at` nanoseconds since the epoch.
    """

    wait_id: str
    decision: str
    text: str | None
    by: str
    at: int


class Answers:
    """Where the answers of one process come from. Make it with `answers_of`."""

    _said = 0.0

    def poll(self, wait_id: str) -> Answer | None:
        """Return the answer to a wait, or None while there is none, or none can be had.

        It takes some seconds at the most and never raises; a server or store that is away is said
        once a minute.

        Args:
            wait_id: The wait's id, or the id of its scope. An id that users give may be given
                again; the scope's is exact, also in the moment before its start is stored. The
                answer to an earlier asking counts where that was of the same run, under the same
                id, and never ended: its process was lost.

        """
        try:
            return self._ask(wait_id)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            now = time.monotonic()
            if not self._said or now - self._said > _QUIET_SECONDS:
                self._said = now
                boundary.warn("otel-agents: answers of humans cannot be asked for: %s", error)
            return None

    def find(self, wait_id: str) -> dict[str, Any] | None:
        """Return a wait as `/api/hitl/{id}` has it, or None where it is not known.

        Like `poll` it takes some seconds at the most and never raises.
        """
        try:
            return self._find(wait_id)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            boundary.warn("otel-agents: waits for humans cannot be looked up: %s", error)
            return None

    def close(self) -> None:
        """Let go of what was opened to ask."""

    def _find(self, wait_id: str) -> dict[str, Any] | None:
        raise NotImplementedError

    def _ask(self, wait_id: str) -> Answer | None:
        raise NotImplementedError


class ServerAnswers(Answers):
    """Answers as a server has them."""

    def __init__(self, url: str, token: str | None) -> None:
        self._parts = urlsplit(url.rstrip("/"))
        self._token = token
        # By waits that the server does not know of, since when; endless once that was said.
        self._unknown: dict[str, float] = {}

    def _ask(self, wait_id: str) -> Answer | None:
        item = self._find(wait_id)
        self._note(wait_id, known=item is not None)
        if item is None or item["status"] != "answered" or item["closed_at"] is not None:
            return None
        return _answer(wait_id, item)

    def _note(self, wait_id: str, *, known: bool) -> None:
        """Say once of a wait that the server does not hear of it: nobody can answer it there."""
        if known:
            self._unknown.pop(wait_id, None)
            return
        since = self._unknown.setdefault(wait_id, time.monotonic())
        if time.monotonic() - since >= _UNHEARD_SECONDS:
            self._unknown[wait_id] = inf
            boundary.warn(_UNHEARD, self._parts.netloc, wait_id)
        while len(self._unknown) > _MOST_UNKNOWN:
            del self._unknown[next(iter(self._unknown))]

    def _find(self, wait_id: str) -> dict[str, Any] | None:
        status, body = self._exchange(f"/api/hitl/{segment(wait_id)}")
        if status == _UNKNOWN:
            return None
        if status != _OK:
            message = f"the server at {self._parts.netloc} answers {status}"
            raise ConnectionError(message)
        item: dict[str, Any] = msgspec.json.decode(body)["data"]
        return item

    def _exchange(self, path: str) -> tuple[int, bytes]:
        # Only programs that wait for a human load them.
        import http.client
        import ssl

        parts = self._parts
        host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme)
        if parts.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=_WAIT_SECONDS, context=ssl.create_default_context()
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=_WAIT_SECONDS)
        headers = {"Accept": "application/json", "User-Agent": f"otel-agents/{__version__}"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        deadline = time.monotonic() + _SECONDS
        try:
            connection.request("GET", parts.path + path, headers=headers)
            reply = connection.getresponse()
            body = bytearray()
            while chunk := reply.read1(1 << 16):
                body += chunk
                if len(body) > _LONGEST or time.monotonic() > deadline:
                    message = f"the server at {parts.netloc} is slow, or says too much"
                    raise ConnectionError(message)
            return reply.status, bytes(body)
        finally:
            connection.close()


class StoreAnswers(Answers):
    """Answers as a store has them; it is opened by the first question, and only if it is there."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store: Store | None = None
        self._pid = os.getpid()
        self._failed = 0.0

    def _ask(self, wait_id: str) -> Answer | None:
        store = self._opened()
        found = None if store is None else store.hitl.answer_to(wait_id)
        return None if found is None else _answer(wait_id, found)

    def _find(self, wait_id: str) -> dict[str, Any] | None:
        from otel_agents.errors import NotFoundError

        store = self._opened()
        try:
            return None if store is None else store.hitl.get(wait_id)
        except NotFoundError:
            return None

    def _opened(self) -> Store | None:
        if self._pid != os.getpid():
            # A forked child must not touch its parent's connection, not even to close it.
            self._store, self._pid = None, os.getpid()
        if self._store is None:
            self._open()
        return self._store

    def _open(self) -> None:
        if self._failed and time.monotonic() - self._failed < _TRY_AGAIN_SECONDS:
            return
        from otel_agents.errors import NotFoundError
        from otel_agents.store import open_store

        self._failed = time.monotonic()
        try:
            home = workspace_of(self._settings)
            self._store = open_store(self._settings.store, home, create=False)
        except NotFoundError:
            return  # nothing has been stored yet, or never will be
        self._failed = 0.0

    def close(self) -> None:
        """Close the store."""
        store, self._store = self._store, None
        if store is not None and self._pid == os.getpid():
            store.close(0.0)


def answer_to(wait_id: str) -> Answer | None:
    """Return what a human said to a wait that is open, or None while there is no answer.

    It is for waits that nobody awaits, such as a tool call that was put off: its id is the call's.
    It asks once, which takes some seconds at the most, and never raises.
    """
    answers = runtime.get().answers
    found = None if answers is None else answers.poll(wait_id)
    return found if isinstance(found, Answer) else None


def answers_of(settings: Settings) -> Answers | None:
    """Return where answers come from by the settings, or None where there is no such place.

    Nothing is opened or asked yet.
    """
    if settings.server is not None:
        return ServerAnswers(settings.server, settings.token or settings.viewer_token)
    if settings.store is not None or workspace_of(settings) is not None:
        return StoreAnswers(settings)
    return None


def _answer(wait_id: str, found: dict[str, Any]) -> Answer:
    return Answer(
        wait_id=wait_id,
        decision=str(found["decision"]),
        text=None if found["answer"] is None else str(found["answer"]),
        by=str(found["answered_by"]),
        at=_nanoseconds(found["answered_at"]),
    )


def _nanoseconds(text: str) -> int:
    moment = datetime.fromisoformat(text).astimezone(UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
