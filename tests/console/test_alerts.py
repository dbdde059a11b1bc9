"""The page of alerts, the count in the header, and the line on other pages."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from otel_agents.settings import Settings
from otel_agents.store.alerts import STALE_SECONDS, Alert, keep

from . import sample
from .conftest import DESK, PHONE, POLLED, serving
from .payloads import CANARY, PAYLOADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Site, Watched

SECOND: Final = 10**9
# Addresses that are no web addresses.
NO_LINKS: Final = (
    "javascript:window.pwned=1", "JaVaScRiPt:window.pwned=1", " javascript:window.pwned=1",
    "java\tscript:window.pwned=1", "data:text/html,<script>window.pwned=1</script>", "vbscript:x",
    "file:///etc/passwd", "//canary.invalid/x", "http:/\\canary.invalid",
)  # fmt: skip


def alert(name: str, severity: str = "warning", *, ended: bool = False, **more: Any) -> Alert:
    """Return what is told of an alert that began ten minutes ago."""
    now = time.time_ns()
    labels = {"alertname": name, "severity": severity, **more.pop("labels", {})}
    texts = {"summary": f"{name} was seen", **more.pop("annotations", {})}
    return Alert(
        fingerprint=more.pop("fingerprint", name), firing=not ended, labels=labels,
        annotations=texts, starts=now - 600 * SECOND, ends=now if ended else None, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve a store with alerts in every state."""
    with serving(tmp_path_factory.mktemp("alerts"), batch=sample.busy()) as site:
        links = {
            "runbook_url": "https://example.com/book", "dashboard_url": "https://example.com/d/x",
            "description": "It has told of nothing.",
        }  # fmt: skip
        site.store.keep_alerts(
            [
                alert("Slow", "info"), alert("Backlog"),
                alert("Stuck", "critical", labels={"workflow": "index_log"}, annotations=links),
                alert("Spike", ended=True), alert("Odd", "page"),
            ]
        )  # fmt: skip
        silent = time.time_ns() - round((STALE_SECONDS + 60) * SECOND)
        keep(site.store._database.here, [alert("Forgotten")], silent)
        yield site


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_fires_comes_first(
    told: Site, visit: Callable[..., Watched], size: tuple[int, int], scheme: str
) -> None:
    """The most urgent before all, by word and sign; then the stale, then the resolved."""
    watched = visit(told, size, scheme)
    page = watched.open("/alerts")
    firing = page.get_by_role("region", name="Firing")
    assert firing.locator("h3").all_inner_texts() == ["Stuck", "Backlog", "Slow", "Odd"]
    badges = firing.locator(".badge")
    assert badges.all_inner_texts() == ["critical", "warning", "info", "page"]
    assert badges.locator("svg").count() == 4
    assert (
        page.get_by_role("region", name="Not confirmed").locator("h3").inner_text() == "Forgotten"
    )
    assert "Spike" in page.get_by_role("region", name="Resolved").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert watched.problems == []


def test_an_alert_leads_on(told: Site, visit: Callable[..., Watched]) -> None:
    """To the runs of its workflow, its runbook and its dashboard."""
    page = visit(told).open("/alerts")
    card = page.locator("#alert-Stuck")
    assert "It has told of nothing." in card.inner_text()
    found = {
        link.inner_text().strip(): link.get_attribute("href")
        for link in card.get_by_role("link").all()
    }
    assert found == {
        "Runbook": "https://example.com/book", "Runs of index_log": "/runs?workflow=index_log",
        "Dashboard": "https://example.com/d/x",
    }  # fmt: skip
    card.get_by_role("link", name="Runs of index_log").click()
    page.wait_for_url("**/runs?workflow=index_log")
    assert page.locator(".c-name strong").first.inner_text() == "index_log"


@pytest.mark.parametrize("path", ["/runs", "/agents", "/traces", "/live", "/admin/runtime"])
def test_every_page_counts_what_fires(told: Site, visit: Callable[..., Watched], path: str) -> None:
    """In the header; on the overviews with the most urgent by name."""
    page = visit(told).open(path)
    assert page.locator("#firing").inner_text() == "4"
    assert page.get_by_label("4 firing").is_visible()
    line = page.get_by_role("status", name="Alerts")
    assert line.count() == (path in {"/runs", "/admin/runtime"})
    if line.count():
        assert "4 alerts fire" in line.inner_text()
        assert "Stuck was seen" in line.inner_text()


