"""Names and values that would like to be markup, script, a link or a prototype."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from playwright.sync_api import expect

from otel_agents.event_types import ALL_TYPES
from otel_agents.signals import Ids
from otel_agents.store import Batch, LogRecord
from otel_agents.store.blocks import block_of
from otel_agents.vocabulary import (
    BREAKER_REASON,
    BREAKER_STATE,
    DELIVERY_URL,
    RUN_GOAL,
    RUN_ID,
    TASK_STATE,
)
from tests.state.build import SECOND, Story

from . import events, sample
from .conftest import serving
from .payloads import CANARY, PAYLOADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .conftest import Site, Watched

TRACE: Final = "deadbeefdeadbeefdeadbeefdeadbeef"
RUN: Final = PAYLOADS[2]
PROTOTYPES: Final = (
    "__proto__", "constructor", "prototype", "a.__proto__.b", "toString", "__proto__.polluted",
    "constructor.prototype.polluted",
)  # fmt: skip
LINKS: Final = (
    "javascript:window.pwned=1", "JaVaScRiPt:window.pwned=1", " javascript:window.pwned=1",
    "java\tscript:window.pwned=1", "data:text/html,<script>window.pwned=1</script>",
    "vbscript:x", "file:///etc/passwd", "//canary.invalid/x", "http:/\\canary.invalid",
)  # fmt: skip


def spans() -> ExportTraceServiceRequest:
    """Return a trace with every payload as a name, key, value, event and service."""
    message = ExportTraceServiceRequest()
    begin = sample.time.time_ns() - 60 * SECOND
    for number, payload in enumerate(PAYLOADS):
        resource = message.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = payload
        span = resource.scope_spans.add().spans.add(
            trace_id=bytes.fromhex(TRACE),
            span_id=(number + 1).to_bytes(8, "big"),
            parent_span_id=b"" if not number else (1).to_bytes(8, "big"),
            name=payload,
            start_time_unix_nano=begin,
            end_time_unix_nano=begin + SECOND,
        )
        span.attributes.add(key=RUN_ID.key).value.string_value = RUN
        span.attributes.add(key="gen_ai.request.model").value.string_value = payload
        if number:
            continue
        span.status.code = 2
        span.status.message = payload
        for each in PAYLOADS:
            span.attributes.add(key=each).value.string_value = each
            event = span.events.add(name=each, time_unix_nano=begin)
            event.attributes.add(key=each).value.string_value = each
        for key in PROTOTYPES:
            span.attributes.add(key=key).value.string_value = "polluted"
        for at, address in enumerate((*LINKS, "https://example.com/a?b=c#d")):
            span.attributes.add(key=f"link.{at}").value.string_value = address
    return message


def hostile() -> Batch:
    """Return a store's content where all that can be named is a payload."""
    signals = []
    now = sample.time.time_ns()
    for number, payload in enumerate(PAYLOADS):
        story = Story(payload, payload, begin=now - (number + 1) * 60 * SECOND)
        story.start("run", f"r{number}", payload, attributes={RUN_GOAL.key: payload})
        story.start("phase", f"p{number}", payload, parent=f"r{number}")
        agent = f"{payload}/{number}"
        story.start("agent", agent, payload, parent=f"p{number}", phase=payload, model=payload)
        story.wait(1).end(agent, "error", error=(payload, payload))
        story.instant("gate", payload, "failure", parent=f"p{number}", phase=payload)
        story.start("delivery", f"d{number}", payload, attributes={DELIVERY_URL.key: LINKS[0]})
        story.end(f"d{number}")
        signals += (
            story.end(f"p{number}").end(f"r{number}", "error", error=(payload, payload)).signals
        )
        ids = Ids(worker_id=payload, task_id=payload, run_id=payload)
        told: dict[str, Any] = {BREAKER_STATE.key: "open", BREAKER_REASON.key: payload}
        signals.append(sample.fact("breaker", payload, ids, **told))
        signals.append(sample.worker(payload, payload, "RUNNING"))
        signals.append(sample.fact("task", payload, ids, **{TASK_STATE.key: "PENDING"}))
        signals.append(
            sample.runtime_event(number, "worker", "CALL", payload, payload, task_id=payload)
        )
        signals[-1].attributes |= dict.fromkeys(PROTOTYPES, payload)
    message = spans()
    block, _ = block_of(message, message.SerializeToString())
    logs = [
        LogRecord(
            time=now, severity=9, severity_text=payload, body=payload, event_name=payload,
            service=payload, run_id=RUN, phase=payload, attributes={payload: payload},
        )
        for payload in PAYLOADS
    ]  # fmt: skip
    return Batch(blocks=[block], signals=signals, logs=logs)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve the hostile store."""
    with serving(tmp_path_factory.mktemp("hostile"), batch=hostile()) as started:
        yield started


def test_there_are_enough_payloads() -> None:
    """At least sixty, each another."""
    assert len(set(PAYLOADS)) == len(PAYLOADS) >= 60


HERE: Final = f"/runs/{quote(RUN, safe='')}"
# Where payloads end up, and which elements are nothing but payloads there.
PLACES: Final = (
    ("/runs", ".c-name strong"),
    ("/runs?q=" + quote(RUN) + "&workflow=" + quote(RUN), ".c-name strong"),
    (HERE, "h1"),
    (f"{HERE}?spans=1&scope=r2", "#drawer h2"),
    (f"{HERE}?tab=agents", ".c-name a"),
    (f"{HERE}?tab=cost", ""),
    (f"{HERE}?tab=events", ".events strong"),
    (f"{HERE}?tab=logs", ".logs .body"),
    (f"{HERE}?tab=spans", ".c-name a"),
    ("/agents", ".c-name strong"),
    ("/agents?name=" + quote(RUN), ".applied strong"),
    (f"/agents/{quote(RUN + '/2', safe='')}", "h1"),
    ("/traces", ".c-name strong"),
    (f"/traces/{TRACE}?span=0000000000000001", ".w-name a"),
    ("/live?run=" + quote(RUN) + "&type=" + quote(RUN), ""),
    ("/admin/runtime", ".worker strong"),
    ("/admin/runtime?taskId=" + quote(RUN) + "&reasonCode=" + quote(RUN), ".c-reason code"),
    ("/login?next=" + quote(RUN), ""),
    ("/nothing/" + quote(RUN, safe=""), ""),
)


@pytest.mark.parametrize(("path", "where"), PLACES)
def test_a_payload_is_text(
    path: str, where: str, site: Site, visit: Callable[..., Watched]
) -> None:
    """It can be read as it was sent, and runs, loads or leaves nothing, morphed in or not."""
    watched = visit(site)
    page = watched.open(path)
    title = page.title()
    if page.locator("#fragment").count() and "nothing" not in path:
        page.evaluate(
            "htmx.ajax('GET', location.pathname + location.search,"
            "{source: '#fragment', target: '#fragment', swap: 'innerMorph'})"
        )
    assert page.evaluate("window.pwned") is None
    assert page.title() == title
    assert page.locator("main :is(script, iframe, object, embed, meta, base, style)").count() == 0
    assert page.locator(f"[src*='canary'], a[href*='{CANARY}/']:not([rel~=noopener])").count() == 0
    assert [one for one in watched.problems if "404" not in one] == []
    if where:
        seen = page.locator(where).all_text_contents()
        assert set(seen) & set(PAYLOADS)


def test_the_live_feed_shows_payloads_as_text(site: Site, visit: Callable[..., Watched]) -> None:
    """What comes over the WebSocket is set as text too, marks that turn text around spelled out."""
    watched = visit(site)
    page = watched.open("/live")
    page.locator("#events li").nth(60).wait_for()
    assert page.evaluate("window.pwned") is None
    assert len(set(page.locator("#events .what a").all_text_contents()) & set(PAYLOADS)) > 5
    assert page.locator("#events :is(script, img, iframe)").count() == 0
    assert watched.problems == []


def test_what_events_say_is_text(tmp_path: Path, visit: Callable[..., Watched]) -> None:
    """Each payload as every field, key and verdict of every type of event is shown as it is."""
    signals = []
    for number, payload in enumerate(PAYLOADS):
        for type_ in ALL_TYPES[number % 4 :: 4]:
            names = ("agent", "task_id", "scope", "status", "result", "unit", "limit", "priority")
            said: Any = {payload: payload, **dict.fromkeys(names, payload)}
            said |= {"nested": {payload: [payload]}, "list": [payload]}
            said |= dict.fromkeys(PROTOTYPES, payload)
            signals.append(events.told(type_, said, run_id=payload))
    for odd in (None, [], "text", 5, {"rejected": {}}, {"duration_ms": "x", "cost_usd": 1e308}):
        signals.append(events.told("critic_decision", odd))
    signals.append(events.told("__proto__", {"a": 1}))
    signals.append(events.told("constructor", {"a": 1}))
    with serving(tmp_path, batch=Batch(signals=signals[-90:])) as site:
        watched = visit(site, fresh=True)
        page = watched.open("/live")
        expect(page.locator("#events li")).to_have_count(90)
        expect(page.locator("#kpis")).to_have_attribute("data-window", "24h")
        assert page.evaluate("window.pwned") is None
        assert page.evaluate("({}).polluted") is None
        seen = {text.strip() for text in page.locator("#events .label").all_text_contents()}
        assert len(seen & set(PAYLOADS)) > 10
        assert set(PROTOTYPES) & seen
        assert page.locator("#events :is(script, img, iframe, a[href^=javascript])").count() == 0
        assert watched.problems == []
        page.close()


def test_keys_do_not_reach_the_prototype(site: Site, visit: Callable[..., Watched]) -> None:
    """Keys such as `__proto__` are shown as text, and every object is what it was."""
    page = visit(site).open("/login")
    own = "Object.getOwnPropertyNames(Object.prototype).sort().join()"
    before = page.evaluate(own)
    for path in (f"/traces/{TRACE}?span=0000000000000001", "/live", "/admin/runtime"):
        page.goto(site.url + path)
        if path == "/live":
            page.locator("#events li").nth(60).wait_for()
        assert page.evaluate(own) == before
        assert page.evaluate("({}).polluted") is None
    page.goto(f"{site.url}/traces/{TRACE}?span=0000000000000001")
    names = page.locator("#drawer dl.attributes dt").all_text_contents()
    assert set(PROTOTYPES) <= set(names)


def test_only_web_addresses_are_links(site: Site, visit: Callable[..., Watched]) -> None:
    """A script, data or file address is text; a web address is a link that tells nothing."""
    page = visit(site).open(f"/traces/{TRACE}?span=0000000000000001")
    links = page.locator("#drawer dl.attributes a").all()
    found = {link.get_attribute("href"): link.get_attribute("rel") for link in links}
    assert set(found) == {"https://example.com/a?b=c#d"}
    assert "noopener" in found["https://example.com/a?b=c#d"]
    page.goto(site.url + HERE)
    assert page.locator("a[href^='javascript:' i], a[href^='data:' i]").count() == 0


def test_text_that_turns_around_is_spelled_out(site: Site, visit: Callable[..., Watched]) -> None:
    """A mark that reverses the text after it is shown as its number."""
    page = visit(site).open("/runs?q=" + quote("denwp"))
    shown = page.locator(".c-name strong").first.text_content()
    assert shown.startswith("\\u202e")
