"""Health: whether the process lives, and whether what is sent to it is stored in time."""

# FastAPI reads the annotations when the routes are made.

from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Request, Response

from otel_agents.server import schemas
from otel_agents.server.answers import answer, problem, retry_after
from otel_agents.server.schemas import Answered
from otel_agents.version import __version__

if TYPE_CHECKING:
    from otel_agents.server.guard import Caller, Guard
    from otel_agents.store import Store

# Longer than this behind, and the newest a page shows is no longer news.
BEHIND_SECONDS: Final = 5.0


def health(store: "Store") -> APIRouter:
    """Return the endpoints that probes ask; they need no token."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz", response_model=Answered[schemas.Alive])
    async def alive(request: Request) -> Response:
        """Say that the process answers."""
        guard: Guard = request.state.guard
        said = {"service": "otel-agents", "status": "alive", "version": __version__}
        return answer(request.scope, {**said, "otlp_http": guard.otlp_http})

    @router.get("/readyz", response_model=Answered[schemas.Ready])
    def ready(request: Request) -> Response:
        """Say whether the store can be written and is not behind.

        What is wrong is told to those who may read, and to others only that something is.
        """
        state = store.health()
        behind = state["behind_seconds"]
        wrong = state["problem"]
        if wrong is None and not state["writable"]:
            wrong = "The store cannot be written."
        if wrong is None and behind >= BEHIND_SECONDS:
            wrong = f"The store is {behind:.0f} s behind."
        if wrong is None:
            said = {"status": "ready", "waiting": state["waiting"], "behind_seconds": behind}
            return answer(request.scope, said)
        caller: Caller = request.state.caller
        message = wrong if caller.reads else "The store is not ready."
        details = state if caller.reads else None
        return problem(request.scope, 503, message, details=details, headers=retry_after(1))

    return router
