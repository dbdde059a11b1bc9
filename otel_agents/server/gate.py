"""The gate before every request: its size, the guard, ids as they were given, and safe headers.

It stands around the whole application, so that answers of every kind pass it: pages, files,
errors, and refusals of a WebSocket.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse

from otel_agents.server.answers import problem, request_id, retry_after
from otel_agents.server.guard import RefusedError

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from otel_agents.server.guard import Guard

LONGEST_URL: Final = 16 * 1024
MOST_HEADERS: Final = 100
MOST_HEADER_BYTES: Final = 32 * 1024
_API: Final = "/api/"
_CLOSE: Final = {"Connection": "close"}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class GivenIdConvertor(Convertor[str]):
    """The part of an API path that is an id, decoded once and taken as it is, slashes and all."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        """Undo what the gate does to a segment."""
        return value.replace("%2F", "/").replace("%25", "%")

    def to_string(self, value: str) -> str:
        """Return the segment of an id."""
        return quote(value, safe="")


register_url_convertor("id", GivenIdConvertor())


class Gate:
    """The ASGI application around another one."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        ended = False

        async def send_safely(message: Message) -> None:
            nonlocal ended
            if message["type"] in {"http.response.start", "websocket.http.response.start"}:
                self._harden(scope, message)
            ended = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        scope.setdefault("state", {})["guard"] = self._guard
        _keep_ids(scope)
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send_safely)
            return
        try:
            await self._app(scope, receive, send_safely)
        except Exception:
            # Starlette raises again what it has answered, and we have logged, as an error.
            if not ended:
                raise

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that is not let in, or None; note who sends it."""
        raw: bytes = scope.get("raw_path") or b""
        if len(raw) + len(scope["query_string"]) > LONGEST_URL:
            return problem(scope, 414, "The address is too long.", headers=_CLOSE)
        fields = scope["headers"]
        size = sum(len(name) + len(value) for name, value in fields)
        if len(fields) > MOST_HEADERS or size > MOST_HEADER_BYTES:
            return problem(scope, 431, "The headers are too long, or too many.", headers=_CLOSE)
        headers = Headers(scope=scope)
        try:
            if scope["type"] == "websocket":
                # Who may listen can turn out after the handshake, which the feed sees to.
                self._guard.check_host(headers)
                return None
            caller = self._guard.admit(scope["method"], scope["path"], headers, client_of(scope))
        except RefusedError as refused:
            return self._refuse(scope, headers, refused)
        scope["state"].update(caller=caller, role=caller.role)
        return None

    def _refuse(self, scope: Scope, headers: Headers, refused: RefusedError) -> Response:
        if refused.status == HTTPStatus.UNAUTHORIZED and is_page(scope, headers):
            query = scope["query_string"].decode("latin-1")
            path = quote(scope["path"]) + (f"?{query}" if query else "")
            return RedirectResponse(f"/login?next={quote(path, safe='')}", 303)
        if is_page(scope, headers):
            from otel_agents.server.pages import error_page

            return error_page(Request(scope), refused.status, str(refused))
        more = {} if refused.retry_after is None else retry_after(refused.retry_after)
        if refused.status == HTTPStatus.UNAUTHORIZED:
            more["WWW-Authenticate"] = 'Bearer realm="otel-agents"'
        return problem(scope, refused.status, str(refused), headers=more)

    def _harden(self, scope: Scope, message: Message) -> None:
        headers = MutableHeaders(raw=message.setdefault("headers", []))
        for name, value in HEADERS.items():
            headers[name] = value
        headers.setdefault("cache-control", "no-store")
        # Pages say `same-origin`: without a referrer a browser sends a form with `Origin: null`.
        headers.setdefault("referrer-policy", "no-referrer")
        headers["x-request-id"] = request_id(scope)


def client_of(scope: Scope) -> str:
    """Return the address a request comes from, as the connection says, not its headers."""
    client = scope.get("client")
    return client[0] if client else ""


def is_page(scope: Scope, headers: Headers) -> bool:
    """Say whether a person is to be shown a page instead of an envelope."""
    wants = "text/html" in headers.get("accept", "")
    return scope.get("method") == "GET" and wants and not scope["path"].startswith(_API)


def _keep_ids(scope: Scope) -> None:
    """Let an encoded slash or percent sign in an API path be part of an id.

    Servers hand on the path decoded, where `a%2Fb` and `a/b` are the same. The path is decoded
    again, a segment at a time, with these two left encoded; `GivenIdConvertor` undoes that.
    """
    raw: bytes = scope.get("raw_path") or b""
    if not raw.startswith(_API.encode()) or b"%" not in raw:
        return
    segments = (unquote(segment) for segment in raw.decode("latin-1").split("/"))
    scope["path"] = "/".join(one.replace("%", "%25").replace("/", "%2F") for one in segments)
