"""What goes wrong on the wire: refusals, breaks and cancellations, each counted for what it is."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError

import otel_agents as oa
from otel_agents.testing import Captured
from tests.instrument.kit import attributes, roll_up, tokens, usage_sum, verdicts
from tests.instrument.wire import (
    MODELS,
    WHOLE,
    ProviderServer,
    Route,
    ask,
    asker,
    bill_for,
    price,
    repeating,
    routes,
    run,
    streaming,
)
from tests.providers.answers import Answer, Failure, Hold, Raw, rate_limited


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
    assert captured.metric("otelagents.model.errors", reason="RATE_LIMITED", agent="asker") == 1
    assert captured.metric("otelagents.model.errors") == 1
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


@pytest.mark.parametrize("broken", ["refused", "lost"])
def test_a_client_that_is_used_by_hand_has_its_attempts_seen(
    captured: Captured, provider_server: ProviderServer, broken: str
) -> None:
    """A synchronous client inside `model(...)`: what it repeats by itself is counted too."""
    bill = bill_for("chat")
    first = rate_limited() if broken == "refused" else Answer(text="x", tokens=bill, break_after=0)
    provider_server.reply("chat", first, Answer(text="all is well", tokens=bill))
    with (
        openai.OpenAI(base_url=f"{provider_server.url}/v1", api_key="sk-local") as client,
        oa.agent("byhand"),
        oa.model("gpt-4o", provider="openai") as call,
    ):
        asked = [{"role": "user", "content": "hi"}]
        call.response(client.chat.completions.create(model="gpt-4o", messages=asked))

    found = attributes(captured.span("chat gpt-4o"))
    assert found["otelagents.model.attempts"] == 2
    assert found["gen_ai.response.id"] == "chatcmpl-local"
    assert found["gen_ai.usage.input_tokens"] == bill.input
    assert found.get("otelagents.usage.complete", True) is (broken == "refused")
    assert verdicts(captured, "attempts") == {"error": 1, "success": 1}
    assert captured.metric("otelagents.cost") == pytest.approx(
        price("chat", "gpt-4o", bill), abs=1e-9
    )


async def streamed_events(agent: Agent[None, str]) -> AsyncIterator[Any]:
    async with agent, agent.run_stream_events("hi") as events:
        async for event in events:
            yield event


def first_chunk(captured: Captured) -> float:
    """Return when the first chunk came, in nanoseconds since the epoch."""
    call = captured.span("chat gpt-4o")
    seconds = attributes(call)["gen_ai.response.time_to_first_chunk"]
    return call.start_time + seconds * 1e9


def test_a_role_alone_is_not_the_first_chunk(
    captured: Captured, provider_server: ProviderServer
) -> None:
    """OpenAI's first event is a role, right after the request; the first chunk comes later."""
    hold = Hold(after=1)
    provider_server.reply("chat", Answer(text="all is well", hold=hold))

    async def main() -> int:
        task = asyncio.create_task(ask(asker(provider_server, "chat"), streamed=True))
        await asyncio.to_thread(hold.reached.wait, 20)
        released = time.time_ns()
        hold.release.set()
        await task
        return released

    released = asyncio.run(main())

    assert released <= first_chunk(captured)


def test_reasoning_is_the_first_chunk(captured: Captured, provider_server: ProviderServer) -> None:
    """A model that thinks first has answered when its thoughts come, not when its text does."""
    hold = Hold(after=2)
    provider_server.reply("chat", Answer(reasoning="hm, ", text="all is well", hold=hold))

    async def main() -> int:
        released = 0
        async with contextlib.aclosing(streamed_events(asker(provider_server, "chat"))) as events:
            async for _ in events:
                released = released or time.time_ns()
                hold.release.set()
        return released

    released = asyncio.run(main())

    assert first_chunk(captured) <= released
