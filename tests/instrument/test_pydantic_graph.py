"""pydantic-graph without a line changed: a graph's run is a run, its nodes and steps are phases."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
import types
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import otel_agents as oa
from otel_agents import runtime
from otel_agents.boundary import boundary
from otel_agents.instrument.pydantic_graph import PydanticGraph

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_agents.testing import Captured

pytest.importorskip("pydantic_graph", reason="pydantic-graph is not installed")

PROGRAMS = Path(__file__).parent / "programs"
VERSION = version("pydantic-graph")
older = pytest.mark.skipif(
    not VERSION.startswith("1."), reason="pydantic-graph's older API ends with 1.x"
)


@pytest.fixture
def instrumented() -> Iterator[PydanticGraph]:
    """Have pydantic-graph wrapped before the programs build their graphs."""
    found = PydanticGraph()
    found.install()
    yield found
    found.uninstall()


@pytest.fixture
def spans(instrumented: PydanticGraph, caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    """Give the finished spans; a context that is not put back in order fails the test."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    runtime.put(runtime.Runtime(tracer_provider=provider))
    with caplog.at_level(logging.DEBUG, "opentelemetry.context"):
        yield exporter
    assert [one for one in caplog.records if one.name == "opentelemetry.context"] == []
    assert trace.get_current_span() is trace.INVALID_SPAN


def program(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(PROGRAMS))
    sys.modules.pop(name, None)
    return importlib.import_module(name)


