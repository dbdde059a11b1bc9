"""Pages that follow what happens, over restarts of the server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from otel_agents.store import open_store
from tests.state.build import Story

from . import sample
from .conftest import serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Site, Watched


@pytest.fixture
def quiet(tmp_path: Path) -> object:
    """Serve a store with one run that is over."""
    with serving(tmp_path, batch=sample.Batch(signals=sample.run("run-old"))) as site:
        yield site


def begun(run_id: str, workflow: str = "fresh") -> sample.Batch:
    """Return the start of a run."""
    story = Story(run_id, workflow, begin=sample.time.time_ns())
    story.start("run", f"{run_id}/run", workflow)
    return sample.Batch(signals=story.signals)


def test_a_run_shows_up_as_it_starts(site: Site, visit: Callable[..., Watched]) -> None:
    """The list grows without a reload, while what is typed, focused and scrolled stays."""
    watched = visit(site)
    page = watched.open("/runs")
    expect(page.locator("#feed")).to_have_attribute("data-state", "live")
    box = page.get_by_label("Search runs")
    box.focus()
    page.evaluate("window.sameDocument = true")
    site.store.write(begun("run-fresh"))
    expect(page.locator("#run-run-fresh")).to_be_visible()
    expect(page.locator("#run-run-fresh .badge")).to_have_text("running")
    assert box.evaluate("each => each === document.activeElement")
    assert page.evaluate("window.sameDocument")
    assert watched.problems == []


def test_a_run_is_followed_to_its_end(site: Site, visit: Callable[..., Watched]) -> None:
    """The page of a running run gets its agents and its end; what was folded stays folded."""
    signals = sample.run("run-on", "running", minutes_ago=0.2)
    site.store.write(sample.Batch(signals=signals))
    page = visit(site).open("/runs/run-on")
    expect(page.locator(".title .badge")).to_have_text("running")
    page.locator(".w-row", has_text="read").first.locator("button.fold").click()
    folded = page.locator(".w-row[hidden]").count()
    assert folded > 3
    story = Story("run-on", "index_log", begin=sample.time.time_ns())
    story.signals += [None] * 500  # so that ids of signals are new ones
    story.start("agent", "run-on.late", "latecomer", parent="run-on/draft", phase="draft")
    story.start("run", "run-on/run", "index_log").signals.pop()
    story.end("run-on/run", "success")
    site.store.write(sample.Batch(signals=[one for one in story.signals if one]))
    expect(page.locator(".w-row", has_text="latecomer")).to_be_visible()
    expect(page.locator(".title .badge")).to_have_text("succeeded")
    assert page.locator(".w-row[hidden]").count() == folded


def test_the_feed_shows_filters_and_pauses(quiet: Site, visit: Callable[..., Watched]) -> None:
    """Events arrive newest first, can be filtered and held back."""
    watched = visit(quiet)
    page = watched.open("/live")
    rows = page.locator("#events li")
    expect(rows.first.locator(".type")).to_have_text("run.end")
    quiet.store.write(begun("run-new"))
    expect(rows.first.locator(".what a")).to_have_text("fresh")
    page.get_by_label("Type of event").select_option("gate")
    expect(rows).to_have_count(5)
    page.get_by_label("Type of event").select_option("")
    page.get_by_label("Run id, or part of it").fill("run-new")
    expect(rows).to_have_count(1)
    assert page.url.endswith("/live?run=run-new")
    page.get_by_label("Run id, or part of it").fill("")
    page.get_by_role("button", name="Pause").click()
    quiet.store.write(begun("run-held"))
    expect(page.locator("#feed-held")).to_have_text(" · paused, 1 waiting")
    assert "run-held" not in page.locator("#events").inner_text()
    page.get_by_role("button", name="Go on").click()
    expect(rows.first).to_contain_text("run-held")
    assert watched.problems == []


def test_nothing_is_missed_over_a_restart(tmp_path: Path, visit: Callable[..., Watched]) -> None:
    """A feed that lost its server says so, comes back by itself and catches up, each event once."""
    with serving(tmp_path, batch=begun("run-before")) as first:
        port = int(first.url.rsplit(":", 1)[1])
        watched = visit(first, fresh=True)
        page = watched.open("/live")
        rows = page.locator("#events li")
        expect(rows).to_have_count(1)
    expect(page.locator("#feed")).to_have_attribute("data-state", "reconnecting")
    expect(page.locator("#feed")).to_have_text(re.compile("reconnecting"))
    store = open_store(f"sqlite:///{tmp_path}/console.db")
    store.write(begun("run-meanwhile"))
    store.close()
    with serving(tmp_path, batch=begun("run-after"), port=port):
        expect(page.locator("#feed")).to_have_attribute("data-state", "live")
        expect(rows).to_have_count(3)
        order = [row.inner_text() for row in page.locator("#events a.run").all()]
        assert order == ["run-after", "run-meanwhile", "run-before"]
        page.close()


def test_the_runtime_page_tells_what_changed(site: Site, visit: Callable[..., Watched]) -> None:
    """A refresh by hand counts anew and says by how much the queue grew; typed filters stay."""
    page = visit(site).open("/admin/runtime?layer=dispatcher")
    done = page.locator(".count[data-state=DONE]")
    before = int(done.get_attribute("data-count"))
    assert page.evaluate("document.body.dataset.poll") == "12"
    box = page.get_by_label("Entity")
    site.store.write(sample.Batch(signals=[sample.task("T-900", "DONE", seconds_ago=0)]))
    page.get_by_role("button", name="Refresh").click()
    expect(done).to_have_attribute("data-count", str(before + 1))
    expect(done.locator(".delta")).to_have_text("+1")
    assert page.get_by_label("Layer").input_value() == "dispatcher"
    assert box.input_value() == ""


def test_the_runtime_page_asks_by_itself(site: Site, visit: Callable[..., Watched]) -> None:
    """It polls after twelve seconds, on the browser's clock."""
    page = visit(site, fresh=True).page
    page.clock.install()
    page.goto(f"{site.url}/admin/runtime")
    with page.expect_request(lambda request: "/admin/runtime" in request.url):
        page.clock.run_for(13_000)
