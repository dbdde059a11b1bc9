"""The scopes of a multi-agent program, each usable as `with`, `async with` and decorator.

    with run("shop", work_order_id="o-17"):
        with phase("review"):
            ...

    @agent("planner")
    async def plan(order): ...

Every maker takes `(name=None, *, id=None, attributes=None, **fields)`; the fields of each kind
stand in `vocabulary.KINDS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from otel_agents.context import current_frame
from otel_agents.scope import Scope
from otel_agents.vocabulary import KINDS, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_F = TypeVar("_F", bound="Callable[..., Any]")


class ScopeMaker:
    """Makes scopes of one kind: `run("shop")`, `@run("shop")`, or `@run` right on a function."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    @overload
    def __call__(self, name: _F, /) -> _F: ...

    @overload
    def __call__(
        self,
        name: str | None = None,
        *,
        id: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Scope: ...

    def __call__(
        self,
        name: Any = None,
        *,
        id: str | None = None,  # noqa: A002 - the public name of the parameter
        attributes: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Any:
        """Return a scope, or the decorated function where one is given instead of a name."""
        if callable(name):
            return Scope(self.kind, getattr(name, "__name__", None))(name)
        text = name if name is None or isinstance(name, str) else str(name)
        return Scope(self.kind, text, id=id, attributes=attributes, fields=fields)


run: Final = ScopeMaker(KINDS["run"])
iteration: Final = ScopeMaker(KINDS["iteration"])
phase: Final = ScopeMaker(KINDS["phase"])
agent: Final = ScopeMaker(KINDS["agent"])
task: Final = ScopeMaker(KINDS["task"])
tool: Final = ScopeMaker(KINDS["tool"])
gate: Final = ScopeMaker(KINDS["gate"])
delivery: Final = ScopeMaker(KINDS["delivery"])
validation: Final = ScopeMaker(KINDS["validation"])
worker: Final = ScopeMaker(KINDS["worker"])
human: Final = ScopeMaker(KINDS["human"])


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
