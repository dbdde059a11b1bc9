"""What users import, and nothing else."""

from __future__ import annotations

import runpy
from pathlib import Path

import otel_agents


def test_the_public_names_are_these() -> None:
    """A name is added here on purpose."""
    assert sorted(otel_agents.__all__) == [
        "Breaker",
        "BreakerOpen",
        "Budget",
        "BudgetExceeded",
        "Emitter",
        "EventError",
        "OtelAgentsInstrumentor",
        "ProgressEmitter",
        "Worker",
        "__version__",
        "agent",
        "delivery",
        "emit_event",
        "extract",
        "gate",
        "get_emitter",
        "human",
        "inject",
        "iteration",
        "log_context",
        "model",
        "phase",
        "progress",
        "prometheus_text",
        "record_critic_decision",
        "run",
        "task",
        "tool",
        "validation",
        "waiting_for_human",
        "worker",
    ]
    for name in otel_agents.__all__:
        assert getattr(otel_agents, name) is not None


def test_a_program_that_uses_all_of_it_runs() -> None:
    """The typed program of `tests/typing` is not only well typed."""
    runpy.run_path(str(Path(__file__).parent / "typing" / "program.py"), run_name="__main__")
