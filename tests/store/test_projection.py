"""Rows of runs: what the fold says, whatever the order and the writers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_agents.signals import Failure, Ids, ModelUse, Signal
from otel_agents.state.report import report
from otel_agents.state.run import fold
from otel_agents.store import Batch, Store
from otel_agents.usage import Usage
from otel_agents.vocabulary import AGENT_ATTEMPT, OUTCOMES, PROVIDER, REQUEST_MODEL
from tests.state.build import BEGIN, Story, shop, tokens, unknown

from .build import made, wipe, write

if TYPE_CHECKING:
    from tests.databases import Opener

FEW = settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
_SCOPES = {
    "run": "run", "again": "run", "it-1": "iteration", "it-2": "iteration", "plan": "phase",
    "build": "phase", "a-1": "agent", "a-2": "agent", "gate": "gate", "human": "human",
    "task": "task",
}  # fmt: skip
_USES = st.builds(
    ModelUse,
    provider=st.sampled_from(["", "openai"]),
    model=st.sampled_from(["", "gpt", "claude"]),
    usage=st.builds(Usage, input_tokens=st.integers(0, 9), tool_calls=st.integers(0, 2)),
    cost=st.none() | st.sampled_from([0.25, 0.5]),
    unpriced=st.integers(0, 3),
)


@st.composite
def signals(draw: st.DrawFn) -> list[Signal]:
    """Signals of two runs, of scopes that are told of in any way a broken program might."""
    found = []
    for count in range(draw(st.integers(1, 14))):
        scope = draw(st.sampled_from(list(_SCOPES)))
        kind = _SCOPES[scope]
        fact = kind == "gate"
        ids = Ids(
            run_id=draw(st.sampled_from(["r-1", "r-2"])),
            workflow=draw(st.sampled_from([None, "w"])),
            phase=draw(st.sampled_from([None, "plan", "build"])),
            iteration=draw(st.sampled_from([None, 1, 2])),
            agent_id=draw(st.sampled_from(["a", scope])) if kind == "agent" else None,
            agent="coder" if kind == "agent" else None,
            task_id="t-1" if kind == "task" else None,
        )  # fmt: skip
        attributes: dict[str, Any] = {}
        if kind == "agent":
            attributes = draw(
                st.sampled_from([
                    {}, {REQUEST_MODEL.key: "gpt", PROVIDER.key: "openai"}, {AGENT_ATTEMPT.key: 2},
                ])
            )  # fmt: skip
        spends = kind in {"agent", "phase"}
        found.append(
            Signal(
                id=f"s-{count}", kind=kind, scope_id=scope, time=BEGIN + draw(st.integers(0, 9)),
                edge="fact" if fact else draw(st.sampled_from(["start", "progress", "end"])),
                parent_id=draw(st.sampled_from(["", "run", "plan"])),
                name=draw(st.sampled_from(["", "plan", "x"])), ids=ids, attributes=attributes,
                result=draw(st.sampled_from([*OUTCOMES, ""])),
                usage=draw(st.none() | st.builds(Usage, input_tokens=st.integers(0, 9)))
                if spends else None,
                cost=draw(st.sampled_from([None, 0.25])) if spends else None,
                models=draw(st.lists(_USES, max_size=2)) if spends else [],
                error=draw(st.sampled_from([None, Failure("E", "why")])),
            )
        )  # fmt: skip
    return found


@FEW
@given(told=signals(), data=st.data())
def test_rows_are_those_of_the_whole_in_order(
    database_url: str, told: list[Signal], data: st.DataObject
) -> None:
    """Any order, split and repetition, over two stores on one database, gives the same rows."""
    stores = [Store(database_url, durable=False) for _ in range(2)]
    try:
        wipe(stores[0])
        write(stores[0], *told)
        expected = made(stores[0])
        wipe(stores[0])
        mixed = data.draw(st.permutations([*told, *data.draw(st.lists(st.sampled_from(told)))]))
        while mixed:
            size = data.draw(st.integers(1, len(mixed)))
            batch, mixed = mixed[:size], mixed[size:]
            one = stores[data.draw(st.integers(0, 1))]
            one.write(Batch(signals=batch))
            if data.draw(st.booleans()):
                one.settle()
        assert made(stores[0]) == expected
    finally:
        for one in stores:
            one.close()


@FEW
@given(told=signals())
def test_rows_say_what_the_report_says(database_url: str, told: list[Signal]) -> None:
    """The row of a run, and those below it, are its reading's statuses, usage and cost."""
    store = Store(database_url, durable=False)
    try:
        wipe(store)
        write(store, *told)
        rows = made(store)
    finally:
        store.close()
    for run_id, state in fold(told).by_id.items():
        reading = report(state, now=state.last, alive=unknown)
        row = next(one for one in rows["runs"] if one["run_id"] == run_id)
        assert (row["status"], row["input_tokens"]) == (reading.status, reading.usage.input_tokens)
        assert (row["cost_usd"], row["unpriced_tokens"]) == (reading.usd, reading.unpriced)
        assert (row["started_ns"], row["ended_ns"]) == (reading.started, reading.ended)
        phases = {one["name"]: one for one in rows["phases"] if one["run_id"] == run_id}
        assert {name: one["status"] for name, one in phases.items()} == {
            phase.name: phase.status for phase in reading.phases
        }
        agents = {one["agent_id"] for one in rows["agents"] if one["run_id"] == run_id}
        assert agents == {agent.id for agent in reading.agents}


