"""Tool calls of pydantic-ai that a human approves or answers: one wait each, by the call's id.

An agent that ends with deferred calls leaves their waits open, and a run that is given their
results closes them: in this process, or in another one that goes on with the run under its id,
where a wait is known again by the run's and the call's. A handler that answers within the run is
waited for as long as it takes.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import threading
import time
from collections import OrderedDict
from copy import copy
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry import context as otel_context
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)

from otel_agents import runtime
from otel_agents.boundary import caught
from otel_agents.context import FRAME_KEY, Counts, Frame, current_frame, stamp_of
from otel_agents.humans import HumanScope
from otel_agents.instrument.content import tool_text
from otel_agents.signals import Ids, Signal, signal_id
from otel_agents.state.liveness import here
from otel_agents.values import cut, plain, redact
from otel_agents.vocabulary import (
    ANSWER,
    ANSWERED_BY,
    DECISION,
    KINDS,
    RESULT,
    TOOL_ARGUMENTS,
    WAIT_ID,
    WAIT_TOOL,
    WAIT_TOOL_CALL,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from opentelemetry.context import Context

    from otel_agents.runtime import Runtime
    from otel_agents.scope import Scope

_HUMAN: Final = KINDS["human"]
_MOST: Final = 10_000  # waits that are left open at once; of more the oldest are given up
_NAME: Final = 200
_REQUESTS: Final = "DeferredToolRequests"
_HANDLER: Final = "handle_deferred_tool_calls"
_DECISIONS: Final = {"ToolApproved": "approved", "ToolDenied": "rejected"}


class _Said(NamedTuple):
    """What was said to one call: the decision, the text where content is kept, and who said it."""

    decision: str
    text: str | None
    by: str


class Resumed(NamedTuple):
    """Where an agent goes on that is given results: a context, if outside any scope, and links."""

    context: Context | None
    links: list[SpanContext]


class _Pending:
    """The waits that agents left open in this process, by the run and the id of the call."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._waits: OrderedDict[tuple[str, str], HumanScope] = OrderedDict()
        self._asked: OrderedDict[str, None] = OrderedDict()
        self._exits = False

    def asks(self, scope_id: str) -> bool:
        """Note that a call is asked about; False where it was before, under the same id."""
        with self._lock:
            if scope_id in self._asked:
                return False
            self._asked[scope_id] = None
            if len(self._asked) > _MOST:
                self._asked.popitem(last=False)
        return True

    def add(self, call_id: str, wait: HumanScope) -> None:
        key = wait.frame.ids.run_id or "", call_id
        with self._lock:
            if not self._exits:
                # Before the exporters go, which were there before.
                atexit.register(self.leave)
                self._exits = True
            old = self._waits.pop(key, None)
            self._waits[key] = wait
            if old is None and len(self._waits) > _MOST:
                _, old = self._waits.popitem(last=False)
        if old is not None:
            old.end(GeneratorExit())

    def holds(self, run_id: str, call_id: str) -> bool:
        return (run_id, call_id) in self._waits

    def take(self, call_id: str) -> HumanScope | None:
        """Return the wait of a call: in the run that is going on, else the last to be asked."""
        frame = current_frame()
        run_id = "" if frame is None else frame.ids.run_id or ""
        with self._lock:
            found = self._waits.pop((run_id, call_id), None)
            if found is None:
                keys = (key for key in reversed(self._waits) if key[1] == call_id)
                key = next(keys, None)
                found = None if key is None else self._waits.pop(key)
        return found

    def leave(self) -> None:
        for wait in list(self._waits.values()):
            wait.leave_open()


_pending: Final = _Pending()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_pending.reset)


def scope_id_of(run_id: str, call_id: str) -> str:
    """Return the id of the scope of a call's wait: the same in every process of the run."""
    from hashlib import blake2b  # OpenSSL takes longer to load than most programs have waits

    text = f"{run_id}\0{call_id}".encode("utf-8", "replace")
    return blake2b(text, digest_size=8).hexdigest()


# ---------------------------------------------------------------------- asking


def requests_of(run: Any) -> Any:
    """Return the deferred calls that a run ended with, or None where it ended otherwise."""
    result = None if run is None else run.result
    output = getattr(result, "output", None)
    named = {kind.__name__ for kind in type(output).__mro__}
    return output if _REQUESTS in named else None


def _calls(requests: Any) -> Iterator[tuple[str, Any]]:
    for call in requests.approvals:
        yield "approve", call
    for call in requests.calls:
        yield "answer", call


