"""How things stand: what of a worker that was killed is still told of, and for how long."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from otel_agents.vocabulary import TASK_QUEUE, TASK_STATE, WORKER_STATUS, WORKER_TYPE

from .build import fact, seconds_ago, write

if TYPE_CHECKING:
    from otel_agents.signals import Signal
    from otel_agents.store import Store

_MINUTE: Final = 60


def _beat(number: int, worker_id: str, ago: float) -> Signal:
    """Return a heartbeat of an indexer."""
    told = {WORKER_TYPE.key: "indexer", WORKER_STATUS.key: "RUNNING"}
    return fact(
        "worker", number, seconds_ago(ago), "indexer",
        edge="progress", worker_id=worker_id, attributes=told,
    )  # fmt: skip


def _served(number: int, worker_id: str, ago: float) -> Signal:
    """Return what is told of a task of the queue `digest` that a worker has done."""
    told = {TASK_STATE.key: "DONE", TASK_QUEUE.key: "digest"}
    return fact(
        "task", number, seconds_ago(ago), f"t-{number}",
        task_id=f"t-{number}", worker_id=worker_id, attributes=told,
    )  # fmt: skip


def test_a_killed_worker_that_is_back_under_another_id_is_missed_for_an_hour(store: Store) -> None:
    """So long the queue's other alerts are held back; then only the new one is told of."""
    write(
        store,
        _served(1, "indexer-old", 51 * _MINUTE), _beat(2, "indexer-old", 50 * _MINUTE),
        _served(3, "indexer-new", 1), _beat(4, "indexer-new", 0),
    )  # fmt: skip
    now = time.time_ns()

    (both,) = store.standing(now).workers
    (left,) = store.standing(now + 11 * _MINUTE * 10**9).workers

    assert (both["agent_type"], both["queue"], both["number"]) == ("indexer", "digest", 2)
    assert now - both["oldest_ns"] > 49 * _MINUTE * 10**9
    assert (left["agent_type"], left["queue"], left["number"]) == ("indexer", "digest", 1)
    assert now - left["oldest_ns"] < _MINUTE * 10**9


def test_a_killed_worker_that_is_back_under_its_id_is_missed_no_more(store: Store) -> None:
    """Its row is the same, and its heartbeat a new one."""
    write(store, _served(1, "indexer-1", 51 * _MINUTE), _beat(2, "indexer-1", 50 * _MINUTE))
    write(store, _beat(3, "indexer-1", 0))
    now = time.time_ns()

    (one,) = store.standing(now).workers

    assert (one["queue"], one["number"]) == ("digest", 1)
    assert now - one["oldest_ns"] < _MINUTE * 10**9