@pytest.fixture
def graphs(spans: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    return program("graphs", monkeypatch)


@pytest.fixture
def old(spans: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # late versions of 1.x say that it will go
        return program("graphs_older", monkeypatch)


def tree(spans: Any) -> str:
    """Return the spans as an indented tree of names, in the order they started."""
    found = sorted(spans.get_finished_spans(), key=lambda span: span.start_time)
    lines: list[str] = []

    def draw(parent: int | None, depth: int) -> None:
        for span in found:
            if (span.parent.span_id if span.parent else None) == parent:
                result = span.attributes["otelagents.result"]
                suffix = "" if result == "success" else f" ({result})"
                lines.append("  " * depth + span.name + suffix)
                draw(span.context.span_id, depth + 1)

    draw(None, 0)
    return "\n".join(lines)


DIGEST = "invoke_workflow digest\n  phase plan\n  phase write"
REVIEW = "invoke_workflow review\n  phase Draft\n  phase Review\n  phase Draft\n  phase Review"
# How each kind of graph is run, what comes out, and the scopes it makes; the last one works.
KINDS: dict[str, tuple[Callable[[Any, Any], Any], int, str]] = {
    "steps": (lambda m, job: m.digest.run(state=job, inputs=4), 10, DIGEST),
    "nodes": (lambda m, job: m.declarative().run(state=job, inputs=m.Draft(1)), 3, REVIEW),
}


@pytest.fixture(params=list(KINDS))
def run(request: pytest.FixtureRequest, graphs: Any) -> tuple[Callable[[Any], Any], int, str]:
    """Give a coroutine function of a job, its result, and its tree."""
    call, result, scopes = KINDS[request.param]
    return (lambda job: call(graphs, job)), result, scopes


# ---------------------------------------------------------------------- ok, error, cancelled


def test_a_run_that_succeeds(run: Any, graphs: Any, spans: Any) -> None:
    """Each step and node is a phase of the run, in the order they were reached."""
    call, result, scopes = run
    inside = []
    job = graphs.Job(note=lambda: inside.append(trace.get_current_span().name))

    assert asyncio.run(call(job)) == result
    assert tree(spans) == scopes
    assert set(inside) == {scopes.splitlines()[-1].strip()}


def test_a_run_that_fails(run: Any, graphs: Any, spans: Any) -> None:
    """The exception is the very object; the phase and the run are errors of its class."""
    call, _, scopes = run
    job = graphs.Job("error")
    with pytest.raises(ValueError, match="no such chapter") as raised:
        asyncio.run(call(job))

    assert raised.value is job.error
    *_, phase, workflow = spans.get_finished_spans()
    assert phase.name == scopes.splitlines()[-1].strip()
    assert workflow.name == scopes.splitlines()[0]
    for span in (phase, workflow):
        assert span.attributes["otelagents.result"] == "error"
        assert span.attributes["error.type"] == "ValueError"
        assert span.status.status_code is StatusCode.ERROR


def test_a_run_that_is_cancelled(run: Any, graphs: Any, spans: Any) -> None:
    """A cancelled run and the phase it was in are cancelled, and neither is an error."""
    call, _, _ = run
    job = graphs.Job("cancel")

    async def cancel() -> None:
        task = asyncio.ensure_future(call(job))
        await job.started.wait()
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancel())

    *_, phase, workflow = spans.get_finished_spans()
    for span in (phase, workflow):
        assert span.attributes["otelagents.result"] == "cancellation"
        assert span.status.status_code is StatusCode.UNSET


@pytest.mark.skipif(VERSION.startswith("1."), reason="the builder API has run_sync since 2.0")
def test_a_run_without_a_loop(graphs: Any, spans: Any) -> None:
    """`run_sync` is the same run."""
    with asyncio.Runner() as runner:
        asyncio.set_event_loop(runner.get_loop())
        assert graphs.digest.run_sync(state=graphs.Job(), inputs=4) == 10
    asyncio.set_event_loop(None)
    assert tree(spans) == DIGEST


# ---------------------------------------------------------------------- nesting


def test_a_graph_inside_a_run_is_a_phase_of_it(graphs: Any, spans: Any) -> None:
    """One order stays one run, with one count and one end."""

    async def order() -> None:
        async with oa.run("shop"), oa.iteration():
            await graphs.digest.run(state=graphs.Job(), inputs=1)

    asyncio.run(order())
    assert tree(spans) == (
        "invoke_workflow shop\n  iteration\n    phase digest\n      phase plan\n      phase write"
    )


def test_a_graph_inside_a_lone_agent_is_a_phase(graphs: Any, spans: Any) -> None:
    """An agent outside any run is looked up as a run, and what its tools run belongs to it."""

    async def ask() -> None:
        async with oa.agent("clerk"), oa.tool("digest"):
            await graphs.digest.run(state=graphs.Job(), inputs=1)

    asyncio.run(ask())
    assert tree(spans).splitlines()[:3] == [
        "invoke_agent clerk", "  execute_tool digest", "    phase digest",
    ]  # fmt: skip


def test_fifty_mapped_steps_are_fifty_siblings(graphs: Any, spans: Any) -> None:
    """Steps side by side are phases of the one run, each current in its own task only."""
    inside = set()
    job = graphs.Job(note=lambda: inside.add(trace.get_current_span().get_span_context().span_id))
    found = asyncio.run(graphs.side_by_side.run(state=job, inputs=50))

    assert sorted(found) == list(range(50))
    ones = [span for span in spans.get_finished_spans() if span.name == "phase one"]
    workflow = spans.get_finished_spans()[-1]
    assert workflow.name == "invoke_workflow many"
    assert {span.parent.span_id for span in ones} == {workflow.context.span_id}
    assert inside == {span.context.span_id for span in ones}
    assert len(inside) == 50


@pytest.mark.parametrize(("how", "result"), [("ok", "success"), ("error", "error")])
def test_a_stream_is_a_phase_while_it_is_read(
    graphs: Any, spans: Any, how: str, result: str
) -> None:
    """A step that streams does its work later than its call, and its phase lasts as long."""
    inside = []
    job = graphs.Job(how, lambda: inside.append(trace.get_current_span().name))
    failed = None
    try:
        assert sorted(asyncio.run(graphs.stream.run(state=job, inputs=3))) == [0, 1, 2]
    except ValueError as error:
        failed = error

    assert failed is (job.error if how == "error" else None)
    assert set(inside) == {"phase lines"}
    phase = next(span for span in spans.get_finished_spans() if span.name == "phase lines")
    assert phase.attributes["otelagents.result"] == result


def test_agents_of_pydantic_ai_are_not_graphs(spans: Any) -> None:
    """pydantic-ai drives its agents with a graph of its own, which is no run of the user's."""
    agents = pytest.importorskip("pydantic_ai", reason="pydantic-ai is not installed")
    from pydantic_ai.models.test import TestModel

    agent = agents.Agent(TestModel(custom_output_text="done"))
    found = asyncio.run(agent.run("do"))

    assert found.output == "done"
    assert spans.get_finished_spans() == ()


def test_agents_inside_steps_are_inside_their_phases(
    instrumented: PydanticGraph, captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that a step asks stands below the step's phase, with its model call."""
    agents = pytest.importorskip("pydantic_ai", reason="pydantic-ai is not installed")
    from pydantic_ai.models.test import TestModel

    graphs = program("graphs", monkeypatch)
    writer = agents.Agent(TestModel(custom_output_text="done"), name="writer")
    builder = graphs.GraphBuilder(name="story", output_type=str)

    @builder.step
    async def write(ctx: Any) -> str:
        return (await writer.run("write")).output

    builder.add(
        builder.edge_from(builder.start_node).to(write),
        builder.edge_from(write).to(builder.end_node),
    )
    assert asyncio.run(builder.build().run()) == "done"
    assert captured.tree() == (
        "invoke_workflow story\n  phase write\n    invoke_agent writer\n      chat test"
    )
    assert captured.metric("otelagents.runs.completed", workflow="story", result="succeeded") == 1


# ---------------------------------------------------------------------- by hand, step by step


def test_a_run_that_is_driven_by_hand(graphs: Any, spans: Any) -> None:
    """`iter` has the run current in its block, and what was current before after it."""

    async def drive() -> None:
        with oa.task("mine", id="t") as mine:
            async with graphs.digest.iter(state=graphs.Job(), inputs=4) as steps:
                current = trace.get_current_span()
                assert current is not mine.span
                async for _ in steps:
                    assert trace.get_current_span() is current
            assert trace.get_current_span() is mine.span

    asyncio.run(drive())
    assert tree(spans).splitlines() == [
        "task mine", *(f"  {line}" for line in DIGEST.splitlines()),
    ]  # fmt: skip


def test_a_run_that_is_left_early(graphs: Any, spans: Any) -> None:
    """A run that is left before its end is cancelled; the phases that ran are done."""

    async def drive() -> None:
        async with graphs.digest.iter(state=graphs.Job(), inputs=4) as steps:
            async for _ in steps:
                if any(span.name == "phase plan" for span in spans.get_finished_spans()):
                    break

    asyncio.run(drive())
    assert tree(spans).splitlines()[0] == "invoke_workflow digest (cancellation)"


def test_a_run_that_another_task_closes(graphs: Any, spans: Any) -> None:
    """The closing is refused by anyio; the span ends once, and that task keeps its own context."""

    async def main() -> None:
        steps = graphs.digest.iter(state=graphs.Job(), inputs=4)
        with oa.task("closer", id="t") as closer:
            await asyncio.create_task(steps.__aenter__())
            with pytest.raises(RuntimeError, match="cancel scope"):
                await steps.__aexit__(None, None, None)
            assert trace.get_current_span() is closer.span

    asyncio.run(main())
    assert [span.name for span in spans.get_finished_spans()] == [
        "invoke_workflow digest", "task closer",
    ]  # fmt: skip


def test_a_graph_without_a_name_still_finds_it(graphs: Any, spans: Any) -> None:
    """pydantic-graph names a graph after its variable in the calling frame, and still does."""

    async def main() -> None:
        my_graph = graphs.unnamed()
        assert await my_graph.run(state=graphs.Job(), inputs=1) == 1
        assert my_graph.name == "my_graph"
        by_hand = graphs.unnamed()
        async with by_hand.iter(state=graphs.Job(), inputs=1) as steps:
            async for _ in steps:
                pass
        assert by_hand.name == "by_hand"

    asyncio.run(main())
    assert tree(spans) == (
        "invoke_workflow my_graph\n  phase only\ninvoke_workflow by_hand\n  phase only"
    )


# ---------------------------------------------------------------------- the older API


@older
@pytest.mark.parametrize("how", ["ok", "error", "cancel"])
def test_the_older_api(old: Any, spans: Any, how: str) -> None:
    """Runs and nodes of the older API end as they end."""
    job = old.Job(how)

    async def main() -> Any:
        task = asyncio.create_task(old.review.run(old.Draft(1), state=job))
        if how == "cancel":
            await job.started.wait()
            task.cancel()
        return await task

    if how == "ok":
        assert asyncio.run(main()).output == 3
        assert tree(spans) == REVIEW
        return
    with pytest.raises((ValueError, asyncio.CancelledError)) as raised:
        asyncio.run(main())
    assert how == "cancel" or raised.value is job.error
    result = {"error": "error", "cancel": "cancellation"}[how]
    assert tree(spans) == (
        f"invoke_workflow review ({result})\n  phase Draft\n  phase Review ({result})"
    )


@older
def test_the_older_api_by_hand(old: Any, spans: Any) -> None:
    """`iter` and `next`, a run that is left early, and a run without a loop."""

    async def drive() -> None:
        async with old.review.iter(old.Draft(1), state=old.Job()) as steps:
            assert isinstance(await steps.next(steps.next_node), old.Review)

    asyncio.run(drive())
    assert tree(spans) == "invoke_workflow review (cancellation)\n  phase Draft"
    spans.clear()
    with asyncio.Runner() as runner:
        asyncio.set_event_loop(runner.get_loop())
        assert old.review.run_sync(old.Draft(1), state=old.Job()).output == 3
    asyncio.set_event_loop(None)
    assert tree(spans) == REVIEW


@older
def test_the_older_api_still_finds_a_name(old: Any, spans: Any) -> None:
    """A graph without a name takes it from the calling frame, ours not being one."""

    async def main() -> None:
        mine = old.unnamed
        async with mine.iter(old.Draft(3), state=old.Job()) as steps:
            async for _ in steps:
                pass
        assert mine.name == "mine"

    asyncio.run(main())
    assert tree(spans).startswith("invoke_workflow mine\n")


@older
def test_the_older_api_refuses_what_it_refused(old: Any, spans: Any) -> None:
    """What is no node is refused in pydantic-graph's own words."""

    async def main() -> None:
        async with old.review.iter(old.Draft(1), state=old.Job()) as steps:
            await steps.next("no node")

    with pytest.raises((TypeError, AttributeError)):
        asyncio.run(main())


# ---------------------------------------------------------------------- on and off


def everything() -> list[tuple[str, str, int]]:
    """Return what stands in every class of pydantic-graph that is loaded."""
    return [
        (f"{module}.{cls.__name__}", name, id(one))
        for module in sorted(sys.modules)
        if module.startswith("pydantic_graph")
        for cls in vars(sys.modules[module]).values()
        if isinstance(cls, type)
        for name, one in vars(cls).items()
    ]


def test_the_originals_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `uninstall` every class holds the very objects it held before."""
    program("graphs", monkeypatch)
    before = everything()
    instrumented = PydanticGraph()
    instrumented.install()
    assert everything() != before
    instrumented.uninstall()

    assert everything() == before


def test_installing_twice_counts_once(graphs: Any, spans: Any, instrumented: PydanticGraph) -> None:
    """Neither a second `install` nor a second instrumentor makes a second run."""
    instrumented.install()
    other = PydanticGraph()
    other.install()
    asyncio.run(graphs.digest.run(state=graphs.Job(), inputs=4))
    other.uninstall()

    assert tree(spans) == DIGEST


def test_a_step_is_still_its_function(graphs: Any) -> None:
    """What pydantic-graph and programs read of a step's function is there."""
    call = graphs.plan.call

    assert call.__name__ == "plan"
    assert call.__wrapped__ is graphs.plan._call
    assert call.__annotations__ == graphs.plan._call.__annotations__


def test_what_is_switched_off_makes_no_spans(graphs: Any, spans: Any) -> None:
    """A disabled runtime leaves graphs alone, and each step is its own function."""
    runtime.put(runtime.Runtime(disabled=True))

    assert asyncio.run(graphs.digest.run(state=graphs.Job(), inputs=4)) == 10
    assert graphs.plan.call is graphs.plan._call
    assert spans.get_finished_spans() == ()


class Broken:
    """A runtime of which nothing works."""

    @property
    def disabled(self) -> bool:
        message = "broken"
        raise RuntimeError(message)


def test_broken_telemetry_is_never_the_programs(
    graphs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results and exceptions come out as they were, whatever is broken of ours."""
    monkeypatch.setattr(boundary, "strict", False)
    runtime.put(Broken())
    job = graphs.Job("error")

    assert asyncio.run(graphs.digest.run(state=graphs.Job(), inputs=4)) == 10
    with pytest.raises(ValueError, match="no such chapter") as raised:
        asyncio.run(graphs.digest.run(state=job, inputs=4))
    assert raised.value is job.error


def test_what_doctor_is_told(graphs: Any, instrumented: PydanticGraph) -> None:
    """The installed version, and that its graphs are shown."""
    name = f"pydantic-graph {VERSION}"

    assert instrumented.report() == [
        (name, "applied", f"{name}: graphs are runs, their nodes and steps phases.")
    ]


def test_a_version_that_moved_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A class or method that is not where it was costs a sentence and no import."""
    importlib.import_module("pydantic_graph")
    for name in [name for name in sys.modules if name.startswith("pydantic_graph.")]:
        monkeypatch.delitem(sys.modules, name)
    moved = types.ModuleType("pydantic_graph.step")
    moved.Step = type("Step", (), {})  # type: ignore[attr-defined]
    instrumented = PydanticGraph()
    instrumented.install()
    name = f"pydantic-graph {VERSION}"
    nothing = f"{name} has none of the classes that are wrapped; its graphs are not shown."
    assert instrumented.report() == [(name, "failed", nothing)]

    instrumented._imported("pydantic_graph.step", moved)
    said = "pydantic_graph.step.Step.call is not there, so not all of a graph is shown."
    assert instrumented.report() == [(name, "failed", f"{name}: {said}")]
    assert [one.getMessage() for one in caplog.records] == [f"otel-agents: pydantic-graph: {said}"]
    instrumented.uninstall()


def test_without_graphs_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that has no graphs does not load pydantic-graph for us."""
    monkeypatch.delitem(sys.modules, "pydantic_graph", raising=False)
    instrumented = PydanticGraph()
    instrumented.install()

    assert "pydantic_graph" not in sys.modules
    assert instrumented.report() == [
        ("pydantic-graph", "waiting", "pydantic-graph has not been imported.")
    ]
    instrumented.uninstall()
