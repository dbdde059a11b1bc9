"""A program that puts secrets in every place that telemetry knows: run it as a process.

python secretive.py open    with redaction switched off, to show that the secrets are found
python secretive.py         as anybody runs it
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry._logs import LogRecord, get_logger
from opentelemetry.trace import Link, Status, StatusCode
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ThinkingPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

import otel_agents as oa
from otel_agents import values
from otel_agents.configure import flush
from otel_agents.logs import JsonFormatter
from otel_agents.runtime_events import tell
from tests.attacks.canaries import KINDS, mark, named, secret, text

_LOGGER: Final = logging.getLogger("secretive")


class Loud:
    """An object whose text is a secret."""

    def __repr__(self) -> str:
        return text("run attribute")

    __str__ = __repr__


def _shown(_key: str, value: Any) -> Any:
    return value


def talker() -> Agent[None, str]:
    """Make an agent with a secret in every place where content can be."""

    def reply(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
        if len(messages) > 1:
            return ModelResponse(parts=[TextPart(text("answer"))])
        return ModelResponse(
            parts=[
                ThinkingPart(text("thought")),
                ToolCallPart("look", {"where": text("tool argument"), "password": "none"}),
                ToolCallPart("fail", {"why": text("tool argument")}),
            ]
        )

    agent = Agent(
        FunctionModel(reply, model_name="priced"), name="talker", retries=3,
        instructions=text("instructions"),
    )  # fmt: skip

    @agent.tool_plain
    def look(where: str, password: str) -> dict[str, str]:
        return {"found": text("tool result"), "where": where[:1], "also": password}

    @agent.tool_plain
    def fail(why: str) -> str:
        raise ModelRetry(text("tool error") + why[:1])

    return agent


def fails() -> None:
    """Raise an exception that quotes secrets, from one that does too."""
    try:
        raise ConnectionError(text("cause"))
    except ConnectionError as error:
        raise ValueError(text("exception")) from error


def logs() -> None:
    """Log secrets, plainly, with a traceback, by `extra`, and as JSON; print some."""
    _LOGGER.warning("the settings are %s", text("log line"))
    try:
        raise ValueError(text("log exception"))
    except ValueError:
        _LOGGER.exception("it failed")
    _LOGGER.warning("more", extra={"note": text("log extra"), "api_key": text("log extra")})
    record = logging.makeLogRecord(
        {"msg": text("json log"), "name": "json", "note": text("json log"), "token": "none"}
    )
    Path("json.log").write_text(JsonFormatter().format(record), "utf-8")
    print(text("printed"))  # noqa: T201 - what is printed is captured


def tells() -> None:
    """Tell of events, waits, breakers, workers and the rest with secrets in them."""
    payload = {"scope": "day", "limit": 9, "spent": 8, **named("event")}
    oa.emit_event("budget_warning", payload)
    oa.emit_event(
        "hitl_escalated",
        {"task_id": "t", "attempts": 1, "last_error": text("event of another type"),
         "priority": "high"},
    )  # fmt: skip
    tell("tool_runtime", "RETRY", "timeout", entity_id="tool", **named("runtime event"))
    with oa.human("deploy? " + secret("wait", "openai"), last_error=text("wait")) as asked:
        asked.resolve("answered", text("wait answer"), by=secret("wait answer", "dsn"))
    breaker = oa.Breaker("search", failures=1)
    with contextlib.suppress(ValueError), breaker:
        raise ValueError(text("breaker"))
    worker = oa.Worker("indexer", attributes=named("worker"))
    with worker:
        worker.degraded(text("worker"))
    emitter = oa.ProgressEmitter("order")
    emitter.emit_run_started("wo", "run-2", {"goal": "x", "detail": text("task spec")})
    emitter.emit_iteration_started("wo", "run-2", 1, feedback=named("feedback"))
    emitter.emit_run_failed("wo", "run-2", ValueError(text("reason")))


def theirs() -> None:
    """Do what a library of somebody else's does: secrets on its own spans."""
    tracer = trace.get_tracer("theirs", attributes=named("their scope"))
    link = Link(trace.get_current_span().get_span_context(), named("their link"))
    with (
        contextlib.suppress(ValueError),
        tracer.start_as_current_span(
            "GET " + secret("their span name", "query"), attributes=named("their attribute"),
            links=[link],
        ) as span,
    ):  # fmt: skip
        span.set_attributes({"several": ["a", text("their list")]})
        span.set_attribute("inner", {"deep": [named("their mapping")]})
        span.add_event("asked", named("their event"))
        raise ValueError(text("their exception"))
    with tracer.start_as_current_span("status") as span:
        span.set_status(Status(StatusCode.ERROR, text("their status")))
    logging.getLogger("theirs").warning("%s", text("their log"))
    get_logger("theirs").emit(LogRecord(body={"deep": [named("their log body")]}))
    metrics.get_meter("theirs").create_counter("asked").add(1, named("their metric"))


def everything() -> None:
    """Put a secret in every place."""
    carrier = {"baggage": f"user.token={mark('baggage', 99)},key={secret('baggage', 'github')}"}
    for kind in KINDS:
        # A goal is kept short: a secret that stands at its end is cut.
        for room in (0, 60, 80, 90):
            with oa.run("goals", goal="x " * (room // 2) + secret("run goal", kind)):
                pass
    with (
        oa.extract(carrier),
        oa.run("shop", id="run-1", attributes={**named("run attribute"), "loud": Loud()}) as run,
    ):
        run.set_attribute("env", dict(os.environ).get("SECRETS"))
        run.set_attribute("late", text("late attribute"))
        run.set_attribute("at the end", "x" * 4070 + " " + secret("late attribute", "dsn"))
        with oa.agent("writer"):
            logs()
            theirs()
            tells()
            asyncio.run(talker().run(text("prompt")))
        with contextlib.suppress(ValueError), oa.phase("fails"):
            fails()
        with oa.phase("told") as told:
            told.fail(text("reason"))
    flush(20)


if __name__ == "__main__":
    if sys.argv[1:] == ["open"]:
        values.hide = lambda _names, _patterns: None
        values._rules[0] = values.Rules(_shown, patterns=False)
    everything()
