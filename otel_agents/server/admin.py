"""The admin API: workers, breakers, queues and runtime events, under two addresses."""

# FastAPI reads the annotations when the routes are made.

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request, Response

from otel_agents.server import schemas_runtime
from otel_agents.server.answers import answer
from otel_agents.server.api import ONCE, NoQuery, asked
from otel_agents.server.filters import RuntimeEventsFilter, TasksFilter
from otel_agents.server.schemas import Answered, Listed

if TYPE_CHECKING:
    from otel_agents.store import Store

PREFIXES = ("/api/admin/runtime", "/api/admin/ai/runtime")


def runtime(store: "Store", prefix: str) -> APIRouter:
    """Return the endpoints of the runtime under one of its addresses."""
    router = APIRouter(prefix=prefix, tags=["admin"], dependencies=ONCE)

    @router.get("/status", response_model=Answered[schemas_runtime.RuntimeStatus])
    def show_status(request: Request, _: NoQuery) -> Response:
        """Return the state of workers, breakers, queues and model routes."""
        return answer(request.scope, store.runtime_status())

    @router.get("/events", response_model=Answered[Listed[schemas_runtime.RuntimeEvent]])
    def list_runtime_events(
        request: Request, chosen: Annotated[RuntimeEventsFilter, Query()]
    ) -> Response:
        """List runtime events, the newest first."""
        return answer(request.scope, store.runtime_events(**asked(chosen)))

    @router.get("/tasks", response_model=Answered[Listed[schemas_runtime.Task]])
    def list_tasks(request: Request, chosen: Annotated[TasksFilter, Query()]) -> Response:
        """List tasks; one whose lease has run out is stuck."""
        return answer(request.scope, store.tasks(**asked(chosen)))

    @router.get("/verify", response_model=Answered[schemas_runtime.Verdict])
    def verify(request: Request, _: NoQuery) -> Response:
        """Say whether the runtime is healthy, and what is not."""
        return answer(request.scope, store.verify())

    return router
