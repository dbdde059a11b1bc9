"""The shapes of waits for humans, and of what a human says."""

# pydantic reads the annotations when the classes are made.

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from otel_agents.server.schemas import Count, Shape, Time
from otel_agents.store.waits import DECISIONS, MOST_TEXT

WaitStatus = Literal["open", "answered", "closed", "lost"]
Decision = Literal["approved", "rejected", "answered"]


class Wait(Shape):
    """A wait for a human.

    `closed` is one that went on without an answer, or whose run is over; `lost` one whose run was
    lost: it may be answered, for a process that goes on with the run. `age_seconds` is how long it
    has been waited for, or was. `id` is the one that the program gave, or else `scope_id`, which
    names this asking alone.
    """

    id: str
    scope_id: str
    run_id: str | None
    workflow: str | None
    phase: str | None
    agent: str | None
    task_id: str | None
    reason: str | None
    tool: str | None
    tool_call_id: str | None
    attempts: Count | None
    last_error: str | None
    priority: str | None
    status: WaitStatus
    asked_at: Time
    age_seconds: Annotated[float, Field(ge=0)]
    decision: Decision | None
    answer: str | None
    answered_by: str | None
    answered_at: Time | None
    closed_at: Time | None
    trace_id: str | None
    span_id: str | None


# What a human says; `answered` needs a text.
ANSWER: Final[dict[str, Any]] = {
    "type": "object",
    "title": "AnswerToWait",
    "description": "What a human says. `answered` needs a text; secrets in it are taken out.",
    "required": ["decision"],
    "additionalProperties": False,
    "properties": {
        "decision": {"type": "string", "enum": list(DECISIONS)},
        "answer": {"anyOf": [{"type": "string", "maxLength": MOST_TEXT}, {"type": "null"}]},
    },
}
