"""Agents that a program announces by an event, so that their own instrumentation counts them once.

`emit_event("agent_started", …)` before an agent's call says the same as the call's own scope. The
announcement stays in the context it was made in, and a scope of that agent that opens there takes
its place under it: one agent, told of by the program's events, spanned and paid for by both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context
from opentelemetry.trace import set_span_in_context

from otel_agents.context import FRAME_KEY, current_frame
from otel_agents.vocabulary import KINDS

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from otel_agents.pipeline import Pipeline
    from otel_agents.vocabulary import Kind

_KEY: Final = otel_context.create_key("otel-agents-announced")
# The call of an agent that was announced: its span, under the ids of the announcement. The
# announcement is what is counted, timed and told of.
_CALL: Final[Kind] = KINDS["agent"]._replace(
    ids={}, name_slot="", id_field="", active=None, ended=None, duration=None,
    starts=False, ends=False,
)  # fmt: skip


class Announcement:
    """One agent that was announced: `scope` is there once `pipeline` has dealt with the event.

    `verdict` is `approved` or `rejected` where the agent is a critic that ended so.
    """

    __slots__ = ("agent", "pipeline", "run_id", "scope", "task_id", "verdict")

    def __init__(self, agent: str, task_id: str, pipeline: Pipeline) -> None:
        self.agent = agent
        self.run_id = _run_id(otel_context.get_current())
        self.task_id = task_id
        self.pipeline = pipeline
        self.scope: Any = None
        self.verdict: str | None = None


def _run_id(context: Context) -> str | None:
    frame = current_frame(context)
    return None if frame is None else frame.ids.run_id


def announce(announcement: Announcement) -> None:
    """Leave an announcement in the current context; it does no harm when it stays there."""
    otel_context.attach(otel_context.set_value(_KEY, announcement))


def announced(context: Context | None = None) -> Announcement | None:
    """Return the last announcement of a context, of the current one by default."""
    found = (otel_context.get_current() if context is None else context).get(_KEY)
    return found if isinstance(found, Announcement) else None


def without(context: Context) -> Context:
    """Return a context without announcements: for the scope of one, which is no call of another."""
    return otel_context.set_value(_KEY, None, context)


def call_of(
    name: str | None, context: Context, pipeline: Pipeline | None
) -> tuple[Kind, Context] | None:
    """Return the kind and the context for an agent's scope that was announced; None otherwise.

    An announcement is of the run it was made in: one that nobody concluded stays in its context.
    """
    found = announced(context)
    if found is None or found.agent != name or found.pipeline is not pipeline:
        return None
    if found.run_id != _run_id(context):
        return None
    if found.scope is None:
        found.pipeline.catch_up()
    scope = found.scope
    if scope is None or scope.ended:
        return None
    inner = set_span_in_context(scope.span, context)
    return _CALL, otel_context.set_value(FRAME_KEY, scope.frame, inner)
