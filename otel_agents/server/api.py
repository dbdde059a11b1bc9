"""The JSON API: runs, agents, traces, logs, usage, metrics and the feed as a list.

Handlers are plain functions, which FastAPI runs in threads: the store blocks. What they return is
sent as it is; `response_model` is there for the OpenAPI document.
"""

# FastAPI reads the annotations when the routes are made.

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.responses import StreamingResponse

from otel_agents.server import schemas, schemas_telemetry
from otel_agents.server.answers import answer
from otel_agents.server.filters import (
    AgentsFilter,
    FeedFilter,
    KpisFilter,
    LinesFilter,
    LogsFilter,
    MetricsFilter,
    NoFilter,
    Page,
    RunsFilter,
    SequenceFilter,
    TracesFilter,
    UsageFilter,
    given_once,
)
from otel_agents.server.kpis import Readings
from otel_agents.server.schemas import Answered, Listed

if TYPE_CHECKING:
    from otel_agents.store import Store

_ID: Final = r"^[^\x00]+$"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME: Final = 80

RunId = Annotated[str, Path(title="Run", description="The id of a run.", pattern=_ID)]
AgentId = Annotated[str, Path(title="Agent", description="The id of an attempt.", pattern=_ID)]
TraceId = Annotated[
    str, Path(title="Trace", description="The id of a trace.", pattern="^[0-9a-fA-F]{32}$")
]
ONCE: Final = [Depends(given_once)]
NoQuery = Annotated[NoFilter, Query()]


def asked(chosen: Any) -> dict[str, Any]:
    """Return the filters that were given, by the names of the store's arguments."""
    return {name: value for name, value in chosen if value is not None}


def runs(store: "Store") -> APIRouter:
    """Return the endpoints of runs."""
    router = APIRouter(prefix="/api/runs", tags=["runs"], dependencies=ONCE)

    @router.get("", response_model=Answered[Listed[schemas.RunRow]])
    def list_runs(request: Request, chosen: Annotated[RunsFilter, Query()]) -> Response:
        """List runs, the one that started last first."""
        return answer(request.scope, store.runs(**asked(chosen)))

    @router.get("/latest/report", response_model=Answered[schemas.Report])
    def report_latest(request: Request, _: NoQuery) -> Response:
        """Return the reading of the run that started last, as `otel-agents status` renders it."""
        return answer(request.scope, store.report())

    @router.get("/{run_id:id}", response_model=Answered[schemas.Run])
    def show_run(request: Request, run_id: RunId, _: NoQuery) -> Response:
        """Return a run with its phases, agents, waterfall, checks and costs."""
        return answer(request.scope, store.run(run_id))

    @router.get("/{run_id:id}/report", response_model=Answered[schemas.Report])
    def report_run(request: Request, run_id: RunId, _: NoQuery) -> Response:
        """Return the reading of a run, as `otel-agents status` renders it."""
        return answer(request.scope, store.report(run_id))

    @router.get("/{run_id:id}/spans", response_model=Answered[Listed[schemas_telemetry.Span]])
    def list_run_spans(
        request: Request, run_id: RunId, chosen: Annotated[Page, Query()]
    ) -> Response:
        """List the spans of a run."""
        return answer(request.scope, store.run_spans(run_id, **asked(chosen)))

    @router.get("/{run_id:id}/events", response_model=Answered[Listed[schemas_telemetry.Event]])
    def list_run_events(
        request: Request, run_id: RunId, chosen: Annotated[SequenceFilter, Query()]
    ) -> Response:
        """List the events of a run in the order they came."""
        return answer(request.scope, store.run_signals(run_id, **asked(chosen)))

    @router.get("/{run_id:id}/logs", response_model=Answered[Listed[schemas_telemetry.Log]])
    def list_run_logs(
        request: Request, run_id: RunId, chosen: Annotated[LinesFilter, Query()]
    ) -> Response:
        """List the log records of a run, the newest first."""
        return answer(request.scope, store.logs(run_id=run_id, **asked(chosen)))

    @router.get(
        "/{run_id:id}/export",
        response_class=StreamingResponse,
        responses={
            200: {
                "description": "JSON lines.",
                "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
            }
        },
    )
    def export_run(run_id: RunId, _: NoQuery) -> Response:
        """Return all that is known of a run, as JSON lines."""
        lines = _Lines(store.export_run(run_id))
        name = _UNSAFE.sub("_", run_id).strip("._")[:_LONGEST_NAME] or "run"
        headers = {"Content-Disposition": f'attachment; filename="{name}.jsonl"'}
        return StreamingResponse(lines, headers=headers, media_type="application/x-ndjson")

    @router.delete("/{run_id:id}", response_model=Answered[schemas.Deleted])
    def delete_run(request: Request, run_id: RunId, _: NoQuery) -> Response:
        """Delete a run with its signals, spans and log records. Admins only."""
        return answer(request.scope, store.delete_run(run_id))

    return router


