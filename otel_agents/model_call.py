"""A model call: its span carries `gen_ai.usage.*`, the only kind of span that does.

A question is what an agent puts to a model; asking again because the answer was refused is
another attempt at the same question. So a good answer waits for its verdict until the agent goes
on: to another question, or to its end.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from otel_agents.boundary import caught
from otel_agents.scope import Scope
from otel_agents.usage import Usage, parse
from otel_agents.values import coerce, plain
from otel_agents.vocabulary import (
    ATTEMPTS,
    CACHE_READ,
    CACHE_WRITE,
    COST,
    COVERED_BY,
    ERROR_TYPE,
    FINISH_REASONS,
    INPUT_TOKENS,
    KINDS,
    MODEL_ATTEMPTS,
    MODEL_CALLS,
    OPERATION,
    OUTPUT_TOKENS,
    PROVIDER,
    REASONING,
    REQUEST_MODEL,
    RESPONSE_ID,
    RESPONSE_MODEL,
    TIME_TO_FIRST_CHUNK,
    TOKENS,
    TOKENS_UNPRICED,
    USAGE_COMPLETE,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_agents.runtime import Runtime
    from otel_agents.signals import Failure
    from otel_agents.vocabulary import Outcome

_UNKNOWN: Final = Usage(requests=1, complete=False)
_TOKEN_TYPE: Final = "gen_ai.token.type"
_MODALITY: Final = "gen_ai.token.modality"


class Question:
    """An answered question that waits for its verdict, with what is to be counted then."""

    __slots__ = ("cost", "model", "where")

    def __init__(self, model: str, where: tuple[Any, ...], cost: float | None) -> None:
        self.model = model
        self.where = where
        self.cost = cost

    def settle(self, rt: Runtime, outcome: Outcome) -> None:
        """Take the verdict that comes with the end of the agent."""
        judge(rt, self, outcome)


class ModelCall(Scope):
    """One call of a model. Make it with `model`.

    `answered` tells what came back; without it the usage counts as unseen. `again` says that the
    call repeats a question whose answer was refused.
    """

    __slots__ = (
        "again", "covered_by", "finish_reasons", "first_chunk", "provider", "refused_requests",
        "response_id", "response_model", "used",
    )  # fmt: skip

    def _reset(self) -> None:
        super()._reset()
        self.used: Usage | None = None
        self.provider = str(self._fields.get("provider") or "")
        self.response_model = ""
        self.response_id = ""
        self.finish_reasons: list[str] = []
        self.first_chunk: float | None = None
        self.covered_by = ""
        self.again = False
        self.refused_requests = 0

    def answered(
        self,
        usage: Usage,
        *,
        model: str | None = None,
        id: str | None = None,  # noqa: A002 - the answer's id, as every provider names it
        finish_reasons: list[str] | None = None,
    ) -> None:
        """Say what the answer used, which model gave it, its id and why it ended."""
        self.used = usage
        self.response_model = model or self.response_model
        self.response_id = id or self.response_id
        self.finish_reasons = finish_reasons or self.finish_reasons

    def response(self, payload: object) -> None:
        """Take usage, model and id from a provider's raw answer: OpenAI, Anthropic or Gemini.

        `payload` is the parsed JSON, its text or bytes, or the SDK's object. A payload that no
        known provider sends leaves the usage unseen.
        """
        try:
            usage = parse(payload, provider=self.provider or None)
            read = (
                payload.get
                if isinstance(payload, dict)
                else lambda key: getattr(payload, key, None)
            )
            model = coerce(read("model") or read("model_version") or read("modelVersion"), str)
            self.answered(usage, model=model, id=coerce(read("id"), str))
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("model response", error)

    def chunk(self) -> None:
        """Say that a chunk with content arrived; only the first one counts."""
        if self.first_chunk is None and self._started:
            self.first_chunk = (time.perf_counter_ns() - self._started) / 1e9

    def refused_request(self) -> None:
        """Say that the provider refused a request (429, 5xx) or the connection failed."""
        self.refused_requests += 1

    # ------------------------------------------------------------------ ending

    def _finish(
        self, rt: Runtime, outcome: Outcome, seconds: float, attributes: dict[str, Any]
    ) -> None:
        usage = self.used
        if usage is None:
            usage = Usage(requests=1) if self.refused_requests and outcome == "error" else _UNKNOWN
        self.used = usage
        model = self.response_model or self.name or ""
        cost = rt.prices.cost(usage, model=model, provider=self.provider) if rt.prices else None
        if cost is None and rt.prices and self.name and self.name != model:
            # A provider can answer under a dated name that no table lists yet.
            cost = rt.prices.cost(usage, model=self.name, provider=self.provider)
        unpriced = usage.total_tokens if cost is None else 0
        self._describe(usage, attributes)
        self._count_tokens(rt, usage, model, unpriced)
        self.count(usage, cost, unpriced)
        self._count_attempts(rt, outcome, model, cost)

    def _describe(self, usage: Usage, attributes: dict[str, Any]) -> None:
        if self.provider and "provider" not in self._fields:
            attributes[PROVIDER.key] = self.provider
        if self.response_model:
            attributes[RESPONSE_MODEL.key] = self.response_model
        if self.response_id:
            attributes[RESPONSE_ID.key] = self.response_id
        if self.finish_reasons:
            attributes[FINISH_REASONS.key] = self.finish_reasons
        if self.first_chunk is not None:
            attributes[TIME_TO_FIRST_CHUNK.key] = self.first_chunk
        if self.refused_requests:
            attributes[ATTEMPTS.key] = self.refused_requests + (
                0 if ERROR_TYPE.key in attributes else 1
            )
        if not usage.complete:
            attributes[USAGE_COMPLETE.key] = False
        if self.covered_by:
            attributes[COVERED_BY.key] = self.covered_by
            return
        if usage.complete or usage.total_tokens:
            attributes[INPUT_TOKENS.key] = usage.input_tokens
            attributes[OUTPUT_TOKENS.key] = usage.output_tokens
            if usage.cache_read_tokens:
                attributes[CACHE_READ.key] = usage.cache_read_tokens
            if usage.cache_write_tokens:
                attributes[CACHE_WRITE.key] = usage.cache_write_tokens
            if usage.reasoning_tokens:
                attributes[REASONING.key] = usage.reasoning_tokens

    def _count_tokens(self, rt: Runtime, usage: Usage, model: str, unpriced: int) -> None:
        ids = self.frame.ids
        for kind, amount in usage.by_type().items():
            if amount:
                rt.metrics.add(TOKENS, (ids.agent, ids.phase, self.provider, model, kind), amount)
        if unpriced:
            rt.metrics.add(TOKENS_UNPRICED, (ids.agent, self.provider, model), unpriced)

    def _count_attempts(
        self, rt: Runtime, outcome: Outcome, model: str, cost: float | None
    ) -> None:
        ids = self.frame.ids
        for _ in range(self.refused_requests - (1 if outcome == "error" else 0)):
            rt.metrics.add(MODEL_ATTEMPTS, (ids.agent, model, "error"))
        question = Question(model, (ids.agent, ids.phase, self.provider), cost)
        holder = self.around("agent")
        if holder is not None:
            # Whether the last answer was good shows in what the agent asked next.
            settle(holder, rt, "failure" if self.again else "success", final=not self.again)
        if outcome == "success" and holder is not None and not holder.ended:
            holder.question = question
        else:
            judge(rt, question, outcome)

    def _measure(self, rt: Runtime, seconds: float, failure: Failure | None) -> None:
        if self.covered_by or self.used is None:
            return
        profile = rt.profile
        attributes: dict[str, Any] = {OPERATION.key: "chat"}
        if self.provider:
            attributes[PROVIDER.key] = self.provider
        if self.name:
            attributes[REQUEST_MODEL.key] = self.name
        if self.response_model:
            attributes[RESPONSE_MODEL.key] = self.response_model
        metrics = rt.metrics
        if profile.token_usage is not None and self.used.total_tokens:
            for kind, amount in (
                ("input", self.used.input_tokens),
                ("output", self.used.output_tokens),
            ):
                metrics.record(
                    profile.token_usage, amount, {**attributes, _TOKEN_TYPE: kind}, self.context
                )
        for field, metric in profile.token_counters.items():
            amount = getattr(self.used, field)
            if amount:
                metrics.count(metric, {**attributes, _MODALITY: "unknown"}, amount)
        if self.first_chunk is not None:
            metrics.record(profile.first_chunk, self.first_chunk, attributes, self.context)
        if failure is not None:
            attributes[ERROR_TYPE.key] = failure.type
        metrics.record(profile.model_duration, seconds, attributes, self.context)


def judge(rt: Runtime, question: Question, outcome: Outcome, *, final: bool = True) -> None:
    """Count an attempt under its verdict, and the question too where it is `final`."""
    agent = question.where[0]
    rt.metrics.add(MODEL_ATTEMPTS, (agent, question.model, outcome))
    if final:
        rt.metrics.add(MODEL_CALLS, (agent, question.model, outcome))
    if question.cost is not None:
        rt.metrics.add(COST, (*question.where, question.model, outcome), question.cost)


def settle(holder: Scope, rt: Runtime, outcome: Outcome, *, final: bool = True) -> None:
    """Give the verdict on an agent's last answer, if one waits for it."""
    question, holder.question = holder.question, None
    if isinstance(question, Question):
        judge(rt, question, outcome, final=final)


def model(
    name: str | None = None,
    *,
    provider: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> ModelCall:
    """Return a scope for one call of a model, for code that calls a provider by itself.

    with model("gpt-5", provider="openai") as call:
        call.response(client.chat.completions.create(...))
    """
    fields = {"provider": provider} if provider else {}
    return ModelCall(KINDS["model"], plain(name), attributes=attributes, fields=fields)
