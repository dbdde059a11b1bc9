"""Helm and what else the chart's tests need; without it they are skipped, and fail in CI."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from tests.databases import postgresql

from .chart import ROOT, Chart

sys.path.insert(0, str(ROOT / "deploy" / "native"))

import helm_tool
import parts

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["postgresql"]


def _there(found: dict[str, Path | None], part: str) -> dict[str, Path]:
    if missing := sorted(name for name, path in found.items() if path is None):
        reason = f"{', '.join(missing)} missing: run deploy/native/install {part}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return {name: path for name, path in found.items() if path is not None}


@pytest.fixture(scope="session")
def tools() -> dict[str, Path]:
    """Helm and the schemas of Prometheus' operator, by name."""
    return _there(helm_tool.programs(parts.cache_dir()), "helm")


@pytest.fixture(scope="session")
def programs() -> dict[str, Path]:
    """The collector and promtool, by name."""
    known = parts.stack_parts()
    return _there({**known["collector"].programs, **known["prometheus"].programs}, "collector")


@pytest.fixture(scope="session")
def chart(tools: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Chart:
    """The chart."""
    return Chart(tools["helm"], tmp_path_factory.mktemp("helm"))
