"""Folding signals: the same set gives the same state, and what each signal adds to it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otel_agents.signals import Failure, Ids, Signal
from otel_agents.state.estimate import history
from otel_agents.state.run import Runs, fold
from otel_agents.state.view import view
from otel_agents.usage import Usage
from otel_agents.vocabulary import OUTCOMES, PROGRESS_DONE, PROGRESS_TOTAL, SAYS

from .build import BEGIN, SECOND, Story, dead, living, shop, tokens, unknown


def read(story: Story, *, after: float = 0.0, alive: Any = living) -> dict[str, Any]:
    """Return the view of a story's run, so many seconds after the last signal."""
    runs = fold(story.signals)
    run = runs.by_id[str(story.ids["run_id"])]
    return view(run, now=story.now + round(after * SECOND), alive=alive, history=history(runs, run))


def views(signals: list[Signal], now: int) -> dict[str, Any]:
    runs = fold(signals)
    found = {
        run.id: view(run, now=now, alive=unknown, history=history(runs, run))
        for run in runs.by_id.values()
    }
    return {"latest": runs.latest.id if runs.latest else None, "runs": found}


KINDS = ("run", "iteration", "phase", "agent", "gate", "human", "task", "delivery")
usages = st.builds(
    Usage,
    input_tokens=st.integers(0, 1000),
    output_tokens=st.integers(0, 1000),
    requests=st.integers(0, 3),
    complete=st.booleans(),
)


@st.composite
def signal_sets(draw: st.DrawFn) -> list[Signal]:
    """Draw signals of a few runs, with starts and ends missing at random."""
    scopes = draw(
        st.lists(
            st.tuples(st.sampled_from(KINDS), st.sampled_from("rs"), st.integers(1, 3)),
            min_size=1,
            max_size=6,
        )
    )
    found: list[Signal] = []
    for number, (kind, run_id, iteration) in enumerate(scopes):
        phase = draw(st.sampled_from(["plan", "build", None]))
        ids = Ids(run_id=run_id, workflow="shop", iteration=iteration, phase=phase)
        told = st.tuples(st.sampled_from(["start", "progress", "end"]), st.integers(0, 90))
        for edge, second in draw(st.lists(told, min_size=1, max_size=5)):
            share = draw(st.none() | st.integers(0, 10))
            found.append(
                Signal(
                    id=f"s{len(found)}",
                    kind=kind,
                    edge=edge,  # type: ignore[arg-type]
                    time=BEGIN + second * SECOND,
                    scope_id=f"scope-{number}",
                    name=draw(st.sampled_from("xy")),
                    ids=ids,
                    result=draw(st.sampled_from(OUTCOMES)) if edge == "end" else "",
                    usage=draw(st.none() | usages),
                    cost=draw(st.none() | st.floats(0, 10)),
                    unpriced_tokens=draw(st.integers(0, 1)),
                    error=draw(st.none() | st.just(Failure("ValueError", "no"))),
                    attributes={}
                    if share is None
                    else {PROGRESS_DONE.key: share, PROGRESS_TOTAL.key: 10},
                )
            )
    return found


@given(signals=signal_sets(), data=st.data())
def test_order_and_repeats_do_not_matter(signals: list[Signal], data: st.DataObject) -> None:
    """Any order of the signals, with any of them repeated, gives the same views."""
    repeated = data.draw(st.lists(st.sampled_from(signals)))
    shuffled = data.draw(st.permutations([*signals, *repeated]))

    now = BEGIN + 100 * SECOND
    assert views(signals, now) == views(shuffled, now)


@given(data=st.data())
def test_the_percent_never_falls_while_signals_come_in(data: st.DataObject) -> None:
    """With or without earlier runs, each next signal leaves the percent or raises it."""
    runs = Runs()
    for number in range(data.draw(st.integers(0, 2))):
        for signal in shop(f"earlier-{number}", BEGIN - (number + 1) * 1000 * SECOND).signals:
            runs.apply(signal)
    story = Story().start("run", name="shop")
    steps = st.sampled_from(["run", "phase", "pass", "wait"])
    for number, step in enumerate(data.draw(st.lists(steps, max_size=12))):
        story.wait(data.draw(st.integers(0, 40)))
        if step == "run":
            story.progress("run", data.draw(st.integers(0, 9)), data.draw(st.integers(1, 9)))
        elif step != "wait":
            scope = f"p{number}"
            story.start("phase", scope, data.draw(st.sampled_from(["plan", "build", "new"])))
            story.progress(scope, data.draw(st.integers(0, 9)), data.draw(st.integers(1, 9)))
            if step == "pass":
                story.end(scope, data.draw(st.sampled_from(["success", "failure"])))
    story.end("run", data.draw(st.sampled_from(OUTCOMES)))
    seen = [-1.0]
    for signal in story.signals:
        run = runs.apply(signal)
        assert run is not None
        found = view(run, now=signal.time, alive=living, history=history(runs, run))
        seen.append(-1.0 if found["percent"] is None else found["percent"])

    assert seen == sorted(seen)


