"""Servers to kill, a seed to repeat what happened, and databases to lose."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.databases import postgresql, stores

from .apps import Apps
from .backend import Backend
from .nursery import Nursery
from .served import Served

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


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """A process that forks servers."""
    made = Nursery()
    yield made
    made.close()


@pytest.fixture
def serving(tmp_path: Path, nursery: Nursery) -> Iterator[Callable[..., Served]]:
    """Make servers, not started, on a file of SQLite or another store; they end with the test.

    They are forked by the nursery, which makes a start cheap, unless they are to be whole.
    """
    made: list[Served] = []

    def make(store: str | None = None, *, whole: bool = False, **more: Any) -> Served:
        home = tmp_path / f"server-{len(made)}"
        home.mkdir()
        url = store or f"sqlite:///{tmp_path}/store.db"
        made.append(Served(home, url, nursery=None if whole else nursery, **more))
        return made[-1]

    yield make
    for one in made:
        one.kill()


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A backend that takes requests."""
    made = Backend()
    made.up()
    yield made
    made.down()


@pytest.fixture
def apps(tmp_path: Path, backend: Backend) -> Iterator[Apps]:
    """Programs with a spool that send to the backend."""
    made = Apps(tmp_path, backend.endpoint, backend.held)
    yield made
    made.close()
