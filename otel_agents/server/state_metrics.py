"""Gauges of what the server knows of everybody: runs, workers, queues, breakers, the store, alerts.

A program that was killed tells nothing of itself, so that these, and not its own metrics, say that
it is gone. All are read from the store at each scrape, but for what only the signals say: in which
state each process left a breaker.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from otel_agents import server_vocabulary as words
from otel_agents.boundary import boundary
from otel_agents.metrics import MAX_SERIES, Family, Point, labelled
from otel_agents.store.standing import DAY, HOUR
from otel_agents.values import cut
from otel_agents.vocabulary import BREAKER_STATE, BREAKER_STATES, WORKER_STATES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_agents.signals import Signal
    from otel_agents.store import Store
    from otel_agents.store.standing import Standing
    from otel_agents.vocabulary import Metric

    Labels = tuple[str, ...]

SEVERITIES: Final = ("critical", "warning", "info")
_RUN_STATES: Final = ("running", "waiting", "lost")
_OPEN_TASKS: Final = ("PENDING", "RUNNING", "IN_REVIEW")
_NAME: Final = 500  # characters of a label; names come from senders
_PROCESSES: Final = 5000
_MEASURED_SECONDS: Final = 300.0  # that a size stands which takes long to measure


class StateMetrics:
    """The gauges of one store. Not locked: whoever hears and reads takes turns.

    Args:
        store: What is told of.

    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._breakers = _Breakers()
        self._workflows = _Known()
        self._queues = _Known()
        self._worker_types = _Known()
        self._primed = False
        self._size = _Size(store)

    def hear(self, signal: Signal) -> None:
        """Take in a signal, in the order in which they were stored."""
        self._breakers.hear(signal)

    def families(self, now: int, seconds: float) -> list[Family]:
        """Return the gauges; raises UnavailableError without the store.

        Args:
            now: The time, in nanoseconds since the epoch.
            seconds: How long may be waited for what takes long to measure.

        """
        if not self._primed:
            workflows, queues = self._store.names(now)
            self._workflows.see(workflows)
            self._queues.see(queues)
            self._primed = True
        found = self._store.standing(now)
        return [
            *self._runs(found, now),
            *self._tasks(found, now),
            *self._workers(found, now),
            _family(words.SERVER_BREAKER, self._breakers.worst(found, now)),
            _family(words.SERVER_ALERTS, _by_severity(found.alerts)),
            *self._disk(seconds),
        ]

    def _runs(self, found: Standing, now: int) -> Iterable[Family]:
        living = [row for row in found.runs if row["status"] in _RUN_STATES]
        self._workflows.see({row["workflow"]: now for row in living})
        names = self._workflows.names(now)
        counts = {(name, state): 0.0 for name in names for state in _RUN_STATES}
        silences = dict.fromkeys(((name,) for name in names), 0.0)
        waits = dict(silences)
        for row in living:
            name = _cut(row["workflow"])
            state = "lost" if row["late"] else row["status"]
            counts[name, state] = counts.get((name, state), 0) + row["number"]
            if state == "running":
                _most(silences, (name,), (now - row["told_ns"]) / 1e9)
            elif state == "waiting" and row["waiting_ns"] is not None:
                _most(waits, (name,), (now - row["waiting_ns"]) / 1e9)
        yield _family(words.SERVER_RUNS, counts)
        yield _family(words.RUN_SILENCE, silences)
        yield _family(words.HUMAN_WAIT, waits)

    def _tasks(self, found: Standing, now: int) -> Iterable[Family]:
        self._queues.see({row["queue"]: now for row in found.tasks})
        names = self._queues.names(now)
        sizes = {(name, state): 0.0 for name in names for state in _OPEN_TASKS}
        ages = dict.fromkeys(((name,) for name in names), 0.0)
        stuck = dict(ages)
        for row in found.tasks:
            name, state = _cut(row["queue"]), row["status"]
            sizes[name, state] = sizes.get((name, state), 0) + row["number"]
            stuck[name,] = stuck.get((name,), 0) + int(row["stuck"])
            if state == "PENDING":
                _most(ages, (name,), (now - row["since_ns"]) / 1e9)
        yield _family(words.SERVER_QUEUE_SIZE, sizes)
        yield _family(words.SERVER_QUEUE_OLDEST, ages)
        yield _family(words.SERVER_STUCK, stuck)

    def _workers(self, found: Standing, now: int) -> Iterable[Family]:
        self._worker_types.see({row["agent_type"]: row["oldest_ns"] for row in found.workers})
        counts = {
            (name, state): 0.0 for name in self._worker_types.names(now) for state in WORKER_STATES
        }
        ages: dict[Labels, float] = {}
        for row in found.workers:
            name, state = _cut(row["agent_type"]), row["status"]
            counts[name, state] = counts.get((name, state), 0) + row["number"]
            if state != "STOPPED":
                _most(ages, (name, _cut(row["queue"])), (now - row["oldest_ns"]) / 1e9)
        yield _family(words.SERVER_WORKERS, counts)
        yield _family(words.SERVER_HEARTBEAT_AGE, ages)

    def _disk(self, seconds: float) -> Iterable[Family]:
        size = self._size.bytes(seconds)
        if size is not None:
            yield _family(words.STORE_SIZE, {(): float(size)})
        yield _family(words.STORE_LIMIT, {(): float(self._store.retain.max_bytes)})
        free = self._store.health()["free_bytes"]
        if free is not None:
            yield _family(words.STORE_FREE, {(): float(free)})


