"""Every page in a real browser, at the width of a phone and of a desk, light and dark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from playwright.sync_api import expect

from . import sample
from .conftest import DESK, PHONE

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Site, Watched

FAILED: Final = "/runs/run-failed"
PAGES: Final = (
    "/runs",
    "/runs?status=failed",
    FAILED,
    f"{FAILED}?spans=1",
    f"{FAILED}?tab=agents",
    f"{FAILED}?tab=cost",
    f"{FAILED}?tab=events",
    f"{FAILED}?tab=logs",
    f"{FAILED}?tab=spans",
    "/runs/run-running",
    "/agents",
    "/agents/run-failed.draft-2-3",
    "/traces",
    f"/traces/{sample.TRACE}?span=000000000000000c",
    "/live",
    "/admin/runtime",
    "/login",
)
# How well text stands out from what is behind it, at its worst, as WCAG 2.2 counts it.
CONTRAST: Final = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (text) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const light = (rgb) => rgb.map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) {
      layers.push(rgba(getComputedStyle(each).backgroundColor));
    }
    return layers.reverse().reduce((below, top) => [...over(top, below), 1], [255, 255, 255, 1]);
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    if (element.closest(".hidden-text, .skip, template, noscript, script, option, svg")) continue;
    const back = behind(element);
    const front = over(rgba(getComputedStyle(element).color), back);
    const [a, b] = [light(front), light(back.slice(0, 3))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const said = walker.currentNode.data.trim().slice(0, 30);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${element.className}: ${said}`);
  }
  return found;
}"""


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_drawn_without_a_complaint(
    path: str, site: Site, visit: Callable[..., Watched]
) -> None:
    """At both widths nothing is refused, fails, leaves the host or sticks out at the side."""
    watched = visit(site)
    site.store.write(sample.heartbeats())
    page = watched.open(path)
    for width, height in (DESK, PHONE):
        page.set_viewport_size({"width": width, "height": height})
        assert page.locator("h1").count() == 1
        assert page.locator("[style]:not(.plot *)").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert watched.problems == []


@pytest.mark.parametrize(
    "path", ["/runs", FAILED, "/runs/run-waiting", "/admin/runtime", "/agents", "/live", "/login"]
)
def test_text_stands_out_from_its_ground(
    path: str, site: Site, visit: Callable[..., Watched]
) -> None:
    """The contrast of all text is at least 4.5 to 1, in either theme."""
    page = visit(site).open(path)
    assert page.evaluate(CONTRAST) == []
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(CONTRAST) == []


def test_the_contrast_is_really_measured(site: Site, visit: Callable[..., Watched]) -> None:
    """Text that is nearly as light as its ground is found."""
    page = visit(site).open("/login")
    page.evaluate("document.querySelector('h1').style.color = '#ccc'")
    assert len(page.evaluate(CONTRAST)) == 1


def test_a_state_is_told_by_word_and_icon_and_not_by_colour_alone(
    site: Site, visit: Callable[..., Watched]
) -> None:
    """Each badge of a run has its word and an icon."""
    site.store.write(sample.heartbeats())
    page = visit(site).open("/runs")
    words = {badge.inner_text().strip() for badge in page.locator(".runs .badge").all()}
    assert {"running", "failed", "waiting", "succeeded"} <= words
    assert page.locator(".runs .badge:not(:has(svg))").count() == 0


def test_what_went_wrong_comes_first_on_a_failed_run(
    site: Site, visit: Callable[..., Watched]
) -> None:
    """The error stands above the numbers, with a link to the agent that failed."""
    page = visit(site).open(FAILED)
    callout = page.locator(".callout")
    assert "GateFailed" in callout.inner_text()
    assert callout.bounding_box()["y"] < page.locator(".run-stats").bounding_box()["y"]
    callout.get_by_role("link").click()
    assert page.locator("h1").inner_text() == "drafter 3"
    assert page.locator(".lives li").count() == 3


