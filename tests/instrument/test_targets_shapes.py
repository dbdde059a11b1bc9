"""One suite over every shape a target can have: its span, its outcome, and the host untouched."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import importlib
import inspect
import logging
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import otel_agents as oa
from otel_agents import runtime
from otel_agents.instrument.targets import Targets
from otel_agents.settings import Wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.sdk.trace import ReadableSpan

PROGRAMS = Path(__file__).parent / "programs"


class Shape(NamedTuple):
    """A target of the program `shapes`: how it is called, and what `self` or `cls` is there."""

    path: str
    kind: str
    call: Callable[[Any], Callable[..., Any]]
    receiver: str = ""
    name: str = "hand"


SHAPES = [
    Shape("work", "sync", lambda m: m.work),
    Shape("work_async", "async", lambda m: m.work_async),
    Shape("work_lines", "gen", lambda m: m.work_lines),
    Shape("work_lines_async", "asyncgen", lambda m: m.work_lines_async),
    Shape("Desk.work", "sync", lambda m: m.Desk().work, "self", "desk"),
    Shape("Desk.work_async", "async", lambda m: m.Desk().work_async, "self", "desk"),
    Shape("Desk.work_lines", "gen", lambda m: m.Desk().work_lines, "self", "desk"),
    Shape("Desk.work_lines_async", "asyncgen", lambda m: m.Desk().work_lines_async, "cls", "desk"),
    Shape(
        "Desk.Drawer.work_async", "async", lambda m: m.Desk.Drawer().work_async, "self", "drawer"
    ),
    Shape("Branch.work", "sync", lambda m: m.Branch().work, "self", "branch"),
    Shape("Branch.work_async", "async", lambda m: m.Branch().work_async, "self", "branch"),
    Shape("Branch.work_lines", "gen", lambda m: m.Branch().work_lines, "cls", "branch"),
    Shape(
        "Branch.work_lines_async",
        "asyncgen",
        lambda m: m.Branch().work_lines_async,
        "self",
        "branch",
    ),
    Shape("Office.work", "sync", lambda m: m.Office.work, "cls", "office"),
    Shape("Office.work_async", "async", lambda m: m.Office().work_async, "cls", "office"),
    Shape("Office.work_lines", "gen", lambda m: m.Office.work_lines, "cls", "office"),
    Shape(
        "Office.work_lines_async", "asyncgen", lambda m: m.Office.work_lines_async, "cls", "office"
    ),
    Shape("Office.static", "sync", lambda m: m.Office.static),
    Shape("Office.static_async", "async", lambda m: m.Office().static_async),
    Shape("Office.static_lines", "gen", lambda m: m.Office.static_lines),
    Shape("Office.static_lines_async", "asyncgen", lambda m: m.Office.static_lines_async),
    Shape("clerk", "sync", lambda m: m.clerk, "self", "clerk"),
    Shape("async_clerk", "async", lambda m: m.async_clerk, "self", "other clerk"),
    Shape("Clerk.__call__", "sync", lambda m: m.clerk, "self", "clerk"),
    Shape("AsyncClerk.__call__", "async", lambda m: m.async_clerk, "self", "other clerk"),
    Shape("desk.work_lines", "gen", lambda m: m.desk.work_lines, "self", "desk"),
    Shape("bound", "async", lambda m: m.bound, "self", "desk"),
    Shape("partial", "sync", lambda m: m.partial),
    Shape("hidden_async", "async", lambda m: m.hidden_async),
    Shape("hidden_lines_async", "asyncgen", lambda m: m.hidden_lines_async),
]


@pytest.fixture(params=SHAPES, ids=lambda shape: shape.path)
def shape(request: pytest.FixtureRequest) -> Shape:
    return request.param


@pytest.fixture
def spans(caplog: pytest.LogCaptureFixture) -> Iterator[InMemorySpanExporter]:
    """Give the finished spans; a context that is not put back in order fails the test."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    runtime.put(runtime.Runtime(tracer_provider=provider))
    with caplog.at_level(logging.DEBUG, "opentelemetry.context"):
        yield exporter
    assert [one for one in caplog.records if one.name == "opentelemetry.context"] == []
    assert trace.get_current_span() is trace.INVALID_SPAN


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import the program anew, so that no wrapper of another test is on it."""
    monkeypatch.syspath_prepend(str(PROGRAMS))
    sys.modules.pop("shapes", None)
    return importlib.import_module("shapes")


@pytest.fixture
def wrapped(shape: Shape, shapes: Any, spans: InMemorySpanExporter) -> Iterator[Callable[..., Any]]:
    """Wrap one shape, and give what a program would call."""
    hidden = shape.path.startswith("hidden")
    wrap = Wrap(
        target=f"shapes:{shape.path}",
        scope="phase",
        name=f"{{{shape.receiver}.name}}" if shape.receiver else "hand",
        attributes={"order": "{args[0].id}" if hidden else "{order.id}"}
        | ({} if hidden else {"lines": "{lines}"})
        | ({} if shape.kind == "asyncgen" else {"url": "{result.url}"}),
    )
    targets = Targets([wrap])
    targets.install()
    assert [(state, sentence) for _, state, sentence in targets.report()] == [
        ("applied", f"shapes:{shape.path} is wrapped as phase.")
    ]
    yield shape.call(shapes)
    targets.uninstall()


def consume(kind: str, function: Callable[..., Any], order: Any) -> Any:
    """Call a function as its shape wants, to the end its order names, and return the result."""

    async def finish(work: Any) -> Any:
        task = asyncio.ensure_future(work)
        if order.how == "cancel":
            await order.started.wait()
            task.cancel()
        return await task

    async def read() -> list[int]:
        return [number async for number in function(order)]

    if kind == "sync":
        return function(order)
    if kind == "async":
        return asyncio.run(finish(function(order)))
    if kind == "asyncgen":
        assert asyncio.run(finish(read())) == [0, 1]
        return order.receipt
    lines = function(order)
    if order.how == "cancel":
        next(lines)
        lines.close()
        return order.receipt
    while True:
        try:
            next(lines)
        except StopIteration as stop:
            return stop.value


def only(spans: InMemorySpanExporter) -> ReadableSpan:
    (span,) = spans.get_finished_spans()
    return span


# ---------------------------------------------------------------------- ok, error, cancelled


def test_work_that_is_done(shape: Shape, wrapped: Any, shapes: Any, spans: Any) -> None:
    """The result is the very object, and the span is current inside and says what was asked."""
    inside = []
    order = shapes.Order(note=lambda: inside.append(trace.get_current_span()))

    assert consume(shape.kind, wrapped, order) is order.receipt

    span = only(spans)
    expected = {"order": "o-17", "otelagents.result": "success"}
    if not shape.path.startswith("hidden"):
        expected["lines"] = 2
    if shape.kind != "asyncgen":
        expected["url"] = "file:///receipt"
    found = {key: span.attributes[key] for key in span.attributes if key in expected}
    assert found == expected
    assert span.name == f"phase {shape.name}"
    assert span.status.status_code is StatusCode.UNSET
    assert {one.get_span_context().span_id for one in inside} == {span.context.span_id}


def test_work_that_fails(shape: Shape, wrapped: Any, shapes: Any, spans: Any) -> None:
    """The exception is the very object, and the span is an error that names it."""
    order = shapes.Order("error")

    with pytest.raises(ValueError, match="no such passage") as raised:
        consume(shape.kind, wrapped, order)

    assert raised.value is order.error
    assert raised.value.__context__ is None
    span = only(spans)
    assert span.attributes["otelagents.result"] == "error"
    assert span.attributes["error.type"] == "ValueError"
    assert "url" not in span.attributes
    assert span.status.status_code is StatusCode.ERROR


def test_work_that_is_cancelled(shape: Shape, wrapped: Any, shapes: Any, spans: Any) -> None:
    """A cancellation goes through, and is no error."""
    order = shapes.Order("cancel")

    if shape.kind == "gen":
        consume(shape.kind, wrapped, order)
    else:
        expected = KeyboardInterrupt if shape.kind == "sync" else asyncio.CancelledError
        with pytest.raises(expected):
            consume(shape.kind, wrapped, order)

    span = only(spans)
    assert span.attributes["otelagents.result"] == "cancellation"
    assert span.status.status_code is StatusCode.UNSET


def test_a_wrapper_looks_like_what_it_wraps(shape: Shape, shapes: Any, spans: Any) -> None:
    """`inspect` says of the wrapped callable what it says of the original."""
    questions = (
        inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction,
        inspect.isfunction, inspect.ismethod, inspect.signature, callable,
        lambda one: getattr(one, "__name__", ""), lambda one: getattr(one, "__doc__", ""),
    )  # fmt: skip
    before = [ask(shape.call(shapes)) for ask in questions]
    targets = Targets([Wrap(target=f"shapes:{shape.path}", scope="phase")])
    targets.install()

    assert [ask(shape.call(shapes)) for ask in questions] == before
    targets.uninstall()


def test_the_original_is_put_back(shape: Shape, shapes: Any, spans: Any) -> None:
    """After `uninstall` every dictionary holds the very object it held before."""
    holders = [shapes, shapes.desk, shapes.Desk.Drawer]
    holders += [one for one in vars(shapes).values() if isinstance(one, type)]

    def everything() -> list[tuple[str, int]]:
        return [(name, id(one)) for holder in holders for name, one in vars(holder).items()]

    before = everything()
    targets = Targets([Wrap(target=f"shapes:{shape.path}", scope="phase")] * 2)
    targets.install()
    assert everything() != before
    targets.uninstall()

    assert everything() == before


def test_a_wrapper_that_was_kept_just_calls(
    shape: Shape, wrapped: Any, shapes: Any, spans: Any
) -> None:
    """What a program copied before `uninstall` goes on working, without spans."""
    runtime.put(runtime.Runtime(disabled=True))
    order = shapes.Order()

    assert consume(shape.kind, wrapped, order) is order.receipt
    assert spans.get_finished_spans() == ()


# ---------------------------------------------------------------------- streams


STREAMS = [one for one in SHAPES if one.kind == "asyncgen"]
streams = pytest.mark.parametrize("shape", STREAMS, ids=lambda shape: shape.path, indirect=True)


@pytest.mark.parametrize(
    "shape", [one for one in SHAPES if one.kind == "gen"], ids=lambda one: one.path, indirect=True
)
def test_between_lines_the_reader_is_current(wrapped: Any, shapes: Any, spans: Any) -> None:
    """A generator's span is not current in the code that reads it, and what is sent arrives."""
    with oa.run("reader") as reader:
        lines = wrapped(shapes.Order())
        for _ in range(2):
            assert trace.get_current_span() is reader.span
            next(lines)
        assert trace.get_current_span() is reader.span
        with pytest.raises(StopIteration):
            lines.send("more")
        assert trace.get_current_span() is reader.span

    first = spans.get_finished_spans()[0]
    assert first.parent == reader.span.get_span_context()


