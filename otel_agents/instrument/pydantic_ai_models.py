"""Model calls of pydantic-ai: whole, streamed, batched, and the summaries it has models make."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace
from opentelemetry import trace

from otel_agents import runtime
from otel_agents.boundary import caught
from otel_agents.context import current_frame
from otel_agents.errors import BudgetExceeded
from otel_agents.failures import outcome_of
from otel_agents.instrument import pydantic_ai_agents as agents
from otel_agents.instrument.content import (
    input_messages,
    output_messages,
    system_instructions,
)
from otel_agents.instrument.http import trouble_of
from otel_agents.model_call import ModelCall
from otel_agents.usage import Usage, from_pydantic_ai
from otel_agents.vocabulary import (
    INPUT_MESSAGES,
    KINDS,
    NAMESPACE,
    OUTPUT_MESSAGES,
    PROVIDER,
    REQUEST_STREAM,
    SYSTEM_INSTRUCTIONS,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from types import TracebackType

    from otel_agents.runtime import Runtime

_MODEL: Final = KINDS["model"]
_ASKING: Final = frozenset({"chat", "generate_content", "text_completion"})
_REFUSED_STATUS: Final = 400
_END: Final = object()
# How genai-prices calls the rates of a batch.
_BATCH: Final = {"processing": "batch"}


# ---------------------------------------------------------------------- opening a call


def _open_call(
    model: Any, messages: Any, parameters: Any, *, stream: bool, billed: bool = False
) -> ModelCall | None:
    """Start the scope of a model call, or return None where one is not called for.

    Raises BudgetExceeded where a budget allows none, but for an answer that is `billed` already.
    """
    rt = agents.watching()
    if rt is None:
        return None
    try:
        frame = current_frame()
        holder = None if frame is None else frame.scope
        if isinstance(holder, ModelCall) and not holder.ended:
            # A model that asks another model is one call: the outer one sees all the usage.
            return None
        name, provider = agents.model_and_provider(model)
        known: dict[str, Any] = {PROVIDER.key: provider} if provider else {}
        if stream:
            known[REQUEST_STREAM.key] = True
        call = ModelCall(_MODEL, name or None, known=known)
        call.provider = provider
        call.billed = billed
        call.covered_by = _covering()
        context = agents.context_of(agents.current_run())
        call.continues = getattr(messages[-1], "state", None) == "suspended" if messages else False
        _remember_agent(call, context, parameters)
        call.start(context)
    except BudgetExceeded:
        raise
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("model call", error)
        return None
    _keep_request(rt, call, messages, parameters)
    return call


def _keep_request(rt: Runtime, call: ModelCall, messages: Any, parameters: Any) -> None:
    if not (rt.capture or rt.capture_events):
        return
    try:
        call.keep_content(INPUT_MESSAGES.key, input_messages(messages))
        instructions = system_instructions(messages, parameters)
        if instructions:
            call.keep_content(SYSTEM_INSTRUCTIONS.key, instructions)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("model request", error)


def _covering() -> str:
    """Return the other instrumentation whose span for this very call is current, if one is."""
    span = trace.get_current_span()
    scope = getattr(span, "instrumentation_scope", None)
    if scope is None or scope.name == NAMESPACE:
        return ""
    attributes = getattr(span, "attributes", None) or {}
    if attributes.get("gen_ai.operation.name") in _ASKING:
        return str(scope.name)
    return str(scope.name) if attributes.get("openinference.span.kind") == "LLM" else ""


def _remember_agent(call: ModelCall, context: Any, parameters: Any) -> None:
    """Tell a call how far its agent is, and whether it asks again since an answer was refused."""
    frame = current_frame(context)
    agent = agents.nearest_agent() if context is None else getattr(frame, "scope", None)
    if agent is None:
        return
    history = agent.history
    call.length = len(history)
    if agent.question is not None and not call.continues:
        call.refusal = _refusal(history, parameters)
        call.again = bool(call.refusal)


def _refusal(history: list[Any], parameters: Any) -> str:
    """Return why the agent asks again, if its last answer was refused: OUTPUT_INVALID, MODEL_RETRY.

    Its history says so. What the model is given does not: it is put into the model's words. A tool
    that failed is no refusal.
    """
    outputs = {tool.name for tool in getattr(parameters, "output_tools", None) or ()}
    parts = getattr(history[-1], "parts", ()) if history else ()
    refused = [part for part in parts if _refuses(part, outputs)]
    if not refused:
        return ""
    # A schema's errors come as a list; what the program says, and that there was none, as text.
    return "OUTPUT_INVALID" if any(_is_invalid(part) for part in refused) else "MODEL_RETRY"


def _is_invalid(part: Any) -> bool:
    cause = getattr(getattr(part, "retry", None), "cause", None)
    if cause is not None:
        return bool(cause != "model_retry")
    return isinstance(part.content, list)


def _refuses(part: Any, outputs: set[str]) -> bool:
    kind = getattr(part, "part_kind", "")
    if kind == "retry-feedback":
        return True
    if kind == "retry-prompt":
        return part.tool_name is None or part.tool_name in outputs
    retried = kind == "tool-return" and getattr(part, "outcome", "") == "retried"
    return retried and part.tool_name in outputs


# ---------------------------------------------------------------------- taking an answer


def _take_answer(call: ModelCall, answer: Any, messages: Any, *, whole: bool = True) -> None:
    """Take usage, model, id and finish reason of a response, or of a stream so far."""
    try:
        usage = _since(_usage_of(answer), answer, messages)
        reason = answer.finish_reason
        call.answered(
            usage if whole else replace(usage, complete=False),
            model=answer.model_name,
            id=getattr(answer, "provider_response_id", None),
            finish_reasons=[str(reason)] if reason else None,
            url=getattr(answer, "provider_url", None),
            details=getattr(answer, "provider_details", None),
        )
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("model answer", error)


def _usage_of(answer: Any) -> Usage:
    usage = answer.usage
    # A method at first; later a value that warns when it is called.
    return from_pydantic_ai(usage() if inspect.ismethod(usage) else usage)


def _since(usage: Usage, answer: Any, messages: Any) -> Usage:
    """Return what an answer used beyond what was counted before.

    A provider that works on an answer in the background is asked for it until it is there. Each
    time it tells the whole bill, and there is none as long as it has not begun.
    """
    before: Any = messages[-1] if messages else None
    if getattr(before, "state", None) == "suspended":
        job = before.provider_response_id
        if job is not None and job == getattr(answer, "provider_response_id", None):
            usage = beyond(usage, from_pydantic_ai(before.usage))
    if getattr(answer, "state", None) == "suspended" and not usage.total_tokens:
        usage = replace(usage, complete=True)
    return usage


def beyond(usage: Usage, counted: Usage) -> Usage:
    """Return what a total says beyond an earlier one."""
    names = [name for name in Usage.__struct_fields__ if name != "complete"]
    more = {name: max(0, getattr(usage, name) - getattr(counted, name)) for name in names}
    return replace(usage, **more)


def _keep_answer(call: ModelCall, answer: Any) -> None:
    try:
        rt = runtime.peek()
        if rt is None or not (rt.capture or rt.capture_events):
            return
        parts = answer.parts if hasattr(answer, "parts") else answer.get().parts
        call.keep_content(OUTPUT_MESSAGES.key, output_messages(parts))
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("model answer", error)


def _fail(call: ModelCall, error: BaseException) -> None:
    """End a call that brought no answer. A status says that the provider refused it."""
    try:
        status = getattr(error, "status_code", None)
        if not call.failed_requests and type(status) is int and status >= _REFUSED_STATUS:
            call.sent(refused=True, trouble=trouble_of(status))
    except Exception as failure:  # noqa: BLE001 - telemetry never reaches the host
        caught("model error", failure)
    call.end(error)


# ---------------------------------------------------------------------- the seams


def _parameters(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[1] if len(args) > 1 else kwargs.get("model_request_parameters")


async def _ask(call: ModelCall, ask: Callable[[], Awaitable[Any]], messages: Any) -> Any:
    call.attach()
    try:
        response = await ask()
    except BaseException as error:
        call.detach()
        _fail(call, error)
        raise
    call.detach()
    _take_answer(call, response, messages)
    _keep_answer(call, response)
    call.end()
    return response


def request(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Wrap `Model.request`."""

    @functools.wraps(original)
    async def request(self: Any, messages: Any, *args: Any, **kwargs: Any) -> Any:
        call = _open_call(self, messages, _parameters(args, kwargs), stream=False)
        ask = functools.partial(original, self, messages, *args, **kwargs)
        return await ask() if call is None else await _ask(call, ask, messages)

    return request


