"""The providers' real clients over real sockets: usage, money and attempts are the bill's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("anthropic")
pytest.importorskip("google.genai")
pytest.importorskip("openai")

from genai_prices import Usage as PricedUsage
from genai_prices import calc_price
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError

import otel_agents as oa
from otel_agents.testing import Captured
from tests.instrument.kit import attributes, named, roll_up, tokens, usage_sum, verdicts
from tests.providers.answers import Answer, Failure, Hold, Raw, Tokens, ToolCall, rate_limited
from tests.providers.clients import MODELS
from tests.providers.server import ProviderServer, Route

# Small enough for pydantic-ai to ask Anthropic for a whole answer; it streams larger ones itself.
WHOLE: Any = {"max_tokens": 1000}
routes = pytest.mark.parametrize("route", list(MODELS))
# The clients that repeat a refused request by themselves.
repeating = pytest.mark.parametrize("route", ["chat", "responses", "messages"])
streaming = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
PROVIDERS = {
    "chat": "openai", "responses": "openai", "messages": "anthropic", "gemini": "gcp.gemini",
}  # fmt: skip


@pytest.fixture
def provider_server() -> Iterator[ProviderServer]:
    with ProviderServer() as server:
        yield server


def bill_for(route: Route) -> Tokens:
    """Return a bill with everything on it that the provider has."""
    return Tokens(
        input=1234, output=210, cache_read=300,
        cache_write=0 if route == "gemini" else 70, reasoning=40,
    )  # fmt: skip


def price(route: Route, model: str, bill: Tokens) -> float:
    """Return what genai-prices says that a bill costs, in USD."""
    used = PricedUsage(
        input_tokens=bill.input,
        output_tokens=bill.output,
        cache_read_tokens=bill.cache_read,
        cache_write_tokens=bill.cache_write,
    )
    provider = {"gcp.gemini": "google"}.get(PROVIDERS[route], PROVIDERS[route])
    return float(calc_price(used, model, provider_id=provider).total_price)


def asker(server: ProviderServer, route: Route) -> Agent[None, str]:
    agent = Agent(MODELS[route](server), name="asker", model_settings=WHOLE)
    agent.tool_plain(name="look")(lambda: "seen")
    return agent


async def ask(agent: Agent[None, str], *, streamed: bool) -> None:
    async with agent:
        if not streamed:
            await agent.run("hi")
            return
        async with agent.run_stream("hi") as result:
            async for _ in result.stream_text():
                pass


def run(server: ProviderServer, route: Route, *, streamed: bool) -> None:
    with oa.run("shop"):
        asyncio.run(ask(asker(server, route), streamed=streamed))


@routes
@streaming
def test_usage_and_money_are_the_bills(
    captured: Captured, provider_server: ProviderServer, route: Route, streamed: bool
) -> None:
    """Tokens of each kind and the cost, to the micro-dollar, of two calls with a tool between."""
    bill = bill_for(route)
    provider_server.reply(
        route,
        Answer(tool_calls=(ToolCall("look", {}),), tokens=bill),
        Answer(reasoning="hm", text="all is well", tokens=bill),
    )
    run(provider_server, route, streamed=streamed)

    billed = provider_server.billed
    assert usage_sum(captured) == {
        key: amount
        for key, amount in {
            "input_tokens": billed.input,
            "output_tokens": billed.output,
            "cache_read.input_tokens": billed.cache_read,
            "cache_write.input_tokens": billed.cache_write,
            "reasoning.output_tokens": billed.reasoning,
        }.items()
        if amount
    }
    assert tokens(captured) == {
        key: amount
        for key, amount in {
            "input": billed.fresh,
            "cache_read": billed.cache_read,
            "cache_write": billed.cache_write,
            "output": billed.output,
        }.items()
        if amount
    }
    model = MODELS[route](provider_server).model_name
    cost = 2 * price(route, model, bill)
    assert cost > 0
    assert captured.metric("otelagents.cost") == pytest.approx(cost, abs=1e-9)
    for name in ("invoke_workflow shop", "invoke_agent asker"):
        found = attributes(captured.span(name))
        assert found["otelagents.cost.total"] == pytest.approx(cost, abs=1e-9)
        assert found["otelagents.usage.complete"] is True
        assert "otelagents.usage.unpriced_tokens" not in found
    assert captured.metric("otelagents.tokens.unpriced") == 0


@routes
@streaming
def test_an_answer_is_named(
    captured: Captured, provider_server: ProviderServer, route: Route, streamed: bool
) -> None:
    """Provider, model, the answer's id and why it ended stand on the call."""
    provider_server.reply(route, Answer(text="all is well"))
    run(provider_server, route, streamed=streamed)

    model = MODELS[route](provider_server).model_name
    found = attributes(captured.span(f"chat {model}"))
    assert found["gen_ai.provider.name"] == PROVIDERS[route]
    assert found["gen_ai.request.model"] == found["gen_ai.response.model"] == model
    assert found["gen_ai.response.finish_reasons"] == ("stop",)
    assert "local" in found["gen_ai.response.id"]
    assert ("gen_ai.response.time_to_first_chunk" in found) is streamed


