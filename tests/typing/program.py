"""A program that uses the whole public surface, as a user would write it; mypy checks it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from otel_agents import (
    Breaker,
    BreakerOpen,
    Emitter,
    EventError,
    OtelAgentsInstrumentor,
    ProgressEmitter,
    Worker,
    agent,
    delivery,
    emit_event,
    extract,
    gate,
    get_emitter,
    human,
    inject,
    iteration,
    log_context,
    model,
    phase,
    progress,
    prometheus_text,
    record_critic_decision,
    run,
    task,
    tool,
    validation,
    worker,
)
from otel_agents.logs import JsonFormatter, correlate
from otel_agents.testing import Captured, capture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@run("shop", goal="sell", max_iterations=3)
async def work(order: int) -> str:
    """Return a decorated coroutine's own type."""
    async with iteration(number=order), phase("plan"):
        with agent("planner", model="m") as scope, tool("look"):
            scope.set(attempt=1)
            scope.set_attribute("shop.order", order)
        progress(1, 2)
    with gate("tests") as checked:
        checked.set(passed=True)
    validation("schema", passed=True).record()
    with delivery(url="file:///x"), task("t", id="t1"), worker("w"), human("approve"):
        pass
    return "done"


@phase
def plain(x: int) -> int:
    """Keep the type of a plain function."""
    return x


@phase("items")
def items() -> Iterator[int]:
    """Keep the type of a generator."""
    yield 1


@phase("stream")
async def stream() -> AsyncIterator[int]:
    """Keep the type of an async generator."""
    yield 1


def carry() -> dict[str, str]:
    """Carry a scope through a queue."""
    headers: dict[str, str] = {}
    inject(headers)
    with extract(headers), log_context(tenant="x"):
        return headers


def call() -> None:
    """Report a model call by hand."""
    with model("gpt", provider="openai") as scope:
        scope.response({"usage": {}})


breaker = Breaker("search", failures=2, reset_after=1.0)


@breaker
async def search(query: str) -> str:
    """Keep the type of a function that a breaker guards."""
    return query


async def dispatch() -> str:
    """Work on a task as a worker, behind a breaker."""
    task("build", id="t2", queue="builds", state="PENDING").record()
    async with Worker("coder", interval=1.0) as hand:
        with hand.working("t2"), task("build", id="t2", queue="builds") as scope:
            scope.lease(hand.id, 60)
            scope.state("IN_REVIEW")
        hand.degraded("slow disk")
        hand.idle()
    try:
        with breaker:
            return await search("x")
    except BreakerOpen:
        return str(breaker.snapshot()["reason"])


def tell() -> dict[str, object]:
    """Tell of events and of the progress of a run."""
    seen: list[str] = []

    async def listen(message: dict[str, object]) -> None:
        seen.append(str(message["type"]))

    emitter: Emitter = get_emitter()
    emit_event("agent_started", {"agent": "coder", "task_id": "t"})
    emitter.emit("agent_completed", {"agent": "coder"}, strict=False)
    record_critic_decision(rejected=True, agent="critic", task_id="t")
    try:
        emit_event("agent_started", {})
    except EventError as error:
        print(error.type, error.field)  # noqa: T201
    told = ProgressEmitter("shop")
    unsubscribe = told.subscribe(listen)
    told.emit_run_started("o-1", "r-1", {"goal": "sell"})
    told.emit_run_completed("o-1", "r-1", "succeeded", {"files": 2})
    unsubscribe()
    text: str = prometheus_text()
    return {**emitter.get_metrics(), "text": text}


def main() -> None:
    """Run everything."""
    instrumentor = OtelAgentsInstrumentor()
    instrumentor.instrument()
    found: Captured
    with capture(prices={"m": {"input": 1.0}}) as found:
        result: str = asyncio.run(work(1))
        number: int = plain(2)
        carry()
        call()
        asyncio.run(dispatch())
        tell()
        print(result, number, list(items()), found.tree(), found.metric("otelagents.runs.started"))  # noqa: T201
    JsonFormatter()
    correlate(None, "info", {})
    instrumentor.uninstrument()


if __name__ == "__main__":
    main()
