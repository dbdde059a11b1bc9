"""Pages that follow what happens, over restarts of the server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import pytest
from playwright.sync_api import expect

from otel_agents.event_types import ALL_TYPES
from otel_agents.settings import Settings
from otel_agents.store import open_store
from tests.databases import wait_for
from tests.state.build import Story

from . import events, sample
from .conftest import PHONE, serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Site, Watched

GUIDE: Final = Path(__file__).parent.parent.parent / "docs" / "how-to" / "live-feed.md"
TOKEN: Final = "viewer-token-0123456789"  # noqa: S105 - of the tests


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


def test_another_store_behind_the_address_is_followed(
    tmp_path: Path, visit: Callable[..., Watched]
) -> None:
    """Where the server comes back with a store that is empty, what it gets is shown."""
    (tmp_path / "other").mkdir()
    with serving(tmp_path, batch=sample.Batch(signals=sample.run("run-first"))) as first:
        port = int(first.url.rsplit(":", 1)[1])
        page = visit(first, fresh=True).open("/live")
        rows = page.locator("#events li")
        rows.nth(20).wait_for()
    with serving(tmp_path / "other", port=port) as other:
        expect(page.locator("#events li.gap")).to_have_text("the store was emptied")
        other.store.write(begun("run-other"))
        expect(rows.first.locator("a.run")).to_have_text("run-other")
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


# ---------------------------------------------------------------------- events and KPIs


@pytest.fixture
def eventful(tmp_path: Path) -> object:
    """Serve a store with a day's events."""
    with serving(tmp_path, batch=sample.Batch(signals=events.day())) as site:
        yield site


def test_the_tiles_say_what_the_api_says(eventful: Site, visit: Callable[..., Watched]) -> None:
    """Each of the six KPIs has a tile with its value, what it is made of, and a line."""
    watched = visit(eventful)
    page = watched.open("/live")
    tiles = page.locator("[data-kpi]")
    expect(tiles).to_have_count(6)
    expect(page.locator(".kpi.none")).to_have_count(0)
    data = httpx.get(f"{eventful.url}/api/kpis", trust_env=False).json()["data"]
    passed, counts = data["kpis"]["validation_pass_rate"], data["counts"]
    tile = page.locator("[data-kpi=validation_pass_rate]")
    expect(tile.locator(".value")).to_have_text(f"{passed * 100:.0f}")
    expect(tile.locator("small")).to_have_text(
        f"{counts['validations_passed']} of {counts['validations']} validations"
    )
    expect(page.locator("[data-kpi=cost_per_feature] .value")).to_have_text(
        f"${data['kpis']['cost_per_feature']:.3f}"
    )
    for line in tiles.locator("svg.spark").all():
        assert "Over the last 24 hours: between" in line.get_attribute("aria-label")
        # It may be drawn anew in this very moment.
        drawn = line.locator("path.line")
        wait_for(lambda drawn=drawn: (drawn.bounding_box() or {"width": 0})["width"] > 100)
    assert watched.problems == []


def test_the_tiles_follow_what_happens(tmp_path: Path, visit: Callable[..., Watched]) -> None:
    """At first there is nothing to count; as events are stored the tiles change by themselves."""
    with serving(tmp_path) as site:
        watched = visit(site, fresh=True)
        page = watched.open("/live")
        rate = page.locator("[data-kpi=validation_pass_rate]")
        expect(page.locator(".kpi.none .value")).to_have_text(["nothing to count yet"] * 6)
        site.store.write(sample.Batch(signals=events.task("a-1", seconds_ago=100)))
        expect(rate.locator(".value")).to_have_text("100")
        site.store.write(sample.Batch(signals=events.task("a-2", seconds_ago=100, good=False)))
        expect(rate.locator(".value")).to_have_text("50")
        expect(rate.locator("small")).to_have_text("1 of 2 validations")
        page.close()
        assert watched.problems == []


def test_the_window_is_chosen_with_the_keyboard(
    eventful: Site, visit: Callable[..., Watched]
) -> None:
    """The arrow keys change from 24 hours to one, the tiles follow, and the address keeps it."""
    watched = visit(eventful)
    page = watched.open("/live")
    whole = page.get_by_role("radio", name="24 hours")
    part = page.get_by_role("radio", name="1 hour")
    expect(page.locator("#kpis")).to_have_attribute("data-window", "24h")
    whole.focus()
    page.keyboard.press("ArrowRight")
    expect(part).to_be_checked()
    expect(page.locator("#kpis")).to_have_attribute("data-window", "1h")
    expect(page.locator("[data-kpi=validation_pass_rate] small")).to_have_text("1 of 2 validations")
    outline = part.evaluate("each => getComputedStyle(each.nextElementSibling).outlineStyle")
    assert outline == "solid"
    page.reload()
    expect(part).to_be_checked()
    expect(page.locator("#kpis")).to_have_attribute("data-window", "1h")
    assert watched.problems == []


