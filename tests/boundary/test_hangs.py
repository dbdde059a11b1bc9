"""What hangs is never what the program waits for; and what the program does wait for is bounded.

On the program's threads we take locks, which are held for memory work alone, and write to local
files (agents' logs). Everything that can hang, a sink, a listener, a database, is behind a queue.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

import pytest

from otel_agents import pipeline as pipelines
from otel_agents import runtime
from otel_agents.metrics import Metrics
from otel_agents.pipeline import Pipeline
from otel_agents.runtime import Runtime
from tests.boundary.seen import Seen, seen
from tests.boundary.workload import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_agents.signals import Signal
    from tests.boundary.kit import Ours

SECONDS: Final = 60.0  # after which a hang is a failure and not a wait


class _Hanging:
    """A sink that never comes back from its first write."""

    name = "hanging"
    linger = 0.0

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.free = threading.Event()

    def write(self, signals: Sequence[Signal]) -> None:
        self.entered.set()
        self.free.wait(SECONDS)

    def close(self) -> None:
        """Nothing was opened."""


@pytest.fixture
def hanging(ours: Ours) -> Iterator[_Hanging]:
    """Put a sink that hangs beside the others."""
    sink = _Hanging()
    pipeline = ours.captured.runtime.require_pipeline()
    pipeline.add(sink)
    yield sink
    sink.free.set()
    pipeline.remove(sink)


@pytest.mark.parametrize("name", ["scopes", "sync_targets", "async_targets", "logs", "agents"])
def test_a_sink_that_hangs_keeps_nobody(
    name: str, ours: Ours, controls: dict[str, Seen], hanging: _Hanging
) -> None:
    """A program comes to its end while a sink is still in its first write."""
    found = seen(lambda: SCENARIOS[name](ours.host))

    assert hanging.entered.wait(SECONDS)
    assert found == controls[name]
    assert not hanging.free.is_set()  # the program ended first


def test_a_job_that_hangs_keeps_a_caller_for_a_bounded_time(
    ours: Ours, controls: dict[str, Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that cannot be dealt with are waited for at the end of a scope, and then left."""
    monkeypatch.setattr(pipelines, "_CATCH_UP_SECONDS", 0.01)
    monkeypatch.setattr(Pipeline.catch_up, "__defaults__", (0.01,))
    free, entered = threading.Event(), threading.Event()
    pipeline = ours.captured.runtime.require_pipeline()

    def hang() -> None:
        entered.set()
        free.wait(SECONDS)

    pipeline.later(hang)
    assert entered.wait(SECONDS)
    try:
        found = seen(lambda: SCENARIOS["scopes"](ours.host))
        assert found == controls["scopes"]
        assert not free.is_set()
    finally:
        free.set()
        pipeline.flush()


def test_a_listener_that_hangs_keeps_nobody(ours: Ours) -> None:
    """A program goes on, and ends its subscription, while a listener has not returned."""
    free, entered = threading.Event(), threading.Event()

    def listen(_message: Any) -> None:
        entered.set()
        free.wait(SECONDS)

    emitter = ours.host.oa.ProgressEmitter("delivery")
    end = emitter.subscribe(listen)
    emitter.emit_run_started("o-1", "r-h", "Ship")
    assert entered.wait(SECONDS)
    emitter.emit_run_completed("o-1", "r-h", "succeeded")
    end()

    assert not free.is_set()
    free.set()


class _Watched:
    """A lock that notes who takes it, and whether anybody waits for something else meanwhile."""

    held: Final = threading.local()

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def __enter__(self) -> Any:
        self._lock.acquire()
        self.held.count = getattr(self.held, "count", 0) + 1
        return self

    def __exit__(self, *_error: object) -> None:
        self.held.count -= 1
        self._lock.release()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lock, name)


def test_no_sink_is_called_under_a_lock_that_callers_take() -> None:
    """The locks of the metrics and of the runtime are free while a sink writes."""
    metrics = Metrics()
    found: list[int] = []

    class Sink(_Hanging):
        def write(self, signals: Sequence[Signal]) -> None:
            found.append(getattr(_Watched.held, "count", 0))

    made = Runtime(metrics=metrics, pipeline=Pipeline([Sink()], metrics.dropped))
    made.lock = _Watched(made.lock)  # type: ignore[assignment]
    before = runtime.put(made)
    try:
        from otel_agents import run

        for _ in range(3):
            with run("shop"):
                pass
        assert made.require_pipeline().flush(SECONDS)
    finally:
        runtime.put(before)
        made.close()

    assert found
    assert set(found) == {0}
