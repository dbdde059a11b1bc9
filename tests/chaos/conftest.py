"""Servers to kill, a seed to repeat what happened, and databases to lose."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from tests.databases import postgresql, stores

from .served import SERVE, Served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["postgresql", "stores"]


@pytest.fixture
def seed() -> int:
    """What the test's randomness begins with; CHAOS_SEED repeats an earlier one."""
    found = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"CHAOS_SEED={found}")  # noqa: T201 - shown with a failure
    return found


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Make servers, not started, on a file of SQLite or another store; they end with the test."""
    made: list[Served] = []

    def make(store: str | None = None, program: tuple[str, ...] = SERVE) -> Served:
        home = tmp_path / f"server-{len(made)}"
        home.mkdir()
        made.append(Served(home, store or f"sqlite:///{tmp_path}/store.db", program=program))
        return made[-1]

    yield make
    for one in made:
        one.kill()
