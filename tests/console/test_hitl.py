"""The page of waits, its form, the count in the header and the callout of a run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from otel_agents.settings import Settings
from otel_agents.store import Batch
from otel_agents.vocabulary import (
    BUDGET_ENFORCED,
    BUDGET_USD,
    CHECKPOINT_ID,
    WAIT_ATTEMPTS,
    WAIT_ERROR,
    WAIT_PRIORITY,
    WAIT_REASON,
    WAIT_TOOL,
)
from tests.state.build import Story, tokens
from tests.store.waiting import run, told

from .conftest import DESK, PHONE, POLLED, serving
from .payloads import CANARY, PAYLOADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page

    from otel_agents.signals import Signal

    from .conftest import Site, Watched

ADMIN: Final = "admin-token-0123456789"
VIEWER: Final = "viewer-token-0123456789"
GUARDED: Final = Settings(token=ADMIN, viewer_token=VIEWER)


def signals() -> list[Signal]:
    """Return two open waits of one run, one that was lost, and three that are over."""
    said: dict[str, Any] = {
        WAIT_REASON.key: "Deploy version 4.2?", WAIT_ATTEMPTS.key: 3,
        WAIT_ERROR.key: "HTTPStatusError: 503", WAIT_PRIORITY.key: "high",
    }  # fmt: skip

    def asks(reason: str) -> dict[str, Any]:
        return {WAIT_REASON.key: reason}

    return [
        run(), told("start", id="deploy-42", ago=400, attributes=said),
        told("start", "s2", ago=90, attributes=asks("Which schema?")),
        told("start", "s3", ago=900, attributes={**asks("delete_branch"), WAIT_TOOL.key: "delete"}),
        told("end", "s3", ago=700, result="success", decision="approved", by="console", text="ok"),
        told("start", "s4", ago=990, attributes=asks("Publish?")),
        told("end", "s4", ago=980, result="success", decision="rejected", text="not on a Friday"),
        told("start", "s5", ago=999, attributes=asks("Which region?")),
        told("end", "s5", ago=998, result="failure"),
        run(run_id="gone", ago=100),
        told("start", "s6", run="gone", ago=90, attributes=asks("Retry?")),
    ]  # fmt: skip


@pytest.fixture
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve waits in every state, with tokens."""
    path = tmp_path_factory.mktemp("waits")
    with serving(path, GUARDED, Batch(signals=signals())) as site:
        yield site


def signed_in(watched: Watched, path: str, token: str = ADMIN) -> Page:
    """Sign in and open a page."""
    page = watched.open(f"/login?next={quote(path, safe='')}")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"**{path}")
    return page


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_who_waits_longest_comes_first(
    waiting: Site, visit: Callable[..., Watched], size: tuple[int, int], scheme: str
) -> None:
    """With all that is known of what is asked; then those whose run was lost, then the others."""
    watched = visit(waiting, size, scheme, fresh=True)
    page = signed_in(watched, "/hitl")
    opened = page.get_by_role("region", name="Open")
    assert opened.locator("h3").all_inner_texts() == ["Deploy version 4.2?", "Which schema?"]
    card = page.locator("#wait-s1").inner_text()
    for word in ("coder", "shop", "build", "t-1", "3", "deploy-42", "HTTPStatusError: 503", "high"):
        assert word in card
    assert "otel-agents hitl resolve deploy-42 --approve --server" in card
    lost = page.get_by_role("region", name="Lost", exact=True)
    assert lost.locator("h3").all_inner_texts() == ["Retry?"]
    over = page.get_by_role("region", name="Answered and closed")
    assert over.locator(".badge").all_inner_texts() == ["approved", "rejected", "unanswered"]
    assert page.get_by_label("2 waiting").inner_text() == "2"
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert watched.problems == []


def test_an_answer_is_given_on_the_page(waiting: Site, visit: Callable[..., Watched]) -> None:
    """With a text; the page then shows it among the others, and the count is one less."""
    watched = visit(waiting, fresh=True)
    page = signed_in(watched, "/hitl")
    card = page.locator("#wait-s1")
    card.get_by_label("Answer").fill("go ahead\nslowly")
    card.get_by_role("button", name="Approve", exact=True).click()
    page.wait_for_url(f"{waiting.url}/hitl")
    assert page.get_by_role("region", name="Open").locator("h3").count() == 1
    assert page.get_by_label("1 waiting").is_visible()
    over = page.get_by_role("region", name="Answered and closed")
    assert "go ahead" in over.inner_text()
    assert waiting.store.hitl.get("deploy-42")["answer"] == "go ahead\nslowly"
    assert watched.problems == []


