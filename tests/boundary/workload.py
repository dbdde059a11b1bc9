"""What a program does, as scenarios: each is run without us, with us, and with each fault of ours.

A scenario is a function of `Host` and returns what can be compared. The program's code is in it,
and in `programs/`: it takes the scopes it uses from `host.oa`, which without us is made of nothing.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, Final

from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, ModelRetry
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.usage import RequestUsage

from tests.boundary.seen import shape, where

log: Final = logging.getLogger("boundary.shop")


class Host:
    """The program's surroundings: `oa` is us or nothing, `shop` and `graphs` its own modules.

    `imported` imports the shop once more, as a program does whose targets are waited for.
    """

    def __init__(
        self,
        oa: Any,
        shop: Any,
        loop: asyncio.AbstractEventLoop,
        *,
        graphs: Any,
        imported: Callable[[], Any],
    ) -> None:
        self.oa = oa
        self.shop = shop
        self.loop = loop
        self.graphs = graphs
        self.imported = imported

    def wait(self, work: Any) -> Any:
        """Return what a coroutine returns, from the program's loop."""
        return self.loop.run_until_complete(work)


def tried(act: Callable[[], Any]) -> Any:
    """Return what a call returns or raises, and whether it left the context as it was."""
    before = where()
    try:
        found = act()
    except Exception as error:  # noqa: BLE001 - compared
        found = shape(error)
    return found, where() == before


async def tried_async(work: Any) -> Any:
    """Return what awaiting returns or raises, and whether it left the context as it was."""
    before = where()
    try:
        found = await work
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - compared
        found = shape(error)
    return found, where() == before


# ---------------------------------------------------------------------- [[wrap]] targets


def sync_targets(host: Host) -> Any:
    """Functions and methods of every kind."""
    shop = host.shop
    desk, late = shop.Desk(), shop.Late()
    return [
        tried(lambda: shop.order("o-1")),
        tried(lambda: shop.order("o-2", how="error")),
        tried(lambda: vars(shop.checked("o-3"))),
        tried(lambda: desk.serve("Ada")),
        tried(lambda: late.serve(guest="Bob")),
        tried(lambda: shop.Desk.opened("door")),
        tried(lambda: shop.Late.opened("door")),
        tried(lambda: shop.Desk.closed("door")),
        tried(shop.order),
    ]


