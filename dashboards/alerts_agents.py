"""Alerts on agents, tools and models, and on the workers and queues that keep them busy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dashboards.alerting import (
    DURATION,
    NUMBER,
    SHARE,
    Alert,
    enough,
    label,
    over,
    seconds,
    share,
)
from dashboards.promql import LONG_GAP, grown, now
from dashboards.rules import ATTEMPTS_ENDED, CRITICS, LATENCY, RETRIES, TOOLS, VALIDATED
from dashboards.thresholds import LATENCY_SHARE, LATENCY_WINDOW, THRESHOLDS
from otel_agents import reasons
from otel_agents.server_vocabulary import (
    SERVER_BREAKER,
    SERVER_HEARTBEAT_AGE,
    SERVER_QUEUE_OLDEST,
    SERVER_STUCK,
)
from otel_agents.vocabulary import CHECKPOINTS, MODEL_ATTEMPTS, MODEL_ERRORS

if TYPE_CHECKING:
    from dashboards.rules import Judged

_MODEL: Final = ("job", "model")
_PROVIDER: Final = ("job", "provider", "model")
_JUDGE: Final = ("job", "name")
_TOOL: Final = ("job", "tool")
_AGENT: Final = ("job", "workflow", "agent")
_WORKER: Final = ("worker_type", "queue")
_RATE_LIMITED: Final = reasons.PROVIDER_RETRIES["RATE_LIMITED"].code


def _within(name: str) -> str:
    return THRESHOLDS[name].window


def _high(name: str, judged: Judged) -> str:
    return f"{over(name, judged.share)} and {enough(name, judged.counted)}"


def _low(name: str, judged: Judged) -> str:
    return f"{judged.share} < {THRESHOLDS[name].value:g} and {enough(name, judged.counted)}"


def _rate_limited() -> str:
    """Return the share of all tries of a model that a provider answered with 429.

    Tries are not counted by provider: where several serve one model, the share is of all of theirs.
    """
    name = "ProviderRateLimited"
    limited = grown(MODEL_ERRORS, _within(name), by=_PROVIDER, where={"reason": _RATE_LIMITED})
    tries = grown(MODEL_ATTEMPTS, _within(name), by=_MODEL)
    joined = f"({limited}) / on ({', '.join(_MODEL)}) group_left () (({tries}) > 0)"
    return f"{over(name, joined)} and {enough(name, limited)}"


AGENTS: Final = (
    Alert(
        "RetryStorm", "warning", "agents", _MODEL, _high("RetryStorm", RETRIES),
        "Model calls are made again and again.",
        f"{label('job')} makes {NUMBER} tries for each call of {label('model')}; "
        f"the limit is {THRESHOLDS['RetryStorm'].value:g}.",
    ),
    Alert(
        "CriticRejectionHigh", "info", "agents", _JUDGE,
        _high("CriticRejectionHigh", CRITICS),
        "A critic rejects most of what it sees.",
        f"The critic {label('name')} of {label('job')} rejected {SHARE} within "
        f"{_within('CriticRejectionHigh')}; the limit is {share('CriticRejectionHigh')}.",
    ),
    Alert(
        "ValidationPassLow", "warning", "agents", _JUDGE,
        _low("ValidationPassLow", VALIDATED),
        "Few validations pass.",
        f"Of the validations {label('name')} of {label('job')} {SHARE} passed within "
        f"{_within('ValidationPassLow')}; it should be {share('ValidationPassLow')} or more.",
    ),
    Alert(
        "AgentLatencyHigh", "warning", "agents", _AGENT,
        f"{over('AgentLatencyHigh', LATENCY)} and {enough('AgentLatencyHigh', ATTEMPTS_ENDED)}",
        "An agent takes very long.",
        f"{LATENCY_SHARE:.0%} of the attempts of {label('agent')} in {label('workflow')} of "
        f"{label('job')} took up to {DURATION} within {LATENCY_WINDOW}; "
        f"the limit is {seconds('AgentLatencyHigh')}.",
    ),
    Alert(
        "ToolErrorRate", "warning", "agents", _TOOL,
        _high("ToolErrorRate", TOOLS),
        "A tool fails often.",
        f"{SHARE} of the calls of {label('tool')} in {label('job')} failed within "
        f"{_within('ToolErrorRate')}; the limit is {share('ToolErrorRate')}.",
    ),
    Alert(
        "ProviderRateLimited", "warning", "agents", _PROVIDER, _rate_limited(),
        "A provider answers that too much is asked of it.",
        f"{label('provider')} answered {SHARE} of all tries of {label('model')} by "
        f"{label('job')} with 429; the limit is {share('ProviderRateLimited')}.",
    ),
)  # fmt: skip

WORKERS: Final = (
    Alert(
        "WorkerMissingHeartbeat", "critical", "workers", _WORKER,
        over("WorkerMissingHeartbeat", now(SERVER_HEARTBEAT_AGE, by=_WORKER, how="max")),
        "A worker is gone without having stopped.",
        f"A worker of type {label('worker_type')} for the queue {label('queue')} was last heard of "
        f"{DURATION} ago; the limit is {seconds('WorkerMissingHeartbeat')}.",
    ),
    Alert(
        "QueueBacklogAge", "warning", "workers", ("queue",),
        over("QueueBacklogAge", now(SERVER_QUEUE_OLDEST, by=("queue",), how="max")),
        "Tasks wait in a queue for too long.",
        f"The oldest task of the queue {label('queue')} has waited for {DURATION}; "
        f"the limit is {seconds('QueueBacklogAge')}.",
    ),
    Alert(
        "TasksStuck", "warning", "workers", ("queue",),
        over("TasksStuck", now(SERVER_STUCK, by=("queue",), how="max")),
        "Tasks are held by workers that have let their leases run out.",
        f"Tasks of the queue {label('queue')} whose lease ran out and that nobody takes over: "
        f"{NUMBER}.",
    ),
    Alert(
        "CircuitOpen", "warning", "workers", ("breaker",),
        f"{now(SERVER_BREAKER, by=('breaker',), how='max')} >= "
        f"{THRESHOLDS['CircuitOpen'].value:g}",
        "A breaker is open: calls are refused.",
        f"The breaker {label('breaker')} is open, so what it guards is not called.",
    ),
    Alert(
        "CheckpointFailing", "critical", "workers", ("job",),
        over(
            "CheckpointFailing",
            grown(
                CHECKPOINTS, _within("CheckpointFailing"), by=("job",),
                where={"result": "error"}, before=LONG_GAP,
            ),
        ),
        "A checkpoint could not be taken.",
        f"Checkpoints of {label('job')} that failed within {_within('CheckpointFailing')}: "
        f"{NUMBER}. What its agents write cannot be taken back.",
    ),
)  # fmt: skip