def _ask(rt: Runtime, context: Context, verb: str, call: Any) -> HumanScope:
    tool, call_id = cut(str(plain(call.tool_name)), _NAME), str(call.tool_call_id)
    known = {WAIT_TOOL.key: tool, WAIT_TOOL_CALL.key: cut(call_id, _NAME)}
    if rt.capture:
        known[TOOL_ARGUMENTS.key] = tool_text(call.args)
    wait = HumanScope(_HUMAN, f"{verb} {tool}", id=call_id, known=known)
    frame = current_frame(context)
    if frame is not None and frame.ids.run_id:
        fixed = scope_id_of(frame.ids.run_id, call_id)
        wait.fixed_id = fixed if _pending.asks(fixed) else ""
    wait.start(context)
    return wait


class Left(NamedTuple):
    """An agent that ends: where it was, its waits, its run, and what it ended with if it failed.

    `asked` are the waits that a handler in the run left unanswered, by call.
    """

    context: Context
    asked: dict[str, HumanScope]
    run: Any
    error: BaseException | None


def leave(left: Left) -> None:
    """Leave a wait open for each call that an agent ended with; end those it did not."""
    try:
        rt = runtime.peek()
        if left.error is not None:
            give_up(left.asked, left.error)
        elif rt is not None and left.run is not None:
            _leave_open(rt, left)
        give_up(left.asked, GeneratorExit())
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("deferred calls", error)


def _leave_open(rt: Runtime, left: Left) -> None:
    requests = requests_of(left.run)
    frame = current_frame(left.context)
    run_id = "" if frame is None else frame.ids.run_id or ""
    for verb, call in () if requests is None else _calls(requests):
        call_id = str(call.tool_call_id)
        wait = left.asked.pop(call_id, None)
        if wait is None and not _pending.holds(run_id, call_id):
            wait = _ask(rt, left.context, verb, call)
        if wait is not None:
            _pending.add(call_id, wait)


def give_up(asked: dict[str, HumanScope], error: BaseException) -> None:
    """End the waits that an agent was in, and that nobody will answer any more."""
    while asked:
        asked.popitem()[1].end(error)


# ---------------------------------------------------------------------- answers within the run


def resolve_deferred_tool_calls(
    original: Callable[..., Awaitable[Any]],
    watch: Callable[[Any], tuple[Runtime, Context, dict[str, HumanScope]] | None],
) -> Callable[..., Awaitable[Any]]:
    """Wrap `ToolManager.resolve_deferred_tool_calls`, which asks the handlers of an agent.

    `watch` returns, of a run's context, the runtime, where the agent is, and the waits it has left.
    """

    @functools.wraps(original)
    async def resolve_deferred_tool_calls(self: Any, requests: Any, *args: Any) -> Any:
        found = watch(self.ctx) if _handles(getattr(self, "root_capability", None)) else None
        if found is None:
            return await original(self, requests, *args)
        rt, context, asked = found
        waits = _begin(rt, context, requests)
        try:
            results = await original(self, requests, *args)
        except BaseException as error:
            give_up(waits, error)
            raise
        _end(rt, waits, results)
        asked.update(waits)
        return results

    return resolve_deferred_tool_calls


def _begin(rt: Runtime, context: Context, requests: Any) -> dict[str, HumanScope]:
    waits: dict[str, HumanScope] = {}
    try:
        for verb, call in _calls(requests):
            waits[str(call.tool_call_id)] = _ask(rt, context, verb, call)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("deferred calls", error)
    return waits


def _end(rt: Runtime, waits: dict[str, HumanScope], results: Any) -> None:
    """End the waits that were answered and take them out of those given."""
    try:
        for call_id, said in _said(rt, results):
            wait = waits.pop(call_id, None)
            if wait is not None:
                wait.resolve(said.decision, said.text, by=said.by)
                wait.end()
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("deferred results", error)


def _handles(capability: Any) -> bool:
    """Return whether a capability, or one inside it, answers deferred calls itself."""
    try:
        owner = next(
            (kind for kind in type(capability).__mro__ if _HANDLER in vars(kind)), type(None)
        ).__name__
        if owner == "CombinedCapability":
            return any(_handles(one) for one in capability.capabilities)
        if owner == "WrapperCapability":
            return _handles(capability.wrapped)
        if owner == "Hooks":
            return bool(capability._get(_HANDLER))  # noqa: SLF001 - hooks tell it nowhere else
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("deferred handler", error)
        return False
    return owner not in {"AbstractCapability", "NoneType"}


def _said(rt: Runtime, results: Any) -> Iterator[tuple[str, _Said]]:
    if results is None:
        return
    named = getattr(results, "answered_by", None) or {}  # since 2.6x
    for call_id, value in (results.approvals or {}).items():
        decision = {True: "approved", False: "rejected"}.get(value) if value in _FLAGS else None
        decision = decision or _DECISIONS.get(type(value).__name__, "answered")
        text = getattr(value, "message", None) if rt.capture else None
        yield str(call_id), _Said(decision, _text(text), str(named.get(call_id) or "program"))
    for call_id, value in (results.calls or {}).items():
        text = getattr(value, "return_value", value) if rt.capture else None
        yield str(call_id), _Said("answered", _text(text), str(named.get(call_id) or "program"))


