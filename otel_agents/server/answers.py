"""Answers: the envelope, and the one place where an error becomes a status and a code."""

from __future__ import annotations

import logging
import math
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.responses import Response

from otel_agents.errors import NotFoundError, OtelAgentsError, UnavailableError
from otel_agents.signals import new_id
from otel_agents.state.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.types import Scope

log = logging.getLogger("otel_agents.server")

_RETRY_SECONDS: Final = 1.0
_CODES: Final = {
    401: "unauthorized",
    403: "unauthorized",
    404: "not_found",
    429: "unavailable",
    503: "unavailable",
}


def request_id(scope: Scope) -> str:
    """Return the id of a request, made when it is first asked for."""
    state: dict[str, Any] = scope.setdefault("state", {})
    found: str = state.setdefault("request_id", "") or new_id()
    state["request_id"] = found
    return found


def answer(scope: Scope, data: Any) -> Response:
    """Return 200 with `{"data": …, "error": null, "meta": …}`."""
    return _envelope(scope, 200, data, None)


def problem(
    scope: Scope,
    status: int,
    message: str,
    *,
    details: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return an error's envelope; its code follows from the status.

    Args:
        scope: The request's.
        status: The HTTP status, 400 or above.
        message: A sentence for people, with no secret in it.
        details: What a program may want to know, as the name of the parameter.
        headers: Headers of the answer.

    """
    code = _CODES.get(
        status, "internal" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_input"
    )
    error = {"code": code, "message": message, "details": details or {}}
    return _envelope(scope, status, None, error, headers)


def problem_of(scope: Scope, error: Exception) -> Response:
    """Return the answer to a request that failed: nothing of an unforeseen error gets out."""
    if isinstance(error, NotFoundError):
        return problem(scope, 404, _sentence(error))
    if isinstance(error, UnavailableError):
        after = getattr(error, "retry_after", _RETRY_SECONDS)
        return problem(scope, 503, _sentence(error), headers=retry_after(after))
    if isinstance(error, OtelAgentsError) and error.code == "invalid_input":
        parameter = getattr(error, "parameter", "")
        details = {"parameter": parameter} if parameter else None
        return problem(scope, 400, _sentence(error), details=details)
    log.error("request %s failed", request_id(scope), exc_info=error)
    return problem(scope, 500, "The server failed; its log names the request.")


async def body_of(request: Request, most: int) -> bytes | None:
    """Return a request's body, or None where it is longer than so many bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            return None
    return bytes(body)


def retry_after(seconds: float) -> dict[str, str]:
    """Return the header that says when to come back, in whole seconds, at least one."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def _sentence(error: Exception) -> str:
    text = str(error)
    return text if text.endswith((".", "?", "!")) else f"{text}."


def error_envelope(code: str, message: str, request: str = "") -> dict[str, Any]:
    """Return the envelope of an error."""
    return _wrapped(None, {"code": code, "message": message, "details": {}}, request or new_id())


def _wrapped(data: Any, error: Any, request: str) -> dict[str, Any]:
    meta = {"timestamp": rfc3339(time.time_ns()), "request_id": request}
    return {"data": data, "error": error, "meta": meta}


def _envelope(
    scope: Scope,
    status: int,
    data: Any,
    error: Any,
    headers: Mapping[str, str] | None = None,
) -> Response:
    body = msgspec.json.encode(_wrapped(data, error, request_id(scope)))
    return Response(body, status, headers, media_type="application/json")
