"""What a budget costs on the hot path, in µs of CPU: none, one ledger, and five of them.

    python benchmarks/guards.py [--blocks 40] [--json FILE]

All are measured in one process that writes its signals nowhere, and take turns, block by block,
so that a drift of the machine hits all alike. What else runs only ever adds, so a figure is the
lower quartile of the blocks; the ratios are those of one run. Five ledgers are those of run,
workflow, phase, agent and task; every budget enforces USD and tokens, and none is ever spent.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import machine
import report
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

import otel_agents as oa
from otel_agents import Budget, model, runtime
from otel_agents.budget import SCOPES
from otel_agents.ledgers import Ledgers
from otel_agents.metrics import Metrics
from otel_agents.model_call import admit
from otel_agents.pipeline import Pipeline
from otel_agents.runtime import Runtime
from otel_agents.usage import Prices, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_agents.signals import Signal

_CALLS: Final = 500  # of a block
_USAGE: Final = Usage(input_tokens=1200, output_tokens=80, requests=1)
_PRICES: Final = {"m": {"input": 1.0, "output": 2.0}}
_LEDGERS: Final = {"no budget": 0, "1 ledger": 1, "5 ledgers": 5}
_COLUMNS: Final = (
    ("check before a call", "check", ".2f"),
    ("spend of a call", "spend", ".2f"),
    ("chunk with usage", "chunk", ".2f"),
    ("agent opened and ended", "agent", ".1f"),
    ("whole model call", "call", ".1f"),
    ("call x no budget", "ratio", ".2f"),
)


class _Nowhere:
    name = "nowhere"

    def write(self, signals: Sequence[Signal]) -> None:
        """Let signals go."""

    def close(self) -> None:
        """There is nothing to let go of."""


class Contestant:
    """A runtime with so many ledgers on its innermost scope."""

    def __init__(self, ledgers: int) -> None:
        chosen = SCOPES if ledgers > 1 else SCOPES[:ledgers]
        budgets = [Budget(scope=scope, usd=1e9, tokens=10**11, enforce=True) for scope in chosen]
        metrics = Metrics(MeterProvider(shutdown_on_exit=False))
        self.runtime = Runtime(
            tracer_provider=TracerProvider(shutdown_on_exit=False), metrics=metrics,
            pipeline=Pipeline([_Nowhere()], metrics.dropped), prices=Prices(_PRICES),
            budgets=Ledgers(budgets),
        )  # fmt: skip
        self.ledgers = ledgers

    def block(self) -> dict[str, float]:
        """Return µs of CPU of this thread for each of what is measured."""
        runtime.put(self.runtime)
        budgets: Any = self.runtime.budgets
        with ExitStack() as stack:
            for scope in (oa.run("shop"), oa.phase("build"), oa.task("sort")):
                stack.enter_context(scope)
            agent = stack.enter_context(oa.agent("planner"))
            assert len(agent.ledgers) == self.ledgers
            found = {"check": _timed(admit), "call": _timed(_call), "agent": _timed(_agent)}
            found["spend"] = 0.0
            if agent.ledgers:  # without, it is not even called
                found["spend"] = _timed(lambda: budgets.spend(agent, _USAGE_OF_CHUNK, 0.001))
            with model("m") as call:
                usages = iter([Usage(output_tokens=n, requests=1) for n in range(_CALLS)])
                found["chunk"] = _timed(lambda: call.chunk(next(usages)))
        self.runtime.require_pipeline().flush()
        return found


# Without a request, so that the signal that an agent sends in any case is not counted here.
_USAGE_OF_CHUNK: Final = Usage(input_tokens=1200, output_tokens=80)


def _call() -> None:
    with model("m") as call:
        call.answered(_USAGE)


def _agent() -> None:
    with oa.agent("helper"):
        pass


def _timed(act: Callable[[], object]) -> float:
    begun = time.thread_time_ns()
    for _ in range(_CALLS):
        act()
    return (time.thread_time_ns() - begun) / _CALLS / 1e3


def measured(blocks: int) -> list[dict[str, Any]]:
    """Return a row for each number of ledgers."""
    contestants = {label: Contestant(ledgers) for label, ledgers in _LEDGERS.items()}
    for one in contestants.values():
        one.block()
    times: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for number in range(blocks):
        report.progress(f"block {number + 1} of {blocks}")
        for label, one in contestants.items():
            for what, value in one.block().items():
                times[label][what].append(value)
    report.progress("")
    rows: list[dict[str, Any]] = []
    for label, found in times.items():
        row = {what: statistics.quantiles(values, n=4)[0] for what, values in found.items()}
        rows.append({"label": label, **row, "ratio": row["call"] / (rows or [row])[0]["call"]})
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=40, help="of each (40)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    about = machine.described()
    rows = measured(options.blocks)
    for name, value in about.items():
        print(f"{name}: {value}")
    print(f"blocks of {_CALLS}: {options.blocks}\n\nµs of CPU:\n")
    report.table("budgets", _COLUMNS, rows)
    if options.json:
        options.json.write_text(json.dumps({"about": about, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