def test_a_run_asks_on_its_page(waiting: Site, visit: Callable[..., Watched]) -> None:
    """With the same form, which leads back to the run; by keyboard alone."""
    watched = visit(waiting, fresh=True)
    page = signed_in(watched, "/runs/r1")
    callout = page.get_by_role("status", name="A person has to decide")
    assert "Deploy version 4.2?" in callout.inner_text()
    assert "coder asked" in callout.inner_text()
    callout.get_by_role("button", name="Reject").first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("1 waiting")).to_be_visible()
    assert page.url == f"{waiting.url}/runs/r1"
    assert waiting.store.hitl.get("deploy-42")["decision"] == "rejected"
    assert watched.problems == []


def test_what_is_typed_stays_while_the_page_keeps_up(
    waiting: Site, visit: Callable[..., Watched]
) -> None:
    """A wait is answered elsewhere and another comes; the text stands, in its own form."""
    watched = visit(waiting, fresh=True)
    page = signed_in(watched, "/hitl")
    expect(page.locator("#feed")).to_have_text("live")
    text = page.locator("#wait-s2").get_by_label("Answer")
    text.fill("the second")
    page.locator("h1").click()
    waiting.store.hitl.answer("deploy-42", "approved", None, "cli")
    more = told("start", "s9", attributes={WAIT_REASON.key: "And this?"})
    waiting.store.write(Batch(signals=[more]))
    opened = page.get_by_role("region", name="Open").locator("h3")
    expect(opened).to_have_text(["Which schema?", "And this?"], timeout=30_000)
    expect(text).to_have_value("the second")
    expect(page.locator("#wait-s9").get_by_label("Answer")).to_have_value("")
    page.locator("#wait-s2").get_by_role("button", name="Send the answer only").click()
    expect(opened).to_have_text(["And this?"])
    assert waiting.store.hitl.get("s2")["answer"] == "the second"
    assert watched.problems == []


def test_who_may_not_answer_sees_how_it_is_done(
    waiting: Site, visit: Callable[..., Watched]
) -> None:
    """A viewer, and anybody before a server without tokens, has the command for a terminal."""
    page = signed_in(visit(waiting, fresh=True), "/hitl", VIEWER)
    assert page.locator("textarea").count() == 0
    assert "Answer in a terminal" in page.locator("#wait-s1").inner_text()