@example(number=1 << 70, real=1e300, text="", edge="end", kind="agent")
@given(
    number=st.integers(),
    real=st.floats(allow_nan=False, allow_infinity=False),
    text=st.text(),
    edge=st.sampled_from(["start", "progress", "end", "fact"]),
    kind=st.sampled_from([*KINDS, "", "never heard of"]),
)
def test_no_number_in_a_signal_is_too_much(
    number: int, real: float, text: str, edge: Any, kind: str
) -> None:
    """Whatever numbers and texts a file holds, a reading of it can be made and encoded."""
    from otel_agents.cli.envelope import envelope

    attributes = {PROGRESS_DONE.key: number, PROGRESS_TOTAL.key: real, "otelagents.run.goal": text}
    signal = Signal(
        id="1", kind=kind, edge=edge, time=number, scope_id=text, name=text,
        ids=Ids(run_id="r", phase=text, iteration=number), result=text, duration=real, cost=real,
        usage=Usage(input_tokens=number, requests=number), unpriced_tokens=number,
        error=Failure(text, text), attributes=attributes, pid=number,
    )  # fmt: skip
    other = Signal(
        id="2", kind="agent", edge="end", time=BEGIN, ids=Ids(run_id="r"), duration=real,
        attributes={"otelagents.agent.attempt": number},
    )  # fmt: skip
    run = fold([signal, other]).by_id["r"]

    assert envelope(view(run, now=BEGIN, alive=unknown)).startswith('{"data":{')


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_each_outcome_is_said_in_the_words_of_each_surface(outcome: str) -> None:
    """A run, a phase and an agent that end alike are called what the vocabulary says."""
    story = Story().start("run").start("phase", "p", "plan").start("agent", "a", "x", phase="plan")
    story.end("a", outcome).end("p", outcome).end("run", outcome)
    found = read(story)

    said = [
        found["status"], found["phases"][0]["status"], found["agents"]["items"][0]["status"],
    ]  # fmt: skip
    assert said == [SAYS[surface][outcome] for surface in ("run", "phase", "agent")]


def test_an_unknown_outcome_counts_as_failed() -> None:
    """A newer program's word for an end is not taken for success."""
    assert read(Story().start("run").end("run", "exploded"))["status"] == "failed"


def test_a_failed_agent_says_why() -> None:
    """The error of an agent stands on its item; the next attempt has its own."""
    story = Story().start("run").start("agent", "a1", "writer", attempt=1)
    story.end("a1", "error", error=("TimeoutError", "took 60 s"))
    story.start("agent", "a2", "writer", attempt=2).end("a2")
    items = read(story)["agents"]["items"]

    assert [(item["id"], item["status"], item["attempt"]) for item in items] == [
        ("a1", "failed", 1),
        ("a2", "completed", 2),
    ]
    assert [item["error"] for item in items] == [
        {"type": "TimeoutError", "message": "took 60 s"},
        None,
    ]


def test_a_run_whose_process_is_gone_is_lost_at_once() -> None:
    """No heartbeat has to be waited for where the process is known to be dead."""
    story = Story().start("run").start("phase", "p", "plan")
    story.start("agent", "a", "x", phase="plan")
    found = read(story, alive=dead)

    assert found["status"] == "lost"
    assert found["error"] == {"type": "lost", "message": "process 4242 on build-host is gone"}
    assert found["phases"][0]["status"] == "failed"
    assert found["agents"]["by_status"] == {"lost": 1}
    assert found["usage"]["complete"] is False


@pytest.mark.parametrize("alive", [living, unknown])
def test_a_run_without_a_sign_of_life_is_lost_after_half_a_minute(alive: Any) -> None:
    """Silence beyond the limit means lost, also where the process cannot be asked."""
    story = Story().start("run")

    assert read(story, after=30, alive=alive)["status"] == "running"
    assert read(story, after=31, alive=alive)["status"] == "lost"


