"""The fold of a run's budgets: the same numbers as the ledgers, in any order of its signals."""

from __future__ import annotations

import json
from contextlib import ExitStack
from random import Random
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import otel_agents as oa
from otel_agents import Budget, model
from otel_agents.signals import Ids, Signal
from otel_agents.state.budgets import entries
from otel_agents.state.report import report
from otel_agents.state.run import RunState, fold
from otel_agents.state.view import as_data
from otel_agents.testing import Captured, capture
from otel_agents.usage import Usage

PRICES: Final = {"priced": {"input": 1.0, "output": 2.0}}
SPENT: Final = "otelagents.budget."
SECOND: Final = 1_000_000_000

# A tree of scopes: kind, name, limit of tokens, limit of USD, and inside it scopes and calls.
calls = st.tuples(st.sampled_from(["priced", "unknown"]), st.integers(1, 400_000))
limits = st.one_of(st.none(), st.integers(100_000, 900_000))


def trees(inside: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    kinds = st.sampled_from(["phase", "agent", "task", "iteration"])
    return st.tuples(kinds, st.sampled_from("ab"), limits, st.lists(inside, max_size=4))


programs = st.lists(st.recursive(st.one_of(calls), trees, max_leaves=12), max_size=5)


def play(work: list[Any]) -> None:
    for one in work:
        if len(one) == 2:
            with model(one[0]) as call:
                call.answered(Usage(input_tokens=one[1], requests=1))
            continue
        kind, name, limit, inside = one
        fields: dict[str, Any] = {"id": name} if kind == "task" else {}
        if limit is not None and kind in {"phase", "agent", "task"}:
            fields["budget"] = Budget(tokens=limit, usd=limit / 1e6)
        with getattr(oa, kind)(name, **fields):
            play(inside)


def never(*_: object) -> bool:
    return False


def run_of(captured: Captured) -> list[Signal]:
    """Return the signals without what the ledgers put on the ends of scopes."""
    found = captured.signals
    for signal in found:
        if signal.edge == "end":
            for unit in ("usd", "tokens", "seconds"):
                signal.attributes.pop(f"{SPENT}{unit}.spent", None)
    return found


@settings(max_examples=60, deadline=None)
@given(programs, st.one_of(st.none(), st.integers(100_000, 2_000_000)))
def test_the_fold_equals_the_ledgers(work: list[Any], limit: int | None) -> None:
    """Whatever is opened inside whatever, both count the same to every key and judge it alike."""
    budgets = []
    if limit is not None:
        out_of_reach = Budget(tokens=limit * 100, enforce=True)
        budgets = [Budget(tokens=limit, usd=limit / 1e6), out_of_reach]
    with capture(prices=PRICES, budgets=budgets) as captured:
        with oa.run("shop", id="r-1"):
            play(work)
            ledgers: Any = captured.runtime.budgets
            known = {
                key: (ledger.usd, ledger.tokens, ledger.state(), dict(ledger.limits))
                for key, ledger in ledgers._ledgers.items()
            }
            open_ = fold(run_of(captured)).by_id["r-1"]
            while_open = entries(open_, now=open_.last, gone=never)
        run = fold(run_of(captured)).by_id["r-1"]
    for found in (while_open, entries(run, now=run.last, gone=never)):
        assert found.keys() == known.keys()
        for key, (usd, tokens, state, limits_) in known.items():
            entry = found[key]
            assert entry.spent.usd == pytest.approx(usd, abs=1e-9)
            assert entry.spent.tokens == tokens
            assert entry.limits == limits_
            levels = [entry.level(unit, limit, ()) for (unit, _), limit in entry.limits.items()]
            assert max(levels, key=["within", "warning", "exceeded"].index) == state
    told = {(one.label, one.unit, one.level, one.task) for one in run.crossings}
    assert told == {(o.label, o.unit, o.level, o.task) for o in _told(ledgers)}


def test_what_a_tool_has_other_agents_do_counts_to_the_agent_that_called_it() -> None:
    """Tools have no signals of their own: the ids say which agent is around them."""
    with capture(prices=PRICES) as captured:
        with oa.run("shop", id="r-1"), oa.agent("planner", budget=Budget(tokens=100)):
            with oa.tool("ask"), oa.agent("helper"), oa.phase("inner"), oa.tool("again"):
                with oa.agent("last"):
                    play([("priced", 90)])
        run = fold(run_of(captured)).by_id["r-1"]
    (entry,) = entries(run, now=run.last, gone=never).values()
    assert (entry.key, entry.spent.tokens) == (("agent", "r-1", "planner"), 90)


def _told(ledgers: Any) -> list[Any]:
    return [one for ledger in ledgers._ledgers.values() for one in ledger.told]


@settings(max_examples=30, deadline=None)
@given(programs, st.randoms(use_true_random=False))
def test_repeats_and_disorder_change_nothing(work: list[Any], random: Random) -> None:
    """The same signals give the same budgets, in whatever order and however often they come."""
    with capture(prices=PRICES, budgets=[Budget(tokens=500_000)]) as captured:
        with oa.run("shop", id="r-1"):
            play(work)
        signals = captured.signals
    again = [*signals, *random.choices(signals, k=len(signals))]
    random.shuffle(again)
    once, twice = (fold(some).by_id["r-1"] for some in (signals, again))
    assert _read(once) == _read(twice)
    assert _read(once)


def _read(run: RunState) -> Any:
    return report(run, now=run.last, alive=lambda *_: True).budgets


def signal(kind: str, edge: Any, time: float, scope: str, **more: Any) -> Signal:
    """Return a signal of the run `r` in seconds."""
    return Signal(
        id=f"{scope}-{edge}-{time}", kind=kind, edge=edge, time=round(time * SECOND),
        scope_id=scope, ids=Ids(run_id="r", workflow="shop"), **more,
    )  # fmt: skip


LIMITED: Final = {f"{SPENT}seconds.limit": 100.0}


def seconds(signals: list[Signal], now: float) -> float:
    run = fold(signals).by_id["r"]
    read = report(run, now=round(now * SECOND), alive=lambda *_: None)
    (found,) = read.budgets
    return found.spent


def test_seconds_go_on_while_the_run_is_open() -> None:
    """An open run has spent the time until now, without that in which a human is waited for."""
    begun = signal("run", "start", 10, "s", attributes=LIMITED)
    assert seconds([begun], 15) == 5
    asked = signal("human", "start", 12, "h", parent_id="s")
    other = signal("human", "start", 13, "i", parent_id="s")
    assert seconds([begun, asked, other], 15) == 2
    answered = signal("human", "end", 14, "h", parent_id="s", duration=2.0, result="success")
    assert seconds([begun, asked, answered], 15) == 3


def test_a_try_that_was_killed_took_until_it_was_last_heard_of() -> None:
    """A resumed run adds its tries up, not the time between them."""
    first = [
        signal("run", "start", 10, "s", attributes=LIMITED),
        signal("run", "progress", 15, "s"),
    ]
    second = signal("run", "start", 100, "t", attributes=LIMITED)
    third = signal("run", "end", 107, "t", duration=7.0, result="success")
    assert seconds([*first, second, third], 200) == 12


def test_a_later_try_may_have_other_limits() -> None:
    """The limits of tries that are over do not bind the next one."""
    found = []
    for number, limit in enumerate((10, 30)):
        attributes = {f"{SPENT}tokens.limit": limit}
        start = 10.0 * number + 10
        found.append(signal("run", "start", start, f"s{number}", attributes=attributes))
        usage = Usage(input_tokens=20, requests=1)
        end = signal("run", "end", start + 1, f"s{number}", duration=1.0, usage=usage)
        found.append(end)
    run = fold(found).by_id["r"]
    (one,) = report(run, now=run.last, alive=lambda *_: None).budgets
    assert (one.limit, one.spent, one.state) == (30, 40, "exceeded")


@pytest.mark.parametrize(
    "value", [-1, 0, float("nan"), float("inf"), "x", None, True, 10**400, [1], {}]
)
def test_garbage_in_signals_is_left_out(value: Any) -> None:
    """Whatever a signal says where a limit or an event should stand, the run can be read."""
    keys = ("usd.limit", "tokens.limit", "warn_at", "enforced", "usd.spent", "tokens.spent")
    attributes = {f"{SPENT}{key}": value for key in keys}
    payload = {"scope": "run", "limit": value, "spent": value, "unit": value}
    found = [
        signal("run", "start", 1, "s", attributes=attributes | LIMITED),
        signal("run", "end", 2, "s", attributes=attributes, parent_id="s", duration=1.0),
        signal("budget_warning", "fact", 1, "", attributes={"otelagents.event.payload": payload}),
    ]
    run = fold(found).by_id["r"]
    read = report(run, now=run.last, alive=lambda *_: None)
    assert [(one.unit, one.limit, one.spent) for one in read.budgets] == [("second", 100.0, 1.0)]
    json.dumps(as_data(read), allow_nan=False)


def test_a_run_as_data_has_its_budgets() -> None:
    """`status --json` and the API give each limit with what was spent and how it stands."""
    budgets = [Budget(usd=1.0, tokens=2_000_000, enforce=True), Budget(scope="agent", tokens=10)]
    with capture(prices=PRICES, budgets=budgets) as captured, ExitStack() as stack:
        stack.enter_context(oa.run("shop", id="r-1"))
        with oa.agent("planner"), model("priced") as call:
            call.answered(Usage(input_tokens=900_000, requests=1))
        run = fold(captured.signals).by_id["r-1"]
        data = as_data(report(run, now=run.last, alive=lambda *_: True))
    assert data["budgets"] == [
        {
            "scope": "run", "name": None, "unit": "USD", "limit": 1.0, "spent": 0.9,
            "percent": 90.0, "state": "warning", "enforced": True,
        },
        {
            "scope": "run", "name": None, "unit": "token", "limit": 2_000_000, "spent": 900_000,
            "percent": 45.0, "state": "within", "enforced": True,
        },
        {
            "scope": "agent", "name": "planner", "unit": "token", "limit": 10, "spent": 900_000,
            "percent": 9_000_000.0, "state": "exceeded", "enforced": False,
        },
    ]  # fmt: skip
