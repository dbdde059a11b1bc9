"""Who may listen to the live feed, and to what: what a WebSocket's handshake says."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from otel_agents.errors import InvalidInputError
from otel_agents.server.answers import problem, retry_after
from otel_agents.server.gate import client_of
from otel_agents.server.guard import Caller, RefusedError, bearer
from otel_agents.server.live_formats import ENVELOPE, FORMATS
from otel_agents.server.origins import same_origin
from otel_agents.store.rows import short

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.websockets import WebSocket

    from otel_agents.server.guard import Guard

PROTOCOL: Final = "otel-agents"
_TOKEN_PROTOCOL: Final = "otel-agents.token."  # noqa: S105 - a prefix, no token
_NULL: Final = "null"
_LAST: Final = (1 << 63) - 1
_DIGITS: Final = 100
_PARAMETERS: Final = ("since", "run_id", "format", "type", "seq")


class Wanted(NamedTuple):
    """What a client asks for.

    Events after a sequence number, those of a run only, and messages of some types only, where
    none stands for all; in which format; and whether messages that have no number of their own
    are to bear one.
    """

    since: int | None
    run_id: str | None
    types: frozenset[str]
    format: str
    numbered: bool


def caller_of(socket: WebSocket, guard: Guard) -> Caller | None:
    """Return who wants to listen, or None where a token may follow in the first message.

    Raises:
        RefusedError: A foreign page, or a token that is not enough.

    """
    headers, client = socket.headers, client_of(socket.scope)
    origin = headers.get("origin")
    own = origin is not None and same_origin(origin, headers.get("host", ""))
    if origin not in {None, _NULL} and not own:
        raise RefusedError(403, "A page of another site may not listen.")
    # A page opened from disk is anybody's, and so is one in a sandboxed frame.
    if origin == _NULL and guard.open:
        raise RefusedError(403, "A page from disk needs a token, and none is set.")
    token = bearer(headers.get("authorization"))
    if token is None:
        token = _offered_token(socket)
    if token is not None:
        return reader(guard.caller_of(token, client))
    if origin == _NULL or (origin is None and not guard.open):
        return None  # a cookie alone does not say that the page is ours
    caller = guard.caller(headers, client)
    return caller if caller.reads else None


def wanted_by(socket: WebSocket) -> Wanted:
    """Return what a client asks for; raise InvalidInputError for what there is not."""
    given: dict[str, str] = {}
    for name, value in socket.query_params.multi_items():
        if name not in _PARAMETERS:
            # The value is not repeated: people put tokens here.
            _refuse(name[:100], "there is no such parameter here")
        given[name] = value
    since = given.get("since")
    # Python refuses to read thousands of digits, by an error of its own.
    digits = since is None or (since.isascii() and since.isdigit() and len(since) <= _DIGITS)
    if since is not None and not (digits and int(since) <= _LAST):
        _refuse("since", "it must be the sequence number of an event")
    run_id = given.get("run_id")
    if run_id is not None and ("\x00" in run_id or not run_id):
        _refuse("run_id", "it must be the id of a run")
    format_ = given.get("format", ENVELOPE)
    if "format" in given and format_ not in FORMATS:
        _refuse("format", f"it must be {' or '.join(FORMATS)}, or be left out")
    if given.get("seq", "1") not in {"0", "1"}:
        _refuse("seq", "it must be 1 for numbered messages, or 0")
    types = frozenset(filter(None, given.get("type", "").split(",")))
    if "type" in given and not types:
        _refuse("type", "it must be types of messages, with commas between them")
    return Wanted(
        since=None if since is None else int(since),
        run_id=None if run_id is None else short(run_id),
        types=types,
        format=format_,
        numbered=given.get("seq") == "1",
    )


def _refuse(name: str, why: str) -> NoReturn:
    message = f"{name}: {why}"
    raise InvalidInputError(message, parameter=name)


def reader(caller: Caller) -> Caller:
    """Return a caller who may read; raise RefusedError for any other."""
    if caller.reads:
        return caller
    if caller.role is not None:
        raise RefusedError(403, "This needs a viewer's token or the admin's.")
    raise RefusedError(401, "The token is not valid.")


def _offered_token(socket: WebSocket) -> str | None:
    """Return the token in an offered subprotocol, which is where a browser can put one."""
    for offered in socket.scope.get("subprotocols", ()):
        if offered.startswith(_TOKEN_PROTOCOL):
            coded = offered.removeprefix(_TOKEN_PROTOCOL)
            try:
                return urlsafe_b64decode(coded + "=" * (-len(coded) % 4)).decode()
            except (Base64Error, ValueError):
                return ""
    return None


def spoken(socket: WebSocket) -> str | None:
    """Return the subprotocol to answer with: a browser hangs up unless it is one it offered."""
    offered: list[str] = socket.scope.get("subprotocols", [])
    if PROTOCOL in offered:
        return PROTOCOL
    return next((one for one in offered if one.startswith(_TOKEN_PROTOCOL)), None)


def denial(socket: WebSocket, refused: RefusedError) -> Response:
    """Return the answer to a handshake that is refused."""
    more = {} if refused.retry_after is None else retry_after(refused.retry_after)
    return problem(socket.scope, refused.status, str(refused), headers=more)
