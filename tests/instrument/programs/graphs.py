"""Graphs of pydantic-graph's builder API, as a user writes them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic_graph import BaseNode, End, GraphRunContext

try:
    from pydantic_graph import GraphBuilder, StepContext, reduce_list_append
except ImportError:  # before 1.100
    from pydantic_graph.beta import GraphBuilder, StepContext
    from pydantic_graph.beta.join import reduce_list_append


@dataclass
class Job:
    """What a run of a graph knows: how it is to end, and who listens while it works."""

    how: str = "ok"
    note: Callable[[], Any] = lambda: None
    error: Exception = field(default_factory=lambda: ValueError("no such chapter"))
    started: asyncio.Event = field(default_factory=asyncio.Event)


Context = StepContext[Job, None, int]


async def work(job: Job) -> None:
    """Work as the job says."""
    await asyncio.sleep(0)
    job.note()
    if job.how == "error":
        raise job.error
    if job.how == "cancel":
        job.started.set()
        await asyncio.Event().wait()


builder = GraphBuilder(name="digest", state_type=Job, input_type=int, output_type=int)


@builder.step
async def plan(ctx: Context) -> int:
    """Add one."""
    return ctx.inputs + 1


@builder.step(node_id="write")
async def write_it(ctx: Context) -> int:
    """Work, and double."""
    await work(ctx.state)
    return ctx.inputs * 2


builder.add(
    builder.edge_from(builder.start_node).to(plan),
    builder.edge_from(plan).to(write_it),
    builder.edge_from(write_it).to(builder.end_node),
)
digest = builder.build()

many = GraphBuilder(name="many", state_type=Job, input_type=int, output_type=list[int])


@many.step
async def count(ctx: Context) -> list[int]:
    """Return the numbers."""
    return list(range(ctx.inputs))


@many.step
async def one(ctx: Context) -> int:
    """Work on one of them."""
    await work(ctx.state)
    return ctx.inputs


collect = many.join(reduce_list_append, initial_factory=list[int])
many.add(
    many.edge_from(many.start_node).to(count),
    many.edge_from(count).map().to(one),
    many.edge_from(one).to(collect),
    many.edge_from(collect).to(many.end_node),
)
side_by_side = many.build()

streaming = GraphBuilder(name="streaming", state_type=Job, input_type=int, output_type=list[int])


@streaming.stream
async def lines(ctx: Context) -> AsyncIterator[int]:
    """Give the numbers, one after the other."""
    for number in range(ctx.inputs):
        await work(ctx.state)
        yield number


@streaming.step
async def keep(ctx: Context) -> int:
    """Keep one."""
    return ctx.inputs


kept = streaming.join(reduce_list_append, initial_factory=list[int])
streaming.add(
    streaming.edge_from(streaming.start_node).to(lines),
    streaming.edge_from(lines).map().to(keep),
    streaming.edge_from(keep).to(kept),
    streaming.edge_from(kept).to(streaming.end_node),
)
stream = streaming.build()


@dataclass
class Draft(BaseNode[Job, None, int]):
    """A node of the declarative kind."""

    number: int

    async def run(self, ctx: GraphRunContext[Job]) -> "Review":
        """Hand on."""
        return Review(self.number + 1)


@dataclass
class Review(BaseNode[Job, None, int]):
    """A node that sends back once."""

    number: int

    async def run(self, ctx: GraphRunContext[Job]) -> Draft | End[int]:
        """Work, and end at three."""
        await work(ctx.state)
        return End(self.number) if self.number > 2 else Draft(self.number)


def declarative() -> Any:
    """Return a graph of declarative nodes, built when it is called."""
    nodes = GraphBuilder(name="review", state_type=Job, input_type=Draft, output_type=int)
    nodes.add(nodes.edge_from(nodes.start_node).to(Draft), nodes.node(Draft), nodes.node(Review))
    return nodes.build()


def unnamed() -> Any:
    """Return a graph without a name, which its run takes from the variable that holds it."""
    nameless = GraphBuilder(state_type=Job, input_type=int, output_type=int)

    @nameless.step
    async def only(ctx: Context) -> int:
        return ctx.inputs

    nameless.add(
        nameless.edge_from(nameless.start_node).to(only),
        nameless.edge_from(only).to(nameless.end_node),
    )
    return nameless.build()
