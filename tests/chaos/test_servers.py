"""Servers that share a store, are asked to end, or stand still for a while, all under load."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from .clients import Grpc, Http, Ledger, Load, Teller, once, some
from .oracle import Holding, assert_holds, judge
from .served import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .served import Served

pytestmark = pytest.mark.xdist_group("chaos")

_STOPPED_SECONDS = float(os.environ.get("CHAOS_STOPPED_SECONDS") or 3)


def test_two_servers_share_a_file(serving: Callable[..., Served], seed: int) -> None:
    """What either acknowledges both show, while one of them is killed over and over."""
    one, other = serving(), serving()
    one.begin()
    other.begin()  # both find no schema
    one.wait()
    other.wait()
    chance = random.Random(seed)  # noqa: S311 - to be repeatable
    with Load(one, seed, name="one") as first, Load(other, seed, name="other") as second:
        for _ in range(5):
            some(first, chance.randint(1, 100))
            some(second, 20)
            one.kill()
            some(second, 20)
            one.start()
        some(first, 20)
        ledger = first.finish()
        ledger.add(second.finish())

    assert_holds(one, ledger, requests=200, note=f"seed {seed}")
    verdict = judge(ledger, Holding(other))
    assert verdict.clean, f"{verdict} (seed {seed})"
    assert "locked" not in one.said + other.said


def test_what_a_dead_server_left_is_finished_by_the_one_that_stays(
    serving: Callable[..., Served], seed: int
) -> None:
    """Its traces are indexed and its runs have rows, though nobody sends to the one that stays."""
    one, other = serving(), serving()
    one.start()
    other.start()
    with Load(one, seed) as load:
        some(load, 50)
        one.kill()
        for client in load.clients:
            client.alone.set()
        ledger = load.finish()

    until(lambda: judge(ledger, Holding(other)).clean, "what the other left", 30)


def test_what_is_in_flight_is_answered_at_sigterm(
    serving: Callable[..., Served], tmp_path: Path, seed: int
) -> None:
    """Requests that wait for a commit when SIGTERM comes are committed, and their clients told."""
    served = serving()
    served.start()
    transports = [*(Http(served.otlp_http) for _ in range(4)), Grpc(served.otlp_grpc)]
    ledger = Ledger()
    answers: list[int | str] = []

    def send(number: int) -> None:
        _, request = next(Teller(f"t{number}", seed).requests(ledger.runs))
        answers.append(transports[number].send(request.kind, request.body))

    senders = [threading.Thread(target=send, args=(n,)) for n in range(len(transports))]
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as held:
        held.execute("BEGIN IMMEDIATE")
        for sender in senders:
            sender.start()
        until(lambda: served.waiting() == len(senders), "requests in flight")
        served.running.send_signal(signal.SIGTERM)
        until(lambda: not served.is_ready(), "the end of listening")
        held.execute("ROLLBACK")
    for sender in senders:
        sender.join()
    for transport in transports:
        transport.close()

    assert answers == [200] * len(senders)
    assert served.end(signal.SIGTERM) == 0
    assert served.said == ""


def test_sigterm_under_load_loses_nothing(serving: Callable[..., Served], seed: int) -> None:
    """It ends with exit code 0 and without a word, each time."""
    served = serving()
    served.start()
    chance = random.Random(seed)  # noqa: S311 - to be repeatable
    with Load(served, seed) as load:
        for _ in range(5):
            some(load, chance.randint(1, 100))
            assert served.end(signal.SIGTERM) == 0
            served.start()
        ledger = load.finish()

    assert_holds(served, ledger, requests=50, note=f"seed {seed}")
    assert served.said == ""


def test_a_server_that_stood_still_goes_on(serving: Callable[..., Served], seed: int) -> None:
    """SIGSTOP for some seconds and SIGCONT: its clients wait, and nothing is lost or doubled."""
    served = serving()
    served.start()
    with Load(served, seed) as load:
        some(load, 50)
        served.running.send_signal(signal.SIGSTOP)
        time.sleep(_STOPPED_SECONDS)
        served.running.send_signal(signal.SIGCONT)
        until(served.is_ready, "readiness")
        some(load, 50)
        ledger = load.finish()

    assert_holds(served, ledger, requests=100, note=f"seed {seed}")


def test_a_store_that_is_removed_is_made_anew(
    serving: Callable[..., Served], tmp_path: Path
) -> None:
    """The file is deleted under the server: it is ready again, and takes what comes from then."""
    served = serving()
    served.start()
    once(served, 1, "before")
    for file in tmp_path.glob("store.db*"):
        file.unlink()
    ledger = once(served, 2, "after")

    verdict = judge(ledger, Holding(served), fresh=ledger)
    assert verdict.clean, str(verdict)


def test_a_server_killed_while_it_makes_its_store(
    serving: Callable[..., Served], tmp_path: Path, seed: int
) -> None:
    """The next one makes it, whatever the first had done of it."""
    chance = random.Random(seed)  # noqa: S311 - to be repeatable
    for number in range(6):
        path = tmp_path / f"new-{number}.db"
        served = serving(f"sqlite:///{path}")
        served.begin()
        until(path.exists, "the file")
        time.sleep(chance.uniform(0, 0.3))
        served.kill()
        served.start()
        fresh = once(served, seed)
        verdict = judge(fresh, Holding(served), fresh=fresh)
        assert verdict.clean, f"{verdict} (seed {seed})"
        served.kill()
