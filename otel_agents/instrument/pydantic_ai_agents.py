"""Agents of pydantic-ai: the scope of one attempt, current inside `async with agent.iter(...)`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from otel_agents import runtime
from otel_agents.boundary import caught
from otel_agents.context import current_frame
from otel_agents.drive import begin
from otel_agents.instrument import pydantic_ai_deferred as deferred
from otel_agents.instrument import pydantic_ai_restore as restores
from otel_agents.model_call import settle
from otel_agents.scope import Scope
from otel_agents.values import plain
from otel_agents.vocabulary import AGENT_TOOLS, CONVERSATION_ID, KINDS, PROVIDER, REQUEST_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from opentelemetry.context import Context

    from otel_agents.humans import HumanScope

AGENT: Final = KINDS["agent"]
# What an agent ends with when the model's answers were refused too often.
_REFUSED: Final = "UnexpectedModelBehavior"
# Different tool calls of one attempt that are watched for repetition.
_MAX_CALLS: Final = 256
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


def _outside() -> Any:
    return None


# pydantic-ai's own look-up of the run that is going on; `install` sets it.
current_run: Callable[[], Any] = _outside
# The attempts that are under way, by the id of their run.
_under_way: Final[dict[str, AgentScope]] = {}


# Where `run_stream_sync` finds the scope of the agent that it starts.
_opened: Final[ContextVar[list[AgentScope] | None]] = ContextVar("otelagents-opened", default=None)


def watching() -> runtime.Runtime | None:
    """Return the runtime, or None where nothing is to be recorded."""
    try:
        rt = runtime.get()
        return None if rt.disabled or not is_instrumentation_enabled() else rt
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("runtime", error)
        return None


class AgentScope(Scope):
    """An agent's attempt, with the run of pydantic-ai's that it is about."""

    __slots__ = ("_calls", "asked", "run")

    def _reset(self) -> None:
        super()._reset()
        self.run: Any = None
        # The waits for humans that handlers in the run left unanswered, by tool call.
        self.asked: dict[str, HumanScope] = {}
        self._calls: dict[int, int] = {}

    def repeats(self, tool: str, arguments: Any) -> int:
        """Count a call of a tool; return how often the agent has made it, with these arguments.

        Only a hash is kept. Of a great many different calls the latest are not told apart: 0.
        """
        text = arguments if isinstance(arguments, str) else repr(arguments)
        key = hash((tool, text))
        count = self._calls.get(key, 0) + 1
        if count == 1 and len(self._calls) >= _MAX_CALLS:
            return 0
        self._calls[key] = count
        return count

    @property
    def history(self) -> list[Any]:
        """The run's messages so far, as pydantic-ai keeps them: not put into a model's words."""
        return [] if self.run is None else self.run.ctx.state.message_history


def nearest_agent() -> AgentScope | None:
    """Return the agent of pydantic-ai that the code here runs for."""
    frame = current_frame()
    scope = None if frame is None else frame.scope
    while scope is not None and not isinstance(scope, AgentScope):
        scope = scope.parent
    return scope


def context_of(run_context: Any) -> Context | None:
    """Return the context of the agent that a run is of, unless it is the current one.

    Two agents can be stepped in turn inside one another's blocks; what is current is then the one
    that was entered last.
    """
    scope = _under_way.get(getattr(run_context, "run_id", None) or "")
    return None if scope is None or scope is nearest_agent() else scope.context


def iter_(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `Agent.iter`."""

    @functools.wraps(original)
    def iter_(self: Any, *args: Any, **kwargs: Any) -> Any:
        inner = original(self, *args, **kwargs)
        return inner if watching() is None else _AgentContext(inner, self, kwargs)

    return iter_