class _Lines:
    """The lines of an export, all read by one thread: its connection holds the place.

    The first is read at once, so that a run that is not there is an error and no empty file.
    """

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._thread = ThreadPoolExecutor(1, "otel-agents-export")
        try:
            self._first = self._thread.submit(self._next).result()
        except BaseException:
            self._thread.shutdown(wait=False)
            raise

    def _next(self) -> bytes | None:
        return next(self._lines, None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        try:
            line = self._first
            while line is not None:
                yield line
                line = await loop.run_in_executor(self._thread, self._next)
        finally:
            # A reader that went away leaves the rest unread.
            self._thread.shutdown(wait=False)


def agents(store: "Store") -> APIRouter:
    """Return the endpoints of agents."""
    router = APIRouter(prefix="/api/agents", tags=["agents"], dependencies=ONCE)

    @router.get("", response_model=Answered[Listed[schemas.Agent]])
    def list_agents(request: Request, chosen: Annotated[AgentsFilter, Query()]) -> Response:
        """List attempts of agents, the one that started last first."""
        return answer(request.scope, store.agents(**asked(chosen)))

    @router.get("/{agent_id:id}", response_model=Answered[schemas.Agent])
    def show_agent(request: Request, agent_id: AgentId, _: NoQuery) -> Response:
        """Return one attempt of an agent."""
        return answer(request.scope, store.agent(agent_id))

    @router.get("/{agent_id:id}/telemetry", response_model=Answered[schemas.Telemetry])
    def show_telemetry(request: Request, agent_id: AgentId, _: NoQuery) -> Response:
        """Return the tokens, cost and cache of one attempt, by model."""
        return answer(request.scope, store.telemetry(agent_id))

    @router.get("/{agent_id:id}/logs", response_model=Answered[Listed[schemas_telemetry.Log]])
    def list_agent_logs(
        request: Request, agent_id: AgentId, chosen: Annotated[LinesFilter, Query()]
    ) -> Response:
        """List the log records of one attempt, the newest first."""
        return answer(request.scope, store.logs(agent_id=agent_id, **asked(chosen)))

    return router


def telemetry(store: "Store") -> APIRouter:
    """Return the endpoints of traces, logs, usage, metrics and events."""
    router = APIRouter(prefix="/api", tags=["telemetry"], dependencies=ONCE)

    @router.get("/traces", response_model=Answered[Listed[schemas_telemetry.TraceRow]])
    def list_traces(request: Request, chosen: Annotated[TracesFilter, Query()]) -> Response:
        """List traces, the one that started last first."""
        return answer(request.scope, store.traces(**asked(chosen)))

    @router.get("/traces/{trace_id:id}", response_model=Answered[schemas_telemetry.Trace])
    def show_trace(request: Request, trace_id: TraceId, _: NoQuery) -> Response:
        """Return a trace with its spans in the order of the tree."""
        return answer(request.scope, store.trace(trace_id))

    @router.get("/logs", response_model=Answered[Listed[schemas_telemetry.Log]])
    def list_logs(request: Request, chosen: Annotated[LogsFilter, Query()]) -> Response:
        """List log records, the newest first."""
        return answer(request.scope, store.logs(**asked(chosen)))

    @router.get("/usage", response_model=Answered[schemas_telemetry.UsageRows])
    def show_usage(request: Request, chosen: Annotated[UsageFilter, Query()]) -> Response:
        """Return usage and cost, by workflow, phase, agent, model or day."""
        return answer(request.scope, store.usage(**asked(chosen)))

    @router.get("/metrics", response_model=Answered[Listed[schemas_telemetry.Metric]])
    def list_metrics(request: Request, chosen: Annotated[MetricsFilter, Query()]) -> Response:
        """List the latest point of each series of a metric."""
        return answer(request.scope, store.metrics(**asked(chosen)))

    @router.get("/events", response_model=Answered[Listed[schemas_telemetry.Event]])
    def list_events(request: Request, chosen: Annotated[FeedFilter, Query()]) -> Response:
        """List the events of the live feed in the order they came.

        `next_cursor` is the value of `after` that the next page begins at, and null at the end.
        """
        items = store.feed(**asked(chosen))
        more = len(items) == chosen.limit
        following = str(items[-1]["seq"]) if more else None
        return answer(request.scope, {"items": items, "next_cursor": following})

    return router


def kpis(readings: Readings) -> APIRouter:
    """Return the endpoint of the KPIs."""
    router = APIRouter(prefix="/api/kpis", tags=["telemetry"], dependencies=ONCE)

    @router.get("", response_model=Answered[schemas.Kpis])
    def show_kpis(request: Request, chosen: Annotated[KpisFilter, Query()]) -> Response:
        """Return the six KPIs of the last hour, the last day (by default) or one run.

        Counted are the events that are stored, by their own times. `trend` has a value of each
        KPI for each of the 24 hours that end now, or of the 12 five minutes of the last hour.
        """
        if chosen.run_id is not None:
            return answer(request.scope, readings.run(chosen.run_id))
        return answer(request.scope, readings.window(chosen.window))

    return router
