"""Tools of pydantic-ai: one scope a call, and failures that a tool returns instead of raising."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from otel_agents.boundary import caught
from otel_agents.drive import begin
from otel_agents.instrument.content import tool_text
from otel_agents.instrument.pydantic_ai_agents import AgentScope, context_of, watching
from otel_agents.reasons import TOOL_LOOPS
from otel_agents.runtime_events import say
from otel_agents.tool_call import ToolCall
from otel_agents.values import plain
from otel_agents.vocabulary import (
    KINDS,
    TOOL_ARGUMENTS,
    TOOL_CALL_ID,
    TOOL_NAME,
    TOOL_RESULT,
    TOOL_TYPE,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from otel_agents.runtime import Runtime

_TOOL: Final = KINDS["tool"]
# What a tool raises to put its call off; nothing went wrong.
_PUT_OFF: Final = frozenset({"CallDeferred", "ApprovalRequired"})
# What pydantic-ai raises in place of what the tool raised.
_RETRIED: Final = "ToolRetryError"
_WRAPPED: Final = frozenset({_RETRIED, "ToolFailedError"})
# So many calls of one tool with the same arguments are a loop.
_LOOP: Final = 3
_RETURN: Final = "ToolReturn"


def execute_tool_call(
    original: Callable[..., Awaitable[Any]],
) -> Callable[..., Awaitable[Any]]:
    """Wrap `ToolManager.execute_tool_call`."""

    @functools.wraps(original)
    async def execute_tool_call(self: Any, validated: Any, *args: Any, **kwargs: Any) -> Any:
        rt = watching()
        scope = None if rt is None else await _open_tool(rt, validated)
        if rt is None or scope is None:
            return await original(self, validated, *args, **kwargs)
        scope.attach()
        try:
            result = await original(self, validated, *args, **kwargs)
        except BaseException as error:
            scope.detach()
            _end_tool(scope, error)
            raise
        scope.detach()
        _judge_result(rt, scope, result)
        scope.end()
        return result

    return execute_tool_call


async def _open_tool(rt: Runtime, validated: Any) -> ToolCall | None:
    try:
        call, tool = validated.call, validated.tool
        if tool is not None and tool.tool_def.kind == "output":
            # Before 1.107 an agent's output came this way too; it is no tool.
            return None
        # A name that no tool has is the model's invention: no label, and content.
        scope = ToolCall(
            _TOOL,
            call.tool_name if tool is not None else None,
            known={TOOL_TYPE.key: "function", TOOL_CALL_ID.key: plain(call.tool_call_id)},
        )
        await begin(scope, functools.partial(scope.start, context_of(validated.ctx)))
        _describe(rt, scope, call, known=tool is not None)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("tool start", error)
        return None
    return scope


def _describe(rt: Runtime, scope: ToolCall, call: Any, *, known: bool) -> None:
    try:
        _watch_loop(scope, call)
        if rt.capture:
            scope.keep(TOOL_ARGUMENTS.key, tool_text(call.args))
            if not known:
                scope.keep(TOOL_NAME.key, tool_text(call.tool_name))
    except Exception as error:  # noqa: BLE001 - the scope is open, and goes on
        caught("tool arguments", error)


def _watch_loop(scope: ToolCall, call: Any) -> None:
    """Tell of a call that the agent makes again and again: the third time, and at each doubling."""
    agent = scope.around("agent")
    if isinstance(agent, AgentScope):
        count = agent.repeats(call.tool_name, call.args)
        thirds, rest = divmod(count, _LOOP)
        if thirds and not rest and thirds & (thirds - 1) == 0:
            name = agent.name
            say(scope, TOOL_LOOPS["REPEATED"], entity_id=scope.name, count=count, agent=name)


def _end_tool(scope: ToolCall, error: BaseException) -> None:
    """End a tool's scope; what pydantic-ai raises for a retry is named by what the tool raised."""
    found: BaseException | None = error
    try:
        name = type(error).__name__
        if name in _PUT_OFF:
            scope.skip("put off until it is approved or answered")
            found = None
        else:
            scope.retried = name == _RETRIED
            cause = error.__cause__ if name in _WRAPPED else None
            found = error if cause is None else cause
    except Exception as failure:  # noqa: BLE001 - telemetry never reaches the host
        caught("tool error", failure)
    scope.end(found)


def _judge_result(rt: Runtime, scope: ToolCall, result: Any) -> None:
    """Take a failure that a tool returned instead of raising it for what it is."""
    try:
        # `ToolReturn` holds what the model gets beside what only the application sees. By the
        # class: to ask any result for a field would be to call its `__getattr__`.
        if any(kind.__name__ == _RETURN for kind in type(result).__mro__):
            result = result.return_value
        if rt.capture:
            scope.keep(TOOL_RESULT.key, tool_text(result))
        if says_failure(result):
            scope.fail()
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("tool result", error)


def says_failure(result: Any) -> bool:
    """Return whether a result is one of the usual ways to say that something failed.

    `isError` or `is_error` true (MCP), `status` "error", `success` false or 0; in a dict or in the
    fields of an object.
    """
    fields = _fields_of(result)
    if fields is None:
        return False
    # Only what is plain is compared: another's `__eq__` or `__bool__` is the host's code.
    success, status = fields.get("success"), fields.get("status")
    return (
        fields.get("isError") is True
        or fields.get("is_error") is True
        or (issubclass(type(status), str) and str.__str__(status) == "error")
        or (type(success) in {bool, int} and not success)
    )


def _fields_of(result: Any) -> dict[str, Any] | None:
    """Return a dict's or an object's own fields, without any code of the host's."""
    if issubclass(type(result), dict):
        return dict(dict.items(result))
    try:
        fields = object.__getattribute__(result, "__dict__")
    except AttributeError:
        return None
    return fields if type(fields) is dict else None
