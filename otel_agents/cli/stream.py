"""Following the stream of events: a server's over its WebSocket, or the local store's.

Neither misses anything: both keep the number up to which they have read, and go on after it when
the server, or the store, was away.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from otel_agents.cli.told import Gap, Told, told
from otel_agents.errors import OtelAgentsError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_agents.cli.remote import Remote
    from otel_agents.cli.told import Wanted
    from otel_agents.store import Store

_POLL_SECONDS: Final = 0.25
_PAGE: Final = 500
# A ping is answered with the place that was reached: past all that nobody asked for.
_PING_SECONDS: Final = 15.0
_OPEN_SECONDS: Final = 10.0
_CLOSE_SECONDS: Final = 0.5
_PAUSE: Final = (0.1, 5.0)  # seconds to wait before the first and at most before any other try
_MOST_BYTES: Final = 64 << 20  # of a message
_PING: Final = '{"type": "ping"}'
_REFUSED: Final = 1008  # how the feed closes on one whose token did not come or is not valid
_UNAUTHORIZED: Final = 401
_MAY_PASS: Final = 500  # from this status on


class Say(Protocol):
    """Says a sentence beside the stream; a hint is for people at a terminal only."""

    def __call__(self, sentence: str, *, hint: bool = False) -> None:
        """Say it."""


def of_store(store: Store, wanted: Wanted, since: int | None, say: Say) -> Iterator[Told | Gap]:
    """Yield what is stored after a number, by default from now on, and then for ever.

    Args:
        store: The store.
        wanted: Which events.
        since: The number after which to begin.
        say: Told where the store cannot be read for a while.

    """
    first, last = store.feed_bounds()
    seq = last if since is None else since
    if seq > last:
        yield Gap(first, last, anew=True)
        seq = last
    say(f"Following from {seq}; Ctrl-C leaves.", hint=True)
    gone = False
    while True:
        try:
            first, last = store.feed_bounds()  # before the page: what comes after it has a number
            page = store.feed(seq, _PAGE, wanted.run_id)
        except UnavailableError as error:
            if not gone:
                say(f"{error} Waiting for it.")
            gone = True
            time.sleep(_POLL_SECONDS)
            continue
        gone = False
        if seq + 1 < first:
            yield Gap(seq + 1, first - 1)
        for envelope in page:
            seq = envelope["seq"]
            found = told(envelope, wanted)
            if found is not None:
                yield found
        if len(page) < _PAGE:
            # Past what nobody asked for. Fewer than before: somebody deleted the latest run.
            seq = last if last < seq else max(seq, last)
            time.sleep(_POLL_SECONDS)


def of_server(server: Remote, wanted: Wanted, since: int | None, say: Say) -> Iterator[Told | Gap]:
    """Yield what a server's feed has after a number, by default from now on, and then for ever.

    A server that goes away is waited for, and asked for what it stored since.

    Raises:
        UnavailableError: It is not there at first, or is no server of ours.
        UnauthorizedError: It wants a token, or another one.

    """
    place = _Place(since)
    pause, again = _PAUSE[0], False
    while True:
        try:
            for message in _connected(server, wanted, place, say):
                pause, again = _PAUSE[0], True
                if message is not None:
                    yield message
        except _GoneError as gone:
            if not again:
                raise gone.error from gone
            if pause == _PAUSE[0]:
                say(f"{gone.error} Waiting for it.")
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - not all clients at once
        pause = min(pause * 2, _PAUSE[1])


class _Place:
    """The number up to which everything was received; None before the server has told one."""

    def __init__(self, seq: int | None) -> None:
        self.seq = seq


class _GoneError(Exception):
    """The server is away, which may pass."""

    def __init__(self, error: OtelAgentsError) -> None:
        super().__init__(str(error))
        self.error = error


def _connected(
    server: Remote, wanted: Wanted, place: _Place, say: Say
) -> Iterator[Told | Gap | None]:
    """Yield the messages of one connection, None for one that is for us alone."""
    try:
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "websockets":
            raise
        message = (
            "Following a server needs the package websockets: pip install 'otel-agents[server]'."
        )
        raise UnavailableError(message) from error
    query = {"type": ",".join(sorted(wanted.signals))}
    if place.seq is not None:
        query["since"] = str(place.seq)
    if wanted.run_id is not None:
        query["run_id"] = wanted.run_id
    address, headers = server.socket_at("/ws", query)
    try:
        with connect(
            address,
            additional_headers=headers,
            proxy=None,  # as for the API
            compression=None,
            open_timeout=_OPEN_SECONDS,
            close_timeout=_CLOSE_SECONDS,
            max_size=_MOST_BYTES,
        ) as socket:
            begun = place.seq is not None
            socket.send(_PING)
            while True:
                try:
                    text = socket.recv(_PING_SECONDS)
                except TimeoutError:
                    socket.send(_PING)
                    continue
                yield _read(server, text, wanted, place)
                if not begun:
                    say(f"Following from {place.seq}; Ctrl-C leaves.", hint=True)
                    begun = True
    except (OSError, WebSocketException) as error:
        raise _problem(server, error) from error


def _problem(server: Remote, error: Exception) -> Exception:
    """Return what a connection that broke, or was not let in, is to be told as."""
    from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

    if isinstance(error, ConnectionClosed):
        if error.rcvd is not None and error.rcvd.code == _REFUSED:
            return server.refusal(_UNAUTHORIZED, b"")
        return _GoneError(server.unanswered(EOFError("it hung up")))
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        refused = server.refusal(status, bytes(error.response.body or b""))
        return _GoneError(refused) if status >= _MAY_PASS else refused
    if isinstance(error, InvalidHandshake):
        return _GoneError(server.foreign(f"it takes no WebSocket: {error}"))
    return _GoneError(server.unanswered(error))


def _read(server: Remote, text: str | bytes, wanted: Wanted, place: _Place) -> Told | Gap | None:
    """Return what a message tells, and move the place."""
    try:
        message = msgspec.json.decode(text, type=dict[str, Any])
        match message.get("type"):
            case "pong":
                place.seq = int(message["seq"])
                return None
            case "gap":
                first, last = int(message["from"]), int(message["to"])
                gap = Gap(first, last, anew=place.seq is not None and last < place.seq)
                place.seq = gap.last
                return gap
            case _:
                found = told(message, wanted)
                place.seq = int(message["seq"])
                return found
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, RecursionError) as error:
        what = f"a message of its feed cannot be read: {error}"
        raise server.foreign(what) from error
