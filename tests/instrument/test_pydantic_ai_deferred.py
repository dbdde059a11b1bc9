"""Answers that do not come at once: suspended ones, and batches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from genai_prices import Usage as PricedUsage
from genai_prices import calc_price
from pydantic_ai import Agent, direct
from pydantic_ai._utils import now_utc
from pydantic_ai.capabilities import BatchModelRequests
from pydantic_ai.exceptions import ModelAPIError
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.batch import Batch, BatchRequest, BatchResult, EncodedBatchRequest
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

import otel_agents as oa
from otel_agents.testing import Captured
from tests.instrument.kit import (
    CALL,
    answering,
    attributes,
    named,
    roll_up,
    tokens,
    usage_sum,
    verdicts,
)

pytestmark = pytest.mark.usefixtures("thread_loop")


def suspended(job: str, usage: RequestUsage | None = None, text: str = "") -> ModelResponse:
    return ModelResponse(
        parts=[TextPart(text)] if text else [],
        usage=usage or RequestUsage(),
        provider_response_id=job,
        state="suspended",
    )


def whole(job: str, usage: RequestUsage) -> ModelResponse:
    return ModelResponse(parts=[TextPart("done")], usage=usage, provider_response_id=job)


class Slow(Model):
    """A model whose answers come as it was told, with the usage they say."""

    def __init__(self, *answers: ModelResponse) -> None:
        super().__init__()
        self.answers = list(answers)

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        answer = self.answers.pop(0)
        answer.model_name = "priced"
        return answer

    @property
    def model_name(self) -> str:
        return "priced"

    @property
    def system(self) -> str:
        return "slow"


def test_a_job_that_is_polled_is_one_question_billed_once(captured: Captured) -> None:
    """Each poll is a span; a bill that is told again and again counts once, and is complete."""
    half = RequestUsage(input_tokens=100, output_tokens=4)
    model = Slow(suspended("job"), suspended("job", half), whole("job", CALL))
    Agent(model, name="patient").run_sync("hi")

    assert len(named(captured, "chat priced")) == 3
    assert usage_sum(captured) == {"input_tokens": 100, "output_tokens": 10}
    assert tokens(captured) == {"input": 100, "output": 10}
    agent = captured.span("invoke_agent patient")
    assert roll_up(agent) == {"input_tokens": 100, "output_tokens": 10, "requests": 1}
    assert attributes(agent)["otelagents.usage.complete"] is True
    assert verdicts(captured, "calls") == {"success": 1}
    assert verdicts(captured, "attempts") == {"success": 1}
    assert captured.metric("otelagents.cost") == pytest.approx(120e-6)


def test_an_answer_in_several_turns_bills_each(captured: Captured) -> None:
    """A paused turn that goes on under a new id is a request of its own, of the same question."""
    model = Slow(suspended("one", CALL, "so far"), whole("two", CALL))
    Agent(model, name="patient").run_sync("hi")

    assert tokens(captured) == {"input": 200, "output": 20}
    assert verdicts(captured, "calls") == {"success": 1}
    assert verdicts(captured, "attempts") == {"success": 1}
    assert captured.metric("otelagents.cost") == pytest.approx(240e-6)


class Mill(Model):
    """A model with a batch API: what it is given is decoded once the batch has ended."""

    def __init__(self, **failed: str) -> None:
        super().__init__()
        self.failed = failed

    @property
    def model_name(self) -> str:
        return "claude-sonnet-4-5"

    @property
    def system(self) -> str:
        return "anthropic"

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        raise NotImplementedError

    @property
    def batch_max_requests(self) -> int:
        return 100

    async def batch_encode(self, request: BatchRequest) -> EncodedBatchRequest:
        return EncodedBatchRequest(custom_id=request.custom_id, body="{}", group="g")

    async def batch_create(self, requests: Sequence[EncodedBatchRequest]) -> Batch:
        self.ids = [request.custom_id for request in requests]
        return Batch(
            id="b", model_name=self.model_name, provider_name="anthropic", group="g",
            status="ended", created_at=now_utc(), request_count=len(requests),
        )  # fmt: skip

    async def batch_status(self, batch: Batch) -> Batch:
        return batch

    async def batch_results(self, batch: Batch) -> list[BatchResult]:
        return [BatchResult(custom_id=id_, status="succeeded", body="{}") for id_ in self.ids]

    async def batch_cancel(self, batch: Batch) -> Batch:
        return batch

    def batch_decode(self, result: BatchResult, request: BatchRequest) -> ModelResponse:
        if result.custom_id in self.failed:
            raise ModelAPIError(self.model_name, self.failed[result.custom_id])
        return ModelResponse(
            parts=[TextPart("done")], usage=CALL, model_name=self.model_name,
            provider_name="anthropic",
        )  # fmt: skip


def batch_price() -> float:
    price = calc_price(
        PricedUsage(input_tokens=100, output_tokens=10),
        "claude-sonnet-4-5", provider_id="anthropic", price_context={"processing": "batch"},
    )  # fmt: skip
    return float(price.total_price)


def test_the_answers_of_a_batch_are_billed_at_its_rates(captured: Captured) -> None:
    """Each answer is a call, priced as its provider prices batches; a failed one is not billed."""
    requests = [
        BatchRequest(custom_id=name, messages=[ModelRequest.user_text_prompt("hi")])
        for name in ("one", "two", "three")
    ]
    with oa.run("shop"):
        answers = asyncio.run(direct.model_request_batch(Mill(two="overloaded"), requests))

    assert [isinstance(answer, Exception) for answer in answers] == [False, True, False]
    assert tokens(captured) == {"input": 200, "output": 20}
    assert verdicts(captured, "calls") == {"success": 2, "error": 1}
    assert captured.metric("otelagents.cost") == pytest.approx(2 * batch_price(), abs=1e-9)
    assert roll_up(captured.span("invoke_workflow shop"))["input_tokens"] == 200


def test_an_agent_that_batches_its_requests_is_billed_once(captured: Captured) -> None:
    """`BatchModelRequests` sends an agent's requests by the batch API; the agent owns the call."""

    async def main() -> None:
        soon = timedelta(milliseconds=1)
        async with BatchModelRequests(max_requests=1, poll_interval=soon) as batching:
            await Agent(Mill(), name="frugal", capabilities=[batching]).run("hi")

    asyncio.run(main())

    assert captured.tree() == "invoke_agent frugal\n  chat claude-sonnet-4-5"
    assert tokens(captured) == {"input": 100, "output": 10}
    assert captured.metric("otelagents.cost", agent="frugal") == pytest.approx(batch_price())


def test_a_batch_that_runs_in_memory_is_counted_once(captured: Captured) -> None:
    """pydantic-ai's own test models answer a batch by `request`: no second call for decoding."""
    requests = [BatchRequest(custom_id="one", messages=[ModelRequest.user_text_prompt("hi")])]
    asyncio.run(direct.model_request_batch(answering("done"), requests))

    assert verdicts(captured, "calls") == {"success": 1}
    assert tokens(captured) == {"input": 100, "output": 10}
