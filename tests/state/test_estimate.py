"""How far a run is and how long it takes: from its own reports and from earlier runs."""

from __future__ import annotations

from typing import Any

import pytest

from otel_agents.state.estimate import history
from otel_agents.state.run import fold
from otel_agents.state.view import view

from .build import BEGIN, SECOND, Story, living, shop

EARLIER = BEGIN - 1000 * SECOND


def read(*stories: Story, after: float = 0.0) -> dict[str, Any]:
    """Return the view of the last story's run, so many seconds after its last signal."""
    runs = fold(signal for story in stories for signal in story.signals)
    run = runs.by_id[str(stories[-1].ids["run_id"])]
    now = stories[-1].now + round(after * SECOND)
    return view(run, now=now, alive=living, history=history(runs, run))


def test_nothing_is_guessed_for_the_first_run_of_a_workflow() -> None:
    """Neither percent nor time left, whatever its phases report."""
    story = Story().start("run").start("phase", "p", "plan").progress("p", 9, 10).wait(5)
    found = read(story)

    assert (found["percent"], found["eta_seconds"]) == (None, None)
    assert found["phases"][0]["percent"] == 90.0


def test_the_runs_own_report_gives_percent_and_time_left() -> None:
    """A quarter done after 10 s leaves 30 s, which count down until the next report."""
    story = Story().start("run").wait(10).progress("run", 5, 20)

    assert (read(story)["percent"], read(story)["eta_seconds"]) == (25.0, 30.0)
    assert read(story, after=12)["eta_seconds"] == 18.0
    assert read(story.wait(45).progress("run"))["eta_seconds"] == 0.0


def test_almost_all_is_not_all() -> None:
    """The percent is cut, not rounded."""
    assert read(Story().start("run").progress("run", 2999, 3000))["percent"] == 99.9


def test_a_total_that_grows_does_not_make_the_percent_fall() -> None:
    """Half of ten is done; that five of fifty are done later does not take it back."""
    story = Story().start("run").progress("run", 5, 10).wait(1).progress("run", 6, 50)

    assert read(story)["percent"] == 50.0


@pytest.mark.parametrize(("done", "total"), [(1, 0), (1, -2), ("half", 2), (1, None)])
def test_a_report_that_makes_no_share_is_none(done: Any, total: Any) -> None:
    """No division by nothing, and no text taken for a number."""
    assert read(Story().start("run").progress("run", done, total))["percent"] is None


def test_earlier_runs_weigh_the_phases_by_the_time_they_took() -> None:
    """Plan took 10 of 100 s before: it is worth 10 %, and half of build another 30 %."""
    story = Story("now").start("run").start("phase", "plan", "plan").wait(4).end("plan")
    found = read(shop("earlier", EARLIER), story)
    assert (found["percent"], found["eta_seconds"]) == (10.0, 90.0)

    story.start("phase", "build", "build").wait(10).progress("build", 1, 2)
    found = read(shop("earlier", EARLIER), story)
    assert (found["percent"], found["eta_seconds"]) == (40.0, 60.0)


def test_a_phase_that_earlier_runs_had_is_pending_until_it_starts() -> None:
    """The rows ahead are shown while the run goes on, and only then."""
    story = Story("now").start("run").start("phase", "plan", "plan")
    rows = [(row["name"], row["status"]) for row in read(shop("earlier", EARLIER), story)["phases"]]
    assert rows == [("plan", "running"), ("build", "pending"), ("review", "pending")]

    ended = read(shop("earlier", EARLIER), story.end("plan").end("run", "failure"))
    assert [row["name"] for row in ended["phases"]] == ["plan"]


def test_a_guess_never_says_that_all_is_done() -> None:
    """With all the usual work behind it, a run that goes on is at 99 %, until it succeeds."""
    story = shop("now")
    end = story.signals.pop()
    assert read(shop("earlier", EARLIER), story)["percent"] == 99.0

    story.signals.append(end)
    assert read(shop("earlier", EARLIER), story)["percent"] == 100.0


def test_another_pass_of_a_phase_is_not_the_work_of_the_next_phase() -> None:
    """A second iteration that was not usual leaves the review to be done."""
    story = Story("now").start("run")
    for number in (1, 2):
        for phase in ("plan", "build"):
            story.start("phase", f"{phase}{number}", phase, iteration=number).wait(10)
            story.end(f"{phase}{number}")

    assert read(shop("earlier", EARLIER), story)["percent"] == 70.0


def test_a_run_that_did_not_succeed_stays_where_it_was() -> None:
    """Only success is all."""
    story = Story().start("run").progress("run", 1, 4).end("run", "cancellation")

    assert (read(story)["percent"], read(story)["eta_seconds"]) == (25.0, None)


def test_only_runs_that_had_succeeded_before_count() -> None:
    """Not a failed one, not one of another workflow, not one that ended after this one began."""
    failed = shop("failed", EARLIER, "failure")
    other = shop("other", EARLIER)
    for signal in other.signals:
        signal.ids.workflow = "bakery"
    overlapping = shop("overlapping", BEGIN - 50 * SECOND)
    story = Story("now").start("run").start("phase", "plan", "plan").wait(4).end("plan")

    assert read(failed, other, overlapping, story)["percent"] is None


def test_iterations_are_counted_where_there_are_no_phases() -> None:
    """Two of the usual four iterations are half of the work."""
    earlier, story = Story("earlier", begin=EARLIER), Story("now")
    for each, count in ((earlier, 4), (story, 2)):
        each.start("run")
        for number in range(count):
            each.start("iteration", f"i{number}", iteration=number).wait(5).end(f"i{number}")
    earlier.end("run")

    assert (read(earlier, story)["percent"], read(earlier, story)["eta_seconds"]) == (50.0, 10.0)


def test_a_workflow_known_to_report_is_not_guessed() -> None:
    """Its next run will report too, and a guess before that could be above the first report."""
    earlier = shop("earlier", EARLIER)
    report = Story("earlier", begin=EARLIER).start("run").progress("run", 1, 9).signals[1]
    earlier.signals.append(report)
    story = Story("now").start("run").start("phase", "plan", "plan").wait(4).end("plan")

    assert read(earlier, story)["percent"] is None
    assert read(earlier, story)["eta_seconds"] == 96.0


def test_a_run_that_waits_for_a_human_has_no_time_left_to_tell() -> None:
    """How long a human takes nobody knows."""
    story = Story("now").start("run").start("human", "h", "approve")

    assert read(shop("earlier", EARLIER), story)["eta_seconds"] is None
