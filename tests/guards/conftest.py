"""What the tests of guards work on."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Give a working tree with one file."""
    root = tmp_path / "tree"
    subprocess.run(["git", "init", "-q", root], check=True)  # noqa: S603, S607 - a fixture
    (root / "a.txt").write_text("one\n")
    return root
