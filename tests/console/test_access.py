"""Who sees what: signing in, and what only an admin is offered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from otel_agents.settings import Settings

from . import sample
from .conftest import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page

    from .conftest import Site, Watched

ADMIN = "admin-token-0123456789"
VIEWER = "viewer-token-0123456789"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve a store behind tokens."""
    settings = Settings(token=ADMIN, viewer_token=VIEWER)
    batch = sample.Batch(signals=[*sample.run("run-a"), *sample.run("run-b")])
    with serving(tmp_path_factory.mktemp("guarded"), settings, batch) as site:
        yield site


def signed_in(watched: Watched, token: str, path: str = "/runs") -> Page:
    """Go to a page, and sign in where it leads to."""
    page = watched.open(path)
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(watched.url + path)
    return page


def test_signing_in_leads_to_where_one_wanted(guarded: Site, visit: Callable[..., Watched]) -> None:
    """Without a session every page leads to the form, and the form back to the page; then out."""
    watched = visit(guarded, fresh=True)
    page = signed_in(watched, VIEWER, "/runs/run-a?tab=agents")
    assert page.locator("h1").inner_text() == "index_log"
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{guarded.url}/login")
    assert watched.problems == []


def test_a_wrong_token_is_said_to_be_wrong(guarded: Site, visit: Callable[..., Watched]) -> None:
    """The form comes back with the reason."""
    page = visit(guarded, fresh=True).open("/login?next=//elsewhere.invalid/")
    assert page.locator("input[name=next]").input_value() == "/runs"
    page.get_by_label("Token").fill("nonsense")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("The token is not valid")


def test_a_viewer_is_not_offered_what_is_an_admins(
    guarded: Site, visit: Callable[..., Watched]
) -> None:
    """No button deletes, and the runtime page is neither offered nor open."""
    page = signed_in(visit(guarded, fresh=True), VIEWER, "/runs/run-a")
    assert page.get_by_role("button", name="Delete").count() == 0
    assert page.get_by_role("link", name="Runtime").count() == 0
    assert page.goto(f"{guarded.url}/admin/runtime").status == 403
    assert page.get_by_role("link", name="To the runs", exact=True).is_visible()


def test_an_admin_deletes_a_run_after_being_asked(
    guarded: Site, visit: Callable[..., Watched]
) -> None:
    """Declining keeps the run; agreeing deletes it and leads to the list."""
    watched = visit(guarded, fresh=True)
    page = signed_in(watched, ADMIN, "/runs/run-b")
    button = page.get_by_role("button", name="Delete")
    button.click()
    assert guarded.store.run("run-b")["status"] == "succeeded"
    assert watched.problems == [one for one in watched.problems if one.startswith("dialog")] != []
    watched.page.remove_listener("dialog", watched._asked)
    page.on("dialog", lambda dialog: dialog.accept())
    button.click()
    page.wait_for_url(f"{guarded.url}/runs")
    expect(page.locator("#run-run-a")).to_be_visible()
    assert page.locator("#run-run-b").count() == 0


def test_a_session_that_ran_out_leads_to_the_form(
    guarded: Site, visit: Callable[..., Watched]
) -> None:
    """A refresh without a session does not put the form into the page, it goes there."""
    page = signed_in(visit(guarded, fresh=True), VIEWER)
    page.context.clear_cookies()
    page.get_by_label("Search runs").fill("a")
    page.wait_for_url(lambda url: "/login?next=" in url)
    assert page.get_by_label("Token").is_visible()
