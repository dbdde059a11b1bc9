"""Waiting time apart from active time, folded from signals told step by step."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agents.event_types import Event
from otel_agents.signals import Ids, Signal
from otel_agents.state.estimate import history
from otel_agents.state.kpis import Kpis
from otel_agents.state.kpis_signals import WAIT, counted_of
from otel_agents.state.report import RunReport, report
from otel_agents.state.run import Runs, fold
from otel_agents.state.view import as_data
from otel_agents.vocabulary import EVENT_PAYLOAD, EVENT_TYPE, WAIT_ID, WAIT_TOOL_CALL

from tests.state.build import BEGIN, SECOND, Story, dead, living, unknown  # isort: skip


def read(*stories: Story, after: float = 0.0, alive: Any = living) -> RunReport:
    """Return the reading of the last story's run, so many seconds after it was told."""
    runs = fold(signal for story in stories for signal in story.signals)
    last = stories[-1]
    run = runs.by_id[str(last.ids["run_id"])]
    now = last.now + round(after * SECOND)
    return report(run, now=now, alive=alive, history=history(runs, run))


def waiting_run(run_id: str = "run-1", begin: int = BEGIN) -> Story:
    """Return the story of 10 s of work in a phase, and 50 s of waiting for a human in it."""
    story = Story(run_id, begin=begin).start("run", name="shop")
    story.start("phase", "p", "build", parent="run")
    story.start("agent", f"{run_id}-a", "coder", parent="p", phase="build").wait(10)
    story.start("human", "h", "which?", parent=f"{run_id}-a", agent_id=f"{run_id}-a")
    return story.wait(50).progress("run")


def test_waiting_is_told_apart_on_run_phase_and_agent() -> None:
    """While it goes on, and when it is over."""
    story = waiting_run()
    for found in (read(story), read(story.end("h"))):
        assert found.seconds == 60
        assert found.waited == found.phases[0].waited == found.agents[0].waited == 50
    data = as_data(found)
    assert data["waiting_seconds"] == 50
    assert data["phases"][0]["waiting_seconds"] == 50
    assert data["agents"]["items"][0]["waiting_seconds"] == 50


def test_an_agent_beside_it_has_not_waited() -> None:
    """The run has; waits at the same time count once."""
    story = waiting_run().start("agent", "b", "other", parent="p", phase="build")
    story.start("human", "h2", "and?", parent="p").wait(10).end("h").wait(10).end("h2")
    found = read(story)
    assert found.waited == found.phases[0].waited == 70
    assert [agent.waited for agent in found.agents] == [60, 0]


def test_a_wait_in_another_process_belongs_to_the_agent_by_its_id() -> None:
    """A carrier brings the ids, not the scope."""
    story = Story().start("run", name="shop").start("agent", "a", "coder", parent="run").wait(1)
    found = read(story.start("human", "h", "?", agent_id="a").wait(4))
    assert (found.waited, found.agents[0].waited) == (4, 4)


def test_what_is_left_is_told_in_active_time() -> None:
    """Of earlier runs and of this one: how long a human takes says nothing of the work."""
    earlier = waiting_run("earlier").end("h").end("earlier-a").end("p").wait(10).end("run")
    now = Story("now", begin=BEGIN + 1000 * SECOND).start("run", name="shop")
    runs = fold([*earlier.signals, *now.signals])
    found = history(runs, runs.by_id["now"])
    assert found.seconds == 20
    assert found.weights == {"build": 10}

    now.start("phase", "p", "build", parent="run").wait(4)
    assert read(earlier, now).eta == 16
    now.start("human", "h", "which?", parent="p").wait(500)
    assert read(earlier, now).eta is None
    now.end("h")
    assert read(earlier, now).eta == 16


def test_reported_progress_is_of_active_time() -> None:
    """Half of the work in ten seconds and an hour of waiting: ten more seconds."""
    story = Story().start("run", name="shop").wait(5).start("human", "h", "?", parent="run")
    story.wait(3600).end("h").wait(5).progress("run", 1, 2)
    assert read(story).eta == pytest.approx(10)
    assert read(story).share == 0.5


