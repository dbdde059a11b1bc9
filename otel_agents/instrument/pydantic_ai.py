"""pydantic-ai, instrumented at three seams that all supported versions share.

- `Agent.iter`, which every way to run an agent goes through,
- `request` and `request_stream` of each model class, the public interface of a model,
- `ToolManager.execute_tool_call`.

They are replaced by plain functions: no capability is injected, which would cost about 450 µs a
run (docs/decisions/0003). The versions that are tested stand in `pyproject.toml`.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace

from otel_agents import runtime
from otel_agents.boundary import caught
from otel_agents.context import FRAME_KEY
from otel_agents.instrument.content import input_messages, output_messages, tool_text
from otel_agents.instrument.seams import Seams
from otel_agents.model_call import ModelCall, settle
from otel_agents.scope import Scope
from otel_agents.usage import from_pydantic_ai
from otel_agents.vocabulary import (
    AGENT_TOOLS,
    CONVERSATION_ID,
    INPUT_MESSAGES,
    KINDS,
    NAMESPACE,
    OUTPUT_MESSAGES,
    PROVIDER,
    REQUEST_MODEL,
    REQUEST_STREAM,
    TOOL_ARGUMENTS,
    TOOL_CALL_ID,
    TOOL_RESULT,
    TOOL_TYPE,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from types import ModuleType, TracebackType

_AGENT: Final = KINDS["agent"]
_MODEL: Final = KINDS["model"]
_TOOL: Final = KINDS["tool"]

# pydantic-ai's names of providers, where they differ from the conventions'.
_PROVIDERS: Final = {
    "google-gla": "gcp.gemini",
    "google": "gcp.gemini",
    "google-vertex": "gcp.vertex_ai",
    "google-cloud": "gcp.vertex_ai",
    "bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "mistral": "mistral_ai",
    "xai": "x_ai",
    "grok": "x_ai",
    "moonshotai": "moonshot_ai",
}
# What a tool raises to put its call off; nothing went wrong.
_PUT_OFF: Final = frozenset({"CallDeferred", "ApprovalRequired"})
# What an agent ends with when the model's answers were refused too often.
_REFUSED: Final = frozenset({"UnexpectedModelBehavior", "ToolRetryError"})


def install(seams: Seams) -> None:
    """Replace the three seams of the pydantic-ai that is imported."""
    from pydantic_ai import Agent  # noqa: PLC0415 - only where it is imported
    from pydantic_ai.models import Model  # noqa: PLC0415

    seams.replace(Agent, "iter", _iter)
    seams.replace(_tool_manager().ToolManager, "execute_tool_call", _execute_tool_call)
    for cls in _subclasses(Model):
        _install_model(seams, cls)
    seams.each_new_subclass(Model, functools.partial(_install_model, seams))
    with contextlib.suppress(ImportError, AttributeError):
        from pydantic_ai.agent import AgentRealtime  # noqa: PLC0415 - since 2.30

        seams.replace(AgentRealtime, "session", _session)


def _tool_manager() -> ModuleType:
    try:
        from pydantic_ai import tool_manager  # noqa: PLC0415 - public since 1.107
    except ImportError:
        from pydantic_ai import _tool_manager as tool_manager  # noqa: PLC0415
    return tool_manager


def _subclasses(cls: type) -> list[type]:
    found = []
    for child in cls.__subclasses__():
        found += [child, *_subclasses(child)]
    return found


def _install_model(seams: Seams, cls: type) -> None:
    """Wrap what a model class defines itself. Those that only pass a call on are left alone."""
    from pydantic_ai.models.fallback import FallbackModel  # noqa: PLC0415
    from pydantic_ai.models.wrapper import WrapperModel  # noqa: PLC0415

    if issubclass(cls, (FallbackModel, WrapperModel)):
        return
    if "request" in vars(cls):
        seams.replace(cls, "request", _request)
    if "request_stream" in vars(cls):
        seams.replace(cls, "request_stream", _request_stream)


# ---------------------------------------------------------------------- agents


def _iter(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def iter_(self: Any, *args: Any, **kwargs: Any) -> Any:
        inner = original(self, *args, **kwargs)
        return inner if runtime.get().disabled else _AgentContext(inner, self, kwargs)

    return iter_


class _AgentContext:
    """`async with agent.iter(...)`: the scope of one attempt, current inside the block."""

    __slots__ = ("_agent", "_given", "_inner", "_run", "scope")

    def __init__(self, inner: Any, agent: Any, given: dict[str, Any]) -> None:
        self._inner = inner
        self._agent = agent
        self._given = given
        self._run: Any = None

    async def __aenter__(self) -> Any:
        attributes: dict[str, Any] = {}
        try:
            attributes = _agent_attributes(self._agent, self._given)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("agent attributes", error)
        name = getattr(self._agent, "name", None)
        scope = self.scope = Scope(
            _AGENT, name if isinstance(name, str) else None, attributes=attributes
        )
        scope.start()
        scope.attach()
        try:
            self._run = await self._inner.__aenter__()
        except BaseException as error:
            self._end(error)
            raise
        return self._run

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Any:
        try:
            suppressed = await self._inner.__aexit__(kind, error, traceback)
        except BaseException as raised:
            self._end(raised)
            raise
        if error is None and getattr(self._run, "result", True) is None:
            # Left before the agent was done, as a consumer that has heard enough does.
            self._end(GeneratorExit())
        else:
            self._end(None if suppressed else error)
        return suppressed

    def _end(self, error: BaseException | None) -> None:
        scope = self.scope
        scope.detach()
        rt = runtime.peek()
        if rt is not None and scope.question is not None:
            refused = error is not None and type(error).__name__ in _REFUSED
            settle(scope, rt, "failure" if refused else "success")
        scope.end(error)


def _agent_attributes(agent: Any, given: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    model = given.get("model") or getattr(agent, "model", None)
    if isinstance(model, str):
        provider, _, name = model.rpartition(":")
        found[REQUEST_MODEL.key] = name
        if provider:
            found[PROVIDER.key] = _PROVIDERS.get(provider, provider)
    elif model is not None:
        found[REQUEST_MODEL.key] = model.model_name
        found[PROVIDER.key] = _provider(model)
    conversation = given.get("conversation_id")
    if isinstance(conversation, str) and conversation != "new":
        found[CONVERSATION_ID.key] = conversation
    tools = [name for toolset in agent.toolsets for name in getattr(toolset, "tools", None) or ()]
    if tools:
        found[AGENT_TOOLS.key] = tools
    return found


# ---------------------------------------------------------------------- models


def _provider(model: Any) -> str:
    system = model.system
    return _PROVIDERS.get(system, system)


def _open_call(model: Any, messages: Any, parameters: Any, *, stream: bool) -> ModelCall | None:
    """Start the scope of a model call, or return None where one is not called for."""
    rt = runtime.get()
    if rt.disabled:
        return None
    try:
        frame = otel_context.get_current().get(FRAME_KEY)
        holder = getattr(frame, "scope", None)
        if isinstance(holder, ModelCall) and not holder.ended:
            # A model that asks another model is one call: the outer one sees all the usage.
            return None
        attributes: dict[str, Any] = {REQUEST_STREAM.key: True} if stream else {}
        if rt.capture:
            attributes[INPUT_MESSAGES.key] = input_messages(messages)
        call = ModelCall(
            _MODEL, model.model_name, attributes=attributes, fields={"provider": _provider(model)}
        )
        call.covered_by = _covering()
        call.start()
        agent = call.around("agent")
        if agent is not None and agent.question is not None:
            call.again = _asks_again(messages, parameters)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("model call", error)
        return None
    return call


def _covering() -> str:
    """Return the other instrumentation whose span for this very call is current, if one is."""
    span = trace.get_current_span()
    scope = getattr(span, "instrumentation_scope", None)
    if scope is None or scope.name == NAMESPACE:
        return ""
    attributes = getattr(span, "attributes", None) or {}
    operation = attributes.get("gen_ai.operation.name")
    if operation in {"chat", "generate_content", "text_completion"}:
        return str(scope.name)
    return str(scope.name) if attributes.get("openinference.span.kind") == "LLM" else ""


def _asks_again(messages: Any, parameters: Any) -> bool:
    """Return whether a request says that the last answer was refused, not that a tool failed."""
    output_tools = {tool.name for tool in getattr(parameters, "output_tools", ())}
    return any(
        getattr(part, "part_kind", "") == "retry-prompt"
        and (part.tool_name is None or part.tool_name in output_tools)
        for part in getattr(messages[-1], "parts", ())
    )


def _take_answer(call: ModelCall, answer: Any, *, whole: bool) -> None:
    """Take usage, model, id and finish reason of a response, or of a stream so far."""
    try:
        usage = answer.usage
        usage = from_pydantic_ai(usage() if callable(usage) else usage)
        if not whole:
            usage = (
                usage.__replace__(complete=False) if hasattr(usage, "__replace__") else _cut(usage)
            )
        reason = answer.finish_reason
        call.answered(
            usage,
            model=answer.model_name,
            id=getattr(answer, "provider_response_id", None),
            finish_reasons=[str(reason)] if reason else None,
        )
        rt = runtime.peek()
        if rt is not None and rt.capture and whole:
            parts = answer.parts if hasattr(answer, "parts") else answer.get().parts
            call.set_attribute(OUTPUT_MESSAGES.key, output_messages(parts))
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("model answer", error)


def _cut(usage: Any) -> Any:
    from msgspec.structs import replace  # noqa: PLC0415 - Python before 3.13

    return replace(usage, complete=False)


def _request(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def request(self: Any, messages: Any, *args: Any, **kwargs: Any) -> Any:
        parameters = args[1] if len(args) > 1 else kwargs.get("model_request_parameters")
        call = _open_call(self, messages, parameters, stream=False)
        if call is None:
            return await original(self, messages, *args, **kwargs)
        call.attach()
        try:
            response = await original(self, messages, *args, **kwargs)
        except BaseException as error:
            call.detach()
            call.end(error)
            raise
        call.detach()
        _take_answer(call, response, whole=True)
        call.end()
        return response

    return request


def _request_stream(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def request_stream(self: Any, messages: Any, *args: Any, **kwargs: Any) -> Any:
        inner = original(self, messages, *args, **kwargs)
        parameters = args[1] if len(args) > 1 else kwargs.get("model_request_parameters")
        return _StreamContext(inner, self, messages, parameters)

    return request_stream


class _StreamContext:
    """`async with model.request_stream(...)`: the call lasts to the end of the block.

    Its span is current while the provider is read, never in the consumer's code between chunks.
    """

    __slots__ = ("_call", "_done", "_inner", "_open", "_stream")

    def __init__(self, inner: Any, model: Any, messages: Any, parameters: Any) -> None:
        self._inner = inner
        self._open = functools.partial(_open_call, model, messages, parameters, stream=True)
        self._call: ModelCall | None = None
        self._stream: Any = None
        self._done = False

    async def __aenter__(self) -> Any:
        call = self._call = self._open()
        if call is None:
            return await self._inner.__aenter__()
        call.attach()
        try:
            stream = self._stream = await self._inner.__aenter__()
        except BaseException as error:
            call.detach()
            call.end(error)
            raise
        call.detach()
        try:
            events = stream._get_event_iterator  # noqa: SLF001 - the one point all versions read from
            stream._get_event_iterator = lambda: self._watch(call, events())  # noqa: SLF001
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("model stream", error)
        return stream

    async def _watch(self, call: ModelCall, events: AsyncIterator[Any]) -> AsyncIterator[Any]:
        try:
            while True:
                call.attach()
                try:
                    event = await anext(events)
                except StopAsyncIteration:
                    self._done = True
                    return
                finally:
                    call.detach()
                if call.first_chunk is None and _has_content(event):
                    call.chunk()
                yield event
        finally:
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Any:
        call = self._call
        if call is None:
            return await self._inner.__aexit__(kind, error, traceback)
        call.attach()
        try:
            suppressed = await self._inner.__aexit__(kind, error, traceback)
        except BaseException as raised:
            call.detach()
            _take_answer(call, self._stream, whole=False)
            call.end(raised)
            raise
        call.detach()
        _take_answer(call, self._stream, whole=self._done)
        call.end(error or (None if self._done else GeneratorExit()))
        return suppressed


def _has_content(event: Any) -> bool:
    """Return whether an event brings content: a role alone is none, reasoning is."""
    part = getattr(event, "part", None)
    if part is None:
        return hasattr(event, "delta")
    return bool(getattr(part, "content", None) or getattr(part, "tool_name", None))


# ---------------------------------------------------------------------- tools


def _execute_tool_call(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def execute_tool_call(self: Any, validated: Any, *args: Any, **kwargs: Any) -> Any:
        rt = runtime.get()
        if rt.disabled:
            return await original(self, validated, *args, **kwargs)
        scope = _open_tool(rt, validated)
        scope.start()
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


def _open_tool(rt: runtime.Runtime, validated: Any) -> Scope:
    name, attributes = None, {}
    try:
        call = validated.call
        name = call.tool_name
        attributes = {TOOL_TYPE.key: "function", TOOL_CALL_ID.key: call.tool_call_id}
        if rt.capture:
            attributes[TOOL_ARGUMENTS.key] = tool_text(call.args)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("tool call", error)
    return Scope(_TOOL, name, attributes=attributes)


def _end_tool(scope: Scope, error: BaseException) -> None:
    """End a tool's scope; what pydantic-ai raises for a retry is named by what the tool raised."""
    cause = (
        error.__cause__ if type(error).__name__ in {"ToolRetryError", "ToolFailedError"} else None
    )
    if type(error).__name__ in _PUT_OFF:
        scope.skip("put off until it is approved or answered")
        scope.end()
    else:
        scope.end(cause or error)