@repeating
@streaming
def test_a_refusal_that_the_client_repeats_is_another_attempt(
    captured: Captured, provider_server: ProviderServer, route: Route, streamed: bool
) -> None:
    """429, then an answer, inside the client's own retries: one call, two attempts, one bill."""
    bill = bill_for(route)
    provider_server.reply(route, rate_limited(), Answer(text="all is well", tokens=bill))
    run(provider_server, route, streamed=streamed)

    assert len(provider_server.requests) == 2
    model = MODELS[route](provider_server).model_name
    found = attributes(captured.span(f"chat {model}"))
    assert found["otelagents.model.attempts"] == 2
    assert found["otelagents.result"] == "success"
    assert verdicts(captured, "calls") == {"success": 1}
    assert verdicts(captured, "attempts") == {"error": 1, "success": 1}
    assert usage_sum(captured)["input_tokens"] == bill.input
    assert attributes(captured.span("invoke_agent asker"))["otelagents.usage.complete"] is True


@repeating
def test_refused_invalid_and_good_is_one_question_of_three_attempts(
    captured: Captured, provider_server: ProviderServer, route: Route
) -> None:
    """429, then an answer that is refused, then a good one: both answers were billed."""
    bill = bill_for(route)
    provider_server.reply(
        route,
        rate_limited(), Answer(text="bad", tokens=bill), Answer(text="good", tokens=bill),
    )  # fmt: skip
    agent = asker(provider_server, route)

    @agent.output_validator
    def judge(output: str) -> str:
        if output == "bad":
            raise ModelRetry("better")
        return output

    asyncio.run(ask(agent, streamed=False))

    assert verdicts(captured, "calls") == {"success": 1}
    assert verdicts(captured, "attempts") == {"error": 1, "failure": 1, "success": 1}
    assert tokens(captured)["output"] == provider_server.billed.output == 2 * bill.output
    cost = price(route, MODELS[route](provider_server).model_name, bill)
    for result in ("failure", "success"):
        assert captured.metric("otelagents.cost", result=result) == pytest.approx(cost, abs=1e-9)


@routes
@streaming
def test_refusals_to_the_end_are_one_failed_call(
    captured: Captured, provider_server: ProviderServer, route: Route, streamed: bool
) -> None:
    """When the client gives up, each request was an attempt, and nothing was billed."""
    provider_server.always(route, rate_limited())
    with pytest.raises(ModelHTTPError):
        run(provider_server, route, streamed=streamed)

    requests = len(provider_server.requests)
    assert verdicts(captured, "calls") == {"error": 1}
    assert verdicts(captured, "attempts") == {"error": requests}
    agent = attributes(captured.span("invoke_agent asker"))
    assert agent["otelagents.usage.complete"] is True
    assert agent["otelagents.usage.total.input_tokens"] == 0
    assert agent["error.type"].startswith("pydantic_ai.exceptions.")


