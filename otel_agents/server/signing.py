"""Signing in to the console with a token, and out again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from starlette.responses import RedirectResponse
from starlette.routing import Route

from otel_agents.server.answers import body_of, problem, retry_after
from otel_agents.server.gate import client_of
from otel_agents.server.guard import RefusedError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from otel_agents.server.guard import Guard

_MOST_BYTES: Final = 8192
_HOME: Final = "/runs"


def routes(guard: Guard) -> list[Route]:
    """Return `POST /login` and `POST /logout`."""

    async def sign_in(request: Request) -> Response:
        body = await body_of(request, _MOST_BYTES)
        if body is None:
            return problem(request.scope, 413, "The form is too long.")
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=10)
        token = fields.get("token", [""])[0].strip()
        wanted = fields.get("next", [_HOME])[0]
        try:
            cookie = guard.sign_in(token, client_of(request.scope))
        except RefusedError as refused:
            return _refused(request, refused)
        if cookie is None:
            return _refused(request, RefusedError(401, "The token is not valid here."))
        answer = RedirectResponse(wanted if _is_local(wanted) else _HOME, 303)
        answer.headers["set-cookie"] = cookie
        return answer

    async def sign_out(request: Request) -> Response:
        answer = RedirectResponse("/login", 303)
        answer.headers["set-cookie"] = guard.sign_out(request.headers)
        return answer

    return [
        Route("/login", sign_in, methods=["POST"]),
        Route("/logout", sign_out, methods=["POST"]),
    ]


def _is_local(path: str) -> bool:
    """Say whether a path leads to this server, and does not name another host."""
    return path.startswith("/") and path[1:2] not in {"/", "\\"} and path.isprintable()


def _refused(request: Request, refused: RefusedError) -> Response:
    if "text/html" in request.headers.get("accept", ""):
        from otel_agents.server.pages import login_page

        return login_page(request, problem=str(refused), status=refused.status)
    headers = {} if refused.retry_after is None else retry_after(refused.retry_after)
    return problem(request.scope, refused.status, str(refused), headers=headers)
