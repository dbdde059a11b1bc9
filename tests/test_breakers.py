"""Breakers: when they open, half open and close, what they tell, and what counts as what."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import otel_agents as oa
from otel_agents import Breaker, BreakerOpen, runtime
from otel_agents.breakers import snapshots
from otel_agents.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_agents.signals import Signal
    from otel_agents.testing import Captured


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(name: str = "api", **options: Any) -> tuple[Breaker, Clock]:
    """Make a breaker that two failures have opened."""
    clock = Clock()
    breaker = Breaker(name, failures=2, reset_after=30, clock=clock, **options)
    for _ in range(2):
        with pytest.raises(ValueError, match="no"), breaker:
            raise ValueError("no")
    return breaker, clock


def of_kind(captured: Captured, kind: str) -> list[Signal]:
    return [signal for signal in captured.signals if signal.kind == kind]


def test_failures_in_a_row_open_it(captured: Captured) -> None:
    """A success between them starts the count anew; open, it refuses with one sentence."""
    breaker = Breaker("api", failures=2, clock=Clock())
    breaker.failure(ValueError("no"))
    breaker.success()
    breaker.failure(ValueError("no"))
    assert breaker.state == "closed"
    breaker.failure(ValueError("no"))
    assert breaker.state == "open"
    assert not breaker.allow()
    with (
        pytest.raises(
            BreakerOpen,
            match=r"^breaker api is open \(2 in a row failed, the last with ValueError\); "
            r"retry in 30\.0 s$",
        ),
        breaker,
    ):
        pytest.fail("it was let in")


def test_it_half_opens_after_a_while_and_closes_on_a_success(captured: Captured) -> None:
    """One trial is let through at a time."""
    breaker, clock = opened()
    clock.now += 29.9
    assert not breaker.allow()
    clock.now += 0.2
    assert breaker.allow()
    assert breaker.state == "half_open"
    assert not breaker.allow()
    breaker.success()
    assert breaker.state == "closed"
    assert breaker.allow()


def test_a_failed_trial_opens_it_again(captured: Captured) -> None:
    """And the wait begins anew."""
    breaker, clock = opened()
    clock.now += 30
    with pytest.raises(TimeoutError), breaker:
        raise TimeoutError
    assert breaker.state == "open"
    clock.now += 29
    assert not breaker.allow()
    assert breaker.snapshot()["retry_in"] == pytest.approx(1)


def test_what_it_tells(captured: Captured) -> None:
    """Each change is a `breaker` fact and a runtime event; the gauge says where it stands."""
    with oa.run("shop", id="r1"):
        breaker, clock = opened("told")
        assert captured.metric("otelagents.breaker.state", breaker="told") == 2
        clock.now += 30
        assert breaker.allow()
        assert captured.metric("otelagents.breaker.state", breaker="told") == 1
        breaker.success()
    assert captured.metric("otelagents.breaker.state", breaker="told") == 0

    facts = of_kind(captured, "breaker")
    assert [
        (signal.edge, signal.name, signal.ids.run_id, signal.attributes) for signal in facts
    ] == [
        ("fact", "told", "r1", {
            "otelagents.breaker.state": "open", "failures": 2,
            "otelagents.breaker.reason": "2 in a row failed, the last with ValueError",
        }),
        ("fact", "told", "r1", {
            "otelagents.breaker.state": "half_open", "failures": 2,
            "otelagents.breaker.reason": "30 s after it opened",
        }),
        ("fact", "told", "r1", {
            "otelagents.breaker.state": "closed", "failures": 0,
            "otelagents.breaker.reason": "a trial call succeeded",
        }),
    ]  # fmt: skip
    events = [signal.attributes for signal in of_kind(captured, "runtime")]
    assert [event["otelagents.runtime.reason_code"] for event in events] == [
        "OPENED", "HALF_OPENED", "CLOSED",
    ]  # fmt: skip
    assert {event["otelagents.runtime.entity.id"] for event in events} == {"told"}
    assert {
        (event["otelagents.runtime.layer"], event["otelagents.runtime.operation"])
        for event in events
    } == {("execution", "BREAKER")}


def test_it_guards_functions_of_every_shape(captured: Captured) -> None:
    """Sync, async, generator and `async with`; each returns and raises what it did before."""
    breaker = Breaker("shapes", failures=1, clock=Clock())

    @breaker
    def double(x: int) -> int:
        return 2 * x

    @breaker
    async def double_later(x: int) -> int:
        await asyncio.sleep(0)
        return 2 * x

    @breaker
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no")

    async def block() -> int:
        async with breaker:
            return 3

    assert double(2) == 4
    assert asyncio.run(double_later(3)) == 6
    assert asyncio.run(block()) == 3
    assert double.__name__ == "double"
    with pytest.raises(ValueError, match="no"):
        list(items())
    with pytest.raises(BreakerOpen):
        double(2)
    with pytest.raises(BreakerOpen):
        asyncio.run(double_later(2))
    with pytest.raises(BreakerOpen):
        asyncio.run(block())

    async def stream() -> Any:
        yield 1

    with pytest.raises(TypeError, match="async generator"):
        breaker(stream)


def test_a_cancelled_call_is_neither_failure_nor_success(captured: Captured) -> None:
    """It frees its place, so that another trial is let through, and counts for nothing."""
    breaker, clock = opened()
    clock.now += 30

    @breaker
    async def cancelled() -> None:
        raise asyncio.CancelledError

    for _ in range(3):
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(cancelled())
        with pytest.raises(KeyboardInterrupt), breaker:
            raise KeyboardInterrupt
        assert breaker.allow()
        breaker.abandon()
    assert breaker.state == "half_open"
    assert breaker.snapshot()["failures"] == 2


def test_an_old_call_says_nothing_about_a_new_state(captured: Captured) -> None:
    """A call from before it opened neither closes it nor opens it again when it comes back."""
    clock = Clock()
    breaker = Breaker("late", failures=1, reset_after=30, clock=clock)
    with breaker:
        breaker.failure()
        clock.now += 30
        assert breaker.allow()
    assert breaker.state == "half_open"
    breaker.success()
    assert breaker.state == "closed"


def test_a_trial_that_never_comes_back_gives_its_place_away(captured: Captured) -> None:
    """Otherwise one lost call would keep it half open for good."""
    breaker, clock = opened()
    clock.now += 30
    assert breaker.allow()
    assert not breaker.allow()
    clock.now += 30
    assert breaker.allow()


def test_inside_a_worker_it_marks_the_worker(captured: Captured) -> None:
    """DEGRADED with an open circuit; it recovers when the breaker closes, whoever closes it."""
    clock = Clock()
    breaker = Breaker("api", failures=1, reset_after=30, clock=clock)
    with oa.worker("coder", id="w1", interval=3600):
        breaker.failure(ValueError("no"))
    with oa.worker("coder", id="w2", interval=3600):
        assert not breaker.allow()
        clock.now += 30
        assert breaker.allow()
        breaker.success()

    circuits = [
        (
            signal.ids.worker_id,
            signal.attributes["otelagents.worker.status"],
            signal.attributes["otelagents.worker.circuit.open"],
            signal.attributes["otelagents.worker.circuit.reason"],
        )
        for signal in of_kind(captured, "worker")
        if signal.edge == "progress"
    ]
    why = "api: 1 in a row failed, the last with ValueError"
    assert circuits == [
        ("w1", "DEGRADED", True, why),
        ("w2", "DEGRADED", True, why),
        ("w2", "DEGRADED", False, "api: 30 s after it opened"),
        ("w2", "RUNNING", False, ""),
    ]
    assert {signal.ids.worker_id for signal in of_kind(captured, "breaker")} == {"w1", "w2"}


def test_snapshots_are_of_the_breakers_in_use() -> None:
    """By name; one that nobody holds any more is gone."""
    first, second = Breaker("snap-b"), Breaker("snap-a")
    found = [one["name"] for one in snapshots() if str(one["name"]).startswith("snap-")]
    assert found == ["snap-a", "snap-b"]
    assert first.snapshot() | {"changed_at": 0} == {
        "name": "snap-b", "state": "closed", "open": False, "reason": "", "failures": 0,
        "changed_at": 0, "retry_in": None,
    }  # fmt: skip
    del first, second
    assert not [one for one in snapshots() if str(one["name"]).startswith("snap-")]


@pytest.mark.parametrize(
    "options", [{"failures": 0}, {"half_open_calls": 0}, {"reset_after": -1.0}]
)
def test_numbers_that_make_no_breaker_are_refused(options: dict[str, Any]) -> None:
    """The error names what it wants."""
    with pytest.raises(ValueError, match="a breaker needs failures and half_open_calls"):
        Breaker("bad", **options)


def test_it_guards_without_telemetry() -> None:
    """Where telemetry is switched off it still opens and closes."""
    before = runtime.put(Runtime(disabled=True))
    try:
        breaker, clock = opened()
        assert not breaker.allow()
        clock.now += 30
        with breaker:
            pass
        assert breaker.state == "closed"
    finally:
        runtime.put(before)


@given(st.lists(st.sampled_from(["ok", "no", "off", "wait"]), max_size=60))
def test_it_is_what_a_plain_model_says(steps: list[str]) -> None:
    """Whatever comes in turn, a breaker is in the state that the rule of one sentence gives."""
    before = runtime.put(Runtime())
    clock = Clock()
    breaker = Breaker("model", failures=2, reset_after=10, clock=clock)
    state, row, since = "closed", 0, 0.0
    for step in steps:
        if step == "wait":
            clock.now += 6
            continue
        if state == "open" and clock.now - since >= 10:
            state = "half_open"
        assert breaker.allow() is (state != "open")
        assert breaker.state == state
        if state == "open":
            continue
        if step == "off":
            breaker.abandon()
        elif step == "ok":
            breaker.success()
            state, row = "closed", 0
        else:
            breaker.failure()
            row += 1
            if state == "half_open" or row >= 2:
                state, since = "open", clock.now
    runtime.put(before)
    assert breaker.state == state


def test_threads_share_it(captured: Captured) -> None:
    """Of many threads at once only as many trials get through as it allows; it opens once."""
    breaker, clock = opened("threads", half_open_calls=3)
    clock.now += 30
    admitted: list[bool] = []
    gate = threading.Barrier(16)

    def ask() -> None:
        gate.wait()
        admitted.append(breaker.allow())

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert admitted.count(True) == 3
    states = [
        signal.attributes["otelagents.breaker.state"] for signal in of_kind(captured, "breaker")
    ]
    assert states == ["open", "half_open"]