def test_every_type_of_event_has_its_own_look(
    eventful: Site, visit: Callable[..., Watched]
) -> None:
    """An event shows its type, its fields, and an icon that only its type has."""
    watched = visit(eventful)
    page = watched.open("/live")
    page.locator("#events li").nth(20).wait_for()
    icons = set()
    for type_ in ALL_TYPES:
        row = page.locator(f"#events li[data-event={type_}]").first
        expect(row.locator(".type")).to_have_text(type_)
        icons.add(row.locator(".kind use").get_attribute("href"))
    assert len(icons) == len(ALL_TYPES)
    exceeded = page.locator("li[data-event=budget_exceeded] .what")
    assert exceeded.inner_text().split() == ["run", "limit", "$2.00", "spent", "$2.07"]
    escalated = page.locator("li[data-event=hitl_escalated] .what")
    expect(escalated).to_contain_text("AssertionError: total is 12.40")
    failed = page.locator("li[data-event=agent_completed][data-tone=bad]").first
    expect(failed.locator(".badge")).to_have_text("failed")
    expect(failed.locator(".took")).to_have_text("40.0s")
    assert watched.problems == []


def test_events_are_filtered_by_type(eventful: Site, visit: Callable[..., Watched]) -> None:
    """A type of event shows those and no others, also those of scopes; the address keeps it."""
    eventful.store.write(sample.Batch(signals=sample.run("run-scopes")))
    watched = visit(eventful)
    page = watched.open("/live")
    rows = page.locator("#events li")
    rows.nth(20).wait_for()
    choice = page.get_by_label("Type of event")
    choice.select_option("event:agent_completed")
    kinds = set(page.locator("#events .type").all_inner_texts())
    assert "agent.end" in kinds <= {"agent.end", "agent_completed"}
    choice.select_option("event:hitl_escalated")
    page.reload()
    expect(choice).to_have_value("event:hitl_escalated")
    for number in range(3):
        asked = {"task_id": f"new-{number}", "attempts": 1, "last_error": "", "priority": "low"}
        signals = [events.told("hitl_escalated", asked), events.told("budget_warning", {})]
        eventful.store.write(sample.Batch(signals=signals))
    expect(rows.first.locator(".what a")).to_have_text("new-2")
    assert set(page.locator("#events .type").all_inner_texts()) == {"hitl_escalated"}
    expect(page.locator("#feed-none")).to_be_hidden()
    page.get_by_label("Run id, or part of it").fill("nobody's")
    expect(rows).to_have_count(0)
    expect(page.locator("#feed-none")).to_be_visible()
    assert watched.problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_live_page_fits_a_phone(
    eventful: Site, visit: Callable[..., Watched], scheme: str
) -> None:
    """Tiles stand in two columns, and no text of theirs is cut off."""
    watched = visit(eventful, PHONE, scheme)
    page = watched.open("/live")
    expect(page.locator(".kpi.none")).to_have_count(0)
    boxes = [tile.bounding_box() for tile in page.locator("[data-kpi]").all()]
    assert len({round(box["x"]) for box in boxes}) == 2
    texts = page.locator("#kpis :is(dt, .value, small)")
    assert texts.count() == 18
    for text in texts.all():
        assert text.evaluate("each => each.scrollWidth - each.clientWidth") <= 1
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert watched.problems == []


def test_the_guides_page_listens_from_disk(tmp_path: Path, visit: Callable[..., Watched]) -> None:
    """The page of the guide, saved and opened, shows events, and those it missed meanwhile."""
    found = re.search(r"```html\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert found is not None
    settings = Settings(token="admin-token-0123456789", viewer_token=TOKEN)  # noqa: S106
    with serving(tmp_path, settings) as site:
        port = int(site.url.rsplit(":", 1)[1])
        text = found[1].replace("http://127.0.0.1:3010", site.url)
        (tmp_path / "page.html").write_text(text.replace("VIEWER_TOKEN", TOKEN))
        page = visit(site, fresh=True).page
        page.goto((tmp_path / "page.html").as_uri())
        rows = page.locator("#events li")
        expect(rows.first).to_have_text("live ")
        event = {"agent": "<b>one</b>", "task_id": "t"}
        site.store.write(sample.Batch(signals=[events.told("agent_started", event)]))
        expect(rows.first).to_have_text('agent_started {"agent":"<b>one</b>","task_id":"t"}')
    expect(rows.first).to_contain_text("reconnecting")
    store = open_store(f"sqlite:///{tmp_path}/console.db")
    missed = {"agent": "two", "task_id": "t"}
    store.write(sample.Batch(signals=[events.told("agent_started", missed)]))
    store.close()
    with serving(tmp_path, settings, port=port):
        expect(rows.first).to_have_text('agent_started {"agent":"two","task_id":"t"}')
        assert rows.filter(has_text="agent_started").count() == 2
        page.close()


def test_a_wrong_token_is_said_once(tmp_path: Path, visit: Callable[..., Watched]) -> None:
    """The module does not try again what will be refused again."""
    settings = Settings(token="admin-token-0123456789", viewer_token=TOKEN)  # noqa: S106
    with serving(tmp_path, settings) as site:
        page = visit(site, fresh=True).open("/login")
        states = page.evaluate(
            """async (module) => {
              const { feed } = await import(module);
              const states = [];
              await new Promise((done) => feed({ token: "a-guess", onState: (state, reason) => {
                states.push([state, reason]);
                if (state === "refused") done();
              }}));
              return states;
            }""",
            f"{site.url}/static/feed.js",
        )
        assert states[-1] == ["refused", "The token is not valid."]
        page.close()