def test_a_run_that_waits_says_what_for(site: Site, visit: Callable[..., Watched]) -> None:
    """A wait for a human is called out, and drawn on the timeline."""
    site.store.write(sample.heartbeats())
    page = visit(site).open("/runs/run-waiting")
    assert "A person has to decide" in page.locator(".callout").inner_text()
    assert page.locator(".w-rect.kind-human.tone-wait").count() == 1


def test_the_timeline_shows_tries_gates_and_calls_if_asked(
    site: Site, visit: Callable[..., Watched]
) -> None:
    """Tries stand one below the other; model and tool calls come with a click."""
    page = visit(site).open(FAILED)
    assert page.locator(".w-row:has-text('drafter 3')").count() == 3
    assert page.locator(".w-row .chip").all_inner_texts()[-2:] == ["try 2", "try 3"]
    assert page.locator(".w-row .kind-gate").count() == 3
    assert page.locator(".w-row .kind-model").count() == 0
    page.get_by_role("button", name="Model and tool calls").click()
    assert page.locator(".w-row .kind-model").count() > 0
    assert page.url.endswith("?spans=1")


def test_a_row_of_a_trace_opens_its_attributes(site: Site, visit: Callable[..., Watched]) -> None:
    """The drawer shows a span, the address leads back to it, and Escape closes it."""
    watched = visit(site)
    page = watched.open(f"/traces/{sample.TRACE}")
    page.get_by_role("link", name="chat number 11").click()
    page.locator("#drawer h2").wait_for()
    assert page.locator("#drawer h2").inner_text() == "chat number 11"
    assert "api.example.com" in page.locator("#drawer").inner_text()
    assert page.url.endswith("?span=000000000000000c")
    page.keyboard.press("Escape")
    assert page.locator("#drawer").is_hidden()
    assert page.url.endswith(sample.TRACE)
    assert watched.problems == []


def test_the_page_of_an_agent_shows_its_calls(site: Site, visit: Callable[..., Watched]) -> None:
    """Its spans stand there as a waterfall of their own; one opens in the drawer."""
    page = visit(site).open("/agents/run-failed.draft-2-3")
    assert page.locator(".w-row").count() == 10
    page.get_by_role("link", name="execute_tool number 4").click()
    expect(page.locator("#drawer h2")).to_have_text("execute_tool number 4")
    assert page.url.endswith("/agents/run-failed.draft-2-3")


def test_the_theme_is_kept(site: Site, visit: Callable[..., Watched]) -> None:
    """The system's theme is the default; a chosen one outlives the page."""
    watched = visit(site, fresh=True)
    page = watched.open("/runs")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Theme").click()
    page.get_by_role("button", name="Theme").click()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_a_page_that_is_not_there_is_a_page(site: Site, visit: Callable[..., Watched]) -> None:
    """A wrong address, run or trace is answered with a page and a way back."""
    page = visit(site).page
    for path in ("/nothing", "/runs/nobody", "/agents/nobody", "/traces/" + "0" * 31 + "1"):
        answer = page.goto(site.url + path)
        assert answer.status == 404, path
        assert page.get_by_role("link", name="To the runs", exact=True).is_visible()


def test_thousands_of_rows_are_drawn_when_asked_for(
    site: Site, visit: Callable[..., Watched]
) -> None:
    """A long timeline starts with its first rows; the rest comes with a click, drawn lazily."""
    story = sample.Story("run-long", "bulk", begin=sample.time.time_ns() - 10**12)
    story.start("run", "long", "bulk")
    for number in range(1200):
        story.start("agent", f"long-{number}", f"worker {number}", parent="long").wait(0.3)
        story.end(f"long-{number}")
    site.store.write(sample.Batch(signals=story.end("long").signals))
    page = visit(site).open("/runs/run-long")
    assert page.locator(".w-row").count() == 300
    page.get_by_role("link", name="Show all 1,201 rows").click()
    expect(page.locator(".w-row")).to_have_count(1201)
    style = "getComputedStyle(document.querySelector('.w-row')).contentVisibility"
    assert page.evaluate(style) == "auto"
