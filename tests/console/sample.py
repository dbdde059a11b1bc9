"""What a store holds after a busy day: runs in every state, agents tried again, workers."""

from __future__ import annotations

import time
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_agents.signals import Ids, ModelUse, Signal
from otel_agents.store import Batch, LogRecord
from otel_agents.store.blocks import block_of
from otel_agents.usage import Usage
from otel_agents.vocabulary import (
    AGENT_RUN_ID,
    BREAKER_REASON,
    BREAKER_STATE,
    CIRCUIT_OPEN,
    CIRCUIT_REASON,
    ENTITY_ID,
    LEASE_EXPIRES,
    LEASE_OWNER,
    REASON_CODE,
    RUN_GOAL,
    RUN_ID,
    RUNTIME_LAYER,
    RUNTIME_OPERATION,
    TASK_FEATURE,
    TASK_QUEUE,
    TASK_STATE,
    WORKER_STATUS,
    WORKER_TASK,
    WORKER_TYPE,
)
from tests.state.build import SECOND, Story

MODELS: Final = (
    ("anthropic", "claude-sonnet-4-5", 3.2e-6),
    ("openai", "gpt-5-mini", 0.4e-6),
    ("google", "gemini-2.5-flash", 0.6e-6),
)
GOAL: Final = "index the log of Tern Skerry Light, 1911, with a timeline and a digest"
_PHASES: Final = (("plan", 1), ("read", 6), ("draft", 3), ("review", 2), ("publish", 1))
_OVERLOADED: Final = ("ModelHTTPError", "status_code: 529, the provider is overloaded")


def run(
    run_id: str, state: str = "succeeded", *, minutes_ago: float = 2, workflow: str = "index_log"
) -> list[Signal]:
    """Return the signals of a run of five phases that is in a state.

    Args:
        run_id: Its id.
        state: `succeeded`, or else it stops in a phase: `failed` in the third (after tries),
            `running` in the third, `waiting` for a human in the fourth, `lost` in the second.
        minutes_ago: When it started.
        workflow: Its workflow.

    """
    stop = {"failed": 3, "running": 3, "waiting": 4, "lost": 2}.get(state, len(_PHASES))
    begin = time.time_ns() - round(minutes_ago * 60 * SECOND)
    story = Story(run_id, workflow, begin=begin)
    root = f"{run_id}/run"
    story.start("run", root, workflow, attributes={RUN_GOAL.key: GOAL})
    story.wait(0.4).start("iteration", f"{run_id}/i", parent=root, iteration=1)
    for number, (phase, agents) in enumerate(_PHASES[:stop], 1):
        here = f"{run_id}/{phase}"
        last = number == stop and state != "succeeded"
        story.wait(0.2).start("phase", here, phase, parent=f"{run_id}/i", iteration=1)
        if last and state == "waiting":
            break
        for each in range(agents):
            stay = last and state in {"running", "lost"} and each == agents - 1
            tries = 3 if last and state == "failed" and each == agents - 1 else 1 + (each == 2)
            _agent(story, here, phase, each, tries=tries, bad=last and state == "failed", stay=stay)
        if last and state == "failed":
            story.instant("gate", f"{phase} complete", "failure", parent=here, phase=phase)
            story.end(here, "failure")
        elif not last:
            story.instant("gate", f"{phase} complete", parent=here, phase=phase)
            story.end(here)
    if state == "waiting":
        story.start("human", f"{run_id}/h", "approve publishing", parent=root, phase="review")
    elif state == "failed":
        story.end(f"{run_id}/i", "failure")
        story.end(root, "error", error=("GateFailed", "gate `draft complete` failed 3 times"))
    elif state == "succeeded":
        story.end(f"{run_id}/i").end(root)
    if state in {"running", "waiting"}:
        story.now = time.time_ns()
        story.progress(root, done=stop - 1, total=len(_PHASES))
    return story.signals


def heartbeats(*runs: str) -> Batch:
    """Return a sign of life of each run: one that is silent for 30 s is lost."""
    found = []
    for run_id in runs or ("run-running", "run-waiting"):
        story = Story(run_id, "index_log", begin=time.time_ns())
        story.start("run", f"{run_id}/run", "index_log")
        story.signals.clear()
        story.progress(f"{run_id}/run")
        for signal in story.signals:
            signal.id = f"{run_id}-beat-{story.now}"
        found += story.signals
    return Batch(signals=found)