def compact_messages(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Wrap `Model.compact_messages`: a request like another, for a shorter history."""

    @functools.wraps(original)
    async def compact_messages(self: Any, request_context: Any, *args: Any, **kwargs: Any) -> Any:
        messages = getattr(request_context, "messages", None)
        call = _open_call(self, messages, None, stream=False)
        ask = functools.partial(original, self, request_context, *args, **kwargs)
        return await ask() if call is None else await _ask(call, ask, messages)

    return compact_messages


def batch_decode(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `Model.batch_decode`: the one place that every answer of a batch passes."""

    @functools.wraps(original)
    def batch_decode(self: Any, result: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        messages = getattr(request, "messages", None)
        parameters = getattr(request, "model_request_parameters", None)
        call = _open_call(self, messages, parameters, stream=False, billed=True)
        try:
            response = original(self, result, request, *args, **kwargs)
        except BaseException as error:
            if call is not None:
                call.sent(refused=True)
                call.end(error)
            raise
        if call is not None:
            _take_answer(call, response, messages)
            call.details = {**(call.details or {}), **_BATCH}
            _keep_answer(call, response)
            call.end()
        return response

    return batch_decode


def request_stream(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `Model.request_stream`."""

    @functools.wraps(original)
    def request_stream(self: Any, messages: Any, *args: Any, **kwargs: Any) -> Any:
        inner = original(self, messages, *args, **kwargs)
        if agents.watching() is None:
            return inner
        return _StreamContext(inner, self, messages, _parameters(args, kwargs))

    return request_stream


class _StreamContext:
    """What `request_stream` returns: a call that lasts to its last chunk, or to when it is left.

    Its span is current while the provider is read, never in the consumer's code between chunks.
    """

    __slots__ = ("_call", "_done", "_failed", "_inner", "_messages", "_open", "_stream")

    def __init__(self, inner: Any, model: Any, messages: Any, parameters: Any) -> None:
        self._inner = inner
        self._open = functools.partial(_open_call, model, messages, parameters, stream=True)
        self._messages = messages
        self._call: ModelCall | None = None
        self._stream: Any = None
        self._done = False
        self._failed = False

    async def __aenter__(self) -> Any:
        call = self._call = self._open()
        if call is None:
            return await self._inner.__aenter__()
        call.attach()
        try:
            stream = self._stream = await self._inner.__aenter__()
        except BaseException as error:
            call.detach()
            _fail(call, error)
            raise
        call.detach()
        try:
            events = stream._get_event_iterator  # noqa: SLF001 - all versions read from it
            stream._get_event_iterator = functools.partial(self._watch, call, events)  # noqa: SLF001
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("model stream", error)
        return stream

    async def _watch(
        self, call: ModelCall, read: Callable[[], AsyncIterator[Any]]
    ) -> AsyncIterator[Any]:
        events = read()
        limited = call.limited
        try:
            while True:
                call.attach()
                try:
                    event = await anext(events, _END)
                except Exception:
                    self._failed = True
                    raise
                finally:
                    call.detach()
                if event is _END:
                    self._done = True
                    # What the consumer does with it afterwards is no part of the call.
                    self._finish(call, None)
                    return
                if call.first_chunk is None:
                    _note_chunk(call, event)
                if limited:
                    self._spend(call)
                yield event
        finally:
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()

    def _spend(self, call: ModelCall) -> None:
        """Raise BudgetExceeded where the stream has used more than a budget has left."""
        try:
            usage = _since(_usage_of(self._stream), self._stream, self._messages)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("model chunk", error)
            return
        if usage.total_tokens:  # else the provider tells it at the end only
            call.spending(usage)

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
            self._finish(call, raised)
            raise
        call.detach()
        self._finish(call, error)
        return suppressed

    def _finish(self, call: ModelCall, error: BaseException | None) -> None:
        try:
            self._conclude(call, error)
        except Exception as failure:  # noqa: BLE001 - telemetry never reaches the host
            caught("model stream", failure)
        call.end(error)  # unless that is done

    def _conclude(self, call: ModelCall, error: BaseException | None) -> None:
        if call.ended:
            return
        stream, self._stream = self._stream, None
        whole = self._done or getattr(stream, "_finished", False) is True
        _take_answer(call, stream, self._messages, whole=whole)
        if whole:
            _keep_answer(call, stream)
            call.end()
        elif error is not None and (self._failed or _timed_out(error)):
            _fail(call, error)
        else:
            # Left by its consumer, for whatever reason: the provider did nothing wrong.
            call.end(GeneratorExit())


def _timed_out(error: BaseException) -> bool:
    try:
        return outcome_of(error) == "timeout"
    except Exception as failure:  # noqa: BLE001 - telemetry never reaches the host
        caught("model stream", failure)
        return False


def _note_chunk(call: ModelCall, event: Any) -> None:
    try:
        if has_content(event):
            call.chunk()
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("model chunk", error)


def has_content(event: Any) -> bool:
    """Return whether an event brings content: a role alone is none, reasoning is."""
    part = getattr(event, "part", None) or getattr(event, "delta", None)
    names = ("content", "content_delta", "tool_name", "tool_name_delta", "args_delta")
    return any(getattr(part, name, None) for name in names)


SEAMS: Final = {
    "request": request,
    "request_stream": request_stream,
    "compact_messages": compact_messages,
    "batch_decode": batch_decode,
}
"""What is wrapped of a model class where it defines it, by name."""
