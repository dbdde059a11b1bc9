"""Pages of a store that nothing was written to yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from . import sample
from .conftest import DESK, PHONE, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Site, Watched


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/runs", ("otel-agents demo", "opentelemetry-instrument python app.py", ":4318")),
        ("/agents", ("otel-agents demo", "opentelemetry-instrument python app.py")),
        ("/traces", ("OTEL_EXPORTER_OTLP_ENDPOINT", "otel-agents demo")),
        ("/live", ("otel-agents demo",)),
        ("/admin/runtime", ("otel-agents demo", "Worker")),
    ],
)
def test_an_empty_page_tells_what_to_run(
    path: str,
    told: tuple[str, ...],
    size: tuple[int, int],
    empty_site: Site,
    visit: Callable[..., Watched],
) -> None:
    """A newcomer reads what to type."""
    watched = visit(empty_site, size)
    text = watched.open(path).locator("main").inner_text()
    assert [one for one in told if one not in text] == []
    assert watched.problems == []


def test_the_first_run_takes_the_place_of_the_hints(
    tmp_path: Path, visit: Callable[..., Watched]
) -> None:
    """The page listens while it is empty, too."""
    with serving(tmp_path) as site:
        page = visit(site, fresh=True).open("/runs")
        expect(page.locator("#feed")).to_have_attribute("data-state", "live")
        site.store.write(sample.Batch(signals=sample.run("run-first")))
        expect(page.locator("#run-run-first")).to_be_visible()
        assert page.locator(".start").count() == 0
