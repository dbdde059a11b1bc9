"""Runs that are under way, that fell silent, and that ended before their children."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_agents.signals import LOST_AFTER_SECONDS
from tests.state.build import Story, shop, tokens

from .build import ids_of, seconds_ago, write

if TYPE_CHECKING:
    from otel_agents.store import Store


def under_way(run_id: str, seconds: float) -> Story:
    """Return a run with an agent at work that was last heard of so many seconds ago."""
    # Of another host: whether its process lives cannot be seen.
    story = Story(run_id, begin=seconds_ago(seconds))
    story.start("run", name="shop", host="elsewhere")
    story.start("agent", f"{run_id}-a", "coder", parent="run", host="elsewhere")
    return story.progress(f"{run_id}-a", usage=tokens(10), cost=0.1)


def test_a_silent_run_is_lost_with_its_agents(store: Store) -> None:
    """After thirty seconds without a sign of life, in every list and filter."""
    write(store, *under_way("gone", LOST_AFTER_SECONDS + 5).signals)
    write(store, *under_way("here", 1).signals)
    assert ids_of(store.runs(status="lost")["items"], "run_id") == ["gone"]
    assert ids_of(store.runs(status="running")["items"], "run_id") == ["here"]
    assert ids_of(store.agents(status="lost")["items"], "id") == ["gone-a"]
    assert ids_of(store.agents(status="running")["items"], "id") == ["here-a"]
    lost, here = store.runs(q="gone")["items"][0], store.runs(q="here")["items"][0]
    assert (lost["status"], lost["agents"], lost["error"]["type"]) == ("lost", {"lost": 1}, "lost")
    assert (here["status"], here["agents"], here["error"]) == ("running", {"running": 1}, None)
    assert lost["duration_seconds"] == 0
    assert store.run("gone")["status"] == store.report("gone").status == "lost"
    assert store.agent("gone-a")["status"] == "lost"
    assert store.run("gone")["agents"]["items"][0]["status"] == "lost"
    assert store.runtime_status()["running_runs"] == 1


def test_a_lost_run_that_speaks_again_is_running(store: Store) -> None:
    """A heartbeat is enough."""
    story = under_way("r", LOST_AFTER_SECONDS + 5)
    write(store, *story.signals)
    assert store.runs()["items"][0]["status"] == "lost"
    story.wait(LOST_AFTER_SECONDS + 4).progress("run")
    write(store, story.signals[-1])
    assert store.runs()["items"][0]["status"] == "running"
    assert store.agent("r-a")["status"] == "running"


def test_a_root_that_ends_before_its_children_is_over(store: Store) -> None:
    """The run has its result; an agent that never ended is lost, one that ends late is not."""
    story = under_way("r", 5)
    story.start("agent", "late", "tester", parent="run")
    story.wait(1).end("run").wait(1).end("late", usage=tokens(5), cost=0.2)
    write(store, *story.signals)
    run = store.runs()["items"][0]
    assert (run["status"], run["agents"]) == ("succeeded", {"completed": 1, "lost": 1})
    assert store.agent("r-a")["status"] == "lost"
    assert store.agent("late")["status"] == "completed"
    assert run["cost_usd"] == 0.3
    scopes = {scope["id"]: scope["status"] for scope in store.run("r")["scopes"]}
    assert scopes == {"run": "succeeded", "r-a": "lost", "late": "completed"}


def test_an_agent_that_has_said_nothing_yet_is_starting(store: Store) -> None:
    """Until the first word of its model."""
    story = Story("r", begin=seconds_ago(1)).start("run", name="shop")
    story.start("agent", "a", "coder", parent="run")
    write(store, *story.signals)
    assert ids_of(store.agents(status="starting")["items"], "id") == ["a"]
    story.progress("a", usage=tokens(1))
    write(store, story.signals[-1])
    assert ids_of(store.agents(status="running")["items"], "id") == ["a"]


def test_an_agent_id_that_is_used_again_in_another_run(store: Store) -> None:
    """Each run has its own; the one that started last answers to the id."""
    for run_id, seconds, result in (("r-1", 60, "success"), ("r-2", 30, "failure")):
        story = Story(run_id, begin=seconds_ago(seconds)).start("run", name="shop")
        story.start("agent", "a", "coder", parent="run")
        story.end("a", result, usage=tokens(100), cost=0.5, error=("E", run_id)).end("run")
        write(store, *story.signals)
    assert ids_of(store.agents()["items"], "run_id") == ["r-2", "r-1"]
    assert store.agent("a")["run_id"] == "r-2"
    assert store.agents(run_id="r-1")["items"][0]["status"] == "completed"
    assert store.telemetry("a")["usage"]["input_tokens"] == 100
    assert store.run("r-1")["agents"]["by_status"] == {"completed": 1}


def test_the_latest_run_is_the_one_that_started_last(store: Store) -> None:
    """Whatever was written last."""
    write(store, *shop("new", begin=seconds_ago(200)).signals)
    write(store, *shop("old", begin=seconds_ago(900)).signals)
    assert store.report().id == "new"
    assert store.runs()["items"][0]["run_id"] == "new"
