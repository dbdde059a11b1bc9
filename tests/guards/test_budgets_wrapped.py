"""Budgets from a `[[wrap]]` table, and as the terminal shows them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

import otel_agents as oa
from otel_agents import Budget, BudgetExceeded, model
from otel_agents.cli.render import lines
from otel_agents.instrument.targets import Targets
from otel_agents.settings import Wrap
from otel_agents.state.report import RunReport, report
from otel_agents.state.run import fold
from otel_agents.testing import Captured, capture
from otel_agents.usage import Usage

PROGRAM = """
from otel_agents import model
from otel_agents.usage import Usage

def work(order):
    for _ in range(order["calls"]):
        with model("priced") as call:
            call.answered(Usage(input_tokens=100, requests=1))
"""


def test_a_wrapped_function_has_the_budget_of_its_templates(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The fields of a table can name limits, as they stand there or taken from an argument."""
    (tmp_path / "budgeted_shop.py").write_text(PROGRAM)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "budgeted_shop", raising=False)
    fields = {"budget_tokens": "{order[limit]}", "budget_enforce": "true", "budget_warn_at": "0.5"}
    targets = Targets((Wrap(target="budgeted_shop:work", scope="task", fields=fields),))
    targets.install()
    try:
        with capture() as captured:
            work = importlib.import_module("budgeted_shop").work
            work({"calls": 3, "limit": 300})
            with pytest.raises(BudgetExceeded):
                work({"calls": 3, "limit": "200"})
            work({"calls": 3})  # a template that yields nothing sets no limit
            ends = [s.attributes for s in captured.signals if s.kind == "task" and s.edge == "end"]
    finally:
        targets.uninstall()
    key = "otelagents.budget."
    assert [end.get(f"{key}tokens.spent") for end in ends] == [300, 200, None]
    starts = [s.attributes for s in captured.signals if s.kind == "task" and s.edge == "start"]
    assert [start.get(f"{key}warn_at") for start in starts[:2]] == [0.5, 0.5]


def _read(captured: Captured) -> RunReport:
    run = fold(captured.signals).by_id["r-1"]
    return report(run, now=run.last, alive=lambda *_: True)


def _shown(read: RunReport) -> list[str]:
    found = [line.plain for line in lines(read, now=read.updated, width=100)]
    at = next(number for number, line in enumerate(found) if line.startswith("budgets"))
    return found[at:]


def test_the_terminal_shows_the_budgets_that_are_spent_most() -> None:
    """One line each, in words, the fullest first."""
    budgets = [
        Budget(usd=2.0, tokens=4_000_000),
        Budget(scope="agent", tokens=1_000_000, enforce=True),
    ]  # fmt: skip
    prices = {"priced": {"input": 1.0, "output": 2.0}}
    with capture(prices=prices, budgets=budgets) as captured:
        with oa.run("shop", id="r-1"), oa.agent("planner"), model("priced") as call:
            call.answered(Usage(input_tokens=1_700_000, requests=1))
        assert _shown(_read(captured)) == [
            "budgets agent planner 1,700,000 tokens of 1,000,000 tokens, 170% exceeded, enforced",
            "        run $1.70 of $2.00, 85% warning",
            "        run 1,700,000 tokens of 4,000,000 tokens, 42%",
        ]


def test_of_a_great_many_budgets_the_terminal_shows_a_few() -> None:
    """A run of hundreds of tasks with budgets does not fill the screen with them."""
    with capture(budgets=[Budget(scope="task", tokens=10)]) as captured:
        with oa.run("shop", id="r-1"):
            for number in range(200):
                with oa.task(f"task {number}"), model() as call:
                    call.answered(Usage(input_tokens=number // 20, requests=1))
        shown = _shown(_read(captured))
    assert len(shown) == 6
    assert shown[0].endswith("9 tokens of 10 tokens, 90% warning")
    assert shown[-1].strip() == "… 195 more, spent less"