@streams
def test_between_items_the_reader_is_current(wrapped: Any, shapes: Any, spans: Any) -> None:
    """An async generator's span is not current in the code that reads it."""

    async def read() -> None:
        async with oa.run("reader") as reader:
            async for _ in wrapped(shapes.Order()):
                assert trace.get_current_span() is reader.span
            assert trace.get_current_span() is reader.span

    asyncio.run(read())
    assert [span.name for span in spans.get_finished_spans()][1:] == ["invoke_workflow reader"]


@streams
def test_a_reader_that_breaks_off(wrapped: Any, shapes: Any, spans: Any) -> None:
    """A stream left after its first item ends once, cancelled, when the loop collects it."""

    async def read() -> None:
        async for _ in wrapped(shapes.Order()):
            break
        gc.collect()
        await asyncio.get_running_loop().shutdown_asyncgens()

    asyncio.run(read())
    assert only(spans).attributes["otelagents.result"] == "cancellation"


@streams
def test_a_stream_closed_by_another_task(wrapped: Any, shapes: Any, spans: Any) -> None:
    """`aclose` from another task ends the span and leaves both tasks' context alone."""

    async def read() -> None:
        with oa.run("reader") as reader:
            items = wrapped(shapes.Order())
            await anext(items)
            await asyncio.create_task(items.aclose())
            assert trace.get_current_span() is reader.span

    asyncio.run(read())
    assert spans.get_finished_spans()[0].attributes["otelagents.result"] == "cancellation"


