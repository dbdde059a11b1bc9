"""pydantic-ai's real clients run against the local provider, over real sockets."""

import asyncio
import http.client
import json
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("anthropic")
pytest.importorskip("google.genai")
pytest.importorskip("openai")

from pydantic_ai import Agent, ModelRetry
from pydantic_ai.exceptions import (
    AgentRunError,
    ModelAPIError,
    ModelHTTPError,
    UnexpectedModelBehavior,
)
from pydantic_ai.models import Model
from pydantic_ai.settings import ModelSettings

from otel_agents.usage import StreamUsage, Usage, from_pydantic_ai, parse

from .answers import Answer, Failure, Hold, Raw, Reply, Tokens, ToolCall, rate_limited
from .clients import MODELS, anthropic_model, openai_model
from .server import ProviderServer, Request, Route

PROMPT = "What is one and two?"
# Small enough for pydantic-ai to ask Anthropic for a whole answer; it streams larger ones itself.
WHOLE = ModelSettings(max_tokens=1000)
DEADLINE = 90.0

routes = pytest.mark.parametrize("route", list(MODELS))
streaming = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


def tokens_for(route: Route) -> Tokens:
    """Return a bill with everything on it that the provider has."""
    return Tokens(
        input=100, output=20, cache_read=30, cache_write=0 if route == "gemini" else 7, reasoning=4
    )


def billed(server: ProviderServer, *, requests: int, tool_calls: int = 0) -> Usage:
    """Return the server's bill as usage."""
    tokens = server.billed
    return Usage(
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        cache_read_tokens=tokens.cache_read,
        cache_write_tokens=tokens.cache_write,
        reasoning_tokens=tokens.reasoning,
        requests=requests,
        tool_calls=tool_calls,
    )


def agent_for(model: Model) -> Agent[None, str]:
    """Make an agent with one tool."""
    agent = Agent(model, model_settings=WHOLE)

    @agent.tool_plain
    def add(left: int, right: int) -> int:
        """Add two numbers."""
        return left + right

    return agent


async def ask(agent: Agent[None, str], *, streamed: bool) -> tuple[str, Usage]:
    """Run the agent and return its output and usage."""
    async with agent:
        if not streamed:
            result = await agent.run(PROMPT)
            return result.output, from_pydantic_ai(result.usage)
        async with agent.run_stream(PROMPT) as stream:
            words = [word async for word in stream.stream_text(delta=True, debounce_by=None)]
            return "".join(words), from_pydantic_ai(stream.usage)


@routes
@streaming
def test_text(provider_server: ProviderServer, route: Route, streamed: bool) -> None:
    """An answer's text and usage arrive as they were billed."""
    provider_server.reply(route, Answer(text="One and two is three.", tokens=tokens_for(route)))
    agent = agent_for(MODELS[route](provider_server))

    output, usage = asyncio.run(ask(agent, streamed=streamed))

    assert output == "One and two is three."
    assert usage == billed(provider_server, requests=1)
    (request,) = provider_server.requests
    assert (request.route, request.streamed) == (route, streamed)
    assert PROMPT in json.dumps(request.body)
    assert provider_server.bills[0].model == request.model != ""


@routes
@streaming
def test_a_tool_call_round_trip(
    provider_server: ProviderServer,
    route: Route,
    streamed: bool,
) -> None:
    """A tool is asked for, run, told, and both requests are billed."""
    provider_server.reply(
        route,
        Answer(
            reasoning="I should add them.",
            tool_calls=(ToolCall("add", {"left": 1, "right": 2}),),
            tokens=tokens_for(route),
        ),
        Answer(text="It is 3.", tokens=tokens_for(route)),
    )
    agent = agent_for(MODELS[route](provider_server))

    output, usage = asyncio.run(ask(agent, streamed=streamed))

    assert output == "It is 3."
    assert usage == billed(provider_server, requests=2, tool_calls=1)
    assert [request.streamed for request in provider_server.requests] == [streamed, streamed]


