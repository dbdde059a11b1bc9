"""Budgets in forked children: no lock is left held, and each process counts its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

import pytest

# The other thread uses the ledgers only: the SDK's own locks do not survive a fork under it.
PROGRAM: Final = """
import os, sys, threading
import otel_agents as oa
from otel_agents import Budget
from otel_agents.testing import capture
from otel_agents.usage import Usage

with capture(budgets=[Budget(tokens=100, enforce=True)]) as captured:
    budgets = captured.runtime.budgets
    stop, codes = threading.Event(), []
    with oa.run("other", budget=Budget(tokens=10**9)) as busy, oa.run("shop") as run:
        def other():
            while not stop.is_set():
                budgets.spend(busy, Usage(), None)
        thread = threading.Thread(target=other)
        thread.start()
        budgets.spend(run, Usage(input_tokens=60), None)
        for _ in range(50):
            child = os.fork()
            if child == 0:
                shown = budgets._read(1)  # what is open is the parent's to report
                budgets.check(run)
                budgets.spend(run, Usage(input_tokens=60), None)
                try:
                    budgets.check(run)
                except oa.BudgetExceeded as error:
                    os._exit(0 if (shown, error.spent) == ([], 120) else 1)
                os._exit(2)
            codes.append(os.waitpid(child, 0)[1])
        stop.set()
        thread.join()
        spent = run.ledgers[-1].tokens
        budgets.check(run)
sys.exit(0 if (spent, set(codes)) == (60, {0}) else f"{spent} {codes}")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_counts_for_itself() -> None:
    """A child goes on with the sum it was forked with, and adds nothing to its parent's."""
    environment = {name: value for name, value in os.environ.items() if "OTEL" not in name}
    done = subprocess.run(  # noqa: S603 - this very program
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM],
        check=False, env=environment, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
