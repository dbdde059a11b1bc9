"""pydantic-graph, instrumented: a graph's run is a run, each of its nodes and steps a phase.

A graph that runs inside a run is a phase of it, so that one order stays one run. The graph that
pydantic-ai drives its agents with is not shown: an agent is one scope already.

The seams are `GraphRun` as a context manager and `Step.call` of the builder API, which exists from
1.75 on (as `pydantic_graph.beta` at first), and `Graph.iter` and `GraphRun.next` of the older API,
which ends with 1.x. `Graph.run` and `run_sync` of both go through them.
"""

from __future__ import annotations

import functools
import inspect
import sys
from types import AsyncGeneratorType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import wrapt

from otel_agents import runtime
from otel_agents.boundary import boundary, caught
from otel_agents.context import current_ids
from otel_agents.drive import begin, drive
from otel_agents.scope import Scope
from otel_agents.vocabulary import KINDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from otel_agents.instrument.targets import State

_RUN: Final = KINDS["run"]
_PHASE: Final = KINDS["phase"]
_SCOPE: Final = "_otelagents_scope"
_MARK: Final = "__otelagents__"


class PydanticGraph:
    """The wrappers on pydantic-graph, put there when its modules are imported."""

    def __init__(self) -> None:
        self._installed = False
        self._hooked: set[str] = set()
        self._replaced: list[_Replaced] = []
        self._wrong: list[str] = []

    def install(self) -> None:
        """Wrap what is imported, and what will be when it is; a second time does nothing."""
        if self._installed:
            return
        self._installed = True
        for module in _SEAMS:
            if module not in self._hooked:
                self._hooked.add(module)
                wrapt.register_post_import_hook(functools.partial(self._imported, module), module)

    def uninstall(self) -> None:
        """Put every original back, unless somebody else has replaced ours."""
        self._installed = False
        while self._replaced:
            owner, name, original, ours = self._replaced.pop()
            if vars(owner).get(name) is ours:
                setattr(owner, name, original)

    def report(self) -> list[tuple[str, State, str]]:
        """Return how pydantic-graph stands, as `Targets.report` does."""
        if "pydantic_graph" not in sys.modules:
            return [("pydantic-graph", "waiting", "pydantic-graph has not been imported.")]
        from importlib.metadata import PackageNotFoundError, version

        try:
            name = f"pydantic-graph {version('pydantic-graph')}"
        except PackageNotFoundError:
            name = "pydantic-graph"
        if self._wrong:
            return [(name, "failed", f"{name}: {' '.join(self._wrong)}")]
        if not self._replaced:
            sentence = f"{name} has none of the classes that are wrapped; its graphs are not shown."
            return [(name, "failed", sentence)]
        return [(name, "applied", f"{name}: graphs are runs, their nodes and steps phases.")]

    def _imported(self, name: str, module: Any) -> None:
        """Wrap what is in a module. What failed here would fail the program's import."""
        try:
            self._hooked.discard(name)
            if not self._installed:
                return
            for class_name, attribute, make in _SEAMS[name]:
                owner = vars(module).get(class_name)
                if owner is None and "__getattr__" in vars(module):
                    continue  # a name that is kept for old programs; the class is elsewhere
                self._replace(f"{name}.{class_name}.{attribute}", owner, attribute, make)
        except Exception as error:  # noqa: BLE001 - the program's import goes on
            caught(f"pydantic-graph {name}", error)

    def _replace(self, path: str, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        original = None if owner is None else vars(owner).get(name)
        if original is None:
            self._wrong.append(f"{path} is not there, so not all of a graph is shown.")
            boundary.warn("otel-agents: pydantic-graph: %s", self._wrong[-1])
            return
        if hasattr(getattr(original, "fget", original), _MARK):
            return
        ours = make(original)
        setattr(getattr(ours, "fget", ours), _MARK, True)
        setattr(owner, name, ours)
        self._replaced.append(_Replaced(owner, name, original, ours))


class _Replaced(NamedTuple):
    owner: Any
    name: str
    original: Any
    ours: Any


# ---------------------------------------------------------------------- runs


async def _open_run(graph: Any) -> Scope | None:
    """Open the scope of a graph's run and make it current, or return None where it has none."""
    try:
        nodes = getattr(graph, "nodes", None) or {}
        if runtime.get().disabled or any(_is_agents(node) for node in nodes.values()):
            return None
        ids = current_ids()
        kind = _RUN if ids is None or ids.run_id is None else _PHASE
        name = graph.name
        scope = Scope(kind, name if isinstance(name, str) else None)
        await begin(scope)
        scope.attach()
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("graph run", error)
        return None
    return scope


def _is_agents(node: Any) -> bool:
    """Say whether a node is one of the graph inside pydantic-ai's agents."""
    kind = getattr(node, "node_type", None) or type(node)
    return str(getattr(kind, "__module__", "")).startswith("pydantic_ai.")


def _close(scope: Scope | None, error: BaseException | None) -> None:
    if scope is not None:
        scope.detach()
        scope.end(error)


def _enter(original: Callable[[Any], Awaitable[Any]]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def __aenter__(self: Any) -> Any:  # noqa: N807 - its name
        scope = await _open_run(self.graph)
        setattr(self, _SCOPE, scope)
        try:
            return await original(self)
        except BaseException as error:
            _close(scope, error)
            raise

    return __aenter__


def _exit(original: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def __aexit__(  # noqa: N807 - its name
        self: Any,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Any:
        scope = self.__dict__.pop(_SCOPE, None)
        try:
            suppressed = await original(self, kind, error, traceback)
        except BaseException as raised:
            _close(scope, raised)
            raise
        _close(scope, None if suppressed else error or _left(self, "next_task", "EndMarker"))
        return suppressed

    return __aexit__


def _left(run: Any, ahead: str, end: str) -> GeneratorExit | None:
    """Return what a run that was left before its end counts as having been left by."""
    try:
        return None if type(getattr(run, ahead)).__name__ == end else GeneratorExit()
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("graph end", error)
        return None


def _iter(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def iter_(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.name is None and kwargs.get("infer_name", True):
            # It looks at its caller's variables, and from inside our context that would be us.
            self._infer_name(inspect.currentframe())
        return _IterContext(original(self, *args, **kwargs), self)

    return iter_


class _IterContext:
    """`async with graph.iter(...)` of the older API, with the scope of the run around it."""

    __slots__ = ("_inner", "_of", "_run", "_scope")

    def __init__(self, inner: Any, graph: Any) -> None:
        self._inner = inner
        self._of = graph
        self._run: Any = None
        self._scope: Scope | None = None

    async def __aenter__(self) -> Any:
        self._scope = await _open_run(self._of)
        try:
            self._run = await self._inner.__aenter__()
        except BaseException as error:
            _close(self._scope, error)
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
            _close(self._scope, raised)
            raise
        left = None if self._run is None else _left(self._run, "next_node", "End")
        _close(self._scope, None if suppressed else error or left)
        return suppressed


# ---------------------------------------------------------------------- nodes and steps


def _call(original: property) -> property:
    """Make a step's function one that runs as a phase."""

    def call(self: Any) -> Any:
        function = original.__get__(self)
        try:
            if runtime.get().disabled or _is_agents(self):
                return function
            return _as_phase(function, str(self.id))
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("graph step", error)
            return function

    return property(call, doc=original.__doc__)


def _as_phase(function: Callable[..., Awaitable[Any]], name: str) -> Callable[..., Awaitable[Any]]:
    # pydantic-graph reads the type hints of a step's function, which `wraps` leads it to.
    @functools.wraps(function)
    async def step(*args: Any, **kwargs: Any) -> Any:
        scope = await _open_phase(name)
        if scope is None:
            return await function(*args, **kwargs)
        scope.attach()
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            _close(scope, error)
            raise
        scope.detach()
        if type(result) is AsyncGeneratorType:
            # A stream: its work is done while it is read.
            return drive(scope, lambda: result, lazy=True)
        scope.end()
        return result

    return step


async def _open_phase(name: str) -> Scope | None:
    try:
        scope = Scope(_PHASE, name)
        await begin(scope)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("graph step", error)
        return None
    return scope


def _next(original: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def next_(self: Any, node: Any = None) -> Any:
        function: Callable[..., Awaitable[Any]] = original
        try:
            ahead = self.next_node if node is None else node
            if hasattr(ahead, "get_node_id") and not runtime.get().disabled:
                function = _as_phase(original, ahead.get_node_id())
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("graph node", error)
        return await function(self, node)

    return next_


_Seam = tuple[str, str, "Callable[[Any], Any]"]
_RUNS: Final[tuple[_Seam, ...]] = (
    ("GraphRun", "__aenter__", _enter),
    ("GraphRun", "__aexit__", _exit),
)
_STEPS: Final[tuple[_Seam, ...]] = (("Step", "call", _call),)
_SEAMS: Final[dict[str, tuple[_Seam, ...]]] = {
    "pydantic_graph.graph_builder": _RUNS,
    "pydantic_graph.step": _STEPS,
    "pydantic_graph.beta.graph": _RUNS,
    "pydantic_graph.beta.step": _STEPS,
    "pydantic_graph.graph": (
        ("Graph", "iter", _iter),
        ("Graph", "iter_from_persistence", _iter),
        ("GraphRun", "next", _next),
    ),
}
