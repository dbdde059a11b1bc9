"""The OpenAPI document: what FastAPI derives, made true of what this server does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi

from otel_agents.version import __version__

if TYPE_CHECKING:
    from fastapi import FastAPI

_ERROR = {"$ref": "#/components/schemas/Failed"}
_REFUSALS = {
    "400": "A parameter cannot be used; the message names it.",
    "401": "There is no valid token.",
    "403": "The token does not allow it.",
    "404": "There is no such thing.",
    "409": "It was done already.",
    "413": "The body is too long.",
    "421": "The host is not this server.",
    "429": "Too many wrong tokens, or answers, came from this address.",
    "500": "The server failed.",
    "503": "The store is not available; Retry-After says when to come back.",
}
_DESCRIPTION = (
    "Runs, agents, traces, usage and the runtime of multi-agent systems. Every answer is "
    '`{"data", "error", "meta"}`; lists are pages of `{"items", "next_cursor"}`. '
    "The live feed is a WebSocket at `/ws?since=SEQ&run_id=ID&type=A,B`; with `format=events` or "
    "`format=progress` (and `seq=1`, to have messages numbered) it sends other shapes."
)


def document(app: FastAPI, *, guarded: bool) -> dict[str, Any]:
    """Return the OpenAPI document of the API.

    Args:
        app: The application.
        guarded: Whether a token is needed.

    """
    made = get_openapi(
        title="otel-agents", version=__version__, description=_DESCRIPTION, routes=app.routes
    )
    schemas = made["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path, methods in made["paths"].items():
        for operation in methods.values():
            _amend(operation, "{" in path, guarded and path.startswith("/api/"))
    if guarded:
        made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return made


def _amend(operation: dict[str, Any], by_id: bool, guarded: bool) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    for status, meaning in _REFUSALS.items():
        if status == "409" and not (by_id and "requestBody" in operation):
            continue
        if (status != "404" or by_id) and (status != "413" or "requestBody" in operation):
            content = {"application/json": {"schema": _ERROR}}
            responses[status] = {"description": meaning, "content": content}
    if guarded:
        operation["security"] = [{"token": []}]
    for parameter in operation.get("parameters", ()):
        _drop_null(parameter["schema"])


def _drop_null(schema: dict[str, Any]) -> None:
    """Say that a parameter left out is left out: a query cannot hold a null."""
    kept = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    if len(kept) == 1:
        del schema["anyOf"]
        schema.update(kept[0])
    elif kept:
        schema["anyOf"] = kept
