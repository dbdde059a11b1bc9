"""Realtime sessions of pydantic-ai: an agent and one model call, as long as the session."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from otel_agents.boundary import caught
from otel_agents.drive import begin
from otel_agents.errors import BudgetExceeded
from otel_agents.instrument.pydantic_ai_agents import AGENT, model_and_provider, watching
from otel_agents.instrument.pydantic_ai_models import beyond
from otel_agents.model_call import ModelCall
from otel_agents.scope import Scope
from otel_agents.usage import Usage, from_pydantic_ai
from otel_agents.vocabulary import KINDS, PROVIDER, REQUEST_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


def session(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `AgentRealtime.session`."""

    @functools.wraps(original)
    def session(self: Any, *args: Any, **kwargs: Any) -> Any:
        inner = original(self, *args, **kwargs)
        return inner if watching() is None else _SessionContext(inner, self)

    return session


class _SessionContext:
    """What `session` returns: its own context manager inside the scopes of agent and call."""

    __slots__ = ("_before", "_call", "_inner", "_scope", "_session", "_source")

    def __init__(self, inner: Any, source: Any) -> None:
        self._inner = inner
        self._source = source
        self._scope: Scope | None = None
        self._call: ModelCall | None = None
        self._session: Any = None
        self._before: Usage | None = None

    async def __aenter__(self) -> Any:
        await self._open()
        try:
            session = self._session = await self._inner.__aenter__()
        except BaseException as error:
            self._end(error)
            raise
        self._before = _used(session)
        return session

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

    async def _open(self) -> None:
        try:
            agent = getattr(self._source, "_agent", None)
            name, provider = model_and_provider(getattr(self._source, "_model", None))
            known = {REQUEST_MODEL.key: name, PROVIDER.key: provider}
            scope = self._scope = Scope(
                AGENT,
                getattr(agent, "name", None),
                attributes={key: value for key, value in known.items() if value},
            )
            await begin(scope)
            scope.attach()
            call = self._call = ModelCall(
                KINDS["model"], name or None, fields={"provider": provider} if provider else {}
            )
            call.start()
        except BudgetExceeded as error:
            self._call = None
            self._end(error)
            raise
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("realtime start", error)

    def _end(self, error: BaseException | None) -> None:
        scope, call = self._scope, self._call
        if scope is not None:
            scope.detach()
        if call is not None:
            self._take_usage(call)
            by_consumer = error is not None and self._session is not None
            call.end(GeneratorExit() if by_consumer and not _is_the_models(error) else error)
        if scope is not None:
            scope.end(error)

    def _take_usage(self, call: ModelCall) -> None:
        try:
            used = _used(self._session)
            if used is not None and self._before is not None:
                more = beyond(used, self._before)
                # Not every provider's responses are requests; the session is one at least.
                call.answered(replace(more, requests=max(1, more.requests)))
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("realtime usage", error)


def _is_the_models(error: BaseException | None) -> bool:
    """Return whether an error that left a session is its connection's, not its consumer's."""
    return any(kind.__name__ == "ModelAPIError" for kind in type(error).__mro__)


def _used(session: Any) -> Usage | None:
    """Return what a session's own responses used so far.

    Before 2.68 it tells only a total, which agents that its tools run can share.
    """
    if session is None:
        return None
    try:
        own = getattr(session, "_span_usage", None)
        return from_pydantic_ai(session.usage if own is None else own)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("realtime usage", error)
        return None