def test_heartbeats_keep_a_run_alive() -> None:
    """A signal without content is a sign of life."""
    story = Story().start("run").wait(600).progress("run")

    assert read(story, after=29)["status"] == "running"


def test_what_a_dead_worker_process_did_is_lost_while_the_run_goes_on() -> None:
    """An agent in another process is lost with that process, not with the run's."""
    story = Story().start("run").start("agent", "a", "x", pid=77)
    found = read(story, alive=lambda _host, pid, _since: pid != 77)

    assert (found["status"], found["agents"]["by_status"]) == ("running", {"lost": 1})


def test_a_resumed_run_goes_on_where_the_killed_one_stopped() -> None:
    """A second process with the same run id is a new try; what the first left open is lost."""
    story = Story().start("run", "first").start("agent", "a1", "x", parent="first")
    story.wait(60).start("run", "second", pid=77).start("agent", "a2", "x", parent="second", pid=77)
    gone = lambda _host, pid, _since: pid == 77  # noqa: E731 - a stand-in
    found = read(story, alive=gone)

    assert found["status"] == "running"
    assert found["started_at"] == "2026-01-01T00:00:00.000Z"
    assert [item["status"] for item in found["agents"]["items"]] == ["lost", "running"]


def test_what_a_resumed_run_left_open_on_another_host_is_lost() -> None:
    """Its first process cannot be asked, but the second one took over."""
    story = Story().start("run", "first").start("agent", "a1", "x", parent="first")
    story.wait(5).start("run", "second", pid=77)
    found = read(story, alive=lambda _host, pid, _since: True if pid == 77 else None)

    assert (found["status"], found["agents"]["by_status"]) == ("running", {"lost": 1})


def test_of_a_scope_without_start_and_end_the_first_word_counts() -> None:
    """Whichever of its signals comes first to the reader."""
    story = Story().start("run").start("agent", "a", "before").progress("a").wait(1)
    story.start("agent", "a", "after").progress("a")
    told = [signal for signal in story.signals if signal.edge == "progress"]
    names = []
    for signals in (told, told[::-1]):
        found = view(fold(signals).by_id["run-1"], now=story.now, alive=unknown)
        names.append(found["agents"]["items"][0]["name"])

    assert names == ["before", "before"]


def test_a_run_that_asks_a_human_waits() -> None:
    """An open wait makes the run waiting; when it is over the run runs on."""
    story = Story().start("run").start("human", "h", "approve")
    assert read(story)["status"] == "waiting"

    assert read(story.end("h"))["status"] == "running"


def test_an_agent_outside_any_run_is_a_run_of_its_own() -> None:
    """It is named after the agent, ends with it, and has no heartbeat that could be missed."""
    story = Story("a1", None).start("agent", "a1", "helper")
    found = read(story, after=3600, alive=living)
    assert (found["workflow"], found["status"]) == ("helper", "running")
    assert read(story, after=3600, alive=unknown)["status"] == "lost"

    assert read(story.end("a1"))["status"] == "succeeded"


def test_an_end_without_a_start_still_tells() -> None:
    """A start that was lost is made up for by the end and its duration."""
    story = Story().start("run").start("agent", "a", "writer", phase="plan").wait(10).end("a")
    story.signals = [signal for signal in story.signals if signal.edge == "end"]
    found = read(story)

    assert found["started_at"] == "2026-01-01T00:00:10.000Z"
    assert found["phases"][0]["started_at"] == "2026-01-01T00:00:00.000Z"
    assert found["agents"]["items"][0]["name"] == "writer"


def test_an_agent_whose_end_was_lost_is_lost_when_its_run_ends() -> None:
    """Nobody will end it any more, and what it used last is not known."""
    story = Story().start("run").start("agent", "a", "x").progress("a", usage=tokens(50)).end("run")
    item = read(story)["agents"]["items"][0]

    assert (item["status"], item["usage"]["input_tokens"]) == ("lost", 50)
    assert item["usage"]["complete"] is False


def test_usage_grows_and_the_end_has_the_last_word() -> None:
    """Progress is what was seen so far; the end replaces it, and other scopes add up."""
    story = Story().start("run").start("agent", "a", "x")
    story.progress("a", usage=tokens(100), cost=0.1)
    assert read(story)["usage"]["total_tokens"] == 110
    story.progress("a", usage=tokens(200), cost=0.2).end("a", usage=tokens(300), cost=0.3)
    story.end("run", usage=tokens(10), cost=0.05)
    found = read(story)

    assert found["usage"]["total_tokens"] == 330 + 11
    assert found["cost_usd"] == 0.35
    assert found["agents"]["items"][0]["usage"]["requests"] == 1