@FEW
@given(told=signals())
def test_spending_by_model_adds_up_to_the_bill(database_url: str, told: list[Signal]) -> None:
    """The rows of telemetry of a scope that is told of without models are its own usage."""
    plain = [one for one in told if not one.models]
    if not plain:
        return
    store = Store(database_url, durable=False)
    try:
        wipe(store)
        write(store, *plain)
        rows = made(store)
    finally:
        store.close()
    for run in rows["runs"]:
        mine = [one for one in rows["telemetry"] if one["run_id"] == run["run_id"]]
        assert sum(one["input_tokens"] for one in mine) == run["input_tokens"]
        assert sum(one["unpriced_tokens"] for one in mine) == run["unpriced_tokens"]
        if run["cost_usd"] is not None:
            assert math.fsum(one["cost_usd"] or 0 for one in mine) == run["cost_usd"]


def test_a_model_that_is_said_late_replaces_what_stood_for_it(store: Store) -> None:
    """Usage told without a model, and then with one, is counted once."""
    story = Story().start("run", name="shop").start("agent", "a-1", "coder", parent="run")
    story.progress("a-1", usage=tokens(100), cost=0.5)
    write(store, *story.signals)
    assert store.usage(by="model")["items"][0]["key"] == ""
    use = ModelUse(provider="openai", model="gpt", usage=tokens(100), cost=0.5)
    story.end("a-1", usage=tokens(100), cost=0.5, models=[use]).end("run")
    write(store, *story.signals)
    (item,) = store.usage(by="model")["items"]
    assert (item["key"], item["provider"], item["cost_usd"]) == ("gpt", "openai", 0.5)
    assert item["usage"]["input_tokens"] == 100


def test_a_start_that_comes_late_says_where_usage_belongs(store: Store) -> None:
    """Rows that were made without it are of its workflow, phase and agent."""
    story = Story().start("run", name="shop")
    story.start("agent", "a-1", "coder", parent="run", phase="plan")
    bare = Ids(run_id="run-1")
    end = Signal(
        id="end", kind="agent", edge="end", time=story.now + 1, scope_id="a-1", ids=bare,
        usage=tokens(100), cost=0.5, result="success",
    )  # fmt: skip
    write(store, end)
    assert [item["key"] for item in store.usage(by="phase")["items"]] == [""]
    write(store, *story.signals)
    for by, key in (("phase", "plan"), ("agent", "coder"), ("workflow", "shop")):
        assert [item["key"] for item in store.usage(by=by)["items"]] == [key]


def test_another_process_that_takes_over_leaves_no_row_of_the_first(
    stores: Opener, database_url: str
) -> None:
    """A store that has not seen how rows came to be replaces them all."""
    first, second = stores(database_url), stores(database_url)
    story = Story().start("run", name="shop").start("agent", "a-1", "coder", parent="run")
    story.progress("a-1", usage=tokens(100), cost=0.5)
    write(first, *story.signals)
    use = ModelUse(provider="openai", model="gpt", usage=tokens(200), cost=1.0)
    story.progress("a-1", usage=tokens(200), cost=1.0, models=[use])
    write(second, story.signals[-1])
    story.end("a-1", usage=tokens(300), cost=1.5).end("run")
    write(first, *story.signals[-2:])
    (item,) = second.usage(by="model")["items"]
    assert (item["key"], item["cost_usd"]) == ("", 1.5)


def test_a_signal_that_no_row_can_hold_costs_the_others_nothing(store: Store) -> None:
    """Numbers beyond what a column holds are cut, and other runs get their rows."""
    odd = Story("run-odd").start("run", name="shop", iteration=1 << 64)
    odd.start("agent", "a", "coder", attempt=1 << 64, pid=1 << 64, parent="run")
    odd.end("a", "failure", usage=Usage(input_tokens=(1 << 64) - 1), cost=math.inf)
    write(store, *odd.signals, *shop("run-1").signals)
    assert {run["run_id"] for run in store.runs()["items"]} == {"run-odd", "run-1"}
    assert store.usage(by="day")["items"]


def test_two_scopes_of_one_agent_id_are_one_row_and_both_are_billed(store: Store) -> None:
    """An agent that is resumed under its id is one attempt; its tokens count twice."""
    story = Story().start("run", name="shop")
    story.start("agent", "s-1", "coder", parent="run", agent_id="a").end("s-1", usage=tokens(10))
    story.wait(1).start("agent", "s-2", "coder", parent="run", agent_id="a")
    story.end("s-2", usage=tokens(20)).end("run")
    write(store, *story.signals)
    assert [agent["id"] for agent in store.agents()["items"]] == ["a"]
    assert store.usage(by="agent")["items"][0]["usage"]["input_tokens"] == 30


def test_a_run_that_is_deleted_and_told_of_anew_begins_at_nothing(
    stores: Opener, database_url: str
) -> None:
    """What another store deleted is in no answer and in no row of a store that had read it."""
    first, second = stores(database_url), stores(database_url)
    story = shop("run-1")
    write(first, *story.signals)
    assert first.run("run-1")["status"] == "succeeded"
    second.delete_run("run-1")
    write(first, story.signals[0])
    assert first.run("run-1")["phases"] == []
    assert [run["agents"] for run in first.runs()["items"]] == [{}]
    assert first.agents()["items"] == []