def test_it_reads_without_script(waiting: Site, browser: Any) -> None:
    """The page, its form and the answer."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{waiting.url}/login?next=/hitl")
    page.get_by_label("Token").fill(ADMIN)
    page.get_by_role("button", name="Sign in").click()
    page.locator("#wait-s2").get_by_label("Answer").fill("the first")
    page.locator("#wait-s2").get_by_role("button", name="Approve", exact=True).click()
    assert page.get_by_role("region", name="Open").locator("h3").count() == 1
    assert waiting.store.hitl.get("s2")["answer"] == "the first"
    context.close()


def test_nobody_waits(empty_site: Site, visit: Callable[..., Watched]) -> None:
    """The page says so, and the header counts nothing."""
    watched = visit(empty_site)
    page = watched.open("/hitl")
    assert "Nobody waits for a person." in page.locator("main").inner_text()
    expect(page.locator("#waiting")).to_be_hidden()
    assert watched.problems == []


def test_the_count_comes_by_itself(
    tmp_path_factory: pytest.TempPathFactory, visit: Callable[..., Watched]
) -> None:
    """On a page that stays open, and goes when the wait is answered."""
    with serving(tmp_path_factory.mktemp("coming")) as site:
        watched = visit(site, fresh=True)
        watched.page.clock.install()
        page = watched.open("/alerts")
        expect(page.locator("#waiting")).to_be_hidden()
        site.store.write(Batch(signals=[run(), told("start")]))
        assert site.store.settle()
        page.clock.run_for(POLLED)
        expect(page.locator("#waiting")).to_have_text("1")
        site.store.hitl.answer("s1", "approved", None, "cli")
        page.clock.run_for(POLLED)
        expect(page.locator("#waiting")).to_be_hidden()
        page.close()


def test_a_run_shows_its_budgets_and_checkpoints(
    tmp_path_factory: pytest.TempPathFactory, visit: Callable[..., Watched]
) -> None:
    """What was spent of what, in words beside the tone; the checkpoint before each agent."""
    limits = {BUDGET_USD.key: 2.0, BUDGET_ENFORCED.key: True}
    story = Story("b1", "shop", begin=time.time_ns() - 9 * 10**9)
    story.start("run", "b", "shop", attributes=limits)
    saved = {CHECKPOINT_ID.key: "0123456789abcdef"}
    story.start("agent", "a1", "coder", parent="b", attributes=saved)
    story.wait(2).end("a1", usage=tokens(900), cost=3.0)
    with serving(tmp_path_factory.mktemp("spent"), batch=Batch(signals=story.signals)) as site:
        page = visit(site, fresh=True).open("/runs/b1")
        said = page.get_by_role("list", name="Budgets").inner_text()
        for word in ("run", "exceeded", "enforced", "$3.00 of $2.00"):
            assert word in said
        page.goto(f"{site.url}/runs/b1?tab=agents")
        assert "0123456789abcdef" in page.get_by_role("table", name="Agents").inner_text()
        page.goto(f"{site.url}/agents/a1")
        assert "0123456789abcdef" in page.locator("main").inner_text()
        page.close()


# ---------------------------------------------------------------------- texts that are no text


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve waits where all that can be named is a payload."""
    found = [run(run_id=payload) for payload in PAYLOADS]
    for number, payload in enumerate(PAYLOADS):
        keys = (WAIT_REASON, WAIT_ERROR, WAIT_PRIORITY, WAIT_TOOL)
        said = {one.key: payload for one in keys}
        where: dict[str, Any] = {"run": payload, "id": payload}
        found.append(told("start", f"{number}{payload}", **where, attributes=said))
        if number % 3 == 0:
            over: dict[str, Any] = {
                "decision": "answered",
                "text": payload,
                "by": payload,
                "result": "success",
            }
            found.append(told("end", f"{number}{payload}", **where, **over))
    path = tmp_path_factory.mktemp("hostile-waits")
    with serving(path, GUARDED, Batch(signals=found)) as site:
        yield site


@pytest.mark.parametrize("path", ["/hitl", f"/runs/{quote(PAYLOADS[2], safe='')}"])
def test_a_payload_is_text(hostile: Site, visit: Callable[..., Watched], path: str) -> None:
    """It can be read as it was sent, and runs, loads or leads nowhere, morphed in or not."""
    watched = visit(hostile, fresh=True)
    page = signed_in(watched, "/hitl")
    page.goto(hostile.url + path)
    page.evaluate(
        "htmx.ajax('GET', location.pathname + location.search,"
        "{source: '#fragment', target: '#fragment', swap: 'innerMorph'})"
    )
    assert page.evaluate("window.pwned") is None
    assert page.locator("main :is(script, iframe, object, embed, meta, base, style)").count() == 0
    assert page.locator(f"[src*='canary'], a[href*='{CANARY}/']:not([rel~=noopener])").count() == 0
    assert watched.problems == []
    if path == "/hitl":
        assert len(set(page.locator("main h3").all_text_contents()) & set(PAYLOADS)) > 10
    actions = {form.get_attribute("action") for form in page.locator("main form").all()}
    assert all(str(one).startswith("/hitl/") and "//" not in str(one) for one in actions)


def test_a_hostile_wait_can_be_answered(hostile: Site, visit: Callable[..., Watched]) -> None:
    """The form of each leads to its own wait."""
    page = signed_in(visit(hostile, fresh=True), "/hitl")
    card = page.get_by_role("region", name="Open").locator("article").first
    asked = card.locator("h3").text_content()
    card.get_by_label("Answer").fill("<b>yes</b>")
    card.get_by_role("button", name="Send the answer only").click()
    page.wait_for_url(f"{hostile.url}/hitl")
    (done,) = [
        one
        for one in hostile.store.hitl.list(status="answered", limit=200)["items"]
        if one["answer"] == "<b>yes</b>"
    ]
    assert done["reason"] == asked or "\\u" in str(asked)
    assert page.locator("main b b, .sub b").count() == 0
