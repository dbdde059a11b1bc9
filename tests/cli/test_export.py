"""`otel-agents events --export html`: a run as one file, in a real browser."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import pytest

from otel_agents.cli.export import name_of
from otel_agents.cli.export_page import page_of
from otel_agents.signals import Failure
from otel_agents.store import Batch, open_store

from .conftest import Shell
from .emitted import emitted, queued, validated
from .filled import ago, failing
from .serving import Serving

from console.payloads import PAYLOADS  # isort: skip
from state.build import Story, shop, tokens  # isort: skip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

# One worker has all of them, and starts one browser.
pytestmark = pytest.mark.xdist_group("cli-export")

_BROWSER: Final = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
)  # fmt: skip
BLOCKED: Final = """
import sys
sys.modules["jinja2"] = None
from otel_agents.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start the system's Chromium; without one the tests are skipped, but never in CI."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None and not os.environ.get("CI"):
        pytest.skip("there is no Chromium: install it with the system's package manager")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(_BROWSER))
        yield started
        started.close()


class Opened:
    """An exported page in a browser, with all that it asked for or complained of."""

    def __init__(self, browser: Browser, path: Path, **options: Any) -> None:
        self.heard: list[str] = []
        self.page: Page = browser.new_context(**options).new_page()
        self.page.on("request", lambda request: self.heard.append(request.url))
        self.page.on("console", lambda message: self.heard.append(message.text))
        self.page.on("pageerror", lambda error: self.heard.append(str(error)))
        self.page.on("dialog", lambda dialog: self.heard.append(dialog.message))
        self.page.goto(path.as_uri())
        self.heard.remove(path.as_uri())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.page.context.close()


def exported(shell: Shell, *arguments: str) -> Path:
    """Export a run and return the file."""
    done = shell.run("events", "--export", "html", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return Path(json.loads(done.stdout)["data"]["file"])


def told() -> Batch:
    """Return a failed run with events of several types, and the run before it."""
    story = failing()
    more = [
        queued(1, run_id="run-2"), validated(1, run_id="run-2"),
        validated(2, "failed", run_id="run-2", note="total is 12.40"),
        emitted("hitl_escalated", task_id="t-2", attempts=3, last_error="x", run_id="run-2"),
    ]  # fmt: skip
    earlier = queued(7, run_id="run-1")
    earlier.time = ago(600)
    more.append(earlier)
    return Batch(signals=[*story.signals, *more])


def test_the_latest_run_goes_to_a_file_of_its_name(shell: Shell) -> None:
    """Its head, KPIs, phases, timeline, errors and events; those of other runs are left out."""
    shell.put(told())
    done = shell.run("events", "--export", "html")
    page = (shell.path / "otel-agents-run-2.html").read_text()

    assert done.returncode == 0
    assert done.stdout.startswith("otel-agents-run-2.html (")
    for wanted in ("press", "failed", "try 2", "$0.0100", "t-2", "total is 12.40", "KPIs", "write"):
        assert wanted in page
    assert "t-7" not in page
    assert exported(shell, "--run-id", "run-2", "--output", "x.html").name == "x.html"


def test_nothing_is_loaded_and_the_policy_lets_only_our_own_in(shell: Shell) -> None:
    """The hashes in the policy are those of the one style and the one script."""
    shell.put(told())
    page = exported(shell).read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)

    assert policy is not None
    assert (len(styles), len(scripts)) == (1, 1)
    for kind, content in (("style", styles[0]), ("script", scripts[0])):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src &#39;sha256-{digest}&#39;" in policy[1]
    assert policy[1].startswith("default-src &#39;none&#39;")
    assert not re.search(r"\b(src|srcset|style|on\w+)=|@import|url\(", page)
    assert set(re.findall(r'href="([^"#]*)', page)) == {""}