@streams
def test_a_stream_that_is_forgotten(wrapped: Any, shapes: Any, spans: Any) -> None:
    """A stream that is read in part and dropped after its loop is gone ends at collection."""
    loop = asyncio.new_event_loop()
    items = wrapped(shapes.Order())
    loop.run_until_complete(anext(items))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    del items
    gc.collect()

    assert only(spans).attributes["otelagents.result"] == "cancellation"


def test_a_generator_that_is_forgotten(shapes: Any, spans: Any) -> None:
    """A generator that is read in part and dropped ends when it is collected."""
    targets = Targets([Wrap(target="shapes:work_lines", scope="phase")])
    targets.install()
    lines = shapes.work_lines(shapes.Order())
    next(lines)
    del lines
    gc.collect()
    targets.uninstall()

    assert only(spans).attributes["otelagents.result"] == "cancellation"


def test_what_is_never_started_has_no_span(shapes: Any, spans: Any) -> None:
    """A generator that nobody reads did no work."""
    targets = Targets([Wrap(target="shapes:work_lines", scope="phase")])
    targets.install()
    shapes.work_lines(shapes.Order())
    targets.uninstall()

    assert spans.get_finished_spans() == ()


# ---------------------------------------------------------------------- side by side


def parents(spans: InMemorySpanExporter, name: str) -> set[int]:
    found = [span for span in spans.get_finished_spans() if span.name == name]
    assert len(found) == 50
    return {span.parent.span_id if span.parent else 0 for span in found}