def async_targets(host: Host) -> Any:
    """Coroutine functions that return, raise, and are cancelled; one in a task that is kept."""
    shop = host.shop

    async def cancelled() -> Any:
        task = asyncio.ensure_future(shop.ship("o-3", how="wait"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel("enough")
        return await task

    async def timed_out() -> Any:
        async with asyncio.timeout(0):
            await shop.ship("o-4", how="wait")

    async def main() -> Any:
        return [
            await tried_async(shop.ship("o-1")),
            await tried_async(shop.ship("o-2", how="error")),
            await tried_async(cancelled()),
            await tried_async(timed_out()),
            await tried_async(asyncio.gather(shop.ship("a"), shop.ship("b"))),
        ]

    return host.wait(main())


def generators(host: Host) -> Any:
    """Generators that are drained, sent to, thrown into, left early, and that raise."""
    shop = host.shop

    def sent() -> Any:
        pages = shop.pages(3)
        return [next(pages), pages.send("more"), next(pages), pages.throw(KeyError("k"))]

    def thrown() -> Any:
        pages = shop.pages(3)
        next(pages)
        return pages.throw(ValueError("v"))

    def left() -> Any:
        pages = shop.pages(3)
        found = next(pages)
        pages.close()
        return found

    def returned() -> Any:
        def outer() -> Any:
            return (yield from shop.pages(2))

        found = outer()
        with contextlib.suppress(StopIteration):
            while True:
                next(found)
        return tried(lambda: next(shop.pages(0)))

    return [
        tried(lambda: list(shop.pages(2))),
        tried(lambda: list(shop.pages(2, how="error"))),
        tried(sent),
        tried(thrown),
        tried(left),
        tried(returned),
    ]


def async_generators(host: Host) -> Any:
    """Asynchronous generators that are drained, left early, and that raise."""
    shop = host.shop

    async def drained(how: str = "ok") -> Any:
        return [event async for event in shop.events(2, how)]

    async def left() -> Any:
        events = shop.events(3)
        found = await anext(events)
        between = where()
        await events.aclose()
        return found, between == where()

    async def thrown() -> Any:
        events = shop.events(3)
        await anext(events)
        return await events.athrow(ValueError("v"))

    async def main() -> Any:
        return [
            await tried_async(drained()),
            await tried_async(drained("error")),
            await tried_async(left()),
            await tried_async(thrown()),
        ]

    return host.wait(main())


def imports(host: Host) -> Any:
    """A module is imported that has targets, and used."""

    def used() -> Any:
        module = host.imported()
        return module.order("o-1"), module.Desk().serve("Ada"), list(module.pages(1))

    return tried(used)


# ---------------------------------------------------------------------- scopes by hand


def scopes(host: Host) -> Any:
    """Every kind of scope as `with`, with what can be said in it."""
    oa = host.oa

    def nested() -> Any:
        with oa.run("shop", id="r-1", work_order_id="w-1", attributes={"team": "a"}) as run:
            run.set(goal="to sell")
            with oa.iteration(number=1), oa.phase("pick"), oa.agent("picker") as picker:
                picker.set_attribute("colour", "red")
                oa.progress(1, 2)
                with oa.tool("scan") as tool:
                    tool.fail("no code")
                with oa.gate("stock", passed=True), oa.validation("sums") as sums:
                    sums.set(passed=False)
                carrier: dict[str, str] = {}
                oa.inject(carrier)
                with oa.extract(carrier):
                    pass
            with oa.task("pack", id="t-1"):
                pass
            with oa.delivery(url="https://example.org/1") as sent:
                sent.skip("none home")
        return "done"

    def raising() -> Any:
        with oa.run("shop"), oa.phase("pick"):
            raise KeyError("no such shelf")

    def asked() -> Any:
        with oa.run("shop"), oa.human("may I?") as wait:
            wait.resolve("approved", "yes", by="Ada")
        return "asked"

    return [tried(nested), tried(raising), tried(asked)]


def async_scopes(host: Host) -> Any:
    """Scopes as `async with`, in tasks that run beside each other and one that is cancelled."""
    oa = host.oa

    async def one(number: int) -> int:
        async with oa.phase("pick"), oa.agent(f"picker {number}"):
            await asyncio.sleep(0)
        return number

    async def stuck() -> None:
        async with oa.phase("wait"):
            await asyncio.Event().wait()

    async def cancelled() -> None:
        task = asyncio.ensure_future(stuck())
        await asyncio.sleep(0)
        task.cancel()
        await task

    async def main() -> Any:
        async with oa.run("shop"):
            together = await tried_async(asyncio.gather(one(1), one(2)))
            ended = await tried_async(cancelled())
        return [together, ended, where()[0]]

    return host.wait(main())[:2]


def decorators(host: Host) -> Any:
    """Scopes as decorators of functions of every shape."""
    oa = host.oa

    @oa.phase("plan")
    def plan(n: int) -> int:
        return n + 1

    @oa.agent("writer")
    async def write(n: int) -> int:
        await asyncio.sleep(0)
        return n * 2

    @oa.phase("list")
    def listed(n: int) -> Any:
        yield from range(n)

    @oa.phase("stream")
    async def streamed(n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    @oa.tool("fail")
    def fails() -> None:
        raise LookupError("not here")

    async def drained() -> Any:
        return [i async for i in streamed(2)]

    return [
        tried(lambda: plan(1)),
        tried(lambda: list(listed(2))),
        tried(fails),
        host.wait(tried_async(write(2))),
        host.wait(tried_async(drained())),
    ]


# ---------------------------------------------------------------------- logs, events, progress


def logs(host: Host) -> Any:
    """Log lines in and outside of scopes, printed text, an exception that is logged."""
    oa = host.oa
    lines: list[Any] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append((record.levelname, record.getMessage(), record.exc_info is not None))

    def written() -> Any:
        with oa.run("shop"), oa.agent("clerk"):
            log.info("sold %d of %s", 3, "them")
            log.warning("with extra", extra={"colour": "red"})
            try:
                raise LookupError("not here")
            except LookupError:
                log.exception("it went wrong")
            print("to whom it may concern")  # noqa: T201 - what is printed is heard
            event = oa.correlate(None, "info", {"event": "told"})
            with oa.log_context(run_id="r-9", phase="pick"):
                log.info("inside")
        return event["event"]

    def formatted() -> Any:
        record = logging.LogRecord("shop", logging.INFO, "f.py", 1, "%s sold", ("it",), None)
        record.colour = "red"
        return type(oa.JsonFormatter().format(record))

    handler = Kept()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        return [tried(written), tried(formatted), lines]
    finally:
        log.removeHandler(handler)


def events(host: Host) -> Any:
    """Events that are told, wrong ones among them, and the figures made of them."""
    oa = host.oa

    def told() -> Any:
        oa.emit_event("task_queued", {"task_id": "t", "feature": "f", "est_cost": 1}, strict=False)
        oa.emit_event("agent_started", {"agent": "a", "task_id": "t"}, strict=False)
        oa.emit_event("agent_started", {"agent": 7}, strict=False)
        oa.emit_event("no such type", {}, strict=False)
        oa.emit_event("agent_completed", dict(ENDED), strict=False)
        oa.emit_event("validation_complete", {"task_id": "t", "result": "passed"}, strict=False)
        oa.record_critic_decision(rejected=False, task_id="t", agent="a")
        return "told"

    def asked() -> Any:
        return sorted(oa.get_emitter().get_metrics())

    with oa.run("shop"):
        return [tried(told), tried(asked)]


ENDED: Final = {
    "agent": "a", "task_id": "t", "status": "success", "duration_ms": 3, "cost_usd": 0.1,
}  # fmt: skip


def progress(host: Host) -> Any:
    """Progress told by method, to a listener that hears it and one that raises."""

    def broken(_message: Any) -> None:
        raise ValueError("I cannot hear")

    def told() -> Any:
        emitter = host.oa.ProgressEmitter("delivery")
        ends = [emitter.subscribe(broken)]
        order, run = "o-1", "r-1"
        emitter.emit_run_started(order, run, {"goal": "Ship", "max_iterations": 2})
        emitter.emit_iteration_started(order, run, 1, "more")
        emitter.emit_phase_started(order, run, 1, "code")
        emitter.emit_phase_completed(order, run, 1, "code", True, 12)
        emitter.emit_gate_checked(order, run, 1, "tests", False)
        emitter.emit_iteration_completed(order, run, 1, True, {"code": 12})
        emitter.emit_delivery_started(order, run)
        emitter.emit_delivery_completed(order, run, {"url": "https://example.org"})
        emitter.emit_run_completed(order, run, "succeeded", {"files": 2})
        emitter.emit_run_started(order, "r-2", "Another")
        emitter.emit_run_failed(order, "r-2", ValueError("no"))
        emitter.emit_run_started(order, "r-3", None)
        emitter.emit_run_canceled(order, "r-3", "enough")
        for end in ends:
            end()
        return "told"

    return tried(told)


def workers(host: Host) -> Any:
    """A worker, its task, and a budget that only reports."""
    oa = host.oa

    def worked() -> Any:
        with oa.worker("packer", id="w-1"):
            with oa.task("pack", id="t-1"):
                pass
        return "worked"

    def spent() -> Any:
        with oa.run("shop", budget=oa.Budget(scope="run", tokens=10)), oa.agent("a"):
            with oa.model("priced", provider="openai") as call:
                call.response(dict(ANSWER))
                call.chunk()
                call.sent(refused=True, trouble="TIMEOUT")
        return "spent"

    return [tried(worked), tried(spent)]


ANSWER: Final = {"model": "priced", "usage": {"prompt_tokens": 9, "completion_tokens": 9}}


# ---------------------------------------------------------------------- threads and processes


def threads(host: Host) -> Any:
    """Threads, executors, a loop's executor."""
    found: list[Any] = []

    class Asked(threading.Thread):
        def run(self) -> None:
            found.append("asked")

    def failing() -> None:
        raise LookupError("in a thread")

    def worked() -> Any:
        with host.oa.run("shop"):
            for thread in (threading.Thread(target=found.append, args=("t",)), Asked()):
                thread.start()
                thread.join()
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                found.append(pool.submit(sum, [1, 2]).result())
                found.append(shape(pool.submit(failing).exception())[:2])
                found.append(list(pool.map(str, [1, 2])))

            async def main() -> Any:
                return await asyncio.to_thread(sum, [3, 4])

            found.append(host.wait(main()))
        return found

    return tried(worked)


# ---------------------------------------------------------------------- pydantic-ai


def _agent(how: str = "ok") -> Agent[None, str]:
    def reply(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        used = RequestUsage(input_tokens=10, output_tokens=2)
        if how == "refused" and len(messages) > 1:
            raise LookupError("the model is away")
        if len(messages) == 1:
            calls = [ToolCallPart("add", {"a": 1, "b": 2})]
            return ModelResponse(parts=[*calls, ToolCallPart("flaky", {})], usage=used)
        if len(messages) == 3:
            return ModelResponse(parts=[ToolCallPart("flaky", {})], usage=used)
        return ModelResponse(parts=[TextPart("three")], usage=used)

    async def stream(
        messages: list[ModelMessage], _info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        if len(messages) == 1:
            yield {0: DeltaToolCall(name="add", json_args='{"a": 1, "b": 2}')}
        else:
            for word in ("one ", "two"):
                yield word
            if how == "refused":
                raise LookupError("the model is away")

    agent = Agent(
        FunctionModel(reply, stream_function=stream, model_name="priced"),
        name="adder",
        retries=1,
        instructions="Add.",
    )
    tries: list[int] = []

    @agent.tool_plain
    def add(a: int, b: int) -> int:
        if how == "broken":
            raise LookupError("no numbers")
        return a + b

    @agent.tool_plain
    async def flaky() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise ModelRetry("again")
        return "fine"

    return agent


def _output(result: Any) -> Any:
    usage = result.usage
    return result.output, usage.input_tokens, len(result.all_messages())


def agents(host: Host) -> Any:
    """Agents that are run: well, with a tool that raises, with a model that does."""

    async def ran(how: str = "ok") -> Any:
        return _output(await _agent(how).run("add"))

    async def main() -> Any:
        with host.oa.run("shop"):
            return [
                await tried_async(ran()),
                await tried_async(ran("broken")),
                await tried_async(ran("refused")),
            ]

    return host.wait(main())


def agents_sync(host: Host) -> Any:
    """Agents that are run from synchronous code."""
    return tried(lambda: _output(_agent().run_sync("add")))


def agents_streamed(host: Host) -> Any:
    """Agents whose answers are streamed: to the end, left early, broken off."""

    async def streamed(how: str = "ok", enough: int = 99) -> Any:
        found = []
        async with _agent(how).run_stream("add") as result:
            async for text in result.stream_text(delta=True, debounce_by=None):
                found.append(text)
                if len(found) >= enough:
                    break
        return found

    async def main() -> Any:
        return [
            await tried_async(streamed()),
            await tried_async(streamed(enough=1)),
            await tried_async(streamed("refused")),
        ]

    return host.wait(main())


def agents_stepped(host: Host) -> Any:
    """Agents that are stepped node by node, left early, and cancelled."""

    async def stepped(enough: int = 99) -> Any:
        found = []
        async with _agent().iter("add") as run:
            async for node in run:
                found.append(type(node).__name__)
                if len(found) >= enough:
                    break
        return found

    async def heard() -> Any:
        async with _agent().run_stream_events("add") as events:
            return [type(event).__name__ async for event in events]

    async def cancelled() -> Any:
        agent: Agent[None, str] = Agent(FunctionModel(_never, model_name="priced"), name="stuck")
        task = asyncio.ensure_future(agent.run("wait"))
        for _ in range(50):
            await asyncio.sleep(0)
        task.cancel("enough")
        return await task

    async def main() -> Any:
        return [
            await tried_async(stepped()),
            await tried_async(stepped(2)),
            await tried_async(heard()),
            await tried_async(cancelled()),
        ]

    return host.wait(main())


def graphs(host: Host) -> Any:
    """A graph that is run: well, with a step that raises, and by its steps."""
    module = host.graphs

    async def ran(how: str = "ok") -> Any:
        return await module.digest.run(state=module.Job(how), inputs=1)

    async def main() -> Any:
        with host.oa.run("shop"):
            return [await tried_async(ran()), await tried_async(ran("error"))]

    return host.wait(main())


def deferred(host: Host) -> Any:
    """An agent that waits for a human, and goes on in another call."""

    def reply(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        if len(messages) == 1:
            return ModelResponse(parts=[ToolCallPart("pay", {}, tool_call_id="c-1")])
        return ModelResponse(parts=[TextPart("paid")])

    agent = Agent(
        FunctionModel(reply, model_name="priced"), name="payer",
        output_type=[str, DeferredToolRequests],
    )  # fmt: skip

    @agent.tool_plain(requires_approval=True)
    def pay() -> str:
        return "fine"

    async def ran() -> Any:
        first = await agent.run("pay")
        results = DeferredToolResults(approvals={"c-1": True})
        second = await agent.run(
            message_history=first.all_messages(), deferred_tool_results=results
        )
        return type(first.output).__name__, second.output

    return host.wait(tried_async(ran()))


async def _never(_messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
    await asyncio.Event().wait()
    raise AssertionError


SCENARIOS: Final[dict[str, Callable[[Host], Any]]] = {
    act.__name__: act
    for act in (
        sync_targets, async_targets, generators, async_generators, imports, scopes, async_scopes,
        decorators, logs, events, progress, workers, threads, graphs, agents, agents_sync,
        agents_streamed, agents_stepped, deferred,
    )
}  # fmt: skip


# ---------------------------------------------------------------------- without us


class _Nothing:
    """What stands for a scope without us: a block, a decorator, and methods that do nothing."""

    wait_id = ""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return args[0] if args and callable(args[0]) else self

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *error: object) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        return lambda *_args, **_kwargs: None


def nothing() -> Any:
    """Return what `host.oa` is without us."""
    scope = _Nothing()
    names = (
        "run", "iteration", "phase", "agent", "task", "tool", "gate", "delivery", "validation",
        "worker", "human", "model", "extract", "log_context", "Budget",
    )  # fmt: skip
    made: dict[str, Any] = dict.fromkeys(names, scope)
    for name in ("progress", "inject", "emit_event", "record_critic_decision"):
        made[name] = lambda *_args, **_kwargs: None
    return SimpleNamespace(**made, **_ANSWERS)


_KPIS: Final = (
    "agent_utilization", "average_retry_count", "cost_per_feature", "counts",
    "critic_rejection_rate", "time_to_completion", "validation_pass_rate",
)  # fmt: skip


class _Progress:
    """An emitter that tells nobody."""

    def __init__(self, _workflow: str) -> None:
        """Take a name."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_args, **_kwargs: lambda: None


_ANSWERS: Final[dict[str, Any]] = {
    "correlate": lambda _logger, _method, event: event,
    "get_emitter": lambda: SimpleNamespace(get_metrics=lambda: dict.fromkeys(_KPIS)),
    "prometheus_text": lambda: "",
    "JsonFormatter": lambda: SimpleNamespace(format=lambda _record: "{}"),
    "ProgressEmitter": _Progress,
}