def test_a_run_that_is_killed_while_it_waits_is_lost_and_goes_on() -> None:
    """Until it was resumed it waited; what was asked before is asked anew or not at all."""
    story = waiting_run()
    found = read(story, alive=dead)
    assert (found.status, found.waits) == ("lost", [])
    assert found.waited == 50
    story.wait(1000).start("run", "again", "shop", pid=5)
    story.wait(10)
    found = read(story, alive=lambda _host, pid, _since: pid == 5)
    assert (found.status, found.seconds, found.waited) == ("running", 1070, 1050)
    story.start("human", "h2", "which?", parent="again", pid=5).wait(5)
    found = read(story, alive=lambda _host, pid, _since: pid == 5)
    assert (found.status, found.waited) == ("waiting", 1055)
    assert [wait.id for wait in found.waits] == ["h2"]


def test_a_worker_that_dies_waits_no_more_in_a_run_that_goes_on() -> None:
    """What it asked is nobody's."""
    story = Story().start("run", name="shop")
    story.start("human", "h", "?", parent="run", pid=7).wait(100).progress("run")
    found = read(story, alive=lambda _host, pid, _since: pid != 7)
    assert (found.status, found.waited, found.waits) == ("running", 0, [])


def deferred_run() -> Story:
    """Return the story of a run that ended while a tool call of its agent is put off."""
    story = Story().start("run", name="shop").start("agent", "a", "ops", parent="run").wait(1)
    put_off = {WAIT_TOOL_CALL.key: "call-1", WAIT_ID.key: "call-1"}
    story.end("a").start("human", "h", "approve deploy", parent="a", attributes=put_off)
    return story.wait(1).end("run")


def test_a_run_that_ended_with_a_call_put_off_is_waiting() -> None:
    """For as long as it takes, though its process has gone; it is not over."""
    for alive in (living, dead, unknown):
        found = read(deferred_run(), after=9999, alive=alive)
        assert (found.status, found.ended, found.over) == ("waiting", None, False)
        assert [wait.id for wait in found.waits] == ["call-1"]
        assert (found.seconds, found.waited) == (10001, 10000)
        assert found.share is None


def test_it_is_over_when_the_call_is_answered() -> None:
    """By another process, which tells of the end of the same wait."""
    story = deferred_run().wait(100).end("h")
    found = read(story, after=50)
    assert (found.status, found.share, found.seconds) == ("succeeded", 1.0, 2)
    assert found.waited == 1


def test_a_run_that_waits_is_no_history() -> None:
    """It is not over, so nobody knows how long it takes."""
    later = Story("later", begin=BEGIN + 99 * SECOND).start("run", name="shop")
    runs = fold([*deferred_run().signals, *later.signals])
    assert history(runs, runs.by_id["later"]).seconds is None


# ---------------------------------------------------------------------- any signals


@st.composite
def waits(draw: st.DrawFn) -> list[tuple[str, int, int | None]]:
    """Draw waits in scopes of a run: in which, from when, to when."""
    found = []
    for _ in range(draw(st.integers(0, 8))):
        start = draw(st.integers(0, 100))
        end = draw(st.none() | st.integers(start, 140))
        found.append((draw(st.sampled_from(["run", "p", "a"])), start, end))
    return found


def told(given_waits: list[tuple[str, int, int | None]], ended: int | None) -> list[Signal]:
    found = []

    def say(kind: str, key: str, parent: str, start: int, end: int | None) -> None:
        common: dict[str, Any] = {
            "kind": kind, "scope_id": key, "parent_id": parent,
            "ids": Ids(run_id="r", phase="p" if key != "run" else None),
        }  # fmt: skip
        found.append(Signal(id=f"{key}-s", edge="start", time=BEGIN + start * SECOND, **common))
        if end is not None:
            found.append(
                Signal(
                    id=f"{key}-e", edge="end", time=BEGIN + end * SECOND, result="success",
                    duration=float(end - start), **common,
                )
            )  # fmt: skip

    say("run", "run", "", 0, ended)
    if ended is None:
        beat = BEGIN + 140 * SECOND
        ids = Ids(run_id="r")
        found.append(
            Signal(id="b", kind="run", scope_id="run", edge="progress", time=beat, ids=ids)
        )
    say("phase", "p", "run", 10, 90)
    say("agent", "a", "p", 20, 80)
    for number, (parent, start, end) in enumerate(given_waits):
        say("human", f"h{number}", parent, start, end)
    return found