class _Known:
    """Names and when they were last seen: what ran empty is told at 0, for a day."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def see(self, names: dict[str, int]) -> None:
        for name, when in names.items():
            key = _cut(name)
            if key in self._seen or len(self._seen) < MAX_SERIES:
                self._seen[key] = max(when, self._seen.get(key, 0))

    def names(self, now: int) -> list[str]:
        self._seen = {name: when for name, when in self._seen.items() if when > now - DAY}
        return list(self._seen)


class _Breakers:
    """In which state each process said that a breaker is.

    The store knows what was said of a breaker last, by whichever process. A process that has not
    been heard of for an hour counts no more; what it said last still may be in the store. A worker
    that stops takes along what it said, as in the store.
    """

    def __init__(self) -> None:
        self._said: OrderedDict[tuple[str, str, int], tuple[int, int, str]] = OrderedDict()
        self._heard: dict[tuple[str, int], int] = {}

    def hear(self, signal: Signal) -> None:
        process = signal.host, signal.pid
        if process in self._heard:
            self._heard[process] = max(signal.time, self._heard[process])
        if signal.kind == "worker" and signal.edge == "end":
            self._let_go(signal)
        state = signal.attributes.get(BREAKER_STATE.key)
        if signal.kind != "breaker" or not signal.name or state not in BREAKER_STATES:
            return
        key = signal.name, *process
        said = signal.time, BREAKER_STATES.index(state), signal.ids.worker_id or ""
        if said >= self._said.get(key, said):
            self._said[key] = said
            self._said.move_to_end(key)
        self._heard.setdefault(process, signal.time)
        if len(self._said) > _PROCESSES:
            self._said.popitem(last=False)

    def _let_go(self, stopped: Signal) -> None:
        mine = stopped.ids.worker_id
        for key in [key for key, (_, _, owner) in self._said.items() if owner and owner == mine]:
            del self._said[key]

    def worst(self, found: Standing, now: int) -> dict[Labels, float]:
        for key in [key for key in self._said if self._heard.get(key[1:], 0) < now - HOUR]:
            del self._said[key]
        processes = {key[1:] for key in self._said}
        self._heard = {one: when for one, when in self._heard.items() if one in processes}
        worst: dict[Labels, float] = {}
        for row in found.breakers:
            if row["state"] in BREAKER_STATES:
                _most(worst, (_cut(row["name"]),), BREAKER_STATES.index(row["state"]))
        for (name, _, _), (_, state, _) in self._said.items():
            _most(worst, (_cut(name),), state)
        return worst


class _Size:
    """What the store takes. A file says it at once, a server adds it up: now and then, aside."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last: int | None = None
        self._measured = 0.0
        self._measuring: threading.Thread | None = None

    def bytes(self, seconds: float) -> int | None:
        """Return the bytes, or None where they were never measured."""
        if self._store.in_a_file:
            return self._store.size()
        if self._measuring is None or not self._measuring.is_alive():
            if self._last is not None and time.monotonic() - self._measured < _MEASURED_SECONDS:
                return self._last
            self._measuring = threading.Thread(
                target=self._measure, name="otel-agents-size", daemon=True
            )
            self._measuring.start()
        self._measuring.join(seconds)
        return self._last

    def _measure(self) -> None:
        try:
            self._last = self._store.size()
            self._measured = time.monotonic()
        except Exception as error:  # noqa: BLE001 - the other gauges do not depend on it
            boundary.warn("otel-agents: the size of the store cannot be told: %s", error)


def _by_severity(alerts: dict[str, int]) -> dict[Labels, float]:
    found: dict[Labels, float] = {(name,): 0.0 for name in SEVERITIES}
    for name, number in alerts.items():
        key = (_cut(name),)
        found[key] = found.get(key, 0) + number
    return found


def _most(found: dict[Any, float], key: Labels, value: float) -> None:
    """Keep the greatest value; a time to come, of a clock that is ahead, is now."""
    found[key] = max(value, found.get(key, 0.0), 0.0)


def _family(metric: Metric, values: dict[Any, float]) -> Family:
    """Return a gauge; of too many series the greatest values are kept, and those at 0 go first."""
    kept: Iterable[tuple[Any, float]] = values.items()
    if len(values) > MAX_SERIES:
        kept = sorted(kept, key=itemgetter(1), reverse=True)[:MAX_SERIES]
    return Family(metric, [Point(labelled(metric.labels, key), value) for key, value in kept])


def _cut(name: str | None) -> str:
    return cut(name or "", _NAME)