@routes
def test_a_stream_that_breaks_off(provider_server: ProviderServer, route: Route) -> None:
    """The socket closes in mid-stream: the client raises, and the usage seen is a lower bound."""
    provider_server.reply(
        route,
        Answer(text="One and two is three, I think.", tokens=tokens_for(route), break_after=5),
    )
    seen: list[Usage] = []

    async def main() -> None:
        agent = agent_for(MODELS[route](provider_server))
        async with agent, agent.run_stream(PROMPT) as stream:
            try:
                async for _ in stream.stream_text(delta=True, debounce_by=None):
                    pass
            finally:
                seen.append(from_pydantic_ai(stream.usage))

    with pytest.raises(ModelAPIError, match=r"(?i)connection"):
        asyncio.run(main())

    whole = billed(provider_server, requests=1)
    early = {"messages": 100, "gemini": 100}  # these two tell the input at the start
    assert [usage.input_tokens for usage in seen] == [early.get(route, 0)]
    assert seen[0].output_tokens < whole.output_tokens
    assert len(provider_server.requests) == 1


@pytest.mark.parametrize("route", ["chat", "responses", "messages"])
@streaming
def test_a_rate_limit_is_retried_by_the_client(
    provider_server: ProviderServer,
    route: Route,
    streamed: bool,
) -> None:
    """429, then 200: OpenAI's and Anthropic's clients ask again by themselves; one is billed."""
    provider_server.reply(route, rate_limited(), Answer(text="Three.", tokens=tokens_for(route)))
    agent = agent_for(MODELS[route](provider_server))

    output, usage = asyncio.run(ask(agent, streamed=streamed))

    assert output == "Three."
    assert len(provider_server.requests) == 2
    assert len(provider_server.bills) == 1
    assert usage == billed(provider_server, requests=1)


def test_a_rate_limit_is_not_retried_by_googles_client(provider_server: ProviderServer) -> None:
    """Google's client raises at once, with the status."""
    provider_server.reply("gemini", rate_limited())
    agent = agent_for(MODELS["gemini"](provider_server))

    with pytest.raises(ModelHTTPError) as caught:
        asyncio.run(ask(agent, streamed=False))

    assert caught.value.status_code == 429
    assert len(provider_server.requests) == 1


@routes
@streaming
def test_a_server_error(
    provider_server: ProviderServer,
    route: Route,
    streamed: bool,
) -> None:
    """A 500 that stays is raised with its status after the client's retries; none is billed."""
    provider_server.always(
        route, Failure(status=500, headers={"retry-after-ms": "1"}, message="no luck today")
    )
    agent = agent_for(MODELS[route](provider_server))

    with pytest.raises(ModelHTTPError, match="no luck today") as caught:
        asyncio.run(ask(agent, streamed=streamed))

    assert caught.value.status_code == 500
    assert len(provider_server.requests) == (1 if route == "gemini" else 3)
    assert provider_server.billed == Tokens()


@routes
def test_a_200_that_is_no_answer(provider_server: ProviderServer, route: Route) -> None:
    """A 200 of HTML makes each client raise."""
    provider_server.always(route, Raw(body=b"<html>maintenance</html>", content_type="text/html"))
    agent = agent_for(MODELS[route](provider_server))

    with pytest.raises((AgentRunError, TypeError, AttributeError)):
        asyncio.run(ask(agent, streamed=False))

    assert provider_server.billed == Tokens()


@routes
def test_an_invalid_answer_is_asked_again_and_billed(
    provider_server: ProviderServer, route: Route
) -> None:
    """429, a 200 that fails validation, a good one: three requests or four, both 200s billed."""
    limited: list[Reply] = [] if route == "gemini" else [rate_limited()]
    provider_server.reply(
        route,
        *limited,
        Answer(text="no idea", tokens=tokens_for(route)),
        Answer(text="3", tokens=tokens_for(route)),
    )
    agent = agent_for(MODELS[route](provider_server))

    @agent.output_validator
    def a_number(output: str) -> str:
        if not output.isdigit():
            message = "Answer with a number."
            raise ModelRetry(message)
        return output

    output, usage = asyncio.run(ask(agent, streamed=False))

    assert output == "3"
    assert len(provider_server.requests) == 2 + len(limited)
    assert usage == billed(provider_server, requests=2)


