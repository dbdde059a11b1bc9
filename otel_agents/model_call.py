"""A model call: its span carries `gen_ai.usage.*`, the only kind of span that does.

A question is what an agent puts to a model; asking again because the answer was refused or none
came is another attempt at the same question. So an answer waits for its verdict until the agent
goes on: to another question, or to its end.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from otel_agents import runtime
from otel_agents.boundary import caught
from otel_agents.context import current_frame
from otel_agents.details import emit_details
from otel_agents.errors import BudgetExceeded
from otel_agents.reasons import FALLBACKS, MODEL_RETRIES, PROVIDER_RETRIES
from otel_agents.runtime_events import route, say
from otel_agents.scope import Scope
from otel_agents.usage import Usage, parse
from otel_agents.usage.reading import get
from otel_agents.values import coerce
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
    MODEL_ERRORS,
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

    from opentelemetry.context import Context

    from otel_agents.reasons import Reason
    from otel_agents.runtime import Runtime
    from otel_agents.signals import Failure
    from otel_agents.vocabulary import Outcome

_UNKNOWN: Final = Usage(requests=1, complete=False)
_TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - an attribute's key
_MODALITY: Final = "gen_ai.token.modality"
# What comes next in an agent after a call that ended so is another try at the same question.
_UNANSWERED: Final = frozenset({"failure", "error", "timeout"})


class Question:
    """A question that waits for its verdict, with what is to be counted then.

    `outcome` is how the call ended: a success may yet be refused, anything else stays as it is.
    `asked` is the model that was asked and `length` how many messages its agent had then; `error`
    and `trouble` say why it failed, as a class and as a code of the provider's retries.
    """

    __slots__ = ("asked", "cost", "error", "length", "model", "outcome", "trouble", "where")

    def __init__(
        self, model: str, where: tuple[Any, ...], cost: float | None, outcome: Outcome
    ) -> None:
        self.asked = model
        self.length = 0
        self.error = ""
        self.trouble = ""
        self.model = model
        self.where = where
        self.cost = cost
        self.outcome = outcome

    def settle(self, rt: Runtime, outcome: Outcome, *, final: bool = True) -> None:
        """Count an attempt under its verdict, and the question too where it is `final`."""
        verdict = outcome if self.outcome == "success" else self.outcome
        agent = self.where[0]
        rt.metrics.add(MODEL_ATTEMPTS, (agent, self.model, verdict))
        if final:
            rt.metrics.add(MODEL_CALLS, (agent, self.model, verdict))
        self.pay(rt, verdict)

    def pay(self, rt: Runtime, verdict: Outcome) -> None:
        """Count the cost alone: the rest of the answer is still to come."""
        if self.cost is not None:
            rt.metrics.add(COST, (*self.where, self.model, verdict), self.cost)


class ModelCall(Scope):
    """One call of a model. Make it with `model`.

    `answered` tells what came back; without it the usage counts as unseen. `again` says that the
    call repeats a question whose answer was refused, `continues` that it fetches the rest of an
    answer; both are told before the call starts. `refusal` is why the answer was refused, as a
    code of `reasons.MODEL_RETRIES`; `length` how many messages its agent has; `billed` that its
    answer is there already, so that no budget can prevent it.
    """

    __slots__ = (
        "again", "billed", "content", "continues", "covered_by", "details", "failed_requests",
        "finish_reasons", "first_chunk", "last_failed", "length", "provider", "refusal",
        "response_id", "response_model", "so_far", "trouble", "troubles", "unseen", "url", "used",
    )  # fmt: skip

    def _reset(self) -> None:
        super()._reset()
        self.used: Usage | None = None
        self.so_far: Usage | None = None
        self.billed = False
        self.provider = coerce(self._fields.get("provider"), str) or ""
        self.response_model = ""
        self.response_id = ""
        self.finish_reasons: list[str] = []
        self.url: str | None = None
        self.details: Mapping[str, Any] | None = None
        self.first_chunk: float | None = None
        self.covered_by = ""
        self.again = False
        self.continues = False
        self.failed_requests = 0
        self.last_failed = False
        self.length = 0
        self.refusal = ""
        self.trouble = ""
        self.troubles: list[str] = []
        self.unseen = False
        self.content: dict[str, str] = {}

    def start(self, context: Context | None = None) -> None:
        """Open the span, unless a budget of the scopes around does not allow the call.

        Raises:
            BudgetExceeded: A budget that enforces is spent; the call is not begun.

        """
        if not self.billed:
            admit(context)
        super().start(context)

    def _end_in(self, rt: Runtime, error: BaseException | None) -> None:
        """End the span; a stream that a budget cut is no failure of the provider's."""
        super()._end_in(rt, GeneratorExit() if isinstance(error, BudgetExceeded) else error)

    def _start_in(self, rt: Runtime, context: Context) -> None:
        super()._start_in(rt, context)
        holder = self._asker()
        if holder is None or not isinstance(holder.question, Question):
            return
        # Whether the last answer was good shows in what is asked next.
        question = holder.question
        if self.continues and question.outcome == "success":
            holder.question = None
            question.pay(rt, "success")
        else:
            same = self.again or question.outcome in _UNANSWERED
            settle(holder, rt, "failure" if self.again else "success", final=not same)
            if question.outcome in _UNANSWERED:
                self._tell_repeat(question)
            elif self.again:
                reason = MODEL_RETRIES.get(self.refusal, MODEL_RETRIES["OUTPUT_INVALID"])
                say(self, reason, entity_id=self.name, agent=holder.name)
            elif self.length and self.length == question.length:
                # The agent heard nothing since: the answer was rejected on its way to it.
                self._tell_fallback(question, "rejected")

    def _tell_repeat(self, question: Question) -> None:
        """Tell that a question is asked again that failed: another model, or the same one."""
        if self._tell_fallback(question, question.error):
            return
        code = "TIMEOUT" if question.outcome == "timeout" else question.trouble
        reason = _retry(code)
        error = question.error or None
        say(self, reason, entity_id=self.name, provider=self.provider, error=error)

    def _tell_fallback(self, question: Question, error: str) -> bool:
        """Tell that another model is asked the same; return whether it is another."""
        provider = question.where[2]
        if (self.provider, self.name or "") == (provider, question.asked):
            return False
        say(
            self,
            FALLBACKS["FELL_BACK"],
            entity_id=question.asked,
            from_provider=provider,
            from_model=question.asked,
            to_provider=self.provider,
            to_model=self.name,
            error=error or None,
        )
        return True

    def _asker(self) -> Scope | None:
        """Return the agent that asks by itself, not by one of its tools."""
        scope = self.parent
        while scope is not None and scope.kind.name not in {"agent", "tool"}:
            scope = scope.parent
        return scope if scope is not None and scope.kind.name == "agent" else None

    def answered(
        self,
        usage: Usage,
        *,
        model: str | None = None,
        id: str | None = None,  # noqa: A002 - the answer's id, as every provider names it
        finish_reasons: list[str] | None = None,
        url: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Say what the answer used, which model gave it, its id and why it ended.

        `url` is the address that was called and `details` what the provider said besides, such
        as its service tier: prices can depend on both.
        """
        self.used = usage
        self.url = url or self.url
        self.details = details or self.details
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
            named = _read(payload, "model", "model_version", "modelVersion")
            self.answered(
                usage,
                model=coerce(named, str),
                id=coerce(_read(payload, "id", "response_id", "responseId"), str),
            )
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("model response", error)

    def chunk(self, usage: Usage | None = None) -> None:
        """Say that a chunk with content arrived; only the first one counts.

        `usage` is what the provider says was used so far, where it does. It counts, once, where
        `answered` or `response` says nothing more.

        Raises:
            BudgetExceeded: It is more than a budget that enforces has left: end the stream.

        """
        if self.first_chunk is None and self._started:
            self.first_chunk = (time.perf_counter_ns() - self._started) / 1e9
        if usage is not None:
            self.spending(usage)

    @property
    def limited(self) -> bool:
        """Whether a budget that enforces holds for the call."""
        try:
            ledgers: tuple[Any, ...] = self.ledgers
            return any(ledger.enforced for ledger in ledgers)
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("budget", error)
            return False

    def spending(self, usage: Usage) -> None:
        """Take what was used so far, and raise BudgetExceeded where it is too much."""
        if usage == self.so_far:
            return
        self.so_far = usage
        rt = self._rt
        if rt is None or rt.budgets is None or not self.limited:
            return
        try:
            cost = self._cost(rt, usage, self.response_model or self.name or "")
        except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
            caught("model chunk", error)
            cost = None
        rt.budgets.check(self, usage, cost)

    def sent(self, *, refused: bool = False, lost: bool = False, trouble: str = "") -> None:
        """Say how a request of the call to its provider went; without any, one went well.

        `refused`: with an error (429, 5xx) or no connection, so that nothing was billed.
        `lost`: the answer did not arrive whole, and what the provider bills for it is not known.
        `trouble`: why it failed, as a code of `reasons.PROVIDER_RETRIES`.
        """
        if self.last_failed:
            # The one before failed: this was a retry, of the client's own.
            reason = _retry(self.trouble)
            say(self, reason, entity_id=self.name, provider=self.provider)
        if refused or lost:
            self.trouble = trouble
            self.troubles.append(trouble)
        self.last_failed = refused or lost
        self.failed_requests += self.last_failed
        self.unseen = self.unseen or lost

    # ------------------------------------------------------------------ ending

    def _finish(
        self, rt: Runtime, outcome: Outcome, seconds: float, attributes: dict[str, Any]
    ) -> None:
        super()._finish(rt, outcome, seconds, attributes)
        usage = self.used
        if usage is None and self.so_far is not None:
            usage = replace(self.so_far, complete=False)
        if usage is None:
            refused = self.last_failed and outcome in _UNANSWERED
            usage = Usage(requests=1) if refused else _UNKNOWN
        if self.unseen and usage.complete:
            usage = replace(usage, complete=False)
        self.used = usage
        model = self.response_model or self.name or ""
        cost = self._cost(rt, usage, model)
        if cost is None and self.name and self.name != model:
            # A provider can answer under a dated name that no table lists yet.
            cost = self._cost(rt, usage, self.name)
        unpriced = usage.total_tokens if cost is None else 0
        self._describe(usage, attributes)
        self._count_tokens(rt, usage, model, unpriced)
        self.count(usage, cost, unpriced, (self.provider, model))
        if outcome == "success" and rt.pipeline is not None:
            route(self, rt.pipeline, self.provider, model)
        error = attributes.get(ERROR_TYPE.key, "")
        requests = self._count_attempts(rt, outcome, model, cost, error)
        if requests > 1:
            attributes[ATTEMPTS.key] = requests

    def _cost(self, rt: Runtime, usage: Usage, model: str) -> float | None:
        if rt.prices is None:
            return None
        return rt.prices.cost(
            usage, model=model, provider=self.provider, url=self.url, context=self.details
        )

    def _describe(self, usage: Usage, attributes: dict[str, Any]) -> None:
        found: dict[str, Any] = {
            RESPONSE_MODEL.key: self.response_model or None,
            RESPONSE_ID.key: self.response_id or None,
            FINISH_REASONS.key: tuple(self.finish_reasons) or None,
            TIME_TO_FIRST_CHUNK.key: self.first_chunk,
            USAGE_COMPLETE.key: None if usage.complete else False,
            COVERED_BY.key: self.covered_by or None,
        }
        if not self.covered_by and (usage.complete or usage.total_tokens):
            found[INPUT_TOKENS.key] = usage.input_tokens
            found[OUTPUT_TOKENS.key] = usage.output_tokens
            found[CACHE_READ.key] = usage.cache_read_tokens or None
            found[CACHE_WRITE.key] = usage.cache_write_tokens or None
            found[REASONING.key] = usage.reasoning_tokens or None
        attributes.update((key, value) for key, value in found.items() if value is not None)

    def _count_tokens(self, rt: Runtime, usage: Usage, model: str, unpriced: int) -> None:
        ids = self.frame.ids
        for kind, amount in usage.by_type().items():
            if amount:
                rt.metrics.add(TOKENS, (ids.agent, ids.phase, self.provider, model, kind), amount)
        if unpriced:
            rt.metrics.add(TOKENS_UNPRICED, (ids.agent, self.provider, model), unpriced)

    def _count_attempts(
        self, rt: Runtime, outcome: Outcome, model: str, cost: float | None, error: str
    ) -> int:
        """Count the tries and, as soon as its verdict is known, the question; return the tries."""
        ids = self.frame.ids
        before = self.failed_requests - (self.last_failed and outcome != "success")
        if before:
            rt.metrics.add(MODEL_ATTEMPTS, (ids.agent, model, "error"), before)
        if outcome in _UNANSWERED and not self.last_failed:
            self.troubles.append("TIMEOUT" if outcome == "timeout" else "ERROR")
        for trouble in self.troubles:
            code = _retry(trouble).code
            rt.metrics.add(MODEL_ERRORS, (ids.agent, self.provider, model, code))
        question = Question(model, (ids.agent, ids.phase, self.provider), cost, outcome)
        question.asked, question.length = self.name or "", self.length
        question.error, question.trouble = error, self.trouble
        holder = self._asker()
        waits = outcome == "success" or outcome in _UNANSWERED
        if holder is not None and waits and not holder.ended:
            # Asked beside another that waits, as no agent loop does: that one was not refused.
            settle(holder, rt, "success")
            holder.question = question
        else:
            question.settle(rt, outcome)
        return before + 1

    def keep_content(self, key: str, text: str) -> None:
        """Keep message content, bounded and redacted already, for the span, an event or both."""
        rt = self._rt
        if rt is not None and rt.capture:
            self.keep(key, text)
        if rt is not None and rt.capture_events:
            self.content[key] = text

    def _measure(self, rt: Runtime, seconds: float, failure: Failure | None) -> None:
        if self.content:
            emit_details({**self.frame.stamp, **self._late, **self.content}, self.context)
        if self.covered_by or self.used is None:
            return
        named: dict[str, Any] = {
            OPERATION.key: "chat",
            PROVIDER.key: self.provider,
            REQUEST_MODEL.key: self.name,
            RESPONSE_MODEL.key: self.response_model,
        }
        # A counter of ours has the same labels every time, and reports those that have a value.
        for field, counter in rt.profile.token_counters.items():
            if amount := getattr(self.used, field):
                rt.metrics.count(counter, {**named, _MODALITY: "unknown"}, amount)
        profile, metrics = rt.profile, rt.metrics
        attributes = {key: value for key, value in named.items() if value}
        self._measure_tokens(rt, self.used, attributes)
        if self.first_chunk is not None:
            metrics.record(profile.first_chunk, self.first_chunk, attributes, self.context)
        if failure is not None:
            attributes = {**attributes, ERROR_TYPE.key: failure.type}
        metrics.record(profile.model_duration, seconds, attributes, self.context)

    def _measure_tokens(self, rt: Runtime, used: Usage, attributes: dict[str, Any]) -> None:
        histogram = rt.profile.token_usage
        if histogram is not None and used.total_tokens:
            for kind, amount in (("input", used.input_tokens), ("output", used.output_tokens)):
                labels = {**attributes, _TOKEN_TYPE: kind}
                rt.metrics.record(histogram, amount, labels, self.context)


def _read(payload: object, *names: str) -> object:
    """Return the first field of these that a payload has, as JSON or as an SDK's object."""
    return next((value for name in names if (value := get(payload, name)) is not None), None)


def _retry(trouble: str) -> Reason:
    """Return what a provider's trouble is told as; one that is not known is an error."""
    return PROVIDER_RETRIES.get(trouble, PROVIDER_RETRIES["ERROR"])


def admit(context: Context | None = None) -> None:
    """Raise BudgetExceeded where a budget allows no model call in a context, the current one."""
    try:
        rt = runtime.peek()
        if rt is None or rt.budgets is None or rt.disabled:
            return
        frame = current_frame(context)
        scope = None if frame is None else frame.scope
        if scope is not None and scope.ledgers:
            rt.budgets.check(scope)
    except BudgetExceeded:
        raise
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("budget", error)


def settle(holder: Scope, rt: Runtime, outcome: Outcome, *, final: bool = True) -> None:
    """Give the verdict on an agent's last answer, if one waits for it."""
    question, holder.question = holder.question, None
    if isinstance(question, Question):
        question.settle(rt, outcome, final=final)


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
    try:
        given = coerce(provider, str)
        fields = {"provider": given} if given else {}
        return ModelCall(KINDS["model"], coerce(name, str), attributes=attributes, fields=fields)
    except Exception as error:  # noqa: BLE001 - telemetry never reaches the host
        caught("model scope", error)
        return ModelCall(KINDS["model"])