def test_an_end_that_says_nothing_of_usage_keeps_what_was_seen() -> None:
    """A crash between the last request and the end does not make tokens disappear."""
    story = Story().start("run").start("agent", "a", "x")
    story.progress("a", usage=tokens(100), cost=0.1).end("a", "cancellation").end("run")

    assert read(story)["usage"]["input_tokens"] == 100


def test_an_unknown_price_makes_the_cost_unknown() -> None:
    """The sum is null, never too small, and the tokens without a price are counted."""
    story = Story().start("run").start("agent", "a", "x", phase="p")
    story.end("a", usage=tokens(100), cost=0.1)
    story.start("agent", "b", "y", phase="q").end("b", usage=tokens(70), unpriced_tokens=77)
    found = read(story.end("run"))

    assert (found["cost_usd"], found["unpriced_tokens"]) == (None, 77)
    assert [phase["cost_usd"] for phase in found["phases"]] == [0.1, None]


def test_tokens_that_nobody_priced_are_unpriced() -> None:
    """A program without a price table does not work for free."""
    story = Story().start("run").start("agent", "a", "x").end("a", usage=tokens(100), cost=0.1)
    found = read(story.start("agent", "b", "y").end("b", usage=tokens(50)))

    assert (found["cost_usd"], found["unpriced_tokens"]) == (None, 55)


def test_a_run_that_used_nothing_has_no_cost() -> None:
    """Nothing was priced: null, not zero."""
    assert read(Story().start("run").end("run"))["cost_usd"] is None


def test_incomplete_usage_is_marked_all_the_way_up() -> None:
    """One request whose usage was not seen makes every sum it is in incomplete."""
    story = Story().start("run").start("agent", "a", "x", phase="p")
    found = read(story.end("a", usage=tokens(5, complete=False)).end("run"))

    assert [found["usage"]["complete"], found["phases"][0]["usage"]["complete"]] == [False, False]


def test_a_phase_of_several_iterations_is_one_row() -> None:
    """Its row has the latest status, the number of iterations and the time of all passes."""
    story = Story().start("run")
    for number, result in ((1, "failure"), (2, "success")):
        scope = f"build-{number}"
        story.start("phase", scope, "build", iteration=number).wait(10)
        assert read(story)["phases"][0]["status"] == "running"
        story.end(scope, result).wait(5)
    (row,) = read(story)["phases"]

    assert (row["status"], row["iterations"], row["duration_seconds"]) == ("completed", 2, 20.0)
    assert (row["started_at"], row["ended_at"]) == (
        "2026-01-01T00:00:00.000Z",
        "2026-01-01T00:00:25.000Z",
    )


def test_parallel_passes_of_one_iteration_have_the_status_of_the_worst() -> None:
    """Of two that ran side by side, one failed: the phase failed, whichever ended last."""
    story = Story().start("run")
    story.start("phase", "p1", "build", iteration=1).start("phase", "p2", "build", iteration=1)
    story.end("p1", "error")
    assert read(story)["phases"][0]["status"] == "running"

    assert read(story.end("p2"))["phases"][0]["status"] == "failed"


def test_the_latest_run_is_the_one_that_started_last() -> None:
    """Not the one that was heard of last; a resumed run counts from its resumption."""
    first, second = Story("one").start("run"), Story("two", begin=BEGIN + SECOND).start("run")
    first.wait(100).progress("run")
    runs = fold([*second.signals, *first.signals])
    assert runs.latest is runs.by_id["two"]

    first.start("run", "again")
    assert fold([*first.signals, *second.signals]).latest is not None
    assert fold([*first.signals, *second.signals]).latest.id == "one"  # type: ignore[union-attr]


def test_signals_of_no_run_and_of_no_time_are_left_out() -> None:
    """A worker's heartbeat belongs to no run, and a date before 1970 to no clock."""
    runs = fold(
        [
            Signal(id="1", kind="worker", edge="progress", time=BEGIN),
            Signal(id="2", kind="run", edge="start", time=-1, ids=Ids(run_id="r")),
        ]
    )
    assert (runs.by_id, runs.latest) == ({}, None)
