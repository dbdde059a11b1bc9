"""A graph of pydantic-graph's older API, which ends with 1.x."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic_graph import BaseNode, End, Graph, GraphRunContext


@dataclass
class Job:
    """What a run of a graph knows: how it is to end."""

    how: str = "ok"
    note: Callable[[], Any] = lambda: None
    error: Exception = field(default_factory=lambda: ValueError("no such chapter"))
    started: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Draft(BaseNode[Job, None, int]):
    """Writes."""

    number: int

    async def run(self, ctx: GraphRunContext[Job]) -> "Review":
        """Hand on."""
        return Review(self.number + 1)


@dataclass
class Review(BaseNode[Job, None, int]):
    """Sends back once."""

    number: int

    async def run(self, ctx: GraphRunContext[Job]) -> Draft | End[int]:
        """Work, and end at three."""
        await asyncio.sleep(0)
        ctx.state.note()
        if ctx.state.how == "error":
            raise ctx.state.error
        if ctx.state.how == "cancel":
            ctx.state.started.set()
            await asyncio.Event().wait()
        return End(self.number) if self.number > 2 else Draft(self.number)


review = Graph(nodes=(Draft, Review), name="review")
unnamed = Graph(nodes=(Draft, Review))
