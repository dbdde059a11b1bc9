"""The same on PostgreSQL, where the database dies too."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from tests.databases import _programs, migrate

from .clients import Load, some
from .cluster import Mortal
from .oracle import assert_holds
from .served import until
from .test_kill import assert_sound, how_it_went, kill_under_load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_agents.store import Store

    from .served import Served

pytestmark = pytest.mark.xdist_group("chaos")

KILLS = 20
DATABASE_KILLS = 5


@pytest.fixture
def cluster() -> Iterator[Mortal]:
    """A running cluster with the databases `store` and `anew`."""
    programs = _programs()
    if programs is None:
        message = "PostgreSQL is not installed (Debian: postgresql)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    made = Mortal(programs)
    try:
        made.start()
        made.execute("CREATE DATABASE store")
        made.execute("CREATE DATABASE anew")
        migrate(made.url("anew"))
        yield made
    finally:
        made.close()


def test_kills_of_the_server_lose_nothing(
    serving: Callable[..., Served], stores: Callable[..., Store], cluster: Mortal, seed: int
) -> None:
    """The five properties, nothing unindexed, the rows the fold's."""
    served = serving(cluster.url("store"))
    served.start()
    with Load(served, seed) as load:
        kill_under_load(served, load, KILLS, seed)
        ledger = load.finish()
    note = how_it_went(served, load, seed)

    assert_holds(served, ledger, requests=KILLS * 10, note=note)
    served.kill()
    assert_sound(stores, cluster.url("store"), cluster.url("anew"))


def test_kills_of_the_database_lose_nothing(
    serving: Callable[..., Served], stores: Callable[..., Store], cluster: Mortal, seed: int
) -> None:
    """A backend, or all of PostgreSQL: the server goes on by itself as soon as it is back."""
    served = serving(cluster.url("store"))
    served.start()
    process = served.running
    chance = random.Random(seed)  # noqa: S311 - to be repeatable
    with Load(served, seed) as load:
        for number in range(DATABASE_KILLS):
            some(load, chance.randint(1, 100))
            if number % 2:
                cluster.kill_backend("store")
            else:
                cluster.kill()
                cluster.start()
            until(served.is_ready, "readiness")
        some(load, 20)
        ledger = load.finish()

    assert served.running is process
    assert process.poll() is None
    assert_holds(served, ledger, requests=50, note=f"seed {seed}")
    served.kill()
    assert_sound(stores, cluster.url("store"), cluster.url("anew"))
