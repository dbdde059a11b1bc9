"""Signals of waits for humans, and of the runs that they are in."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from otel_agents.signals import Ids, Signal
from otel_agents.store.waits import ANSWERED
from otel_agents.vocabulary import ANSWER, ANSWERED_BY, DECISION, WAIT_ID
from tests.state.build import SECOND

if TYPE_CHECKING:
    from otel_agents.signals import Edge


def told(edge: Edge, scope: str = "s1", *, at: int = 0, **more: Any) -> Signal:
    """Return a signal of a wait; `id` is the wait's, `ago` seconds, `run` the run's id."""
    when = at or time.time_ns() - round(more.pop("ago", 0) * SECOND)
    attributes = {WAIT_ID.key: more.pop("id", scope), **more.pop("attributes", {})}
    decision = more.pop("decision", None)
    if decision:
        attributes |= {DECISION.key: decision, ANSWERED_BY.key: more.pop("by", "cli")}
        if text := more.pop("text", None):
            attributes[ANSWER.key] = text
    name = ANSWERED if edge == "fact" else "deploy?"
    return Signal(
        id=more.pop("signal", f"{scope}-{edge}-{when}"), kind="human", edge=edge, name=name,
        time=when, scope_id=scope, attributes=attributes, result=more.pop("result", ""),
        duration=more.pop("duration", None),
        ids=Ids(
            run_id=more.pop("run", "r1"), workflow="shop", phase="build", agent="coder",
            task_id="t-1",
        ),
        trace_id="t" * 32, span_id="s" * 16,
    )  # fmt: skip


def run(edge: Edge = "start", run_id: str = "r1", ago: float = 0.0, result: str = "") -> Signal:
    """Return a signal of a run."""
    return Signal(
        id=f"{run_id}-{edge}-{ago}", kind="run", edge=edge, scope_id=f"run-{run_id}", name="shop",
        time=time.time_ns() - round(ago * SECOND), ids=Ids(run_id=run_id, workflow="shop"),
        result=result,
    )  # fmt: skip
