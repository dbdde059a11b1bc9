"""Workers, tasks, breakers and runtime events: what was said last counts, whatever the order."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_agents.signals import Failure, Ids, Signal
from otel_agents.store import Batch, Store
from otel_agents.vocabulary import (
    BREAKER_REASON,
    BREAKER_STATE,
    BREAKER_STATES,
    CIRCUIT_OPEN,
    ENTITY_ID,
    LAYERS,
    LEASE_EXPIRES,
    LEASE_OWNER,
    OPERATIONS,
    REASON_CODE,
    RUNTIME_LAYER,
    RUNTIME_OPERATION,
    TASK_QUEUE,
    TASK_STATE,
    TASK_STATES,
    WORKER_STATES,
    WORKER_STATUS,
    WORKER_TYPE,
)
from tests.state.build import BEGIN

from .build import every, fact, made, seconds_ago, wipe, write

FEW = settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def facts(draw: st.DrawFn) -> list[Signal]:
    """Signals about two of each thing, some at the same time, that say some fields each."""
    found = []
    for count in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(["worker", "task", "breaker", "runtime"]))
        attributes: dict[str, Any] = {
            "worker": {
                WORKER_STATUS.key: draw(st.sampled_from(WORKER_STATES)),
                WORKER_TYPE.key: draw(st.sampled_from(["", "coder", "tester"])), "n": count,
            },
            "task": {
                TASK_STATE.key: draw(st.sampled_from(["", *TASK_STATES])),
                TASK_QUEUE.key: draw(st.sampled_from(["", "a", "b"])),
                LEASE_EXPIRES.key: draw(st.sampled_from([None, 1.5, 2.5])),
            },
            "breaker": {
                BREAKER_STATE.key: draw(st.sampled_from(BREAKER_STATES)), BREAKER_REASON.key: "why",
            },
            "runtime": {
                RUNTIME_LAYER.key: draw(st.sampled_from(LAYERS)),
                RUNTIME_OPERATION.key: draw(st.sampled_from(OPERATIONS)), "n": count,
            },
        }[kind]  # fmt: skip
        edge = "fact" if kind != "task" else draw(st.sampled_from(["fact", "start", "end"]))
        found.append(
            Signal(
                id=f"s-{draw(st.integers(0, 9))}-{count}", kind=kind, edge=edge,
                time=BEGIN + draw(st.integers(0, 4)) * 1_000,
                name=draw(st.sampled_from(["x", "y"])), attributes=attributes,
                ids=Ids(task_id=draw(st.sampled_from(["t-1", "t-2"])), worker_id="w-1"),
                result=draw(st.sampled_from(["success", "skip", "error"])),
                error=draw(st.sampled_from([None, Failure("E", "why")])),
            )
        )  # fmt: skip
    return found


@FEW
@given(told=facts(), data=st.data())
def test_the_latest_wins_whatever_the_order(
    database_url: str, told: list[Signal], data: st.DataObject
) -> None:
    """Any order, split and repetition, over two stores on one database, gives the same rows."""
    stores = [Store(database_url, durable=False) for _ in range(2)]
    try:
        wipe(stores[0])
        write(stores[0], *told)
        expected = made(stores[0])
        wipe(stores[0])
        mixed = data.draw(st.permutations([*told, *data.draw(st.lists(st.sampled_from(told)))]))
        while mixed:
            size = data.draw(st.integers(1, len(mixed)))
            batch, mixed = mixed[:size], mixed[size:]
            stores[data.draw(st.integers(0, 1))].write(Batch(signals=batch))
        assert made(stores[0]) == expected
    finally:
        for one in stores:
            one.close()


def test_what_a_signal_is_silent_about_stays(store: Store) -> None:
    """A lease that is renewed changes neither the state nor the queue of a task."""
    said = {TASK_STATE.key: "RUNNING", TASK_QUEUE.key: "builds", LEASE_OWNER.key: "w-1"}
    write(
        store,
        fact("task", 1, seconds_ago(9), "build", task_id="t", attributes=said),
        fact("task", 2, seconds_ago(1), task_id="t", attributes={LEASE_EXPIRES.key: 4e9}),
    )
    (task,) = store.tasks()["items"]
    assert (task["status"], task["queue"], task["lease_owner"]) == ("RUNNING", "builds", "w-1")
    assert task["lease_expires_at"] == "2096-10-02T07:06:40.000Z"
    assert not task["stuck"]


def test_a_task_ends_as_its_work_did(store: Store) -> None:
    """Done, skipped with its reason, failed with its error; a review is not done yet."""
    ends = {"t-1": "success", "t-2": "skip", "t-3": "error", "t-4": "success"}
    for count, (task_id, result) in enumerate(ends.items()):
        failure = None if result == "success" else Failure("ValueError", f"{result} of {task_id}")
        signal = Signal(
            id=f"end-{count}", kind="task", edge="end", time=seconds_ago(1), result=result,
            ids=Ids(task_id=task_id), error=failure,
            attributes={TASK_STATE.key: "IN_REVIEW"} if task_id == "t-4" else {},
        )  # fmt: skip
        write(store, signal)
    found = {task["task_id"]: task for task in store.tasks()["items"]}
    assert {key: task["status"] for key, task in found.items()} == {
        "t-1": "DONE", "t-2": "SKIPPED", "t-3": "FAILED", "t-4": "IN_REVIEW",
    }  # fmt: skip
    assert (found["t-2"]["skip_reason"], found["t-2"]["error"]) == ("skip of t-2", None)
    assert (found["t-3"]["skip_reason"], found["t-3"]["error"]) == (None, "error of t-3")


def test_a_task_without_a_state_is_pending(store: Store) -> None:
    """It is listed, filtered and counted as pending."""
    write(store, fact("task", 1, seconds_ago(1), task_id="t", attributes={TASK_QUEUE.key: "q"}))
    assert store.tasks(status="PENDING")["items"][0]["task_id"] == "t"
    assert store.runtime_status()["queue"]["PENDING"] == 1


def test_a_lease_that_has_run_out_is_stuck_until_the_task_is_let_go(store: Store) -> None:
    """It is flagged, filtered by, counted and named by `verify`."""
    gone = {LEASE_EXPIRES.key: seconds_ago(5) / 1e9, LEASE_OWNER.key: "w-1"}
    for count, state in enumerate(TASK_STATES):
        attributes = {TASK_STATE.key: state, **gone}
        write(store, fact("task", count, seconds_ago(1), task_id=state, attributes=attributes))
    stuck = {task["task_id"] for task in store.tasks(stuck=True)["items"]}
    assert stuck == {"RUNNING", "IN_REVIEW"}
    rest = {task["task_id"] for task in store.tasks(stuck=False)["items"]}
    assert rest == set(TASK_STATES) - stuck
    assert store.runtime_status()["stuck"] == 2
    assert "2 tasks are held past their lease" in store.verify()["problems"][0]


def test_the_runtime_is_healthy_degraded_or_unhealthy(store: Store) -> None:
    """An open circuit or breaker degrades; no living worker is worse; one that stopped is fine."""
    assert store.runtime_status()["overall"] == "healthy"
    assert store.verify()["healthy"]
    running = {WORKER_STATUS.key: "RUNNING"}
    write(store, fact("worker", 1, seconds_ago(1), "w", worker_id="w-1", attributes=running))
    assert store.runtime_status()["overall"] == "healthy"
    opened = {BREAKER_STATE.key: "open", BREAKER_REASON.key: "503s"}
    write(store, fact("breaker", 1, seconds_ago(1), "openai", attributes=opened))
    assert store.runtime_status()["overall"] == "degraded"
    assert store.verify()["problems"] == ["Breaker openai is open: 503s."]
    write(
        store,
        fact("breaker", 2, seconds_ago(0), "openai", attributes={BREAKER_STATE.key: "closed"}),
    )
    circuit = {WORKER_STATUS.key: "RUNNING", CIRCUIT_OPEN.key: True}
    write(store, fact("worker", 2, seconds_ago(0), "w", worker_id="w-1", attributes=circuit))
    assert store.runtime_status()["degraded"]["workers"] == ["w-1"]
    write(store, fact("worker", 3, seconds_ago(0), "w", worker_id="w-1", edge="end"))
    assert store.verify()["healthy"]
    write(store, fact("worker", 4, seconds_ago(60), "w", worker_id="w-2", attributes=running))
    found = store.runtime_status()
    assert (found["overall"], found["degraded"]["workers"]) == ("unhealthy", ["w-2"])


def test_an_event_of_an_unknown_layer_or_operation_is_no_row(store: Store) -> None:
    """The table holds the layers and operations of its definition only; the signal is kept."""
    known = {RUNTIME_LAYER.key: "worker", RUNTIME_OPERATION.key: "TASK", REASON_CODE.key: "X"}
    for count, change in enumerate(({}, {RUNTIME_LAYER.key: "odd"}, {RUNTIME_OPERATION.key: 7})):
        write(store, fact("runtime", count, seconds_ago(1), attributes={**known, **change}))
    assert len(store.runtime_events()["items"]) == 1
    assert len(store.feed(0)) == 3


def test_events_are_found_by_each_filter(store: Store) -> None:
    """Layer, operation, reason, entity, task and time."""
    for count in range(6):
        attributes = {
            RUNTIME_LAYER.key: LAYERS[count % 2], RUNTIME_OPERATION.key: OPERATIONS[count % 3],
            REASON_CODE.key: f"R{count % 2}", ENTITY_ID.key: f"e-{count}",
        }  # fmt: skip
        write(
            store,
            fact("runtime", count, seconds_ago(60 - count * 10), task_id=f"t-{count % 3}",
                 attributes=attributes),
        )  # fmt: skip

    def number_of(**asked: Any) -> int:
        return len(every(lambda **page: store.runtime_events(**asked, **page), limit=2))

    assert number_of() == 6
    assert number_of(layer=LAYERS[0]) == 3
    assert number_of(operation=OPERATIONS[1]) == 2
    assert number_of(reason_code="R1", layer=LAYERS[0]) == 0
    assert number_of(entity_id="e-4") == 1
    assert number_of(task_id="t-2") == 2
    assert number_of(since=seconds_ago(25) / 1e9) == 2
    assert number_of(until=seconds_ago(25) / 1e9) == 4
