"""The query parameters of each list, as the store takes them.

Fields are named as the store's arguments, aliases as the API's parameters. A parameter that is
not there is an error: a misspelt filter would otherwise show everything.
"""

# FastAPI and pydantic read the annotations when the classes are made.

import re
from typing import Annotated, Any, Final, Literal

from fastapi import Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.functional_validators import BeforeValidator
from pydantic.json_schema import WithJsonSchema

from otel_agents.errors import InvalidInputError
from otel_agents.server.schemas import AgentStatus, RunStatus, TaskStatus
from otel_agents.server.schemas_alerts import AlertStatus
from otel_agents.server.schemas_hitl import WaitStatus

_LONGEST: Final = 1000
_LAST: Final = (1 << 63) - 1
_SPACED_ZONE: Final = re.compile(r" (\d\d:\d\d)$")


def _with_plus(value: Any) -> Any:
    """Return a time whose plus sign, sent without being encoded, arrived as a space."""
    return _SPACED_ZONE.sub(r"+\1", value) if isinstance(value, str) else value


def _no_nul(text: str) -> str:
    if "\x00" in text:
        message = "it holds a NUL character"
        raise ValueError(message)
    return text


Text = Annotated[
    str,
    StringConstraints(max_length=_LONGEST, pattern=r"^[^\x00]*$"),
    AfterValidator(_no_nul),
]
# The store reads the time, and says what is wrong with it.
Moment = Annotated[
    Text,
    StringConstraints(min_length=1),
    BeforeValidator(_with_plus),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date-time"},
                {"type": "string", "format": "date"},
                {"type": "number"},
            ]
        }
    ),
]

Since = Annotated[
    Moment | None,
    Field(alias="from", title="From", description="Not before: RFC 3339 or epoch seconds."),
]
Until = Annotated[
    Moment | None,
    Field(alias="to", title="To", description="Before: RFC 3339 or epoch seconds."),
]
Limit = Annotated[
    int, Field(ge=1, le=500, title="Limit", description="How many items there are on a page.")
]


def given_once(request: Request) -> None:
    """Refuse a parameter that is given twice: which of the two is meant is not to be guessed."""
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name in seen:
            message = f"{name[:100]}: it is given more than once"
            raise InvalidInputError(message, parameter=name[:100])
        seen.add(name)


class Filter(BaseModel):
    """Query parameters; another one than these is refused."""

    model_config = ConfigDict(extra="forbid", populate_by_name=False)


class NoFilter(Filter):
    """No query parameters."""


class Page(Filter):
    """Which page of a list."""

    cursor: Annotated[
        Text | None,
        Field(title="Cursor", description="The `next_cursor` of the page before."),
    ] = None
    limit: Limit = 50


class RunsFilter(Page):
    """Which runs."""

    status: Annotated[RunStatus | None, Field(title="Status", description="The status.")] = None
    workflow: Annotated[Text | None, Field(title="Workflow", description="The workflow.")] = None
    q: Annotated[
        Text | None,
        Field(title="Search", description="Text in the ids, the workflow or the goal."),
    ] = None
    since: Since = None
    until: Until = None


class SequenceFilter(Filter):
    """Which events: those after a sequence number."""

    after: Annotated[
        int,
        Field(ge=0, le=_LAST, title="After", description="The sequence number to go on from."),
    ] = 0
    limit: Limit = 50


class FeedFilter(SequenceFilter):
    """Which events of the feed."""

    run_id: Annotated[Text | None, Field(title="Run", description="The id of a run.")] = None


class AgentsFilter(Page):
    """Which attempts of agents."""

    status: Annotated[AgentStatus | None, Field(title="Status", description="The status.")] = None
    name: Annotated[Text | None, Field(title="Name", description="The agent's name.")] = None
    run_id: Annotated[Text | None, Field(title="Run", description="The id of a run.")] = None
    q: Annotated[Text | None, Field(title="Search", description="Text in the id or name.")] = None


class TracesFilter(Page):
    """Which traces."""

    q: Annotated[Text | None, Field(title="Search", description="Text in the root's name.")] = None
    service: Annotated[Text | None, Field(title="Service", description="The service.")] = None
    status: Annotated[
        Literal["ok", "error"] | None,
        Field(title="Status", description="`error` where a span failed, else `ok`."),
    ] = None
    since: Since = None
    until: Until = None


class LinesFilter(Page):
    """Which log records of a run or an agent."""

    q: Annotated[Text | None, Field(title="Search", description="Text in the body.")] = None
    severity: Annotated[
        int | None,
        Field(ge=0, le=24, title="Severity", description="The least severity number of OTLP."),
    ] = None


class LogsFilter(LinesFilter):
    """Which log records."""

    run_id: Annotated[Text | None, Field(title="Run", description="The id of a run.")] = None
    agent_id: Annotated[Text | None, Field(title="Agent", description="An attempt's id.")] = None
    trace_id: Annotated[Text | None, Field(title="Trace", description="A trace's id.")] = None


class UsageFilter(Filter):
    """How usage is split, and of which time or run."""

    by: Annotated[
        Literal["workflow", "phase", "agent", "model", "day"],
        Field(title="By", description="What the rows are."),
    ] = "workflow"
    since: Since = None
    until: Until = None
    run_id: Annotated[Text | None, Field(title="Run", description="The id of a run.")] = None


class KpisFilter(Filter):
    """Of which time or run."""

    window: Annotated[
        Literal["1h", "24h"],
        Field(title="Window", description="The last hour or day; without meaning for a run."),
    ] = "24h"
    run_id: Annotated[Text | None, Field(title="Run", description="The id of a run.")] = None


class MetricsFilter(Page):
    """Which metric points."""

    name: Annotated[Text | None, Field(title="Name", description="The metric's name.")] = None


class RuntimeEventsFilter(Page):
    """Which runtime events."""

    layer: Annotated[
        Literal[
            "provider_runtime", "tool_runtime", "model_adapter", "execution", "dispatcher", "worker"
        ]
        | None,
        Field(title="Layer", description="The layer."),
    ] = None
    operation: Annotated[
        Literal[
            "CALL", "FALLBACK", "RETRY", "TOOL_CALL", "TOOL_LOOP", "TASK", "HEARTBEAT", "BREAKER"
        ]
        | None,
        Field(title="Operation", description="The operation."),
    ] = None
    reason_code: Annotated[
        Text | None,
        Field(alias="reasonCode", title="Reason code", description="The reason code."),
    ] = None
    entity_id: Annotated[
        Text | None, Field(alias="entityId", title="Entity", description="The entity's id.")
    ] = None
    task_id: Annotated[
        Text | None, Field(alias="taskId", title="Task", description="The task's id.")
    ] = None
    since: Since = None
    until: Until = None


class TasksFilter(Page):
    """Which tasks."""

    status: Annotated[TaskStatus | None, Field(title="Status", description="The state.")] = None
    stuck: Annotated[
        bool | None, Field(title="Stuck", description="Whether the lease has run out.")
    ] = None
    queue: Annotated[Text | None, Field(title="Queue", description="The queue.")] = None
    q: Annotated[Text | None, Field(title="Search", description="Text in the id or name.")] = None


class WaitsFilter(Page):
    """Which waits for humans."""

    status: Annotated[
        WaitStatus | Literal["all"],
        Field(title="Status", description="The status, or `all`."),
    ] = "open"
    run_id: Annotated[Text | None, Field(title="Run", description="The id of a run.")] = None


class AlertsFilter(Page):
    """Which alerts."""

    status: Annotated[
        AlertStatus | None,
        Field(title="Status", description="The status; `stale` was not confirmed for long."),
    ] = None