@given(waits(), st.none() | st.integers(100, 130), st.randoms(use_true_random=False))
def test_waiting_equals_a_recount_and_never_exceeds_the_time(
    given_waits: list[tuple[str, int, int | None]], ended: int | None, random: Any
) -> None:
    """Second by second, whatever the order in which the signals come."""
    signals = told(given_waits, ended)
    expected = _read(fold(signals))
    random.shuffle(signals)
    found = _read(fold([*signals, *signals[:5]]))

    assert found == expected
    until = 140 if ended is None else ended
    below = {"run": {"run", "p", "a"}, "p": {"p", "a"}, "a": {"a"}}
    counted = {
        name: _recount([one for one in given_waits if one[0] in below[name]], first, last)
        for name, first, last in (("run", 0, until), ("p", 10, 90), ("a", 20, 80))
    }
    assert found.waited == counted["run"] <= found.seconds
    assert found.phases[0].waited == counted["p"]
    assert found.phases[0].seconds is not None
    assert found.phases[0].waited <= found.phases[0].seconds
    assert found.agents[0].waited == counted["a"] <= found.agents[0].seconds


def _read(runs: Runs) -> RunReport:
    return report(runs.by_id["r"], now=BEGIN + 140 * SECOND, alive=living)


def _recount(found: list[tuple[str, int, int | None]], since: int, until: int) -> int:
    return sum(
        any(start <= second < (until if end is None else end) for _, start, end in found)
        for second in range(since, until)
    )


# ---------------------------------------------------------------------- the KPIs


def utilization(story: Story, after: float = 0.0) -> Any:
    """Return the share of the time with an agent at work, and how many are now."""
    kpis = Kpis()
    for signal in story.signals:
        if (event := counted_of(signal)) is not None:
            kpis.apply(event)
    found = Kpis.from_bytes(kpis.to_bytes()).reading(story.now / SECOND + after)
    return found["agent_utilization"], found["counts"]["agents_active"]


def asking(story: Story, wait: str, agent: str, **ids: Any) -> Story:
    """Begin a wait of an agent as the program tells of it."""
    payload = {"task_id": wait, "wait_id": wait}
    told_as = {EVENT_TYPE.key: "hitl_escalated", EVENT_PAYLOAD.key: payload}
    return story.start("human", wait, "?", parent=agent, agent_id=agent, attributes=told_as, **ids)


def test_an_agent_that_waits_is_not_at_work() -> None:
    """While it does, and afterwards; a wait without a task is no task."""
    story = Story().start("run", name="shop").start("agent", "a", "coder").wait(10)
    asking(story, "h", "a").wait(20)
    assert utilization(story) == (pytest.approx(1 / 3), 0)
    story.end("h").wait(10)
    assert utilization(story) == (pytest.approx(0.5), 1)
    story.end("a")
    assert utilization(story, after=99) == (pytest.approx(0.5), 0)


def test_another_agent_at_work_meanwhile_counts() -> None:
    """And whoever called the one that waits does not."""
    story = Story().start("run", name="shop").start("agent", "a", "boss").wait(10)
    story.start("agent", "b", "helper", parent_agent_id="a")
    asking(story, "h", "b", parent_agent_id="a").wait(10).end("h").end("b").end("a")
    assert utilization(story) == (pytest.approx(0.5), 0)
    story = Story().start("run", name="shop").start("agent", "a", "coder")
    story.start("agent", "b", "other")
    asking(story, "h", "a").wait(10).end("h").end("a").end("b")
    assert utilization(story) == (1, 0)


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 50)), max_size=6), st.integers(1, 4))
def test_utilization_equals_a_recount(found: list[tuple[int, int]], parts: int) -> None:
    """Second by second, whichever parts the fold was made of."""
    events = [
        Event(id="s", type="agent_started", time=0.0, run_id="r", payload={}, agent_id="a"),
        Event(
            id="e", type="agent_completed", time=100.0, run_id="r", agent_id="a",
            payload={"cost_usd": 0, "duration_ms": 100_000},
        ),
    ]  # fmt: skip
    events += [
        Event(
            id=f"w{number}", type=WAIT, time=float(start + seconds), run_id="r", agent_id="a",
            payload={"seconds": float(seconds)},
        )
        for number, (start, seconds) in enumerate(found)
    ]  # fmt: skip
    states = [Kpis() for _ in range(parts)]
    for number, event in enumerate(events):
        states[number % parts].apply(event)
    whole = Kpis()
    for state in states:
        whole.merge(state)
    waited = {second for start, seconds in found for second in range(start, start + seconds)}
    at_work = 100 - len(waited & set(range(100)))
    assert whole.reading(200.0)["agent_utilization"] == pytest.approx(at_work / 100)