def _agent(
    story: Story, here: str, phase: str, number: int, *, tries: int, bad: bool, stay: bool
) -> None:
    provider, model, price = MODELS[number % len(MODELS)]
    name = f"{phase}er {number + 1}"
    for attempt in range(1, tries + 1):
        key = f"{here}-{number}-{attempt}".replace("/", ".")
        story.start(
            "agent", key, name, parent=here, phase=phase, iteration=1, attempt=attempt, model=model
        )
        if stay:
            return
        story.wait(1.1 + (number * 7 + attempt * 3) % 5)
        size = 1800 + 2700 * number + 900 * attempt
        usage = Usage(
            input_tokens=size, output_tokens=size // 9, cache_read_tokens=size // 4,
            requests=2 + number, tool_calls=number,
        )  # fmt: skip
        cost = round(usage.total_tokens * price, 6)
        use = ModelUse(provider=provider, model=model, usage=usage, cost=cost)
        told: dict[str, Any] = {"usage": usage, "cost": cost, "models": [use]}
        if attempt < tries or (bad and tries == 3):
            story.end(key, "error", error=_OVERLOADED, **told)
        else:
            story.end(key, **told)


def trace(run_id: str, trace_id: str, *, spans: int = 12) -> ExportTraceServiceRequest:
    """Return the request of a run's trace: a root, phases below it, calls below those."""
    message = ExportTraceServiceRequest()
    resource = message.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "lighthouse"
    inside = resource.scope_spans.add()
    inside.scope.name = "otel_agents"
    begin = time.time_ns() - 100 * SECOND
    for number in range(spans):
        kind = ("invoke_workflow", "phase", "chat", "execute_tool")[min(number, 3 - number % 2)]
        span = inside.spans.add(
            trace_id=bytes.fromhex(trace_id),
            span_id=(number + 1).to_bytes(8, "big"),
            parent_span_id=b"" if not number else (min(number, 2)).to_bytes(8, "big"),
            name=f"{kind} number {number}",
            kind=3 if kind == "chat" else 1,
            start_time_unix_nano=begin + number * SECOND,
            end_time_unix_nano=begin + (number * 2 + 3) * SECOND,
        )
        span.attributes.add(key=RUN_ID.key).value.string_value = run_id
        if number > 1:
            agent = f"{run_id}.draft-2-3"
            span.attributes.add(key=AGENT_RUN_ID.key).value.string_value = agent
        span.attributes.add(key="server.address").value.string_value = "api.example.com"
        if number == spans - 1:
            span.status.code = 2
            span.status.message = "no luck"
            event = span.events.add(name="exception", time_unix_nano=begin + 5 * SECOND)
            event.attributes.add(key="exception.type").value.string_value = "ValueError"
    return message


def fact(kind: str, name: str, ids: Ids, *, seconds_ago: float = 0, **attributes: Any) -> Signal:
    """Return a fact; attributes are named by their keys."""
    moment = time.time_ns() - round(seconds_ago * SECOND)
    return Signal(
        id=f"{kind}-{name}-{moment}", kind=kind, edge="fact", name=name, time=moment,
        scope_id=f"{kind}-{name}", ids=ids, attributes=attributes,
    )  # fmt: skip


def worker(name: str, kind: str, status: str, *, seconds_ago: float = 1, **more: Any) -> Signal:
    """Return a worker's heartbeat."""
    moment = time.time_ns() - round(seconds_ago * SECOND)
    told = {WORKER_TYPE.key: kind, WORKER_STATUS.key: status, **more}
    return Signal(
        id=f"{name}-{moment}", kind="worker", edge="progress", name=kind, time=moment,
        scope_id=name, ids=Ids(worker_id=name), attributes=told,
    )  # fmt: skip


def task(name: str, state: str, *, seconds_ago: float = 5, **more: Any) -> Signal:
    """Return the state of a task."""
    told = {TASK_STATE.key: state, TASK_QUEUE.key: "digest", TASK_FEATURE.key: "chapters", **more}
    return fact("task", name, Ids(task_id=name), seconds_ago=seconds_ago, **told)


