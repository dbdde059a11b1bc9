"""The application of the console's port: API, live feed, health, sign-in and pages."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from otel_agents.errors import OtelAgentsError
from otel_agents.server import admin, alerts, api, hitl, pages, signing
from otel_agents.server.answers import problem, problem_of
from otel_agents.server.gate import Gate, is_page
from otel_agents.server.health import health
from otel_agents.server.kpis import Readings
from otel_agents.server.live import Feed
from otel_agents.server.metrics_page import MetricsPage
from otel_agents.server.openapi import document

if TYPE_CHECKING:
    from otel_agents.server.guard import Guard
    from otel_agents.store import Store

_SAYS: Final = {
    404: "There is nothing at this address.",
    405: "This address does not take that method.",
}


def console_app(
    store: Store, guard: Guard, *, jaeger_url: str | None = None, feed: Feed | None = None
) -> Gate:
    """Return the application, with the gate around it.

    Args:
        store: What it shows.
        guard: Who may see it.
        jaeger_url: Where the pages link traces to, as `http://localhost:16686`.
        feed: The live feed, where the caller wants to know of its listeners.

    """
    app = bare_app(store, guard, jaeger_url=jaeger_url, feed=feed)
    app.state.metrics.begin()
    return Gate(app, guard)


def bare_app(
    store: Store, guard: Guard, *, jaeger_url: str | None = None, feed: Feed | None = None
) -> FastAPI:
    """Return the application without the gate: its routes are what the gate guards."""
    app = FastAPI(
        title="otel-agents", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    readings = Readings(store)
    pace = hitl.Pace()
    for router in (
        api.runs(store),
        api.agents(store),
        api.telemetry(store),
        api.kpis(readings),
        alerts.alerts(store),
        hitl.hitl(store, pace),
        *(admin.runtime(store, prefix) for prefix in admin.PREFIXES),
        health(store),
    ):
        # Not `include_router`: the table of routes is flat, so that it can be read through.
        app.router.routes.extend(router.routes)
    app.router.routes.extend(signing.routes(guard))
    app.router.routes.append((feed or Feed(store, guard)).route())
    app.state.metrics = MetricsPage(store, readings)
    app.router.routes.append(app.state.metrics.route())
    app.router.routes.extend(pages.routes(store, guard, pace, jaeger_url=jaeger_url))
    _describe(app, guard)
    _answer_errors(app)
    return app


def _describe(app: FastAPI, guard: Guard) -> None:
    @cache
    def body() -> bytes:
        return msgspec.json.encode(document(app, guarded=not guard.open))

    def show(_request: Request) -> Response:
        return Response(body(), media_type="application/json")

    app.add_route("/openapi.json", show, methods=["GET"], include_in_schema=False)


def _answer_errors(app: FastAPI) -> None:
    def failed(request: Request, error: Exception) -> Response:
        return problem_of(request.scope, error)

    def invalid(request: Request, error: Exception) -> Response:
        first: dict[str, Any] = (
            error.errors()[0] if isinstance(error, RequestValidationError) else {}
        )
        place = [str(part) for part in first.get("loc", ())]
        name = place[1] if len(place) > 1 else "request"
        if first.get("type") == "extra_forbidden":
            said = "there is no such parameter here"
        else:
            said = str(first.get("msg", "it cannot be used"))
        message = f"{name[:100]}: {said[:1].lower()}{said[1:]}."
        return problem(request.scope, 400, message, details={"parameter": name[:100]})

    def refused(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = error.headers if isinstance(error, HTTPException) else None
        said = _SAYS.get(status, "The request cannot be answered.")
        if is_page(request.scope, request.headers):
            return pages.error_page(request, status, "" if status == HTTPStatus.NOT_FOUND else said)
        return problem(request.scope, status, said, headers=headers)

    app.add_exception_handler(OtelAgentsError, failed)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(Exception, failed)