@routes
def test_an_answer_that_breaks_off_and_is_repeated_is_not_seen_whole(
    captured: Captured, provider_server: ProviderServer, route: Route
) -> None:
    """The provider bills the answer that was lost; our usage is the other's, and incomplete."""
    bill = bill_for(route)
    lost = Answer(text="all is well", tokens=bill, break_after=0)
    provider_server.reply(route, lost, Answer(text="all is well", tokens=bill))
    try:
        run(provider_server, route, streamed=False)
    except ModelAPIError:
        assert len(provider_server.requests) == 1  # this client does not repeat it
        assert verdicts(captured, "attempts") == {"error": 1}
    else:
        assert verdicts(captured, "attempts") == {"error": 1, "success": 1}
        assert usage_sum(captured)["input_tokens"] == bill.input
    assert attributes(captured.span("invoke_agent asker"))["otelagents.usage.complete"] is False
    assert sum(verdicts(captured, "calls").values()) == 1


@routes
def test_a_stream_that_breaks_keeps_what_was_seen(
    captured: Captured, provider_server: ProviderServer, route: Route
) -> None:
    """What the provider told before the break is kept as a lower bound; nothing is invented."""
    bill = bill_for(route)
    provider_server.reply(route, Answer(text="one two three four five", tokens=bill, break_after=3))
    with pytest.raises(Exception):  # noqa: B017 - each client has an error of its own
        run(provider_server, route, streamed=True)

    model = MODELS[route](provider_server).model_name
    call = captured.span(f"chat {model}")
    found = attributes(call)
    assert call.status.status_code.name == "ERROR"
    assert found["otelagents.usage.complete"] is False
    assert verdicts(captured, "calls") == {"error": 1}
    told_early = route in {"messages", "gemini"}
    if told_early:  # the first events tell the input
        assert found["gen_ai.usage.input_tokens"] == bill.input
        assert tokens(captured)["cache_read"] == bill.cache_read
    else:
        assert "gen_ai.usage.input_tokens" not in found
        assert tokens(captured) == {}
    assert found.get("gen_ai.usage.output_tokens", 0) < bill.output


@routes
def test_a_stream_that_is_left_keeps_what_was_seen(
    captured: Captured, provider_server: ProviderServer, route: Route
) -> None:
    """The consumer leaves while the provider still sends: no error, and a lower bound."""
    bill = bill_for(route)
    hold = Hold(after=6)
    provider_server.reply(
        route, Answer(text="one two three four five six seven", tokens=bill, hold=hold)
    )

    async def leave() -> None:
        agent = asker(provider_server, route)
        async with agent, agent.run_stream("hi") as result:
            async for _ in result.stream_text(delta=True, debounce_by=None):
                break

    with oa.run("shop"):
        asyncio.run(leave())

    model = MODELS[route](provider_server).model_name
    call = captured.span(f"chat {model}")
    found = attributes(call)
    assert call.status.status_code.name == "UNSET"
    assert found["otelagents.result"] == "cancellation"
    assert found["otelagents.usage.complete"] is False
    if route in {"messages", "gemini"}:
        assert found["gen_ai.usage.input_tokens"] == bill.input
    assert verdicts(captured, "calls") == {"cancellation": 1}


@pytest.mark.parametrize("route", ["chat", "responses", "gemini"])  # Anthropic's refuses it
@streaming
def test_an_answer_without_usage_is_incomplete(
    captured: Captured, provider_server: ProviderServer, route: Route, streamed: bool
) -> None:
    """A provider that says nothing of its usage: absent, not zero, and no price."""
    provider_server.reply(route, Answer(text="all is well", with_usage=False))
    run(provider_server, route, streamed=streamed)

    agent = attributes(captured.span("invoke_agent asker"))
    assert agent["otelagents.usage.complete"] is False
    assert "otelagents.usage.total.input_tokens" not in agent
    assert usage_sum(captured) == {}
    assert captured.metric("otelagents.tokens") == 0