def run_stream_sync(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `run_stream_sync` of the versions whose result cannot be closed (before 2.5).

    pydantic-ai leaves the agent's block open there: the attempt ends when the result is let go.
    """

    @functools.wraps(original)
    def run_stream_sync(self: Any, *args: Any, **kwargs: Any) -> Any:
        opened: list[AgentScope] = []
        token = _opened.set(opened)
        try:
            result = original(self, *args, **kwargs)
        finally:
            _opened.reset(token)
        if opened:
            weakref.finalize(result, _let_go, opened[0])
        return result

    return run_stream_sync


def _let_go(scope: AgentScope) -> None:
    _end_agent(scope, GeneratorExit() if _left_early(scope) else None)


class _AgentContext:
    """What `agent.iter` returns: its own context manager inside the scope of an attempt."""

    __slots__ = ("_agent", "_given", "_inner", "_loop", "_restore", "_scope")

    def __init__(self, inner: Any, agent: Any, given: dict[str, Any]) -> None:
        self._inner = inner
        self._agent = agent
        self._given = given
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scope: AgentScope | None = None
        self._restore: restores.Asked | None = None

    async def __aenter__(self) -> Any:
        self._restore = restores.claim()
        scope = self._scope = await _open_agent(self._agent, self._given)
        self._loop = asyncio._get_running_loop()  # noqa: SLF001 - the public one raises for none
        try:
            run = await self._inner.__aenter__()
        except BaseException as error:
            _end_agent(scope, error)
            raise
        _remember(scope, run)
        return run

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Any:
        scope = self._scope
        try:
            suppressed = await self._inner.__aexit__(kind, error, traceback)
        except BaseException as raised:
            # A block that its consumer left cannot always be closed cleanly: in another task than
            # the one that entered it, pydantic-ai fails. It was left all the same.
            _end_agent(scope, error if isinstance(error, GeneratorExit) else raised)
            raise
        if error is None and _left_early(scope):
            _end_agent(scope, GeneratorExit())
            return suppressed
        if error is None and scope is not None:
            try:
                if await restores.look(scope, self._restore, _end_agent):
                    self._scope = None  # it stays open for the attempts that follow
                    return suppressed
            except Exception as failure:  # noqa: BLE001 - telemetry never reaches the host
                caught("restore", failure)
            except BaseException as cancelled:
                _end_agent(scope, cancelled)
                raise
        _end_agent(scope, None if suppressed else error)
        return suppressed

    def __del__(self) -> None:
        """End what was entered and dropped.

        The garbage collector may run inside a lock of ours, so the loop does it.
        """
        scope, loop = getattr(self, "_scope", None), getattr(self, "_loop", None)
        if scope is not None and loop is not None and not scope.ended:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_end_agent, scope, GeneratorExit())


async def _open_agent(agent: Any, given: dict[str, Any]) -> AgentScope | None:
    scope = None
    try:
        name = agent.name
        scope = AgentScope(
            AGENT,
            name if isinstance(name, str) else None,
            known={**_asked(agent, given), **_tools(agent)},
        )
        rt = watching()
        resumed = None if rt is None else await deferred.resume(rt, given)
        context = None if resumed is None else resumed.context
        await begin(scope, functools.partial(scope.start, context))
        if resumed is not None and resumed.links and not scope.ended:
            deferred.link(scope, resumed.links)
        scope.attach()
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        if scope is not None:
            scope.end(error)
        caught("agent start", error)
        return None
    return scope


def _remember(scope: AgentScope | None, run: Any) -> None:
    try:
        if scope is not None and not scope.ended:
            scope.run = run
            _under_way[run.ctx.state.run_id] = scope
            opened = _opened.get()
            if opened is not None:
                opened.append(scope)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("agent run", error)


def _left_early(scope: AgentScope | None) -> bool:
    """Return whether a consumer left before the agent was done, having heard enough."""
    try:
        return scope is not None and scope.run is not None and scope.run.result is None
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("agent result", error)
        return False


def _end_agent(scope: AgentScope | None, error: BaseException | None) -> None:
    if scope is None:
        return
    scope.detach()
    left = None
    try:
        if not scope.ended:
            left = deferred.Left(scope.context, scope.asked, scope.run, error)
        if scope.run is not None:
            _under_way.pop(scope.run.ctx.state.run_id, None)
        rt = runtime.peek()
        if rt is not None and any(kind.__name__ == _REFUSED for kind in type(error).__mro__):
            settle(scope, rt, "failure")
    except Exception as failure:  # noqa: BLE001 - telemetry never reaches the host
        caught("agent end", failure)
    scope.end(error)
    scope.run = None
    if left is not None:
        deferred.leave(left)  # its waits outlive it: they begin when it is over


def watch_deferred(run_context: Any) -> tuple[Any, Context, dict[str, HumanScope]] | None:
    """Return what a handler's waits need of the agent of a run: None where none is recorded."""
    try:
        rt = watching()
        scope = _under_way.get(getattr(run_context, "run_id", None) or "") or nearest_agent()
        if rt is None or scope is None or scope.ended:
            return None
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("deferred calls", error)
        return None
    return rt, scope.context, scope.asked


# ---------------------------------------------------------------------- what an agent is told


def provider_of(model: Any) -> str:
    """Return a model's provider in the conventions' words; "" where it does not say."""
    system: object = getattr(model, "system", None)
    return _PROVIDERS.get(system, system) if isinstance(system, str) else ""


def model_and_provider(model: Any) -> tuple[str, str]:
    """Return a model's name and provider, of an object or of `provider:name`."""
    if isinstance(model, str):
        provider, _, name = model.rpartition(":")
        return name, _PROVIDERS.get(provider, provider)
    given: object = getattr(model, "model_name", None)
    return given if isinstance(given, str) else "", provider_of(model)


def _asked(agent: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Return the model and conversation that a run was given, or that the agent has."""
    found: dict[str, Any] = {}
    try:
        override = agent._override_model.get()  # noqa: SLF001 - `agent.override` has no other trace
        chosen = override.value if override else given.get("model") or agent.model
        name, provider = model_and_provider(chosen) if chosen is not None else ("", "")
        if name:
            found[REQUEST_MODEL.key] = name
        if provider:
            found[PROVIDER.key] = provider
        conversation = given.get("conversation_id")
        if isinstance(conversation, str) and conversation != "new":
            found[CONVERSATION_ID.key] = conversation
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("agent model", error)
    return found


def _tools(agent: Any) -> dict[str, Any]:
    try:
        sets = [getattr(toolset, "tools", None) for toolset in agent.toolsets]
        names = [name for tools in sets if isinstance(tools, dict) for name in tools]
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("agent tools", error)
        return {}
    return {AGENT_TOOLS.key: plain(names)} if names else {}
