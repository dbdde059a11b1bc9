"""A real browser before a real server."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest
from playwright.sync_api import expect

from otel_agents.server.serve import Options, Server
from otel_agents.settings import Settings

from . import sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

    from otel_agents.store import Batch, Store

# Others use the machine too: this is how long a page may take before it is called stuck.
expect.set_options(timeout=30_000)

PHONE = (390, 844)
DESK = (1440, 900)
POLLED = 20_000  # milliseconds on a page's clock, in which it has asked for its counts again
_ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of the console on one worker: they share the browser."""
    for item in items:
        if "/tests/console/" in str(item.path):
            item.add_marker(pytest.mark.xdist_group("console"))


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Start the system's Chromium; without one the tests are skipped, but never in CI."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None and not os.environ.get("CI"):
        pytest.skip("there is no Chromium: install it with the system's package manager")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(_ARGUMENTS))
        yield started
        started.close()


class Site(NamedTuple):
    """A server and what it serves from."""

    server: Server
    store: Store
    url: str


@contextmanager
def serving(
    path: Path, settings: Settings | None = None, batch: Batch | None = None, port: int = 0
) -> Iterator[Site]:
    """Serve a database, and stop the server at the end."""
    options = Options(
        port=port, otlp_http_port=0, otlp_grpc_port=0, store=f"sqlite:///{path}/console.db"
    )
    server = Server(options, settings or Settings(), None)
    addresses = server.start()
    try:
        store = server.store
        assert store is not None
        if batch is not None:
            store.write(batch)
            assert store.settle()
        yield Site(server, store, addresses.console)
    finally:
        server.stop()


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve a store with runs in every state; tests may add to it."""
    with serving(tmp_path_factory.mktemp("busy"), batch=sample.busy()) as started:
        yield started


@pytest.fixture(scope="package")
def empty_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve a store that nothing was written to."""
    with serving(tmp_path_factory.mktemp("empty")) as started:
        yield started


class Watched:
    """A page, and everything about it that should not be: errors, warnings, foreign requests."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.problems: list[str] = []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("dialog", self._asked)
        page.on("request", lambda request: self._requested(request.url))

    def _heard(self, message: ConsoleMessage) -> None:
        # A refused policy is an error on the console too.
        if message.type in {"error", "warning"}:
            self.problems.append(f"{message.type}: {message.text}")

    def _asked(self, dialog: object) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _requested(self, url: str) -> None:
        own = (self.url, self.url.replace("http", "ws", 1), "data:", "blob:")
        if not url.startswith(own):
            self.problems.append(f"request to {url}")

    def open(self, path: str) -> Page:
        """Go to a path of the site."""
        self.page.goto(self.url + path)
        return self.page


@pytest.fixture(scope="package")
def contexts(browser: Browser) -> Iterator[dict[object, BrowserContext]]:
    """Keep the profiles that tests share: one that has the files already draws faster."""
    made: dict[object, BrowserContext] = {}
    yield made
    for context in made.values():
        context.close()


@pytest.fixture
def visit(
    browser: Browser, contexts: dict[object, BrowserContext]
) -> Iterator[Callable[..., Watched]]:
    """Return what opens a page: `visit(site, size, scheme)`; `fresh` gives it its own profile."""
    opened = []

    def start(
        site: Site, size: tuple[int, int] = DESK, scheme: str = "light", *, fresh: bool = False
    ) -> Watched:
        key = (site.url, size, scheme, len(opened) if fresh else None)
        context = None if fresh else contexts.get(key)
        if context is None:
            context = browser.new_context(
                viewport={"width": size[0], "height": size[1]},
                color_scheme=scheme,
                reduced_motion="reduce",
            )
            context.set_default_timeout(20_000)
            if not fresh:
                contexts[key] = context
        page = context.new_page()
        opened.append(context if fresh else page)
        return Watched(page, site.url)

    yield start
    for each in opened:
        each.close()
