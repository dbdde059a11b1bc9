"""All that stands between a program and what its people see is killed at random, and Redis is.

The way is that of the shipped stack: spans of a program with a spool go through the collector and
its queue to the server, which is asked what it has.
"""

from __future__ import annotations

import os
import random
import signal
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from otel_agents.boundary import boundary
from otel_agents.sinks.redis import RedisSink
from tests.sinks.conftest import server, stopped_server
from tests.sinks.test_redis import expected, shown, work
from tests.stack.conftest import Backends, Stack, programs

from .apps import Apps, assert_delivered, ended, forked, some
from .oracle import Holding

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sinks.conftest import Server

__all__ = ["programs", "server", "stopped_server"]

pytestmark = [
    pytest.mark.xdist_group("stack"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the spool needs the locks of POSIX"),
]

KILLS = int(os.environ.get("CHAOS_KILLS") or 6)
REDIS_KILLS = int(os.environ.get("CHAOS_KILLS") or 12)
WRITERS = 3


class Shown:
    """The stack's server, asked as the oracle asks one."""

    def __init__(self, stack: Stack) -> None:
        self._backends = Backends(stack)

    def caught_up(self) -> bool:
        """Say whether nothing waits to be written or indexed."""
        found = self._backends.server("/readyz")
        return bool(found["waiting"] == 0 and found["behind_seconds"] == 0)

    def data(self, path: str) -> Any:
        """Return the data of an answer of the API."""
        return self._backends.server(path)

    def pages(self, path: str, place: str = "cursor") -> list[dict[str, Any]]:
        """Return the items of all pages of a list; of events there are none here."""
        return [] if place == "after" else self._backends.served(path)


def test_kills_all_along_the_way_lose_nothing(
    programs: dict[str, Path], tmp_path: Path, seed: int
) -> None:
    """Program, collector and server, each a third of the time, at random moments under load."""
    chance = random.Random(seed)  # noqa: S311 - to be repeatable
    assert programs
    with Stack.start(tmp_path / "stack", only=("collector", "server")) as stack:
        shown_by = Shown(stack)
        apps = Apps(tmp_path, stack.otlp_http, lambda: Holding(shown_by))  # type: ignore[arg-type]
        with closing(apps):
            parent = apps.start("forks")
            child = forked(parent)
            for number in range(KILLS):
                some(apps, chance.randint(1, 300))
                victim = ("program", "collector", "server")[number % 3]
                if victim == "program":
                    os.kill(child, signal.SIGKILL)
                    child = forked(parent)
                else:
                    stack.kill(victim)
                    some(apps, chance.randint(1, 300))
                    stack.resume(victim)
            os.kill(child, signal.SIGKILL)
            ended(parent)
            assert_delivered(
                apps, spans=KILLS * 50, note=f"{KILLS} kills in the stack, seed {seed}"
            )


def test_kills_of_redis_lose_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """It comes back empty each time; every number is that of all events of all writers, once."""
    monkeypatch.setattr(boundary, "warn", lambda *_: None)
    chance = random.Random(seed)  # noqa: S311 - to be repeatable
    signals = [work(1_200, seed=number) for number in range(WRITERS)]
    sinks = [RedisSink(server.url) for _ in range(WRITERS)]
    told = [0] * WRITERS
    for _ in range(REDIS_KILLS):
        for _ in range(chance.randint(1, 8)):
            number = chance.randrange(WRITERS)
            upto = told[number] + chance.randint(1, 60)
            sinks[number]._try_again = 0.0
            sinks[number].write(signals[number][told[number] : upto])
            told[number] = min(upto, len(signals[number]))
        server.kill()
        if chance.random() < 0.5:
            sinks[chance.randrange(WRITERS)].tick()
        server.start()
    last = work(200, seed=WRITERS)
    for sink, mine, done in zip(sinks, signals, told, strict=True):
        sink._try_again = 0.0
        sink.write(mine[:0] if done else mine)
    sinks[0].write(last)
    for sink in sinks:
        sink._try_again = 0.0
        sink.close()
    every = [one for mine, done in zip(signals, told, strict=True) for one in mine[:done]] + last

    assert sum(told) > REDIS_KILLS * 50
    assert expected(every) == shown(server)
