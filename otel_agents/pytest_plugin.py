"""The pytest fixture of `otel_agents.testing`; pytest finds it by its entry point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_agents.testing import Captured


@pytest.fixture
def otel_agents_capture() -> Iterator[Captured]:
    """Give a test the spans, metrics and signals of the code it runs."""
    from otel_agents.testing import capture

    with capture() as captured:
        yield captured