def runtime_event(
    number: int, layer: str, operation: str, reason: str, entity: str, *, task_id: str | None = None
) -> Signal:
    """Return a runtime event."""
    told = {
        RUNTIME_LAYER.key: layer, RUNTIME_OPERATION.key: operation, REASON_CODE.key: reason,
        ENTITY_ID.key: entity, "attempt": number % 3,
    }  # fmt: skip
    ids = Ids(task_id=task_id)
    return fact("runtime", f"event-{number}", ids, seconds_ago=number * 7, **told)


def runtime() -> list[Signal]:
    """Return workers of all states, breakers, tasks of which one is stuck, and events."""
    kinds = (
        ("provider_runtime", "FALLBACK", "provider_overloaded", "anthropic/claude-sonnet-4-5"),
        ("provider_runtime", "RETRY", "http_529", "anthropic/claude-sonnet-4-5"),
        ("tool_runtime", "TOOL_LOOP", "same_arguments", "search_log"),
        ("worker", "HEARTBEAT", "alive", "reader-1"),
        ("dispatcher", "TASK", "lease_renewed", "T-101"),
    )
    open_breaker = {BREAKER_STATE.key: "open", BREAKER_REASON.key: "5 failures in 60 s"}
    now = time.time()
    return [
        worker("reader-1", "reader", "RUNNING", **{WORKER_TASK.key: "T-101"}),
        worker("reader-2", "reader", "IDLE"),
        worker(
            "writer-1", "writer", "DEGRADED",
            **{CIRCUIT_OPEN.key: True, CIRCUIT_REASON.key: "5 failures in 60 s"},
        ),
        worker("critic-1", "critic", "RUNNING", seconds_ago=90),
        fact("breaker", "provider:anthropic", Ids(worker_id="writer-1"), **open_breaker),
        fact("breaker", "provider:openai", Ids(), **{BREAKER_STATE.key: "closed"}),
        task(
            "T-100", "RUNNING",
            **{LEASE_OWNER.key: "critic-1", LEASE_EXPIRES.key: now - 60},
        ),
        task(
            "T-101", "RUNNING",
            **{LEASE_OWNER.key: "reader-1", LEASE_EXPIRES.key: now + 3600},
        ),
        task("T-102", "PENDING"),
        task("T-103", "IN_REVIEW"),
        task("T-104", "DONE"),
        *(
            runtime_event(number, *kinds[number % 5], task_id="T-101" if number % 2 else None)
            for number in range(20)
        ),
    ]  # fmt: skip


def logs(run_id: str, agent_id: str = "") -> list[LogRecord]:
    """Return some log lines of a run."""
    lines = (
        (9, "INFO", "planned 5 phases"),
        (13, "WARN", "provider answered 529, trying again in 1.5 s"),
        (17, "ERROR", "drafter 3 gave up after 3 tries"),
        (5, "DEBUG", "cache hit for chapter 4"),
    )
    return [
        LogRecord(
            time=time.time_ns() - number * SECOND, severity=severity, severity_text=word,
            body=body, service="lighthouse", run_id=run_id, phase="draft", agent_id=agent_id,
        )
        for number, (severity, word, body) in enumerate(lines)
    ]  # fmt: skip


TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"


def busy() -> Batch:
    """Return a store's content with every state that a page can show."""
    message = trace("run-failed", TRACE)
    block, _ = block_of(message, message.SerializeToString())
    signals = [
        *run("run-running", "running", minutes_ago=0.9),
        *run("run-failed", "failed", minutes_ago=9, workflow="triage_tickets"),
        *run("run-waiting", "waiting", minutes_ago=25),
        *run("run-lost", "lost", minutes_ago=50, workflow="quarterly_audit"),
        *runtime(),
    ]
    for number in range(8):
        signals += run(f"run-{number}", minutes_ago=70 + 331 * number)
    failing = "run-failed.draft-2-3"
    return Batch(
        blocks=[block], signals=signals, logs=[*logs("run-failed"), *logs("run-failed", failing)]
    )