def test_it_is_read_without_a_script_and_filtered_with_one(shell: Shell, browser: Browser) -> None:
    """By type and by text; nothing is asked of anybody."""
    shell.put(told())
    path = exported(shell)
    with Opened(browser, path, java_script_enabled=False) as bare:
        assert bare.page.locator("#feed > li:visible").count() == 10
        assert not bare.page.locator("#filters").is_visible()
        assert bare.heard == []
    with Opened(browser, path) as opened:
        rows = opened.page.locator("#feed > li:visible")
        shown = opened.page.locator("#shown")
        assert shown.inner_text() == "10 shown"
        opened.page.select_option("#type", "validation_complete")
        assert (rows.count(), shown.inner_text()) == (2, "2 shown")
        opened.page.fill("#text", "12.40")
        opened.page.wait_for_function("document.getElementById('shown').value === '1 shown'")
        assert "total is 12.40" in rows.inner_text()
        opened.page.press("#text", "Enter")
        assert opened.heard == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_reader_s_theme(shell: Shell, browser: Browser, scheme: str) -> None:
    """Light ink on dark ground, or the other way round; nothing stands out of a phone's screen."""
    shell.put(told())
    path = exported(shell)
    viewport = {"width": 390, "height": 800}
    with Opened(browser, path, color_scheme=scheme, viewport=viewport) as opened:
        ground, ink, wide = opened.page.evaluate(
            "() => [getComputedStyle(document.documentElement).backgroundColor,"
            "getComputedStyle(document.documentElement).color,"
            "document.documentElement.scrollWidth]"
        )
        opened.page.emulate_media(media="print")
        printed = opened.page.evaluate(
            "() => getComputedStyle(document.documentElement).backgroundColor"
        )

    def light(colour: str) -> bool:
        return sum(map(int, re.findall(r"\d+", colour)[:3])) > 3 * 128

    assert (light(ground), light(ink)) == (scheme == "light", scheme == "dark")
    assert wide <= 390
    assert light(printed)


def evil() -> list[Any]:
    """Return the signals of a run that has every payload in every place."""
    story = Story(PAYLOADS[2], PAYLOADS[0]).start("run", "run", PAYLOADS[0])
    for number, payload in enumerate(PAYLOADS):
        scope = f"a{number}"
        story.start("agent", scope, payload, parent="run", phase=payload, task_id=payload)
        story.wait(1)
        story.end(scope, "error", error=(payload, payload), usage=tokens(10), cost=0.01)
    signals = [
        emitted(
            "task_queued", number, run_id=PAYLOADS[2], task_id=payload, feature=payload, est_cost=1,
            **{payload: payload},
        )
        for number, payload in enumerate(PAYLOADS)
    ]  # fmt: skip
    story.end("run", "error", error=("Boom", PAYLOADS[1]))
    for one in story.signals:
        if one.edge == "end" and one.kind == "agent" and one.error is None:
            one.error = Failure("x")
    return [*story.signals, *signals]


def test_hostile_text_is_shown_as_text(shell: Shell, browser: Browser) -> None:
    """In names, keys, values, ids and errors: no script runs, and no request leaves."""
    shell.put(Batch(signals=evil()))
    path = exported(shell, "--run-id", PAYLOADS[2])
    assert path.parent == shell.path
    with Opened(browser, path) as opened:
        opened.page.wait_for_load_state("networkidle")
        opened.page.fill("#text", "queued")
        opened.page.locator("#shown", has_text=f"{len(PAYLOADS)} shown").wait_for()
        opened.page.fill("#text", "")
        opened.page.wait_for_function(
            "document.querySelectorAll('#feed > li[hidden]').length === 0"
        )
        pwned = opened.page.evaluate("() => [window.pwned, window.polluted, {}.polluted]")
        text = opened.page.evaluate("() => document.body.textContent")
        elements = opened.page.evaluate(
            "() => [...document.querySelectorAll("
            "'img,iframe,object,embed,link,base,video,math,body script + *,form form,"
            "[onerror],[onload],[onclick],[onfocus],[style]')].length"
        )

    assert pwned == [None, None, None]
    assert opened.heard == []
    assert elements == 0
    for payload in PAYLOADS:
        plain = payload.replace("\u202e", "\\u202e")
        assert text.count(plain) >= 3, plain


