"""Filters stand in the address."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Site, Watched


def test_a_filter_narrows_the_list_and_stands_in_the_address(
    site: Site, visit: Callable[..., Watched]
) -> None:
    """A chosen status and a typed word filter without a reload, and outlive one."""
    watched = visit(site)
    page = watched.open("/runs")
    page.evaluate("window.sameDocument = true")
    page.get_by_label("Status", exact=True).select_option("failed")
    expect(page.locator(".runs tbody tr")).to_have_count(1)
    page.get_by_label("Search runs").fill("no such run")
    expect(page.get_by_text("No run matches.")).to_be_visible()
    assert page.evaluate("window.sameDocument")
    assert page.url.endswith("/runs?q=no+such+run&status=failed")
    page.reload()
    assert page.get_by_label("Search runs").input_value() == "no such run"
    assert page.get_by_label("Status", exact=True).input_value() == "failed"
    assert watched.problems == []


def test_a_word_is_searched_while_the_cursor_stays(
    site: Site, visit: Callable[..., Watched]
) -> None:
    """Typing filters, and neither the focus nor the text is lost to the refresh."""
    page = visit(site).open("/runs")
    box = page.get_by_label("Search runs")
    box.press_sequentially("triage")
    expect(page.locator(".runs tbody tr")).to_have_count(1)
    assert box.input_value() == "triage"
    assert box.evaluate("each => each === document.activeElement")


def test_the_filters_of_the_runtime_page(site: Site, visit: Callable[..., Watched]) -> None:
    """Layer, reason and task filter the events; a link of a task sets its filter."""
    watched = visit(site)
    page = watched.open("/admin/runtime")
    rows = page.locator(".runtime-events tbody tr")
    assert rows.count() == 20
    page.get_by_label("Layer").select_option("tool_runtime")
    expect(rows).to_have_count(4)
    page.get_by_label("Reason code").fill("no_such_code")
    expect(page.get_by_text("No event matches.")).to_be_visible()
    assert "layer=tool_runtime" in page.url
    assert "reasonCode=no_such_code" in page.url
    page.goto(f"{site.url}/admin/runtime")
    page.locator("#task-T-101 a[data-open]").click()
    expect(page).to_have_url(re.compile(r"taskId=T-101#events-table$"))
    assert rows.count() == 10
    page.goto(f"{site.url}/admin/runtime?from=2001-01-01T00:00&to=2001-01-02T00:00")
    assert page.get_by_text("No event matches.").is_visible()
    assert watched.problems == []


def test_stuck_tasks_are_marked_and_filtered(site: Site, visit: Callable[..., Watched]) -> None:
    """A task whose lease ran out has a mark; its count is a link that shows only such tasks."""
    page = visit(site).open("/admin/runtime")
    assert page.locator("tr.stuck").get_attribute("id") == "task-T-100"
    page.locator(".count[data-state=stuck]").click()
    expect(page).to_have_url(re.compile(r"\?stuck=1#tasks$"))
    assert page.locator(".tasks tbody tr").count() == 1


def test_a_filter_that_cannot_be_says_which(site: Site, visit: Callable[..., Watched]) -> None:
    """A wrong word in the address is answered with its name, not with an empty list."""
    page = visit(site).page
    for path, name in (
        ("/runs?status=finished", "status"),
        ("/runs?cursor=nonsense", "cursor"),
        ("/admin/runtime?layer=cellar", "layer"),
        ("/admin/runtime?from=yesterday", "from"),
        ("/runs/run-failed?tab=cellar", "tab"),
        ("/runs/run-failed?tab=events&cursor=x", "cursor"),
    ):
        answer = page.goto(site.url + path)
        assert answer.status == 400, path
        assert name in page.locator(".error-page").inner_text()


def test_pages_of_a_list_follow_each_other(site: Site, visit: Callable[..., Watched]) -> None:
    """The next page begins where the last one ended, and the way back leads to the newest."""
    page = visit(site).open("/agents")
    first = page.locator("[data-row]").evaluate_all("rows => rows.map((row) => row.id)")
    assert len(first) == 50
    page.get_by_role("link", name="Next").click()
    page.wait_for_url(re.compile("cursor="))
    second = page.locator("[data-row]").evaluate_all("rows => rows.map((row) => row.id)")
    assert set(first) & set(second) == set()
    page.get_by_role("link", name="Back to the newest").click()
    page.wait_for_url(re.compile(r"/agents\??$"))
