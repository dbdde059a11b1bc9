"""The scopes of a multi-agent program, each usable as `with`, `async with` and decorator.

    with run("shop", work_order_id="o-17"):
        with phase("review"):
            ...

    @agent("planner")
    async def plan(order): ...

Every maker takes `(name=None, *, id=None, attributes=None, **fields)`; the fields of each kind
stand in `vocabulary.KINDS`. Runs, phases, agents and tasks take a `budget` too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, overload

from otel_agents.boundary import caught
from otel_agents.context import current_frame
from otel_agents.errors import SettingsError
from otel_agents.humans import HumanScope
from otel_agents.scope import Scope
from otel_agents.tasks import TaskScope
from otel_agents.tool_call import ToolCall
from otel_agents.values import coerce
from otel_agents.vocabulary import KINDS, Kind
from otel_agents.workers import WorkerScope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_agents.budget import Budget

_F = TypeVar("_F", bound="Callable[..., Any]")


_S = TypeVar("_S", bound=Scope)
# The kinds that do more than a scope does by itself.
_CLASSES: Final[dict[str, type[Scope]]] = {
    "human": HumanScope,
    "task": TaskScope,
    "tool": ToolCall,
    "worker": WorkerScope,
}


def scope_class(kind: Kind) -> type[Scope]:
    """Return the class of a kind's scopes."""
    return _CLASSES.get(kind.name, Scope)


class ScopeMaker(Generic[_S]):
    """Makes scopes of one kind: `run("shop")`, `@run("shop")`, or `@run` right on a function."""

    def __init__(self, kind: Kind, made: type[_S]) -> None:
        self.kind = kind
        self._made = made

    @overload
    def __call__(self, name: _F, /) -> _F: ...

    @overload
    def __call__(
        self,
        name: str | None = None,
        *,
        id: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        budget: Budget | None = None,
        **fields: Any,
    ) -> _S: ...

    def __call__(
        self,
        name: Any = None,
        *,
        id: str | None = None,  # noqa: A002 - the public name of the parameter
        attributes: Mapping[str, Any] | None = None,
        budget: Budget | None = None,
        **fields: Any,
    ) -> Any:
        """Return a scope, or the decorated function where one is given instead of a name."""
        if callable(name):
            named = getattr(name, "__name__", None)
            return self._make(named if isinstance(named, str) else None)(name)
        return self._make(name, id, attributes, fields, budget)

    def _make(
        self,
        name: Any,
        given_id: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        fields: dict[str, Any] | None = None,
        budget: Budget | None = None,
    ) -> _S:
        try:
            if budget is not None:
                fields = {**self._limits(budget, name), **(fields or {})}
            # A foreign object is named by its class: its `__str__` is not called.
            text = name if name is None or type(name) is str else coerce(name, str)
            return self._made(self.kind, text, id=given_id, attributes=attributes, fields=fields)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught(f"{self.kind.name} scope", error)
            return self._made(self.kind)  # with nothing in it that could fail

    def _limits(self, budget: Budget, name: Any) -> dict[str, Any]:
        """Return the fields of a budget that is the scope's own; another one is reported."""
        kind = self.kind.name
        if budget.scope in {"run", kind} and budget.name in {None, name}:
            return budget.fields()
        of = f"{budget.scope} {budget.name or ''}".rstrip()
        message = f"{kind}: a budget given here is the scope's own; one of {of} is for the settings"
        caught(f"{kind} field budget", SettingsError(message))
        return {}


run: Final = ScopeMaker(KINDS["run"], Scope)
iteration: Final = ScopeMaker(KINDS["iteration"], Scope)
phase: Final = ScopeMaker(KINDS["phase"], Scope)
agent: Final = ScopeMaker(KINDS["agent"], Scope)
task: Final = ScopeMaker(KINDS["task"], TaskScope)
tool: Final = ScopeMaker(KINDS["tool"], ToolCall)
gate: Final = ScopeMaker(KINDS["gate"], Scope)
delivery: Final = ScopeMaker(KINDS["delivery"], Scope)
validation: Final = ScopeMaker(KINDS["validation"], Scope)
worker: Final = ScopeMaker(KINDS["worker"], WorkerScope)
human: Final = ScopeMaker(KINDS["human"], HumanScope)
waiting_for_human: Final = human
"""`human` under the name that reads well in a `with`."""


def current() -> Scope | None:
    """Return the innermost open scope of this process, or None outside any."""
    frame = current_frame()
    scope = None if frame is None else frame.scope
    return scope if isinstance(scope, Scope) else None


def progress(done: float, total: float | None = None) -> None:
    """Say how much of the current scope's work is done; outside any scope nothing happens."""
    scope = current()
    if scope is not None:
        scope.progress(done, total)