@routes
def test_a_good_status_with_no_answer_is_an_error(
    captured: Captured, provider_server: ProviderServer, route: Route
) -> None:
    """A 200 that is no answer: the call failed, and what it cost is not known."""
    provider_server.always(route, Raw(body=b"{}"))
    with pytest.raises(Exception):  # noqa: B017 - each client has an error of its own
        run(provider_server, route, streamed=False)

    # Gemini's takes it for an answer without content, which the agent refuses.
    assert verdicts(captured, "calls") == {"failure" if route == "gemini" else "error": 1}
    assert attributes(captured.span("invoke_agent asker"))["otelagents.usage.complete"] is False


@routes
def test_a_server_error_is_refused(
    captured: Captured, provider_server: ProviderServer, route: Route
) -> None:
    """A request with a wrong key is not repeated and not billed."""
    provider_server.reply(route, Failure(status=401, message="wrong key"))
    with pytest.raises(ModelHTTPError):
        run(provider_server, route, streamed=False)

    assert verdicts(captured, "attempts") == {"error": 1}
    assert attributes(captured.span("invoke_agent asker"))["otelagents.usage.complete"] is True


@routes
def test_a_call_that_is_cancelled_on_the_wire_is_no_error(
    captured: Captured, provider_server: ProviderServer, route: Route
) -> None:
    """The task is cancelled while the provider computes: cancellation, usage unseen."""
    hold = Hold(after=1)
    provider_server.reply(route, Answer(text="one two three", hold=hold))

    async def main() -> None:
        task = asyncio.create_task(ask(asker(provider_server, route), streamed=True))
        await asyncio.to_thread(hold.reached.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    agent = captured.span("invoke_agent asker")
    assert attributes(agent)["otelagents.result"] == "cancellation"
    assert attributes(agent)["otelagents.usage.complete"] is False
    assert agent.status.status_code.name == "UNSET"
    assert verdicts(captured, "calls") == {"cancellation": 1}


@routes
def test_a_provider_that_is_not_there_is_an_error(captured: Captured, route: Route) -> None:
    """No connection: each try is an attempt, nothing was billed, and nothing is unknown."""
    with ProviderServer() as gone:
        model = MODELS[route](gone)
    agent = Agent(model, name="asker", model_settings=WHOLE)
    with pytest.raises(Exception):  # noqa: B017 - each client has an error of its own
        asyncio.run(ask(agent, streamed=False))

    assert verdicts(captured, "calls") == {"error": 1}
    assert set(verdicts(captured, "attempts")) == {"error"}
    found = attributes(captured.span("invoke_agent asker"))
    assert found["otelagents.usage.complete"] is True
    assert roll_up(captured.span("invoke_agent asker"))["input_tokens"] == 0


def test_many_calls_at_once_add_up(captured: Captured, provider_server: ProviderServer) -> None:
    """Forty agents on four kinds of client, some refused first: the sums are the bill."""
    for route in MODELS:
        bill = bill_for(route)
        if route != "gemini":
            provider_server.reply(route, *[rate_limited()] * 3)
        provider_server.always(route, Answer(text="all is well", tokens=bill))

    async def main() -> None:
        with oa.run("shop"):
            await asyncio.gather(
                *(
                    ask(asker(provider_server, route), streamed=number % 2 == 0)
                    for route in MODELS
                    for number in range(10)
                )
            )

    asyncio.run(main())

    billed = provider_server.billed
    assert usage_sum(captured)["input_tokens"] == billed.input
    assert usage_sum(captured)["output_tokens"] == billed.output
    assert sum(tokens(captured).values()) == billed.input + billed.output
    assert verdicts(captured, "calls") == {"success": 40}
    assert verdicts(captured, "attempts") == {"error": 9, "success": 40}
    assert len(named(captured, "invoke_agent asker")) == 40