def test_a_big_run_stays_small(shell: Shell, browser: Browser) -> None:
    """Ten thousand events fit; where their fields are long, those in the middle are left out."""
    story = Story("run-big").start("run", "run", "shop")
    for fat, least_left_out in (("", 0), ("x" * 250, 1000)):
        signals = [
            validated(number, run_id="run-big", note=f"{fat}<&>", cost=0.01)
            for number in range(10_000)
        ]
        for one in signals:
            one.id += f"-{len(fat)}"
        shell.put(Batch(signals=[*story.signals, *signals]))
        path = exported(shell)
        size = path.stat().st_size
        assert size < 5_000_000
        with Opened(browser, path) as opened:
            gap = opened.page.locator("#feed > .gap")
            assert gap.count() == (least_left_out > 0)
            if least_left_out:
                left_out = int(gap.text_content().split()[0].replace(",", ""))
                rows = opened.page.locator("#feed > li:not(.gap)").count()
                assert left_out >= least_left_out
                assert rows + left_out == 20_000
            assert opened.heard == []


def test_a_server_s_run_is_the_same_page(shell: Shell) -> None:
    """But for the time it was made."""
    shell.put(Batch(signals=[*shop(begin=ago(600)).signals, queued(1), validated(1)]))
    local = exported(shell).read_text()
    with Serving(shell) as serving:
        remote = exported(shell, "--server", serving.url, "--output", "r.html").read_text()

    def undated(page: str) -> str:
        return re.sub(r"as of [^<]*<", "<", page)

    assert "succeeded" in local

    assert undated(remote) == undated(local)


def test_standard_output_takes_the_page_alone(shell: Shell) -> None:
    """And no file is left."""
    shell.put(told())
    done = shell.run("events", "--export", "html", "--output", "-")

    assert done.returncode == 0
    assert done.stdout.startswith("<!doctype html>")
    assert done.stdout.rstrip().endswith("</html>")
    assert list(shell.path.glob("*.html")) == []


def test_what_cannot_be_exported_is_one_sentence(shell: Shell) -> None:
    """No run, no such run, no such directory."""
    none = shell.run("events", "--export", "html")
    shell.put(told())
    unknown = shell.run("events", "--export", "html", "--run-id", "run-3")
    nowhere = shell.run("events", "--export", "html", "--output", "no/where.html")

    assert [done.returncode for done in (none, unknown, nowhere)] == [4, 4, 1]
    for done in (none, unknown, nowhere):
        assert (done.stdout, done.stderr.count("\n")) == ("", 1), done.stderr


def test_without_the_extra_it_is_one_sentence(shell: Shell) -> None:
    """That names what to install."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", BLOCKED, "events", "--export", "html"],
        cwd=shell.path, env=shell.environment, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr == (
        "otel-agents: An export needs more packages: pip install 'otel-agents[server]'.\n"
    )


@pytest.mark.parametrize(
    ("run_id", "name"),
    [
        ("run-1", "otel-agents-run-1.html"),
        ("../../etc/passwd", "otel-agents-etc-passwd.html"),
        ("\x1b]0;x", "otel-agents-0-x.html"),
        ("läden", "otel-agents-l-den.html"),
        ("///", "otel-agents-run.html"),
        ("a" * 500, f"otel-agents-{'a' * 60}.html"),
    ],
)
def test_a_file_is_named_after_any_id(run_id: str, name: str) -> None:
    """In the working directory, and with nothing in it that a shell or terminal obeys."""
    assert name_of(run_id) == name


def test_an_unknown_cost_is_said_to_be_unknown(shell: Shell) -> None:
    """It is not zero, in the head, in a row, nor in the KPIs."""
    story = Story("run-1").start("run", "run", "shop").start("agent", "a", "writer", parent="run")
    story.wait(2).end("a", usage=tokens(100)).end("run")
    shell.put(Batch(signals=[*story.signals, queued(1), validated(1)]))
    store = open_store(None, shell.workspace)
    try:
        page = page_of(store, store.run("run-1"))
    finally:
        store.close()

    assert "<dt>Cost</dt><dd>unknown</dd>" in page
    assert "110 tokens without a price" in page
    assert "1 attempt of unknown cost" in page
    assert "<i>cost_usd</i> unknown" in page
    assert "$0" not in page
