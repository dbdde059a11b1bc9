"""A tool call: counted as one, and told of as a runtime event where it failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from otel_agents.reasons import TOOL_CALLS
from otel_agents.runtime_events import say
from otel_agents.scope import Scope
from otel_agents.usage import Usage
from otel_agents.values import coerce
from otel_agents.vocabulary import ERROR_OUTCOMES, ERROR_TYPE

if TYPE_CHECKING:
    from otel_agents.runtime import Runtime
    from otel_agents.vocabulary import Outcome

# The field that declares what a tool does; no attribute tells of it.
WRITES: Final = "writes"
_ONE_TOOL_CALL: Final = Usage(tool_calls=1)


class ToolCall(Scope):
    """One call of a tool; `retried` says that it failed and the model is asked to make it again.

    The field `writes` says whether it writes files, so that a checkpoint is taken before; where it
    is not given the tool's name decides.
    """

    __slots__ = ("retried", "writes")

    def __init__(self, *args: Any, fields: dict[str, Any] | None = None, **kwargs: Any) -> None:
        fields = dict(fields or {})
        self.writes: bool | None = coerce(fields.pop(WRITES, None), bool)
        super().__init__(*args, fields=fields, **kwargs)

    def fresh(self) -> ToolCall:
        """Return a scope like this one, not started."""
        found = cast("ToolCall", super().fresh())
        found.writes = self.writes
        return found

    def _reset(self) -> None:
        super()._reset()
        self.retried = False

    def _finish(
        self, rt: Runtime, outcome: Outcome, seconds: float, attributes: dict[str, Any]
    ) -> None:
        super()._finish(rt, outcome, seconds, attributes)
        self.count(_ONE_TOOL_CALL)
        if outcome in ERROR_OUTCOMES:
            reason = TOOL_CALLS["RETRY" if self.retried else "FAILED"]
            say(self, reason, entity_id=self.name, error=attributes.get(ERROR_TYPE.key))