def _judge_result(rt: runtime.Runtime, scope: Scope, result: Any) -> None:
    """Take a failure that a tool returned instead of raising it for what it is."""
    try:
        if rt.capture:
            scope.set_attribute(TOOL_RESULT.key, tool_text(result))
        if not isinstance(result, dict):
            return
        failed = result.get("isError") is True or result.get("is_error") is True
        if failed or result.get("status") == "error" or result.get("success", True) in {False}:
            scope.fail()
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("tool result", error)


# ---------------------------------------------------------------------- realtime


def _session(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def session(self: Any, *args: Any, **kwargs: Any) -> Any:
        inner = original(self, *args, **kwargs)
        return inner if runtime.get().disabled else _SessionContext(inner, self)

    return session


class _SessionContext:
    """`async with agent.realtime(model).session()`: an agent and one model call, as long as it."""

    __slots__ = ("_call", "_inner", "_scope", "_session", "_source")

    def __init__(self, inner: Any, source: Any) -> None:
        self._inner = inner
        self._source = source
        self._session: Any = None

    async def __aenter__(self) -> Any:
        agent = getattr(self._source, "agent", None) or getattr(self._source, "_agent", None)
        model = getattr(self._source, "model", None) or getattr(self._source, "_model", None)
        self._scope = Scope(_AGENT, getattr(agent, "name", None))
        self._scope.start()
        self._scope.attach()
        name = (
            model.rpartition(":")[2]
            if isinstance(model, str)
            else getattr(model, "model_name", None)
        )
        provider = "" if isinstance(model, str) or model is None else _provider(model)
        self._call = ModelCall(_MODEL, name, fields={"provider": provider} if provider else {})
        self._call.start()
        try:
            self._session = await self._inner.__aenter__()
        except BaseException as error:
            self._end(error)
            raise
        return self._session

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Any:
        try:
            suppressed = await self._inner.__aexit__(kind, error, traceback)
        except BaseException as raised:
            self._end(raised)
            raise
        self._end(None if suppressed else error)
        return suppressed

    def _end(self, error: BaseException | None) -> None:
        try:
            if self._session is not None:
                self._call.answered(from_pydantic_ai(self._session.usage))
        except Exception as failure:  # noqa: BLE001 - telemetry never reaches the host
            caught("realtime usage", failure)
        self._scope.detach()
        self._call.end(error)
        rt = runtime.peek()
        if rt is not None:
            settle(self._scope, rt, "success")
        self._scope.end(error)
