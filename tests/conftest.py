"""What every test relies on: failures of ours raise, and nothing of one test reaches the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from otel_agents import runtime
from otel_agents.boundary import boundary
from otel_agents.testing import Captured, capture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# A deadline is an assertion on time, which a busy machine fails.
settings.register_profile("untimed", settings.default, deadline=None)
settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that share one stack first: one worker runs them all, and ends last."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


@pytest.fixture(autouse=True)
def _strict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Raise our own failures, and keep settings and workspaces of the machine out."""
    monkeypatch.setattr(boundary, "strict", True)
    monkeypatch.setenv("OTEL_AGENTS_HOME", str(tmp_path / "no-workspace"))
    for name in ("OTEL_AGENTS_CONFIG", "OTEL_AGENTS_SINKS", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    before = runtime.put(None)
    yield
    made = runtime.put(before)
    if isinstance(made, runtime.Runtime) and made is not before:
        made.close(30)  # what it still has to write, it would complain of in another test


@pytest.fixture
def captured() -> Iterator[Captured]:
    """Instrument the process and give what it records; the model `priced` costs 1 and 2 USD/M."""
    with capture(prices={"priced": {"input": 1.0, "output": 2.0}}) as found:
        yield found