@pytest.mark.parametrize("kind", ["async", "asyncgen"])
def test_fifty_tasks_are_fifty_siblings(kind: str, shapes: Any, spans: Any) -> None:
    """Targets that run at the same time are children of one run, each in its own context."""
    path = "Desk.work_async" if kind == "async" else "Desk.work_lines_async"
    targets = Targets(
        [
            Wrap(target=f"shapes:{path}", scope="phase", name="outer"),
            Wrap(target=f"shapes:{path.partition('.')[2]}", scope="phase", name="inner"),
        ]
    )
    targets.install()
    desk = shapes.desk

    async def one() -> None:
        order = shapes.Order()
        if kind == "async":
            await desk.work_async(order)
        else:
            assert [line async for line in desk.work_lines_async(order)] == [0, 1]

    async def all_of_them() -> Any:
        async with oa.run("many") as many, asyncio.TaskGroup() as group:
            for _ in range(50):
                group.create_task(one())
        return many

    many = asyncio.run(all_of_them())
    targets.uninstall()

    assert parents(spans, "phase outer") == {many.span.get_span_context().span_id}
    assert len(parents(spans, "phase inner")) == 50


def test_threads_are_siblings_too(shapes: Any, spans: Any) -> None:
    """Sync targets in threads that carry the context are children of one run."""
    targets = Targets([Wrap(target="shapes:Desk.work", scope="phase", name="outer")])
    targets.install()
    with oa.run("many") as many, ThreadPoolExecutor(8) as pool:
        for _ in range(50):
            pool.submit(contextvars.copy_context().run, shapes.desk.work, shapes.Order())
    targets.uninstall()

    assert parents(spans, "phase outer") == {many.span.get_span_context().span_id}


def test_work_that_takes_time_is_measured_to_its_end(shapes: Any, spans: Any) -> None:
    """A coroutine's span lasts from its first step to its last, not over its making."""
    targets = Targets([Wrap(target="shapes:work_async", scope="phase")])
    targets.install()
    order = shapes.Order()
    seen: list[int] = []
    order.note = lambda: seen.append(time.time_ns())
    asyncio.run(shapes.work_async(order))
    targets.uninstall()
    span = only(spans)

    assert span.start_time <= seen[0] <= span.end_time