_FLAGS: Final = (True, False)


def _text(value: Any) -> str | None:
    return None if value is None else value if isinstance(value, str) else tool_text(value)


# ---------------------------------------------------------------------- going on


async def resume(rt: Runtime, given: dict[str, Any]) -> Resumed | None:
    """Close the waits whose results an agent is given; return where it goes on.

    Args:
        rt: The runtime.
        given: The keyword arguments of `Agent.iter`.

    """
    results = given.get("deferred_tool_results")
    try:
        return None if results is None else await _resume(rt, results, given)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("deferred results", error)
        return None


async def _resume(rt: Runtime, results: Any, given: dict[str, Any]) -> Resumed:
    context: Context | None = None
    links: list[SpanContext] = []
    for call_id, said in _said(rt, results):
        wait = _pending.take(call_id)
        if wait is None or wait.ended:
            known = await _known(rt, call_id)
            _close_elsewhere(rt, call_id, said, given, known)
            if known is not None:
                links.append(_span_of(known))
            continue
        links.append(wait.span.get_span_context())
        context = context or _beside(wait)
        wait.resolve(said.decision, said.text, by=said.by)
        wait.end()
    return Resumed(context, links)


def _beside(wait: HumanScope) -> Context | None:
    """Return where the agent stood that asked, for one that goes on outside any scope."""
    if current_frame() is not None:
        return None
    ids: Ids = copy(wait.frame.ids)
    ids.agent_id, ids.agent, ids.parent_agent_id = ids.parent_agent_id, None, None
    context = otel_context.set_value(FRAME_KEY, Frame(ids, stamp_of(ids), Counts()))
    asker = wait.parent
    if asker is None or get_current_span().get_span_context().is_valid:
        return context
    above = asker.parent if asker.parent is not None else asker
    span = NonRecordingSpan(above.span.get_span_context())
    return set_span_in_context(span, context)


async def _known(rt: Runtime, call_id: str) -> dict[str, Any] | None:
    """Look up the open wait of a call that another process left, where waits are kept.

    In a thread: a server or store may take a while. By the call alone outside any run.
    """
    find = getattr(rt.answers, "find", None)
    if find is None:
        return None
    frame = current_frame()
    run_id = None if frame is None else frame.ids.run_id
    found: dict[str, Any] | None = await asyncio.to_thread(
        find, scope_id_of(run_id, call_id) if run_id else call_id
    )
    ended = found is not None and found["closed_at"] is not None
    return None if found is None or ended or found["tool_call_id"] != call_id else found


def _span_of(known: dict[str, Any]) -> SpanContext:
    trace_id, span_id = int(known["trace_id"] or "0", 16), int(known["span_id"] or "0", 16)
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(1))


def _close_elsewhere(
    rt: Runtime,
    call_id: str,
    said: _Said,
    given: dict[str, Any],
    known: dict[str, Any] | None,
) -> None:
    """Tell of the end of a wait that began in another process of this run.

    `known` is the wait as the store or server has it, where one is asked.
    """
    frame = current_frame()
    ids = Ids() if frame is None else copy(frame.ids)
    if known is not None:
        for field in ("run_id", "workflow", "phase", "agent", "task_id"):
            setattr(ids, field, known[field])
    pipeline = rt.pipeline
    if not ids.run_id or pipeline is None:
        return
    attributes = {
        WAIT_ID.key: cut(call_id, _NAME),
        WAIT_TOOL_CALL.key: cut(call_id, _NAME),
        DECISION.key: said.decision,
        ANSWERED_BY.key: cut(said.by, _NAME),
        RESULT.key: "success",
    }
    if said.text:
        attributes[ANSWER.key] = cut(str(redact("", said.text)))
    tool = _tool_of(call_id, given.get("message_history"))
    if tool:
        attributes[WAIT_TOOL.key] = tool
    pipeline.emit(
        Signal(
            id=signal_id(),
            kind=_HUMAN.name,
            edge="end",
            time=time.time_ns(),
            scope_id=scope_id_of(ids.run_id, call_id) if known is None else known["scope_id"],
            name=tool,
            ids=ids,
            result="success",
            attributes=attributes,
            pid=os.getpid(),
            host=here(),
        )
    )


def _tool_of(call_id: str, history: Any) -> str:
    """Return the name of the tool of a call in a run's messages, "" where it is not there."""
    for message in reversed(history or ()):
        for part in message.parts:
            if getattr(part, "tool_call_id", None) == call_id:
                return cut(str(plain(part.tool_name)), _NAME)
    return ""


def link(scope: Scope, links: list[SpanContext]) -> None:
    """Link an agent to the waits that it goes on from, and its run where that is another trace."""
    run = scope.around("run")
    for one in links:
        scope.span.add_link(one)
        if run is not None and run.span.get_span_context().trace_id != one.trace_id:
            run.span.add_link(one)
