"""A tool call: counted as one, and told of as a runtime event where it failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otel_agents.reasons import TOOL_CALLS
from otel_agents.runtime_events import say
from otel_agents.scope import Scope
from otel_agents.usage import Usage
from otel_agents.vocabulary import ERROR_OUTCOMES, ERROR_TYPE

if TYPE_CHECKING:
    from otel_agents.runtime import Runtime
    from otel_agents.vocabulary import Outcome

_ONE_TOOL_CALL: Final = Usage(tool_calls=1)


class ToolCall(Scope):
    """One call of a tool; `retried` says that it failed and the model is asked to make it again."""

    __slots__ = ("retried",)

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
