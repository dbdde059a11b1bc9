"""The console without a mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Site, Watched

FOCUSED = "document.activeElement.closest('[data-row]')?.id"


def test_the_first_stop_skips_to_the_content(site: Site, visit: Callable[..., Watched]) -> None:
    """The skip link shows itself at the first Tab, and Enter leads to the content."""
    page = visit(site).open("/runs")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    assert skip.evaluate("each => each === document.activeElement")
    assert skip.bounding_box()["width"] > 50
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_the_focus_can_be_seen_wherever_it_goes(site: Site, visit: Callable[..., Watched]) -> None:
    """Each of the first stops of Tab has an outline or a shadow of its own."""
    page = visit(site).open("/runs")
    for _ in range(14):
        page.keyboard.press("Tab")
        seen = page.evaluate(
            "(() => { const s = getComputedStyle(document.activeElement);"
            "return s.outlineStyle !== 'none' && s.outlineWidth !== '0px'"
            " || s.boxShadow !== 'none'; })()"
        )
        assert seen, page.evaluate("document.activeElement.outerHTML.slice(0, 90)")


def test_rows_are_walked_and_opened(site: Site, visit: Callable[..., Watched]) -> None:
    """`j` and `k`, then the arrows, move through the rows; Enter opens one."""
    page = visit(site).open("/runs?q=run-")
    rows = [row.get_attribute("id") for row in page.locator("[data-row]").all()]
    page.keyboard.press("j")
    assert page.evaluate(FOCUSED) == rows[0]
    page.keyboard.press("j")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(FOCUSED) == rows[2]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("k")
    page.keyboard.press("k")
    assert page.evaluate(FOCUSED) == rows[0]
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert page.url.endswith("/runs/" + rows[0].removeprefix("run-"))


def test_a_slash_finds_the_search_and_typing_stays_typing(
    site: Site, visit: Callable[..., Watched]
) -> None:
    """`/` puts the cursor into the search, where `j` is a letter; Escape leaves it."""
    page = visit(site).open("/agents")
    page.keyboard.press("/")
    page.keyboard.type("jk/?")
    assert page.locator("input[name=q]").input_value() == "jk/?"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.tagName") == "BODY"


def test_a_waterfall_is_folded_by_arrows(site: Site, visit: Callable[..., Watched]) -> None:
    """The left arrow folds a row's children away, the right one brings them back."""
    page = visit(site).open("/runs/run-failed")
    visible = "[...document.querySelectorAll('.w-row')].filter((row) => !row.hidden).length"
    before = page.evaluate(visible)
    page.keyboard.press("j")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(visible) == 1
    assert page.locator(".w-row").first.get_attribute("aria-expanded") == "false"
    page.keyboard.press("ArrowRight")
    assert page.evaluate(visible) == before


def test_the_help_opens_and_closes(site: Site, visit: Callable[..., Watched]) -> None:
    """`?` shows the keys in a dialog that holds the focus; Escape closes it."""
    page = visit(site).open("/runs")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    assert page.evaluate("document.getElementById('help').contains(document.activeElement)")
    page.keyboard.press("Escape")
    assert page.locator("#help").is_hidden()


def test_two_keys_lead_to_a_section(site: Site, visit: Callable[..., Watched]) -> None:
    """`g` then `s` goes to the runtime page."""
    page = visit(site).open("/runs")
    with page.expect_navigation():
        page.keyboard.press("g")
        page.keyboard.press("s")
    assert page.url.endswith("/admin/runtime")
