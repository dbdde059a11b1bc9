"""The table of faults: what each is called, does, and lights up."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from trouble import lasting, models, runs
from trouble.scale import Scale


class Fault(NamedTuple):
    """One kind of trouble: its name, what makes it, and what it lights up.

    `panels` are those that show nothing else, as board and title; `alerts` those it sets off.
    """

    name: str
    make: Callable[[Scale], Awaitable[None]]
    panels: tuple[str, ...]
    alerts: tuple[str, ...] = ()
    lasts: bool = False

    @property
    def says(self) -> str:
        """What it does, in one sentence."""
        return (self.make.__doc__ or "").strip()


FAULTS = {
    fault.name: fault
    for fault in (
        Fault(
            "failed-runs", runs.failed_runs,
            ("fleet / Runs ended by result", "fleet / Burn rate"),
            ("RunFailureRate", "ErrorBudgetBurnFast", "ErrorBudgetBurnSlow"),
        ),
        Fault(
            "rate-limits", models.rate_limits,
            ("agents / Model errors by reason", "agents / Tries a model call"),
            ("ProviderRateLimited", "RetryStorm"),
        ),
        Fault(
            "outages", models.outages,
            ("agents / Model errors by reason", "agents / Attempts gone wrong"),
        ),
        Fault(
            "wrong-answers", models.wrong_answers,
            ("cost / Wasted", "cost / Wasted by result"), ("RetryStorm",),
        ),
        Fault(
            "tool-errors", models.tool_errors,
            ("agents / Tool calls gone wrong",), ("ToolErrorRate",),
        ),
        Fault(
            "unpriced", models.unpriced,
            ("cost / Unpriced share", "cost / Tokens without a price"), ("TokensUnpriced",),
        ),
        Fault(
            "dear", models.dear, ("cost / Cost by agent", "cost / Input from cache"),
            ("CostSpike",),
        ),
        Fault("streams", models.streams, ("agents / Time to the first chunk",)),
        Fault(
            "rejections", runs.rejections, ("agents / Critics' rejections",),
            ("CriticRejectionHigh",),
        ),
        Fault(
            "failed-validations", runs.failed_validations,
            ("agents / Validations passed", "run / Gates passed", "run / Deliveries by result"),
            ("ValidationPassLow",),
        ),
        Fault(
            "budgets", models.budgets,
            ("cost / Budget burn", "cost / Budgets nearly or wholly spent"),
            ("BudgetWarning", "BudgetExceeded"), lasts=True,
        ),
        Fault(
            "lost-telemetry", runs.lost_telemetry,
            ("telemetry / Signals lost by sink and reason",), ("TelemetryDropped",),
        ),
        Fault(
            "slow-agents", lasting.slow_agents, ("agents / Agent duration p95 by agent",),
            ("AgentLatencyHigh",),
        ),
        Fault(
            "stuck-run", lasting.stuck_run, ("fleet / Quietest running run",), ("RunStuck",),
            lasts=True,
        ),
        Fault(
            "human-wait", lasting.human_wait,
            ("run / Oldest wait for a human", "run / Humans asked"), ("HitlWaitingLong",),
            lasts=True,
        ),
        Fault(
            "open-breaker", lasting.open_breaker,
            ("workers / Breakers", "workers / Breakers open"), ("CircuitOpen",), lasts=True,
        ),
        Fault(
            "backlog", lasting.backlog,
            ("workers / Oldest pending task", "workers / Tasks stuck"),
            ("QueueBacklogAge", "TasksStuck"), lasts=True,
        ),
        Fault(
            "dead-worker", lasting.dead_worker,
            ("workers / Oldest heartbeat", "fleet / Running, waiting, lost"),
            ("WorkerMissingHeartbeat", "RunLost"), lasts=True,
        ),
        Fault(
            "failing-checkpoints", lasting.failing_checkpoints,
            ("workers / Checkpoints and restores by result",), ("CheckpointFailing",), lasts=True,
        ),
        Fault(
            "missing-target", lasting.missing_target,
            ("telemetry / Not instrumented", "telemetry / Not wrapped"),
            ("InstrumentationMissing",), lasts=True,
        ),
    )
}  # fmt: skip