def test_the_count_and_the_page_keep_up(
    tmp_path_factory: pytest.TempPathFactory, visit: Callable[..., Watched]
) -> None:
    """Without a reload: an alert comes and goes on a page that stays open."""
    with serving(tmp_path_factory.mktemp("keeping-up")) as site:
        watched = visit(site, fresh=True)
        watched.page.clock.install()
        page = watched.open("/alerts")
        expect(page.locator("#firing")).to_be_hidden()
        assert "otel-agents stack up" in page.locator("main").inner_text()
        assert f"{site.url}/api/alerts" in page.locator("main").inner_text()
        site.store.keep_alerts([alert("Stuck", "critical")])
        page.clock.run_for(POLLED)
        expect(page.locator("#alert-Stuck")).to_be_visible()
        expect(page.locator("#firing")).to_have_text("1")
        site.store.keep_alerts([alert("Stuck", "critical", ended=True)])
        page.clock.run_for(POLLED)
        expect(page.get_by_role("region", name="Resolved")).to_be_visible()
        expect(page.locator("#firing")).to_be_hidden()
        assert watched.problems == []
        page.close()


def test_a_viewer_sees_them_and_who_is_not_signed_in_does_not(
    tmp_path_factory: pytest.TempPathFactory, visit: Callable[..., Watched]
) -> None:
    """Not even how many there are."""
    settings = Settings(token="admin-token-01234567", viewer_token="viewer-token-0123456")  # noqa: S106
    with serving(tmp_path_factory.mktemp("signed"), settings) as site:
        site.store.keep_alerts([alert("Stuck", "critical")])
        page = visit(site, fresh=True).open("/alerts")
        assert page.url.endswith("/login?next=%2Falerts")
        assert page.locator("#firing").count() == 0
        page.get_by_label("Token").fill("viewer-token-0123456")
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{site.url}/alerts")
        assert page.locator("#alert-Stuck").is_visible()
        assert page.locator("#firing").inner_text() == "1"
        page.close()


# ---------------------------------------------------------------------- texts that are no text


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve alerts where all that can be named is a payload."""
    with serving(tmp_path_factory.mktemp("hostile-alerts")) as site:
        found = []
        for number, payload in enumerate(PAYLOADS):
            address = NO_LINKS[number % len(NO_LINKS)]
            said = dict.fromkeys(("summary", "description", payload), payload)
            said |= dict.fromkeys(("runbook_url", "dashboard_url"), address)
            labels = {"alertname": payload, "severity": payload, "workflow": payload}
            found.append(
                Alert(
                    fingerprint=f"{number}{payload}",
                    firing=bool(number % 3),
                    labels={**labels, payload: payload},
                    annotations=said,
                    starts=time.time_ns(),
                    ends=None if number % 3 else time.time_ns(),
                    generator_url=address,
                    external_url=address,
                )
            )
        site.store.keep_alerts(found)
        yield site


@pytest.mark.parametrize("path", ["/alerts", "/runs", "/admin/runtime", "/alerts?cursor=x"])
def test_a_payload_is_text(hostile: Site, visit: Callable[..., Watched], path: str) -> None:
    """It can be read as it was sent, and runs, loads or leads nowhere, morphed in or not."""
    watched = visit(hostile)
    page = watched.open(path)
    if "cursor" not in path:
        page.evaluate(
            "htmx.ajax('GET', location.pathname + location.search,"
            "{source: '#fragment', target: '#fragment', swap: 'innerMorph'})"
        )
    assert page.evaluate("window.pwned") is None
    assert page.locator("main :is(script, iframe, object, embed, meta, base, style)").count() == 0
    assert page.locator(f"[src*='canary'], a[href*='{CANARY}/']:not([rel~=noopener])").count() == 0
    assert [one for one in watched.problems if "400" not in one] == []
    if path == "/alerts":
        assert len(set(page.locator("main h3").all_text_contents()) & set(PAYLOADS)) > 10


def test_only_web_addresses_are_links(hostile: Site, visit: Callable[..., Watched]) -> None:
    """All that an alert leads to are the runs of its workflow, whatever that is called."""
    page = visit(hostile).open("/alerts")
    found = {str(link.get_attribute("href")) for link in page.locator("#fragment .links a").all()}
    assert len(found) > 10
    assert {one.partition("=")[0] for one in found} == {"/runs?workflow"}
    assert f"/runs?workflow={quote(PAYLOADS[2])}" in {one.replace("+", "%20") for one in found}
