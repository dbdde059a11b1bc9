"""The program with us and without us: the same code, twice."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import otel_agents as oa
from otel_agents import agent_logs, logs
from otel_agents.boundary import boundary
from otel_agents.instrument.pydantic_graph import PydanticGraph
from otel_agents.instrument.seams import _MARK
from otel_agents.instrument.targets import Targets
from otel_agents.instrumentor import OtelAgentsInstrumentor
from otel_agents.settings import Wrap
from otel_agents.testing import Captured, capture
from otel_agents.workspace import create
from tests.boundary.workload import Host, nothing

if TYPE_CHECKING:
    from collections.abc import Iterator

SHOP: Final = Path(__file__).parent / "programs" / "shop.py"
GRAPHS: Final = Path(__file__).parent.parent / "instrument" / "programs" / "graphs.py"
BARE: Final = "boundary_bare"
WRAPPED: Final = "boundary_shop"
WRAPS: Final = [
    Wrap(
        target=f"{WRAPPED}:order", scope="run", name="shop {order_id}",
        fields={"run_id": "{order_id}", "goal": "{how}"}, attributes={"kept": "{result[id]}"},
    ),
    Wrap(target=f"{WRAPPED}:checked", scope="gate", fields={"passed": "{result.passed}"}),
    Wrap(target=f"{WRAPPED}:ship", scope="agent", name="ship", fields={"agent_id": "{order_id}"}),
    Wrap(target=f"{WRAPPED}:pages", scope="phase", attributes={"count": "{count}"}),
    Wrap(target=f"{WRAPPED}:events", scope="task", fields={"task_id": "t-{count}"}),
    Wrap(target=f"{WRAPPED}:Desk.serve", scope="tool", name="{self.name}"),
    Wrap(target=f"{WRAPPED}:Desk.opened", scope="phase", name="{cls.name}"),
    Wrap(target=f"{WRAPPED}:Desk.closed", scope="phase", name="{name}"),
    Wrap(target=f"{WRAPPED}:Late.serve", scope="phase", name="{guest}"),
]  # fmt: skip


def load(name: str, path: Path = SHOP) -> ModuleType:
    """Import a program under a name, anew."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def public() -> Any:
    """Return the package's names, and those of `logs`, as a program uses them."""
    found = {name: getattr(oa, name) for name in oa.__all__}
    return SimpleNamespace(**found, JsonFormatter=logs.JsonFormatter, correlate=logs.correlate)


def bare(loop: asyncio.AbstractEventLoop) -> Host:
    """Return the program without us."""
    graphs = load("boundary_bare_graphs", GRAPHS)
    return Host(nothing(), load(BARE), loop, graphs=graphs, imported=lambda: load(BARE))


class Ours:
    """The program with us, and what we recorded of it."""

    def __init__(self, host: Host, captured: Captured, originals: set[CodeType]) -> None:
        self.host = host
        self.captured = captured
        self.originals = originals


@contextmanager
def instrumented(loop: asyncio.AbstractEventLoop, directory: Path) -> Iterator[Ours]:
    """Instrument the process with everything that reaches into a program."""
    workspace = create(directory)[0]
    budgets = [oa.Budget(scope="run", tokens=5), oa.Budget(scope="agent", usd=1e-9)]
    prices = {"priced": {"input": 1.0, "output": 2.0}}
    strict, boundary.strict = boundary.strict, False
    graphs = PydanticGraph()
    targets = Targets(WRAPS)
    with capture(prices=prices, content=True, budgets=budgets) as captured:
        graphs.install()
        targets.install()
        agent_logs.install(workspace, capture_stdout=True)
        captured.runtime.log_file = lambda agent: {"file": agent_logs.file_of(agent)}
        module = load(WRAPPED)
        # The loader runs no import hooks: it is told as an import would tell.
        targets._imported(WRAPPED, module)

        def imported() -> ModuleType:
            again = load(WRAPPED)
            targets._imported(WRAPPED, again)
            return again

        steps = load("boundary_graphs", GRAPHS)
        host = Host(public(), module, loop, graphs=steps, imported=imported)
        try:
            yield Ours(host, captured, _originals())
        finally:
            agent_logs.uninstall()
            targets.uninstall()
            graphs.uninstall()
            boundary.strict = strict
            sys.modules.pop(WRAPPED, None)


def _originals() -> set[CodeType]:
    """Return the code of what our seams stand in front of: the program's, or what it called."""
    found = {
        getattr(original, "__code__", None)
        for owner, name, *_ in OtelAgentsInstrumentor().seams._replaced
        if (original := getattr(vars(owner).get(name), _MARK, None)) is not None
    }
    found.add(agent_logs._state["before"].__code__)
    found.add(threading.Thread.run.__code__)
    return {code for code in found if code is not None}