def test_a_body_cut_in_half_is_asked_for_again_unseen(provider_server: ProviderServer) -> None:
    """OpenAI's client asks again after half a body, and the first answer's bill is never seen."""
    provider_server.reply(
        "chat",
        Answer(text="Three.", tokens=tokens_for("chat"), break_after=0),
        Answer(text="Three.", tokens=tokens_for("chat")),
    )

    _, usage = asyncio.run(ask(agent_for(openai_model(provider_server)), streamed=False))

    assert provider_server.billed.input == 200
    assert usage.input_tokens == 100


@pytest.mark.parametrize("route", ["chat", "responses", "gemini"])
@streaming
def test_an_answer_without_usage_is_not_zero(
    provider_server: ProviderServer,
    route: Route,
    streamed: bool,
) -> None:
    """An answer that leaves its usage out is incomplete. Anthropic's client fails without it."""
    provider_server.reply(route, Answer(text="Three.", with_usage=False))
    agent = agent_for(MODELS[route](provider_server))

    output, usage = asyncio.run(ask(agent, streamed=streamed))

    assert output == "Three."
    assert usage == Usage(requests=1, complete=False)


@routes
def test_a_cancelled_stream(provider_server: ProviderServer, route: Route) -> None:
    """A caller that gives up while the answer stands still is cancelled; the bill is whole."""
    hold = Hold(after=4)
    answer = Answer(text="One and two is three, I think.", tokens=tokens_for(route), hold=hold)
    provider_server.reply(route, answer)

    async def main() -> None:
        agent = agent_for(MODELS[route](provider_server))
        running = asyncio.create_task(ask(agent, streamed=True))
        assert await asyncio.to_thread(hold.reached.wait, DEADLINE)
        running.cancel()
        await running

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())

    assert provider_server.billed == tokens_for(route)


def test_requests_in_parallel(provider_server: ProviderServer) -> None:
    """A function answers each of many requests at once by what it asks."""

    def echo(request: Request) -> Answer:
        return Answer(text=request.body["messages"][-1]["content"][::-1], tokens=Tokens(input=1))

    provider_server.always("chat", echo)

    async def main() -> list[str]:
        async with Agent(openai_model(provider_server)) as agent:
            results = await asyncio.gather(*(agent.run(f"<{n}>") for n in range(20)))
        return [result.output for result in results]

    assert asyncio.run(main()) == [f"<{n}>"[::-1] for n in range(20)]
    assert provider_server.billed == Tokens(input=20)


# ---- the server itself, without a client library

PATHS: dict[Route, tuple[str, str]] = {
    "chat": ("/v1/chat/completions", "/v1/chat/completions"),
    "responses": ("/v1/responses", "/v1/responses"),
    "messages": ("/v1/messages", "/v1/messages"),
    "gemini": (
        "/v1beta/models/gemini-2.5-pro:generateContent",
        "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
    ),
}


def post(server: ProviderServer, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
    """Send a request and return status and body; the body so far when it breaks off."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=DEADLINE)
    try:
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        answer = connection.getresponse()
        try:
            return answer.status, answer.read()
        except http.client.IncompleteRead as broken:
            return answer.status, broken.partial
    finally:
        connection.close()


def raw(server: ProviderServer, route: Route, *, streamed: bool) -> bytes:
    """Ask as a program without a client library would."""
    body = {"model": "m", "stream": streamed, "stream_options": {"include_usage": True}}
    status, data = post(server, PATHS[route][streamed], body)

    assert status == 200
    return data


@routes
def test_raw_answers_parse_to_the_bill(provider_server: ProviderServer, route: Route) -> None:
    """What `parse` reads in a raw body is what the server billed."""
    provider_server.reply(route, Answer(text="Three.", tokens=tokens_for(route)))

    data = raw(provider_server, route, streamed=False)

    assert parse(data) == billed(provider_server, requests=1)


@routes
def test_raw_streams_fold_to_the_bill(provider_server: ProviderServer, route: Route) -> None:
    """What `StreamUsage` folds from the raw lines is what the server billed."""
    provider_server.reply(
        route, Answer(text="It is three.", reasoning="Let me see.", tokens=tokens_for(route))
    )
    fold = StreamUsage()

    for line in raw(provider_server, route, streamed=True).splitlines():
        fold.feed(line)

    assert fold.complete
    assert fold.usage == billed(provider_server, requests=1)


@routes
def test_a_raw_stream_that_breaks_off(provider_server: ProviderServer, route: Route) -> None:
    """A broken raw stream folds to a lower bound that says so."""
    provider_server.reply(
        route, Answer(text="It is three, I think.", tokens=tokens_for(route), break_after=4)
    )
    fold = StreamUsage()

    for line in raw(provider_server, route, streamed=True).splitlines():
        fold.feed(line)

    early = {"messages": 100, "gemini": 100}
    assert not fold.complete
    assert not fold.usage.complete
    assert fold.usage.input_tokens == early.get(route, 0)
    assert fold.usage.output_tokens < provider_server.billed.output


FIRST: dict[Route, list[Callable[[dict[str, Any]], object]]] = {
    "chat": [
        lambda event: event["choices"][0]["delta"]["role"],
        lambda event: event["choices"][0]["delta"]["reasoning_content"],
    ],
    "responses": [
        lambda event: event["response"]["status"],
        lambda event: event["response"]["status"],
        lambda event: event["item"]["type"],
    ],
    "messages": [
        lambda event: event["message"]["role"],
        lambda event: event["content_block"]["type"],
    ],
    "gemini": [lambda event: event["candidates"][0]["content"]["parts"][0]["thought"]],
}
EXPECTED_FIRST: dict[Route, list[object]] = {
    "chat": ["assistant", "Hm. "],
    "responses": ["in_progress", "in_progress", "reasoning"],
    "messages": ["assistant", "thinking"],
    "gemini": [True],
}


@routes
def test_streams_begin_as_the_providers_do(provider_server: ProviderServer, route: Route) -> None:
    """The first events carry the role alone, then the reasoning; the text comes after."""
    provider_server.reply(route, Answer(text="Three.", reasoning="Hm. So."))

    lines = raw(provider_server, route, streamed=True).decode().splitlines()
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: {")]
    events = [json.loads(line) for line in data]

    begun = [look(event) for look, event in zip(FIRST[route], events, strict=False)]
    assert begun == EXPECTED_FIRST[route]
    assert all("Three." not in line for line in data[: len(begun)])


def test_chat_usage_is_streamed_only_when_asked_for(provider_server: ProviderServer) -> None:
    """Without `include_usage` OpenAI's stream ends without counts."""
    provider_server.reply("chat", Answer(text="Three."))

    _, data = post(provider_server, "/v1/chat/completions", {"model": "m", "stream": True})

    assert b'"usage"' not in data
    assert data.endswith(b"data: [DONE]\n\n")


def test_a_request_that_is_not_scripted_fails_the_test() -> None:
    """The end of the server tells of a request that it had no reply for."""
    server = ProviderServer().__enter__()
    status, _ = post(server, "/v1/chat/completions", {"model": "m"})

    with pytest.raises(AssertionError, match=r"nothing is scripted for chat: /v1/chat/completions"):
        server.__exit__(None, None, None)

    assert status == 404


def test_a_break_that_cannot_happen_fails_the_test() -> None:
    """A stream that ended before it was to break off is told of too."""
    server = ProviderServer().__enter__()
    server.reply("chat", Answer(text="Three.", break_after=99))
    raw(server, "chat", streamed=True)

    with pytest.raises(AssertionError, match=r"no break: the stream had only 5 events"):
        server.__exit__(None, None, None)


def test_an_answer_no_provider_gives_fails_the_test() -> None:
    """A bill that the provider does not have is told of."""
    server = ProviderServer().__enter__()
    server.reply("gemini", Answer(text="Three.", tokens=Tokens(input=9, cache_write=3)))
    with pytest.raises(http.client.RemoteDisconnected):
        raw(server, "gemini", streamed=False)

    with pytest.raises(AssertionError, match=r"Gemini does not bill"):
        server.__exit__(None, None, None)


def test_unknown_paths_are_not_answered(provider_server: ProviderServer) -> None:
    """Any other path is a 404, and no request of the script's."""
    status, _ = post(provider_server, "/v2/anything", {})

    assert status == 404
    assert provider_server.requests == []


def test_an_empty_stream_is_no_answer(provider_server: ProviderServer) -> None:
    """pydantic-ai refuses a streamed answer that holds nothing."""
    provider_server.always("messages", Answer())
    agent = agent_for(anthropic_model(provider_server))

    with pytest.raises(UnexpectedModelBehavior):
        asyncio.run(ask(agent, streamed=True))
